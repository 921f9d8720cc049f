//! GitLab: each project's or group's events go to their channels, people link their accounts, and GitLab trusts the site's CA.

use std::collections::BTreeSet;

use images::{Class, Error, Result};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::form_urlencoded::Serializer;

use super::api::Api;
use super::filled;
use super::ready::{Applied, Bundle, Ready};
use crate::provision::{Tool, webhook_url};
use crate::server::{Endpoint, Patience};
use crate::site::model::{Edition, Gitlab, GitlabBranches, GitlabEvent};
use crate::site::secrets::{Name, Secret, Secrets};
use crate::site::{Folder, Site};
use crate::uri::{authority, percent_encoded, plain};

/// By this name our OAuth application is known again.
pub const APPLICATION: &str = "Mattermost (chatops)";
/// Where the plugin's half of the sign-in ends.
const PLUGIN: &str = "plugins/com.github.manland.mattermost-plugin-gitlab/oauth/complete";
/// What GitLab shows in the place of a value that it hides.
const MASK: &str = "****";

/// Every event, with its switch and the setting of its channel in GitLab's API.
const EVENTS: [(GitlabEvent, &str, &str); 9] = [
    (GitlabEvent::Push, "push_events", "push_channel"),
    (GitlabEvent::Issue, "issues_events", "issue_channel"),
    (GitlabEvent::ConfidentialIssue, "confidential_issues_events", "confidential_issue_channel"),
    (GitlabEvent::MergeRequest, "merge_requests_events", "merge_request_channel"),
    (GitlabEvent::Note, "note_events", "note_channel"),
    (GitlabEvent::ConfidentialNote, "confidential_note_events", "confidential_note_channel"),
    (GitlabEvent::TagPush, "tag_push_events", "tag_push_channel"),
    (GitlabEvent::Pipeline, "pipeline_events", "pipeline_channel"),
    (GitlabEvent::WikiPage, "wiki_page_events", "wiki_page_channel"),
];

/// What the plugin needs, and sign-in with GitLab; with a licence Mattermost signs in by OpenID, which wants the others.
fn scopes(edition: Edition) -> &'static str {
    match edition {
        Edition::Team => "api read_user",
        Edition::Enterprise => "api read_user openid profile email",
    }
}

/// What is to be.
pub struct Wanted {
    /// The webhook, once it was made.
    pub webhook: Option<Secret>,
    /// The settings of the integration, without the webhook.
    settings: Map<String, Value>,
    /// `projects/PATH` and `groups/PATH`, with the path URL-encoded; and the path for people.
    places: Vec<(String, String)>,
    /// Where the OAuth application may lead back to.
    redirects: BTreeSet<String>,
    /// What it may.
    scopes: &'static str,
    /// Names and addresses that GitLab has to be allowed to ask.
    hosts: Vec<String>,
}

impl Wanted {
    /// Of a site.
    pub fn of(site: &Site, gitlab: &Gitlab, secrets: &Secrets) -> Wanted {
        let branches = match gitlab.branches {
            GitlabBranches::All => "all",
            GitlabBranches::Default => "default",
            GitlabBranches::Protected => "protected",
            GitlabBranches::DefaultAndProtected => "default_and_protected",
        };
        let mut settings = Map::from_iter([
            ("username".to_owned(), json!(Tool::Gitlab.display_name())),
            ("channel".to_owned(), json!(gitlab.channel.as_str())),
            ("branches_to_be_notified".to_owned(), json!(branches)),
            ("notify_only_broken_pipelines".to_owned(), json!(gitlab.only_broken_pipelines)),
        ]);
        for (event, switch, channel) in EVENTS {
            let to = gitlab.events.get(&event);
            settings.insert(switch.to_owned(), json!(to.is_some()));
            if let Some(to) = to {
                settings.insert(channel.to_owned(), json!(to.as_str()));
            }
        }
        let place = |kind: &str, path: &String| (format!("{kind}/{}", percent_encoded(path)), path.clone());
        let projects = gitlab.projects.iter().map(|path| place("projects", path));
        Wanted {
            webhook: webhook_url(secrets, Tool::Gitlab, &gitlab.channel),
            settings,
            places: projects.chain(gitlab.groups.iter().map(|path| place("groups", path))).collect(),
            redirects: redirects(site),
            scopes: scopes(site.edition),
            hosts: site.hosts().collect(),
        }
    }

    fn webhook(&self) -> Result<&Secret> {
        self.webhook.as_ref().ok_or_else(|| {
            Error::new(Class::Usage, "secrets.env holds no webhook of GitLab yet")
                .hint("`cargo xtask provision` makes it, on the running server")
        })
    }

