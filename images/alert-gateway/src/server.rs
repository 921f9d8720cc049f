//! A small HTTP/1.1 server: one thread a connection, one request a connection, hard limits on both size and time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The body of a healthy answer.
pub const HEALTHY: &str = "{\"status\":\"ok\"}";

/// Request line and headers may be this long, in bytes.
const HEAD: usize = 8 * 1024;
/// A request has to be there, and its answer taken, within this time.
const REQUEST: Duration = Duration::from_secs(5);
/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 64;
/// How long requests that are under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// A bound server.
pub struct Server {
    listener: TcpListener,
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
    pub fn new(listener: TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Server { listener, stop: Stop { flag: Arc::default(), address }, open: Arc::default() })
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
            // Where no thread can be started, dropping both closes the connection.
            let _ = std::thread::Builder::new().spawn(move || {
                answer(connection);
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

fn answer(mut connection: TcpStream) {
    let deadline = Instant::now() + REQUEST;
    let (status, body) = match read_head(&mut connection, deadline) {
        Head::Complete(head) => route(&head),
        Head::TooLong => ("431 Request Header Fields Too Large", "{\"error\":\"the request's head is too long\"}"),
        Head::TooLate => ("408 Request Timeout", "{\"error\":\"the request took too long\"}"),
        Head::Closed => return,
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // Whether the client still listens is its own affair.
    let _ = connection.set_write_timeout(Some(REQUEST)).and_then(|()| connection.write_all((head + body).as_bytes()));
}

fn route(head: &str) -> (&'static str, &'static str) {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some("/health"), Some("HTTP/1.1" | "HTTP/1.0")) => ("200 OK", HEALTHY),
        (Some(_), Some(path), Some("HTTP/1.1" | "HTTP/1.0")) if path.starts_with('/') => ("404 Not Found", "{\"error\":\"not found\"}"),
        _ => ("400 Bad Request", "{\"error\":\"not an HTTP request\"}"),
    }
}

enum Head {
    Complete(String),
    TooLong,
    TooLate,
    Closed,
}

/// Reads up to the empty line. The deadline holds for the whole head, so that one byte a second does not help.
fn read_head(connection: &mut TcpStream, deadline: Instant) -> Head {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Head::TooLate;
        }
        let _ = connection.set_read_timeout(Some(left));
        match connection.read(&mut buffer) {
            Ok(0) => return Head::Closed,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return Head::TooLate,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Head::Closed,
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            return Head::Complete(String::from_utf8_lossy(&bytes[..end]).into_owned());
        }
        if bytes.len() > HEAD {
            return Head::TooLong;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = Server::new(listener).expect("bound");
        let stop = server.stop();
        let running = std::thread::spawn(move || server.run());
        let mut connection = TcpStream::connect(stop.address).expect("it listens");
        let mut answer = String::new();
        // The server may answer and close before it has read all of an oversized request.
        let _ = connection.write_all(request.as_bytes());
        let _ = connection.shutdown(std::net::Shutdown::Write);
        let _ = connection.read_to_string(&mut answer);
        stop.now();
        running.join().expect("it ends");
        answer
    }

    #[test]
    fn only_health_is_there() {
        let healthy = talk("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(healthy.starts_with("HTTP/1.1 200 OK\r\n") && healthy.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{healthy}");
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /health/ HTTP/1.1\r\n\r\n", "404"),
            ("POST /health HTTP/1.1\r\n\r\n", "404"),
            ("POST /sonarqube HTTP/1.1\r\n\r\n", "404"),
            ("GET /health\r\n\r\n", "400"),
            ("\u{16}\u{3}\u{1}\r\n\r\n", "400"),
        ] {
            let answer = talk(request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let answer = talk(&format!("GET /health HTTP/1.1\r\nX: {}", "x".repeat(HEAD)));
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert_eq!(talk("GET /health HTT"), "", "half a request got an answer");
    }

    #[test]
    fn a_request_that_comes_too_slowly_is_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let _silent = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (mut connection, _) = listener.accept().expect("connected");
        assert!(matches!(read_head(&mut connection, Instant::now() + Duration::from_millis(20)), Head::TooLate));
    }
}
