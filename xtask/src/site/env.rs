//! The environment of each service: a site and its secrets → settings, and files of secrets.
//!
//! Settings stand in `env/NAME.env`. A value that holds a secret stands whole in a file of secrets, which reaches the container in a
//! small volume at `/run/secrets` and no other way: not through Compose, `inspect`, argv or the image. What the services read is
//! documented at the top of each `images/*/src/main.rs`.

pub mod files;
mod hidden;
mod mattermost;
mod services;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use images::digest::Digest;
use images::{Class, Error, Result};
use mattermost_settings::Form;

use super::env_file;
use super::model::{Service, Site};
use super::secrets::{Name, Secret, Secrets};

pub use hidden::DATABASE_CA;

/// Name of Mattermost's file of secrets: `MM_…=value` lines, unquoted.
pub const MATTERMOST_SECRETS: &str = "mattermost.env";

/// What one service gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceEnv {
    /// Titles, and the settings below each.
    sections: Vec<(&'static str, Vec<(String, String)>)>,
    /// Remarks for whoever reads the file.
    remarks: Vec<String>,
    /// Mattermost's settings whose values hold secrets: name → value.
    secret_settings: BTreeMap<String, Secret>,
    /// Other files of secrets: name below `/run/secrets` → text.
    secret_files: BTreeMap<&'static str, Secret>,
}

impl ServiceEnv {
    fn section(&mut self, title: &'static str, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.sections.push((title, settings));
    }

    /// Ids of the plugins that Mattermost is told to run.
    pub fn plugins(&self) -> Vec<String> {
        let states = self.settings().find(|(name, _)| *name == "MM_PLUGINSETTINGS_PLUGINSTATES");
        let states: BTreeMap<String, serde_json::Value> = states.and_then(|(_, json)| serde_json::from_str(json).ok()).unwrap_or_default();
        states.into_iter().filter(|(_, state)| state["Enable"] == true).map(|(id, _)| id).collect()
    }

    /// Every setting, in the order of the file.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sections.iter().flat_map(|(_, settings)| settings).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Name and value of every setting whose value holds a secret, sorted.
    pub fn secret_settings(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.secret_settings.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Every file of the service's volume at `/run/secrets` that is made of secrets: name → text. Certificates are not among them.
    pub fn secret_files(&self) -> BTreeMap<&'static str, Secret> {
        let mut files = self.secret_files.clone();
        if !self.secret_settings.is_empty() {
            let lines = self.secret_settings.iter().map(|(name, value)| format!("{name}={}\n", value.expose()));
            files.insert(MATTERMOST_SECRETS, Secret::new(lines.collect::<String>()));
        }
        files
    }

    /// The text of `env/NAME.env`.
    ///
    /// # Errors
    /// [`Class::Usage`] for every value that no line can carry.
    pub fn text(&self, service: Service) -> Result<String> {
        let mut body = String::new();
        let mut problems = Vec::new();
        for remark in &self.remarks {
            let _ = writeln!(body, "# {remark}");
        }
        let names: Vec<&str> = self.secret_settings.keys().map(String::as_str).collect();
        if !names.is_empty() {
            let _ = writeln!(body, "# In the secret file {MATTERMOST_SECRETS}, because their values hold secrets:");
            names.iter().for_each(|name| _ = writeln!(body, "#   {name}"));
        }
        for name in self.secret_files.keys() {
            let _ = writeln!(body, "# A secret of its own, /run/secrets/{name}, is not among these settings.");
        }
        for (title, settings) in &self.sections {
            let _ = writeln!(body, "\n# {title}");
            for (name, value) in settings {
                match env_file::line(name, value) {
                    Ok(line) => _ = writeln!(body, "{line}"),
                    Err(error) => problems.push(error),
                }
            }
        }
        all(problems)?;
        Ok(format!("{}{}{}\n{body}", head(service), SUM, Digest::of(&body)))
    }