    /// What GitLab is told about a project or group.
    fn body(&self, webhook: &Secret) -> String {
        let mut body = self.settings.clone();
        body.insert("webhook".to_owned(), json!(webhook.expose()));
        Value::Object(body).to_string()
    }
}

/// By name and by address, since phones open either; and the two of sign-in with GitLab, so that switching that on needs no new application.
fn redirects(site: &Site) -> BTreeSet<String> {
    let own = site.url();
    let port = site.ports.mattermost;
    let addresses = site.addresses.iter().map(|address| format!("https://{}", authority(&address.to_string(), port)));
    let plugin = addresses.chain([own.clone()]).map(|host| format!("{host}/{PLUGIN}"));
    plugin.chain(["login", "signup"].map(|page| format!("{own}/{page}/gitlab/complete"))).collect()
}

/// The ready files. That with the webhook's address comes once it was made.
pub(super) fn bundle(folder: &Folder, site: &Site, secrets: &Secrets) -> Result<Bundle> {
    let Some(gitlab) = &site.gitlab else { return Err(super::not_in_site(Tool::Gitlab)) };
    let wanted = Wanted::of(site, gitlab, secrets);
    let ca = super::ca(folder)?;
    let url = plain(&gitlab.url);
    let puts: String = wanted.places.iter().map(|(place, _)| {
        format!("       curl --fail --request PUT --header @token-header --json @integration.json {url}/api/v4/{place}/integrations/mattermost\n")
    }).collect();
    let redirects: String = wanted.redirects.iter().map(|uri| format!("       {uri}\n")).collect();
    let values = [
        ("URL", url.as_str()),
        ("PUTS", puts.trim_end()),
        ("REDIRECTS", redirects.trim_end()),
        ("NAME", APPLICATION),
        ("SCOPES", wanted.scopes),
        ("SITE", site.name.as_str()),
        ("ADDRESS", &site.address().to_string()),
        ("CHAT", &site.url()),
    ];
    let mut files = vec![
        Ready::open("README.md", filled(include_str!("gitlab.md"), &values)),
        Ready::open("chatops-ca.crt", ca),
        Ready::open("gitlab.rb", format!("gitlab_rails['mattermost_host'] = '{}'\n", site.url())),
    ];
    if let Some(webhook) = &wanted.webhook {
        files.push(Ready::secret("integration.json", &Secret::new(wanted.body(webhook))));
    }
    Ok(Bundle::new(folder, Tool::Gitlab, files))
}

/// What was done, and what is left for a person.
#[derive(Debug, Default)]
pub struct Done {
    /// What was changed.
    pub changes: Vec<String>,
    /// What keeps it from working, with the step that mends it.
    pub problems: Vec<String>,
}

/// Tells GitLab the integration of every project and group, and reads it back.
///
/// # Errors
/// [`Class::Server`] for whatever GitLab refuses, and where it does not show afterwards what it was told.
pub fn apply(api: &mut Api, wanted: &Wanted, applied: &mut Applied) -> Result<Done> {
    let webhook = wanted.webhook()?;
    api.hush(webhook);
    let mut done = Done::default();
    let body = wanted.body(webhook);
    for (place, path) in &wanted.places {
        let call = format!("/api/v4/{place}/integrations/mattermost");
        let mut differs = differs(&found(api, &call)?, &wanted.settings);
        // GitLab never shows the address again.
        if differs.is_empty() && !applied.has(place, webhook) {
            differs.push("webhook".to_owned());
        }
        if differs.is_empty() {
            continue;
        }
        api.send(Method::PUT, &call, "application/json", &body)?.good()?;
        let left = self::differs(&found(api, &call)?, &wanted.settings);
        if !left.is_empty() {
            return Err(Error::new(Class::Server, format!("GitLab does not show what it was told about {path}"))
                .detail(format!("still another value: {}", left.join(", ")))
                .hint("a setting of its group or instance may stand above it; an older GitLab may not know it"));
        }
        applied.note(place, webhook)?;
        done.changes.push(format!("~ {path}: {}", differs.join(", ")));
    }
    done.problems.extend(local_requests(api, wanted)?);
    Ok(done)
}

/// The integration as GitLab shows it; null where there is none.
fn found(api: &Api, call: &str) -> Result<Value> {
    let reply = api.get(call)?;
    match reply.status {
        // Of the integration, or of the project: the next request, which makes it, tells which.
        404 => Ok(Value::Null),
        _ => reply.json(),
    }
}

