//! A TURN client: `doctor turn`, the acceptance tests and the end-to-end test ask Coturn with it.
//!
//! RFC 8489 (STUN, long-term credentials), RFC 8656 (TURN), draft-uberti-behave-turn-rest-00 (time-limited credentials).
//!
//! It is our own. turn-client-proto drives the exchange itself and hides the error codes, which are half of what is asked here;
//! turn-types would only make the messages, some hundred lines ([`message`]), and brings twelve crates, a macro and second
//! versions of rand and getrandom among them, to everybody who builds an image. The other STUN code of this repository, one
//! Binding in Coturn's health check, is a program in an image and has no dependency.

pub mod ice;
mod message;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use message::{Attribute, Message};
use wire::Wire;

pub use wire::tcp;

/// A datagram may be lost, so a question over UDP is repeated (RFC 8489 section 6.2.1).
const RETRANSMISSION: Duration = Duration::from_millis(500);

/// What the server says to a request.
pub type Said<T = ()> = Result<T, Failure>;

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server refused it, with a code of RFC 8489 section 14.8 or RFC 8656 section 19.
    Refused(u16),
    /// No connection, no TLS, or no answer: in words.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(code) => write!(f, "{}", words(*code)),
            Failure::Broken(words) => f.write_str(words),
        }
    }
}

/// An error code with its name and what it means here.
pub fn words(code: u16) -> String {
    let (name, meaning) = match code {
        300 => ("Try Alternate", "the server sends its clients elsewhere"),
        400 => ("Bad Request", "the server did not understand the question"),
        401 => ("Unauthenticated", "wrong secret, or the credential has expired: compare the secrets and the clocks of both machines"),
        403 => ("Forbidden", "the server does not relay to this address"),
        405 => ("Mobility Forbidden", "allocations do not move here"),
        420 => ("Unknown Attribute", "the server does not know something that the question asked for"),
        437 => ("Allocation Mismatch", "there is no allocation, or already one, on this connection"),
        438 => ("Stale Nonce", "the server forgot the conversation"),
        440 => ("Address Family not Supported", "the server has no relay address of this family"),
        441 => ("Wrong Credentials", "the allocation belongs to somebody else"),
        442 => ("Unsupported Transport Protocol", "the server relays UDP alone"),
        443 => ("Peer Address Family Mismatch", "an address of the other family than the relayed one"),
        446 => ("Connection Already Exists", "the peer is connected already"),
        447 => ("Connection Timeout or Failure", "the peer does not answer the server"),
        486 => ("Allocation Quota Reached", "too many allocations: of this user, or in all"),
        500 => ("Server Error", "the server's log says more"),
        508 => ("Insufficient Capacity", "no relay port is free"),
        _ => return format!("{code} (a code without a name in RFC 8656)"),
    };
    format!("{code} {name}: {meaning}")
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `EXPIRY:NAME`, the expiry in Unix seconds.
    pub username: String,
    /// Base64 of the HMAC-SHA1 of the user name, keyed with the server's secret.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credential {
    /// A credential such as Mattermost's Calls plugin makes them, good until `expiry` (Unix seconds).
    pub fn of_secret(secret: &str, name: &str, expiry: i64) -> Credential {
        let username = format!("{expiry}:{name}");
        let password = STANDARD.encode(message::hmac(secret.as_bytes(), username.as_bytes()));
        Credential { username, password }
    }

    /// As [`Credential::of_secret`], good for `seconds` from now, which may lie in the past.
    pub fn for_seconds(secret: &str, name: &str, seconds: i64) -> Credential {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self::of_secret(secret, name, i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(seconds))
    }
}

/// The family of relayed addresses (RFC 8656 section 18.6).
#[derive(Clone, Copy, Debug)]
pub enum Family {
    /// IPv4.
    V4 = 1,
    /// IPv6.
    V6 = 2,
}

/// How the server is reached. What it relays to peers is UDP in each case.
#[derive(Clone, Debug)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP: the name or address that the certificate has to hold, and whom to trust.
    Tls(ServerName<'static>, Arc<ClientConfig>),
}

