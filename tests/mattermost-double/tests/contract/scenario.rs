//! The order in which the recorded requests make sense, and what has to be there before each.

use std::time::Duration;

use serde_json::{Value, json};

use crate::place::{Installed, Postgres, Server, free_port, wait_for};
use crate::replay::{PASSWORD, Replay, Results, Who, With};

mod hooks;
mod people;
mod plugins;
mod sockets;

/// Recorded files that are not replayed, by the beginning of their names, and why.
pub const NOT_REPLAYED: [(&str, &str); 10] = [
    ("186-", "a tool against Coturn, not Mattermost"),
    ("204-", "the same as 207"),
    ("208-", "statistics by day: the double keeps none"),
    ("209-", "the call itself needs the real plugin"),
    ("210-", "the call itself needs the real plugin"),
    ("211-", "posts of a call that ended: the double keeps calls in memory"),
    ("274-", "the call itself needs the real plugin"),
    ("275-", "the call itself needs the real plugin"),
    ("301-", "mmctl over the network: the double takes a token alone"),
    ("302-", "mmctl over the network: the double takes a token alone"),
];

/// Settings that every recorded run had.
pub const COMMON: [(&str, &str); 7] = [
    ("MM_SERVICESETTINGS_SITEURL", "https://localhost:8065"),
    ("MM_SERVICESETTINGS_ENABLEUSERACCESSTOKENS", "true"),
    ("MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS", "true"),
    ("MM_TEAMSETTINGS_ENABLEOPENSERVER", "false"),
    ("MM_PLUGINSETTINGS_PLUGINSTATES", "{}"),
    ("MM_LOGSETTINGS_CONSOLEJSON", "true"),
    ("MM_LOGSETTINGS_ENABLEFILE", "false"),
];
/// Most of them had this one too.
pub const BOTS: (&str, &str) = ("MM_SERVICESETTINGS_ENABLEBOTACCOUNTCREATION", "true");

/// What the stages share.
pub struct Stage<'a> {
    pub installed: Installed,
    pub postgres: &'a mut Postgres,
    pub source: String,
    pub port: u16,
    pub replay: Replay,
    server: Option<Server>,
}

impl<'a> Stage<'a> {
    fn new(postgres: &'a mut Postgres) -> Self {
        let (installed, port) = (Installed::new(xtask::double::VERSIONS[0]), free_port());
        let source = postgres.database("contract");
        let replay = Replay::new(&format!("http://127.0.0.1:{port}"), None);
        Stage { installed, postgres, source, port, replay, server: None }
    }

    /// Runs the server with `settings` above the common ones; the one before is ended.
    pub fn restart(&mut self, settings: &[(&str, &str)]) {
        self.end();
        let all = [&COMMON[..], settings].concat();
        let mut server = self.installed.start(self.port, &self.source, &all);
        let replay = &self.replay;
        let installed = &self.installed;
        let port = self.port;
        wait_for("the double", Duration::from_secs(30), || {
            assert!(server.ended().is_none(), "it ended: {}", installed.log());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then(|| replay.send("GET", "/api/v4/system/ping", None, &Value::Null))
        });
        self.server = Some(server);
    }

    /// Ends the server.
    pub fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            assert_eq!(server.stop(), 0, "{}", self.installed.log());
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }
}

/// Everything, against the double.
pub fn double(postgres: &mut Postgres) -> Results {
    let mut stage = Stage::new(postgres);
    first_user(&mut stage);
    people::run(&mut stage);
    hooks::run(&mut stage);
    sockets::run(&mut stage);
    plugins::run(&mut stage);
    faults(&mut stage);
    files(&mut stage);
    stage.end();
    stage.replay.results
}

/// On an empty database of its own: there the first user comes from anywhere.
fn first_user(stage: &mut Stage<'_>) {
    let kept = std::mem::replace(&mut stage.source, stage.postgres.database("first"));
    stage.restart(&[]);
    let replay = &mut stage.replay;
    replay.all(&["001-ping-empty", "002-ping-server-status", "003-client-config-empty-db", "004-create-first-user-weak-pw"]);
    let admin = json!({ "email": "admin@internal.test", "username": "admin", "password": PASSWORD });
    let (status, made, _) = replay.send("POST", "/api/v4/users", None, &admin);
    assert_eq!((status, &made["roles"]), (201, &json!("system_admin system_user")), "{made}");
    replay.all(&["006-create-second-user-rest-openserver-false", "007-login-bad", "008-login-ok"]);
    replay.log_in(Who::Admin, "admin");
    replay.all(&["009-users-me", "010-users-me-no-token"]);
    replay.ids.clear();
    stage.source = kept;
}

