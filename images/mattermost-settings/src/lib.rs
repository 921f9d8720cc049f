//! What Mattermost Server 11 and its Calls plugin read from the environment: every name, and the form of its value.
//!
//! The server ignores an unknown name, a boolean or number that it cannot read, and JSON that does not parse, without a line in its
//! log: bad `PLUGINSTATES` even start Calls with its defaults, open to every address. So both who writes settings (`cargo xtask env`)
//! and who starts the server (`mattermost-entrypoint`) ask here first.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use entrypoint::env::nearest;
use entrypoint::secret;
use serde_json::Value;

/// `NAME form` lines, sorted by name.
const LIST: &str = include_str!("settings.txt");

/// Sections whose names change with each release: taken as they are.
const OPEN_SECTIONS: [&str; 2] = ["MM_FEATUREFLAGS_", "MM_CONTENTFLAGGINGSETTINGS_"];

static KNOWN: LazyLock<BTreeMap<&str, Form>> = LazyLock::new(|| {
    let lines = LIST.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ').and_then(|(name, form)| Some((name, Form::parse(form)?)))).collect()
});

/// What a value has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text that is not in quotes.
    Text,
    /// Text that gives access to something: never in a container's environment.
    Secret,
    /// As Go's `strconv.ParseBool` reads it.
    Bool,
    /// As Go's `strconv.ParseInt` reads it, base 10.
    Int,
    /// A JSON object.
    Object,
    /// A JSON object of plugin id to settings; it may hold secrets.
    Plugins,
    /// A JSON object of plugin id to `{"Enable": bool}`.
    PluginStates,
    /// A JSON array of ICE servers, as Calls reads them.
    IceServers,
}

impl Form {
    fn parse(word: &str) -> Option<Form> {
        Some(match word {
            "text" => Form::Text,
            "secret" => Form::Secret,
            "bool" => Form::Bool,
            "int" => Form::Int,
            "object" => Form::Object,
            "plugins" => Form::Plugins,
            "plugin-states" => Form::PluginStates,
            "ice-servers" => Form::IceServers,
            _ => return None,
        })
    }

    /// The form in words that finish the sentence "expected …".
    pub fn expected(self) -> &'static str {
        match self {
            Form::Text | Form::Secret => "a value without quotes around it",
            Form::Bool => "true or false",
            Form::Int => "a whole number",
            Form::Object => "a JSON object",
            Form::Plugins => "a JSON object of plugin id to settings, such as {\"jenkins\":{\"jenkinsurl\":\"https://…\"}}",
            Form::PluginStates => "a JSON object of plugin id to state, such as {\"jenkins\":{\"Enable\":true}}",
            Form::IceServers => "a JSON array, such as [{\"urls\":[\"turn:192.0.2.10:3478?transport=udp\"]}]",
        }
    }

    /// Whether a value of this form is JSON.
    pub fn is_json(self) -> bool {
        matches!(self, Form::Object | Form::Plugins | Form::PluginStates | Form::IceServers)
    }

    /// What is wrong with `value`, in words that do not repeat it.
    pub fn wrong(self, value: &str) -> Option<String> {
        if secret::is_quoted(value) {
            return Some("quotes around it, which would be taken as part of the value".to_owned());
        }
        let json = |check: fn(&Value) -> Option<&'static str>| match serde_json::from_str(value) {
            Ok(json) => check(&json).map(str::to_owned),
            Err(error) => Some(format!("no JSON: {error}")),
        };
        match self {
            Form::Text | Form::Secret => None,
            Form::Bool => {
                let known = ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"].contains(&value);
                (!known).then(|| "something else".to_owned())
            }
            Form::Int => value.parse::<i64>().is_err().then(|| "something else".to_owned()),
            Form::Object => json(|json| (!json.is_object()).then_some("other JSON")),
            Form::Plugins => json(wrong_plugins),
            Form::PluginStates => json(wrong_states),
            Form::IceServers => json(wrong_ice_servers),
        }
    }
}

