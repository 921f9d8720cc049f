use std::collections::BTreeMap;

use super::desired::{Desired, Tool, Webhook};
use super::observed::{Account, Observed};
use super::plan::{Plan, plan};
use crate::server::model::{Bot, Channel, Hook, Team};
use crate::site;
use crate::site::secrets::Secret;

const SITE: &str = r#"
format = 1
addresses = ["192.168.1.20"]
[jenkins]
url = "https://jenkins.cicd.local"
[gitlab]
url = "https://gitlab.cicd.local"
projects = ["group/project"]
[sonarqube]
url = "https://sonarqube.cicd.local"
"#;

fn desired_of(text: &str) -> Desired {
    Desired::of(&site::parse("site.toml", text, || unreachable!("addresses are written")).unwrap())
}

fn desired() -> Desired {
    desired_of(SITE)
}

/// 26 characters, as the server's ids.
fn id(of: &str) -> String {
    format!("{of:z<26}").replace('-', "0")
}

fn json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn hook_of(wanted: &Webhook, number: usize) -> Hook {
    json(serde_json::json!({
        "id": id(&format!("hook{number}")), "user_id": id(wanted.tool.bot()), "channel_id": id(wanted.channel.as_str()),
        "team_id": id("team"), "display_name": wanted.tool.webhook_name(), "description": wanted.description(),
        "channel_locked": wanted.is_locked(), "create_at": number
    }))
}

/// A server that is exactly as desired.
fn finished(desired: &Desired) -> Observed {
    let mut observed = Observed {
        team: Some(json::<Team>(serde_json::json!({ "id": id("team"), "name": "engineering", "display_name": "Engineering" }))),
        ..Observed::default()
    };
    for wanted in &desired.channels {
        let channel: Channel = json(serde_json::json!({
            "id": id(wanted.name.as_str()), "team_id": id("team"), "name": wanted.name, "display_name": wanted.display_name,
            "purpose": wanted.purpose, "header": wanted.header, "type": if wanted.private { "P" } else { "O" }
        }));
        observed.channels.insert(wanted.name.to_string(), channel);
    }
    for tool in desired.tools() {
        let bot: Bot = json(serde_json::json!({
            "user_id": id(tool.bot()), "username": tool.bot(), "display_name": tool.display_name(),
            "description": tool.bot_description(), "owner_id": id("admin")
        }));
        observed.accounts.insert(tool, Account::Bot(bot));
        observed.in_team.insert(tool);
        observed.in_channel.extend(desired.channels_of(tool).into_iter().map(|name| (tool, id(name.as_str()))));
    }
    for (number, wanted) in desired.webhooks.iter().enumerate() {
        let hook = hook_of(wanted, number);
        keep_url(&mut observed, wanted, &hook);
        observed.hooks.push(hook);
    }
    observed
}

fn keep_url(observed: &mut Observed, wanted: &Webhook, hook: &Hook) {
    let url = format!("https://mattermost.cicd.local:8065/hooks/{}", hook.id.expose());
    observed.urls.insert(wanted.secret_name(), Secret::new(url));
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(ToString::to_string).collect()
}

/// The plan after `drift` of a finished server.
fn after(drift: impl FnOnce(&mut Observed)) -> Vec<String> {
    let desired = desired();
    let mut observed = finished(&desired);
    drift(&mut observed);
    lines(&plan(&desired, &observed))
}

fn hook(observed: &mut Observed, tool: Tool) -> &mut Hook {
    observed.hooks.iter_mut().find(|hook| hook.display_name == tool.webhook_name()).unwrap()
}

fn channel<'a>(observed: &'a mut Observed, name: &str) -> &'a mut Channel {
    observed.channels.get_mut(name).unwrap()
}

