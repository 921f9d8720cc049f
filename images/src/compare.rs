//! Two of a kind, field by field: entries, documents, bytes. Shared by `verify`, which wants no difference, and `diff`.

use std::fmt;
use std::io::Read;

use serde::Serialize;
use serde_json::Value;

use crate::contents::{Layer, Member};
use crate::entry::{Entry, Node};
use crate::error::Result;

/// What stands where one side has nothing.
pub const NOTHING: &str = "nothing";

/// One field that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `mode`, `mtime`, `content`, …, or the path in a JSON document (RFC 6901).
    pub field: String,
    /// What the left side has.
    pub left: String,
    /// What the right side has.
    pub right: String,
}

impl Change {
    fn new(field: impl Into<String>, left: impl fmt::Display, right: impl fmt::Display) -> Change {
        Change { field: field.into(), left: left.to_string(), right: right.to_string() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.field, self.left, self.right)
    }
}

/// An entry in a few words: `file 0644 0:0, 12 bytes`.
pub fn describe(entry: &Entry) -> String {
    let Entry { mode, uid, gid, .. } = entry;
    match &entry.node {
        Node::File { size } => format!("file {mode:04o} {uid}:{gid}, {size} bytes"),
        Node::Symlink { target } | Node::Hardlink { target } => format!("{} to {target}", entry.kind()),
        Node::Directory => format!("directory {mode:04o} {uid}:{gid}"),
    }
}

/// The fields of two entries at one path; content is not among them.
pub fn entries(left: &Entry, right: &Entry) -> Vec<Change> {
    let mut changes = Vec::new();
    match (&left.node, &right.node) {
        (Node::File { size: a }, Node::File { size: b }) if a != b => changes.push(Change::new("size", a, b)),
        (Node::Symlink { target: a }, Node::Symlink { target: b }) | (Node::Hardlink { target: a }, Node::Hardlink { target: b })
            if a != b =>
        {
            changes.push(Change::new("link target", a, b));
        }
        _ if left.kind() != right.kind() => changes.push(Change::new("kind", left.kind(), right.kind())),
        _ => {}
    }
    if left.mode != right.mode {
        changes.push(Change::new("mode", format_args!("{:04o}", left.mode), format_args!("{:04o}", right.mode)));
    }
    for (field, a, b) in
        [("uid", left.uid.into(), right.uid.into()), ("gid", left.gid.into(), right.gid.into()), ("mtime", left.mtime, right.mtime)]
    {
        if a != b {
            changes.push(Change::new(field, a, b));
        }
    }
    let names: std::collections::BTreeSet<&String> = left.xattrs.keys().chain(right.xattrs.keys()).collect();
    for name in names {
        let (a, b) = (left.xattrs.get(name), right.xattrs.get(name));
        if a != b {
            let text = |value: Option<&Vec<u8>>| value.map_or(NOTHING.to_owned(), |bytes| hex(bytes));
            changes.push(Change::new(format!("xattr {name}"), text(a), text(b)));
        }
    }
    changes
}

/// The fields of two members at one path, and where their content differs first.
pub fn members(left: (&Layer, &fs_err::File, &Member), right: (&Layer, &fs_err::File, &Member)) -> Result<Vec<Change>> {
    let mut changes = entries(&left.2.entry, &right.2.entry);
    if let (Node::File { .. }, Node::File { .. }) = (&left.2.entry.node, &right.2.entry.node)
        && let Some((at, a, b)) = first_difference(left.0.content(left.1, left.2), right.0.content(right.1, right.2))?
    {
        changes.push(Change::new(format!("content at byte {at}"), byte(a), byte(b)));
    }
    Ok(changes)
}

/// The documents' leaves that differ. A list is compared by position.
pub fn documents(left: &Value, right: &Value) -> Vec<Change> {
    fn walk(path: &str, left: Option<&Value>, right: Option<&Value>, changes: &mut Vec<Change>) {
        if left == right {
            return;
        }
        match (left, right) {
            (Some(Value::Object(a)), Some(Value::Object(b))) => {
                let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for name in names {
                    // RFC 6901, section 3.
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    walk(&format!("{path}/{escaped}"), a.get(name), b.get(name), changes);
                }
            }
            (Some(Value::Array(a)), Some(Value::Array(b))) => {
                for at in 0..a.len().max(b.len()) {
                    walk(&format!("{path}/{at}"), a.get(at), b.get(at), changes);
                }
            }
            _ => {
                let text = |value: Option<&Value>| value.map_or(NOTHING.to_owned(), Value::to_string);
                changes.push(Change::new(path, text(left), text(right)));
            }
        }
    }
    let mut changes = Vec::new();
    walk("", Some(left), Some(right), &mut changes);
    changes
}

/// Where two streams part: the offset, and the byte that each has there; `None` where one ends.
pub type Parting = (u64, Option<u8>, Option<u8>);

/// The first byte that differs; nothing where both are the same to their ends.
pub fn first_difference(mut left: impl Read, mut right: impl Read) -> Result<Option<Parting>> {
    const PIECE: usize = 128 << 10;
    let (mut a, mut b) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    let mut at = 0;
    loop {
        a.clear();
        b.clear();
        (&mut left).take(PIECE as u64).read_to_end(&mut a)?;
        (&mut right).take(PIECE as u64).read_to_end(&mut b)?;
        if a != b {
            let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            return Ok(Some((at + same as u64, a.get(same).copied(), b.get(same).copied())));
        }
        if a.is_empty() {
            return Ok(None);
        }
        at += a.len() as u64;
    }
}

fn byte(byte: Option<u8>) -> String {
    byte.map_or("its end".to_owned(), |byte| format!("{byte:02x}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_across_pieces_and_to_the_end() {
        let long = vec![7; 300_000];
        let mut other = long.clone();
        other[200_001] = 8;
        assert_eq!(first_difference(&long[..], &other[..]).expect("memory"), Some((200_001, Some(7), Some(8))));
        assert_eq!(first_difference(&long[..], &long[..262_144]).expect("memory"), Some((262_144, Some(7), None)));
        assert_eq!(first_difference(&long[..], &long[..]).expect("memory"), None);
    }

    #[test]
    fn documents_are_compared_leaf_by_leaf() {
        let left = serde_json::json!({"a": [1, 2], "b/c": {"x": 1}, "same": true});
        let right = serde_json::json!({"a": [1], "b/c": {"x": "1"}, "same": true});
        let shown: Vec<String> = documents(&left, &right).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/a/1: 2 → nothing", "/b~1c/x: 1 → \"1\""]);
    }
}
