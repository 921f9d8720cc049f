//! Jenkins: its Mattermost plugin posts verdicts of builds and quality gates, its Java trusts the site's CA.
//!
//! What the plugin takes is in its sources (jenkinsci/mattermost-plugin 3.1.1, `StandardMattermostService.java`): a room is `channel`, `@user`, or
//! `NAME@channel`, where NAME is not the team but the author that the post is to have.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use images::file::write_beside;
use images::{Class, Error, Result};
use reqwest::Method;
use serde::Deserialize;

use super::api::Api;
use super::ready::{Applied, Bundle, Ready};
use super::{filled, truststore, yaml};
use crate::provision::{Tool, webhook_url};
use crate::site::model::Jenkins;
use crate::site::secrets::{Secret, Secrets};
use crate::site::{Folder, Site};
use crate::uri::plain;

/// The variable whose value is the webhook for builds, in `jenkins.yaml`; the secret file has the same name.
pub const VARIABLE: &str = "MATTERMOST_JENKINS_WEBHOOK_URL";
/// The credential that holds the webhook for quality gates.
pub const CREDENTIAL: &str = "mattermost-alerts";

const NOTIFIER: [&str; 2] = ["unclassified", "mattermostNotifier"];

/// What is to be.
pub struct Wanted {
    /// Lines of `mattermostNotifier`.
    values: Vec<(&'static str, String)>,
    /// The webhook for builds, once it was made.
    pub builds: Option<Secret>,
    /// The webhook for quality gates, where that is another channel.
    pub alerts: Option<Secret>,
    two: bool,
}

impl Wanted {
    /// Of a site.
    pub fn of(jenkins: &Jenkins, secrets: &Secrets) -> Wanted {
        let two = jenkins.alerts != jenkins.channel;
        Wanted {
            values: vec![
                ("endpoint", format!("${{{VARIABLE}}}")),
                ("room", jenkins.channel.to_string()),
                ("buildServerUrl", jenkins.url.to_string()),
            ],
            builds: webhook_url(secrets, Tool::Jenkins, &jenkins.channel),
            alerts: webhook_url(secrets, Tool::Jenkins, &jenkins.alerts).filter(|_| two),
            two,
        }
    }

    fn values(&self) -> Vec<(&str, &str)> {
        self.values.iter().map(|(key, value)| (*key, value.as_str())).collect()
    }