fn bot(observed: &mut Observed, tool: Tool) -> &mut Bot {
    match observed.accounts.get_mut(&tool) {
        Some(Account::Bot(bot)) => bot,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_is_as_desired_is_left_alone() {
    assert_eq!(after(|_| {}), Vec::<String>::new());
}

#[test]
fn an_empty_server_gets_everything_in_an_order_that_works() {
    let plan = plan(&desired(), &Observed::default());
    insta::assert_snapshot!(lines(&plan).join("\n"), @"
    + team engineering
    + channel builds
    + channel code-reviews
    + channel alerts
    + bot jenkins-bot
    + bot jenkins-bot in the team
    + bot jenkins-bot in channel alerts
    + bot jenkins-bot in channel builds
    + bot gitlab-bot
    + bot gitlab-bot in the team
    + bot gitlab-bot in channel builds
    + bot gitlab-bot in channel code-reviews
    + bot sonarqube-bot
    + bot sonarqube-bot in the team
    + bot sonarqube-bot in channel alerts
    + webhook of jenkins in builds
    + webhook of jenkins in alerts
    + webhook of gitlab in code-reviews
    + webhook of sonarqube in alerts
    ");
    let json = serde_json::to_string(&plan.actions).unwrap();
    assert!(json.starts_with(r#"[{"action":"create-team","team":"engineering"},{"action":"create-channel","channel":"builds"}"#), "{json}");
}

#[test]
fn only_tools_of_the_site_get_bots_and_webhooks() {
    let plan = plan(&desired_of("format = 1\naddresses = [\"192.168.1.20\"]\n"), &Observed::default());
    assert_eq!(lines(&plan), ["+ team engineering", "+ channel builds", "+ channel code-reviews", "+ channel alerts"]);
}

#[test]
fn a_webhook_is_locked_unless_its_tool_names_channels_in_what_it_sends() {
    let desired = desired();
    let all: Vec<(String, bool)> = desired.webhooks.iter().map(|webhook| (webhook.secret_name(), webhook.is_locked())).collect();
    let expected = [
        ("WEBHOOK_JENKINS_BUILDS", true),
        ("WEBHOOK_JENKINS_ALERTS", true),
        ("WEBHOOK_GITLAB_CODE_REVIEWS", false),
        ("WEBHOOK_SONARQUBE_ALERTS", true),
    ];
    assert_eq!(all, expected.map(|(name, locked)| (name.to_owned(), locked)));
    let one = desired_of(&SITE.replace("projects = [\"group/project\"]", "events = { push = \"code-reviews\" }"));
    assert!(one.webhooks.iter().all(Webhook::is_locked));
}

#[test]
fn each_drift_of_team_channels_and_bots_is_undone() {
    type Drift = fn(&mut Observed);
    let table: [(&str, Drift, &[&str]); 12] = [
        (
            "team renamed",
            |o| o.team.as_mut().unwrap().display_name = "X".into(),
            &["~ team engineering: display name \"X\" → \"Engineering\""],
        ),
        ("team archived", |o| o.team.as_mut().unwrap().delete_at = 1, &["~ team engineering: bring it back from the archive"]),
        ("display name", |o| channel(o, "builds").display_name = "B".into(), &["~ channel builds: display name"]),
        (
            "purpose and header",
            |o| (channel(o, "builds").purpose, channel(o, "builds").header) = ("p".into(), "h".into()),
            &["~ channel builds: purpose, header"],
        ),
        ("bot deactivated", |o| bot(o, Tool::Jenkins).delete_at = 1, &["~ bot jenkins-bot: activate it again"]),
        ("bot renamed", |o| bot(o, Tool::Jenkins).display_name = "J".into(), &["~ bot jenkins-bot: names"]),
        ("out of the team", |o| o.in_team.retain(|tool| *tool != Tool::Gitlab), &["+ bot gitlab-bot in the team"]),
        (
            "out of a channel",
            |o| o.in_channel.retain(|entry| *entry != (Tool::Gitlab, id("builds"))),
            &["+ bot gitlab-bot in channel builds"],
        ),
        (
            // Archiving deletes the webhooks of a channel for good.
            "archived",
            |o| {
                channel(o, "alerts").delete_at = 1;
                o.hooks.retain(|hook| hook.channel_id != id("alerts"));
            },
            &["~ channel alerts: bring it back from the archive", "+ webhook of jenkins in alerts", "+ webhook of sonarqube in alerts"],
        ),
        (
            "archived and restored",
            |o| o.hooks.retain(|hook| hook.channel_id != id("alerts")),
            &["+ webhook of jenkins in alerts", "+ webhook of sonarqube in alerts"],
        ),
        (
            "renamed",
            |o| {
                let mut channel = o.channels.remove("builds").unwrap();
                channel.name = "ci".into();
                o.elsewhere.insert(channel.id.clone(), channel);
            },
            &["~ channel builds: it is called ci now"],
        ),
        (
            "bot gone for good",
            |o| {
                o.accounts.insert(Tool::Sonarqube, Account::Missing);
                o.in_team.remove(&Tool::Sonarqube);
                o.in_channel.remove(&(Tool::Sonarqube, id("alerts")));
            },
            &[
                "+ bot sonarqube-bot",
                "+ bot sonarqube-bot in the team",
                "+ bot sonarqube-bot in channel alerts",
                "+ webhook of sonarqube in alerts",
                "- webhook \"SonarQube (chatops)\": it does not belong to the tool's bot",
            ],
        ),
    ];
    for (what, drift, expected) in table {
        assert_eq!(after(drift), expected, "{what}");
    }
}

#[test]
fn each_drift_of_webhooks_is_undone_without_a_new_address_where_that_is_possible() {
    type Drift = fn(&mut Observed);
    let table: [(&str, Drift, &[&str]); 10] = [
        ("deleted", |o| o.hooks.retain(|hook| hook.user_id != id("gitlab-bot")), &["+ webhook of gitlab in code-reviews"]),
        ("name", |o| hook(o, Tool::Jenkins).display_name = "x".into(), &["~ webhook of jenkins in builds: name"]),
        ("description", |o| hook(o, Tool::Jenkins).description = "x".into(), &["~ webhook of jenkins in builds: description"]),
        (
            "name and description: its URL is in secrets.env, and our bot owns it",
            |o| (hook(o, Tool::Jenkins).description, hook(o, Tool::Jenkins).display_name) = ("x".into(), "y".into()),
            &["~ webhook of jenkins in builds: name, description"],
        ),
        ("unlocked", |o| hook(o, Tool::Jenkins).channel_locked = false, &["~ webhook of jenkins in builds: lock"]),
        ("locked", |o| hook(o, Tool::Gitlab).channel_locked = true, &["~ webhook of gitlab in code-reviews: lock"]),
        (
            "moved to another channel of ours",
            |o| hook(o, Tool::Jenkins).channel_id = id("alerts"),
            &["~ webhook of jenkins in builds: channel"],
        ),
        (
            "moved to a channel of somebody else's",
            |o| {
                hook(o, Tool::Jenkins).channel_id = id("random");
                let channel = json(serde_json::json!({
                    "id": id("random"), "team_id": id("team"), "name": "random", "display_name": "R", "type": "O"
                }));
                o.elsewhere.insert(id("random"), channel);
            },
            &["~ webhook of jenkins in builds: channel"],
        ),
        (
            "owned by a person",
            |o| hook(o, Tool::Sonarqube).user_id = id("somebody"),
            &["+ webhook of sonarqube in alerts", "- webhook \"SonarQube (chatops)\": it does not belong to the tool's bot"],
        ),
        (
            "secrets.env lost",
            |o| o.urls.clear(),
            &[
                "~ secrets.env: WEBHOOK_JENKINS_BUILDS",
                "~ secrets.env: WEBHOOK_JENKINS_ALERTS",
                "~ secrets.env: WEBHOOK_GITLAB_CODE_REVIEWS",
                "~ secrets.env: WEBHOOK_SONARQUBE_ALERTS",
            ],
        ),
    ];
    for (what, drift, expected) in table {
        assert_eq!(after(drift), expected, "{what}");
    }
}

#[test]
fn of_webhooks_that_do_the_same_the_one_in_use_stays() {
    let desired = desired();
    let wanted = &desired.webhooks[0];
    let mut observed = finished(&desired);
    let (older, newer) = (hook_of(wanted, 7), hook_of(wanted, 8));
    observed.hooks.extend([older.clone(), newer.clone()]);
    let deleted = |observed: &Observed| -> Vec<String> {
        let plan = plan(&desired, observed);
        let ids = plan.actions.iter().filter_map(|action| match action {
            super::Action::DeleteWebhook { hook, .. } => Some(hook.expose().trim_end_matches('z').to_owned()),
            _ => None,
        });
        ids.collect()
    };
    assert_eq!(deleted(&observed), ["hook7", "hook8"]);
    keep_url(&mut observed, wanted, &newer);
    assert_eq!(deleted(&observed), ["hook0", "hook7"], "its URL is in secrets.env");
    observed.urls.clear();
    assert_eq!(deleted(&observed), ["hook7", "hook8"], "the oldest, where nothing else decides");
    observed.hooks[0].user_id = id("somebody");
    assert_eq!(deleted(&observed), ["hook8", "hook0"], "a stranger's is none to keep");
}

#[test]
fn what_somebody_else_made_is_left_alone() {
    let plan = after(|observed| {
        let mut foreign = hook_of(&desired().webhooks[0], 7);
        (foreign.display_name, foreign.description, foreign.user_id) = ("Jenkins".into(), String::new(), id("somebody"));
        let mut by_hand_for_our_bot = foreign.clone();
        by_hand_for_our_bot.user_id = id("jenkins-bot");
        observed.hooks.extend([foreign, by_hand_for_our_bot]);
    });
    assert_eq!(plan, Vec::<String>::new());
}

#[test]
fn the_url_of_a_strangers_webhook_in_our_line_does_not_make_it_ours() {
    let plan = after(|observed| {
        let mut foreign = observed.hooks.remove(0);
        (foreign.display_name, foreign.description, foreign.user_id) = ("Mine".into(), String::new(), id("somebody"));
        observed.hooks.push(foreign);
    });
    assert_eq!(plan, ["+ webhook of jenkins in builds"]);
}

#[test]
fn webhooks_of_a_tool_that_is_gone_are_deleted_because_they_are_credentials() {
    let without = desired_of(&SITE.replace("[jenkins]\nurl = \"https://jenkins.cicd.local\"\n", ""));
    let plan = plan(&without, &finished(&desired()));
    assert_eq!(lines(&plan), ["- webhook \"Jenkins (chatops)\": site.toml asks for it no more"; 2]);
}

#[test]
fn a_channel_is_made_private_but_never_public() {
    let private = desired_of(&format!(
        "{SITE}\n[[channel]]\nname = \"builds\"\nprivate = true\n[[channel]]\nname = \"alerts\"\n[[channel]]\nname = \"code-reviews\"\n"
    ));
    let mut observed = finished(&private);
    channel(&mut observed, "builds").kind = "O".into();
    assert_eq!(lines(&plan(&private, &observed)), ["~ channel builds: private"]);
    let mut observed = finished(&desired());
    channel(&mut observed, "builds").kind = "P".into();
    let plan = plan(&desired(), &observed);
    assert!(plan.actions.is_empty() && plan.remarks[0].contains("builds is private and stays so"), "{plan:?}");
}

#[test]
fn an_account_that_is_not_ours_under_a_bots_name_stops_everything() {
    let mut observed = finished(&desired());
    observed.accounts.insert(Tool::Jenkins, Account::Person);
    bot(&mut observed, Tool::Gitlab).owner_id = "com.github.manland.mattermost-plugin-gitlab".into();
    let refused = plan(&desired(), &observed).check().unwrap_err();
    assert_eq!(refused.class(), images::Class::Check);
    let text = refused.to_string();
    assert!(text.contains("jenkins-bot is a person's") && text.contains("gitlab-bot belongs to the plugin com.github"), "{text}");
}

#[test]
fn no_form_of_a_plan_shows_the_id_of_a_webhook() {
    let desired = desired();
    let mut observed = finished(&desired);
    observed.urls = BTreeMap::new();
    let copies: Vec<Hook> = observed.hooks.clone();
    observed.hooks.extend(copies);
    observed.hooks.iter_mut().for_each(|hook| hook.channel_locked = !hook.channel_locked);
    let plan = plan(&desired, &observed);
    let shown = format!("{plan:?}\n{}\n{}", serde_json::to_string(&plan.actions).unwrap(), lines(&plan).join("\n"));
    assert!(plan.actions.len() > 8 && !shown.contains("hook0") && !shown.contains("hook1"), "{shown}");
}
