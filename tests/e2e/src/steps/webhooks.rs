//! What tools send: it is posted where it belongs and seen at once; what is wrong gets its answer, and no post.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use images::{Class, Error, Result};
use relay::chat::Socket;
use reqwest::Method;
use serde_json::{Value, json};
use xtask::provision::Tool;
use xtask::server::NewHook;
use xtask::site::secrets::Secret;

use crate::lan::{FORM, JSON, Lan, frame, gitlab, jenkins, kept, mark, seen, signature, sonarqube, taken};
use crate::step::{Evidence, Need, Step, When};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[
    Step {
        name: "webhooks::what_each_tool_sends_is_posted_and_seen_at_once",
        claim: "What Jenkins, GitLab and SonarQube really send becomes one post in the right channel, with the right author, colour and \
                links, in the API as on an open WebSocket",
        deadline: Duration::from_secs(40),
        needs: &[],
        when: When::Shared,
        proves: posted,
    },
    Step {
        name: "webhooks::a_page_of_another_origin_is_kept_out",
        claim: "The WebSocket opens, and the API answers, for exactly the site's own origins; for a foreign one they do not",
        deadline: Duration::from_secs(20),
        needs: &[],
        when: When::Shared,
        proves: origins,
    },
    Step {
        name: "webhooks::what_is_wrong_gets_its_exact_answer_and_no_post",
        claim: "Wrong ids, locked channels, oversized and malformed bodies, forged signatures and replayed alerts get the exact answer that \
                they should, and nothing is posted",
        deadline: Duration::from_secs(40),
        needs: &[],
        when: When::Alone,
        proves: refused,
    },
    Step {
        name: "webhooks::switched_off_they_take_nothing",
        claim: "A server whose incoming webhooks are switched off answers 501 and posts nothing; switched on again, the same webhooks post",
        deadline: Duration::from_secs(120),
        needs: &[Need::Full],
        when: When::Alone,
        proves: switched_off,
    },
];

/// A post as one of the tools is to make it.
struct Wanted {
    tool: Tool,
    channel: &'static str,
    /// Who it seems to be from, where the tool says that.
    name: Option<&'static str>,
    colour: &'static str,
    /// Its links, as the server writes them.
    links: Vec<String>,
}

fn posted(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        let mut socket = lan.listen()?;
        let place = "https://gitlab.cicd.local/group/shop";
        for (channel, tool, own) in [
            ("builds", Tool::Jenkins, "builds"),
            ("alerts", Tool::Jenkins, "alerts"),
            ("code-reviews", Tool::Gitlab, "code-reviews"),
            ("builds", Tool::Gitlab, "code-reviews"),
        ] {
            let word = mark();
            let hook = lan.hook(tool, own)?;
            let (kind, body, colour, name, links) = match tool {
                Tool::Gitlab => {
                    let links = [
                        format!("[main]({place}/-/commits/main)"),
                        format!("[group/shop]({place})"),
                        format!("[b1ec334]({place}/-/commit/b1ec334)"),
                    ];
                    (FORM, gitlab(channel, &word), "#345", "GitLab", links.to_vec())
                }
                _ => (JSON, jenkins(channel, &word), "good", "jenkins", vec!["[Open](https://jenkins.cicd.local/job/shop/7/)".to_owned()]),
            };
            evidence.same(&format!("{tool} into {channel}"), taken(), lan.send(&hook, kind, body)?)?;
            shown(&lan, evidence, &mut socket, &word, &Wanted { tool, channel, name: Some(name), colour, links })?;
        }
        let word = mark();
        evidence.same("SonarQube to the gateway", kept(), lan.sonarqube(&word)?)?;
        let links = vec!["http://127.0.0.1:19000/dashboard?id=bad".to_owned()];
        let wanted = Wanted { tool: Tool::Sonarqube, channel: "alerts", name: None, colour: "danger", links };
        shown(&lan, evidence, &mut socket, &word, &wanted)
    })?
}

/// Looks for a post on the WebSocket, and again in the API.
fn shown(lan: &Lan, evidence: &mut Evidence, socket: &mut Socket, word: &str, wanted: &Wanted) -> Result<()> {
    let (event, post) = seen(socket, word)?;
    let what = |what: &str| format!("{} in {}: {what}", wanted.tool, wanted.channel);
    let account = lan.api.user(wanted.tool.bot())?.map(|user| user.id);
    let attachment = &post["props"]["attachments"][0];
    evidence.same(&what("channel"), Some(wanted.channel), event["data"]["channel_name"].as_str())?;
    evidence.same(&what("channel's id"), Some(lan.channel(wanted.channel)?.as_str()), post["channel_id"].as_str())?;
    evidence.same(&what("account"), account.as_deref(), post["user_id"].as_str())?;
    evidence.same(&what("name"), wanted.name, post["props"]["override_username"].as_str())?;
    evidence.same(&what("colour"), Some(wanted.colour), attachment["color"].as_str())?;
    let whole = post.to_string();
    for link in &wanted.links {
        let text = if link.starts_with("http") { attachment["title_link"].as_str().unwrap_or_default() } else { &whole };
        let seen = if text.contains(link.as_str()) { link } else { text };
        evidence.holds(&what("link"), link, seen, seen == link)?;
    }
    let read = lan.chat.ask(Method::GET, &format!("/api/v4/posts/{}", post["id"].as_str().unwrap_or_default()), None)?;
    for part in ["channel_id", "user_id", "message", "type"] {
        let same = read[part] == post[part];
        evidence.holds(&what(&format!("{part} in the API")), &post[part], &read[part], same)?;
    }
    evidence.same(&what("attachments in the API"), &post["props"]["attachments"], &read["props"]["attachments"])
}

