//! Python's tarfile as a second reader.

use std::path::Path;

use images::Result;
use images::entry::{Entry, Node};
use serde::Deserialize;

use crate::world::World;

const LIST: &str = r#"
import json, sys, tarfile
with tarfile.open(sys.argv[1], "r:") as archive:
    for m in archive:
        kind = "directory" if m.isdir() else "file" if m.isreg() else "symbolic link" if m.issym() else "hard link" if m.islnk() else "?"
        print(json.dumps([m.name, kind, m.mode, m.uid, m.gid, m.size if m.isreg() else 0, m.mtime, m.linkname]))
"#;

/// Name, kind, mode, uid, gid, size, time, target: what a listing tells.
#[derive(Debug, Deserialize, PartialEq)]
pub struct Line(String, String, u32, u32, u32, u64, u64, String);

impl Line {
    /// The line of an entry as our own reader has it.
    pub fn of(entry: &Entry) -> Line {
        let (size, target) = match &entry.node {
            Node::File { size } => (*size, String::new()),
            Node::Symlink { target } | Node::Hardlink { target } => (0, target.clone()),
            Node::Directory => (0, String::new()),
        };
        Line(entry.path.clone(), entry.kind().to_owned(), entry.mode, entry.uid, entry.gid, size, entry.mtime, target)
    }
}

/// The listing of an archive, in its order.
pub fn list(world: &World, archive: &Path) -> Result<Vec<Line>> {
    let printed = world.machine.process("python3").args(["-c", LIST]).arg(archive).text()?;
    Ok(printed.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect())
}