    /// One file for `docker run --env-file`, secrets and all: to be written with mode 0600.
    ///
    /// # Errors
    /// [`Class::Usage`] for every value that no line can carry.
    pub fn with_secrets(&self) -> Result<Secret> {
        let mut text = format!("{COMBINED}\nMATTERMOST_SECRETS_IN_ENVIRONMENT=on\n");
        let secret = self.secret_settings.iter().map(|(name, value)| (name.as_str(), value.expose()));
        let mut problems = Vec::new();
        for (name, value) in self.settings().chain(secret) {
            match env_file::docker_line(name, value) {
                Ok(line) => _ = writeln!(text, "{line}"),
                Err(error) => problems.push(error),
            }
        }
        all(problems)?;
        Ok(Secret::new(text))
    }
}

const SUM: &str = "# sha256 of what follows: ";
const COMBINED: &str = "# Mattermost's settings with its secrets, for `docker run --env-file`: `docker inspect` will show them.";

fn head(service: Service) -> String {
    format!(
        "# Settings of {}, without secrets: written by `cargo xtask env` from site.toml, which is the place for changes.\n",
        service.name()
    )
}

/// What a text at the place of an environment file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// Ours, as it was written.
    Us,
    /// Ours, and changed since.
    Edited,
    /// Somebody else's.
    Other,
}

/// Who wrote `text`.
pub fn author(text: &str) -> Author {
    let Some((_, rest)) = text.split_once(SUM) else { return Author::Other };
    match rest.split_once('\n') {
        Some((sum, body)) if sum == Digest::of(body).to_string() && text.starts_with("# Settings of ") => Author::Us,
        _ => Author::Edited,
    }
}

/// The environment of every service that the site has.
///
/// # Errors
/// [`Class::Usage`] with everything that is wrong: a name that the server would ignore, a value that is not in its form, a secret that
/// is missing. No error shows a secret.
pub fn environments(site: &Site, secrets: &Secrets) -> Result<BTreeMap<Service, ServiceEnv>> {
    let mut problems = Vec::new();
    let mut envs = BTreeMap::new();
    for service in Service::ALL {
        let env = match service {
            Service::Mattermost => Some(mattermost::env(site, secrets, &mut problems)),
            Service::Coturn => Some(services::coturn(site, secrets, &mut problems)),
            Service::Postgres => services::postgres(site, secrets, &mut problems),
            Service::AlertGateway => Some(services::alert_gateway(site, secrets, &mut problems)),
        };
        envs.extend(env.map(|env| (service, env)));
    }
    for (service, env) in &envs {
        problems.extend(env.text(*service).err());
    }
    all(problems)?;
    Ok(envs)
}

/// Which secrets `site` needs to have generated: the password of another's database is not ours to make up.
pub fn wanted(site: &Site) -> impl Fn(Name) -> bool {
    let external = site.database.external.is_some();
    move |name| !(external && name == Name::DatabasePassword)
}

/// The secret, or a problem and a value that is never written.
fn secret(secrets: &Secrets, name: Name, problems: &mut Vec<Error>) -> String {
    match secrets.require(name) {
        Ok(secret) => secret.expose().to_owned(),
        Err(error) => {
            problems.push(error);
            String::new()
        }
    }
}

/// Checks a setting of Mattermost as the server would read it.
fn check(name: &str, value: &str, shown: bool) -> Result<Form> {
    let form = mattermost_settings::form(name).map_err(|unknown| {
        let error = Error::new(Class::Usage, format!("{name} is not a setting of Mattermost, which would ignore it"));
        match unknown.nearest {
            Some(near) => error.detail(format!("did you mean {near}?")),
            None => error,
        }
    })?;
    match form.wrong(value) {
        None => Ok(form),
        Some(found) => {
            let found = if shown { format!("{found}: {:.200}", value.escape_debug()) } else { found };
            Err(Error::new(Class::Usage, format!("{name} is not usable"))
                .detail(format!("expected {}", form.expected()))
                .detail(format!("found {found}")))
        }
    }
}

/// Several failures as one, so that a person mends all of them at once.
fn all(problems: Vec<Error>) -> Result<()> {
    let mut problems = problems.into_iter();
    let Some(first) = problems.next() else { return Ok(()) };
    Err(problems.fold(first, |first, problem| problem.to_string().lines().fold(first, Error::detail)))
}

#[cfg(test)]
mod tests;
