//! A small HTTP/1.1 server, over TLS or not: one thread a connection, one request a connection, hard limits on both size and time.

mod request;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use entrypoint::http::Until;
use request::Bad;
pub use request::Head;

/// A request has to be there, and its answer taken, within this time. SonarQube waits 10 s.
const REQUEST: Duration = Duration::from_secs(5);
/// How long, and for how many bytes, to listen to a client that goes on sending after its answer: closed at once, it would
/// see a broken connection instead of the answer.
const REST: (Duration, u64) = (Duration::from_secs(1), 1024 * 1024);
/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 64;
/// How long requests that are under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Status line, type, and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Code and reason: `200 OK`.
    pub status: &'static str,
    /// `Content-Type`.
    pub kind: &'static str,
    /// `Location`: where to ask instead.
    pub location: Option<String>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// An error, told as JSON.
    pub fn error(status: &'static str, what: &str) -> Self {
        Answer::json(status, &serde_json::json!({ "error": what }))
    }

    /// JSON.
    pub fn json(status: &'static str, body: &serde_json::Value) -> Self {
        Answer { status, kind: "application/json", location: None, body: body.to_string() }
    }
}

/// What the server serves.
pub trait Service: Send + Sync + 'static {
    /// Looks at the head alone. Either the answer, or what the body is wanted for.
    ///
    /// # Errors
    /// An answer that needs no body.
    fn head(&self, head: &Head) -> Result<(), Answer>;
    /// Answers a request whose body was wanted.
    fn body(&self, head: &Head, body: &[u8]) -> Answer;
}

/// A bound server.
pub struct Server {
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: Arc<dyn Service>,
    stop: Stop,
    open: Arc<(Mutex<usize>, Condvar)>,
}

/// Tells a server to stop, from any thread.
#[derive(Clone)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    address: SocketAddr,
}

impl Stop {
    /// Takes no connection any more; those that are open are finished.
    pub fn now(&self) {
        self.flag.store(true, Ordering::SeqCst);
        // The server waits in accept: this wakes it.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Server {
    /// Serves on `listener` once [`Server::run`] is called.
    pub fn new(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, service: Arc<dyn Service>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Server { listener, tls, service, stop: Stop { flag: Arc::default(), address }, open: Arc::default() })
    }

