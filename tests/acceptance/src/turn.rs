//! A TURN client over UDP, by hand: the libraries hide the error codes that half of the claims are about.
//!
//! RFC 8489 (STUN, long-term credentials), RFC 8656 (TURN), draft-uberti-behave-turn-rest-00 (time-limited credentials).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use sha1::Sha1;

const MAGIC: u32 = 0x2112_A442;
const ALLOCATE: u16 = 0x003;
const CREATE_PERMISSION: u16 = 0x008;
const SEND_INDICATION: u16 = 0x016;
const DATA_INDICATION: u16 = 0x017;
const SUCCESS: u16 = 0x100;
const ERROR: u16 = 0x110;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
const REQUESTED_TRANSPORT: u16 = 0x0019;

/// What the server says to a request: nothing to object, or an error code.
pub type Said<T = ()> = Result<T, u16>;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    /// Such as Mattermost's Calls plugin makes them: good for `seconds` from now, which may lie in the past.
    pub fn of_secret(secret: &str, seconds: i64) -> Credentials {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let username = format!("{}:somebody", now + seconds);
        let password = STANDARD.encode(hmac(secret.as_bytes(), username.as_bytes()));
        Credentials { username, password }
    }
}

/// The family of relayed addresses (RFC 8656 section 18.6).
#[derive(Clone, Copy)]
pub enum Family {
    /// IPv4.
    V4 = 1,
    /// IPv6.
    V6 = 2,
}

/// A client with a socket of its own, and so with an allocation of its own.
pub struct Client {
    socket: UdpSocket,
    credentials: Credentials,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    transactions: u64,
    waiting: VecDeque<Message>,
}

impl Client {
    /// A client of the server at `server`.
    pub fn new(server: SocketAddrV4, credentials: Credentials) -> Client {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.connect(server).unwrap();
        Client { socket, credentials, realm: Vec::new(), nonce: Vec::new(), transactions: 0, waiting: VecDeque::new() }
    }

    /// What the server says to an Allocate without credentials: 401, and the realm.
    pub fn challenge(&mut self) -> (Said, String) {
        let said = self.ask(ALLOCATE, &[transport()], false).map(drop);
        (said, String::from_utf8_lossy(&self.realm).into_owned())
    }

    /// Asks for a relayed address.
    pub fn allocate(&mut self, family: Family) -> Said<SocketAddr> {
        let attributes = [transport(), (REQUESTED_ADDRESS_FAMILY, vec![family as u8, 0, 0, 0])];
        let answer = self.authenticated(ALLOCATE, &attributes)?;
        Ok(address(answer.attribute(XOR_RELAYED_ADDRESS).expect("a relayed address"), &answer.transaction))
    }

    /// Asks to relay to a peer.
    pub fn permit(&mut self, peer: SocketAddr) -> Said {
        let attribute = (XOR_PEER_ADDRESS, peer_address(peer, &self.transaction(1)));
        self.authenticated(CREATE_PERMISSION, &[attribute]).map(drop)
    }

    /// Sends `data` to a peer; nobody answers an indication.
    pub fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let transaction = self.next();
        let attributes = [(XOR_PEER_ADDRESS, peer_address(peer, &transaction)), (DATA, data.to_vec())];
        self.socket.send(&message(SEND_INDICATION, &transaction, &attributes)).unwrap();
    }

    /// The next data that a peer sent, and which one; nothing when none comes within `patience`.
    pub fn receive(&mut self, patience: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let waiting = self.waiting.pop_front();
        let answer = waiting.or_else(|| self.read(patience, |answer| answer.kind == DATA_INDICATION))?;
        let peer = address(answer.attribute(XOR_PEER_ADDRESS)?, &answer.transaction);
        Some((peer, answer.attribute(DATA)?.to_vec()))
    }

    /// With credentials, after a challenge; a stale nonce (438) is renewed once, as it is no answer to the question.
    fn authenticated(&mut self, method: u16, attributes: &[(u16, Vec<u8>)]) -> Said<Message> {
        if self.nonce.is_empty() {
            assert_eq!(self.challenge().0, Err(401), "who does not say who he is has to be asked");
        }
        match self.ask(method, attributes, true) {
            Err(438) => self.ask(method, attributes, true),
            other => other,
        }
    }

    /// One request, repeated while no answer comes (RFC 8489 section 6.2.1).
    fn ask(&mut self, method: u16, attributes: &[(u16, Vec<u8>)], authenticated: bool) -> Said<Message> {
        let transaction = self.next();
        let mut attributes = attributes.to_vec();
        if authenticated {
            let username = self.credentials.username.as_bytes().to_vec();
            attributes.extend([(USERNAME, username), (REALM, self.realm.clone()), (NONCE, self.nonce.clone())]);
        }
        let mut request = message(method, &transaction, &attributes);
        if authenticated {
            sign(&mut request, &self.key());
        }
        for _ in 0..10 {
            self.socket.send(&request).unwrap();
            let ours = |answer: &Message| answer.transaction == transaction;
            let Some(answer) = self.read(Duration::from_millis(500), ours) else { continue };
            if answer.kind == method | SUCCESS {
                // An answer that anybody could have sent is not one.
                assert!(!authenticated || answer.is_signed_with(&self.key()), "the answer is not signed with the password");
                return Ok(answer);
            }
            assert_eq!(answer.kind, method | ERROR);
            for (kind, kept) in [(REALM, &mut self.realm), (NONCE, &mut self.nonce)] {
                if let Some(value) = answer.attribute(kind) {
                    *kept = value.to_vec();
                }
            }
            let code = answer.attribute(ERROR_CODE).expect("an error code");
            return Err(u16::from(code[2] & 7) * 100 + u16::from(code[3]));
        }
        panic!("no answer to method {method} within 5 s");
    }

    fn read(&mut self, patience: Duration, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        let end = Instant::now() + patience;
        let mut buffer = [0; 2048];
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            match Message::parse(&buffer[..length]) {
                Some(answer) if wanted(&answer) => return Some(answer),
                // What a peer sent while an answer was awaited is not lost: a test may be about its not coming.
                Some(data) if data.kind == DATA_INDICATION => self.waiting.push_back(data),
                _ => {}
            }
        }
        None
    }

    /// The key of long-term credentials (RFC 8489 section 9.2.2).
    fn key(&self) -> Vec<u8> {
        let Credentials { username, password } = &self.credentials;
        let realm = String::from_utf8_lossy(&self.realm);
        Md5::digest(format!("{username}:{realm}:{password}")).to_vec()
    }

    fn next(&mut self) -> [u8; 12] {
        self.transactions += 1;
        self.transaction(0)
    }

    /// The transaction `ahead` of the last one. Unique is enough here, unpredictable is not needed.
    fn transaction(&self, ahead: u64) -> [u8; 12] {
        let mut transaction = *b"test\0\0\0\0\0\0\0\0";
        transaction[4..].copy_from_slice(&(self.transactions + ahead).to_be_bytes());
        transaction
    }
}

