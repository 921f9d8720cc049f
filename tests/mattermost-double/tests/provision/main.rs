//! Provisioning against the API double and a PostgreSQL: whatever happened before, the same command ends in the same state.
//!
//! Without a PostgreSQL server on this machine the tests are ignored with that reason; with `CI` in the environment they fail.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with a place")]

mod cut;
#[allow(dead_code, reason = "the recorded answers need all of it")]
#[path = "../contract/place.rs"]
mod place;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use xtask::server::settings;
use xtask::server::start::{First, other_people};
use xtask::site::secrets::Secret;

use cut::Cut;
use world::{Double, NAME, PASSWORD, World};

/// A test: what it claims, and how that is shown.
type Claim = (&'static str, fn(&World));

const CLAIMS: [Claim; 22] = [
    ("each_answer_that_is_lost_is_made_good_by_the_same_run", |world| each_cut(world, Cut::AnswerOf)),
    ("a_run_that_ends_at_any_request_is_finished_by_the_next_one", |world| each_cut(world, Cut::From)),
    ("the_second_run_changes_nothing", the_second_run_changes_nothing),
    ("every_webhook_posts_as_its_bot", every_webhook_posts),
    ("gitlab_jenkins_and_sonarqube_post_as_themselves_where_they_should", each_tools_own_form),
    ("a_slash_command_is_made_with_a_token_and_its_word_is_taken_then", a_slash_command),
    ("after_a_reset_of_the_database_everything_is_made_again", after_a_reset),
    ("a_lost_secrets_file_gets_the_same_addresses", a_lost_secrets_file),
    ("an_archived_channel_comes_back_with_new_webhooks", an_archived_channel),
    ("a_restored_channel_gets_its_webhooks_again", a_restored_channel),
    ("an_archived_team_comes_back", an_archived_team),
    ("a_channel_that_is_to_be_private_is_made_so_and_its_webhooks_stay", a_private_channel),
    ("a_renamed_channel_gets_its_name_again", a_renamed_channel),
    ("a_deactivated_bot_is_activated", a_deactivated_bot),
    ("a_webhook_edited_by_hand_is_mended_and_keeps_its_address", a_hand_edited_webhook),
    ("webhooks_that_do_the_same_are_deleted_but_for_the_one_in_use", doubled_webhooks),
    ("what_people_made_stays", what_people_made_stays),
    ("a_plan_changes_nothing", a_plan_changes_nothing),
    ("the_administrator_is_made_once_and_strangers_are_named", the_administrator_is_made_once),
    ("a_locked_out_administrator_is_told_what_unlocks_the_account_and_it_does", a_locked_out_administrator),
    ("with_a_second_factor_a_token_is_asked_for_and_provisions", with_a_second_factor),
    ("settings_that_did_not_take_effect_are_named", settings_are_read_back),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = if arguments.list { Err("only listed".to_owned()) } else { place::Postgres::find() };
    let world = found.map(|bin| Arc::new(World::start(bin)));
    let trials = CLAIMS.map(|(name, claim)| match &world {
        Ok(world) => {
            let world = Arc::clone(world);
            Trial::test(name, move || {
                claim(&world);
                Ok(())
            })
        }
        Err(why) if std::env::var_os("CI").is_some() && !arguments.list => {
            let why = why.clone();
            Trial::test(name, move || Err(Failed::from(why)))
        }
        Err(why) => Trial::test(format!("{name} ({why})"), || Ok(())).with_ignored_flag(true),
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// One connection or all from one on are cut, for every request that a whole run makes.
fn each_cut(world: &World, cut: fn(usize) -> Cut) {
    let double = Double::start(world);
    let whole = {
        let through = double.through(Cut::Never);
        through.provision().unwrap();
        through.requests()
    };
    assert!(whole > 40, "only {whole} requests");
    for at in 1..=whole {
        double.reset();
        let through = double.through(cut(at));
        match (through.provision(), cut(at)) {
            (Ok(()), cut) => double.must_be_finished(&format!("{cut:?}")),
            (Err(error), Cut::From(_)) => assert_eq!(error.class(), images::Class::Server, "{error}"),
            (Err(error), cut) => panic!("{cut:?}: {error}"),
        }
        double.provision().unwrap_or_else(|error| panic!("after {:?}: {error}", cut(at)));
        double.must_be_finished(&format!("after {:?}", cut(at)));
    }
    println!("{whole} requests, each cut once");
}

fn the_second_run_changes_nothing(world: &World) {
    let double = Double::provisioned(world);
    let (before, secrets) = (double.hook_ids(), double.secrets());
    assert_eq!(double.changes(), Vec::<String>::new());
    assert_eq!((double.hook_ids(), double.secrets()), (before, secrets));
    assert_eq!(double.secrets_mode(), 0o600);
}

fn every_webhook_posts(world: &World) {
    let double = Double::provisioned(world);
    let urls = double.urls();
    assert_eq!(urls.len(), 4);
    for (name, url) in urls {
        assert_eq!(double.post(&url, r#"{"text":"hello"}"#), 200, "{name}");
        // A locked one goes nowhere else; GitLab names the channel of each event itself.
        let elsewhere = double.post(&url, r#"{"text":"hello","channel":"builds"}"#);
        let open = name.contains("GITLAB") || name.ends_with("BUILDS");
        assert_eq!(elsewhere, if open { 200 } else { 403 }, "{name}");
    }
}

/// What the tools really send: Jenkins' plugin 3.1.1 JSON, GitLab a form, and for SonarQube the gateway what it made of a recorded request.
fn each_tools_own_form(world: &World) {
    let double = Double::provisioned(world);
    let url = |name: &str| double.urls().into_iter().find(|(known, _)| known == name).unwrap().1;
    let jenkins = |channel: &str| {
        format!(
            r##"{{"text":"","attachments":[{{"fallback":"job #7","color":"good","fields":[{{"short":false,"value":"job #7"}}],
               "mrkdwn_in":["pretext","text","fields"]}}],"channel":"{channel}","username":"jenkins","icon_url":""}}"##
        )
    };
    let gitlab = xtask::integrations::gitlab::event;
    let snapshot = include_str!("../../../../images/alert-gateway/src/sonarqube/snapshots/alert_gateway__sonarqube__tests__recorded.snap");
    let rendered: serde_json::Value = serde_json::from_str(snapshot.splitn(3, "---\n").nth(2).unwrap()).unwrap();
    let sonarqube = rendered["93-9.9-delivery-error-first"].to_string();
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    for (name, kind, body, channel, bot, author, shown) in [
        ("WEBHOOK_JENKINS_BUILDS", json, jenkins("builds"), "builds", "jenkins-bot", Some("jenkins"), "job #7"),
        ("WEBHOOK_JENKINS_ALERTS", json, jenkins("alerts"), "alerts", "jenkins-bot", Some("jenkins"), "job #7"),
        ("WEBHOOK_GITLAB_CODE_REVIEWS", form, gitlab("code-reviews"), "code-reviews", "gitlab-bot", Some("GitLab"), "a test"),
        ("WEBHOOK_GITLAB_CODE_REVIEWS", form, gitlab("builds"), "builds", "gitlab-bot", Some("GitLab"), "a test"),
        ("WEBHOOK_SONARQUBE_ALERTS", json, sonarqube, "alerts", "sonarqube-bot", None, "Quality gate failed"),
    ] {
        assert_eq!(double.post_as(&url(name), kind, &body), 200, "{name} to {channel}");
        let post = double.newest_post(channel);
        assert_eq!(post["user_id"], double.user(bot), "{name} to {channel}");
        assert_eq!(post["props"]["override_username"].as_str(), author, "{name} to {channel}");
        let fallback = post["props"]["attachments"][0]["fallback"].as_str().unwrap();
        assert!(fallback.starts_with(shown), "{name} to {channel}: {fallback}");
    }
    // Where the article's room would have led: a post by somebody called engineering.
    assert_eq!(double.post(&url("WEBHOOK_JENKINS_BUILDS"), &jenkins("builds").replace("\"jenkins\"", "\"engineering\"")), 200);
    assert_eq!(double.newest_post("builds")["props"]["override_username"], "engineering");
}

fn a_slash_command(world: &World) {
    let double = Double::provisioned(world);
    let mut client = double.client();
    client.login(NAME, &Secret::new(PASSWORD)).unwrap();
    let team = client.team("engineering").unwrap().unwrap().id;
    let make = || client.create_command(&team, "group-project", "https://gitlab.cicd.local/trigger", "GitLab group/project");
    assert_eq!(make().unwrap().expose().len(), 26);
    assert!(make().unwrap_err().is("api.command.duplicate_trigger.app_error"));
}

fn after_a_reset(world: &World) {
    let double = Double::provisioned(world);
    let before = double.urls();
    double.reset_database();
    double.provision().unwrap();
    double.must_be_finished("after a reset of the database");
    assert!(double.urls().iter().zip(&before).all(|(new, old)| new.0 == old.0 && new.1 != old.1), "each address is a new one");
}

fn a_lost_secrets_file(world: &World) {
    let double = Double::provisioned(world);
    let before = double.urls();
    double.lose_secrets();
    assert_eq!(double.changes().len(), 4);
    double.must_be_finished("after secrets.env was lost");
    assert_eq!(double.urls(), before);
}

fn an_archived_channel(world: &World) {
    let double = Double::provisioned(world);
    let channel = double.channel("alerts");
    double.call("DELETE", &format!("/channels/{}", channel.id), None);
    assert_eq!(
        double.changes(),
        ["~ channel alerts: bring it back from the archive", "+ webhook of jenkins in alerts", "+ webhook of sonarqube in alerts"]
    );
    double.must_be_finished("after a channel was archived");
    assert_eq!(double.channel("alerts").id, channel.id);
}

fn a_restored_channel(world: &World) {
    let double = Double::provisioned(world);
    let channel = double.channel("alerts");
    double.call("DELETE", &format!("/channels/{}", channel.id), None);
    double.call("POST", &format!("/channels/{}/restore", channel.id), None);
    assert_eq!(double.changes(), ["+ webhook of jenkins in alerts", "+ webhook of sonarqube in alerts"]);
    double.must_be_finished("after a channel was archived and restored");
}

fn an_archived_team(world: &World) {
    let double = Double::provisioned(world);
    let urls = double.urls();
    double.call("DELETE", &format!("/teams/{}", double.channel("builds").team_id), None);
    assert_eq!(double.changes(), ["~ team engineering: bring it back from the archive"]);
    double.must_be_finished("after the team was archived");
    assert_eq!(double.urls(), urls);
}

fn a_private_channel(world: &World) {
    let mut double = Double::provisioned(world);
    let (channel, urls) = (double.channel("alerts").id, double.urls());
    double
        .describe("[[channel]]\nname = \"builds\"\n[[channel]]\nname = \"code-reviews\"\n[[channel]]\nname = \"alerts\"\nprivate = true\n");
    assert!(double.changes().contains(&"~ channel alerts: private".to_owned()));
    double.must_be_finished("after a channel was made private");
    assert_eq!((double.channel("alerts").id, double.urls()), (channel, urls));
}

fn a_renamed_channel(world: &World) {
    let double = Double::provisioned(world);
    let (channel, urls) = (double.channel("builds"), double.urls());
    double.call("PUT", &format!("/channels/{}/patch", channel.id), Some(r#"{"name":"ci","display_name":"CI"}"#));
    assert_eq!(double.changes(), ["~ channel builds: it is called ci now", "~ channel builds: display name"]);
    double.must_be_finished("after a channel was renamed");
    assert_eq!((double.channel("builds").id, double.urls()), (channel.id, urls));
}

fn a_deactivated_bot(world: &World) {
    let double = Double::provisioned(world);
    let bot = double.user("jenkins-bot");
    double.call("POST", &format!("/bots/{bot}/disable"), None);
    assert_eq!(double.changes(), ["~ bot jenkins-bot: activate it again"]);
    double.must_be_finished("after a bot was deactivated");
}

fn a_hand_edited_webhook(world: &World) {
    let double = Double::provisioned(world);
    let urls = double.urls();
    for (edit, expected) in [
        (r#""display_name":"mine","description":"mine""#, "name, description"),
        (r#""channel_locked":false"#, "lock"),
        (r#""description":"""#, "description"),
    ] {
        double.edit_hook("WEBHOOK_JENKINS_BUILDS", edit);
        assert_eq!(double.changes(), [format!("~ webhook of jenkins in builds: {expected}")]);
        double.must_be_finished(edit);
        assert_eq!(double.urls(), urls);
    }
    let elsewhere = format!(r#""channel_id":"{}""#, double.channel("town-square").id);
    double.edit_hook("WEBHOOK_JENKINS_BUILDS", &elsewhere);
    assert_eq!(double.changes(), ["~ webhook of jenkins in builds: channel"]);
    assert_eq!(double.urls(), urls);
}

fn doubled_webhooks(world: &World) {
    let double = Double::provisioned(world);
    let urls = double.urls();
    double.copy_every_hook();
    double.copy_every_hook();
    assert_eq!(double.hook_ids().len(), 12);
    assert_eq!(double.changes().len(), 8);
    double.must_be_finished("after webhooks were doubled");
    assert_eq!(double.urls(), urls);
}

fn what_people_made_stays(world: &World) {
    let double = Double::provisioned(world);
    let builds = double.channel("builds").id;
    let bot = double.user("jenkins-bot");
    for body in [
        format!(r#"{{"channel_id":"{builds}","display_name":"Jenkins","description":"by hand"}}"#),
        format!(r#"{{"channel_id":"{builds}","display_name":"nightly","user_id":"{bot}"}}"#),
    ] {
        double.call("POST", "/hooks/incoming", Some(&body));
    }
    assert_eq!(double.changes(), Vec::<String>::new());
    assert_eq!(double.hook_ids().len(), 6);
}

fn a_plan_changes_nothing(world: &World) {
    let double = Double::start(world);
    assert_eq!(double.plan().len(), 19);
    assert_eq!(double.plan().len(), 19);
    assert!(double.urls().is_empty());
}

fn the_administrator_is_made_once(world: &World) {
    let double = Double::start(world);
    let mut client = double.client();
    assert_eq!(double.make_administrator(&mut client), First::There);
    assert_eq!(other_people(&client, "admin").unwrap(), Vec::<String>::new());
    double.call("POST", "/users", Some(r#"{"username":"intruder","email":"i@cicd.local","password":"Correct-horse-9-battery"}"#));
    assert_eq!(other_people(&client, "admin").unwrap(), ["intruder"]);
}

fn a_locked_out_administrator(world: &World) {
    let double = Double::start(world);
    let hint = |password| double.sign_in(password).map(drop).unwrap_err().hint_text().unwrap().to_owned();
    for _ in 0..10 {
        assert!(hint("wrong").contains("MATTERMOST_ADMIN_PASSWORD in secrets.env"));
    }
    assert!(hint(PASSWORD).contains("`cargo xtask mmctl user change-password NAME`"));
    double.mmctl(&format!("user change-password {NAME} --password {PASSWORD}"));
    double.sign_in(PASSWORD).unwrap();
}

fn with_a_second_factor(world: &World) {
    let double = Double::start(world);
    let id = double.user(NAME);
    let token = double.call("POST", &format!("/users/{id}/tokens"), Some(r#"{"description":"provisioning"}"#));
    double.call("PUT", &format!("/users/{id}/mfa"), Some(r#"{"activate":true,"code":"123456"}"#));
    let refused = double.provision().unwrap_err();
    assert!(refused.hint_text().is_some_and(|hint| hint.contains("--token-file FILE")), "{refused}");
    double.provision_with(token["token"].as_str().unwrap()).unwrap();
}

fn settings_are_read_back(world: &World) {
    let double = Double::start(world);
    let mut client = double.client();
    double.make_administrator(&mut client);
    let expected = [
        ("MM_SERVICESETTINGS_ENABLEBOTACCOUNTCREATION", "true"),
        ("MM_SERVICESETTINGS_ENABLELOCALMODE", "true"),
        ("MM_SQLSETTINGS_DATASOURCE", "postgres://hush"),
        // Started with quotes around it, as Docker's --env-file keeps them.
        ("MM_SERVICESETTINGS_ENABLELINKPREVIEWS", "false"),
        ("MM_TEAMSETTINGS_SITENAME", "Ours"),
    ];
    let lost = settings::read_back(&client, expected).unwrap();
    let names: Vec<&str> = lost.iter().map(|lost| lost.name.as_str()).collect();
    assert_eq!(names, ["MM_SERVICESETTINGS_ENABLELINKPREVIEWS", "MM_TEAMSETTINGS_SITENAME"]);
}
