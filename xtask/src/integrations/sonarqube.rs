//! SonarQube: its webhooks lead to the alert gateway, signed, and its Java trusts the site's CA.
//!
//! 9.9 and 25.1 differ (`tests/tools-double/contract/sonarqube.json`): 9.9 takes a token as Basic user name only, shows secrets in its list, and
//! deletes the secret when an update leaves it out; 25.1 says only whether there is one. So every update brings all three, and what 25.1
//! does not show is noted in `applied.json`.

use images::{Class, Error, Result};
use reqwest::Method;
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;

use super::api::{Api, Reply};
use super::ready::{Applied, Bundle, Ready};
use super::{filled, truststore};
use crate::provision::Tool;
use crate::site::model::Sonarqube;
use crate::site::secrets::{Name, Secret, Secrets};
use crate::site::{Folder, Site};

/// By this name our webhooks are known again.
pub const WEBHOOK: &str = "Mattermost (chatops)";

/// Where the steps put the truststore.
const TRUSTSTORE: &str = "/opt/sonarqube/conf/chatops-truststore.p12";

/// What is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The gateway's address.
    pub url: String,
    /// What SonarQube signs with.
    pub secret: Secret,
    /// Keys of projects with a webhook of their own; none of them: one webhook for all.
    pub projects: Vec<String>,
}

impl Wanted {
    /// Of a site.
    ///
    /// # Errors
    /// Where `secrets.env` lacks the secret.
    pub fn of(site: &Site, sonarqube: &Sonarqube, secrets: &Secrets) -> Result<Wanted> {
        let secret = secrets.require(Name::SonarqubeSecret)?.clone();
        let url = format!("https://{}:{}/sonarqube", site.name, site.ports.alert_gateway);
        Ok(Wanted { url, secret, projects: sonarqube.projects.clone() })
    }
}

/// The ready files.
pub(super) fn bundle(folder: &Folder, site: &Site, secrets: &Secrets) -> Result<Bundle> {
    let Some(sonarqube) = &site.sonarqube else { return Err(super::not_in_site(Tool::Sonarqube)) };
    let wanted = Wanted::of(site, sonarqube, secrets)?;
    let ca = super::ca(folder)?;
    let options = format!("-Djavax.net.ssl.trustStore={TRUSTSTORE} -Djavax.net.ssl.trustStorePassword={}", truststore::PASSWORD);
    let properties = format!(
        "# Both: analyses are told by the Compute Engine, gates that flip without one by the web server.\n\
         sonar.ce.javaAdditionalOpts={options}\nsonar.web.javaAdditionalOpts={options}\n"
    );
    let where_to = match wanted.projects.is_empty() {
        true => "Administration, Configuration, Webhooks".to_owned(),
        false => format!("Project Settings, Webhooks, of each of {}", wanted.projects.join(", ")),
    };
    let values = [
        ("TRUSTSTORE", TRUSTSTORE),
        ("SITE", site.name.as_str()),
        ("ADDRESS", &site.address().to_string()),
        ("PORT", &site.ports.alert_gateway.to_string()),
        ("WHERE", &where_to),
        ("NAME", WEBHOOK),
        ("URL", &wanted.url),
    ];
    let files = vec![
        Ready::open("README.md", filled(include_str!("sonarqube.md"), &values)),
        Ready::open("ca.pem", ca.as_str()),
        Ready::open("chatops-truststore.p12", truststore::of_pem(&ca, &folder.ca().display().to_string())?),
        Ready::open("sonar.properties", properties),
        Ready::secret("webhook-secret", &wanted.secret),
    ];
    Ok(Bundle::new(folder, Tool::Sonarqube, files))
}

/// A webhook as SonarQube tells it.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hook {
    key: String,
    name: String,
    url: String,
    /// 9.9 alone.
    secret: Option<Secret9>,
    /// 25.1 alone.
    has_secret: Option<bool>,
}

/// A secret that cannot be shown by mistake.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
struct Secret9(Secret);

impl From<String> for Secret9 {
    fn from(text: String) -> Self {
        Secret9(Secret::new(text))
    }
}

#[derive(Deserialize)]
struct List {
    webhooks: Vec<Hook>,
}

#[derive(Deserialize)]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    http_status: Option<u16>,
}

/// Makes SonarQube's webhooks what they should be, and reads them back: what was changed.
///
/// # Errors
/// [`Class::Server`] for whatever SonarQube refuses, and where it does not show afterwards what it was told.
pub fn apply(api: &mut Api, wanted: &Wanted, applied: &mut Applied) -> Result<Vec<String>> {
    api.hush(&wanted.secret);
    let mut changes = Vec::new();
    let projects: Vec<Option<&str>> = match wanted.projects.is_empty() {
        true => vec![None],
        false => wanted.projects.iter().map(|project| Some(project.as_str())).collect(),
    };
    for project in &projects {
        one(api, wanted, *project, applied, &mut changes)?;
    }
    // A site that names other projects than before, or none: what the former ones still tell would come twice.
    for project in applied.noted("project ").into_iter().filter(|project| !wanted.projects.contains(project)) {
        let found = ask(api, Some(&project))?;
        // Where the project is gone, its webhooks are gone with it.
        let hooks = if found.status == 404 { Vec::new() } else { told(found)?.json::<List>()?.webhooks };
        for hook in hooks.into_iter().filter(|hook| hook.name == WEBHOOK) {
            delete(api, &hook)?;
            changes.push(format!("- webhook for project {project}: site.toml does not name it any more"));
        }
        applied.forget(&format!("project {project}"))?;
    }
    if !wanted.projects.is_empty() {
        // The one for all would tell everything a second time.
        for hook in list(api, None)?.into_iter().filter(|hook| hook.name == WEBHOOK) {
            delete(api, &hook)?;
            changes.push("- the webhook for all projects: site.toml names projects".to_owned());
        }
    }
    Ok(changes)
}

