//! Names that a person may write, checked where they enter: DNS names, Mattermost's names, memory sizes.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A host name in the letters of RFC 1123, lower case, without a trailing dot; at most 253 characters, 63 a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DnsName(String);

/// What a DNS name has to look like.
pub const DNS_NAME: &str = "a host name of letters, digits, hyphens and dots (an international name in its xn-- form)";

impl FromStr for DnsName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // What ends in digits is an address, or would be read as one (WHATWG URL, "ends in a number").
        let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        match text.len() <= 253 && text.split('.').all(label) && !numeric {
            true => Ok(DnsName(text.to_ascii_lowercase())),
            false => Err(()),
        }
    }
}

impl DnsName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain that the name lies in: `cicd.local` of `mattermost.cicd.local`; a name of one or two labels is its own.
    pub fn suffix(&self) -> &str {
        match self.0.split_once('.') {
            Some((_, rest)) if rest.contains('.') => rest,
            _ => &self.0,
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Mattermost name: of a team (2–64 characters) or a channel (1–64), in lower-case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ChatName(String);

/// What a Mattermost name has to look like.
pub const CHAT_NAME: &str = "2 to 64 lower-case letters, digits and hyphens, with a letter or digit at both ends";

impl FromStr for ChatName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        match (2..=64).contains(&text.len()) && letters && !text.starts_with('-') && !text.ends_with('-') {
            true => Ok(ChatName(text.to_owned())),
            false => Err(()),
        }
    }
}

impl ChatName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An amount of memory in bytes, written with a binary unit: `512m`, `2g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Memory(pub u64);

/// What an amount of memory has to look like.
pub const MEMORY: &str = "a number with m (MiB) or g (GiB), such as \"512m\" or \"2g\", from 16m to 1024g";

impl FromStr for Memory {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (digits, unit): (&str, u64) = match (text.strip_suffix('m'), text.strip_suffix('g')) {
            (Some(digits), _) => (digits, 1 << 20),
            (_, Some(digits)) => (digits, 1 << 30),
            _ => return Err(()),
        };
        let number: u64 = digits.parse().map_err(|_| ())?;
        let bytes = number.checked_mul(unit).ok_or(())?;
        match ((16 << 20)..=(1024 << 30)).contains(&bytes) {
            true => Ok(Memory(bytes)),
            false => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_those_of_rfc_1123() {
        for good in ["mattermost.cicd.local", "chat", "XN--bcher-kva.example", "a1-b.c"] {
            assert!(good.parse::<DnsName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", ".", "a..b", "a.", "-a", "a-", "a_b", "bücher.example", "a b", "192.168.1.2", "host.1", &long, &"a.".repeat(150)] {
            assert!(bad.parse::<DnsName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_suffix_is_never_a_top_level_domain_of_a_longer_name() {
        let suffix = |name: &str| name.parse::<DnsName>().unwrap().suffix().to_owned();
        assert_eq!(suffix("mattermost.cicd.local"), "cicd.local");
        assert_eq!(suffix("chat.example"), "chat.example");
        assert_eq!(suffix("chat"), "chat");
    }

    #[test]
    fn memory_has_a_unit_and_bounds() {
        assert_eq!("512m".parse(), Ok(Memory(512 << 20)));
        assert_eq!("2g".parse(), Ok(Memory(2 << 30)));
        for bad in ["", "m", "512", "1m", "2t", "-1g", "99999999999g", "1.5g", "ü"] {
            assert!(bad.parse::<Memory>().is_err(), "{bad}");
        }
    }
}
