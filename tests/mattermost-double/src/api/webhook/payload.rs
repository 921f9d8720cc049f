//! How a webhook's body is read, and what becomes of its text.

use serde_json::{Map, Value, json};

/// The message in a body. `null` is an empty one; another form than an object, or a field of another type, is none.
pub fn parse(media: &str, bytes: &[u8]) -> Option<Map<String, Value>> {
    let text = match media {
        "application/x-www-form-urlencoded" => form_field(std::str::from_utf8(bytes).ok()?, "payload")?,
        // The real server's decoder for it fails on every input that was tried.
        "multipart/form-data" => return None,
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    let value: Value = serde_json::from_str(&text).or_else(|_| serde_json::from_str(&escape_control_characters(&text))).ok()?;
    let message = match value {
        Value::Null => Map::new(),
        Value::Object(message) => message,
        _ => return None,
    };
    let is_text = |name: &str| message.get(name).is_none_or(|value| value.is_string() || value.is_null());
    let texts = ["text", "username", "icon_url", "icon_emoji", "channel", "type"].iter().all(|name| is_text(name));
    let lists = message.get("attachments").is_none_or(|value| value.is_null() || is_list_of_objects(value));
    let props = message.get("props").is_none_or(|value| value.is_null() || value.is_object());
    (texts && lists && props).then_some(message)
}

fn is_list_of_objects(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(Value::is_object))
}

fn form_field(text: &str, name: &str) -> Option<String> {
    let value = text.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Some senders put raw line breaks and tabs into JSON strings; the real server takes them.
fn escape_control_characters(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let (mut inside, mut after_backslash) = (false, false);
    for c in text.chars() {
        match c {
            '\n' if inside => escaped.push_str("\\n"),
            '\r' if inside => escaped.push_str("\\r"),
            '\t' if inside => escaped.push_str("\\t"),
            c => escaped.push(c),
        }
        inside ^= c == '"' && !after_backslash;
        after_backslash = c == '\\' && !after_backslash;
    }
    escaped
}

/// Slack's links: `<!channel>` becomes `@channel`, `<url|text>` becomes `[text](url)`.
pub fn links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        rest = after;
        let Some((inside, behind)) = after.split_once('>') else {
            out.push('<');
            break;
        };
        let replaced = match inside.split_once('|') {
            Some((url, words)) if url.starts_with("http") || url.starts_with("mailto:") => Some(format!("[{words}]({url})")),
            _ => inside.strip_prefix('!').filter(|who| ["channel", "here", "all"].contains(who)).map(|who| format!("@{who}")),
        };
        match replaced {
            Some(replaced) => {
                out.push_str(&replaced);
                rest = behind;
            }
            None => out.push('<'),
        }
    }
    out.push_str(rest);
    out
}

/// Pieces of at most `longest` characters; one empty piece of an empty text.
pub fn split(text: &str, longest: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(longest).map(|chunk| chunk.iter().collect()).collect()
}

/// An attachment with every field that the server writes.
pub fn attachment(given: &Value) -> Value {
    let text = |name: &str| given[name].as_str().unwrap_or_default().to_owned();
    let mut full = json!({ "id": 0, "fields": null, "ts": given["ts"] });
    for name in
        ["fallback", "color", "author_name", "author_link", "author_icon", "title_link", "image_url", "thumb_url", "footer", "footer_icon"]
    {
        full[name] = text(name).into();
    }
    for name in ["pretext", "text", "title"] {
        full[name] = links(&text(name)).into();
    }
    if let Some(fields) = given["fields"].as_array() {
        let field = |field: &Value| {
            let value = field["value"].as_str().map_or_else(|| field["value"].clone(), |text| links(text).into());
            json!({ "title": field["title"].as_str().unwrap_or_default(), "value": value, "short": field["short"].as_bool().unwrap_or(false) })
        };
        full["fields"] = fields.iter().map(field).collect();
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_the_server_reads_it() {
        let json = "application/json";
        for (media, body, text) in [
            (json, r#"{"text":"a"}"#, Some("a")),
            ("", r#"{"text":"a"}"#, Some("a")),
            ("text/plain", r#"{"text":"a"}"#, Some("a")),
            (json, "{\"text\":\"a\nb\"}", Some("a\nb")),
            (json, "null", Some("")),
            (json, "{}", Some("")),
            ("application/x-www-form-urlencoded", "payload=%7B%22text%22%3A+%22a%20b%22%7D", Some("a b")),
            ("application/x-www-form-urlencoded", "foo=bar", None),
            ("application/x-www-form-urlencoded", "payload=%7Bxx", None),
            ("multipart/form-data", r#"{"text":"a"}"#, None),
            (json, "", None),
            (json, "[]", None),
            (json, r#"{"text":5}"#, None),
            (json, r#"{"text":"a""#, None),
        ] {
            let found = parse(media, body.as_bytes()).map(|message| message.get("text").and_then(Value::as_str).unwrap_or("").to_owned());
            assert_eq!(found.as_deref(), text, "{media} {body}");
        }
    }

    #[test]
    fn slacks_links_become_ours() {
        assert_eq!(links("<!channel> see <https://x.test/1|build 1> <b> 1 < 2"), "@channel see [build 1](https://x.test/1) <b> 1 < 2");
        assert_eq!(links("a <open"), "a <open");
    }

    #[test]
    fn a_long_text_becomes_pieces_without_loss() {
        let text = "ä".repeat(40_000);
        let pieces = split(&text, 16_383);
        assert_eq!((pieces.len(), pieces.concat()), (3, text));
        assert_eq!(split("", 5), [""]);
    }
}