/// The settings that are not as they should be. What GitLab hides or does not know of says nothing.
fn differs(found: &Value, settings: &Map<String, Value>) -> Vec<String> {
    if !found["active"].as_bool().unwrap_or(false) {
        return vec!["switched on".to_owned()];
    }
    let properties = &found["properties"];
    let differs = |key: &str, wanted: &Value| {
        let shown = found.get(key).or_else(|| properties.get(key));
        match shown {
            None => false,
            Some(Value::String(text)) if text.starts_with(MASK) => false,
            // Older versions keep switches as text.
            Some(Value::String(text)) => *text != wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned),
            Some(shown) => shown != wanted,
        }
    };
    settings.iter().filter(|(key, wanted)| differs(key, wanted)).map(|(key, _)| key.clone()).collect()
}

/// Whether GitLab may ask the chat at all: by default it asks no private address.
fn local_requests(api: &Api, wanted: &Wanted) -> Result<Option<String>> {
    let step = "Admin, Settings, Network, Outbound requests";
    let reply = api.get("/api/v4/application/settings")?;
    if matches!(reply.status, 401 | 403) {
        return Ok(Some(format!("whether GitLab may ask private addresses only an administrator's token can tell: {step}")));
    }
    let settings: Value = reply.json()?;
    let allowed = settings["allow_local_requests_from_web_hooks_and_services"].as_bool().unwrap_or(false);
    let list = ["outbound_local_requests_allowlist", "outbound_local_requests_whitelist"];
    let listed = list.iter().filter_map(|key| settings[key].as_array()).flatten().filter_map(Value::as_str);
    let name = |entry: &str| {
        wanted.hosts.iter().any(|host| entry == host || entry.strip_prefix(host.as_str()).is_some_and(|rest| rest.starts_with(':')))
    };
    match allowed || listed.into_iter().any(name) {
        true => Ok(None),
        false => Ok(Some(format!("GitLab asks no private address: {step}: put {} on the list that may be asked", wanted.hosts[0]))),
    }
}

#[derive(Deserialize)]
struct Application {
    id: u64,
    application_id: String,
    application_name: String,
    #[serde(default)]
    callback_url: String,
}

#[derive(Deserialize)]
struct Made {
    application_id: String,
    secret: String,
}

/// Makes the OAuth application, where there is none; `again` revokes the old one first. `keep` puts id and secret into `secrets.env`, at once:
/// GitLab shows the secret this one time.
///
/// # Errors
/// [`Class::Check`] where only a new application helps; [`Class::Server`] for whatever GitLab refuses.
pub fn application(
    api: &Api,
    wanted: &Wanted,
    secrets: &Secrets,
    again: bool,
    keep: &mut dyn FnMut(Secret, Secret) -> Result<()>,
) -> Result<Done> {
    let mut done = Done::default();
    let kept = secrets.get(Name::GitlabOauthId).zip(secrets.get(Name::GitlabOauthSecret));
    let Some(ours) = applications(api)? else {
        if again {
            return Err(Error::new(Class::Server, "GitLab does not let the token see its OAuth applications")
                .hint("--reauthorise needs an administrator's token; nothing was revoked"));
        }
        if kept.is_none() {
            done.problems.push("the OAuth application needs an administrator's token, or the step by hand in README.md".to_owned());
        }
        return Ok(done);
    };
    if again {
        for application in &ours {
            let reply = api.form(Method::DELETE, &format!("/api/v4/applications/{}", application.id), &[])?;
            if reply.status != 404 {
                reply.good()?;
            }
            done.changes.push("- OAuth application: revoked; everybody links their account again: /gitlab connect".to_owned());
        }
    } else if let Some(application) = ours.first() {
        let known = kept.is_some_and(|(id, _)| id.expose() == application.application_id);
        let found: BTreeSet<String> = application.callback_url.split_whitespace().map(str::to_owned).collect();
        let why = match (known, found == wanted.redirects) {
            (true, true) => return Ok(done),
            (false, _) => "its secret is not in secrets.env, and GitLab shows it only once",
            (true, false) => "it leads back to other addresses than the site has, and GitLab's API changes none",
        };
        return Err(Error::new(Class::Check, format!("GitLab has the OAuth application {APPLICATION}, and it is of no use"))
            .detail(why)
            .hint("--reauthorise revokes it and makes another; everybody links their account again"));
    } else if kept.is_some() {
        // Somebody made it by hand, for one account or group: not ours to judge.
        return Ok(done);
    }
    let redirects = wanted.redirects.iter().cloned().collect::<Vec<_>>().join("\n");
    let form = [("name", APPLICATION), ("redirect_uri", &redirects), ("scopes", wanted.scopes), ("confidential", "true")];
    let made: Made = api.form(Method::POST, "/api/v4/applications", &form)?.json()?;
    keep(Secret::new(made.application_id), Secret::new(made.secret))?;
    done.changes.push(format!("+ OAuth application; {} and {} in secrets.env", Name::GitlabOauthId.name(), Name::GitlabOauthSecret.name()));
    Ok(done)
}

