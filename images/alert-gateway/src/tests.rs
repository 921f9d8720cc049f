//! The gateway as a whole, over TLS, on loopback.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use spool::{Spool, Wanted};

const SECRET: &str = "realsq-test-secret-0123456789";
const RECORDED: &str = include_str!("../tests/data/93-9.9-delivery-error-first.json");

struct Running {
    folder: tempfile::TempDir,
    settings: Settings,
    spool: Arc<Spool>,
    stop: server::Stop,
    server: std::thread::JoinHandle<()>,
}

fn settings(folder: &Path, tls: bool, address: SocketAddr) -> Settings {
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let env = [
        ("ALERT_GATEWAY_LISTEN", address.to_string()),
        ("ALERT_GATEWAY_TLS", if tls { "on" } else { "off" }.to_owned()),
        ("ALERT_GATEWAY_TLS_CERT_FILE", path("cert.pem")),
        ("ALERT_GATEWAY_TLS_KEY_FILE", path("key.pem")),
        ("ALERT_GATEWAY_CA_FILE", path("cert.pem")),
        ("ALERT_GATEWAY_SPOOL", path("spool")),
        ("ALERT_GATEWAY_SONARQUBE_SECRET_FILE", path("sonarqube")),
        ("ALERT_GATEWAY_SONARQUBE_WEBHOOK_FILE", path("webhook")),
        ("ALERT_GATEWAY_ALERTMANAGER_WEBHOOK_FILE", path("alertmanager-webhook")),
    ];
    Settings::read(&Env::from_iter(env)).expect("good settings")
}

fn start(tls: bool, queue: usize) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("a certificate");
    fs_err::write(folder.path().join("cert.pem"), made.cert.pem()).expect("written");
    fs_err::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).expect("written");
    fs_err::set_permissions(folder.path().join("key.pem"), std::fs::Permissions::from_mode(0o400)).expect("set");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let settings = settings(folder.path(), tls, listener.local_addr().expect("bound"));
    let spool = Arc::new(Spool::open(&settings.spool, Wanted::All, queue).expect("opened"));
    let gateway = gateway::Gateway {
        secrets: Source::ALL.map(|source| (source, entrypoint::Secret::new(SECRET))).into(),
        certificate: certificate::end(&settings.cert),
        spool: Arc::clone(&spool),
        mattermost: Arc::new(post::Mattermost { files: settings.webhooks.clone(), client: tls::client(&settings.ca).expect("roots") }),
        delivered: Arc::default(),
        reconciled: None,
        taken: gateway::Taken::default(),
    };
    let config = tls.then(|| tls::server(&settings.cert, &settings.key).expect("a pair"));
    let server = server::Server::new(listener, config, Arc::new(gateway)).expect("bound");
    let stop = server.stop();
    Running { folder, settings, spool, stop, server: std::thread::spawn(move || server.run()) }
}