fn wrong_plugins(json: &Value) -> Option<&'static str> {
    let Some(plugins) = json.as_object() else { return Some("other JSON") };
    if !plugins.values().all(Value::is_object) {
        return Some("a plugin whose settings are no object");
    }
    let calls = plugins.get("com.mattermost.calls").and_then(Value::as_object).into_iter().flatten();
    let mut servers = calls.filter(|(name, _)| name.eq_ignore_ascii_case("iceserversconfigs")).map(|(_, value)| value);
    // Unlike in MM_CALLS_ICE_SERVERS_CONFIGS, the plugin unquotes it here first.
    let nested = |value: &Value| {
        let parsed = value.as_str().and_then(|text| serde_json::from_str(text).ok());
        parsed.is_some_and(|servers: Value| wrong_ice_servers(&servers).is_none())
    };
    (!servers.all(nested)).then_some("iceserversconfigs of com.mattermost.calls that is no JSON array inside a JSON string")
}

fn wrong_states(json: &Value) -> Option<&'static str> {
    let Some(states) = json.as_object() else { return Some("other JSON") };
    let good = |state: &Value| {
        let fields = state.as_object().filter(|fields| fields.len() == 1);
        fields.is_some_and(|fields| fields.iter().all(|(name, value)| name.eq_ignore_ascii_case("enable") && value.is_boolean()))
    };
    (!states.values().all(good)).then_some("a state that is not {\"Enable\":true} or {\"Enable\":false}")
}

fn wrong_ice_servers(json: &Value) -> Option<&'static str> {
    let Some(servers) = json.as_array() else { return Some("other JSON") };
    let schemes = ["stun:", "stuns:", "turn:", "turns:"];
    for server in servers {
        let Some(fields) = server.as_object() else { return Some("a server that is no object") };
        let urls = fields.get("urls").and_then(Value::as_array).filter(|urls| !urls.is_empty());
        let url = |url: &Value| url.as_str().is_some_and(|url| schemes.iter().any(|scheme| url.starts_with(scheme)));
        if !urls.is_some_and(|urls| urls.iter().all(url)) {
            return Some("a server without a list \"urls\" of stun:, stuns:, turn: or turns: addresses");
        }
        if !fields.iter().all(|(name, value)| name == "urls" || (matches!(name.as_str(), "username" | "credential") && value.is_string())) {
            return Some("a server with something else than urls, username and credential");
        }
    }
    None
}

/// A name that the server would ignore.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What was most likely meant.
    pub nearest: Option<&'static str>,
}

/// The form of the setting called `name`.
///
/// # Errors
/// [`Unknown`] where neither the server nor the Calls plugin reads it.
pub fn form(name: &str) -> Result<Form, Unknown> {
    if let Some(form) = KNOWN.get(name) {
        return Ok(*form);
    }
    if OPEN_SECTIONS.iter().any(|section| name.starts_with(section)) {
        return Ok(Form::Text);
    }
    Err(Unknown { nearest: nearest(name, KNOWN.keys().copied()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_every_line_has_a_form() {
        let lines: Vec<&str> = LIST.lines().skip(1).collect();
        assert!(lines.is_sorted(), "sort it: a diff is then easy to read");
        assert_eq!(KNOWN.len(), lines.len(), "a line has no known form, or a name stands there twice");
    }

    #[test]
    fn a_name_is_known_open_or_near_to_a_known_one() {
        assert_eq!(form("MM_SERVICESETTINGS_SITEURL"), Ok(Form::Text));
        assert_eq!(form("MM_FEATUREFLAGS_SOMETHINGNEW"), Ok(Form::Text));
        assert_eq!(form("MM_CALLS_ENABLE_IPV6"), Err(Unknown { nearest: Some("MM_CALLS_ENABLE_I_PV6") }));
        assert_eq!(form("PATH"), Err(Unknown { nearest: None }));
    }
}
