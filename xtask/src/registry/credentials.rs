//! Who asks a registry: Docker's `config.json` and its credential helpers, read as Docker's client reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use images::{Class, Error, Result};
use serde::Deserialize;

use crate::process::Process;

/// How a registry knows who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password.
    Password {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// A token that an authorization server takes.
    Identity(String),
}

/// Without what is secret.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Login::Password { name, .. } => write!(f, "Password {{ name: {name:?} }}"),
            Login::Identity(_) => f.write_str("Identity"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Login {
    /// Where Docker keeps its settings: `DOCKER_CONFIG`, else `~/.docker`.
    pub fn folder() -> Option<PathBuf> {
        let said = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        said.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")))
    }

    /// What Docker's settings in `folder` have for `host`; nothing where there is nothing.
    ///
    /// # Errors
    /// [`Class::Usage`] for settings that cannot be read, [`Class::MissingTool`] for a helper that is not there. No error repeats
    /// what a file or a helper says: it may be secret.
    pub fn find(host: &str, folder: &Path) -> Result<Option<Login>> {
        let file = folder.join("config.json");
        if !file.try_exists()? {
            return Ok(None);
        }
        let wrong = |what: String| Error::new(Class::Usage, what).hint(format!("`docker login {host}` writes it"));
        let config: Config = serde_json::from_slice(&fs_err::read(&file)?)
            .map_err(|error| wrong(format!("{} cannot be read: line {}", file.display(), error.line())))?;
        if let Some(helper) = config.cred_helpers.get(host).or(config.creds_store.as_ref()) {
            return ask(helper, host);
        }
        // Docker's client also wrote addresses.
        let named = |key: &&String| key.trim_start_matches("https://").trim_start_matches("http://").split('/').next() == Some(host);
        let Some((_, auth)) = config.auths.iter().find(|(key, _)| named(key)) else { return Ok(None) };
        if !auth.identitytoken.is_empty() {
            return Ok(Some(Login::Identity(auth.identitytoken.clone())));
        }
        if auth.auth.is_empty() {
            let login = Login::Password { name: auth.username.clone(), password: auth.password.clone() };
            return Ok((!auth.username.is_empty()).then_some(login));
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (name, password) = decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| wrong(format!("{}: the entry of {host} is not NAME:PASSWORD in base64", file.display())))?;
        Ok(Some(Login::Password { name: name.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
    }
}

/// Asks a credential helper, by its protocol: the host on standard input, JSON on standard output.
fn ask(helper: &str, host: &str) -> Result<Option<Login>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let outcome = Process::new(&program, "/").arg("get").stdin(host).fails_as(Class::MissingTool).outcome()?;
    let said = String::from_utf8_lossy(&outcome.stdout);
    if !outcome.success() {
        // So a helper says that it knows nobody: the protocol has no other way.
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(Error::new(Class::Usage, format!("{program} does not say who asks {host}: {}", outcome.status))),
        };
    }
    let answer: Answer = serde_json::from_str(&said).map_err(|error| {
        Error::new(Class::Usage, format!("{program} does not answer as a credential helper: column {}", error.column()))
    })?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Login::Identity(answer.secret),
        _ => Login::Password { name: answer.username, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: &str, host: &str) -> Result<Option<Login>> {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("config.json"), config).unwrap();
        Login::find(host, folder.path())
    }

    fn password(name: &str, password: &str) -> Option<Login> {
        Some(Login::Password { name: name.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn what_docker_login_wrote_is_found_by_host() {
        // me:se:cret
        let config = r#"{"auths": {"r.example.org:5000": {"auth": "bWU6c2U6Y3JldA=="}, "https://old.example.org/v1/": {"auth": "bWU6c2U6Y3JldA=="},
            "t.example.org": {"auth": "", "identitytoken": "tok"}}}"#;
        assert_eq!(found(config, "r.example.org:5000").unwrap(), password("me", "se:cret"));
        assert_eq!(found(config, "old.example.org").unwrap(), password("me", "se:cret"));
        assert_eq!(found(config, "t.example.org").unwrap(), Some(Login::Identity("tok".to_owned())));
        assert_eq!(found(config, "r.example.org").unwrap(), None, "another port is another registry");
        assert_eq!(Login::find("x", Path::new("/nonexistent")).unwrap(), None);
    }

    #[test]
    fn broken_settings_are_named_and_nothing_of_them_is_repeated() {
        for config in [r#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#, r#"{"auths": {"r": {"auth": "secret"}}}"#, r#"{"auths": "secret"}"#] {
            let error = found(config, "r").unwrap_err();
            assert_eq!(error.class(), Class::Usage);
            assert!(error.to_string().contains("config.json") && !error.to_string().contains("secret"), "{error}");
        }
        assert!(!format!("{:?}", password("me", "secret")).contains("secret"));
        let error = found(r#"{"credsStore": "no-such-helper"}"#, "r").unwrap_err();
        assert!(error.to_string().contains("docker-credential-no-such-helper"), "{error}");
    }
}
