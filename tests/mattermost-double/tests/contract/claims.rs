//! What was observed of the real server and stands in no recorded file: starting, ending, TLS, two versions, the port of Calls.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{Installed, Postgres, command, free_port, wait_for};
use crate::replay::{PASSWORD, Replay, Who};
use crate::scenario::{BOTS, COMMON};

/// A name and what it proves.
pub type Claim = (&'static str, fn(&mut Postgres));

/// All of them.
pub const CLAIMS: [Claim; 6] = [
    ("an_upgrade_migrates_and_the_first_login_after_it_closes_the_way_back", upgrades),
    ("without_a_database_it_gives_up_after_eight_seconds", gives_up),
    ("settings_that_the_real_server_refuses_end_it_with_their_words", refuses),
    ("the_network_is_served_over_tls_and_the_database_asked_over_verified_tls_by_name", over_tls),
    ("any_server_is_held_to_the_recorded_answers_and_what_needs_one_of_its_own_is_named", any_server),
    ("the_port_of_calls_answers_ice_with_the_joined_sessions_password_and_echoes_the_rest", echoes),
];

struct Running {
    server: crate::place::Server,
    replay: Replay,
}

fn start(installed: &Installed, source: &str, settings: &[(&str, &str)], scheme: &str, roots: Option<&[u8]>) -> Running {
    let port = free_port();
    let all = [&COMMON[..], settings].concat();
    let mut server = installed.start(port, source, &all);
    let replay = Replay::new(&format!("{scheme}://localhost:{port}"), roots);
    wait_for("the double", Duration::from_secs(30), || {
        assert!(server.ended().is_none(), "it ended: {}", installed.log());
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    Running { server, replay }
}

fn make_admin(replay: &Replay) {
    let admin = json!({ "email": "admin@internal.test", "username": "admin", "password": PASSWORD });
    let (status, made, _) = replay.send("POST", "/api/v4/users", None, &admin);
    assert_eq!(status, 201, "{made}");
}

fn log_in(replay: &Replay) -> u16 {
    replay.send("POST", "/api/v4/users/login", None, &json!({ "login_id": "admin", "password": PASSWORD })).0
}

fn upgrades(postgres: &mut Postgres) {
    let [old, new] = xtask::double::VERSIONS.map(Installed::new);
    let source = postgres.database("upgrade");
    let mut first = start(&old, &source, &[], "http", None);
    make_admin(&first.replay);
    assert_eq!(log_in(&first.replay), 200);
    assert!(!old.log().contains("\"version\":152") && old.log().contains("\"version\":141"), "{}", old.log());
    assert_eq!(first.server.stop(), 0);
    // Back and forth is open until somebody logs in at the newer one.
    assert_eq!(start(&new, &source, &[], "http", None).server.stop(), 0);
    assert!(new.log().contains("\"version\":152"), "{}", new.log());
    assert_eq!(log_in(&start(&old, &source, &[], "http", None).replay), 200);
    assert_eq!(log_in(&start(&new, &source, &[], "http", None).replay), 200);
    assert_eq!(log_in(&start(&old, &source, &[], "http", None).replay), 401, "the older release knows the newer hash");
}

fn gives_up(_: &mut Postgres) {
    let installed = Installed::new(xtask::double::VERSIONS[0]);
    let started = Instant::now();
    let nowhere = format!("postgres://mattermost@127.0.0.1:{}/none?sslmode=disable", free_port());
    let mut server = installed.start(free_port(), &nowhere, &COMMON);
    assert_eq!(wait_for("its end", Duration::from_secs(20), || server.ended()), 1, "{}", installed.log());
    let took = started.elapsed().as_secs_f64();
    assert!((7.5..12.0).contains(&took), "after {took} s");
    assert!(installed.log().contains("API double"), "{}", installed.log());
}

fn refuses(postgres: &mut Postgres) {
    let source = postgres.database("refused");
    for (name, value, words) in [
        ("MM_SERVICESETTINGS_SITEURL", "\"https://localhost\"", "Site URL must be a valid URL"),
        ("MM_SERVICESETTINGS_CONNECTIONSECURITY", "tls", "Invalid value for webserver connection security."),
        ("MM_SQLSETTINGS_ATRESTENCRYPTKEY", "short", "32 chars or more"),
    ] {
        let installed = Installed::new(xtask::double::VERSIONS[0]);
        let mut server = installed.start(free_port(), &source, &[&COMMON[..], &[(name, value)]].concat());
        assert_eq!(wait_for("its end", Duration::from_secs(10), || server.ended()), 1, "{name}");
        assert!(installed.log().contains(words), "{name}: {}", installed.log());
    }
}

fn openssl(folder: &std::path::Path, arguments: &str) {
    let words = arguments.split(' ').map(|word| word.replace("DIR", &folder.display().to_string()));
    let output = command("openssl").args(words).output().expect("openssl starts");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn over_tls(postgres: &mut Postgres) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(folder.path(), &format!("req -x509 {key} -subj /CN=root -keyout DIR/ca-key.pem -out DIR/ca.pem"));
    let extensions = "-addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
    openssl(
        folder.path(),
        &format!("req -x509 {key} -subj /CN=leaf {extensions} -CA DIR/ca.pem -CAkey DIR/ca-key.pem -keyout DIR/key.pem -out DIR/leaf.pem"),
    );
    let at = |name: &str| folder.path().join(name).display().to_string();
    let source = postgres.database("secured").replace("127.0.0.1", "localhost");
    postgres.down();
    postgres.with_tls(&folder.path().join("leaf.pem"), &folder.path().join("key.pem"));
    postgres.up();
    let verified = |roots: &str| source.replace("sslmode=disable", &format!("sslmode=verify-full&sslrootcert={roots}"));
    let installed = Installed::new(xtask::double::VERSIONS[0]);
    let (cert, secret) = (at("leaf.pem"), at("key.pem"));
    let settings = [
        ("MM_SERVICESETTINGS_CONNECTIONSECURITY", "TLS"),
        ("MM_SERVICESETTINGS_TLSCERTFILE", cert.as_str()),
        ("MM_SERVICESETTINGS_TLSKEYFILE", secret.as_str()),
    ];
    let roots = fs_err::read(at("ca.pem")).expect("there");
    let mut running = start(&installed, &verified(&at("ca.pem")), &settings, "https", Some(&roots));
    make_admin(&running.replay);
    assert_eq!(log_in(&running.replay), 200);
    let mode = fs_err::metadata(installed.socket()).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(running.server.stop(), 0);
    assert!(!installed.socket().exists(), "the socket is left behind");
    // Somebody else's root is not believed.
    openssl(folder.path(), &format!("req -x509 {key} -subj /CN=other -keyout DIR/other-key.pem -out DIR/other.pem"));
    let mut server = installed.start(free_port(), &verified(&at("other.pem")), &COMMON);
    assert_eq!(wait_for("its end", Duration::from_secs(20), || server.ended()), 1);
    assert!(installed.log().contains("invalid peer certificate"), "{}", installed.log());
}

/// This program again, as for a server that others have set up: one that answers as it should, and one that does not.
fn any_server(postgres: &mut Postgres) {
    let installed = Installed::new(xtask::double::VERSIONS[0]);
    let admin = tempfile::NamedTempFile::new().expect("a file");
    fs_err::write(admin.path(), format!("admin:{PASSWORD}\n")).expect("written");
    let held = |name: &str, setting: (&str, &str)| {
        let running = start(&installed, &postgres.database(name), &[BOTS, setting], "http", None);
        make_admin(&running.replay);
        let mut suite = command(std::env::current_exe().expect("this program"));
        let output = suite.args(["--url", running.replay.base(), "--admin-file"]).arg(admin.path()).output().expect("started");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (good, said) = held("elsewhere", ("MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS", "true"));
    assert!(good, "{said}");
    let lines = |end: &str| said.lines().filter(|line| line.ends_with(end)).count();
    assert!(lines("... ok") > 60, "{said}");
    assert!(lines("... ignored") > 60 && said.contains("234-mmctl-local-root: needs a server of its own"), "{said}");
    let (good, said) = held("elsewhere_without", ("MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS", "false"));
    assert!(!good, "a server that answers otherwise was not found out: {said}");
}

fn echoes(postgres: &mut Postgres) {
    let installed = Installed::new(xtask::double::VERSIONS[0]);
    let port = free_port().to_string();
    let settings = [
        ("MM_PLUGINSETTINGS_PLUGINSTATES", r#"{"com.mattermost.calls":{"Enable":true}}"#),
        ("MM_CALLS_ICE_HOST_OVERRIDE", "127.0.0.1"),
        ("MM_CALLS_UDP_SERVER_PORT", port.as_str()),
        ("MM_CALLS_TCP_SERVER_PORT", port.as_str()),
    ];
    let mut running = start(&installed, &postgres.database("calls"), &settings, "http", None);
    make_admin(&running.replay);
    running.replay.log_in(Who::Admin, "admin");
    let (_, statuses, _) = running.replay.send("GET", "/api/v4/plugins/statuses", Some(Who::Admin), &Value::Null);
    assert_eq!(statuses[0]["state"], 2, "{statuses}");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    socket.connect(format!("127.0.0.1:{port}")).expect("an address");
    let mut buffer = [0; 1500];
    let mut ask = |packet: &[u8]| {
        socket.send(packet).expect("sent");
        let length = socket.recv(&mut buffer).expect("an answer");
        buffer[..length].to_vec()
    };
    let voice = [&[0x80, 0x6f][..], &[7; 160]].concat();
    assert_eq!(ask(&voice), voice, "what is no STUN comes back");
    // A Binding request of nobody: refused, and with that answered.
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"transaction."].concat();
    let answer = ask(&request);
    assert_eq!(answer[..2], [1, 0x11], "{answer:?}");
    assert!(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok(), "nobody listens over TCP");
}
