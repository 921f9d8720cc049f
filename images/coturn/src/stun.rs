//! One STUN Binding (RFC 8489), by hand: forty lines are less than a dependency in an image.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const MAGIC_COOKIE: u32 = 0x2112_A442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const ERROR_CODE: u16 = 0x0009;
/// A datagram may be lost, so the question is repeated (section 6.2.1).
const RETRANSMISSION: Duration = Duration::from_millis(500);

/// Identifies one question among all.
type Transaction = [u8; 12];

/// Asks `server` under which address it sees this process.
///
/// # Errors
/// In words: no answer within `deadline`, or one that says no.
pub fn binding(server: SocketAddr, deadline: Duration) -> Result<SocketAddr, String> {
    let words = |error: std::io::Error| error.to_string();
    let mut transaction = [0; 12];
    fs_err::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut transaction)).map_err(words)?;
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).map_err(words)?;
    // Connected: only datagrams from the server arrive, and a closed port is told at once.
    socket.connect(server).map_err(words)?;
    let end = Instant::now() + deadline;
    let mut buffer = [0; 1500];
    loop {
        socket.send(&request(&transaction)).map_err(words)?;
        let resend = (Instant::now() + RETRANSMISSION).min(end);
        loop {
            let left = resend.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left)).map_err(words)?;
            match socket.recv(&mut buffer) {
                Ok(length) => match parse(&buffer[..length], &transaction) {
                    Answer::Mapped(address) => return Ok(address),
                    Answer::Refused(code) => return Err(format!("error {code}")),
                    Answer::Other => {}
                },
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => break,
                Err(error) => return Err(words(error)),
            }
        }
        if Instant::now() >= end {
            return Err(format!("no answer within {} s", deadline.as_secs()));
        }
    }
}

fn request(transaction: &Transaction) -> [u8; 20] {
    let mut message = [0; 20];
    message[..2].copy_from_slice(&BINDING_REQUEST.to_be_bytes());
    message[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    message[8..].copy_from_slice(transaction);
    message
}

#[derive(Debug, PartialEq)]
enum Answer {
    Mapped(SocketAddr),
    Refused(u16),
    /// Not an answer to this question.
    Other,
}

fn parse(message: &[u8], transaction: &Transaction) -> Answer {
    success(message, transaction).unwrap_or(Answer::Other)
}

fn success(message: &[u8], transaction: &Transaction) -> Option<Answer> {
    let word = |at: usize| message.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let ours = message.get(4..8)? == MAGIC_COOKIE.to_be_bytes() && message.get(8..20)? == transaction;
    if !ours || usize::from(word(2)?) != message.len() - 20 {
        return None;
    }
    let mut at = 20;
    while at + 4 <= message.len() {
        let (kind, length) = (word(at)?, usize::from(word(at + 2)?));
        let value = message.get(at + 4..at + 4 + length)?;
        match (word(0)?, kind) {
            (BINDING_SUCCESS, XOR_MAPPED_ADDRESS) => return mapped(value, transaction).map(Answer::Mapped),
            (BINDING_ERROR, ERROR_CODE) => return Some(Answer::Refused(u16::from(*value.get(2)? & 7) * 100 + u16::from(*value.get(3)?))),
            _ => at += 4 + length.next_multiple_of(4),
        }
    }
    None
}

/// Section 14.2: port and address, combined with cookie and transaction.
fn mapped(value: &[u8], transaction: &Transaction) -> Option<SocketAddr> {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    key[4..].copy_from_slice(transaction);
    let [_, family, high, low, address @ ..] = value else { return None };
    let port = u16::from_be_bytes([high ^ key[0], low ^ key[1]]);
    let plain: Vec<u8> = address.iter().zip(key).map(|(byte, key)| byte ^ key).collect();
    match family {
        1 if address.len() == 4 => Some((<[u8; 4]>::try_from(plain).ok()?, port).into()),
        2 if address.len() == 16 => Some((<[u8; 16]>::try_from(plain).ok()?, port).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769, sections 2.2 and 2.3, the attributes that matter here.
    const TRANSACTION: Transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn answer(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut message = kind.to_be_bytes().to_vec();
        message.extend((attributes.len() as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE.to_be_bytes());
        message.extend(TRANSACTION);
        message.extend(attributes);
        message
    }

    const IPV4: [u8; 12] = [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];

    #[test]
    fn the_rfc_vectors_are_understood() {
        let software = b"\x80\x22\x00\x0btest vector ";
        let message = answer(BINDING_SUCCESS, &[&software[..], &IPV4].concat());
        assert_eq!(parse(&message, &TRANSACTION), Answer::Mapped("192.0.2.1:32853".parse().expect("an address")));
        let ipv6 = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe,
            0xd2, 0xb9, 0xd9,
        ];
        let expected = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().expect("an address");
        assert_eq!(parse(&answer(BINDING_SUCCESS, &ipv6), &TRANSACTION), Answer::Mapped(expected));
    }

    #[test]
    fn anything_else_is_no_answer() {
        let good = answer(BINDING_SUCCESS, &IPV4);
        for cut in 0..good.len() {
            assert_eq!(parse(&good[..cut], &TRANSACTION), Answer::Other, "{cut} bytes were enough");
        }
        assert_eq!(parse(&good, &[0; 12]), Answer::Other, "another transaction");
        let mut cookie = good.clone();
        cookie[4] ^= 1;
        assert_eq!(parse(&cookie, &TRANSACTION), Answer::Other, "another cookie");
        assert_eq!(parse(&answer(BINDING_REQUEST, &IPV4), &TRANSACTION), Answer::Other, "a question");
        assert_eq!(parse(&answer(BINDING_SUCCESS, &[]), &TRANSACTION), Answer::Other, "no address");
        let error = [0x00, 0x09, 0x00, 0x04, 0x00, 0x00, 0x04, 0x14];
        assert_eq!(parse(&answer(BINDING_ERROR, &error), &TRANSACTION), Answer::Refused(420));
    }

    #[test]
    fn a_server_is_asked_again_until_it_answers_and_a_closed_port_is_told() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = server.local_addr().expect("bound");
        let asked = std::thread::spawn(move || {
            let mut question = [0; 20];
            server.recv(&mut question).expect("the first question, which gets lost");
            let (_, client) = server.recv_from(&mut question).expect("the second");
            assert_eq!(question[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            let mut message = answer(BINDING_SUCCESS, &IPV4);
            message[8..20].copy_from_slice(&question[8..]);
            server.send_to(&message, client).expect("sent");
        });
        assert_eq!(binding(address, Duration::from_secs(20)), Ok("192.0.2.1:32853".parse().expect("an address")));
        asked.join().expect("it was asked twice");
        assert!(binding(address, Duration::from_secs(20)).expect_err("closed").contains("refused"));
    }
}
