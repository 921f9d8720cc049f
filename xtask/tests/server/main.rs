//! The client of Mattermost's API against a server that answers well or badly: what is asked again, what is not, what is said.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with a place")]

#[path = "../../../images/tests/common/mod.rs"]
mod common;
mod recorded;
mod tls;

use std::time::Duration;

use common::{Answer, Request, Server};
use images::Error;
use xtask::server::model::{Hook, HookId};
use xtask::server::start::{First, create_first_administrator, other_people};
use xtask::server::{ChannelPatch, Client, Endpoint, Failure, NewHook, Patience, Result};
use xtask::site::secrets::Secret;

const HOOK: &str = "h00kh00kh00kh00kh00kh00kh0";

fn patience() -> Patience {
    Patience { tries: 3, pause: Duration::from_millis(1), longest: Duration::from_secs(2), timeout: Duration::from_secs(5) }
}

fn client(server: &Server) -> Client {
    let endpoint = Endpoint { url: server.url("/").parse().unwrap(), ca: None, address: None };
    Client::new(&endpoint, patience()).unwrap().with_token(Secret::new("t0ken"))
}

fn refusal(status: u16) -> (u16, String, &'static str) {
    let id = match status {
        401 => "api.context.session_expired.app_error",
        403 => "api.context.permissions.app_error",
        404 => "app.something.missing.app_error",
        501 => "api.incoming_webhook.disabled.app_error",
        _ => "app.something.app_error",
    };
    (status, format!(r#"{{"id":"{id}","message":"About {HOOK}.","detailed_error":"{HOOK}","request_id":"r","status_code":{status}}}"#), id)
}

fn hook() -> Hook {
    let json = format!(r#"{{"id":"{HOOK}","user_id":"u","channel_id":"c","team_id":"t"}}"#);
    serde_json::from_str(&json).unwrap()
}

fn hook_id() -> HookId {
    HookId::of_url(&format!("https://chat.test/hooks/{HOOK}")).unwrap()
}

type Ask = fn(&mut Client) -> Result<()>;

/// Every call; whether a second time changes nothing; whether Mattermost's 404 is an answer.
const CALLS: [(&str, Ask, bool, bool); 29] = [
    ("login", |c| c.login("admin", &Secret::new("pass")).map(drop), true, false),
    ("logout", |c| c.logout(), true, false),
    ("me", |c| c.me().map(drop), true, false),
    ("create_user", |c| c.create_user("admin", "a@b", &Secret::new("pass")).map(drop), false, false),
    ("users", |c| c.users().map(drop), true, false),
    ("user", |c| c.user("x").map(drop), true, true),
    ("bot", |c| c.bot("x").map(drop), true, true),
    ("create_bot", |c| c.create_bot("x", "X", "x").map(drop), false, false),
    ("change_bot", |c| c.change_bot(&serde_json::from_str(r#"{"user_id":"u","username":"x"}"#).unwrap(), "X", "x").map(drop), true, false),
    ("enable_bot", |c| c.enable_bot("x").map(drop), true, false),
    ("config", |c| c.config().map(drop), true, false),
    ("config_environment", |c| c.config_environment().map(drop), true, false),
    ("plugin_statuses", |c| c.plugin_statuses().map(drop), true, false),
    ("team", |c| c.team("x").map(drop), true, true),
    ("create_team", |c| c.create_team("x", "X").map(drop), false, false),
    ("change_team", |c| c.change_team("x", "X").map(drop), true, false),
    ("restore_team", |c| c.restore_team("x").map(drop), true, false),
    ("channel", |c| c.channel("t", "x").map(drop), true, true),
    ("channel_by_id", |c| c.channel_by_id("x").map(drop), true, true),
    ("create_channel", |c| c.create_channel("t", "O", &ChannelPatch::default()).map(drop), false, false),
    ("change_channel", |c| c.change_channel("x", &ChannelPatch::default()).map(drop), true, false),
    ("make_private", |c| c.make_private("x").map(drop), true, false),
    ("restore_channel", |c| c.restore_channel("x").map(drop), true, false),
    ("is_in_team", |c| c.is_in_team("t", "u").map(drop), true, true),
    ("join_team", |c| c.join_team("t", "u"), true, false),
    ("is_in_channel", |c| c.is_in_channel("c", "u").map(drop), true, true),
    ("join_channel", |c| c.join_channel("c", "u"), true, false),
    ("hooks", |c| c.hooks("t").map(drop), true, false),
    ("create_hook", |c| c.create_hook(&new_hook()).map(drop), false, false),
];

/// Those whose path holds a webhook's id.
const HOOK_CALLS: [(&str, Ask); 2] =
    [("change_hook", |c| c.change_hook(&hook()).map(drop)), ("delete_hook", |c| c.delete_hook(&hook_id()))];

fn new_hook() -> NewHook {
    let text = || "x".to_owned();
    NewHook { user_id: text(), channel_id: text(), display_name: text(), description: text(), channel_locked: true }
}

fn every_call() -> impl Iterator<Item = (&'static str, Ask, bool, bool)> {
    CALLS.into_iter().chain(HOOK_CALLS.map(|(name, ask)| (name, ask, true, false)))
}

#[test]
fn each_refusal_of_each_call_is_asked_again_only_where_that_may_help_and_does_no_harm() {
    for status in [400, 401, 403, 404, 429, 500, 501, 502, 503] {
        for (name, ask, again, may_be_missing) in every_call() {
            let (status, body, id) = refusal(status);
            let server = Server::start(move |_| Answer::json(status, &body));
            let result = ask(&mut client(&server));
            if status == 404 && may_be_missing {
                assert!(result.is_ok(), "{name}");
                continue;
            }
            let failure = result.expect_err(name);
            assert!(failure.is(id), "{name} {status}: {failure:?}");
            let (happened, passes) = (status >= 500 && status != 501, status == 429 || (status >= 500 && status != 501));
            assert_eq!(failure.is_uncertain(), happened, "{name} {status}");
            let expected = if passes && (again || !happened) { 3 } else { 1 };
            assert_eq!(server.requests().len(), expected, "{name} {status}");
            let error = Error::from(failure);
            assert_eq!((error.class(), error.message()), (images::Class::Server, format!("Mattermost says no: {id}").as_str()), "{name}");
        }
    }
}

#[test]
fn no_error_shows_the_id_of_a_webhook_the_token_or_the_password() {
    for (name, ask, ..) in every_call() {
        for answer in [(403, refusal(403).1), (200, format!(r#"{{"id":"{HOOK}","#)), (200, format!(r#"{{"id":{{"{HOOK}":1}}}}"#))] {
            let server = Server::start(move |_| Answer::json(answer.0, &answer.1));
            let Err(failure) = ask(&mut client(&server)) else { continue };
            let debug = format!("{failure:?}");
            let shown = format!("{debug} {}", Error::from(failure));
            assert!(!shown.contains("t0ken") && !shown.contains("pass"), "{name}: {shown}");
            let is_hook = name.contains("hook") || matches!(name, "config" | "users");
            assert!(!is_hook || !shown.contains(HOOK), "{name}: {shown}");
        }
    }
    assert_eq!(format!("{:?}", hook_id()), "HookId(…)");
}

#[test]
fn a_cut_connection_is_asked_again_only_where_the_second_time_changes_nothing() {
    for (name, ask, again, _) in every_call() {
        let server = Server::start(|_| Answer::json(200, r#"{"id":"x"}"#).cut(4));
        let failure = ask(&mut client(&server)).expect_err(name);
        assert!(failure.is_uncertain() && matches!(failure, Failure::Cut { .. }), "{name}: {failure:?}");
        assert_eq!(server.requests().len(), if again { 3 } else { 1 }, "{name}");
    }
}

#[test]
fn the_pause_that_a_limit_asks_for_is_kept_unless_it_is_too_long() {
    let limited = |header: &'static str| {
        let server = Server::start(move |request| match request.earlier {
            0 => Answer::json(429, r#"{"id":"api.limit.app_error"}"#).header(header),
            _ => Answer::json(200, r#"{"id":"x","username":"admin"}"#),
        });
        let start = std::time::Instant::now();
        (client(&server).me().is_ok(), start.elapsed() >= Duration::from_secs(1))
    };
    assert_eq!(limited("X-RateLimit-Reset: 1"), (true, true));
    assert_eq!(limited("Retry-After: 1"), (true, true));
    assert!(!limited("Retry-After: 3600").0, "a person comes back later");
}

#[test]
fn what_is_not_mattermost_is_told_so() {
    for (answer, wanted) in [
        (Answer::status as fn(u16) -> Answer, "the server answered 404"),
        (|_| Answer::json(200, "<html>"), "the answer is not Mattermost's"),
    ] {
        let server = Server::start(move |_| answer(404));
        let error = Error::from(client(&server).team("x").expect_err("no team"));
        assert!(error.message().starts_with(wanted), "{error}");
    }
    let server = Server::start(|_| Answer::json(200, r#"{"status":"OK"}"#).header("X-Version-Id: 10.11.4.1.2.false"));
    let refused = client(&server).ping().unwrap().check().unwrap_err().to_string();
    assert!(refused.contains("expected Mattermost 11 or newer") && refused.contains("found    10.11.4"), "{refused}");
    let server = Server::start(|_| {
        let body = r#"{"database_status":"UNHEALTHY","filestore_status":"OK","status":"UNHEALTHY"}"#;
        Answer::json(500, body).header("X-Version-Id: 11.0.2.11.0.2.d138.false")
    });
    let refused = client(&server).ping().unwrap().check().unwrap_err().to_string();
    assert!(refused.contains("database UNHEALTHY"), "{refused}");
}

#[test]
fn a_server_that_is_not_there_is_asked_a_few_times_and_then_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = Endpoint { url: format!("http://127.0.0.1:{port}").parse().unwrap(), ca: None, address: None };
    let failure = Client::new(&endpoint, patience()).unwrap().create_bot("x", "X", "x").expect_err("nobody there");
    assert!(!failure.is_uncertain());
    assert_eq!(Error::from(failure).message(), "Mattermost is not reached");
}

#[test]
fn a_server_that_starts_is_asked_until_it_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = Endpoint { url: format!("http://127.0.0.1:{port}").parse().unwrap(), ca: None, address: None };
    let client = |tries| {
        let patience = Patience { tries, pause: Duration::from_millis(5), longest: Duration::from_millis(5), ..patience() };
        Client::new(&endpoint, patience).unwrap()
    };
    let refused = Error::from(client(1).ping().expect_err("nobody listens yet"));
    assert!(refused.hint_text().is_some_and(|hint| hint.contains("it may still be starting")), "{refused}");
    let (asks, asked) = std::sync::mpsc::channel();
    let health = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            asks.send(()).unwrap();
            client(2000).ping()
        });
        asked.recv().unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        assert!(std::io::Read::read(&mut connection, &mut request).unwrap() > 0);
        let body = r#"{"status":"OK"}"#;
        let head = format!("HTTP/1.1 200 OK\r\nX-Version-Id: 11.7.9.1\r\nConnection: close\r\nContent-Length: {}", body.len());
        std::io::Write::write_all(&mut connection, format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        drop(connection);
        asking.join().unwrap()
    });
    assert_eq!(health.unwrap().version, "11.7.9");
}

#[test]
fn a_password_goes_over_https_or_stays_on_this_machine() {
    for url in ["http://192.168.1.20:8065", "http://mattermost.cicd.local", "ftp://127.0.0.1"] {
        let endpoint = Endpoint { url: url.parse().unwrap(), ca: None, address: None };
        assert!(Client::new(&endpoint, patience()).is_err(), "{url}");
    }
}

/// Who is locked out, has a second factor, and so on, is told what to do.
#[test]
fn a_sign_in_that_fails_is_explained() {
    for (id, wanted) in [
        ("api.user.login.invalid_credentials_email_username", "MATTERMOST_ADMIN_PASSWORD"),
        ("api.user.check_user_login_attempts.too_many.app_error", "mmctl user change-password"),
        ("mfa.validate_token.authenticate.app_error", "--token-file FILE"),
        ("api.context.mfa_required.app_error", "--token-file FILE"),
        ("api.user.login.inactive.app_error", "mmctl user activate"),
        ("api.user.login.not_verified.app_error", "mmctl user verify"),
    ] {
        let body = format!(r#"{{"id":"{id}","message":"No.","status_code":401}}"#);
        let server = Server::start(move |_| Answer::json(401, &body));
        let error = Error::from(client(&server).login("admin", &Secret::new("pass")).expect_err(id));
        assert!(error.hint_text().is_some_and(|hint| hint.contains(wanted)), "{error}");
    }
}

const ADMIN: &str = r#"{"id":"a","username":"admin","roles":"system_user system_admin"}"#;

fn first(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Result<First>, Vec<Request>) {
    let server = Server::start(answer);
    let result = create_first_administrator(&mut client(&server), "admin", "admin@cicd.local", &Secret::new("pass"));
    (result, server.requests())
}

fn signed_in() -> Answer {
    Answer::json(200, ADMIN).header("Token: sess10n")
}

fn no_sign_up() -> Answer {
    Answer::json(403, r#"{"id":"api.user.create_user.no_open_server"}"#)
}

fn wrong_password() -> Answer {
    Answer::json(401, r#"{"id":"api.user.login.invalid_credentials_email_username"}"#)
}

#[test]
fn the_first_account_is_made_once_and_found_again() {
    let is_login = |request: &Request| request.target.ends_with("/login");
    let (made, requests) = first(move |request| if is_login(request) { signed_in() } else { Answer::json(201, ADMIN) });
    assert_eq!(made.unwrap(), First::Made);
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")), "nobody is signed in yet");
    let (found, _) = first(move |request| if is_login(request) { signed_in() } else { no_sign_up() });
    assert_eq!(found.unwrap(), First::There);
    // The answer was lost: it may have been made.
    let (found, requests) = first(move |request| if is_login(request) { signed_in() } else { Answer::json(201, ADMIN).cut(3) });
    assert_eq!((found.unwrap(), requests.len()), (First::There, 2));
    let (made, _) = first(move |request| match (is_login(request), request.earlier) {
        (false, 0) => Answer::json(500, r#"{"id":"app.user.save.app_error"}"#),
        (false, _) => Answer::json(201, ADMIN),
        (true, 0) => wrong_password(),
        (true, _) => signed_in(),
    });
    assert_eq!(made.unwrap(), First::Made);
}

#[test]
fn a_first_account_that_is_not_ours_is_an_error_that_says_so() {
    let is_login = |request: &Request| request.target.ends_with("/login");
    let (refused, _) = first(move |request| if is_login(request) { wrong_password() } else { no_sign_up() });
    let text = Error::from(refused.unwrap_err()).to_string();
    assert!(text.contains("accounts already, and none called admin"), "{text}");
    let plain = r#"{"id":"a","username":"admin","roles":"system_user"}"#;
    let (refused, _) =
        first(move |request| if is_login(request) { Answer::json(200, plain).header("Token: s") } else { Answer::json(201, plain) });
    assert!(Error::from(refused.unwrap_err()).to_string().contains("admin is not an administrator"));
    let server = Server::start(|_| {
        Answer::json(
            200,
            r#"[{"id":"a","username":"admin"},{"id":"b","username":"system-bot","is_bot":true},{"id":"c","username":"intruder"}]"#,
        )
    });
    assert_eq!(other_people(&client(&server), "admin").unwrap(), ["intruder"]);
}

#[test]
fn a_list_is_read_to_its_last_page() {
    let server = Server::start(|request| {
        let count = if request.target.contains("page=0&") { 200 } else { 3 };
        let hooks: Vec<String> = (0..count).map(|_| format!(r#"{{"id":"{HOOK}","user_id":"u","channel_id":"c","team_id":"t"}}"#)).collect();
        Answer::json(200, &format!("[{}]", hooks.join(",")))
    });
    assert_eq!(client(&server).hooks("t").unwrap().len(), 203);
}
