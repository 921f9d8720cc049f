//! Where the database is, and whether it answers.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);
const DEFAULT_PORT: u16 = 5432;
/// SSLRequest of PostgreSQL's protocol 3.0: its length, and 1234 and 5679 as halves of a number that is no version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Host and port of a data source.
#[derive(Debug, PartialEq)]
pub struct Database {
    host: String,
    port: u16,
}

impl Database {
    /// Of `postgres://user:password@host:port/name?options`; the first host, where there are several.
    pub fn parse(source: &str) -> Option<Self> {
        let rest = source.strip_prefix("postgres://").or_else(|| source.strip_prefix("postgresql://"))?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        let first = hosts.split(',').next()?;
        let (host, port) = match first.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']')?;
                (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
            }
            None => first.split_once(':').unwrap_or((first, "")),
        };
        let port = if port.is_empty() { DEFAULT_PORT } else { port.parse().ok().filter(|port| *port != 0)? };
        let named = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
        named.then(|| Database { host: host.to_owned(), port })
    }

    /// Whether PostgreSQL is there: an open port is not enough, it has to answer an SSLRequest with yes or no.
    pub fn answers(&self) -> Result<(), String> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| format!("looking up {}: {error}", self.host))?;
        let mut last = format!("{} has no address", self.host);
        for address in addresses {
            match TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.to_string()).and_then(ask) {
                Ok(()) => return Ok(()),
                Err(answer) => last = answer,
            }
        }
        Err(last)
    }
}

fn ask(mut connection: TcpStream) -> Result<(), String> {
    let mut answer = [0];
    let asked = connection
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| connection.write_all(&SSL_REQUEST))
        .and_then(|()| connection.read_exact(&mut answer));
    match (asked, answer) {
        (Ok(()), [b'S' | b'N']) => Ok(()),
        (Ok(()), [other]) => Err(format!("not PostgreSQL: it answers {:?}", char::from(other))),
        (Err(error), _) => Err(format!("the port is open, but: {error}")),
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn host_and_port_are_found_in_every_form() {
        for (source, expected) in [
            ("postgres://mm:p%40ss@db:5433/mm?sslmode=verify-full", "db:5433"),
            ("postgresql://mm:p@db.example.lan/mm", "db.example.lan:5432"),
            ("postgres://db", "db:5432"),
            ("postgres://mm:a@b@192.0.2.1/mm", "192.0.2.1:5432"),
            ("postgres://mm@[2001:db8::1]:5433/mm", "[2001:db8::1]:5433"),
            ("postgres://mm@[2001:db8::1]/mm", "[2001:db8::1]:5432"),
            ("postgres://a:1,b:2/mm", "a:1"),
        ] {
            assert_eq!(Database::parse(source).map(|database| database.to_string()).as_deref(), Some(expected), "{source}");
        }
        for source in [
            "",
            "mysql://x/y",
            "postgres://",
            "postgres://mm:p@/mm",
            "postgres://h:0/mm",
            "postgres://h:x/mm",
            "postgres://[::1/mm",
            "host=db",
        ] {
            assert_eq!(Database::parse(source), None, "{source}");
        }
    }

    /// What a server that says `answer` to an SSLRequest is taken for.
    fn ask_one_that_says(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut question = [0; 8];
            client.read_exact(&mut question).expect("a question");
            client.write_all(answer).expect("answered");
            u32::from_be_bytes([question[4], question[5], question[6], question[7]])
        });
        let answered = Database { host: "127.0.0.1".to_owned(), port }.answers();
        assert_eq!(server.join().expect("asked"), 80_877_103, "not the code of an SSLRequest");
        answered
    }

    #[test]
    fn only_postgresql_answers() {
        assert_eq!(ask_one_that_says(b"S"), Ok(()));
        assert_eq!(ask_one_that_says(b"N"), Ok(()));
        assert_eq!(ask_one_that_says(b"H"), Err("not PostgreSQL: it answers 'H'".to_owned()));
        assert!(ask_one_that_says(b"").expect_err("it hung up").starts_with("the port is open, but: "));
        let closed = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        assert!(Database { host: "127.0.0.1".to_owned(), port: closed }.answers().expect_err("closed").contains("refused"));
    }
}
