//! Mattermost's `config.json`: what of it is not as Mattermost has it anyway.

use std::sync::LazyLock;

use images::{Class, Error, Result};
use serde_json::Value;

use super::draft::Draft;
use super::server::{Around, resolve};

/// Every setting of a server with its default, as a real one listed them; the double of Mattermost starts with the same.
static DEFAULTS: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../../tests/mattermost-double/src/config/defaults.json");
    serde_json::from_str(text).unwrap_or_else(|error| unreachable!("checked by a test: {error}"))
});

/// What a `config.json` comes to. `file` is how errors call it.
///
/// # Errors
/// [`Class::Usage`] for what is no JSON object of sections. No error shows a value.
pub fn read(text: &str, file: &str) -> Result<Draft> {
    let error = |found: String| {
        Error::new(Class::Usage, format!("{file} is no config.json of Mattermost's; nothing was converted"))
            .detail("expected a JSON object of sections, such as {\"ServiceSettings\":{\"SiteURL\":\"https://…\"}}")
            .detail(format!("found {found}"))
    };
    let config: Value =
        serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(text)).map_err(|problem| error(problem.to_string()))?;
    let sections = config.as_object().ok_or_else(|| error("other JSON".to_owned()))?;
    if let Some((name, _)) = sections.iter().find(|(_, section)| !section.is_object() && !section.is_null()) {
        return Err(error(format!("{:.60}, which is no object", name.escape_debug().to_string())));
    }
    let mut draft = Draft::default();
    for (section, settings) in sections {
        for (key, value) in settings.as_object().into_iter().flatten() {
            setting(&mut draft, &[section, key], value, &DEFAULTS[section][key]);
            if draft.is_full() {
                return Err(error("more settings than any server has".to_owned()));
            }
        }
    }
    resolve(&mut draft, &Around::default());
    Ok(draft)
}

fn setting(draft: &mut Draft, path: &[&str], value: &Value, default: &Value) {
    let written = path.join(".");
    // What was never set is written as null by some versions.
    if value.is_null() || value == default {
        return draft.left_alone += 1;
    }
    let name = format!("MM_{}", path.join("_").to_uppercase());
    if matches!(name.as_str(), "MM_PLUGINSETTINGS_PLUGINS" | "MM_PLUGINSETTINGS_PLUGINSTATES") {
        for (id, settings) in value.as_object().into_iter().flatten() {
            match settings.as_object() {
                Some(settings) => {
                    for (key, value) in settings {
                        if default[id][key] == *value {
                            draft.left_alone += 1;
                            continue;
                        }
                        let row = draft.row(None, format!("{written}.{id}.{key}"));
                        super::plugin_setting(draft, &name, id, key, value, row);
                    }
                }
                None => {
                    let row = draft.row(None, format!("{written}.{id}"));
                    draft.dropped(&[row], "expected a JSON object");
                }
            }
        }
        return;
    }
    let form = super::names::form(&name);
    match value {
        Value::Object(inner) if form.is_none() && path.len() < 6 => {
            for (key, value) in inner {
                setting(draft, &[path, &[key]].concat(), value, &default[key]);
            }
        }
        _ => {
            let row = draft.row(None, written);
            match text(value) {
                // `FakeSetting` of the server's model: what its API and `mmctl config show` have in a secret's place.
                Some(text) if text.len() >= 8 && text.bytes().all(|byte| byte == b'*') => {
                    draft.dropped(&[row], "asterisks in a secret's place: convert the file itself, and not what the server shows of it");
                }
                Some(text) => draft.give(&name, &text, row),
                None => draft.dropped(&[row], "the environment can carry no such list"),
            }
        }
    }
}

/// As the environment has it: a list is split at its spaces.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => {
            let texts: Option<Vec<&str>> =
                values.iter().map(|value| value.as_str().filter(|text| !text.is_empty() && !text.contains(' '))).collect();
            texts.map(|texts| texts.join(" "))
        }
        other => Some(other.to_string()),
    }
}
