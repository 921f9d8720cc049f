//! What the server is told, from the environment and the file of secrets, checked by name and form.

use std::collections::BTreeMap;
use std::path::Path;

use entrypoint::env::on_off;
use entrypoint::{Env, Error, Result, Secret, secret};
use mattermost_settings::Form;

use crate::database::Database;

const KNOWN: [&str; 4] =
    ["MATTERMOST_CA_FILE", "MATTERMOST_EXTRA_SETTINGS", "MATTERMOST_SECRETS_FILE", "MATTERMOST_SECRETS_IN_ENVIRONMENT"];
const DATA_SOURCE: &str = "MM_SQLSETTINGS_DATASOURCE";
const SECRETS_FILE: &str = "/run/secrets/mattermost.env";

/// The settings of the server, from both places.
#[derive(Debug)]
pub struct Settings {
    secrets: BTreeMap<String, Secret>,
}

impl Settings {
    /// Reads environment and file; the error tells everything that is wrong.
    pub fn read(env: &Env) -> Result<Self> {
        env.refuse_unknown("MATTERMOST_", &KNOWN);
        let extra: Vec<&str> = env.text("MATTERMOST_EXTRA_SETTINGS").into_iter().flat_map(|names| names.split(',')).collect();
        let open = env.or("MATTERMOST_SECRETS_IN_ENVIRONMENT", false, "on or off", on_off) == Some(true);
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with("MM_") && !extra.contains(name)) {
            match form(name) {
                Ok(Form::Secret) if !open => env.refuse(
                    Error::settings(format!("{name} is a secret, and stands in the container's environment"))
                        .detail("expected it in the file that MATTERMOST_SECRETS_FILE names"),
                ),
                Ok(form) => form.wrong(value).into_iter().for_each(|found| env.refuse(unusable(name, form, &found, Some(value)))),
                Err(error) => env.refuse(error),
            }
        }
        let file = env.path("MATTERMOST_SECRETS_FILE", SECRETS_FILE);
        // Where the environment may hold them all, there need not be a file.
        let file = file.filter(|file| !open || file.exists());
        let secrets = file.as_deref().map(secret::read_pairs).transpose().unwrap_or_else(|error| {
            env.refuse(error);
            None
        });
        for (name, value) in secrets.iter().flatten() {
            match form(name) {
                Ok(form) => form.wrong(value.expose()).into_iter().for_each(|found| env.refuse(unusable(name, form, &found, None))),
                Err(error) => env.refuse(error),
            }
            if env.text(name).is_some() {
                env.refuse(Error::settings(format!("{name} stands both in the environment and in the file of secrets")));
            }
        }
        env.verdict()?;
        let mut secrets = secrets.unwrap_or_default();
        if open && let Some(source) = env.text(DATA_SOURCE) {
            secrets.insert(DATA_SOURCE.to_owned(), Secret::new(source));
        }
        Ok(Settings { secrets })
    }

    /// What the server gets besides the environment of this process.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// Where the database is.
    pub fn database(&self) -> Result<Database> {
        let unusable = |what: &str| {
            Error::settings(format!("{DATA_SOURCE} {what}"))
                .detail("expected postgres://USER:PASSWORD@HOST:PORT/DATABASE?… in the file that MATTERMOST_SECRETS_FILE names")
        };
        let source = self.secrets.get(DATA_SOURCE).ok_or_else(|| unusable("is not set"))?;
        Database::parse(source.expose()).ok_or_else(|| unusable("is not usable"))
    }
}

fn unusable(name: &str, form: Form, found: &str, value: Option<&str>) -> Error {
    let error = Error::settings(format!("{name} is not usable")).detail(format!("expected {}", form.expected()));
    match value {
        Some(value) => error.detail(format!("found {found}: {:.200}", value.escape_debug())),
        None => error.detail(format!("found {found}")),
    }
}

fn form(name: &str) -> Result<Form> {
    mattermost_settings::form(name).map_err(|unknown| {
        let error = Error::settings(format!("{name} is not a setting of Mattermost, which would ignore it"));
        match unknown.nearest {
            Some(near) => error.detail(format!("did you mean {near}?")),
            None => error,
        }
    })
}

/// The file of roots that the health check trusts.
pub fn ca_file(env: &Env) -> Option<std::path::PathBuf> {
    env.path("MATTERMOST_CA_FILE", "/etc/ssl/certs/ca-certificates.crt")
}

