//! One HTTP request, as a health check or a webhook needs it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Secret;

/// An answer larger than this is none that anybody here waits for.
const LIMIT: usize = 64 * 1024;
/// A page of a list may be larger.
const LARGE: usize = 4 * 1024 * 1024;

/// What the server said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The first header of this name; names have no case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The first header of a head, request's or answer's, without the blanks around its value.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A connection that ends at a time: a peer that sends a byte now and then does not prolong it, as it does with the timeouts of a socket.
#[derive(Debug)]
pub struct Until {
    connection: TcpStream,
    end: Instant,
}

impl Until {
    /// Bounds all that is read and written from now on.
    pub fn new(connection: TcpStream, end: Instant) -> Self {
        Until { connection, end }
    }

    /// The connection itself.
    pub fn connection(&self) -> &TcpStream {
        &self.connection
    }

    fn left(&self) -> std::io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.connection.set_read_timeout(self.left()?)?;
        self.connection.read(buffer)
    }
}

impl Write for Until {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.connection.set_write_timeout(self.left()?)?;
        self.connection.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.connection.flush()
    }
}

/// `GET path` over a connection whose timeouts the caller has set.
///
/// # Errors
/// In words, where the connection breaks or the answer is not HTTP.
pub fn get(connection: impl Read + Write, host: &str, path: &str) -> Result<Answer, String> {
    exchange(connection, asking(host, path, "").as_bytes(), LIMIT)
}

/// `GET path` with an `Authorization`, as [`get`]; the answer may be 4 MiB.
///
/// # Errors
/// As [`get`]; also where the answer is larger.
pub fn get_as(connection: impl Read + Write, host: &str, path: &str, authorization: &Secret) -> Result<Answer, String> {
    let authorization = format!("Authorization: {}\r\n", authorization.expose());
    let answer = exchange(connection, asking(host, path, &authorization).as_bytes(), LARGE)?;
    match answer.head.len() + answer.body.len() + 4 < LARGE {
        true => Ok(answer),
        false => Err(format!("the answer is larger than {LARGE} bytes")),
    }
}

/// The request of a GET; `more` are further headers, each with the end of its line.
fn asking(host: &str, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n{more}\r\n")
}

/// `POST path` with a JSON body, as [`get`].
///
/// # Errors
/// As [`get`].
pub fn post(connection: impl Read + Write, host: &str, path: &str, body: &[u8]) -> Result<Answer, String> {
    sending(connection, host, path, "application/json", body)
}

/// `POST path` with a form, its fields encoded, as [`get`].
///
/// # Errors
/// As [`get`].
pub fn post_form(connection: impl Read + Write, host: &str, path: &str, form: &str) -> Result<Answer, String> {
    sending(connection, host, path, "application/x-www-form-urlencoded", form.as_bytes())
}

fn sending(connection: impl Read + Write, host: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer, String> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    exchange(connection, &[head.as_bytes(), body].concat(), LIMIT)
}

/// The request is HTTP/1.0 (RFC 1945), to which no server answers in chunks: the body ends with the connection.
fn exchange(mut connection: impl Read + Write, request: &[u8], limit: usize) -> Result<Answer, String> {
    // Who refuses a request may answer and close before having read all of it: the answer counts, not the broken pipe.
    let sent = connection.write_all(request).and_then(|()| connection.flush());
    let mut bytes = Vec::new();
    let read = connection.take(limit as u64).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let parsed = parse(&text);
    match (sent, read) {
        (Err(error), _) if parsed.is_none() => Err(format!("sending the request: {error}")),
        // A peer that closes TLS without saying goodbye has still answered.
        (_, Err(error)) if parsed.is_none() => Err(format!("reading the answer: {error}")),
        _ => parsed.ok_or_else(|| format!("not an HTTP answer: \"{}\"", text.chars().take(60).collect::<String>().escape_debug())),
    }
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(1..)?.trim_start().get(..3)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Peer<'a>(&'a [u8], Vec<u8>);

    impl Read for Peer<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Peer<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn status_headers_and_body_are_read() {
        let answer = get(Peer(b"HTTP/1.1 503 Service Unavailable\r\nRETRY-after: 7 \r\n\r\nno", Vec::new()), "h", "/p").expect("an answer");
        assert_eq!((answer.status, answer.header("Retry-After"), answer.body.as_str()), (503, Some("7"), "no"));
        assert_eq!(answer.header("HTTP/1.1 503 Service Unavailable"), None);
    }

    #[test]
    fn what_is_not_http_is_told() {
        for text in ["", "220 smtp ready\r\n\r\n", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            let told = get(Peer(text.as_bytes(), Vec::new()), "h", "/p").expect_err(text);
            assert!(told.starts_with("not an HTTP answer"), "{told}");
        }
    }

    #[test]
    fn a_body_is_sent_with_its_length() {
        let mut peer = Peer(b"HTTP/1.1 200 OK\r\n\r\nok", Vec::new());
        assert_eq!(post(&mut peer, "h", "/p", b"{}").map(|answer| answer.body), Ok("ok".to_owned()));
        let sent = String::from_utf8(peer.1).expect("text");
        assert!(sent.starts_with("POST /p HTTP/1.0\r\nHost: h\r\n") && sent.ends_with("Content-Length: 2\r\n\r\n{}"), "{sent}");
    }
}
