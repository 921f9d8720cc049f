//! The plugin's settings: defaults, `PluginSettings.Plugins`, and above both `MM_CALLS_…`.

use serde_json::{Map, Value};

const DEFAULTS: &str = include_str!("defaults.json");
const SERVERS: &str = "ICEServersConfigs";

/// Variables whose name does not follow from the setting's by putting `_` before capitals.
const NAMES: [(&str, &str); 12] = [
    ("ICE_HOST_OVERRIDE", "ICEHostOverride"),
    ("ICE_HOST_PORT_OVERRIDE", "ICEHostPortOverride"),
    ("ICE_SERVERS_CONFIGS", SERVERS),
    ("UDP_SERVER_ADDRESS", "UDPServerAddress"),
    ("TCP_SERVER_ADDRESS", "TCPServerAddress"),
    ("UDP_SERVER_PORT", "UDPServerPort"),
    ("TCP_SERVER_PORT", "TCPServerPort"),
    ("RTCD_SERVICE_URL", "RTCDServiceURL"),
    ("TURN_STATIC_AUTH_SECRET", "TURNStaticAuthSecret"),
    ("TURN_CREDENTIALS_EXPIRATION_MINUTES", "TURNCredentialsExpirationMinutes"),
    ("SERVER_SIDE_TURN", "ServerSideTURN"),
    ("ENABLE_I_PV6", "EnableIPv6"),
];
const PLAIN_NAMES: [(&str, &str); 5] = [
    ("ALLOW_SCREEN_SHARING", "AllowScreenSharing"),
    ("DEFAULT_ENABLED", "DefaultEnabled"),
    ("ENABLE_RINGING", "EnableRinging"),
    ("GROUP_CALLS_ALLOWED", "GroupCallsAllowed"),
    ("MAX_CALL_PARTICIPANTS", "MaxCallParticipants"),
];

/// The settings, and as text what the environment says of them.
pub fn read(stored: &Value, variables: impl Iterator<Item = (String, String)>) -> (Value, Value) {
    let defaults: Map<String, Value> = serde_json::from_str(DEFAULTS).unwrap_or_default();
    let mut options = defaults.clone();
    for (key, value) in stored.as_object().into_iter().flatten() {
        let Some(name) = defaults.keys().find(|name| name.eq_ignore_ascii_case(key)) else { continue };
        // In the settings the list of servers is JSON inside a JSON string.
        let value = match value.as_str().filter(|_| name == SERVERS) {
            Some(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            None => value.clone(),
        };
        options.insert(name.clone(), value);
    }
    let mut environment = Map::new();
    for (variable, text) in variables {
        let Some(short) = variable.strip_prefix("MM_CALLS_") else { continue };
        let Some((_, name)) = NAMES.iter().chain(&PLAIN_NAMES).find(|(known, _)| *known == short) else { continue };
        environment.insert((*name).to_owned(), text.clone().into());
        if let Some(value) = parsed(name, &text, &defaults[*name]) {
            options.insert((*name).to_owned(), value);
        }
    }
    (Value::Object(options), Value::Object(environment))
}

/// What does not parse is not taken: bad JSON of servers leaves none, with a line in the log.
fn parsed(name: &str, text: &str, default: &Value) -> Option<Value> {
    match default {
        _ if name == SERVERS => match serde_json::from_str::<Value>(text) {
            Ok(servers) => Some(servers),
            Err(error) => {
                crate::log::error("failed to parse ICEServersConfigs", &serde_json::json!({ "error": error.to_string() }));
                Some(Value::Null)
            }
        },
        Value::Bool(_) => text.parse::<bool>().ok().map(Value::from),
        Value::Number(_) => text.parse::<i64>().ok().map(Value::from),
        Value::Null => text.parse::<i64>().ok().map(Value::from),
        _ => Some(text.into()),
    }
}
