//! Mattermost's settings whose values hold secrets.

use images::Error;
use serde_json::{Map, Value, json};

use super::mattermost::{GITLAB, JENKINS};
use super::{ServiceEnv, secret};
use crate::database::no_password;
use crate::site::env_file;
use crate::site::model::Site;
use crate::site::secrets::{Name, Secret, Secrets};
use crate::uri::{authority, percent_encoded, plain};

/// Where the root of an external database's certificate has to lie in Mattermost's container, if the site has one.
pub const DATABASE_CA: &str = "/run/secrets/database-ca.pem";

/// Puts them into `env`.
pub(super) fn settings(site: &Site, secrets: &Secrets, env: &mut ServiceEnv, problems: &mut Vec<Error>) {
    let plugins = plugins(site, secrets, problems);
    let mut put = |name: &str, value: String| _ = env.secret_settings.insert(name.to_owned(), Secret::new(value));
    let password = match (&site.database.external, secrets.get(Name::DatabasePassword)) {
        (Some(_), None) => {
            problems.push(no_password());
            String::new()
        }
        _ => secret(secrets, Name::DatabasePassword, problems),
    };
    put("MM_SQLSETTINGS_DATASOURCE", data_source(site, &password));
    put("MM_SQLSETTINGS_ATRESTENCRYPTKEY", secret(secrets, Name::AtRestKey, problems));
    put("MM_FILESETTINGS_PUBLICLINKSALT", secret(secrets, Name::PublicLinkSalt, problems));
    // Even with nothing in it: else what an older config.json says would stand.
    put("MM_PLUGINSETTINGS_PLUGINS", env_file::json(&plugins));
    for (name, value) in secrets.settings().filter(|(name, _)| !made_here(name)) {
        put(name, value.to_owned());
    }
    if site.calls.enabled {
        put("MM_CALLS_TURN_STATIC_AUTH_SECRET", secret(secrets, Name::TurnSecret, problems));
    }
    if site.smtp.as_ref().is_some_and(|smtp| smtp.user.is_some()) {
        put("MM_EMAILSETTINGS_SMTPPASSWORD", secret(secrets, Name::SmtpPassword, problems));
    }
    if site.gitlab.as_ref().is_some_and(|gitlab| gitlab.sign_in) {
        put("MM_GITLABSETTINGS_ID", secret(secrets, Name::GitlabOauthId, problems));
        put("MM_GITLABSETTINGS_SECRET", secret(secrets, Name::GitlabOauthSecret, problems));
    }
}

/// What comes from a name of ours in `secrets.env`, or from `site.toml`: a line that says otherwise there does not count.
fn made_here(name: &str) -> bool {
    matches!(
        name,
        "MM_SQLSETTINGS_DATASOURCE"
            | "MM_SQLSETTINGS_ATRESTENCRYPTKEY"
            | "MM_FILESETTINGS_PUBLICLINKSALT"
            | "MM_CALLS_TURN_STATIC_AUTH_SECRET"
            | "MM_EMAILSETTINGS_SMTPPASSWORD"
            | "MM_GITLABSETTINGS_SECRET"
    )
}

/// Keys in lower case, as the server has them after reading.
fn plugins(site: &Site, secrets: &Secrets, problems: &mut Vec<Error>) -> Value {
    let mut plugins = Map::new();
    if let Some(jenkins) = &site.jenkins {
        let key = secret(secrets, Name::JenkinsPluginKey, problems);
        plugins.insert(JENKINS.to_owned(), json!({ "jenkinsurl": plain(&jenkins.url), "encryptionkey": key }));
    }
    if let Some(gitlab) = &site.gitlab {
        // GitLab gives these two when its application is made, which is after the first start.
        let given = |name| secrets.get(name).map(Secret::expose).unwrap_or_default();
        let settings = json!({
            "gitlaburl": plain(&gitlab.url),
            "gitlaboauthclientid": given(Name::GitlabOauthId),
            "gitlaboauthclientsecret": given(Name::GitlabOauthSecret),
            "webhooksecret": secret(secrets, Name::GitlabPluginSecret, problems),
            "encryptionkey": secret(secrets, Name::GitlabPluginKey, problems),
            "enableprivaterepo": true,
            "enablecodepreview": "public_private",
        });
        plugins.insert(GITLAB.to_owned(), settings);
    }
    Value::Object(plugins)
}

/// The database's certificate is checked, name and all. Without `sslrootcert` the system's roots count, the site's own among them.
fn data_source(site: &Site, password: &str) -> String {
    let database = &site.database;
    let (port, ca) = match &database.external {
        Some(external) => (external.port, external.ca.as_ref().map(|_| format!("&sslrootcert={DATABASE_CA}"))),
        None => (5432, None),
    };
    let (role, password) = (percent_encoded(&database.role), percent_encoded(password));
    let (host, name) = (authority(&site.database_host(), port), percent_encoded(&database.name));
    format!("postgres://{role}:{password}@{host}/{name}?sslmode=verify-full&connect_timeout=10{}", ca.unwrap_or_default())
}
