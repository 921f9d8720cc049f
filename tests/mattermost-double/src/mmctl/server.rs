//! Health, settings, plugins.

use serde_json::{Value, json};

use super::{Call, Outcome, pretty, text};

/// Exits 0 also where it says UNHEALTHY.
pub fn status(call: &Call) -> Outcome {
    let failed = |error: super::client::Refusal| format!("unable to fetch server status: {}", error.message);
    let status = call.client.get("/system/ping?get_server_status=true&use_rest_semantics=true").map_err(failed)?;
    call.print(&status, || {
        let lines = [
            ("Server status", text(&status, "status")),
            ("Android Latest Version", text(&status, "AndroidLatestVersion")),
            ("Android Minimum Version", text(&status, "AndroidMinVersion")),
            // The real template asks for fields that the server does not have.
            ("Desktop Latest Version", "<no value>"),
            ("Desktop Minimum Version", "<no value>"),
            ("Ios Latest Version", text(&status, "IosLatestVersion")),
            ("Ios Minimum Version", text(&status, "IosMinVersion")),
            ("Database Status", text(&status, "database_status")),
            ("Filestore Status", text(&status, "filestore_status")),
        ];
        lines.map(|(name, value)| format!("{name}: {value}")).join("\n")
    });
    Ok(())
}

pub fn version(call: &Call) -> Outcome {
    call.client.get("/system/ping")?;
    let version = crate::release::Release::find().version;
    call.print(&json!({ "version": version }), || format!("Server version {version}\nAPI double"));
    Ok(())
}

/// Walks a dotted path; a plugin's id has dots of its own, so the longest name that fits is taken.
fn walk<'a>(mut value: &'a Value, path: &str) -> Option<&'a Value> {
    let parts: Vec<&str> = path.split('.').collect();
    let mut at = 0;
    while at < parts.len() {
        let (length, next) =
            (1..=parts.len() - at).rev().find_map(|length| Some((length, value.get(parts[at..at + length].join("."))?)))?;
        (value, at) = (next, at + length);
    }
    Some(value)
}

fn walk_mut<'a>(value: &'a mut Value, parts: &[&str]) -> Option<&'a mut Value> {
    if parts.is_empty() {
        return Some(value);
    }
    let length = (1..=parts.len()).rev().find(|length| value.get(parts[..*length].join(".")).is_some())?;
    walk_mut(value.get_mut(parts[..length].join("."))?, &parts[length..])
}

pub fn config_get(call: &Call) -> Outcome {
    let (config, path) = (call.client.get("/config")?, call.word(0)?);
    let value = walk(&config, path).ok_or("invalid key")?;
    println!("{}", pretty(value));
    Ok(())
}

/// Success is also said where the environment keeps the old value.
pub fn config_set(call: &Call) -> Outcome {
    let mut config = call.client.get("/config")?;
    let (path, words) = (call.word(0)?, &call.words[1..]);
    let parts: Vec<&str> = path.split('.').collect();
    let target = match walk_mut(&mut config, &parts) {
        Some(Value::Object(_)) => return Err("path object type is not supported".to_owned()),
        Some(target) => target,
        None if path.starts_with("PluginSettings.Plugins.") => return Err("path object type is not supported".to_owned()),
        None if path.starts_with("PluginSettings.PluginStates.") && path.ends_with(".Enable") => {
            let id = path.trim_start_matches("PluginSettings.PluginStates.").trim_end_matches(".Enable");
            config["PluginSettings"]["PluginStates"][id] = json!({ "Enable": false });
            &mut config["PluginSettings"]["PluginStates"][id]["Enable"]
        }
        None => return Err("invalid key".to_owned()),
    };
    let word = words.first().map(String::as_str).unwrap_or_default();
    *target = match target {
        Value::Bool(_) => word.parse::<bool>().map_err(|_| format!("strconv.ParseBool: parsing {word:?}: invalid syntax"))?.into(),
        Value::Number(_) => word.parse::<i64>().map_err(|_| format!("strconv.ParseInt: parsing {word:?}: invalid syntax"))?.into(),
        Value::Array(_) => words.iter().map(String::as_str).collect(),
        _ => word.into(),
    };
    call.client.send("PUT", "/config", &config)?;
    println!("Value changed successfully");
    Ok(())
}

pub fn config_patch(call: &Call) -> Outcome {
    let text = fs_err::read_to_string(call.word(0)?).map_err(|error| error.to_string())?;
    let patch: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    call.client.send("PUT", "/config/patch", &patch)?;
    println!("Config patched successfully");
    Ok(())
}

pub fn config_show(call: &Call) -> Outcome {
    println!("{}", pretty(&call.client.get("/config")?));
    Ok(())
}

pub fn config_reload(call: &Call) -> Outcome {
    call.client.send("POST", "/config/reload", &Value::Null).map(drop).map_err(String::from)
}

pub fn plugin_list(call: &Call) -> Outcome {
    let plugins = call.client.get("/plugins")?;
    if call.has("json") {
        println!("{}", pretty(&plugins));
        return Ok(());
    }
    let mut count = 3;
    for (title, key) in [("Listing enabled plugins", "active"), ("\nListing disabled plugins", "inactive")] {
        println!("{title}");
        for plugin in plugins[key].as_array().into_iter().flatten() {
            println!("{}: {}, Version: {}", text(plugin, "id"), text(plugin, "name"), text(plugin, "version"));
            count += 1;
        }
    }
    // The real one counts the lines that it printed.
    eprintln!("There are {count} plugins on local instance");
    Ok(())
}

fn set_plugins(call: &Call, verb: &str, said: &str) -> Outcome {
    for id in &call.words {
        call.client.send("POST", &format!("/plugins/{id}/{verb}"), &Value::Null)?;
        println!("{said} plugin: {id}");
    }
    Ok(())
}

pub fn plugin_enable(call: &Call) -> Outcome {
    set_plugins(call, "enable", "Enabled")
}

pub fn plugin_disable(call: &Call) -> Outcome {
    set_plugins(call, "disable", "Disabled")
}
