//! Settings that the server does not start with, in its words.

use serde_json::Value;

/// The first setting that is not usable.
pub fn check(settings: &Value) -> Result<(), String> {
    let text = |section: &str, key: &str| settings[section][key].as_str().unwrap_or_default();
    let site = text("ServiceSettings", "SiteURL");
    let invalid = |what: &str| Err(format!("failed to load configuration: invalid config: {what}"));
    if !site.is_empty() && !is_url(site) {
        return invalid("Site URL must be a valid URL and start with http:// or https://.");
    }
    let key = text("SqlSettings", "AtRestEncryptKey");
    if !key.is_empty() && key.len() < 32 {
        return invalid("Invalid at rest encrypt key for SQL settings. Must be 32 chars or more.");
    }
    let salt = text("FileSettings", "PublicLinkSalt");
    if !salt.is_empty() && salt.len() < 32 {
        return invalid("Invalid public link salt for file settings. Must be 32 chars or more.");
    }
    match text("ServiceSettings", "ConnectionSecurity") {
        "" => {}
        "TLS" if !settings["ServiceSettings"]["UseLetsEncrypt"].as_bool().unwrap_or(false) => {
            for (key, what) in [("TLSCertFile", "TLS certificate"), ("TLSKeyFile", "TLS key")] {
                if !std::path::Path::new(text("ServiceSettings", key)).is_file() {
                    return invalid(&format!("Invalid value for {what} file. Either use LetsEncrypt or set path to existing file."));
                }
            }
        }
        "TLS" => {}
        _ => return invalid("Invalid value for webserver connection security."),
    }
    Ok(())
}

/// As Go's `url.ParseRequestURI` takes it, with a scheme of the web.
fn is_url(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']) && !host.contains([' ', '"']))
}
