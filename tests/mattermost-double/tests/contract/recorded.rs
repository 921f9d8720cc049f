//! What was recorded, and how an answer is held against it.

use std::path::Path;

use serde_json::Value;

/// One recorded file.
pub fn read(name: &str) -> Value {
    let path = folder().join(format!("{name}.json"));
    serde_json::from_str(&fs_err::read_to_string(&path).expect("a recorded file")).expect("JSON")
}

/// The names of all recorded files, sorted.
pub fn names() -> Vec<String> {
    let entries = fs_err::read_dir(folder()).expect("the contract").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.filter_map(|name| name.to_str()?.strip_suffix(".json").map(str::to_owned)).collect();
    names.sort();
    names
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/contract"))
}

pub fn is_id(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Fields whose value is part of the contract, and not only its type.
const EXACT: [&str; 25] = [
    "action",
    "active",
    "allow_open_invite",
    "channel_locked",
    "channel_name",
    "channel_type",
    "database_status",
    "detailed_error",
    "enabled",
    "event",
    "exists",
    "filestore_status",
    "from_bot",
    "from_webhook",
    "is_active",
    "is_bot",
    "name",
    "plugin_id",
    "response_type",
    "scheme_admin",
    "seq_reply",
    "state",
    "status",
    "status_code",
    "type",
];

/// Every difference between what was recorded and what came, by path. Types and field names have to be the same; values
/// only where they are part of the contract.
pub fn differences(wanted: &Value, found: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", "", wanted, found, &mut all);
    all
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn compare(path: &str, key: &str, wanted: &Value, found: &Value, all: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            if !wanted.is_empty() && wanted.keys().chain(found.keys()).all(|key| is_id(key)) {
                let examples: Vec<&Value> = wanted.values().collect();
                found.iter().for_each(|(id, value)| like_one_of(&format!("{path}.{id}"), &examples, value, all));
                return;
            }
            for name in wanted.keys().filter(|name| !found.contains_key(*name)) {
                all.push(format!("{path}.{name} is missing"));
            }
            for (name, value) in found {
                match wanted.get(name) {
                    Some(wanted) => compare(&format!("{path}.{name}"), name, wanted, value, all),
                    None => all.push(format!("{path}.{name} is too much")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let examples: Vec<&Value> = wanted.iter().collect();
            if wanted.is_empty() != found.is_empty() {
                all.push(format!("{path} has {} entries instead of {}", found.len(), wanted.len()));
            } else {
                found.iter().enumerate().for_each(|(n, value)| like_one_of(&format!("{path}[{n}]"), &examples, value, all));
            }
        }
        _ if kind(wanted) != kind(found) => all.push(format!("{path} is {} instead of {}: {found}", kind(found), kind(wanted))),
        (Value::String(wanted), Value::String(found)) if key == "roles" => {
            let set = |text: &str| text.split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
            if set(wanted) != set(found) {
                all.push(format!("{path} is {found:?} instead of {wanted:?}"));
            }
        }
        (Value::String(wanted), Value::String(found)) if is_id(wanted) && !is_id(found) => all.push(format!("{path} is no id: {found:?}")),
        _ if EXACT.contains(&key) && wanted != found && !wanted.as_str().is_some_and(|text| is_id(text) || text.contains("__")) => {
            all.push(format!("{path} is {found} instead of {wanted}"));
        }
        _ => {}
    }
}

/// Lists hold entries of several kinds: each has to be like one that was recorded.
fn like_one_of(path: &str, examples: &[&Value], found: &Value, all: &mut Vec<String>) {
    let tried = examples.iter().map(|example| {
        let mut some = Vec::new();
        compare(path, "", example, found, &mut some);
        some
    });
    if let Some(fewest) = tried.min_by_key(Vec::len) {
        all.extend(fewest);
    }
}
