//! The LAN's machines as the steps play them: what tools send to webhooks, and an administrator who looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use images::{Class, Error, Result};
use relay::chat::{Chat, Socket};
use reqwest::Method;
use reqwest::blocking::Client as Http;
use serde_json::{Value, json};
use sha2::Sha256;
use tungstenite::Message;
use url::form_urlencoded::Serializer;
use xtask::provision::{Tool, webhook_url};
use xtask::server::Client;
use xtask::server::model::HookId;
use xtask::site::names::ChatName;
use xtask::site::secrets::{Name, Secret, Secrets};

use crate::step::Evidence;
use crate::world::World;

/// A recorded request of SonarQube 9.9's about a gate that failed.
const SONARQUBE: &str = include_str!("../../../images/alert-gateway/tests/data/93-9.9-delivery-error-first.json");
/// What most tools send.
pub const JSON: &str = "application/json";
/// What GitLab sends.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// How long a post may take: the gateway looks for new webhooks every five seconds.
const SOON: Duration = Duration::from_secs(20);

/// A machine on the LAN that plays the tools, and an administrator who looks.
pub struct Lan<'a> {
    pub world: &'a World,
    /// The site as its clients know it.
    pub site: relay::Site,
    /// The API as a page asks it.
    pub chat: Chat,
    /// The API.
    pub api: Client,
    /// Trusts the site's CA alone.
    pub http: Http,
    /// The team's id.
    pub team: String,
    /// As they were when this was made.
    secrets: Secrets,
}

/// A status, and what the body says: the error's id, or its text.
pub type Answer = (u16, String);

/// What Mattermost says to a body that it posts.
pub fn taken() -> Answer {
    (200, "ok".to_owned())
}

