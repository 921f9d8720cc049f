//! Settings: `config/config.json`, the defaults, and above both the environment, read as the real server reads them.
//!
//! What the real server swallows is swallowed here: an unknown name, a boolean or number that does not parse, JSON that does not. What
//! it refuses to start with is refused with its words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use serde_json::{Map, Value, json};

use crate::clock;

mod masked;
mod valid;

pub use masked::{MASK, masked};

/// Every setting of the server with its default.
const DEFAULTS: &str = include_str!("config/defaults.json");
const CLIENT: &str = include_str!("config/client.json");

/// The settings, and which of them the environment decides.
pub struct Settings {
    path: PathBuf,
    environment: BTreeMap<(String, String), Value>,
    named: BTreeMap<(String, String), ()>,
    stored: RwLock<Value>,
}

impl Settings {
    /// Reads file and environment, checks them, and writes the file: where it cannot be written, the server does not start.
    pub fn load(folder: &Path, variables: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let path = folder.join("config.json");
        let defaults: Value = serde_json::from_str(DEFAULTS).map_err(|error| error.to_string())?;
        let mut stored = defaults.clone();
        if let Ok(text) = fs_err::read_to_string(&path) {
            let file = serde_json::from_str(&text).map_err(|error| format!("failed to load configuration: {error}"))?;
            merge(&mut stored, &file);
        }
        for (section, key) in [("SqlSettings", "AtRestEncryptKey"), ("FileSettings", "PublicLinkSalt")] {
            if stored[section][key] == "" {
                stored[section][key] = format!("{}{}", clock::new_id(), &clock::new_id()[..6]).into();
            }
        }
        let (environment, named) = from_environment(&defaults, variables);
        let settings = Settings { path, environment, named, stored: RwLock::new(stored) };
        valid::check(&settings.get())?;
        settings.save().map_err(|error| format!("failed to load configuration: failed to create store: failed to persist: {error}"))?;
        Ok(settings)
    }

    /// The settings that are in effect.
    pub fn get(&self) -> Value {
        let mut all = self.stored.read().unwrap_or_else(PoisonError::into_inner).clone();
        for ((section, key), value) in &self.environment {
            all[section][key] = value.clone();
        }
        all
    }

    /// Takes over `wanted`; what the environment decides stays as it is, without a word.
    pub fn set(&self, wanted: &Value) -> Result<(), String> {
        valid::check(wanted)?;
        let mut stored = self.stored.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (section, keys) in wanted.as_object().into_iter().flatten() {
            for (key, value) in keys.as_object().into_iter().flatten() {
                if !self.environment.contains_key(&(section.clone(), key.clone())) {
                    stored[section][key] = value.clone();
                }
            }
        }
        *self.stored.write().unwrap_or_else(PoisonError::into_inner) = stored;
        self.save().map_err(|error| error.to_string())
    }

    /// Takes over what `patch` names; a map such as `PluginSettings.Plugins` is one value.
    pub fn patch(&self, patch: &Value) -> Result<(), String> {
        let mut all = self.get();
        merge(&mut all, patch);
        self.set(&all)
    }

    /// What `GET /config/environment` shows: every name that was set, also where its value was not usable.
    pub fn environment(&self) -> Value {
        let mut shown = json!({});
        for (section, key) in self.named.keys() {
            shown[section][key] = true.into();
        }
        shown
    }

    /// A boolean.
    pub fn is(&self, section: &str, key: &str) -> bool {
        self.get()[section][key].as_bool().unwrap_or(false)
    }

    /// A text.
    pub fn text(&self, section: &str, key: &str) -> String {
        self.get()[section][key].as_str().unwrap_or_default().to_owned()
    }

    /// A whole number.
    pub fn number(&self, section: &str, key: &str) -> i64 {
        self.get()[section][key].as_i64().unwrap_or_default()
    }

    /// What a client that has not signed in may know.
    pub fn client(&self, version: &str, diagnostic_id: &str, no_accounts: bool) -> Value {
        let all = self.get();
        let mut client: Value = serde_json::from_str(CLIENT).unwrap_or_default();
        let text = |section: &str, key: &str| Value::String(plain(&all[section][key]));
        for (name, section, key) in [
            ("SiteURL", "ServiceSettings", "SiteURL"),
            ("EnableBotAccountCreation", "ServiceSettings", "EnableBotAccountCreation"),
            ("EnableMultifactorAuthentication", "ServiceSettings", "EnableMultifactorAuthentication"),
            ("EnableOpenServer", "TeamSettings", "EnableOpenServer"),
            ("SiteName", "TeamSettings", "SiteName"),
            ("PluginsEnabled", "PluginSettings", "Enable"),
        ] {
            client[name] = text(section, key);
        }
        client["Version"] = version.into();
        client["BuildNumber"] = version.into();
        client["BuildHash"] = "API double".into();
        client["DiagnosticId"] = diagnostic_id.into();
        client["TelemetryId"] = diagnostic_id.into();
        client["NoAccounts"] = no_accounts.to_string().into();
        client
    }

    /// The file holds what the environment does not decide; it is written beside its place and renamed.
    fn save(&self) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(&*self.stored.read().unwrap_or_else(PoisonError::into_inner))?;
        let beside = self.path.with_extension("json.new");
        let mut options = fs_err::OpenOptions::new();
        let options = std::os::unix::fs::OpenOptionsExt::mode(options.options_mut(), 0o600).write(true).create(true).truncate(true);
        let mut file = options.open(&beside)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        fs_err::rename(&beside, &self.path)
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Sections are merged, their keys replaced.
fn merge(all: &mut Value, patch: &Value) {
    for (section, keys) in patch.as_object().into_iter().flatten() {
        let Some(target) = all.get_mut(section).and_then(Value::as_object_mut) else { continue };
        for (key, value) in keys.as_object().into_iter().flatten() {
            if target.contains_key(key) && !value.is_null() {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

type Named<T> = BTreeMap<(String, String), T>;

fn from_environment(defaults: &Value, variables: impl Iterator<Item = (String, String)>) -> (Named<Value>, Named<()>) {
    let empty = Map::new();
    let sections = defaults.as_object().unwrap_or(&empty);
    let known: BTreeMap<String, (&String, &String, &Value)> = sections
        .iter()
        .flat_map(|(section, keys)| keys.as_object().into_iter().flatten().map(move |(key, default)| (section, key, default)))
        .map(|(section, key, default)| (format!("MM_{section}_{key}").to_uppercase(), (section, key, default)))
        .collect();
    let (mut values, mut named) = (Named::new(), Named::new());
    for (name, text) in variables {
        let Some((section, key, default)) = known.get(&name) else { continue };
        named.insert(((*section).clone(), (*key).clone()), ());
        if let Some(value) = parsed(&text, default) {
            values.insert(((*section).clone(), (*key).clone()), value);
        }
    }
    (values, named)
}

/// By the default's type: Go's ParseBool and ParseInt, a list split at single spaces, a map as JSON.
fn parsed(text: &str, default: &Value) -> Option<Value> {
    match default {
        Value::Bool(_) => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true.into()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false.into()),
            _ => None,
        },
        Value::Number(_) => text.parse::<i64>().ok().map(Value::from),
        Value::Array(_) => Some(text.split(' ').map(Value::from).collect()),
        Value::Object(_) => serde_json::from_str(text).ok().filter(Value::is_object),
        _ => Some(text.into()),
    }
}

#[cfg(test)]
mod tests;
