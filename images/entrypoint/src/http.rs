//! One HTTP request, as a health check needs it.

use std::io::{Read, Write};

/// An answer larger than this is none that a health check waits for.
const LIMIT: u64 = 64 * 1024;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// `GET path` over a connection whose timeouts the caller has set.
///
/// The request is HTTP/1.0 (RFC 1945), to which no server answers in chunks: the body ends with the connection.
///
/// # Errors
/// In words, where the connection breaks or the answer is not HTTP.
pub fn get(mut connection: impl Read + Write, host: &str, path: &str) -> Result<Answer, String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n");
    connection.write_all(request.as_bytes()).and_then(|()| connection.flush()).map_err(|error| format!("sending the request: {error}"))?;
    let mut bytes = Vec::new();
    let read = connection.take(LIMIT).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let parsed = parse(&text);
    match read {
        // A peer that closes TLS without saying goodbye has still answered.
        Err(error) if parsed.is_none() => Err(format!("reading the answer: {error}")),
        _ => parsed.ok_or_else(|| format!("not an HTTP answer: \"{}\"", text.chars().take(60).collect::<String>().escape_debug())),
    }
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(1..)?.trim_start().get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
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
    fn status_and_body_are_read() {
        let answer = get(Peer(b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nno", Vec::new()), "h", "/p");
        assert_eq!(answer, Ok(Answer { status: 503, body: "no".to_owned() }));
    }

    #[test]
    fn what_is_not_http_is_told() {
        for text in ["", "220 smtp ready\r\n\r\n", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            let told = get(Peer(text.as_bytes(), Vec::new()), "h", "/p").expect_err(text);
            assert!(told.starts_with("not an HTTP answer"), "{told}");
        }
    }
}
