//! A registry that misbehaves, on loopback, and what is made of it. The real one is in the acceptance claims.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// It refuses every write.
    Refuses,
    /// It takes a request and says nothing.
    Silent,
    /// It thinks about each request, longer than all of them may take together and less than one.
    Slow,
    /// So many times it takes half of a piece and hangs up.
    Cuts(u32),
    /// So many times it answers a write with 503.
    Overloaded(u32),
    /// It says that a blob has another digest.
    LiesOfBlobs,
    /// It gives back another manifest.
    LiesOfManifests,
    /// It takes a blob and has it not.
    Forgets,
    /// It keeps the list of referrers by itself, and says so.
    KnowsSubjects,
    /// It wants a token, and its first one grows old at once.
    Tokens,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    asked: Vec<String>,
}

struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    authorization: String,
    length: usize,
}

fn request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ');
    let mut request = Request { method: words.next()?.to_owned(), path: words.next()?.to_owned(), authorization: String::new(), length: 0 };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Some(request) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => request.length = value.parse().unwrap(),
            "authorization" => request.authorization = value.to_owned(),
            _ => {}
        }
    }
}

fn answer(stream: &mut TcpStream, method: &str, status: &str, headers: &[(&str, String)], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    if method != "HEAD" {
        let _ = stream.write_all(body);
    }
}

