//! What every source makes of a request: a message, and what tells one event from another.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::source::Source;

/// Half of a SHA-256: names an event or a place without showing it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key([u8; 16]);

impl Key {
    /// The key of `parts`, in their order. Each is hashed with its length, so that `["ab", "c"]` is not `["a", "bc"]`.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Key(key)
    }

    /// As it is kept on disk.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        from_hex(&text).map(Key).ok_or_else(|| "expected 32 hexadecimal digits".to_owned())
    }
}

/// Bytes from hexadecimal digits of either case; none where there are others, or not exactly `2 * N`.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Whether somebody has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Failed.
    Bad,
    /// Passed; after a failure, a recovery.
    Good,
}

/// One event of a source, ready for Mattermost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Who told it, and so which webhook it goes to.
    #[serde(default)]
    pub source: Source,
    /// The event: what is sent again has the same key.
    pub event: Key,
    /// What the verdict is about, such as a branch of a project: a failure and its recovery have the same place.
    pub place: Key,
    /// Alerts of one lane are posted in the order in which they came.
    pub lane: Key,
    /// Failed or passed.
    pub verdict: Verdict,
    /// Whether the verdict is that of a quality gate, and not of an analysis that did not come to one.
    #[serde(default)]
    pub gate: bool,
    /// One line for the log.
    pub summary: String,
    /// The body for Mattermost's incoming webhook.
    pub message: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_where_parts_end_and_reads_back() {
        let key = |parts: &[&str]| Key::of(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_eq!(Key::try_from(key(&["a"]).to_string()), Ok(key(&["a"])));
        for bad in ["", "00", "+0000000000000000000000000000000", "zz000000000000000000000000000000"] {
            assert!(Key::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