fn origins(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        let (own, port) = (lan.site.site.url(), world.mattermost_at().port());
        // An app that was given the address, not the name.
        let mobile = format!("https://{}", world.mattermost_at());
        let foreign = [
            "https://evil.example.org".to_owned(),
            format!("https://evil.example.org:{port}"),
            format!("{mobile}/"),
            format!("http://{}", world.mattermost_at()),
            format!("https://{}", world.server()),
            format!("{mobile}.evil.example.org"),
            "null".to_owned(),
        ];
        let known = [None, Some(own.as_str()), Some(mobile.as_str())].map(|origin| (origin, true));
        for (origin, lets_in) in known.into_iter().chain(foreign.iter().map(|origin| (Some(origin.as_str()), false))) {
            let called = origin.unwrap_or("no origin");
            let seen = match lan.opened(origin)? {
                Ok(mut socket) => format!("101 {}", frame(&mut socket)?["event"].as_str().unwrap_or_default()),
                Err((status, body)) => {
                    let error: Value = serde_json::from_str(body.trim_start_matches("Forbidden\n")).unwrap_or_default();
                    format!("{status} {} {}", error["id"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default())
                }
            };
            let wanted = match lets_in {
                true => "101 hello".to_owned(),
                // The body says another status than the answer has: so does the real server (contract 152).
                false => format!("403 api.web_socket.connect.upgrade.app_error URL Blocked because of CORS. Url: {called}"),
            };
            evidence.same(&format!("WebSocket, {called}"), wanted, seen)?;
            // Whether a browser lets a page of that origin read an answer of the API; the site's own pages need no leave.
            if let Some(origin) = origin.filter(|origin| *origin != own) {
                let answer = lan.http.get(lan.at("/api/v4/system/ping")?).header("Origin", origin).send();
                let answer = answer.map_err(|error| Error::new(Class::Server, "no answer").detail(images::store::http::chain(error)))?;
                let leave = answer.headers().get("access-control-allow-origin").and_then(|value| value.to_str().ok());
                evidence.same(&format!("API, {called}"), lets_in.then_some(origin), leave)?;
            }
        }
        Ok(())
    })?
}

/// What the server reads of a body (contract 120, 130).
const LARGEST: usize = 300_512;
const GENERAL: &str = "web.incoming_webhook.general.app_error";
const DECODE: &str = "web.incoming_webhook.decode.app_error";