fn one(api: &Api, wanted: &Wanted, project: Option<&str>, applied: &mut Applied, changes: &mut Vec<String>) -> Result<()> {
    let of = project.map(|project| format!("project {project}")).unwrap_or_else(|| "all projects".to_owned());
    let mut ours = list(api, project)?.into_iter().filter(|hook| hook.name == WEBHOOK);
    let form = [("name", WEBHOOK), ("url", &wanted.url), ("secret", wanted.secret.expose())];
    match ours.next() {
        None => {
            let project = project.map(|project| ("project", project));
            let form: Vec<(&str, &str)> = form.into_iter().chain(project).collect();
            told(api.form(Method::POST, "/api/webhooks/create", &form)?)?;
            changes.push(format!("+ webhook for {of}"));
        }
        Some(hook) => {
            let differs = differs(api, &hook, wanted, &of, applied)?;
            if !differs.is_empty() {
                let form: Vec<(&str, &str)> = form.into_iter().chain([("webhook", hook.key.as_str())]).collect();
                told(api.form(Method::POST, "/api/webhooks/update", &form)?)?;
                changes.push(format!("~ webhook for {of}: {}", differs.join(", ")));
            }
        }
    }
    for double in ours {
        delete(api, &double)?;
        changes.push(format!("- webhook for {of}: another one does the same"));
    }
    read_back(api, wanted, project, &of)?;
    applied.note(&of, &wanted.secret)
}

/// What of a webhook is not as it should be.
fn differs(api: &Api, hook: &Hook, wanted: &Wanted, of: &str, applied: &Applied) -> Result<Vec<&'static str>> {
    let mut differs = Vec::new();
    if hook.url != wanted.url {
        differs.push("address");
    }
    let secret = match (&hook.secret, hook.has_secret) {
        (Some(found), _) => found.0 == wanted.secret,
        // It shows no more than that there is one: a gateway that refused the last signature knows better than our note.
        (None, Some(true)) => applied.has(of, &wanted.secret) && !last_was_refused(api, hook)?,
        (None, _) => false,
    };
    if !secret {
        differs.push("secret");
    }
    Ok(differs)
}

/// Whether the gateway answered the last delivery with 401: another secret.
fn last_was_refused(api: &Api, hook: &Hook) -> Result<bool> {
    let key: String = byte_serialize(hook.key.as_bytes()).collect();
    let found: Deliveries = api.get(&format!("/api/webhooks/deliveries?ps=1&webhook={key}"))?.json()?;
    Ok(found.deliveries.first().is_some_and(|delivery| delivery.http_status == Some(401)))
}

fn list(api: &Api, project: Option<&str>) -> Result<Vec<Hook>> {
    Ok(told(ask(api, project)?)?.json::<List>()?.webhooks)
}

fn ask<'a>(api: &'a Api, project: Option<&str>) -> Result<Reply<'a>> {
    let query = project.map(|project| format!("?project={}", byte_serialize(project.as_bytes()).collect::<String>())).unwrap_or_default();
    api.get(&format!("/api/webhooks/list{query}"))
}

fn delete(api: &Api, hook: &Hook) -> Result<()> {
    told(api.form(Method::POST, "/api/webhooks/delete", &[("webhook", &hook.key)])?).map(drop)
}

fn read_back(api: &Api, wanted: &Wanted, project: Option<&str>, of: &str) -> Result<()> {
    let found: Vec<Hook> = list(api, project)?.into_iter().filter(|hook| hook.name == WEBHOOK).collect();
    let signed = |hook: &Hook| match &hook.secret {
        Some(secret) => secret.0 == wanted.secret,
        None => hook.has_secret == Some(true),
    };
    match found.as_slice() {
        [hook] if hook.url == wanted.url && signed(hook) => Ok(()),
        _ => Err(Error::new(Class::Server, format!("SonarQube does not show the webhook for {of} that it was told"))
            .detail(format!("expected one called {WEBHOOK}, to {}, with a secret", wanted.url))
            .detail(format!("found    {} of that name", found.len()))
            .hint("is somebody else changing it? The same command again goes on")),
    }
}

/// A refusal in SonarQube's words, and what is behind them.
fn told(reply: Reply<'_>) -> Result<Reply<'_>> {
    let (status, message) = (reply.status, reply.message());
    let result = reply.good();
    let explained = match status {
        400 if message.starts_with("Invalid URL: loopback") => {
            "SonarQube refuses every address of the machine that it runs on (sonar.validateWebhooks): run it on another machine than the \
             gateway, or in a container of its own that reaches the gateway by another address, or set sonar.validateWebhooks=false there"
        }
        400 if message.starts_with("Maximum number") => "SonarQube keeps ten webhooks in a place: delete one that nobody needs",
        404 if message.starts_with("Project") => "[sonarqube] projects in site.toml are keys, as the project's address shows them",
        _ => return result,
    };
    result.map_err(|error| error.hint(explained))
}