    fn builds(&self) -> Result<&Secret> {
        self.builds.as_ref().ok_or_else(not_provisioned)
    }
}

fn not_provisioned() -> Error {
    Error::new(Class::Usage, "secrets.env holds no webhook of Jenkins yet").hint("`cargo xtask provision` makes it, on the running server")
}

/// The ready files. Those that hold an address come once it was made.
pub(super) fn bundle(folder: &Folder, site: &Site, secrets: &Secrets) -> Result<Bundle> {
    let Some(jenkins) = &site.jenkins else { return Err(super::not_in_site(Tool::Jenkins)) };
    let wanted = Wanted::of(jenkins, secrets);
    let ca = super::ca(folder)?;
    // A gate in the channel of builds goes the way of builds.
    let gate = match wanted.two {
        true => include_str!("jenkins/gate.groovy"),
        false => include_str!("jenkins/gate-same.groovy"),
    };
    let url = plain(&jenkins.url);
    let sonarqube = site.sonarqube.as_ref().map(|tool| plain(&tool.url));
    let (builds, alerts) = (jenkins.channel.as_str(), jenkins.alerts.as_str());
    let values = [
        ("GATE", gate.trim_end()),
        ("BUILDS", builds),
        ("ALERTS", alerts),
        ("CREDENTIAL", CREDENTIAL),
        ("VARIABLE", VARIABLE),
        ("SITE", site.name.as_str()),
        ("ADDRESS", &site.address().to_string()),
        ("CHAT", &site.url()),
        ("URL", &url),
        ("SONARQUBE", sonarqube.as_deref().unwrap_or("https://sonarqube.example")),
    ];
    let mut files = vec![
        Ready::open("README.md", filled(include_str!("jenkins/steps.md"), &values)),
        Ready::open("Jenkinsfile", filled(include_str!("jenkins/Jenkinsfile"), &values)),
        Ready::open("ca.pem", ca.as_str()),
        Ready::open("chatops-truststore.p12", truststore::of_pem(&ca, &folder.ca().display().to_string())?),
        Ready::open("jenkins.yaml", yaml::set("", "jenkins.yaml", &NOTIFIER, &wanted.values())?),
    ];
    if let Some(url) = &wanted.builds {
        files.push(Ready::secret(VARIABLE, url));
        files.push(Ready::secret("jenkins.env", &Secret::new(format!("{VARIABLE}={}", url.expose()))));
    }
    files.extend(wanted.alerts.as_ref().map(|url| Ready::secret("alerts-webhook", url)));
    Ok(Bundle::new(folder, Tool::Jenkins, files))
}

/// Merges the notifier into somebody's `jenkins.yaml`, in its place and mode; whether that changed it.
///
/// # Errors
/// As [`yaml::set`].
pub fn merge(file: &Path, wanted: &Wanted) -> Result<bool> {
    let text = fs_err::read_to_string(file).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
    let new = yaml::set(&text, &file.display().to_string(), &NOTIFIER, &wanted.values())?;
    replace(file, &text, &new)
}

/// Puts the webhook's line into an environment file of `docker run`, in its place and mode; whether that changed it.
///
/// # Errors
/// [`Class::Usage`] where there is no such file, or no webhook yet.
pub fn put_line(file: &Path, wanted: &Wanted) -> Result<bool> {
    let url = wanted.builds()?;
    let text = fs_err::read_to_string(file).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
    replace(file, &text, &upsert(&text, VARIABLE, url.expose()))
}

/// Puts the webhook into the folder of Jenkins' secret files; whether that changed it.
///
/// # Errors
/// [`Class::Usage`] where there is no webhook yet.
pub fn put_secret(folder: &Path, wanted: &Wanted) -> Result<bool> {
    let (path, text) = (folder.join(VARIABLE), format!("{}\n", wanted.builds()?.expose()));
    match fs_err::read_to_string(&path) {
        Ok(found) => replace(&path, &found, &text),
        Err(_) => write_beside(&path, text.as_bytes(), 0o600).map(|()| true),
    }
}

fn replace(file: &Path, old: &str, new: &str) -> Result<bool> {
    if old == new {
        return Ok(false);
    }
    let mode = fs_err::metadata(file)?.permissions().mode() & 0o7777;
    write_beside(file, new.as_bytes(), mode)?;
    Ok(true)
}

/// `NAME=value` in the place of the first such line, or behind the last one; a second line of that name would count, so it goes.
fn upsert(text: &str, name: &str, value: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let is_it = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('=') || rest.trim_end().is_empty());
    let mut new = String::new();
    let mut put = false;
    for line in text.split_inclusive('\n') {
        match (is_it(line), put) {
            (false, _) => new.push_str(line),
            (true, true) => {}
            (true, false) => {
                new.push_str(&format!("{name}={value}{newline}"));
                put = true;
            }
        }
    }
    if !put {
        if !new.is_empty() && !new.ends_with('\n') {
            new.push_str(newline);
        }
        new.push_str(&format!("{name}={value}{newline}"));
    }
    new
}

