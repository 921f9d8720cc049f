//! Doubles of the APIs of SonarQube, Jenkins and GitLab: as much as `cargo xtask integrations` asks of them, and no more.
//!
//! They are for tests alone. Each says what it is when it starts and in every answer (`X-Played-By`). SonarQube's is held to the answers
//! of real servers (`contract/sonarqube.json`); those of Jenkins and GitLab follow their documentation, because neither could be run here.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with a place")]

pub mod gitlab;
pub mod jenkins;
pub mod sonarqube;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its path, as it came.
    pub path: String,
    /// What stood behind the question mark and in a form.
    pub params: BTreeMap<String, String>,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Asked {
    /// User and password of `Authorization: Basic`.
    pub fn basic(&self) -> Option<(String, String)> {
        let text = STANDARD.decode(self.headers.get("authorization")?.strip_prefix("Basic ")?).ok()?;
        let (user, password) =
            String::from_utf8(text).ok()?.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))?;
        Some((user, password))
    }

    /// A parameter; empty where it is missing.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// What certificate is shown.
pub type Tls = Box<dyn Fn() -> Arc<ServerConfig> + Send>;

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// `Content-Type`.
    pub kind: &'static str,
    /// `Location`, where it leads on.
    pub location: Option<String>,
    /// Body.
    pub body: String,
}

impl Answer {
    /// Anything.
    pub fn page(status: u16, kind: &'static str, body: impl ToString) -> Answer {
        Answer { status, kind, location: None, body: body.to_string() }
    }

    /// JSON.
    pub fn json(status: u16, body: impl ToString) -> Answer {
        Answer::page(status, "application/json", body)
    }

    /// Nothing but a status.
    pub fn empty(status: u16) -> Answer {
        Answer::page(status, "text/plain", "")
    }

    /// 302.
    pub fn redirect(location: String) -> Answer {
        Answer { location: Some(location), ..Answer::empty(302) }
    }
}

/// A tool.
pub trait Plays: Send + 'static {
    /// Which one, with its version.
    fn name(&self) -> String;
    /// Its answer.
    fn answer(&mut self, asked: &Asked) -> Answer;
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The tool does nothing, and answers this status with JSON that explains nothing.
    Status(u16),
    /// The tool does nothing, and asks to be left alone for so many seconds.
    Busy(u32),
    /// The tool does nothing, and answers 200 with a page.
    Html,
    /// The connection ends before the tool did anything.
    Cut,
    /// The tool does what it is asked for; the connection ends within the answer.
    Lost,
}

/// A running double; its thread ends with the test.
pub struct Double<T> {
    address: SocketAddr,
    secured: bool,
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    tool: T,
    asked: Vec<Asked>,
    faults: BTreeMap<usize, Fault>,
}

impl<T: Plays> Double<T> {
    /// On a free port of this machine.
    pub fn start(tool: T) -> Double<T> {
        Double::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), None, tool)
    }

    /// Where somebody listens already, with TLS or without; each connection asks for its certificate.
    pub fn start_at(listener: TcpListener, tls: Option<Tls>, tool: T) -> Double<T> {
        let address = listener.local_addr().unwrap();
        println!("{} at {address} is played by a double", tool.name());
        let state = Arc::new(Mutex::new(State { tool, asked: Vec::new(), faults: BTreeMap::new() }));
        let (shared, secured) = (Arc::clone(&state), tls.is_some());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accept(client, tls.as_ref(), &shared);
            }
        });
        Double { address, secured, state }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secured { "https" } else { "http" }, self.address)
    }

    /// Lets a request fail; 1 is the next one.
    pub fn fault(&self, request: usize, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        let at = state.asked.len() + request - 1;
        state.faults.insert(at, fault);
    }

    /// Lets every request from the next one on fail.
    pub fn always(&self, fault: Fault) {
        (1..=50).for_each(|request| self.fault(request, fault));
    }

    /// Takes the faults back.
    pub fn mend(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Every request since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        std::mem::take(&mut state.asked)
    }

    /// Looks at the tool, or changes it.
    pub fn tool<R>(&self, with: impl FnOnce(&mut T) -> R) -> R {
        with(&mut self.state.lock().unwrap().tool)
    }
}

fn accept<T: Plays>(client: TcpStream, tls: Option<&Tls>, state: &Mutex<State<T>>) -> Option<()> {
    client.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    match tls {
        None => serve(client, state),
        Some(tls) => serve(StreamOwned::new(ServerConnection::new(tls()).ok()?, client), state),
    }
}

fn serve<T: Plays>(mut client: impl Read + Write, state: &Mutex<State<T>>) -> Option<()> {
    let asked = read(&mut client)?;
    let mut state = state.lock().unwrap();
    let fault = state.faults.get(&state.asked.len()).copied();
    state.asked.push(asked.clone());
    let answer = match fault {
        Some(Fault::Cut) => return None,
        Some(Fault::Status(status)) => Answer::json(status, "{}"),
        Some(Fault::Busy(_)) => Answer::json(429, "{}"),
        Some(Fault::Html) => Answer::page(200, "text/html", "<!DOCTYPE html><title>Sign in</title>"),
        Some(Fault::Lost) | None => state.tool.answer(&asked),
    };
    let Answer { status, kind, location, body } = answer;
    let mut head = format!("HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nX-Played-By: a double of {}\r\n", state.tool.name());
    if let Some(location) = location {
        head.push_str(&format!("Location: {location}\r\n"));
    }
    if let Some(Fault::Busy(seconds)) = fault {
        head.push_str(&format!("Retry-After: {seconds}\r\n"));
    }
    let more = usize::from(fault == Some(Fault::Lost)) * 9;
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len() + more) };
    client.write_all(format!("{head}{length}Connection: close\r\n\r\n{body}").as_bytes()).ok()
}

fn read(client: &mut impl Read) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let (head, length, text) = loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
            let lower = text.to_lowercase();
            let length: usize = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if bytes.len() >= head + 4 + length {
                break (head, length, text);
            }
        }
        match client.read(&mut piece).ok()? {
            0 => return None,
            count => bytes.extend_from_slice(&piece[..count]),
        }
    };
    let body = String::from_utf8_lossy(&bytes[head + 4..head + 4 + length]).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: BTreeMap<String, String> =
        lines.filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))).collect();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut params: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    if headers.get("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        params.extend(url::form_urlencoded::parse(body.as_bytes()).into_owned());
    }
    Some(Asked { method, path: path.to_owned(), params, headers, body })
}