/// A setting that both the environment and the file may hold; the health check asks for those that are no secrets.
pub fn lookup(env: &Env, name: &str) -> String {
    let in_file = || {
        let file = env.text("MATTERMOST_SECRETS_FILE").unwrap_or(SECRETS_FILE);
        secret::read_pairs(Path::new(file)).ok()?.remove(name).map(|value| value.expose().to_owned())
    };
    env.text(name).map(str::to_owned).or_else(in_file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(variables: &[(&str, &str)], secrets: &str) -> Result<Settings> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mattermost.env");
        fs_err::write(&file, secrets).expect("written");
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).expect("set");
        let named = ("MATTERMOST_SECRETS_FILE", file.to_str().expect("text"));
        Settings::read(&variables.iter().copied().chain([named, ("PATH", "/bin")]).collect())
    }

    const SOURCE: &str = "MM_SQLSETTINGS_DATASOURCE=postgres://mm:hush@db:5432/mm?sslmode=verify-full\n";

    #[test]
    fn a_usual_site_is_taken() {
        let variables = [
            ("MM_SERVICESETTINGS_SITEURL", "https://chat.example.lan"),
            ("MM_SERVICESETTINGS_ENABLELOCALMODE", "true"),
            ("MM_SERVICESETTINGS_ALLOWEDUNTRUSTEDINTERNALCONNECTIONS", "127.0.0.1 10.0.0.0/8"),
            ("MM_PLUGINSETTINGS_PLUGINSTATES", r#"{"jenkins":{"Enable":true},"com.mattermost.calls":{"Enable":true}}"#),
            ("MM_CALLS_ICE_SERVERS_CONFIGS", r#"[{"urls":["turn:192.0.2.10:3478?transport=udp"]}]"#),
            ("MM_CALLS_ICE_HOST_OVERRIDE", "192.0.2.10"),
            ("MM_FEATUREFLAGS_SOMETHINGNEW", "true"),
            ("MM_INSTALL_TYPE", "docker"),
        ];
        let secrets = format!(
            "{SOURCE}MM_CALLS_TURN_STATIC_AUTH_SECRET=0123\nMM_PLUGINSETTINGS_PLUGINS={{\"jenkins\":{{\"encryptionkey\":\"k\"}}}}\n"
        );
        let settings = read(&variables, &secrets).expect("all good");
        assert_eq!(settings.secrets().count(), 3);
        assert_eq!(settings.database().expect("a database").to_string(), "db:5432");
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn what_the_server_would_swallow_is_refused() {
        for (name, value, wanted) in [
            ("MM_SERVICESETTINGS_SITE_URL", "https://x", "did you mean MM_SERVICESETTINGS_SITEURL?"),
            ("MM_CALLS_ENABLE_IPV6", "true", "did you mean MM_CALLS_ENABLE_I_PV6?"),
            ("MM_PLUGINSETTINGS_PLUGINS_JENKINS_JENKINSURL", "x", "is not a setting of Mattermost"),
            ("MM_SERVICESETTINGS_SITEURL", "\"https://x\"", "found quotes around it"),
            ("MM_SERVICESETTINGS_ENABLETESTING", "yes", "expected true or false"),
            ("MM_SERVICESETTINGS_ENABLETESTING", "", "expected true or false"),
            ("MM_SERVICESETTINGS_ENABLETESTING", "'true'", "found quotes around it"),
            ("MM_SQLSETTINGS_MAXOPENCONNS", "1e3", "expected a whole number"),
            ("MM_PLUGINSETTINGS_PLUGINS", "{\"jenkins\":", "found no JSON: EOF"),
            ("MM_PLUGINSETTINGS_PLUGINS", "[]", "found other JSON"),
            ("MM_PLUGINSETTINGS_PLUGINS", r#"{"jenkins":"https://x"}"#, "a plugin whose settings are no object"),
            ("MM_PLUGINSETTINGS_PLUGINS", r#"{"com.mattermost.calls":{"ICEServersConfigs":[]}}"#, "no JSON array inside a JSON string"),
            ("MM_PLUGINSETTINGS_PLUGINSTATES", r#"{"jenkins":true}"#, "a state that is not"),
            ("MM_PLUGINSETTINGS_PLUGINSTATES", r#"{"jenkins":{"Enable":"true"}}"#, "a state that is not"),
            ("MM_CALLS_ICE_SERVERS_CONFIGS", r#"{"urls":["turn:x"]}"#, "found other JSON"),
            ("MM_CALLS_ICE_SERVERS_CONFIGS", r#"[{"urls":"turn:x"}]"#, "without a list \"urls\""),
            ("MM_CALLS_ICE_SERVERS_CONFIGS", r#"[{"urls":["192.0.2.10"]}]"#, "without a list \"urls\""),
            (
                "MM_CALLS_ICE_SERVERS_CONFIGS",
                r#"[{"urls":["turn:x"],"credentials":"y"}]"#,
                "something else than urls, username and credential",
            ),
            ("MM_SQLSETTINGS_DATASOURCE", "postgres://x", "MM_SQLSETTINGS_DATASOURCE is a secret"),
            ("MM_CALLS_TURN_STATIC_AUTH_SECRET", "hush", "is a secret, and stands in the container's environment"),
            ("MATTERMOST_SECRET_FILE", "/x", "did you mean MATTERMOST_SECRETS_FILE?"),
        ] {
            let error = read(&[(name, value)], SOURCE).expect_err(&format!("{name}={value} was taken")).to_string();
            assert!(error.contains(name) && error.contains(wanted), "{name}={value}: expected {wanted:?} in {error}");
            assert!(!error.contains("hush"), "a secret stands in {error}");
        }
    }

    #[test]
    fn who_says_so_has_secrets_in_the_environment_and_names_that_are_in_no_list() {
        let source = ("MM_SQLSETTINGS_DATASOURCE", "postgres://mm:hush@db:5432/mm");
        let open = ("MATTERMOST_SECRETS_IN_ENVIRONMENT", "on");
        let settings = Settings::read(&Env::from_iter([source, open, ("MATTERMOST_SECRETS_FILE", "/none")])).expect("no file is needed");
        assert_eq!(settings.database().expect("a database").to_string(), "db:5432");
        let error = read(&[source, ("MATTERMOST_SECRETS_IN_ENVIRONMENT", "off")], "").expect_err("closed").to_string();
        assert!(error.contains("MM_SQLSETTINGS_DATASOURCE is a secret") && !error.contains("hush"), "{error}");
        read(&[source, open], SOURCE).expect_err("in both places");
        let listed = ("MATTERMOST_EXTRA_SETTINGS", "MM_NEWSETTINGS_A,MM_NEWSETTINGS_B");
        read(&[listed, ("MM_NEWSETTINGS_A", "x"), ("MM_NEWSETTINGS_B", "y")], SOURCE).expect("named");
        read(&[listed, ("MM_NEWSETTINGS_C", "x")], SOURCE).expect_err("not named");
    }

    #[test]
    fn the_file_of_secrets_is_checked_and_never_shown() {
        for (secrets, wanted) in [
            ("MM_SQLSETTINGS_DATASOURC=hush", "did you mean MM_SQLSETTINGS_DATASOURCE?"),
            ("MM_SQLSETTINGS_DATASOURCE=\"postgres://mm:hush@db/mm\"", "is in quotes"),
            ("MM_PLUGINSETTINGS_PLUGINS={\"jenkins\":\"hush\"}", "a plugin whose settings are no object"),
            ("MM_SERVICESETTINGS_SITEURL=hush", "stands both in the environment and in the file"),
            ("PATH=hush", "PATH is not a setting"),
        ] {
            let error = read(&[("MM_SERVICESETTINGS_SITEURL", "https://x")], secrets).expect_err(secrets).to_string();
            assert!(error.contains(wanted), "{secrets}: expected {wanted:?} in {error}");
            assert!(!error.contains("hush"), "a secret stands in {error}");
        }
        let error = Settings::read(&Env::from_iter([("MATTERMOST_SECRETS_FILE", "/none")])).expect_err("missing").to_string();
        assert!(error.contains("/none"), "{error}");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let variables = [("MM_SERVICESETTINGS_ENABLETESTING", "yes"), ("MM_NONSENSE", "x")];
        let error = read(&variables, "MM_ALSONONSENSE=x\n").expect_err("three mistakes").to_string();
        for name in ["ENABLETESTING", "MM_NONSENSE", "MM_ALSONONSENSE"] {
            assert!(error.contains(name), "{name} is not in {error}");
        }
    }

    #[test]
    fn without_a_usable_database_nothing_starts() {
        for (secrets, wanted) in [
            ("", "MM_SQLSETTINGS_DATASOURCE is not set"),
            ("MM_SQLSETTINGS_DATASOURCE=mm:hush@tcp(db)/mm", "MM_SQLSETTINGS_DATASOURCE is not usable"),
        ] {
            let error = read(&[], secrets).and_then(|settings| settings.database()).expect_err(secrets).to_string();
            assert!(error.contains(wanted) && !error.contains("hush"), "expected {wanted:?} in {error}");
        }
    }
}