impl Server {
    fn start(fault: Fault) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, own) = (Arc::clone(&state), address.clone());
        std::thread::spawn(move || {
            let fault = Arc::new(Mutex::new(fault));
            for stream in listener.incoming() {
                let (state, fault, own) = (Arc::clone(&shared), Arc::clone(&fault), own.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &state, &fault, &own));
            }
        });
        Server { address, state }
    }

    fn connect(&self, login: Option<Login>) -> Result<Client> {
        let patience = Patience { tries: 3, pause: Duration::from_millis(1), silence: Duration::from_millis(400) };
        Client::connect(Address::parse(&format!("http://{}", self.address))?, None, login, patience)
    }

    fn asked(&self, what: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|line| line.starts_with(what)).count()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, fault: &Mutex<Fault>, own: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(request) = request(&mut reader) else { return };
    let method = request.method.as_str();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let fault_now = *fault.lock().unwrap();
    state.lock().unwrap().asked.push(format!("{method} {path} {}", request.authorization));
    let writes = matches!(method, "POST" | "PUT" | "PATCH");
    match fault_now {
        Fault::Slow => std::thread::sleep(Duration::from_millis(150)),
        Fault::Silent if method == "HEAD" => {
            // Until the client hangs up.
            let _ = reader.read_line(&mut String::new());
            return;
        }
        Fault::Refuses if writes => {
            let why = br#"{"errors":[{"code":"DENIED","message":"the quota is used up"}]}"#;
            return answer(&mut stream, method, "403 Forbidden", &[], why);
        }
        Fault::Overloaded(left) if writes && left > 0 => {
            *fault.lock().unwrap() = Fault::Overloaded(left - 1);
            return answer(&mut stream, method, "503 Service Unavailable", &[], b"");
        }
        Fault::Cuts(left) if method == "PATCH" && left > 0 => {
            *fault.lock().unwrap() = Fault::Cuts(left - 1);
            let mut half = vec![0; request.length / 2];
            reader.read_exact(&mut half).unwrap();
            state.lock().unwrap().uploads.get_mut(path).unwrap().extend(half);
            return;
        }
        Fault::Tokens if path == "/token" => {
            let count = state.lock().unwrap().asked.iter().filter(|line| line.starts_with("GET /token")).count();
            return answer(&mut stream, method, "200 OK", &[], format!("{{\"token\": \"t{count}\"}}").as_bytes());
        }
        // The first one is refused once it is used: as if it had grown old.
        Fault::Tokens if request.authorization != "Bearer t2" => {
            let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"here\"");
            return answer(&mut stream, method, "401 Unauthorized", &[("WWW-Authenticate", challenge)], b"");
        }
        _ => {}
    }
    let mut body = vec![0; request.length];
    reader.read_exact(&mut body).unwrap();
    let mut state = state.lock().unwrap();
    let name = path.rsplit('/').next().unwrap().to_owned();
    match method {
        "GET" if path == "/v2/" => answer(&mut stream, method, "200 OK", &[], b""),
        "HEAD" if path.contains("/blobs/") => match state.blobs.get(&name) {
            Some(blob) => answer(&mut stream, method, "200 OK", &[("Content-Length", blob.len().to_string())], b""),
            None => answer(&mut stream, method, "404 Not Found", &[], b""),
        },
        "POST" => {
            let place = format!("/uploads/{}", state.asked.len());
            state.uploads.insert(place.clone(), Vec::new());
            answer(&mut stream, method, "202 Accepted", &[("Location", place)], b"");
        }
        "PATCH" => {
            let upload = state.uploads.get_mut(path).unwrap();
            upload.extend(body);
            answer(&mut stream, method, "202 Accepted", &[("Location", path.to_owned())], b"");
        }
        "GET" if path.starts_with("/uploads/") => {
            let length = state.uploads[path].len();
            let headers = [("Location", path.to_owned()), ("Range", format!("0-{}", length.saturating_sub(1)))];
            answer(&mut stream, method, "204 No Content", &headers, b"");
        }
        "PUT" if path.starts_with("/uploads/") => {
            let digest = query.trim_start_matches("digest=").replace("%3A", ":");
            let blob = state.uploads.remove(path).unwrap();
            if Digest::of(&blob).oci() != digest {
                return answer(&mut stream, method, "400 Bad Request", &[], br#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            let said = if fault_now == Fault::LiesOfBlobs { Digest::of("another").oci() } else { digest.clone() };
            if fault_now != Fault::Forgets {
                state.blobs.insert(digest, blob);
            }
            answer(&mut stream, method, "201 Created", &[("Docker-Content-Digest", said)], b"");
        }
        "PUT" => {
            state.manifests.insert(Digest::of(&body).oci(), body.clone());
            state.manifests.insert(name, body);
            let subject = (fault_now == Fault::KnowsSubjects).then(|| ("OCI-Subject", "sha256:00".to_owned()));
            answer(&mut stream, method, "201 Created", subject.as_slice(), b"");
        }
        _ => match state.manifests.get(&name) {
            Some(_) if fault_now == Fault::LiesOfManifests => answer(&mut stream, method, "200 OK", &[], b"{\"another\": true}"),
            Some(manifest) => answer(&mut stream, method, "200 OK", &[], manifest),
            None => answer(&mut stream, method, "404 Not Found", &[], b""),
        },
    }
}

/// Some pieces and a bit.
fn blob() -> Vec<u8> {
    (0..2 * PIECE + 100).map(|at| (at / 7 % 251) as u8).collect()
}

fn put(client: &Client, bytes: &[u8]) -> Result<Arrival> {
    client.put_blob("chatops/x", (&Digest::of(bytes), bytes.len() as u64), None, Cursor::new(bytes), &|_| {})
}

fn refused(fault: Fault) -> Error {
    let server = Server::start(fault);
    server.connect(None).and_then(|client| put(&client, b"a blob")).unwrap_err()
}

#[test]
fn a_blob_arrives_once_and_is_not_sent_again() {
    let (server, blob) = (Server::start(Fault::Nothing), blob());
    let client = server.connect(None).unwrap();
    assert_eq!(put(&client, &blob).unwrap(), Arrival::Sent);
    assert_eq!((put(&client, &blob).unwrap(), server.asked("PATCH")), (Arrival::There, 3));
    assert!(server.state.lock().unwrap().blobs[&Digest::of(&blob).oci()] == blob);
}

#[test]
fn a_connection_that_breaks_in_the_middle_costs_what_did_not_arrive_and_no_more() {
    let (server, blob) = (Server::start(Fault::Cuts(4)), blob());
    assert_eq!(put(&server.connect(None).unwrap(), &blob).unwrap(), Arrival::Sent);
    assert!(server.state.lock().unwrap().blobs[&Digest::of(&blob).oci()] == blob);
    assert_eq!(server.asked("POST"), 1, "one upload, gone on with");
}

#[test]
fn a_server_that_is_overloaded_is_asked_again_but_not_for_ever() {
    let server = Server::start(Fault::Overloaded(2));
    assert_eq!(put(&server.connect(None).unwrap(), b"a blob").unwrap(), Arrival::Sent);
    let error = refused(Fault::Overloaded(100));
    assert_eq!(error.class(), Class::Server);
    assert!(error.to_string().contains("503") && error.to_string().contains("3 tries"), "{error}");
}

#[test]
fn a_registry_that_refuses_is_quoted_and_one_that_says_nothing_is_named() {
    let error = refused(Fault::Refuses);
    assert_eq!(error.class(), Class::Server);
    let text = error.to_string();
    assert!(text.contains("is refused\n  answered 403 Forbidden; DENIED: the quota is used up") && text.contains("docker login"), "{text}");
    let error = refused(Fault::Silent);
    assert!(error.class() == Class::Server && error.to_string().contains("timed out"), "{error}");
    let nobody = Address::parse("http://127.0.0.1:9").unwrap();
    let patience = Patience { tries: 1, ..Patience::default() };
    let error = Client::connect(nobody, None, None, patience).err().unwrap();
    assert!(error.class() == Class::Server && error.to_string().contains("registry 127.0.0.1:9: finding it"), "{error}");
}

#[test]
fn a_registry_that_is_slow_is_waited_for_as_long_as_it_says_something() {
    let (server, blob, begin) = (Server::start(Fault::Slow), blob(), std::time::Instant::now());
    let client = server.connect(None).unwrap();
    assert_eq!(put(&client, &blob).unwrap(), Arrival::Sent);
    assert!(begin.elapsed() > client.patience.silence, "no request was slow enough to matter");
    assert!(server.state.lock().unwrap().blobs[&Digest::of(&blob).oci()] == blob);
}

#[test]
fn lies_about_digests_are_found() {
    for fault in [Fault::LiesOfBlobs, Fault::Forgets] {
        let error = refused(fault);
        assert_eq!(error.class(), Class::HashMismatch, "{fault:?}: {error}");
    }
    let server = Server::start(Fault::LiesOfManifests);
    let error = server.connect(None).unwrap().put_manifest("chatops/x", "1", images::oci::MANIFEST, b"{}").unwrap_err();
    assert!(error.class() == Class::HashMismatch && error.to_string().contains("expected sha256:44136fa3"), "{error}");
    let server = Server::start(Fault::Nothing);
    let client = server.connect(None).unwrap();
    assert!(!client.put_manifest("chatops/x", "1", images::oci::MANIFEST, b"{}").unwrap(), "it said nothing of subjects");
    let knows = Server::start(Fault::KnowsSubjects);
    assert!(knows.connect(None).unwrap().put_manifest("chatops/x", "1", images::oci::MANIFEST, b"{}").unwrap());
    // Content that is not what its digest says: the layout changed under our hands.
    let error = client.put_blob("x", (&Digest::of("one"), 3), None, Cursor::new("two"), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
}

#[test]
fn a_token_is_got_with_the_password_and_got_anew_when_it_is_old() {
    let server = Server::start(Fault::Tokens);
    let login = Login::Password { name: "me".to_owned(), password: "secret".to_owned() };
    assert_eq!(put(&server.connect(Some(login)).unwrap(), b"a blob").unwrap(), Arrival::Sent);
    let state = server.state.lock().unwrap();
    let with_password: Vec<&String> = state.asked.iter().filter(|line| line.contains("Basic bWU6c2VjcmV0")).collect();
    assert!(!with_password.is_empty() && with_password.iter().all(|line| line.starts_with("GET /token")), "{:?}", state.asked);
}

#[test]
fn parameters_of_a_challenge_are_found_quoted_and_not() {
    let challenge = r#"Bearer realm="https://auth.example.org/token?a=b,c",service=here, scope="x""#;
    assert_eq!(parameter(challenge, "realm").unwrap(), "https://auth.example.org/token?a=b,c");
    assert_eq!((parameter(challenge, "service").unwrap(), parameter(challenge, "scope").unwrap()), ("here".to_owned(), "x".to_owned()));
    assert_eq!(parameter(challenge, "error"), None);
    assert_eq!(parameter("Bearer", "realm"), None);
}