    /// What stops this server.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until it is stopped.
    pub fn run(self) {
        for connection in self.listener.incoming() {
            if self.stop.flag.load(Ordering::SeqCst) {
                break;
            }
            match connection {
                Ok(connection) => self.take(connection),
                // Out of file descriptors, most likely: give the open connections time to end.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        drop(self.listener);
        let (count, ended) = &*self.open;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.wait_timeout_while(count, GRACE, |open| *open > 0);
    }

    fn take(&self, connection: TcpStream) {
        let open = Open::new(&self.open);
        if open.number <= CONNECTIONS {
            let (service, tls) = (Arc::clone(&self.service), self.tls.clone());
            // Where no thread can be started, dropping both closes the connection.
            let _ = std::thread::Builder::new().spawn(move || {
                // Whether the client still listens is its own affair.
                let _ = converse(connection, tls, &*service);
                drop(open);
            });
        }
    }
}

/// One of the open connections, counted.
struct Open {
    number: usize,
    all: Arc<(Mutex<usize>, Condvar)>,
}

impl Open {
    fn new(all: &Arc<(Mutex<usize>, Condvar)>) -> Self {
        let mut count = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        Open { number: *count, all: Arc::clone(all) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.all.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.all.1.notify_all();
    }
}

fn converse(connection: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, service: &dyn Service) -> std::io::Result<()> {
    // The goodbye of TLS follows the answer in a packet of its own, and would wait for a client that acknowledges late: 40 ms.
    connection.set_nodelay(true)?;
    let raw = connection.try_clone()?;
    let mut bounded = Until::new(connection, Instant::now() + REQUEST);
    match tls {
        None => answer(&mut bounded, service)?,
        Some(config) => {
            let session = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
            let mut secured = rustls::StreamOwned::new(session, bounded);
            answer(&mut secured, service)?;
            secured.conn.send_close_notify();
            secured.flush()?;
        }
    }
    raw.shutdown(std::net::Shutdown::Write)?;
    std::io::copy(&mut Until::new(raw, Instant::now() + REST.0).take(REST.1), &mut std::io::sink())?;
    Ok(())
}

fn answer(connection: &mut (impl Read + Write), service: &dyn Service) -> std::io::Result<()> {
    let answer = match request::read(connection, |head| service.head(head)) {
        Ok((head, body)) => service.body(&head, &body),
        Err(Bad::Answer(answer)) => answer,
        Err(Bad::Closed) => return Ok(()),
    };
    let location = answer.location.map(|location| format!("Location: {location}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{location}Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len()
    );
    connection.write_all((head + &answer.body).as_bytes())?;
    connection.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wants the body of every POST and says how long it was.
    struct Echo;

    impl Service for Echo {
        fn head(&self, head: &Head) -> Result<(), Answer> {
            if head.method == "POST" { Ok(()) } else { Err(Answer::json("200 OK", &head.path.as_str().into())) }
        }

        fn body(&self, _: &Head, body: &[u8]) -> Answer {
            Answer::json("200 OK", &body.len().into())
        }
    }

    fn talk(request: &[u8]) -> String {
        talk_to(Arc::new(Echo), request)
    }

    fn talk_to(service: Arc<dyn Service>, request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = Server::new(listener, None, service).expect("bound");
        let stop = server.stop();
        let running = std::thread::spawn(move || server.run());
        let mut connection = TcpStream::connect(stop.address).expect("it listens");
        let mut answer = String::new();
        // The server may answer and close before it has read all of an oversized request.
        let _ = connection.write_all(request);
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let _ = connection.read_to_string(&mut answer);
        stop.now();
        running.join().expect("it ends");
        answer
    }

    #[test]
    fn only_whole_requests_within_the_limits_are_answered() {
        let long = "x".repeat(9000);
        let big = "x".repeat(300 * 1024);
        for (request, wanted) in [
            ("GET /health HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "200"),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok".to_owned(), "200"),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(), "200"),
            ("GET /health\r\n\r\n".to_owned(), "400"),
            ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), "400"),
            (format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), "431"),
            ("POST / HTTP/1.1\r\n\r\n".to_owned(), "411"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "411"),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok".to_owned(), "400"),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nok".to_owned(), "400"),
            ("POST / HTTP/1.1\r\nContent-Length: 50000000\r\n\r\nok".to_owned(), "413"),
            (format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{big}", big.len()), "413"),
        ] {
            let answer = talk(request.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {wanted} ")), "{:.60}: {answer}", request);
        }
        assert_eq!(talk(b"GET /health HTT"), "", "half a head got an answer");
        assert_eq!(talk(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nok"), "", "half a body got an answer");
    }

    #[test]
    fn a_redirect_keeps_the_path_and_answers_nothing_else() {
        let redirect = || Arc::new(crate::redirect::Redirect { to: "https://chat.lan:8065".to_owned() });
        for (request, location) in [
            ("GET /team/channels/builds HTTP/1.1\r\nHost: x\r\n\r\n", "https://chat.lan:8065/team/channels/builds"),
            ("POST /hooks/x HTTP/1.1\r\nContent-Length: 2\r\n\r\nok", "https://chat.lan:8065/hooks/x"),
            ("GET /caf\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n", "https://chat.lan:8065/"),
        ] {
            let answer = talk_to(redirect(), request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
            assert!(answer.contains(&format!("\r\nLocation: {location}\r\n")), "{answer}");
        }
    }

    #[test]
    fn a_request_that_comes_too_slowly_is_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let _silent = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (connection, _) = listener.accept().expect("connected");
        let read = request::read(&mut Until::new(connection, Instant::now() + Duration::from_millis(20)), |_| Ok(()));
        assert!(matches!(read, Err(Bad::Answer(Answer { status, .. })) if status.starts_with("408")));
    }
}
