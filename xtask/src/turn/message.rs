//! STUN messages as bytes: RFC 8489 sections 5, 9.2.2 and 14, with the attributes of RFC 8656 section 18.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use sha1::Sha1;

const MAGIC: u32 = 0x2112_A442;
pub const BINDING: u16 = 0x001;
pub const ALLOCATE: u16 = 0x003;
pub const REFRESH: u16 = 0x004;
pub const CREATE_PERMISSION: u16 = 0x008;
pub const CHANNEL_BIND: u16 = 0x009;
pub const SEND_INDICATION: u16 = 0x016;
pub const DATA_INDICATION: u16 = 0x017;
pub const SUCCESS: u16 = 0x100;

pub const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
pub const CHANNEL_NUMBER: u16 = 0x000C;
pub const LIFETIME: u16 = 0x000D;
pub const XOR_PEER_ADDRESS: u16 = 0x0012;
pub const DATA: u16 = 0x0013;
pub const REALM: u16 = 0x0014;
pub const NONCE: u16 = 0x0015;
pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
const REQUESTED_TRANSPORT: u16 = 0x0019;
pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
pub const PRIORITY: u16 = 0x0024;
const FINGERPRINT: u16 = 0x8028;
pub const ICE_CONTROLLING: u16 = 0x802A;

/// The header of every message.
pub const HEADER: usize = 20;

/// Type and value.
pub type Attribute = (u16, Vec<u8>);

/// Protocols, by their numbers in IP.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// The attribute that asks for a protocol towards the peers.
pub fn transport(protocol: u8) -> Attribute {
    (REQUESTED_TRANSPORT, vec![protocol, 0, 0, 0])
}

/// A transaction that nobody can guess: over UDP it is all that tells an answer from a forged one.
pub fn transaction() -> Result<[u8; 12], String> {
    let mut transaction = [0; 12];
    getrandom::fill(&mut transaction).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    Ok(transaction)
}

/// HMAC-SHA1.
pub fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"));
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The key of long-term credentials (RFC 8489 section 9.2.2).
pub fn long_term_key(username: &str, realm: &str, password: &str) -> Vec<u8> {
    Md5::digest(format!("{username}:{realm}:{password}")).to_vec()
}

/// A message without a signature.
pub fn encode(kind: u16, transaction: &[u8; 12], attributes: &[Attribute]) -> Vec<u8> {
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
    let length = (bytes.len() - HEADER + more) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Appends MESSAGE-INTEGRITY. The length that is signed covers the signature itself (RFC 8489 section 14.5).
pub fn sign(bytes: &mut Vec<u8>, key: &[u8]) {
    set_length(bytes, 24);
    let signature = hmac(key, bytes);
    append(bytes, MESSAGE_INTEGRITY, &signature);
}

/// Appends FINGERPRINT, which has to be the last attribute (RFC 8489 section 14.7).
pub fn fingerprint(bytes: &mut Vec<u8>) {
    set_length(bytes, 8);
    let checksum = crc32(bytes) ^ 0x5354_554E;
    append(bytes, FINGERPRINT, &checksum.to_be_bytes());
}

/// CRC-32 of ISO 3309, bit by bit: messages are short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| (state >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(state & 1)))
    })
}

fn mask(transaction: &[u8; 12]) -> Vec<u8> {
    [&MAGIC.to_be_bytes()[..], transaction].concat()
}

/// The value of an XOR-…-ADDRESS.
pub fn xor_address(address: SocketAddr, transaction: &[u8; 12]) -> Vec<u8> {
    let (family, octets) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = address.port() ^ (MAGIC >> 16) as u16;
    let masked = octets.iter().zip(mask(transaction)).map(|(octet, mask)| octet ^ mask);
    [0, family].into_iter().chain(port.to_be_bytes()).chain(masked).collect()
}

/// A message that was read.
#[derive(Debug)]
pub struct Message {
    /// Class and method.
    pub kind: u16,
    /// Which question it belongs to.
    pub transaction: [u8; 12],
    attributes: Vec<Attribute>,
    /// Everything before the signature.
    signed: Vec<u8>,
}

