use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::stun;

const SECRET: &str = "0123456789abcdefSECRET";

fn env(changes: &[(&str, &str)]) -> Env {
    let base = [("COTURN_LISTENING_IP", "192.0.2.10"), ("COTURN_ALLOWED_PEER_IP", "192.0.2.20"), ("COTURN_REALM", "chat.example.lan")];
    base.into_iter().chain(changes.iter().copied()).collect()
}

fn folder_with(files: &[(&str, &str, u32)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text, mode) in files {
        let path = folder.path().join(name);
        fs_err::write(&path, text).expect("written");
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(*mode)).expect("set");
    }
    folder
}

#[test]
fn the_smallest_setting_is_closed_but_for_one_peer() {
    let settings = Settings::read(&env(&[])).expect("complete");
    insta::assert_snapshot!(settings.render(&Secret::new(SECRET)));
}

#[test]
fn every_setting_has_its_line() {
    let changes = [
        ("COTURN_RELAY_IP", "192.0.2.11"),
        ("COTURN_EXTERNAL_IP", "198.51.100.7/192.0.2.11"),
        ("COTURN_ALLOWED_PEER_IP", "192.0.2.20, 192.0.2.21"),
        ("COTURN_LISTENING_PORT", "13478"),
        ("COTURN_TLS", "on"),
        ("COTURN_TLS_LISTENING_PORT", "15349"),
        ("COTURN_TLS_CERT_FILE", "/c.pem"),
        ("COTURN_TLS_KEY_FILE", "/k.pem"),
        ("COTURN_MIN_PORT", "50000"),
        ("COTURN_MAX_PORT", "50009"),
        ("COTURN_USER_QUOTA", "3"),
        ("COTURN_TOTAL_QUOTA", "7"),
        ("COTURN_MAX_BPS", "5000"),
        ("COTURN_CONF", "/run/other/turnserver.conf"),
    ];
    let settings = Settings::read(&env(&changes)).expect("complete");
    insta::assert_snapshot!(settings.render(&Secret::new(SECRET)));
}

#[test]
fn what_is_not_usable_is_refused_by_name() {
    for (name, value, wanted) in [
        ("COTURN_LISTENING_IP", "", "COTURN_LISTENING_IP is not set"),
        ("COTURN_LISTENING_IP", "0.0.0.0", "COTURN_LISTENING_IP is not usable"),
        ("COTURN_LISTENING_IP", "::1", "COTURN_LISTENING_IP is not usable"),
        ("COTURN_LISTENING_IP", "chat.example.lan", "expected one IPv4 address"),
        ("COTURN_RELAY_IP", "eth0", "COTURN_RELAY_IP is not usable"),
        ("COTURN_EXTERNAL_IP", "auto", "COTURN_EXTERNAL_IP is not usable"),
        ("COTURN_EXTERNAL_IP", "198.51.100.7/10.0.0.1", "the listening or the relay address after the slash"),
        ("COTURN_ALLOWED_PEER_IP", "", "COTURN_ALLOWED_PEER_IP is not set"),
        ("COTURN_ALLOWED_PEER_IP", "192.0.2.0-192.0.2.255", "COTURN_ALLOWED_PEER_IP is not usable"),
        ("COTURN_ALLOWED_PEER_IP", "192.0.2.20,", "COTURN_ALLOWED_PEER_IP is not usable"),
        ("COTURN_ALLOWED_PEER_IP", "127.0.0.1", "loopback is never relayed to"),
        ("COTURN_ALLOWED_PEER_IP", "224.0.0.1", "COTURN_ALLOWED_PEER_IP is not usable"),
        ("COTURN_REALM", "a realm", "COTURN_REALM is not usable"),
        ("COTURN_REALM", "x\nno-auth", "found \"x\\nno-auth\""),
        ("COTURN_LISTENING_PORT", "0", "COTURN_LISTENING_PORT is not usable"),
        ("COTURN_LISTENING_PORT", "49170", "49170 within 49160-49200"),
        ("COTURN_MAX_PORT", "49000", "at least COTURN_MIN_PORT"),
        ("COTURN_TLS", "true", "expected on or off"),
        ("COTURN_TLS_KEY_FILE", "key.pem", "expected an absolute path"),
        ("COTURN_USER_QUOTA", "0", "COTURN_USER_QUOTA is not usable"),
        ("COTURN_MAX_BPS", "8Mbit", "bytes per second"),
        ("COTURN_STATIC_AUTH_SECRET", "x", "COTURN_STATIC_AUTH_SECRET is not a setting"),
    ] {
        let error = Settings::read(&env(&[(name, value)])).expect_err(&format!("{name}={value} was taken")).to_string();
        assert!(error.contains(wanted), "{name}={value}: expected {wanted:?} in {error}");
    }
    let error = Settings::read(&env(&[("COTURN_TLS", "on"), ("COTURN_LISTENING_PORT", "5349")])).expect_err("one port twice");
    assert!(error.to_string().contains("another port than COTURN_LISTENING_PORT"), "{error}");
}

#[test]
fn every_mistake_is_told_at_once() {
    let error = Settings::read(&Env::from_iter([("COTURN_TLS", "yes")])).expect_err("four mistakes").to_string();
    for name in ["COTURN_LISTENING_IP", "COTURN_ALLOWED_PEER_IP", "COTURN_REALM", "COTURN_TLS"] {
        assert!(error.contains(name), "{name} is not in {error}");
    }
}

