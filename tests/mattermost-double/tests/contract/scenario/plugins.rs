//! Plugins: which bundles are taken, Calls' answers, GitLab's webhook, and `config` over them.

use std::path::PathBuf;

use serde_json::{Value, json};
use tools_double::Double;
use tools_double::gitlab::{Application, Gitlab};

use super::Stage;
use super::sockets::conversation;
use crate::place::free_port;
use crate::recorded;
use crate::replay::{Replay, Who, With};

const STATES: &str = "MM_PLUGINSETTINGS_PLUGINSTATES";
const BOTH: (&str, &str) = (STATES, r#"{"com.mattermost.calls":{"Enable":true},"jenkins":{"Enable":true}}"#);
const SIGNED: (&str, &str) = ("MM_PLUGINSETTINGS_REQUIREPLUGINSIGNATURE", "true");
const GITLAB: &str = "com.github.manland.mattermost-plugin-gitlab";

struct Calls {
    plugins: String,
    servers: &'static str,
}

impl Calls {
    /// Settings as in the recorded runs, on a port that is free.
    fn new() -> Self {
        let port = free_port();
        let calls = json!({
            "tcpserverport": port, "udpserverport": port, "enable": true, "maxcallparticipants": 8, "allowscreensharing": false,
            "iceserversconfigs": "[]"
        });
        let jenkins = json!({ "jenkinsurl": "https://127.0.0.1:9/jenkins", "encryptionkey": "0123456789abcdef" });
        let gitlab = json!({ "gitlaburl": "https://127.0.0.1:9/" });
        let plugins = json!({ "com.mattermost.calls": calls, "jenkins": jenkins, GITLAB: gitlab }).to_string();
        Calls { plugins, servers: r#"[{"urls":["turn:127.0.0.1:3478?transport=udp"]}]"# }
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        vec![
            BOTH,
            SIGNED,
            ("MM_PLUGINSETTINGS_PLUGINS", &self.plugins),
            ("MM_CALLS_ICE_HOST_OVERRIDE", "127.0.0.1"),
            ("MM_CALLS_UDP_SERVER_ADDRESS", "127.0.0.1"),
            ("MM_CALLS_TCP_SERVER_ADDRESS", "127.0.0.1"),
            ("MM_CALLS_ICE_SERVERS_CONFIGS", self.servers),
            ("MM_CALLS_TURN_STATIC_AUTH_SECRET", "north"),
        ]
    }

    fn without<'a>(&'a self, names: &[&str]) -> Vec<(&'a str, &'a str)> {
        self.settings().into_iter().filter(|(name, _)| !names.contains(name)).collect()
    }
}

pub fn run(stage: &mut Stage) {
    stage.replay.log_in(Who::Dev, "dev");
    let calls = Calls::new();
    let keys = ("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES", "/none.asc");
    stage.restart(&[calls.settings(), vec![keys]].concat());
    good(stage);
    let secret = "MM_CALLS_TURN_STATIC_AUTH_SECRET";
    stage.restart(&calls.without(&[secret]));
    stage.replay.all(&[
        "187-plugins-statuses-no-turn-secret",
        "188-calls-turn-credentials-no-turn-secret",
        "189-calls-config-no-turn-secret",
    ]);
    stage.restart(&calls.without(&[secret, "MM_CALLS_ICE_HOST_OVERRIDE", "MM_CALLS_ICE_SERVERS_CONFIGS"]));
    stage.replay.all(&["190-plugins-statuses-no-ice-env", "192-calls-config-no-ice-env"]);
    let bad = Calls { servers: "[{", ..Calls::new() };
    stage.restart(&bad.settings());
    stage.replay.all(&["193-plugins-statuses-bad-ice-json", "194-calls-turn-credentials-bad-ice-json", "195-calls-config-bad-ice-json"]);
    rejected(stage, &calls);
    gitlab(stage);
    settings(stage);
}

fn good(stage: &mut Stage) {
    stage.replay.rest("249-config-full");
    stage.replay.mmctl(&stage.installed, "173-mmctl-plugin-list");
    stage.replay.mmctl(&stage.installed, "247-mmctl-config-get-plugins-env");
    stage.replay.all(&[
        "160-plugins-statuses-good",
        "162-plugins-list-good",
        "163-plugins-webapp-noauth",
        "164-calls-version",
        "165-calls-config",
        "166-calls-env",
        "168-calls-turn-credentials-noauth",
        "169-calls-version-noauth",
        "170-jenkins-root",
        "171-gitlab-disabled",
        "172-plugin-static-guess",
        "182-plugins-statuses-good-first",
        "196-channel-direct-create",
        "199-calls-channel-get-before",
    ]);
    for (name, who) in [
        ("197-call-join-public-channel-team-edition", Who::Admin),
        ("202-call-join-public-channel-team-edition", Who::Admin),
        ("198-call-join-dm-nonadmin-testmode", Who::Dev),
    ] {
        drop(conversation(stage, name, who));
    }
    stage.replay.all(&["200-calls-channel-enable-dm", "201-channel-direct-create", "205-calls-channel-enable-dm"]);
    let call = conversation(stage, "203-call-join-dm-nonadmin-testmode", Who::Dev);
    stage.replay.all(&["206-calls-active", "207-calls-channel-get-during"]);
    drop(call);
    let made = stage.replay.send("GET", "/plugins/com.mattermost.calls/turn-credentials", Some(Who::Dev), &Value::Null).1;
    let expiry = made[0]["username"].as_str().and_then(|name| name.strip_suffix(":dev")).and_then(|time| time.parse::<u64>().ok());
    assert!(expiry.is_some() && made[0]["urls"][0] == "turn:127.0.0.1:3478?transport=udp", "{made}");
    let settings = Calls::new();
    stage.restart(&settings.settings());
    stage.replay.rest("183-plugins-statuses-good-second-start");
}

/// Bundles that the server does not take are absent; ping is 200 all the while.
fn rejected(stage: &mut Stage, calls: &Calls) {
    let bundles = fs_err::read_dir(stage.installed.prepackaged("")).expect("there").map(|entry| entry.expect("an entry").path());
    let bundle: PathBuf = bundles
        .into_iter()
        .find(|path| path.to_string_lossy().contains("calls") && path.extension().is_some_and(|e| e == "gz"))
        .expect("Calls");
    let signature = PathBuf::from(format!("{}.sig", bundle.display()));
    let (good, signed) = (fs_err::read(&bundle).expect("there"), fs_err::read(&signature).expect("there"));
    let expect = |stage: &mut Stage, name: &str, line: &str| {
        stage.replay.rest(name);
        assert!(line.is_empty() || stage.installed.log().contains(line), "{name}: no {line:?} in {}", stage.installed.log());
    };
    fs_err::remove_file(&signature).expect("removed");
    stage.restart(&calls.settings());
    expect(stage, "174-plugins-statuses-unsigned-calls", "Prepackaged plugin missing required signature file");
    stage.restart(&calls.without(&["MM_PLUGINSETTINGS_REQUIREPLUGINSIGNATURE"]));
    expect(stage, "181-plugins-statuses-unsigned-requiresig-false", "Prepackaged plugin missing required signature file");
    fs_err::write(&signature, &signed).expect("written");
    fs_err::write(&bundle, [&good[..], b"!"].concat()).expect("written");
    stage.restart(&calls.settings());
    expect(stage, "175-plugins-statuses-tampered-calls", "VerifyPlugin: Unable to verify plugin signature.");
    fs_err::write(&bundle, &good).expect("written");
    let other = other_key();
    let by_other = images::openpgp::sign_detached(good.as_slice(), &other, b"", "another key").expect("signed");
    fs_err::write(&signature, &by_other).expect("written");
    stage.restart(&calls.settings());
    expect(stage, "176-plugins-statuses-otherkey-calls", "VerifyPlugin: Unable to verify plugin signature.");
    // Signed by a key that only a setting could make known: all of them.
    let store = stage.installed.root().join("data/plugins");
    for entry in fs_err::read_dir(stage.installed.prepackaged("")).expect("there").chain(fs_err::read_dir(&store).expect("kept")) {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "gz") {
            let signed =
                images::openpgp::sign_detached(fs_err::File::open(&path).expect("there"), &other, b"", "another key").expect("signed");
            fs_err::write(format!("{}.sig", path.display()), signed).expect("written");
        }
    }
    stage.restart(&calls.settings());
    stage.replay.all(&["177-plugins-statuses-no-key-configured", "184-plugins-statuses-installed-then-no-key"]);
    let none = [calls.settings(), vec![("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES", "/none.asc")]].concat();
    stage.restart(&none);
    expect(stage, "178-plugins-statuses-key-file-missing", "");
    fs_err::remove_dir_all(&store).expect("removed");
    let key = stage.installed.root().join("other.asc");
    fs_err::write(&key, public_key(&other)).expect("written");
    let key = key.display().to_string();
    let known = [calls.settings(), vec![("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES", key.as_str())]].concat();
    let off = [known.clone(), vec![("MM_PLUGINSETTINGS_AUTOMATICPREPACKAGEDPLUGINS", "false")]].concat();
    stage.restart(&off);
    expect(stage, "180-plugins-statuses-auto-prepackaged-off", "automatic prepackaged plugins disabled");
    stage.restart(&known);
    let (_, statuses, _) = stage.replay.send("GET", "/api/v4/plugins/statuses", Some(Who::Admin), &Value::Null);
    assert_eq!(statuses.as_array().map(Vec::len), Some(2), "with the key in the settings: {statuses}");
    // Its port is taken: it is there, and says why it does not run.
    let port = serde_json::from_str::<Value>(&calls.plugins).expect("JSON")["com.mattermost.calls"]["tcpserverport"].to_string();
    stage.end();
    let _taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).expect("free");
    stage.restart(&known);
    stage.replay.rest("271-restore-plugins");
}

