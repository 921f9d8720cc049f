//! From GitLab's bundled Mattermost, or any other, to a site: its settings → `site.toml`, its secrets → `secrets.env`.
//!
//! Pure: texts go in, a [`Draft`] comes out. Nothing of a file is run, and no other file is read.

pub mod config_json;
mod draft;
pub mod gitlab_rb;
mod names;
pub mod report;
pub mod ruby;
mod server;

use serde_json::Value;

pub use draft::Draft;

/// `MM_PLUGINSETTINGS_PLUGINS` and `…PLUGINSTATES` as one JSON text.
fn plugin_settings(draft: &mut Draft, name: &str, text: &str, row: usize) {
    let parsed = serde_json::from_str::<Value>(text).ok();
    let Some(plugins) = parsed.as_ref().and_then(Value::as_object) else {
        return draft.dropped(&[row], "Mattermost 11 would ignore it: expected a JSON object of plugin id to an object");
    };
    if plugins.is_empty() {
        return draft.dropped(&[row], "empty");
    }
    for (id, settings) in plugins {
        let settings = settings.as_object().into_iter().flatten();
        let mut none = true;
        for (key, value) in settings {
            none = false;
            plugin_setting(draft, name, id, key, value, row);
        }
        if none {
            draft.dropped(&[row], "a plugin without settings");
        }
    }
}

/// One setting of one plugin: it waits under a name of ours, because the site has keys and secrets for some.
fn plugin_setting(draft: &mut Draft, name: &str, id: &str, key: &str, value: &Value, row: usize) {
    let short = match id {
        "com.github.manland.mattermost-plugin-gitlab" => "gitlab",
        "com.mattermost.calls" => "calls",
        other => other,
    };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (name.ends_with("STATES"), key.eq_ignore_ascii_case("enable")) {
        (true, true) => draft.give(&format!("plugin-state {id}"), &text, row),
        (true, false) => draft.dropped(&[row], "a state that is not {\"Enable\":true} or {\"Enable\":false}"),
        (false, _) => draft.give(&format!("plugin {short} {}", key.to_ascii_lowercase()), &text, row),
    }
}

#[cfg(test)]
mod tests;
