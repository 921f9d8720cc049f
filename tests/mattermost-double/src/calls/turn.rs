//! Credentials for TURN, made as the real plugin makes them: REST credentials that Coturn's `use-auth-secret` accepts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

fn servers(options: &Value) -> impl Iterator<Item = &Value> {
    options["ICEServersConfigs"].as_array().into_iter().flatten()
}

fn is_turn(server: &Value) -> bool {
    let urls = server["urls"].as_array().into_iter().flatten().filter_map(Value::as_str);
    urls.into_iter().any(|url| url.starts_with("turn:") || url.starts_with("turns:"))
}

fn lacks_credentials(server: &&Value) -> bool {
    let empty = |name: &str| server[name].as_str().unwrap_or_default().is_empty();
    is_turn(server) && empty("username") && empty("credential")
}

/// Whether clients have to ask for credentials.
pub fn is_needed(options: &Value) -> bool {
    servers(options).any(|server| lacks_credentials(&server))
}

/// The servers that clients can use as they are; null where there is none.
pub fn open_servers(options: &Value) -> Value {
    let open: Vec<Value> = servers(options).filter(|server| !lacks_credentials(server)).cloned().collect();
    if open.is_empty() { Value::Null } else { open.into() }
}

/// One entry for each relay, for this user, from `now` (seconds since 1970) on.
pub fn credentials(options: &Value, user: &str, now: i64) -> Result<Value, &'static str> {
    let secret = options["TURNStaticAuthSecret"].as_str().unwrap_or_default();
    if secret.is_empty() {
        return Err("TURNStaticAuthSecret should be set");
    }
    let relays: Vec<&Value> = servers(options).filter(lacks_credentials).collect();
    if relays.is_empty() {
        return Err("No TURN server was configured");
    }
    let minutes = options["TURNCredentialsExpirationMinutes"].as_i64().unwrap_or(1440);
    let username = format!("{}:{user}", now + minutes * 60);
    let credential = STANDARD.encode(hmac(secret.as_bytes(), username.as_bytes()));
    Ok(relays.iter().map(|relay| json!({ "urls": relay["urls"], "username": username, "credential": credential })).collect())
}

/// HMAC-SHA1.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_the_turn_rest_api() {
        let options = json!({
            "TURNStaticAuthSecret": "north", "TURNCredentialsExpirationMinutes": 1440,
            "ICEServersConfigs": [{ "urls": ["turn:192.0.2.1:3478?transport=udp"] }, { "urls": ["stun:192.0.2.1:3478"] }]
        });
        let made = credentials(&options, "admin", 1_700_000_000).expect("made");
        // printf 1700086400:admin | openssl dgst -sha1 -hmac north -binary | base64
        let expected = json!([{
            "urls": ["turn:192.0.2.1:3478?transport=udp"], "username": "1700086400:admin", "credential": "RiIWz/izEYmBR4lh4XHCQ3ifSqw="
        }]);
        assert_eq!(made, expected);
    }

    #[test]
    fn what_is_missing_is_told_as_the_plugin_tells_it() {
        let without = json!({ "ICEServersConfigs": [{ "urls": ["turn:192.0.2.1"] }] });
        assert_eq!(credentials(&without, "a", 0), Err("TURNStaticAuthSecret should be set"));
        let fixed = json!({ "TURNStaticAuthSecret": "s", "ICEServersConfigs": [{ "urls": ["turn:192.0.2.1"], "username": "u", "credential": "c" }] });
        assert_eq!(credentials(&fixed, "a", 0), Err("No TURN server was configured"));
        assert!(!is_needed(&fixed) && is_needed(&without));
    }
}