/// Ours; none where the token may not ask.
fn applications(api: &Api) -> Result<Option<Vec<Application>>> {
    let mut ours = Vec::new();
    for page in 1.. {
        let reply = api.get(&format!("/api/v4/applications?per_page=100&page={page}"))?;
        if matches!(reply.status, 401 | 403) {
            return Ok(None);
        }
        let found: Vec<Application> = reply.json()?;
        let last = found.len() < 100;
        ours.extend(found.into_iter().filter(|application| application.application_name == APPLICATION));
        if last {
            break;
        }
    }
    Ok(Some(ours))
}

/// What GitLab's own slash commands are called in `secrets.env`.
pub fn token_name(path: &str) -> String {
    let name: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("GITLAB_COMMAND_{name}")
}

/// The word that begins a project's commands: the plugin has `/gitlab` itself.
pub fn trigger(path: &str) -> String {
    path.to_lowercase().replace('/', "-")
}

/// Where Mattermost sends a project's commands.
pub fn command_url(gitlab: &Gitlab, path: &str) -> String {
    let url = plain(&gitlab.url);
    format!("{url}/api/v4/projects/{}/integrations/mattermost_slash_commands/trigger", percent_encoded(path))
}

/// Tells GitLab the token of a project's slash command; whether that was new.
///
/// # Errors
/// [`Class::Server`] for whatever GitLab refuses.
pub fn slash_command(api: &mut Api, path: &str, token: &Secret, applied: &mut Applied) -> Result<bool> {
    api.hush(token);
    let what = format!("command of {path}");
    if applied.has(&what, token) {
        return Ok(false);
    }
    let call = format!("/api/v4/projects/{}/integrations/mattermost-slash-commands", percent_encoded(path));
    api.send(Method::PUT, &call, "application/json", &json!({ "token": token.expose() }).to_string())?.good()?;
    let shown: Value = api.get(&call)?.json()?;
    if shown["active"] != true {
        return Err(Error::new(Class::Server, format!("GitLab does not show the slash commands of {path} as switched on")));
    }
    applied.note(&what, token)?;
    Ok(true)
}

/// A message as GitLab's integration sends it: a form with JSON in `payload`, which names channel and author.
pub fn event(channel: &str) -> String {
    let payload = json!({
        "text": "A test of the GitLab integration",
        "username": Tool::Gitlab.display_name(),
        "channel": channel,
        "attachments": [{ "fallback": "a test", "color": "#345", "text": "It came the way that GitLab's events come." }],
    });
    Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
}

/// Sends such a message to the site's own server.
///
/// # Errors
/// [`Class::Server`] where it is not taken. The answer repeats the webhook's id, so it is not shown.
pub fn send_event(endpoint: &Endpoint, wanted: &Wanted, channel: &str) -> Result<()> {
    let webhook = wanted.webhook()?.expose();
    let path = webhook.rsplit_once("/hooks/").map(|(_, id)| format!("/hooks/{id}")).unwrap_or_default();
    let http = endpoint.http(Patience::default().timeout)?;
    let request = http.post(format!("{}{path}", plain(&endpoint.url)));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(event(channel));
    let refused = |why: String| {
        Error::new(Class::Server, "the test event did not reach its channel")
            .detail(why)
            .hint("`cargo xtask provision --plan` says what differs")
    };
    // The error would name the address.
    let answer = request.send().map_err(|error| refused(images::store::http::chain(error.without_url())))?;
    match answer.status().as_u16() {
        200 => Ok(()),
        status => Err(refused(format!("Mattermost answered {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_unknown_settings_say_nothing_and_others_count() {
        let settings = Map::from_iter([("channel".to_owned(), json!("a")), ("push_events".to_owned(), json!(true))]);
        for (found, expected) in [
            (json!({ "active": true, "push_events": true, "properties": { "channel": "a" } }), vec![]),
            (json!({ "active": true, "push_events": "true", "properties": { "channel": "************" } }), vec![]),
            (json!({ "active": true, "properties": {} }), vec![]),
            (json!({ "active": true, "push_events": false, "properties": { "channel": null } }), vec!["channel", "push_events"]),
            (json!({ "active": false, "push_events": true }), vec!["switched on"]),
            (Value::Null, vec!["switched on"]),
        ] {
            assert_eq!(differs(&found, &settings), expected, "{found}");
        }
    }
}