#[test]
fn a_secret_that_coturn_could_misread_is_refused() {
    let files = [("good", "0123456789abcdef", 0o600), ("short", "0123456789abcde", 0o600), ("odd", "0123456789abcdef#x", 0o600)];
    let folder = folder_with(&[&files[..], &[("open", "0123456789abcdef", 0o644)]].concat());
    let secret = |name: &str| {
        let path = folder.path().join(name);
        Settings::read(&env(&[("COTURN_SECRET_FILE", path.to_str().expect("text"))])).expect("complete").secret()
    };
    assert_eq!(secret("good").map(|value| value.expose().to_owned()), Ok("0123456789abcdef".to_owned()));
    for (name, wanted) in
        [("short", "found 15 characters"), ("odd", "found another character"), ("open", "is open to others"), ("none", "none")]
    {
        let error = secret(name).expect_err(name).to_string();
        assert!(error.contains(wanted) && !error.contains("0123456789"), "expected {wanted:?} in {error}");
    }
}

#[test]
fn tls_files_that_coturn_would_do_without_are_refused() {
    let (cert, key) = ("-----BEGIN CERTIFICATE-----\n", "-----BEGIN EC PRIVATE KEY-----\n");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n";
    let folder =
        folder_with(&[("cert", cert, 0o644), ("key", key, 0o600), ("open", key, 0o644), ("locked", locked, 0o600), ("empty", "", 0o600)]);
    let check = |cert: &str, key: &str| {
        let [cert, key] = [cert, key].map(|name| folder.path().join(name).to_str().expect("text").to_owned());
        let changes = [("COTURN_TLS", "on"), ("COTURN_TLS_CERT_FILE", cert.as_str()), ("COTURN_TLS_KEY_FILE", key.as_str())];
        Settings::read(&env(&changes)).expect("complete").check_tls_files()
    };
    check("cert", "key").expect("both usable");
    for (cert, key, wanted) in [
        ("none", "key", "COTURN_TLS_CERT_FILE is not usable"),
        ("empty", "key", "COTURN_TLS_CERT_FILE is not usable"),
        ("cert", "open", "is open to others"),
        ("cert", "locked", "COTURN_TLS_KEY_FILE is not usable"),
        ("cert", "cert", "is open to others"),
    ] {
        let error = check(cert, key).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "expected {wanted:?} in {error}");
    }
}

/// A line that libtest does not swallow.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The program that `COTURN_TURNSERVER` names, else the one in `PATH`.
fn turnserver() -> Option<PathBuf> {
    let named = std::env::var_os("COTURN_TURNSERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("turnserver")).find(|file| file.is_file());
    named.or(found)
}

struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_real_turnserver_understands_every_line_and_answers_a_binding() {
    let Some(program) = turnserver() else {
        skipped("no turnserver in PATH, and COTURN_TURNSERVER is not set");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    // A port that was free a moment ago; the certificate files need not be good for this.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port().to_string();
    let (conf, cert, key) = (folder.path().join("turnserver.conf"), folder.path().join("c.pem"), folder.path().join("k.pem"));
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    for tls in ["off", "on"] {
        let changes = [
            ("COTURN_LISTENING_IP".to_owned(), "127.0.0.1".to_owned()),
            ("COTURN_LISTENING_PORT".to_owned(), free.clone()),
            ("COTURN_EXTERNAL_IP".to_owned(), "192.0.2.10/127.0.0.1".to_owned()),
            ("COTURN_ALLOWED_PEER_IP".to_owned(), "192.0.2.20".to_owned()),
            ("COTURN_REALM".to_owned(), "chat.example.lan".to_owned()),
            ("COTURN_TLS".to_owned(), tls.to_owned()),
            ("COTURN_TLS_CERT_FILE".to_owned(), text(&cert)),
            ("COTURN_TLS_KEY_FILE".to_owned(), text(&key)),
            ("COTURN_CONF".to_owned(), text(&conf)),
        ];
        let settings = Settings::read(&Env::from_iter(changes)).expect("complete");
        fs_err::write(&conf, settings.render(&Secret::new(SECRET))).expect("written");
        #[expect(clippy::disallowed_methods, reason = "a server that this test watches and ends")]
        let mut command = std::process::Command::new(&program);
        let command = command.arg("-c").arg(&conf).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut server = Running(command.spawn().expect("started"));
        let (log, lines) = std::sync::mpsc::channel();
        for output in [
            server.0.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
            server.0.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>),
        ] {
            let log = log.clone();
            std::thread::spawn(move || {
                let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines());
                lines.map_while(Result::ok).for_each(|line| _ = log.send(line));
            });
        }
        drop(log);
        // A port that is not open yet says so at once, so this asks until it is.
        entrypoint::wait("turnserver", Duration::from_secs(20), || {
            let exited = server.0.try_wait().ok().flatten();
            let address = std::net::SocketAddr::from(settings.listening);
            if exited.is_some() { Ok(()) } else { stun::binding(address, Duration::from_secs(1)).map(drop) }
        })
        .expect("it answers");
        assert_eq!(server.0.try_wait().expect("asked"), None, "it ended by itself");
        drop(server);
        let log: Vec<String> = lines.into_iter().collect();
        let bad: Vec<_> =
            log.iter().filter(|line| line.contains("Bad configuration") || line.contains("Unknown") || line.contains("ERROR")).collect();
        let bad: Vec<_> =
            bad.into_iter().filter(|line| tls == "off" || !(line.contains(&text(&cert)) || line.contains(&text(&key)))).collect();
        assert!(bad.is_empty(), "{bad:#?}\n{log:#?}");
        assert!(!log.is_empty(), "it said nothing, so this proves nothing");
        assert!(!log.iter().any(|line| line.contains(SECRET)), "the secret is in the log");
    }
}
