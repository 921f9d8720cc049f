//! Whether settings took effect: the server ignores an unknown name, and a value that it cannot read, without a word.

use std::collections::BTreeMap;

use serde_json::Value;

use super::client::Client;
use super::failure::Result;

/// A setting that is not what it should be. Its value is never told: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// `MM_…`
    pub name: String,
    /// In words that follow the name.
    pub why: &'static str,
}

/// What is read before the settings are, or by a plugin: neither `/config` nor `/config/environment` shows it.
const ELSEWHERE: [&str; 5] = ["MM_CALLS_", "MM_CONFIG", "MM_CUSTOM_DEFAULTS_PATH", "MM_INSTALL_TYPE", "MM_LICENSE"];

/// Those of `expected` (`MM_…` name, value) that the running server does not show. The client has to be an administrator's.
pub fn read_back<'a>(client: &Client, expected: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<Lost>> {
    Ok(lost(&client.config()?, &client.config_environment()?, expected))
}

/// The same, from what `/config` and `/config/environment` said.
pub fn lost<'a>(config: &Value, environment: &Value, expected: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Lost> {
    let (values, set) = (by_name(config), by_name(environment));
    let why = |name: &str, wanted: &str| match (values.get(name), set.get(name)) {
        _ if ELSEWHERE.iter().any(|known| name.starts_with(known)) => None,
        (None, _) => Some("the server does not know it"),
        (Some(_), None) => Some("the server has not taken it from its environment"),
        (Some(found), Some(_)) if !agrees(found, wanted) => Some("the server could not read it, or something overrides it"),
        _ => None,
    };
    let lost = expected.into_iter().filter_map(|(name, wanted)| Some(Lost { why: why(name, wanted)?, name: name.to_owned() }));
    lost.collect()
}

/// Every value, branches among them, under the name of its variable: the path in capitals, joined by `_`.
fn by_name(tree: &Value) -> BTreeMap<String, &Value> {
    fn walk<'a>(prefix: &str, tree: &'a Value, all: &mut BTreeMap<String, &'a Value>) {
        for (key, value) in tree.as_object().into_iter().flatten() {
            let name = format!("{prefix}_{}", key.to_uppercase());
            walk(&name, value, all);
            all.insert(name, value);
        }
    }
    let mut all = BTreeMap::new();
    walk("MM", tree, &mut all);
    all
}

/// Whether the server's value is the one that the variable says, as Mattermost reads variables.
fn agrees(found: &Value, wanted: &str) -> bool {
    match found {
        Value::Bool(found) => match wanted {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => *found,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => !found,
            _ => false,
        },
        Value::Number(found) => wanted.parse::<i64>().ok() == found.as_i64(),
        // The server cuts the slash off addresses.
        Value::String(found) => is_masked(found) || found.trim_end_matches('/') == wanted.trim_end_matches('/'),
        Value::Array(found) => {
            let listed: Vec<&str> = found.iter().filter_map(Value::as_str).collect();
            listed.len() == found.len() && listed == wanted.split_whitespace().collect::<Vec<_>>()
        }
        Value::Object(_) => serde_json::from_str(wanted).is_ok_and(|wanted| same(found, &wanted)),
        Value::Null => wanted.is_empty() || wanted == "null",
    }
}

/// Equal, but for masked secrets and the case of keys, which plugins' settings may have in any.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            let lower = |(key, value): (&String, &Value)| (key.to_lowercase(), value.clone());
            let (found, wanted): (BTreeMap<_, _>, BTreeMap<_, _>) = (found.iter().map(lower).collect(), wanted.iter().map(lower).collect());
            // Plugins add settings of their own to those that they were given.
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|found| same(found, value)))
        }
        (Value::String(found), _) if is_masked(found) => true,
        _ => found == wanted,
    }
}

/// What `/config` shows in the place of a secret.
fn is_masked(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_did_not_take_effect_is_named_with_its_reason() {
        let config = json!({
            "ServiceSettings": { "SiteURL": "https://chat.test", "EnableCommands": false, "MaximumLoginAttempts": 10 },
            "SqlSettings": { "DataSource": "********************************" },
            "TeamSettings": { "SiteName": "Ours" },
            "PluginSettings": {
                "SignaturePublicKeyFiles": ["/a", "/b"],
                "PluginStates": { "jenkins": { "Enable": true } },
                "Plugins": { "jenkins": { "jenkinsurl": "https://j.test", "encryptionkey": "********************************", "own": 1 } },
            },
        });
        let environment = json!({
            "ServiceSettings": { "SiteURL": true, "EnableCommands": true, "MaximumLoginAttempts": true },
            "SqlSettings": { "DataSource": true },
            "PluginSettings": { "SignaturePublicKeyFiles": true, "PluginStates": true, "Plugins": true },
        });
        let good = [
            ("MM_SERVICESETTINGS_SITEURL", "https://chat.test/"),
            ("MM_SERVICESETTINGS_ENABLECOMMANDS", "false"),
            ("MM_SERVICESETTINGS_MAXIMUMLOGINATTEMPTS", "10"),
            ("MM_SQLSETTINGS_DATASOURCE", "postgres://hush"),
            ("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES", "/a /b"),
            ("MM_PLUGINSETTINGS_PLUGINSTATES", r#"{"jenkins":{"Enable":true}}"#),
            ("MM_PLUGINSETTINGS_PLUGINS", r#"{"jenkins":{"JenkinsURL":"https://j.test","encryptionkey":"hush"}}"#),
            ("MM_CALLS_UDP_SERVER_PORT", "8444"),
        ];
        assert_eq!(lost(&config, &environment, good), []);
        for (name, value, expected) in [
            ("MM_SERVICESETTINGS_SITEURI", "x", "the server does not know it"),
            ("MM_TEAMSETTINGS_SITENAME", "Ours", "the server has not taken it from its environment"),
            // Quoted, the boolean is ignored and the default stays; `/config/environment` shows it as set all the same.
            ("MM_SERVICESETTINGS_ENABLECOMMANDS", "\"true\"", "the server could not read it, or something overrides it"),
            ("MM_SERVICESETTINGS_ENABLECOMMANDS", "true", "the server could not read it, or something overrides it"),
            ("MM_SERVICESETTINGS_MAXIMUMLOGINATTEMPTS", "ten", "the server could not read it, or something overrides it"),
            (
                "MM_PLUGINSETTINGS_PLUGINSTATES",
                r#"{"jenkins":{"Enable":false}}"#,
                "the server could not read it, or something overrides it",
            ),
            ("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES", "/a", "the server could not read it, or something overrides it"),
        ] {
            assert_eq!(lost(&config, &environment, [(name, value)]), [Lost { name: name.to_owned(), why: expected }], "{name}={value}");
        }
    }
}