fn other_key() -> Vec<u8> {
    use pgp::composed::{KeyType, SecretKeyParamsBuilder};
    let mut params = SecretKeyParamsBuilder::default();
    params.key_type(KeyType::Rsa(2048)).can_certify(true).can_sign(true).primary_user_id("Contract <contract@example.org>".into());
    let key = params.build().expect("good").generate(rand::thread_rng()).expect("a key is made");
    pgp::ser::Serialize::to_bytes(&key).expect("serializes")
}

fn public_key(secret: &[u8]) -> Vec<u8> {
    use pgp::composed::{Deserializable as _, SignedSecretKey};
    let key = SignedSecretKey::from_bytes(secret).expect("a key");
    pgp::ser::Serialize::to_bytes(&key.to_public_key()).expect("serializes")
}

fn gitlab(stage: &mut Stage) {
    let states = format!(r#"{{"{GITLAB}":{{"Enable":true}}}}"#);
    let plugins = format!(r#"{{"{GITLAB}":{{"gitlaburl":"https://127.0.0.1:9/","WebhookSecret":"hush"}}}}"#);
    let fresh = crate::place::Installed::new(xtask::double::VERSIONS[0]);
    stage.end();
    stage.installed = fresh;
    stage.restart(&[(STATES, &states), ("MM_PLUGINSETTINGS_PLUGINS", &plugins)]);
    stage.replay.rest("304-gitlab-plugin-status-full");
    stage.replay.rest_with("306-gitlab-plugin-webhook-secret-full", &With { secret: "hush", ..With::default() });
    stage.restart(&[(STATES, &states)]);
    stage.replay.rest("307-gitlab-plugin-status-noconf");
    stage.replay.rest("308-gitlab-plugin-webhook-nosecret-noconf");
    stage.replay.rest_with("309-gitlab-plugin-webhook-secret-noconf", &With { secret: "hush", ..With::default() });
}

/// `config`, over the API and `mmctl`, with and without the environment above it.
fn settings(stage: &mut Stage) {
    stage.restart(&[("MM_ANNOUNCEMENTSETTINGS_ADMINNOTICESENABLED", "false")]);
    for name in [
        "237-mmctl-config-get-plugins",
        "238-mmctl-config-set-jenkinsurl-fresh",
        "239-mmctl-config-set-jenkins-json",
        "240-mmctl-config-set-pluginstate",
    ] {
        stage.replay.mmctl(&stage.installed, name);
    }
    let patch = json!({ "PluginSettings": { "Plugins": { "jenkins": { "jenkinsurl": "https://j.internal.test", "encryptionkey": "0123456789abcdef" } } } });
    fs_err::write(stage.installed.root().join("patch.json"), patch.to_string()).expect("written");
    for name in [
        "241-mmctl-config-patch-jenkins",
        "242-mmctl-config-get-plugins-after",
        "243-mmctl-config-set-jenkinsurl-after-patch",
        "244-mmctl-config-set-env-overridden",
        "245-mmctl-plugin-disable-env-overridden",
        "246-mmctl-config-set-jenkinsurl-env-plugins",
    ] {
        stage.replay.mmctl(&stage.installed, name);
    }
    let (_, shown, _) = stage.replay.send("GET", "/api/v4/config", Some(Who::Admin), &Value::Null);
    assert_eq!(shown["ServiceSettings"]["EnableIncomingWebhooks"], true, "the environment decides it");
    environment(stage);
    sign_in(stage);
}

/// With GitLab: there, back with a code, and in, whether or not sign-up is open.
fn sign_in(stage: &mut Stage) {
    stage.replay.rest("254-oauth-gitlab-login-disabled");
    let application = Application {
        id: 1,
        name: "Mattermost".to_owned(),
        application_id: "cid".to_owned(),
        secret: "hush".to_owned(),
        redirects: "https://localhost:8065/signup/gitlab/complete".to_owned(),
    };
    let person = json!({ "id": 42, "username": "gluser", "email": "gl@internal.test", "name": "GL User", "state": "active" });
    // The recorded one's SiteURL is not the address that it was asked at.
    let gitlab = Double::start(Gitlab::with(application, person));
    gitlab.tool(|gitlab| gitlab.lenient = true);
    let endpoint = |path: &str| format!("{}/{path}", gitlab.url());
    let (authorize, token, user) = (endpoint("oauth/authorize"), endpoint("oauth/token"), endpoint("api/v4/user"));
    for open in ["false", "true"] {
        let settings = [
            ("MM_GITLABSETTINGS_ENABLE", "true"),
            ("MM_GITLABSETTINGS_ID", "cid"),
            ("MM_GITLABSETTINGS_SECRET", "hush"),
            ("MM_GITLABSETTINGS_AUTHENDPOINT", &authorize),
            ("MM_GITLABSETTINGS_TOKENENDPOINT", &token),
            ("MM_GITLABSETTINGS_USERAPIENDPOINT", &user),
            ("MM_TEAMSETTINGS_ENABLEOPENSERVER", open),
        ];
        stage.restart(&settings);
        let replay = &mut stage.replay;
        match open {
            "false" => replay.all(&["250-client-config-gitlab", "252-oauth-gitlab-signup", "255-sso-signup-open-false-start"]),
            _ => replay.all(&["260-sso-signup-open-true-start", "262-sso-login-open-true-start"]),
        }
        let recorded: &[_] = match open {
            "false" => &[("signup", "256-sso-signup-open-false-complete"), ("login", "258-sso-login-open-false-complete")],
            _ => &[("signup", "261-sso-signup-open-true-complete")],
        };
        for (action, complete) in recorded {
            let (query, state) = allowed(replay, action);
            replay.rest_with(complete, &With { query: &query, secret: &state, ..With::default() });
            // Nobody else's browser, and not again: the code is used.
            let (status, _, _) = replay.send("GET", &format!("/signup/gitlab/complete?{query}"), None, &Value::Null);
            assert_eq!(status, 400, "without the cookie of the beginning");
            let again = replay.rest_answer(complete, &With { query: &query, secret: &state, ..With::default() });
            assert_eq!(again, 500, "a code is good once");
        }
        replay.rest(if open == "false" { "259-sso-user-false" } else { "264-sso-user-true" });
    }
    // What a real GitLab does, whose redirect URIs have to be equal: SiteURL is another address than the one that was asked.
    gitlab.tool(|gitlab| gitlab.lenient = false);
    let (query, state) = allowed(&stage.replay, "login");
    let refused = stage.replay.rest_answer("261-sso-signup-open-true-complete", &With { query: &query, secret: &state, ..With::default() });
    assert_eq!(refused, 500, "SiteURL and Host differ");
}

/// Goes to GitLab, where somebody says yes, and comes back: the query with the code, and the state.
fn allowed(replay: &Replay, action: &str) -> (String, String) {
    let (_, _, headers) = replay.send("GET", &format!("/oauth/gitlab/{action}"), None, &Value::Null);
    let to = headers["location"].to_str().expect("text");
    let client = reqwest::blocking::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().expect("a client");
    let answer = client.get(to).send().expect("GitLab answers");
    let back = answer.headers()["location"].to_str().expect("text");
    let (_, query) = back.split_once('?').expect("a query");
    let (_, state) = query.split_once("&state=").expect("a state");
    (query.to_owned(), state.to_owned())
}

/// Exactly what was set: the recorded names, each given as a variable.
fn environment(stage: &mut Stage) {
    let wanted = recorded::read("248-config-environment")["response_body"].clone();
    let (_, now, _) = stage.replay.send("GET", "/api/v4/config", Some(Who::Admin), &Value::Null);
    let mut set = Vec::new();
    for (section, keys) in wanted.as_object().into_iter().flatten() {
        for key in keys.as_object().into_iter().flatten().map(|(key, _)| key) {
            let value = &now[section][key];
            let value = value.as_str().map_or_else(|| if value.is_array() { String::new() } else { value.to_string() }, str::to_owned);
            set.push((format!("MM_{section}_{key}").to_uppercase(), value));
        }
    }
    let port = stage.port;
    let own = [format!("127.0.0.1:{port}"), stage.source.clone(), stage.installed.socket().display().to_string()];
    for (name, value) in &mut set {
        match name.as_str() {
            "MM_SERVICESETTINGS_LISTENADDRESS" => value.clone_from(&own[0]),
            "MM_SQLSETTINGS_DATASOURCE" => value.clone_from(&own[1]),
            "MM_SERVICESETTINGS_LOCALMODESOCKETLOCATION" => value.clone_from(&own[2]),
            _ => {}
        }
    }
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    stage.restart(&set);
    stage.replay.rest("248-config-environment");
}
