//! Shows pages to phones on the LAN for a while, over plain HTTP: a device that does not trust the CA yet could read them in no
//! other way, and nothing of them is secret for longer than they are shown. What a page found out comes back as a query.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};

/// A request's head; a browser's is under 2 KiB.
const LONGEST_HEAD: usize = 8 << 10;
/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at one time; more are closed at once.
const AT_ONCE: usize = 16;
/// How often to look whether it is over.
const LOOK: Duration = Duration::from_millis(200);
/// Connections in all: a whole company enrols with fewer.
const IN_ALL: usize = 5000;

/// What is shown: name below the one-time path, type, content.
pub type Shown = Vec<(&'static str, &'static str, Vec<u8>)>;

/// Pages that only show something.
const STILL: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// Pages whose own scripts talk to this server, and to nobody else.
const LIVELY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// What somebody fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// What stood behind the question mark, as it came.
    pub query: &'a str,
    /// Who.
    pub peer: IpAddr,
}

/// A listener on the LAN, and the path that nobody can guess.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    path: String,
    policy: &'static str,
}

impl Server {
    /// Listens on an address of this machine; port 0 takes a free one.
    pub fn bind(address: IpAddr, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((address, port)).map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::AddrNotAvailable => "the address is not this machine's any more: addresses in site.toml",
                ErrorKind::AddrInUse => "leave --port out for a free one",
                _ => "",
            };
            let failed = Error::new(Class::Check, format!("cannot listen on {}: {error}", SocketAddr::new(address, port)));
            if hint.is_empty() { failed } else { failed.hint(hint) }
        })?;
        listener.set_nonblocking(true)?;
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(|error| Error::new(Class::Build, format!("the system gives no random bytes: {error}")))?;
        // 80 bits in 16 letters that nobody mistakes for another when typing them.
        let letters = b"abcdefghjkmnpqrstuvwxyz23456789x";
        let bits = random.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        let path = (0..16).map(|at| char::from(letters[(bits >> (5 * at)) as usize & 31])).collect();
        Ok(Server { listener, path, policy: STILL })
    }

    /// Lets the pages' own scripts run.
    #[must_use]
    pub fn with_scripts(self) -> Self {
        Server { policy: LIVELY, ..self }
    }

    /// The page's address.
    pub fn url(&self) -> Result<String> {
        Ok(format!("http://{}/{}/", self.listener.local_addr()?, self.path))
    }

    /// Serves until the time is over, or until `heard` breaks off: it is told of each file that somebody fetched.
    pub fn run(self, shown: Shown, duration: Duration, heard: impl Fn(Fetched<'_>) -> ControlFlow<()> + Sync) -> Result<()> {
        let deadline = Instant::now() + duration;
        let (open, over) = (Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
        let (shown, path, policy) = (&shown, self.path.as_str(), self.policy);
        std::thread::scope(|scope| {
            let mut taken = 0;
            while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|_| taken < IN_ALL) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                match self.listener.accept() {
                    Ok((stream, _)) if open.load(Ordering::Relaxed) >= AT_ONCE => drop(stream),
                    Ok((stream, peer)) => {
                        taken += 1;
                        open.fetch_add(1, Ordering::Relaxed);
                        let (open, heard, over) = (Arc::clone(&open), &heard, &over);
                        scope.spawn(move || {
                            // A connection that breaks off concerns nobody else.
                            if let Ok(Some((file, query))) = talk(stream, path, policy, shown)
                                && heard(Fetched { file, query: &query, peer: peer.ip() }).is_break()
                            {
                                over.store(true, Ordering::Relaxed);
                            }
                            open.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.listener, left.min(LOOK)),
                    Err(_) => wait(&self.listener, left.min(Duration::from_millis(100))),
                }
            }
        });
        Ok(())
    }
}

/// Until somebody connects, or the time is over.
fn wait(listener: &TcpListener, left: Duration) {
    let timeout = rustix::event::Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
    let mut watched = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    // An interrupted wait is looked at again by the caller.
    let _ = rustix::event::poll(&mut watched, Some(&timeout));
}

/// One request, one answer. The file that was fetched, and the query.
fn talk<'a>(mut stream: TcpStream, path: &str, policy: &str, shown: &'a Shown) -> std::io::Result<Option<(&'a str, String)>> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let started = Instant::now();
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < LONGEST_HEAD {
        let left = PATIENCE.checked_sub(started.elapsed()).ok_or(ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut piece)? {
            0 => break,
            read => head.extend_from_slice(&piece[..read]),
        }
    }
    let (answer, fetched) = answer(&head, path, policy, shown);
    stream.write_all(&answer)?;
    Ok(fetched.map(|(file, query)| (file, query.to_owned())))
}