/// A client with a connection of its own, and so with an allocation of its own.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    credential: Credential,
    patience: Duration,
    realm: String,
    nonce: Vec<u8>,
    waiting: VecDeque<Message>,
}

impl Client {
    /// A client of the server at `server`, connected within `patience`; every later answer may take as long.
    pub fn connect(server: SocketAddr, transport: &Transport, credential: Credential, patience: Duration) -> Said<Client> {
        let wire = Wire::connect(server, transport, patience).map_err(Failure::Broken)?;
        Ok(Client { wire, credential, patience, realm: String::new(), nonce: Vec::new(), waiting: VecDeque::new() })
    }

    /// Asks for an allocation without saying who asks. The answer to hope for is 401.
    pub fn challenge(&mut self) -> Said {
        self.ask(message::ALLOCATE, |_| vec![message::transport(message::UDP)], false).map(drop)
    }

    /// The server's realm, known after a challenge.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Asks for a relayed address.
    pub fn allocate(&mut self, family: Family) -> Said<SocketAddr> {
        let attributes = |_: &_| vec![message::transport(message::UDP), (message::REQUESTED_ADDRESS_FAMILY, vec![family as u8, 0, 0, 0])];
        let answer = self.authenticated(message::ALLOCATE, attributes)?;
        answer.address(message::XOR_RELAYED_ADDRESS).ok_or_else(|| Failure::Broken("the answer names no relayed address".to_owned()))
    }

    /// Asks for a relay of TCP (RFC 6062), of which nothing is made: the answer to hope for is 442.
    pub fn allocate_tcp(&mut self) -> Said {
        self.authenticated(message::ALLOCATE, |_| vec![message::transport(message::TCP)]).map(drop)
    }

    /// Asks to relay to a peer.
    pub fn permit(&mut self, peer: SocketAddr) -> Said {
        let attributes = |transaction: &_| vec![(message::XOR_PEER_ADDRESS, message::xor_address(peer, transaction))];
        self.authenticated(message::CREATE_PERMISSION, attributes).map(drop)
    }

    /// Asks for a channel to a peer, number 0x4000 to 0x4FFF: another way to a permission.
    pub fn bind(&mut self, peer: SocketAddr, channel: u16) -> Said {
        let attributes = |transaction: &_| {
            let number = [&channel.to_be_bytes()[..], &[0, 0]].concat();
            vec![(message::CHANNEL_NUMBER, number), (message::XOR_PEER_ADDRESS, message::xor_address(peer, transaction))]
        };
        self.authenticated(message::CHANNEL_BIND, attributes).map(drop)
    }

