//! A web address, taken apart, and a request to it: the feature `tls`.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Instant;

use crate::{http, tls};

/// An address, taken apart. It has no `Debug`: a webhook's path is a credential.
pub struct Address {
    secured: bool,
    host: String,
    port: u16,
    /// From the slash on.
    pub path: String,
}

/// A connection, secured or not.
pub trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

impl Address {
    /// Of a URL: `http://` or `https://`, a host, perhaps a port, and a path: at least a slash. Nobody's name and password.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let secured = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let (authority, path) = rest.split_once('/')?;
        let (host, port) = match authority.rsplit_once(':') {
            // The colons of an IPv6 address stand in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, if secured { 443 } else { 80 }),
        };
        let usable = !host.is_empty() && !host.contains('@');
        usable.then(|| Address { secured, host: host.to_owned(), port, path: format!("/{path}") })
    }

    /// Connects, and has `request` say something to the host; all of that until `end`.
    ///
    /// # Errors
    /// In words, without the path.
    pub fn ask(
        &self,
        client: &Arc<rustls::ClientConfig>,
        end: Instant,
        request: impl FnOnce(&mut dyn Connection, &str) -> Result<http::Answer, String>,
    ) -> Result<http::Answer, String> {
        let mut connection = self.connect(end)?;
        let host = format!("{}:{}", self.host, self.port);
        if !self.secured {
            return request(&mut connection, &host);
        }
        let name = self.host.trim_matches(['[', ']']);
        tls::connect(client, name, connection).and_then(|mut secured| request(&mut secured, &host))
    }

    fn connect(&self, end: Instant) -> Result<http::Until, String> {
        let name = self.host.trim_matches(['[', ']']);
        let addresses = (name, self.port).to_socket_addrs().map_err(|error| format!("looking up {name}: {error}"))?;
        let mut last = format!("{name} has no address");
        for address in addresses {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(connection) => return Ok(http::Until::new(connection, end)),
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (url, expected) in [
            ("https://chat.example.lan/hooks/x", Some((true, "chat.example.lan", 443, "/hooks/x"))),
            ("https://chat:8065/a/hooks/x", Some((true, "chat", 8065, "/a/hooks/x"))),
            ("http://[::1]/hooks/x", Some((false, "[::1]", 80, "/hooks/x"))),
            ("http://[::1]:81/hooks/x", Some((false, "[::1]", 81, "/hooks/x"))),
            ("https://chat", None),
            ("https://u:p@chat/hooks/x", None),
            ("ftp://chat/hooks/x", None),
            ("https://chat:x/hooks/x", None),
        ] {
            let address = Address::parse(url);
            assert_eq!(address.as_ref().map(|a| (a.secured, a.host.as_str(), a.port, a.path.as_str())), expected, "{url}");
        }
    }
}