/// What the gateway says to an alert that is on its disk.
pub fn kept() -> Answer {
    (200, r#"{"alert":"kept"}"#.to_owned())
}

impl<'a> Lan<'a> {
    /// To be made, and used, in the network namespace of a client.
    pub fn new(world: &'a World) -> Result<Lan<'a>> {
        let site = relay::Site::open(&world.folder())?;
        let (chat, api) = (world.chat()?, world.administrator()?);
        let name = site.site.team.name.as_str();
        let team = api.team(name)?.ok_or_else(|| Error::new(Class::Check, format!("there is no team {name}")))?.id;
        Ok(Lan { http: site.chat.http(Duration::from_secs(20))?, secrets: world.secrets()?, world, site, chat, api, team })
    }

    /// The id in a tool's webhook into a channel.
    pub fn hook(&self, tool: Tool, channel: &str) -> Result<String> {
        let name: ChatName = channel.parse().map_err(|()| Error::new(Class::Check, format!("{channel} is no channel's name")))?;
        let url = webhook_url(&self.secrets, tool, &name);
        let id = url.and_then(|url| HookId::of_url(url.expose()));
        id.map(|id| id.expose().to_owned()).ok_or_else(|| Error::new(Class::Check, format!("{tool} has no webhook into {channel}")))
    }

    /// A channel's id.
    pub fn channel(&self, name: &str) -> Result<String> {
        let channel = self.api.channel(&self.team, name)?;
        channel.map(|channel| channel.id).ok_or_else(|| Error::new(Class::Check, format!("there is no channel {name}")))
    }

    /// What Mattermost says to a body for a webhook. Its errors repeat the id, which is a credential.
    pub fn send(&self, hook: &str, kind: &str, body: impl Into<String>) -> Result<Answer> {
        let url = self.at("hooks")?;
        let request = self.http.post(format!("{url}/{hook}")).header("content-type", kind).body(body.into());
        let (status, told) = answered("Mattermost", request)?;
        let error: Value = serde_json::from_str(&told).unwrap_or_default();
        let told = error["id"].as_str().map_or_else(|| told.trim().to_owned(), str::to_owned);
        Ok((status, told.replace(hook, "…")))
    }

    /// The address of something on Mattermost.
    pub fn at(&self, path: &str) -> Result<String> {
        self.site.chat.url.join(path).map(|url| url.to_string()).map_err(|error| Error::new(Class::Check, error.to_string()))
    }

    /// What the gateway says to a body, signed with this header.
    pub fn alert(&self, body: &str, signature: Option<&str>) -> Result<Answer> {
        let request = self.http.post(self.gateway("sonarqube")?).header("content-type", "application/json; charset=utf-8");
        let request = signature.into_iter().fold(request, |request, value| request.header("X-Sonar-Webhook-HMAC-SHA256", value));
        answered("the alert gateway", request.body(body.to_owned()))
    }

    /// What SonarQube sends about a project of this word.
    pub fn sonarqube(&self, word: &str) -> Result<Answer> {
        let body = sonarqube(word)?;
        self.alert(&body, Some(&self.signed(&body)?))
    }

    /// What Jenkins sends about a build of this word.
    pub fn build(&self, word: &str) -> Result<Answer> {
        self.send(&self.hook(Tool::Jenkins, "builds")?, JSON, jenkins("builds", word))
    }

    /// One webhook of each tool, which is seen as a post.
    pub fn works(&self, evidence: &mut Evidence, when: &str) -> Result<()> {
        let mut socket = self.listen()?;
        let (build, push, alert) = (mark(), mark(), mark());
        evidence.same(&format!("Jenkins' webhook {when}"), taken(), self.build(&build)?)?;
        seen(&mut socket, &build)?;
        let sent = self.send(&self.hook(Tool::Gitlab, "code-reviews")?, FORM, gitlab("builds", &push))?;
        evidence.same(&format!("GitLab's webhook {when}"), taken(), sent)?;
        seen(&mut socket, &push)?;
        evidence.same(&format!("SonarQube's webhook {when}"), kept(), self.sonarqube(&alert)?)?;
        seen(&mut socket, &alert).map(drop)
    }

    fn gateway(&self, path: &str) -> Result<String> {
        let mut url = self.site.chat.url.clone();
        url.set_path(path);
        url.set_port(Some(self.world.gateway_at().port())).map_err(|()| Error::new(Class::Check, "no port fits the site's address"))?;
        Ok(url.to_string())
    }

    /// As SonarQube signs, with the site's secret.
    pub fn signed(&self, body: &str) -> Result<String> {
        Ok(signature(self.secrets.require(Name::SonarqubeSecret)?, body))
    }

    /// The ids of every post in every channel that tools write to, newest 200 of each.
    pub fn posts(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut all = BTreeMap::new();
        for channel in self.site.site.channels.iter().map(|channel| channel.name.to_string()).chain(["town-square".to_owned()]) {
            let path = format!("/api/v4/channels/{}/posts?per_page=200", self.channel(&channel)?);
            let page = self.chat.ask(Method::GET, &path, None)?;
            let ids = page["order"].as_array().into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned));
            all.insert(channel, ids.collect());
        }
        Ok(all)
    }

    /// Posts of a channel, newest 1000, as JSON.
    pub fn texts(&self, channel: &str) -> Result<Vec<String>> {
        let (channel, mut all) = (self.channel(channel)?, Vec::new());
        for page in 0..5 {
            let page = self.chat.ask(Method::GET, &format!("/api/v4/channels/{channel}/posts?per_page=200&page={page}"), None)?;
            let posts = page["posts"].as_object().filter(|posts| !posts.is_empty());
            let Some(posts) = posts else { break };
            all.extend(posts.values().map(Value::to_string));
        }
        Ok(all)
    }

    /// A WebSocket that has said hello.
    pub fn listen(&self) -> Result<Socket> {
        let mut socket = self.opened(None)?.map_err(|(status, _)| Error::new(Class::Check, format!("the WebSocket answers {status}")))?;
        let hello = frame(&mut socket)?;
        match hello["event"] == "hello" {
            true => Ok(socket),
            false => Err(Error::new(Class::Check, "the WebSocket does not say hello").detail(format!("seen     {hello}"))),
        }
    }

    /// A WebSocket, or why the server does not open it.
    pub fn opened(&self, origin: Option<&str>) -> Result<std::result::Result<Socket, (u16, String)>> {
        self.chat.socket(&self.site, origin)
    }
}