fn transport() -> (u16, Vec<u8>) {
    (REQUESTED_TRANSPORT, vec![17, 0, 0, 0])
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn message(kind: u16, transaction: &[u8; 12], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = [&kind.to_be_bytes()[..], &[0, 0], &MAGIC.to_be_bytes(), transaction].concat();
    for (kind, value) in attributes {
        append(&mut bytes, *kind, value);
    }
    bytes
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend([kind.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    set_length(bytes, 0);
}

fn set_length(bytes: &mut [u8], more: usize) {
    let length = (bytes.len() - 20 + more) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

/// The length that is signed covers the signature itself (RFC 8489 section 14.5).
fn sign(bytes: &mut Vec<u8>, key: &[u8]) {
    set_length(bytes, 24);
    let signature = hmac(key, bytes);
    append(bytes, MESSAGE_INTEGRITY, &signature);
}

fn mask(transaction: &[u8; 12]) -> Vec<u8> {
    [&MAGIC.to_be_bytes()[..], transaction].concat()
}

fn peer_address(peer: SocketAddr, transaction: &[u8; 12]) -> Vec<u8> {
    let (family, octets) = match peer.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = peer.port() ^ (MAGIC >> 16) as u16;
    let masked = octets.iter().zip(mask(transaction)).map(|(octet, mask)| octet ^ mask);
    [0, family].into_iter().chain(port.to_be_bytes()).chain(masked).collect()
}

fn address(value: &[u8], transaction: &[u8; 12]) -> SocketAddr {
    let port = u16::from_be_bytes([value[2], value[3]]) ^ (MAGIC >> 16) as u16;
    let octets: Vec<u8> = value[4..].iter().zip(mask(transaction)).map(|(octet, mask)| octet ^ mask).collect();
    match <[u8; 4]>::try_from(octets.as_slice()) {
        Ok(octets) => SocketAddr::new(octets.into(), port),
        Err(_) => SocketAddr::new(<[u8; 16]>::try_from(octets).unwrap().into(), port),
    }
}

struct Message {
    kind: u16,
    transaction: [u8; 12],
    attributes: Vec<(u16, Vec<u8>)>,
    /// Everything before the signature.
    signed: Vec<u8>,
}

impl Message {
    fn parse(bytes: &[u8]) -> Option<Message> {
        let word = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        if bytes.get(4..8)? != MAGIC.to_be_bytes() || usize::from(word(2)?) != bytes.len() - 20 {
            return None;
        }
        let transaction = bytes[8..20].try_into().ok()?;
        let mut message = Message { kind: word(0)?, transaction, attributes: Vec::new(), signed: bytes.to_vec() };
        let mut at = 20;
        while at < bytes.len() {
            let (kind, length) = (word(at)?, usize::from(word(at + 2)?));
            if kind == MESSAGE_INTEGRITY {
                message.signed.truncate(at);
            }
            message.attributes.push((kind, bytes.get(at + 4..at + 4 + length)?.to_vec()));
            at += 4 + length.next_multiple_of(4);
        }
        Some(message)
    }

    fn attribute(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| value.as_slice())
    }

    fn is_signed_with(&self, key: &[u8]) -> bool {
        let mut signed = self.signed.clone();
        set_length(&mut signed, 24);
        self.attribute(MESSAGE_INTEGRITY).is_some_and(|found| found == hmac(key, &signed))
    }
}