    /// Gives the allocation back, so that it counts against no quota until it expires.
    pub fn release(&mut self) -> Said {
        match self.authenticated(message::REFRESH, |_| vec![(message::LIFETIME, vec![0; 4])]) {
            // RFC 8656 section 7.3: it is gone. The answer to the first question was lost.
            Err(Failure::Refused(437)) if self.wire.may_lose() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Sends `data` to a peer; nobody answers an indication.
    pub fn send(&mut self, peer: SocketAddr, data: &[u8]) -> Said {
        let transaction = message::transaction().map_err(Failure::Broken)?;
        let attributes = [(message::XOR_PEER_ADDRESS, message::xor_address(peer, &transaction)), (message::DATA, data.to_vec())];
        self.wire.send(&message::encode(message::SEND_INDICATION, &transaction, &attributes)).map_err(Failure::Broken)
    }

    /// The next data that a peer sent, and which one; nothing when none comes within `patience`.
    pub fn receive(&mut self, patience: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let waiting = self.waiting.pop_front();
        let data = match waiting {
            Some(data) => data,
            None => self.read(patience, |message| message.kind == message::DATA_INDICATION).ok()??,
        };
        Some((data.address(message::XOR_PEER_ADDRESS)?, data.attribute(message::DATA)?.to_vec()))
    }

    /// With the credential, after a challenge; a stale nonce (438) is renewed once, as it is no answer to the question.
    fn authenticated(&mut self, method: u16, attributes: impl Fn(&[u8; 12]) -> Vec<Attribute>) -> Said<Message> {
        if self.nonce.is_empty() {
            match self.challenge() {
                Err(Failure::Refused(401)) => {}
                Err(other) => return Err(other),
                Ok(()) => return Err(Failure::Broken("the server asks nobody who they are: it relays for everybody".to_owned())),
            }
        }
        match self.ask(method, &attributes, true) {
            Err(Failure::Refused(438)) => self.ask(method, &attributes, true),
            other => other,
        }
    }

    fn ask(&mut self, method: u16, attributes: impl Fn(&[u8; 12]) -> Vec<Attribute>, authenticated: bool) -> Said<Message> {
        let transaction = message::transaction().map_err(Failure::Broken)?;
        let mut attributes = attributes(&transaction);
        let key = message::long_term_key(&self.credential.username, &self.realm, &self.credential.password);
        if authenticated {
            let username = self.credential.username.clone().into_bytes();
            let realm = self.realm.clone().into_bytes();
            attributes.extend([(message::USERNAME, username), (message::REALM, realm), (message::NONCE, self.nonce.clone())]);
        }
        let mut request = message::encode(method, &transaction, &attributes);
        if authenticated {
            message::sign(&mut request, &key);
        }
        let answer = self.exchange(&request, |message| message.transaction == transaction)?;
        if answer.kind == method | message::SUCCESS {
            // An answer that anybody could have sent is not one.
            let trusted = !authenticated || answer.is_signed_with(&key);
            return trusted.then_some(answer).ok_or_else(|| Failure::Broken("the answer is not signed with the credential".to_owned()));
        }
        if let Some(realm) = answer.attribute(message::REALM) {
            self.realm = String::from_utf8_lossy(realm).into_owned();
        }
        if let Some(nonce) = answer.attribute(message::NONCE) {
            self.nonce = nonce.to_vec();
        }
        Err(answer.error_code().map_or_else(|| Failure::Broken("the answer is neither yes nor an error".to_owned()), Failure::Refused))
    }

    /// Sends a request, again where datagrams may get lost, until its answer comes.
    fn exchange(&mut self, request: &[u8], ours: impl Fn(&Message) -> bool) -> Said<Message> {
        let end = Instant::now() + self.patience;
        loop {
            self.wire.send(request).map_err(Failure::Broken)?;
            let left = end.saturating_duration_since(Instant::now());
            let turn = if self.wire.may_lose() { left.min(RETRANSMISSION) } else { left };
            if let Some(answer) = self.read(turn, &ours)? {
                return Ok(answer);
            }
            if Instant::now() >= end {
                return Err(Failure::Broken(format!("no answer within {} s", self.patience.as_secs())));
            }
        }
    }

    fn read(&mut self, patience: Duration, wanted: impl Fn(&Message) -> bool) -> Said<Option<Message>> {
        let end = Instant::now() + patience;
        while let Some(bytes) = self.wire.receive(end).map_err(Failure::Broken)? {
            match Message::parse(&bytes) {
                Some(answer) if wanted(&answer) => return Ok(Some(answer)),
                // What a peer sent while an answer was awaited is not lost: a test may be about its not coming.
                Some(data) if data.kind == message::DATA_INDICATION => self.waiting.push_back(data),
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_the_one_that_coturn_expects_and_hides_its_password() {
        // openssl dgst -sha1 -hmac secret -binary | base64
        let credential = Credential::of_secret("secret", "doctor", 1_700_000_000);
        assert_eq!(credential.username, "1700000000:doctor");
        assert_eq!(credential.password, "HVhdSu7s5CkjuevueIQRkWcXof4=");
        assert_eq!(format!("{credential:?}"), r#"Credential { username: "1700000000:doctor", .. }"#);
    }

    #[test]
    fn every_code_says_what_it_means() {
        assert_eq!(words(403), "403 Forbidden: the server does not relay to this address");
        assert_eq!(words(499), "499 (a code without a name in RFC 8656)");
    }
}
