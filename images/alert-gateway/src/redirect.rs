//! A port that sends browsers on to HTTPS.

use crate::server::{Answer, Head, Service};

/// Sends every request to the same path of another address.
pub struct Redirect {
    /// `https://HOST[:PORT]`, without a slash at its end.
    pub to: String,
}

impl Service for Redirect {
    /// 308, so that a POST stays one (RFC 9110, 15.4.9).
    fn head(&self, head: &Head) -> Result<(), Answer> {
        // What no address is made of is not repeated.
        let path = if head.path.bytes().all(|byte| byte.is_ascii_graphic()) { head.path.as_str() } else { "/" };
        Err(Answer { location: Some(format!("{}{path}", self.to)), ..Answer::error("308 Permanent Redirect", "over HTTPS") })
    }

    fn body(&self, _: &Head, _: &[u8]) -> Answer {
        unreachable!("no body is wanted")
    }
}

/// An address to be sent to: `https://`, a host, perhaps a port.
pub fn target(text: &str) -> Option<String> {
    let host = text.strip_prefix("https://")?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]/".contains(&byte);
    (!host.is_empty() && host.bytes().all(letter)).then(|| text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_be_sent_to_is_one_of_https() {
        assert_eq!(target("https://chat.lan:8065/").as_deref(), Some("https://chat.lan:8065"));
        assert_eq!(target("https://[fd00::1]:8065").as_deref(), Some("https://[fd00::1]:8065"));
        for bad in ["http://chat.lan", "https://", "chat.lan", "https://chat.lan\r\nX: y", "https://user@chat.lan"] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }
}