impl Message {
    /// Reads a whole message; nothing where it is none.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let word = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        if bytes.get(4..8)? != MAGIC.to_be_bytes() || HEADER + usize::from(word(2)?) != bytes.len() {
            return None;
        }
        let transaction = bytes.get(8..HEADER)?.try_into().ok()?;
        let mut message = Message { kind: word(0)?, transaction, attributes: Vec::new(), signed: bytes.to_vec() };
        let mut at = HEADER;
        while at < bytes.len() {
            let (kind, length) = (word(at)?, usize::from(word(at + 2)?));
            if kind == MESSAGE_INTEGRITY && message.attribute(MESSAGE_INTEGRITY).is_none() {
                message.signed.truncate(at);
            }
            message.attributes.push((kind, bytes.get(at + 4..at + 4 + length)?.to_vec()));
            at += 4 + length.next_multiple_of(4);
        }
        Some(message)
    }

    /// The first attribute of this type.
    pub fn attribute(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(found, _)| *found == kind).map(|(_, value)| value.as_slice())
    }

    /// The address in an XOR-…-ADDRESS.
    pub fn address(&self, kind: u16) -> Option<SocketAddr> {
        let [_, family, high, low, masked @ ..] = self.attribute(kind)? else { return None };
        let port = u16::from_be_bytes([*high, *low]) ^ (MAGIC >> 16) as u16;
        let octets: Vec<u8> = masked.iter().zip(mask(&self.transaction)).map(|(octet, mask)| octet ^ mask).collect();
        let ip: IpAddr = match (family, masked.len()) {
            (1, 4) => <[u8; 4]>::try_from(octets).ok()?.into(),
            (2, 16) => <[u8; 16]>::try_from(octets).ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// The code of an error (RFC 8489 section 14.8).
    pub fn error_code(&self) -> Option<u16> {
        let [_, _, class, number, ..] = self.attribute(ERROR_CODE)? else { return None };
        Some(u16::from(class & 7) * 100 + u16::from(*number))
    }

    /// Whether it is signed with this key.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        let mut signed = self.signed.clone();
        set_length(&mut signed, 24);
        self.attribute(MESSAGE_INTEGRITY).is_some_and(|found| found == hmac(key, &signed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2.4: a request with long-term authentication, but for the software that sends it.
    const RFC_5769: &[u8] = b"\x00\x01\x00\x60\x21\x12\xa4\x42\x78\xad\x34\x33\xc6\xad\x72\xc0\x29\xda\x41\x2e\
        \x00\x06\x00\x12\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9\x00\x00\
        \x00\x15\x00\x1cf//499k954d6OL34oL9FSTvy64sA\x00\x14\x00\x0bexample.org\x00\
        \x00\x08\x00\x14\xf6\x70\x24\x65\x6d\xd6\x4a\x3e\x02\xb8\xe0\x71\x2e\x85\xc9\xa2\x8c\xa8\x96\x66";

    #[test]
    fn the_signature_is_that_of_the_rfcs_test_vector() {
        let message = Message::parse(RFC_5769).unwrap();
        let key = long_term_key("マトリックス", "example.org", "TheMatrIX");
        assert!(message.is_signed_with(&key));
        assert!(!message.is_signed_with(&long_term_key("マトリックス", "example.org", "TheMatrix")));
        let attributes: Vec<Attribute> = message.attributes[..3].to_vec();
        let mut made = encode(1, &message.transaction, &attributes);
        sign(&mut made, &key);
        assert_eq!(made, RFC_5769);
    }

    #[test]
    fn addresses_are_masked_and_unmasked() {
        let transaction = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        // RFC 5769 sections 2.2 and 2.3.
        let cases: [(&str, &[u8]); 2] = [
            ("192.0.2.1:32853", b"\x00\x01\xa1\x47\xe1\x12\xa6\x43"),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                b"\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9",
            ),
        ];
        for (text, bytes) in cases {
            let address = text.parse().unwrap();
            assert_eq!(xor_address(address, &transaction), bytes, "{text}");
            let message = Message::parse(&encode(0x101, &transaction, &[(XOR_PEER_ADDRESS, bytes.to_vec())])).unwrap();
            assert_eq!(message.address(XOR_PEER_ADDRESS), Some(address));
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_no_message() {
        for end in 0..RFC_5769.len() {
            assert!(Message::parse(&RFC_5769[..end]).is_none(), "{end}");
        }
        let mut cookie = RFC_5769.to_vec();
        cookie[4] ^= 1;
        assert!(Message::parse(&cookie).is_none());
        // An attribute that claims to be longer than the message.
        let mut long = RFC_5769.to_vec();
        long[23] = 0xff;
        assert!(Message::parse(&long).is_none());
        // An address with the length of the other family.
        let odd = encode(0x101, &[0; 12], &[(XOR_PEER_ADDRESS, vec![0, 2, 0, 0, 1, 2, 3, 4])]);
        assert_eq!(Message::parse(&odd).unwrap().address(XOR_PEER_ADDRESS), None);
    }

    #[test]
    fn the_fingerprint_is_that_of_the_rfcs_test_vector() {
        // RFC 5769 section 2.2.
        let vector = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
            \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
            \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
            \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
            \x80\x28\x00\x04\xc0\x7d\x4c\x96";
        let mut made = vector[..vector.len() - 8].to_vec();
        fingerprint(&mut made);
        assert_eq!(made, vector);
    }

    #[test]
    fn an_error_code_is_a_class_and_a_number() {
        let refused = encode(0x113, &[0; 12], &[(ERROR_CODE, b"\0\0\x04\x56Quota".to_vec())]);
        assert_eq!(Message::parse(&refused).unwrap().error_code(), Some(486));
    }
}
