//! Reads one request: a head of at most 8 KiB, a body of at most 256 KiB with its length told before.

use std::io::{ErrorKind, Read};

use entrypoint::http;

use super::Answer;

/// Request line and headers may be this long, in bytes.
const HEAD: usize = 8 * 1024;
/// SonarQube's largest body that was seen has 1.6 KiB; a gate with a hundred conditions has 15.
const BODY: usize = 256 * 1024;

/// Request line and headers.
#[derive(Debug)]
pub struct Head {
    /// `GET`
    pub method: String,
    /// `/health`, with what follows it.
    pub path: String,
    text: String,
}

impl Head {
    /// The first header of this name; names have no case.
    pub fn header(&self, name: &str) -> Option<&str> {
        http::header(&self.text, name)
    }

    fn parse(text: String) -> Option<Self> {
        let mut words = text.lines().next()?.split(' ');
        let (method, path, version) = (words.next()?.to_owned(), words.next()?.to_owned(), words.next()?);
        let usable = path.starts_with('/') && matches!(version, "HTTP/1.1" | "HTTP/1.0") && words.next().is_none();
        usable.then_some(Head { method, path, text })
    }

    /// One length, or an answer that says what is wrong with it.
    fn length(&self) -> Result<usize, Answer> {
        let lengths =
            self.text.lines().filter(|line| line.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("Content-Length")));
        if lengths.count() > 1 {
            return Err(Answer::error("400 Bad Request", "the length is told twice"));
        }
        match self.header("Content-Length") {
            Some(length) if self.header("Transfer-Encoding").is_none() => match length.parse() {
                Ok(length) if length <= BODY => Ok(length),
                Ok(_) => Err(Answer::error("413 Content Too Large", "the body is too long")),
                Err(_) => Err(Answer::error("400 Bad Request", "the length is not a number")),
            },
            _ => Err(Answer::error("411 Length Required", "the body's length has to be told")),
        }
    }
}

/// Why there is no request.
pub enum Bad {
    /// The client is told.
    Answer(Answer),
    /// The client is gone.
    Closed,
}

/// Reads a head, and if `wanted` says so, the body.
pub fn read(connection: &mut impl Read, wanted: impl FnOnce(&Head) -> Result<(), Answer>) -> Result<(Head, Vec<u8>), Bad> {
    let mut bytes = Vec::new();
    let end = loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if end.unwrap_or(bytes.len()) > HEAD {
            return Err(Bad::Answer(Answer::error("431 Request Header Fields Too Large", "the request's head is too long")));
        }
        if let Some(end) = end {
            break end;
        }
        more(connection, &mut bytes)?;
    };
    let mut body = bytes.split_off(end + 4);
    bytes.truncate(end);
    let head = Head::parse(String::from_utf8_lossy(&bytes).into_owned());
    let head = head.ok_or_else(|| Bad::Answer(Answer::error("400 Bad Request", "not an HTTP request")))?;
    wanted(&head).map_err(Bad::Answer)?;
    let length = head.length().map_err(Bad::Answer)?;
    while body.len() < length {
        more(connection, &mut body)?;
    }
    body.truncate(length);
    Ok((head, body))
}

fn more(connection: &mut impl Read, bytes: &mut Vec<u8>) -> Result<(), Bad> {
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Err(Bad::Closed),
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(Bad::Answer(Answer::error("408 Request Timeout", "the request took too long")));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Bad::Closed),
        }
    }
}