/// The answer to a request's head, the file that it gives, and the query.
fn answer<'a, 'b>(head: &'b [u8], path: &str, policy: &str, shown: &'a Shown) -> (Vec<u8>, Option<(&'a str, &'b str)>) {
    let complete = head.windows(4).any(|end| end == b"\r\n\r\n");
    let line = head.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else { return (plain("400 Bad Request"), None) };
    if !complete || !version.starts_with("HTTP/1.") {
        return (plain("400 Bad Request"), None);
    }
    if method != "GET" && method != "HEAD" {
        return (plain("405 Method Not Allowed"), None);
    }
    let (target, query) = target.split_once('?').unwrap_or((target, ""));
    let file = target.strip_prefix('/').and_then(|target| target.strip_prefix(path)?.strip_prefix('/'));
    let name = if file == Some("") { Some("index.html") } else { file };
    let Some((name, kind, content)) = shown.iter().find(|(known, ..)| Some(*known) == name) else { return (plain("404 Not Found"), None) };
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Content-Security-Policy: {policy}\r\n\r\n",
        content.len()
    )
    .into_bytes();
    if method == "GET" {
        answer.extend_from_slice(content);
    }
    (answer, Some((*name, query)))
}

fn plain(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        vec![("index.html", "text/html; charset=utf-8", b"page".to_vec()), ("ca.crt", "application/x-x509-ca-cert", b"der".to_vec())]
    }

    fn status(head: &str) -> String {
        let shown = shown();
        let (answer, _) = answer(head.as_bytes(), "secret", STILL, &shown);
        String::from_utf8(answer).unwrap().lines().next().unwrap()["HTTP/1.1 ".len()..].to_owned()
    }

    #[test]
    fn only_what_is_shown_is_answered_and_only_below_the_path() {
        for (head, wanted) in [
            ("GET /secret/ HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
            ("GET /secret/ca.crt?x=1 HTTP/1.1\r\n\r\n", "200 OK"),
            ("HEAD /secret/ca.crt HTTP/1.0\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /ca.crt HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /secret HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /secretx/ HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /secret/../secrets.env HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /secret/ca-key.pem HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /secret/ HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET /secret/ HTTP/1.1\r\n", "400 Bad Request"),
            ("GET /secret/\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(status(head), wanted, "{head:?}");
        }
        let shown = shown();
        let (head, fetched) = answer(b"HEAD /secret/ca.crt?a=%20b?c HTTP/1.1\r\n\r\n", "secret", STILL, &shown);
        assert!(head.ends_with(b"\r\n\r\n") && fetched == Some(("ca.crt", "a=%20b?c")));
        let (body, _) = answer(b"GET /secret/ca.crt HTTP/1.1\r\n\r\n", "secret", STILL, &shown);
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("Content-Type: application/x-x509-ca-cert\r\n") && text.ends_with("\r\n\r\nder"));
    }

    #[test]
    fn it_serves_and_ends_by_itself() {
        let server = Server::bind("127.0.0.1".parse().unwrap(), 0).unwrap();
        let url = server.url().unwrap();
        let path = url.split('/').nth(3).unwrap().to_owned();
        assert_eq!(path.len(), 16);
        let address = server.listener.local_addr().unwrap();
        let fetched = std::sync::Mutex::new(Vec::new());
        let started = Instant::now();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                // One that says nothing does not keep others from being served.
                let silent = TcpStream::connect(address).unwrap();
                let mut stream = TcpStream::connect(address).unwrap();
                write!(stream, "GET /{path}/ca.crt HTTP/1.1\r\n\r\n").unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                drop(silent);
                text
            });
            let heard = |one: Fetched<'_>| {
                fetched.lock().unwrap().push(one.file.to_owned());
                ControlFlow::Continue(())
            };
            server.run(shown(), Duration::from_millis(400), heard).unwrap();
            assert!(client.join().unwrap().ends_with("der"));
        });
        assert_eq!(*fetched.lock().unwrap(), ["ca.crt"]);
        assert!(started.elapsed() < PATIENCE + Duration::from_secs(2));
        assert!(TcpStream::connect(address).is_err(), "it listens no longer");
    }

    #[test]
    fn it_ends_when_a_page_has_said_enough() {
        let server = Server::bind("127.0.0.1".parse().unwrap(), 0).unwrap().with_scripts();
        let (address, path) = (server.listener.local_addr().unwrap(), server.path.clone());
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET /{path}/?enough HTTP/1.1\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let enough = |one: Fetched<'_>| if one.query == "enough" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let started = Instant::now();
        server.run(shown(), Duration::from_secs(60), enough).unwrap();
        assert!(started.elapsed() < Duration::from_secs(30), "it went on");
        assert!(client.join().unwrap().contains("script-src 'unsafe-inline'; connect-src 'self'"));
    }

    #[test]
    fn two_servers_have_different_paths() {
        let path = || Server::bind("127.0.0.1".parse().unwrap(), 0).unwrap().path;
        assert_ne!(path(), path());
    }

    #[test]
    fn an_address_that_is_not_this_machines_is_said() {
        let error = Server::bind("192.0.2.77".parse().unwrap(), 0).unwrap_err().to_string();
        assert!(error.contains("cannot listen on 192.0.2.77:0") && error.contains("addresses in site.toml"), "{error}");
    }
}
