//! The answers that a real Mattermost gave, as the client reads them.

use std::path::Path;

use serde_json::Value;
use xtask::server::{ChannelPatch, Client, Failure, plugins, settings};
use xtask::site::secrets::Secret;

use super::common::{Answer, Server};
use super::{client, hook, hook_id, new_hook};

/// A client of a server that gives one recorded answer, whatever it is asked.
fn recorded(name: &str) -> Client {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/mattermost-double/contract").join(name).with_extension("json");
    let exchange: Value = serde_json::from_str(&fs_err::read_to_string(file).unwrap()).unwrap();
    let status = exchange["status"].as_u64().unwrap().try_into().unwrap();
    let body = match &exchange["response_body"] {
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    let headers: Vec<(String, String)> = serde_json::from_value(exchange["response_headers"].clone()).unwrap();
    let kept = |name: &str| ["token", "x-version-id"].contains(&name.to_lowercase().as_str());
    let headers: Vec<String> = headers.into_iter().filter(|(name, _)| kept(name)).map(|(name, value)| format!("{name}: {value}")).collect();
    client(&Server::start(move |_| headers.iter().fold(Answer::json(status, &body), |answer, line| answer.header(line.clone()))))
}

fn refusal(failure: Failure) -> (u16, String) {
    match failure {
        Failure::Refused { status, id, .. } => (status, id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_real_server_told_of_accounts_is_read() {
    let password = Secret::new("pass");
    assert!(recorded("008-login-ok").login("admin", &password).unwrap().is_administrator());
    assert!(recorded("007-login-bad").login("admin", &password).unwrap_err().is_wrong_password());
    assert_eq!(recorded("009-users-me").me().unwrap().username, "admin");
    assert_eq!(refusal(recorded("010-users-me-no-token").me().unwrap_err()), (401, "api.context.session_expired.app_error".to_owned()));
    let second = recorded("006-create-second-user-rest-openserver-false").create_user("second", "s@b", &password).unwrap_err();
    assert!(second.is("api.user.create_user.no_open_server"));
    assert!(!recorded("027-user-by-username").user("dev").unwrap().unwrap().is_bot);
    assert!(recorded("028-user-by-username-missing").user("ghost").unwrap().is_none());
    assert!(recorded("070-bot-user-object").user("ci-bot").unwrap().unwrap().is_bot);
    let bot = recorded("068-bot-get").bot("x").unwrap().unwrap();
    assert_eq!((bot.display_name.as_str(), bot.description.as_str(), bot.owner_id.len(), bot.delete_at), ("CI", "ci", 26, 0));
    assert_eq!(recorded("066-bot-create").create_bot("ci-bot", "CI", "ci").unwrap().username, "ci-bot");
    assert!(recorded("061-bot-create-disabled").create_bot("ci-bot", "CI", "ci").unwrap_err().is("api.bot.create_disabled"));
    assert!(recorded("067-bot-create-again").create_bot("ci-bot", "CI", "").unwrap_err().is("app.user.save.username_exists.app_error"));
}

#[test]
fn what_a_real_server_told_of_teams_and_channels_is_read() {
    assert_eq!(recorded("018-team-create").create_team("platform", "Platform").unwrap().display_name, "Platform");
    assert_eq!(recorded("022-team-by-name").team("platform").unwrap().unwrap().delete_at, 0);
    let again = recorded("019-team-create-again").create_team("platform", "Platform").unwrap_err();
    assert!(again.is("store.sql_team.save_team.existing.app_error"));
    let made = recorded("030-channel-create").create_channel("t", "O", &ChannelPatch::default()).unwrap();
    assert_eq!((made.name.as_str(), made.purpose.as_str(), made.is_private()), ("builds", "CI", false));
    assert!(recorded("032-channel-create-private").create_channel("t", "P", &ChannelPatch::default()).unwrap().is_private());
    assert!(recorded("037-channel-by-name-archived").channel("t", "builds").unwrap().is_none());
    assert!(recorded("038-channel-by-name-archived-include").channel("t", "builds").unwrap().unwrap().delete_at > 0);
    assert_eq!(recorded("040-channel-restore").restore_channel("c").unwrap().delete_at, 0);
    for name in ["042-team-member-add", "043-team-member-add-again"] {
        recorded(name).join_team("t", "u").unwrap();
    }
    for name in ["044-channel-member-add", "045-channel-member-add-again"] {
        recorded(name).join_channel("c", "u").unwrap();
    }
    assert!(recorded("026-team-member-creator").is_in_team("t", "u").unwrap());
    assert!(recorded("046-channel-member-get").is_in_channel("c", "u").unwrap());
}

#[test]
fn what_a_real_server_told_of_webhooks_is_read() {
    let made = recorded("080-hook-create-locked").create_hook(&new_hook()).unwrap();
    assert!(made.channel_locked && made.create_at > 0 && made.user_id.len() == 26);
    assert!(recorded("086-hook-list").hooks("t").unwrap().len() >= 5);
    assert_eq!(recorded("136-hook-update").change_hook(&hook()).unwrap().description, "upd");
    recorded("134-hook-delete").delete_hook(&hook_id()).unwrap();
    for name in ["144-hook-create-disabled-server", "145-hook-list-disabled-server"] {
        let failure = recorded(name).hooks("t").unwrap_err();
        assert_eq!(refusal(failure), (501, "api.incoming_webhook.disabled.app_error".to_owned()));
    }
    let unknown = recorded("139-hook-create-unknown-channel").create_hook(&new_hook()).unwrap_err();
    assert_eq!(refusal(unknown), (404, "app.channel.get.existing.app_error".to_owned()));
}

#[test]
fn what_a_real_server_told_of_itself_is_read() {
    let health = recorded("002-ping-server-status").ping().unwrap();
    assert_eq!((health.version.as_str(), health.is_good()), ("11.0.2", true));
    let refused = recorded("225-ping-server-status-db-down").ping().unwrap().check().unwrap_err().to_string();
    assert!(refused.contains("database UNHEALTHY"), "{refused}");
    let running = plugins::plugin_states(&recorded("160-plugins-statuses-good"), &["com.mattermost.calls", "jenkins"]).unwrap();
    assert_eq!(running, Vec::<String>::new());
    let tampered = plugins::plugin_states(&recorded("175-plugins-statuses-tampered-calls"), &["com.mattermost.calls"]).unwrap();
    assert!(tampered[0].starts_with("com.mattermost.calls: not installed"), "{tampered:?}");
    // Names are those that the server shows; a setting of a section that nobody made is not among them.
    let config = recorded("249-config-full").config().unwrap();
    let environment = recorded("248-config-environment").config_environment().unwrap();
    let lost = settings::lost(
        &config,
        &environment,
        [("MM_ANNOUNCEMENTSETTINGS_ADMINNOTICESENABLED", "false"), ("MM_TEAMSETTINGS_SITENAME", "x"), ("MM_SERVICESETTINGS_SITEURI", "x")],
    );
    let names: Vec<&str> = lost.iter().map(|lost| lost.name.as_str()).collect();
    assert_eq!(names, ["MM_TEAMSETTINGS_SITENAME", "MM_SERVICESETTINGS_SITEURI"]);
}