fn refused(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        let (word, last) = (mark(), mark() + "last");
        let mut socket = lan.listen()?;
        // What is replayed later has to be known, and posted.
        let alert = sonarqube(&word)?;
        let signed = lan.signed(&alert)?;
        evidence.same("the alert, first", kept(), lan.alert(&alert, Some(&signed))?)?;
        seen(&mut socket, &word)?;
        let deleted = deleted_hook(&lan)?;
        let before = lan.posts()?;

        let (locked, open) = (lan.hook(Tool::Jenkins, "builds")?, lan.hook(Tool::Gitlab, "code-reviews")?);
        let nobody = "a".repeat(26);
        let long = json!({ "text": "x".repeat(LARGEST) }).to_string();
        for (what, hook, kind, body, status, told) in [
            ("wrong id", nobody.as_str(), JSON, jenkins("builds", &word), 400, GENERAL),
            ("an id of another form", "builds", JSON, jenkins("builds", &word), 400, GENERAL),
            ("deleted webhook", &deleted, JSON, jenkins("builds", &word), 400, GENERAL),
            ("locked, another channel", &locked, JSON, jenkins("alerts", &word), 403, GENERAL),
            ("locked, a person", &locked, JSON, jenkins("@admin", &word), 403, GENERAL),
            ("no such channel", &open, FORM, gitlab("no-such-channel", &word), 404, GENERAL),
            ("oversized", &locked, JSON, long, 400, DECODE),
            ("half a payload", &locked, JSON, jenkins("builds", &word).split_off(9), 400, DECODE),
            ("a form without payload", &open, FORM, "load=1".to_owned(), 400, DECODE),
            ("an empty body", &locked, JSON, String::new(), 400, DECODE),
            ("a list", &locked, JSON, "[]".to_owned(), 400, DECODE),
            ("a number for a text", &locked, JSON, r#"{"text":7}"#.to_owned(), 400, DECODE),
            ("nothing to say", &locked, JSON, r#"{"text":""}"#.to_owned(), 400, GENERAL),
            ("what SonarQube sends, without the gateway", &locked, JSON, alert.clone(), 400, GENERAL),
        ] {
            evidence.same(&format!("Mattermost: {what}"), (status, told.to_owned()), lan.send(hook, kind, body)?)?;
        }

        let (fresh, forged) = (sonarqube(&(word.clone() + "forged"))?, signature(&Secret::new("somebody-elses-secret"), &alert));
        let (malformed, nameless) = (alert.split_at(40).0, r#"{"status":"SUCCESS"}"#);
        let large = "x".repeat(256 * 1024 + 1);
        let error = |what: &str| json!({ "error": what }).to_string();
        let wrong = error("x-sonar-webhook-hmac-sha256 is not right");
        for (what, body, signature, status, told) in [
            ("no signature", fresh.as_str(), None, 401, error("there is no x-sonar-webhook-hmac-sha256")),
            ("signed with another secret", &alert, Some(forged), 401, wrong.clone()),
            ("signed for another body", &fresh, Some(signed.clone()), 401, wrong.clone()),
            ("a signature that is none", &fresh, Some("00".to_owned()), 401, wrong),
            ("signed, malformed", malformed, Some(lan.signed(malformed)?), 400, error("the body is not JSON")),
            ("signed, about no project", nameless, Some(lan.signed(nameless)?), 400, error("the body names no project")),
            ("signed, oversized", &large, Some(lan.signed(&large)?), 413, error("the body is too long")),
            ("replayed", &alert, Some(signed), 200, r#"{"alert":"known"}"#.to_owned()),
        ] {
            evidence.same(&format!("gateway: {what}"), (status, told), lan.alert(body, signature.as_deref())?)?;
        }

        // The gateway posts later than it answers, but in the order in which alerts of a project came.
        lan.sonarqube(&last)?;
        let (_, post) = seen(&mut socket, &last)?;
        let mut wanted = before;
        wanted.entry("alerts".to_owned()).or_default().insert(post["id"].as_str().unwrap_or_default().to_owned());
        let count = |posts: &BTreeMap<String, BTreeSet<String>>| posts.values().map(BTreeSet::len).sum::<usize>();
        let after = lan.posts()?;
        let (expected, counted) = (format!("{} posts, the same", count(&wanted)), format!("{} posts", count(&after)));
        evidence.holds("posts before, and one alert that is good", expected, counted, wanted == after)
    })?
}

/// A webhook that posted, and was deleted.
fn deleted_hook(lan: &Lan) -> Result<String> {
    let bot = lan.api.user(Tool::Jenkins.bot())?.map(|user| user.id).unwrap_or_default();
    let new = NewHook {
        user_id: bot,
        channel_id: lan.channel("builds")?,
        display_name: "for a moment".to_owned(),
        description: String::new(),
        channel_locked: true,
    };
    let hook = lan.api.create_hook(&new)?.id;
    let answer = lan.send(hook.expose(), JSON, jenkins("builds", &mark()))?;
    lan.api.delete_hook(&hook)?;
    match answer {
        (200, _) => Ok(hook.expose().to_owned()),
        answer => Err(Error::new(Class::Check, "a new webhook does not post").detail(format!("seen     {answer:?}"))),
    }
}

fn switched_off(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let file = world.folder().toml();
    let described = fs_err::read_to_string(&file)?;
    let off = "[mattermost.extra]\nMM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS = \"false\"\n";
    fs_err::write(&file, format!("{described}{off}"))?;
    // Provisioning says that it cannot make webhooks now; the server runs.
    let outcome = world.site.up();
    let refused = client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        let before = lan.posts()?;
        for (what, tool, own, kind, body) in [
            ("Jenkins", Tool::Jenkins, "builds", JSON, jenkins("builds", &mark())),
            ("GitLab", Tool::Gitlab, "code-reviews", FORM, gitlab("builds", &mark())),
        ] {
            let hook = lan.hook(tool, own)?;
            evidence.same(what, (501, GENERAL.to_owned()), lan.send(&hook, kind, body)?)?;
        }
        let after = lan.posts()?;
        evidence.holds("posts", "the same as before", format!("{} channels compared", after.len()), before == after)
    });
    fs_err::write(&file, described)?;
    world.site.is_up()?;
    outcome?;
    refused??;
    client.inside(|| -> Result<()> { evidence.same("switched on again", taken(), Lan::new(world)?.build(&mark())?) })?
}
