//! The program as a container starts it, with a TLS server and a database that the test plays. Needs `openssl` for certificates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[expect(clippy::disallowed_methods, reason = "the test plays the container engine")]
fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(variables.iter().copied());
    command.args(arguments).stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn entrypoint(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    run(env!("CARGO_BIN_EXE_mattermost-entrypoint"), arguments, variables)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// `ca.pem` and, signed by it, `leaf.pem` with `key.pem` for `names`.
fn certificates(folder: &Path, names: &str) {
    let openssl = |arguments: &str| {
        let words: Vec<String> = arguments.split(' ').map(|word| word.replace("DIR", text(folder))).collect();
        let output = run("openssl", &words.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        assert!(output.status.success(), "openssl {arguments}: {}", said(&output));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&format!("req -x509 {key} -subj /CN=root -keyout DIR/ca-key.pem -out DIR/ca.pem"));
    let extensions = format!("-addext subjectAltName={names} -addext basicConstraints=critical,CA:FALSE");
    openssl(&format!(
        "req -x509 {key} -subj /CN=leaf {extensions} -CA DIR/ca.pem -CAkey DIR/ca-key.pem -keyout DIR/key.pem -out DIR/leaf.pem"
    ));
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Answers one request with `status` and `body`, over TLS where there are certificates.
fn server(tls: Option<&Path>, status: &'static str, body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let config = tls.map(|folder| {
        let chain = CertificateDer::pem_file_iter(folder.join("leaf.pem")).expect("there").collect::<Result<_, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("PEM");
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        Arc::new(builder.with_single_cert(chain, key).expect("they belong together"))
    });
    std::thread::spawn(move || {
        let Ok((mut connection, _)) = listener.accept() else { return };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let talk = |connection: &mut dyn ReadWrite| {
            let mut request = [0; 1024];
            let length = connection.read(&mut request).unwrap_or(0);
            assert!(request[..length].starts_with(b"GET /api/v4/system/ping?get_server_status=true HTTP/1.0\r\n"));
            let _ = connection.write_all(answer.as_bytes());
        };
        let Some(config) = config else { return talk(&mut connection) };
        let mut session = rustls::ServerConnection::new(config).expect("a session");
        if session.complete_io(&mut connection).is_ok() {
            talk(&mut rustls::Stream::new(&mut session, &mut connection));
            session.send_close_notify();
            let _ = session.complete_io(&mut connection);
        }
    });
    address
}

const OK: &str = r#"{"database_status":"OK","filestore_status":"OK","status":"OK"}"#;
const SICK: &str = r#"{"database_status":"UNHEALTHY","filestore_status":"OK","status":"UNHEALTHY"}"#;

#[test]
fn health_over_plain_http_is_what_the_server_says() {
    for (status, body, healthy) in [("200 OK", OK, true), ("500 Internal Server Error", SICK, false), ("200 OK", "<html>", false)] {
        let listen = server(None, status, body).to_string();
        let checked = entrypoint(&["healthcheck"], &[("MM_SERVICESETTINGS_LISTENADDRESS", &listen)]);
        assert_eq!(checked.status.code(), Some(i32::from(!healthy)), "{status} {body}: {}", said(&checked));
    }
}

#[test]
fn health_over_tls_needs_the_sites_name_and_a_trusted_root() {
    let (ours, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    certificates(ours.path(), "DNS:chat.example.lan,IP:192.0.2.10");
    certificates(other.path(), "DNS:chat.example.lan");
    let [ca, foreign] = [ours.path().join("ca.pem"), other.path().join("ca.pem")];
    for (site, roots, wanted) in [
        ("https://chat.example.lan:8065", &ca, None),
        ("https://192.0.2.10:8065", &ca, None),
        ("https://chat.example.lan", &foreign, Some("invalid peer certificate")),
        ("https://mail.example.lan", &ca, Some("not valid for name \"mail.example.lan\"")),
        ("https://chat.example.lan", &ours.path().join("none"), Some("reading ")),
    ] {
        let listen = server(Some(ours.path()), "200 OK", OK).to_string();
        let variables = [
            ("MM_SERVICESETTINGS_LISTENADDRESS", listen.as_str()),
            ("MM_SERVICESETTINGS_CONNECTIONSECURITY", "TLS"),
            ("MM_SERVICESETTINGS_SITEURL", site),
            ("MATTERMOST_CA_FILE", text(roots)),
        ];
        let checked = entrypoint(&["healthcheck"], &variables);
        assert_eq!(checked.status.code(), Some(i32::from(wanted.is_some())), "{site}: {}", said(&checked));
        assert!(said(&checked).contains(wanted.unwrap_or("")), "{site}: expected {wanted:?} in {}", said(&checked));
    }
}

#[test]
fn the_server_gets_the_secrets_in_its_environment_once_the_database_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = database.local_addr().expect("bound").port();
    let asked = std::thread::spawn(move || {
        let mut question = [0; 8];
        // The first time it hangs up, as a database does that has only just begun.
        drop(database.accept().expect("a client"));
        let (mut client, _) = database.accept().expect("it asks again");
        client.read_exact(&mut question).and_then(|()| client.write_all(b"S")).expect("answered");
    });
    let file = folder.path().join("mattermost.env");
    fs_err::write(&file, format!("MM_SQLSETTINGS_DATASOURCE=postgres://mm:hush@127.0.0.1:{port}/mm\n")).expect("written");
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).expect("set");
    let variables = [("MATTERMOST_SECRETS_FILE", text(&file)), ("MM_SERVICESETTINGS_SITEURL", "https://chat.example.lan")];
    let script = "tr '\\0' ' ' < /proc/$$/cmdline; echo; echo \"$MM_SQLSETTINGS_DATASOURCE $MM_SERVICESETTINGS_SITEURL\"; exit 7";
    let started = entrypoint(&["/bin/sh", "-c", script], &variables);
    asked.join().expect("it was asked twice");
    let (out, talk) = (String::from_utf8_lossy(&started.stdout), String::from_utf8_lossy(&started.stderr));
    let (arguments, environment) = out.split_once('\n').expect("two lines");
    assert!(arguments.starts_with("/bin/sh -c ") && !arguments.contains("hush"), "{arguments}");
    assert_eq!(environment, format!("postgres://mm:hush@127.0.0.1:{port}/mm https://chat.example.lan\n"));
    assert_eq!(started.status.code(), Some(7), "not the server's own exit code: {talk}");
    assert!(talk.contains(&format!("waiting for the database 127.0.0.1:{port}")) && !talk.contains("hush"), "{talk}");
}

#[test]
fn what_cannot_be_started_is_refused_with_exit_code_2() {
    for (arguments, variables, wanted) in [
        (&["mattermost"][..], &[][..], "the command line is not usable"),
        (&["check"], &[("MATTERMOST_SECRETS_FILE", "/none")], "/none"),
        (&[], &[("MM_NONSENSE", "1"), ("MATTERMOST_SECRETS_FILE", "/none")], "MM_NONSENSE is not a setting"),
        (&["healthcheck"], &[("MM_SERVICESETTINGS_CONNECTIONSECURITY", "tls")], "MM_SERVICESETTINGS_CONNECTIONSECURITY is not usable"),
    ] {
        let refused = entrypoint(arguments, variables);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", said(&refused));
        assert!(said(&refused).contains(wanted), "expected {wanted:?} in {}", said(&refused));
    }
}
