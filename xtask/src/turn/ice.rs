//! Connectivity checks: what an ICE agent asks another before any media (RFC 8445 section 7.2, RFC 8489 section 9.1).

use std::fmt;
use std::net::SocketAddr;

use super::message::{self, Message};

/// The priority of a peer-reflexive candidate of the relayed kind (RFC 8445 section 5.1.2.1): any would do.
const PRIORITY: u32 = 0x0000_ffff;

/// What the answer to a check belongs to.
pub type Transaction = [u8; 12];

/// The agent at the other end, as its session description names it: `a=ice-ufrag` and `a=ice-pwd`.
#[derive(Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its user name fragment.
    pub fragment: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("fragment", &self.fragment).finish_non_exhaustive()
    }
}

impl Agent {
    /// A Binding request to it, of the controlling agent with the fragment `own`: its transaction and its bytes. The error says that
    /// the system gives no random bytes.
    pub fn request(&self, own: &str) -> Result<(Transaction, Vec<u8>), String> {
        let transaction = message::transaction()?;
        let username = format!("{}:{own}", self.fragment).into_bytes();
        let attributes = [
            (message::USERNAME, username),
            (message::PRIORITY, PRIORITY.to_be_bytes().to_vec()),
            (message::ICE_CONTROLLING, transaction[..8].to_vec()),
        ];
        let mut request = message::encode(message::BINDING, &transaction, &attributes);
        message::sign(&mut request, self.password.as_bytes());
        message::fingerprint(&mut request);
        Ok((transaction, request))
    }

    /// A success that is signed with its password: what it answers, and the address that the request came from.
    pub fn success(&self, bytes: &[u8]) -> Option<(Transaction, SocketAddr)> {
        let answer = Message::parse(bytes)?;
        let signed = answer.kind == message::BINDING | message::SUCCESS && answer.is_signed_with(self.password.as_bytes());
        let mapped = answer.address(message::XOR_MAPPED_ADDRESS)?;
        signed.then_some((answer.transaction, mapped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2.2: a success with a short-term credential.
    const RFC_5769: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
        \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
        \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
        \x80\x28\x00\x04\xc0\x7d\x4c\x96";

    fn agent(password: &str) -> Agent {
        Agent { fragment: "evtj".to_owned(), password: password.to_owned() }
    }

    #[test]
    fn only_a_success_with_the_agents_signature_is_one() {
        let (transaction, mapped) = agent("VOkJxbRl1RmTxUk/WvJxBt").success(RFC_5769).unwrap();
        assert_eq!((&transaction[..], mapped), (&RFC_5769[8..20], "192.0.2.1:32853".parse().unwrap()));
        assert_eq!(agent("another").success(RFC_5769), None);
        let mut error = RFC_5769.to_vec();
        error[1] = 0x11;
        assert_eq!(agent("VOkJxbRl1RmTxUk/WvJxBt").success(&error), None);
    }

    #[test]
    fn a_request_is_signed_and_names_both_sides() {
        let agent = agent("VOkJxbRl1RmTxUk/WvJxBt");
        let (transaction, bytes) = agent.request("h6vY").unwrap();
        let request = Message::parse(&bytes).unwrap();
        assert_eq!((request.transaction, request.kind), (transaction, message::BINDING));
        assert_eq!(request.attribute(message::USERNAME), Some(&b"evtj:h6vY"[..]));
        assert!(request.is_signed_with(b"VOkJxbRl1RmTxUk/WvJxBt"));
        assert!(!format!("{agent:?}").contains("VOkJ"), "{agent:?}");
    }
}