fn answered(who: &str, request: reqwest::blocking::RequestBuilder) -> Result<Answer> {
    // The error would name the address, and with it a webhook.
    let failed = |error: reqwest::Error| {
        Error::new(Class::Server, format!("{who} does not answer")).detail(images::store::http::chain(error.without_url()))
    };
    let answer = request.send().map_err(failed)?;
    Ok((answer.status().as_u16(), answer.text().map_err(failed)?))
}

/// As SonarQube signs: hexadecimal HMAC-SHA256 of the body.
pub fn signature(secret: &Secret, body: &str) -> String {
    // HMAC takes keys of any length.
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes());
    let digest = mac.map(|mac| mac.chain_update(body).finalize().into_bytes().to_vec()).unwrap_or_default();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A word that no other post has.
pub fn mark() -> String {
    format!("e2e{:x}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos())
}

/// The next event.
pub fn frame(socket: &mut Socket) -> Result<Value> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap_or_default()),
            Ok(_) => {}
            Err(error) => return Err(Error::new(Class::Check, "the WebSocket broke off").detail(error.to_string())),
        }
    }
}

/// The next post with a word in it: the event, and the post, which stands in it as text.
pub fn seen(socket: &mut Socket, word: &str) -> Result<(Value, Value)> {
    let start = Instant::now();
    while start.elapsed() < SOON {
        let event = frame(socket)?;
        if let Some(text) = event["data"]["post"].as_str().filter(|text| event["event"] == "posted" && text.contains(word)) {
            let post = serde_json::from_str(text).unwrap_or_default();
            return Ok((event, post));
        }
    }
    Err(Error::new(Class::Check, format!("no post with {word} on the WebSocket within {} s", SOON.as_secs())))
}

/// What Jenkins' plugin sends (jenkinsci/mattermost-plugin 3.1.1, `StandardMattermostService.java`).
pub fn jenkins(channel: &str, mark: &str) -> String {
    let message = format!("shop » main - #7 {mark} Success after 41 sec (<https://jenkins.cicd.local/job/shop/7/|Open>)");
    json!({
        "text": "", "channel": channel, "username": "jenkins", "icon_url": "https://jenkins.cicd.local/logo.png",
        "attachments": [{
            "fallback": message, "color": "good", "fields": [{ "short": false, "value": message }], "mrkdwn_in": ["pretext", "text", "fields"]
        }]
    })
    .to_string()
}

/// What GitLab's integration sends (`slack_mattermost_notifier.rb`): a form, which names the channel of the event, with Slack's links.
pub fn gitlab(channel: &str, mark: &str) -> String {
    let place = "https://gitlab.cicd.local/group/shop";
    let payload = json!({
        "text": format!("alice pushed to branch <{place}/-/commits/main|main> of <{place}|group/shop> (<{place}/-/compare/a...b|{mark}>)"),
        "username": Tool::Gitlab.display_name(), "channel": channel,
        "attachments": [{
            "fallback": "b1ec334: Mend the till", "color": "#345", "text": format!("<{place}/-/commit/b1ec334|b1ec334>: Mend the till - Alice")
        }]
    });
    Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
}

/// The recorded request, as a task and a project of this moment would have sent it: what was known already is not posted again.
pub fn sonarqube(mark: &str) -> Result<String> {
    let recorded: Value = serde_json::from_str(SONARQUBE).unwrap_or_default();
    let body = recorded["body"].as_str().unwrap_or_default();
    let fresh = body.replace("AaIBi9MTRA9X57acMGV8", mark).replace("Proj Bad", &format!("Proj {mark}"));
    match fresh.matches(mark).count() {
        2 => Ok(fresh),
        _ => Err(Error::new(Class::Check, "the recorded request has another task and project than it had")),
    }
}