/// The database goes away and comes back; the socket is stale or gone.
fn faults(stage: &mut Stage<'_>) {
    stage.restart(&[BOTS]);
    stage.postgres.down();
    stage.replay.all(&["224-ping-db-down", "225-ping-server-status-db-down", "228-hook-db-down", "229-login-db-down"]);
    stage.replay.mmctl(&stage.installed, "226-mmctl-system-status-db-down");
    stage.postgres.up();
    stage.replay.rest("230-post-after-db-restart");
    for name in [
        "234-mmctl-local-root",
        "235-mmctl-no-local-no-auth",
        "281-mmctl-system-status-json",
        "291-mmctl-post-create-local",
        "303-mmctl-post-create-remote",
    ] {
        stage.replay.mmctl(&stage.installed, name);
    }
    if let Some(program) = stage.installed.mmctl_of_another() {
        stage.replay.mmctl_as(program, &stage.installed, "233-mmctl-local-wrong-uid", "");
    }
    let mut elsewhere = stage.installed.mmctl();
    elsewhere.env_remove("MMCTL_LOCAL_SOCKET_PATH");
    stage.replay.mmctl_as(elsewhere, &stage.installed, "236-mmctl-local-default-socket-path", "");
    stage.kill();
    stage.replay.mmctl(&stage.installed, "231-mmctl-local-stale-socket");
    fs_err::remove_file(stage.installed.socket()).expect("it was left behind");
    stage.replay.mmctl(&stage.installed, "232-mmctl-local-no-socket");
    stage.replay.mmctl(&stage.installed, "300-mmctl-config-set-readonly");
}

/// Files survive; without `data/` they are gone, and nothing else is.
fn files(stage: &mut Stage<'_>) {
    stage.restart(&[BOTS]);
    let replay = &mut stage.replay;
    let uploaded = replay.rest("265-file-upload");
    // The list's entry is walked by hand: lists are not learnt from.
    replay.ids.insert("khkopowx3brtfmryzq78ipgzte".into(), uploaded["file_infos"][0]["id"].as_str().unwrap_or_default().into());
    replay.all(&["266-post-with-file", "267-restore-post-get", "268-restore-file-get"]);
    replay.hook("sonarqube", &["273-restore-noconfig-hook"]);
    replay.rest("270-restore-latest-post");
    stage.end();
    fs_err::remove_dir_all(stage.installed.root().join("data")).expect("removed");
    fs_err::remove_file(stage.installed.root().join("config/config.json")).expect("removed");
    fs_err::create_dir(stage.installed.root().join("data")).expect("made");
    stage.restart(&[BOTS]);
    stage.replay.rest("272-restore-nodata-file-get");
    stage.replay.hook("sonarqube", &["273-restore-noconfig-hook"]);
}

/// Nobody else may read it.
fn credentials_file(path: &str) -> String {
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(path).expect("the administrator's credentials").permissions());
    assert_eq!(mode & 0o077, 0, "{path} is open to others: chmod 600 {path}");
    fs_err::read_to_string(path).expect("the administrator's credentials")
}

/// What can be asked of a server that others have set up.
pub fn elsewhere(url: &str, ca: Option<&str>, admin: Option<&str>) -> Results {
    let roots = ca.map(|path| fs_err::read(path).expect("the CA's certificate"));
    let mut replay = Replay::new(url.trim_end_matches('/'), roots.as_deref());
    let given = admin.map(credentials_file).unwrap_or_default();
    match crate::credentials(&given) {
        Ok((who, token)) => _ = replay.tokens.insert(who, token),
        Err((name, password)) => {
            let (status, _, headers) = replay.send("POST", "/api/v4/users/login", None, &json!({ "login_id": name, "password": password }));
            assert_eq!(status, 200, "the administrator cannot log in");
            replay.tokens.insert(Who::Admin, headers["token"].to_str().expect("text").to_owned());
        }
    }
    people::portable(&mut replay);
    hooks::portable(&mut replay);
    replay.results
}

/// A request whose recorded body was cut: a text of that many characters.
pub fn long(length: usize) -> With<'static> {
    With { hook: "sonarqube", body: Some(json!({ "text": "z".repeat(length) })), ..With::default() }
}
