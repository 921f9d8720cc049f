//! STUN Binding requests, as ICE sends them (RFC 8489, RFC 8445).

use std::net::{IpAddr, SocketAddr};

use super::turn::hmac;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;

/// Whether a datagram is STUN: two zero bits, the cookie, and a length that fits.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= 20 && datagram[0] < 4 && datagram[4..8] == COOKIE && 20 + usize::from(word(datagram, 2)) == datagram.len()
}

fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The answer to a Binding request: success where its integrity is right for the agent that it names, 401 where it is not, nothing to
/// anything else. `password` knows the agents by the first part of the user name.
pub fn answer(request: &[u8], from: SocketAddr, password: impl Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
    if !is_stun(request) || word(request, 0) != BINDING_REQUEST {
        return None;
    }
    let username = attribute(request, USERNAME).and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default();
    let known = username.split(':').next().and_then(password).filter(|password| is_authentic(request, password));
    let Some(password) = known else {
        return Some(finished(message(BINDING_ERROR, request, ERROR_CODE, &[&[0, 0, 4, 1], b"Unauthorized".as_slice()].concat()), None));
    };
    let mapped = message(BINDING_SUCCESS, request, XOR_MAPPED_ADDRESS, &xor_mapped(from, &request[4..20]));
    Some(finished(mapped, Some(&password)))
}

/// An attribute's place and value.
fn attribute(message: &[u8], wanted: u16) -> Option<(usize, &[u8])> {
    let mut at = 20;
    while at + 4 <= message.len() {
        let (kind, length) = (word(message, at), usize::from(word(message, at + 2)));
        let value = message.get(at + 4..at + 4 + length)?;
        if kind == wanted {
            return Some((at, value));
        }
        at += 4 + length.next_multiple_of(4);
    }
    None
}

/// The integrity covers what stands before it, with a length that counts it (RFC 8489, section 14.5).
fn is_authentic(message: &[u8], password: &str) -> bool {
    let Some((at, value)) = attribute(message, MESSAGE_INTEGRITY) else { return false };
    let mut covered = message[..at].to_vec();
    set_length(&mut covered, at + 24);
    hmac(password.as_bytes(), &covered) == value
}

fn message(kind: u16, request: &[u8], attribute: u16, value: &[u8]) -> Vec<u8> {
    let mut message = [&kind.to_be_bytes()[..], &[0, 0], &request[4..20]].concat();
    append(&mut message, attribute, value);
    message
}

fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn set_length(message: &mut [u8], whole: usize) {
    let length = u16::try_from(whole - 20).unwrap_or(0).to_be_bytes();
    message[2..4].copy_from_slice(&length);
}

fn finished(mut message: Vec<u8>, password: Option<&str>) -> Vec<u8> {
    if let Some(password) = password {
        let whole = message.len() + 24;
        set_length(&mut message, whole);
        let integrity = hmac(password.as_bytes(), &message);
        append(&mut message, MESSAGE_INTEGRITY, &integrity);
    }
    let whole = message.len() + 8;
    set_length(&mut message, whole);
    let fingerprint = (crc32(&message) ^ 0x5354_554e).to_be_bytes();
    append(&mut message, FINGERPRINT, &fingerprint);
    message
}

fn xor_mapped(from: SocketAddr, cookie_and_transaction: &[u8]) -> Vec<u8> {
    let port = (from.port() ^ 0x2112).to_be_bytes();
    let (family, address) = match from.ip().to_canonical() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let hidden = address.iter().zip(cookie_and_transaction).map(|(byte, mask)| byte ^ mask);
    [0, family].into_iter().chain(port).chain(hidden).collect()
}

/// CRC-32 of ISO 3309, bit by bit: messages are short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| (state >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(state & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(username: &str, password: &str) -> Vec<u8> {
        let head = [&[0, 0, 0, 0][..], &COOKIE, b"transaction."].concat();
        finished(message(BINDING_REQUEST, &head, USERNAME, username.as_bytes()), Some(password))
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn only_the_agents_own_password_is_answered_with_success() {
        let from: SocketAddr = "192.0.2.7:5000".parse().expect("an address");
        let known = |name: &str| (name == "here").then(|| "secret".to_owned());
        let good = answer(&request("here:there", "secret"), from, known).expect("an answer");
        assert_eq!(word(&good, 0), BINDING_SUCCESS);
        assert!(is_stun(&good) && is_authentic(&good, "secret"));
        let (_, mapped) = attribute(&good, XOR_MAPPED_ADDRESS).expect("mapped");
        assert_eq!(mapped, [0, 1, 0x13 ^ 0x21, 0x88 ^ 0x12, 192 ^ 0x21, 0x12, 2 ^ 0xa4, 7 ^ 0x42]);
        for refused in [request("here:there", "guess"), request("other:there", "secret")] {
            assert_eq!(word(&answer(&refused, from, known).expect("an answer"), 0), BINDING_ERROR);
        }
        assert_eq!(answer(b"\x80\x60 some RTP, which is no STUN", from, known), None);
    }
}
