//! The server's log: JSON lines on standard error, with the words that the real server uses where somebody looks for them.

use serde_json::{Value, json};

use crate::clock;

/// A line of `level`, with more fields where `fields` is an object.
pub fn line(level: &str, message: &str, fields: &Value) {
    let mut line = json!({ "timestamp": clock::rfc3339(clock::now()), "level": level, "msg": message, "caller": "double" });
    if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
        line.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    eprintln!("{line}");
}

/// Something went on as it should.
pub fn info(message: &str, fields: &Value) {
    line("info", message, fields);
}

/// Something did not.
pub fn error(message: &str, fields: &Value) {
    line("error", message, fields);
}