#[derive(Deserialize)]
struct Plugins {
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plugin {
    short_name: String,
    active: bool,
}

/// Tells Jenkins the credential for alerts, lets it read its configuration again, and looks at what it has taken: what was changed.
/// `edited`: whether a file that it reads is new.
///
/// # Errors
/// [`Class::Server`] for whatever Jenkins refuses; [`Class::Check`] where a plugin is missing, or it has not taken what it was told.
pub fn apply(api: &mut Api, wanted: &Wanted, edited: bool, applied: &mut Applied) -> Result<Vec<String>> {
    let builds = wanted.builds()?;
    api.hush(builds);
    wanted.alerts.iter().for_each(|url| api.hush(url));
    let plugins: Plugins = api.get("/pluginManager/api/json?depth=1")?.json()?;
    let needed = ["mattermost", "configuration-as-code", "plain-credentials"];
    let runs = |name: &str| plugins.plugins.iter().any(|plugin| plugin.short_name == name && plugin.active);
    let missing: Vec<&str> = needed.into_iter().filter(|name| !runs(name)).collect();
    if !missing.is_empty() {
        return Err(Error::new(Class::Check, format!("Jenkins lacks plugins: {}", missing.join(", ")))
            .hint(format!("{}/manage/pluginManager/available installs them; nothing was changed", api.base())));
    }
    let mut changes = Vec::new();
    if let Some(url) = &wanted.alerts {
        changes.extend(credential(api, url, applied)?);
    }
    if edited || !applied.has(VARIABLE, builds) || taken(api, wanted)?.is_some() {
        // It answers with the way to its page.
        let reply = api.form(Method::POST, "/configuration-as-code/reload", &[])?;
        if reply.status != 302 {
            reply.good()?;
        }
        changes.push("~ configuration: read again".to_owned());
    }
    match taken(api, wanted)? {
        None => applied.note(VARIABLE, builds)?,
        Some(why) => {
            return Err(Error::new(Class::Check, "Jenkins has not taken what its jenkins.yaml should say").detail(why).hint(format!(
                "`--jenkins-yaml FILE` merges it into the file that CASC_JENKINS_CONFIG names; the webhook's address comes from the file {VARIABLE} in the \
                 folder that SECRETS names (/run/secrets), which a reload reads, or from jenkins.env at a restart"
            )));
        }
    }
    Ok(changes)
}

/// Makes the credential, or tells it the address again.
fn credential(api: &Api, url: &Secret, applied: &mut Applied) -> Result<Option<String>> {
    const STORE: &str = "/credentials/store/system/domain/_";
    let found = api.get(&format!("{STORE}/credential/{CREDENTIAL}/api/json"))?;
    let there = found.status != 404;
    if there {
        found.json::<serde_json::Value>()?;
    }
    // Jenkins shows no secret again.
    if there && applied.has(CREDENTIAL, url) {
        return Ok(None);
    }
    let xml = format!(
        "<org.jenkinsci.plugins.plaincredentials.impl.StringCredentialsImpl><scope>GLOBAL</scope><id>{CREDENTIAL}</id>\
         <description>Mattermost: the webhook for quality gates</description><secret>{}</secret>\
         </org.jenkinsci.plugins.plaincredentials.impl.StringCredentialsImpl>",
        url.expose()
    );
    let path = match there {
        true => format!("{STORE}/credential/{CREDENTIAL}/config.xml"),
        false => format!("{STORE}/createCredentials"),
    };
    let reply = api.send(Method::POST, &path, "application/xml", &xml)?;
    if reply.status != 302 {
        reply.good()?;
    }
    api.get(&format!("{STORE}/credential/{CREDENTIAL}/api/json"))?.json::<serde_json::Value>()?;
    applied.note(CREDENTIAL, url)?;
    Ok(Some(format!("{} credential {CREDENTIAL}", if there { "~" } else { "+" })))
}

/// What of its configuration is not as it should be.
fn taken(api: &Api, wanted: &Wanted) -> Result<Option<String>> {
    let export = api.form(Method::POST, "/configuration-as-code/export", &[])?.text()?;
    if export.trim_start().starts_with('<') {
        return Err(Error::new(Class::Server, "the answer is not Jenkins's: a page came instead of its configuration")
            .hint("a sign-in page or a proxy may be in between: is [jenkins] url in site.toml the address of Jenkins itself?"));
    }
    let found = |key: &str| yaml::scalar(&export, &[NOTIFIER[0], NOTIFIER[1], key]).unwrap_or_default();
    for (key, expected) in wanted.values() {
        let found = found(key);
        if key == "endpoint" {
            // An exported secret is encrypted. Where nobody knows the variable, it stands there as it is, or nothing does.
            if found.is_empty() || found.starts_with("${") {
                return Ok(Some(format!("no value for {VARIABLE} was found")));
            }
        } else if found != expected {
            return Ok(Some(format!("{key}: expected {expected}, found {}", if found.is_empty() { "nothing" } else { &found })));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_replaced_in_its_place_and_stands_there_once() {
        for (before, expected) in [
            ("", "N=v\n"),
            ("A=1", "A=1\nN=v\n"),
            ("A=1\r\n", "A=1\r\nN=v\r\n"),
            ("# N=x\nN=old\nB=2\n", "# N=x\nN=v\nB=2\n"),
            ("N=old\nB=2\nN=older\n", "N=v\nB=2\n"),
            ("NO=1\nXN=2\nN\n", "NO=1\nXN=2\nN=v\n"),
            ("N=v\n", "N=v\n"),
        ] {
            assert_eq!(upsert(before, "N", "v"), expected, "{before:?}");
        }
    }
}