impl Running {
    /// Sends raw bytes and gives the answer's status and body.
    fn ask(&self, request: &[u8]) -> (u16, String) {
        use std::io::{Read, Write};
        let connection = TcpStream::connect(self.settings.listen).expect("it listens");
        let connection = http::Until::new(connection, Instant::now() + Duration::from_secs(10));
        let mut answer = String::new();
        if self.settings.tls {
            let client = tls::client(&self.settings.ca).expect("roots");
            let mut connection = tls::connect(&client, "localhost", connection).expect("a handshake");
            connection.write_all(request).and_then(|()| connection.flush()).expect("sent");
            connection.read_to_string(&mut answer).expect("an answer and a goodbye");
        } else {
            let mut connection = connection;
            connection.write_all(request).expect("sent");
            connection.read_to_string(&mut answer).expect("an answer");
        }
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    fn end(self) {
        self.stop.now();
        self.server.join().expect("it ends");
        assert!(healthcheck(&self.settings).is_err(), "healthy after its end");
    }
}

/// A request as SonarQube sent it: its own head, with the path of the gateway.
fn recorded_request() -> (String, String) {
    let file: serde_json::Value = serde_json::from_str(RECORDED).expect("JSON");
    let head = file["rawHead"].as_str().expect("a head").replace("/ok/main", "/sonarqube");
    (head, file["body"].as_str().expect("a body").to_owned())
}

#[test]
fn a_real_request_over_tls_is_on_disk_when_it_is_answered_and_a_second_one_is_known() {
    let running = start(true, 10);
    healthcheck(&running.settings).expect("it is healthy");
    let (head, body) = recorded_request();
    let request = format!("{head}\r\n\r\n{body}");
    assert_eq!(running.ask(request.as_bytes()), (200, "{\"alert\":\"kept\"}".to_owned()));
    assert_eq!(running.spool.read(1).expect("on disk").summary, "Quality gate failed: \"bad\"");
    assert_eq!(running.ask(request.as_bytes()), (200, "{\"alert\":\"known\"}".to_owned()));
    let (_, health) = running.ask(b"GET /health HTTP/1.1\r\n\r\n");
    assert!(health.contains("\"certificate_days\":") && !health.contains("\"certificate_days\":null"), "{health}");
    assert!(health.contains("\"waiting\":1") && health.contains("not known yet") && health.contains("\"status\":\"ok\""), "{health}");
    let (_, metrics) = running.ask(b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(metrics.contains("received_total{answer=\"kept\"} 1\n") && metrics.contains("alert_gateway_waiting 1\n"), "{metrics}");
    running.end();
}

#[test]
fn an_alert_of_another_source_waits_for_its_own_webhook_and_holds_up_nobody() {
    let running = start(false, 10);
    let recorded: serde_json::Value = serde_json::from_str(include_str!("../tests/alertmanager.json")).expect("JSON");
    let body = recorded["requests"][0]["body"].as_str().expect("a body");
    let request =
        |token: &str| format!("POST /alertmanager HTTP/1.1\r\nAuthorization: {token}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(running.ask(request("Bearer another").as_bytes()).0, 401);
    assert_eq!(running.ask(request(&format!("Bearer {SECRET}")).as_bytes()), (200, "{\"alert\":\"kept\"}".to_owned()));
    let (head, body) = recorded_request();
    assert_eq!(running.ask(format!("{head}\r\n\r\n{body}").as_bytes()).0, 200);
    assert_eq!(running.spool.first(|_, source| source == Source::Sonarqube).map(|(number, ..)| number), Some(2));
    fs_err::write(&running.settings.webhooks[&Source::Alertmanager], "http://127.0.0.1:1/hooks/x").expect("written");
    let (_, health) = running.ask(b"GET /health HTTP/1.1\r\n\r\n");
    assert!(health.contains("\"alertmanager\":\"on\"") && health.contains("\"sonarqube\":\"on, and its webhook is not known"), "{health}");
    running.end();
}

#[test]
fn what_is_forged_unsigned_cut_or_unknown_is_not_kept() {
    let running = start(false, 1);
    let (head, body) = recorded_request();
    let unsigned = head.lines().filter(|line| !line.starts_with("X-Sonar-Webhook")).collect::<Vec<_>>().join("\r\n");
    let shorter = head.replace("Content-Length: 1581", "Content-Length: 1580");
    for (request, wanted) in [
        (format!("{unsigned}\r\n\r\n{body}"), 401),
        (format!("{head}\r\n\r\n{}", body.replace("strict", "forged")), 401),
        (format!("{shorter}\r\n\r\n{body}"), 401),
        (format!("{}\r\n\r\n{body}", head.replace("/sonarqube", "/other")), 404),
        (format!("{}\r\n\r\n{body}", head.replace("POST", "PUT")), 405),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 404),
    ] {
        assert_eq!(running.ask(request.as_bytes()).0, wanted, "{request:.300}");
        assert_eq!(running.spool.status().waiting, 0);
    }
    // Plain HTTP to it, so that a client of TLS is told nothing.
    let secured = settings(running.folder.path(), true, running.settings.listen);
    assert!(healthcheck(&secured).is_err(), "TLS to plain HTTP");
    running.end();
}

#[test]
fn a_full_spool_is_told_and_what_was_refused_is_not_known() {
    let running = start(false, 1);
    running.spool.accept(&spool::tests::alert("a", "1", alert::Verdict::Bad)).expect("kept");
    let (head, body) = recorded_request();
    let request = format!("{head}\r\n\r\n{body}");
    assert_eq!(running.ask(request.as_bytes()).0, 503);
    running.spool.posted(1).expect("noted");
    assert_eq!(running.ask(request.as_bytes()), (200, "{\"alert\":\"kept\"}".to_owned()));
    running.end();
}

#[test]
fn a_certificate_that_is_not_trusted_is_not_healthy() {
    let running = start(true, 1);
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    fs_err::write(running.folder.path().join("cert.pem"), other.cert.pem()).expect("written");
    let error = healthcheck(&running.settings).expect_err("another root").to_string();
    assert!(error.contains("TLS as 127.0.0.1"), "{error}");
    running.end();
}
