//! What `GET /config` shows of secrets.

use serde_json::Value;

/// Stands for a secret.
pub const MASK: &str = "********************************";

/// Masked even where they are empty.
const ALWAYS: [(&str, &str); 6] = [
    ("CacheSettings", "RedisPassword"),
    ("ElasticsearchSettings", "Password"),
    ("FileSettings", "PublicLinkSalt"),
    ("ServiceSettings", "SplitKey"),
    ("SqlSettings", "AtRestEncryptKey"),
    ("SqlSettings", "DataSource"),
];

/// Masked where there is something.
const WHERE_SET: [(&str, &str); 7] = [
    ("EmailSettings", "SMTPPassword"),
    ("FileSettings", "AmazonS3SecretAccessKey"),
    ("GitLabSettings", "Secret"),
    ("GoogleSettings", "Secret"),
    ("LdapSettings", "BindPassword"),
    ("Office365Settings", "Secret"),
    ("OpenIdSettings", "Secret"),
];

/// The settings without secrets, but for those of plugins, which the real server shows.
pub fn masked(mut settings: Value) -> Value {
    for (section, key) in ALWAYS {
        settings[section][key] = MASK.into();
    }
    for (section, key) in WHERE_SET {
        if settings[section][key].as_str().is_some_and(|secret| !secret.is_empty()) {
            settings[section][key] = MASK.into();
        }
    }
    settings
}
