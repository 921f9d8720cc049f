//! The canonical tar writer: POSIX ustar, and PAX extended headers only where ustar cannot say it.
//!
//! Its bytes are the product, so they are written here and nowhere else, and golden tests hold them: `format = 1` of
//! the lock means these bytes. The rules (POSIX.1-2024, pax, "ustar Interchange Format"):
//!
//! - numbers are octal with leading zeros, filling their field but for one NUL; names of owners are empty;
//! - a path of over 100 bytes is split at the last `/` that fits ustar's prefix, else it goes into a PAX header;
//! - a PAX header is called `PaxHeaders/` and the first bytes of the path, has its records in byte order, and
//!   carries the entry's own time; numbers too large for their field are PAX records as well;
//! - directories end in `/`, have size 0; links have size 0; content is padded with zeros to 512 bytes;
//! - two zero blocks end the archive, and nothing pads it further.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::entry::{Entry, Node};

const BLOCK: usize = 512;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes entries and their content.
pub struct Writer<W> {
    out: W,
    offset: u64,
    pending: u64,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Writer { out, offset: 0, pending: 0 }
    }

    /// Writes the header of `entry`; a file's content has to follow by [`Writer::content`]. Returns the offset at which
    /// the content starts, bytes from the archive's begin.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<u64> {
        if self.pending != 0 {
            return Err(io::Error::other(format!("{} bytes of the entry before {} are missing", self.pending, entry.path)));
        }
        let mut header = Header::of(entry);
        if let Some(records) = header.pax_records(entry) {
            let mut extended = Header::extended(entry, records.len());
            self.write(&extended.finish())?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write(&header.finish())?;
        if let Node::File { size } = entry.node {
            self.pending = size;
        }
        Ok(self.offset)
    }

    /// Writes a part of the content of the file whose header was last.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending =
            self.pending.checked_sub(bytes.len() as u64).ok_or_else(|| io::Error::other("a file is longer than its header says"))?;
        self.write(bytes)?;
        match self.pending {
            0 => self.pad(self.offset),
            _ => Ok(()),
        }
    }

    /// Ends the archive and returns what it was written to, and the archive's length in bytes.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        if self.pending != 0 {
            return Err(io::Error::other(format!("{} bytes of the last entry are missing", self.pending)));
        }
        self.write(&ZEROS)?;
        self.write(&ZEROS)?;
        self.out.flush()?;
        Ok((self.out, self.offset))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let over = (length % BLOCK as u64) as usize;
        match over {
            0 => Ok(()),
            _ => self.write(&ZEROS[over..]),
        }
    }
}

/// A ustar header block, and what did not fit into it.
struct Header {
    block: [u8; BLOCK],
    unfit: BTreeMap<&'static str, Vec<u8>>,
}

impl Header {
    fn of(entry: &Entry) -> Header {
        let mut header = Header { block: [0; BLOCK], unfit: BTreeMap::new() };
        let (kind, size, link) = match &entry.node {
            Node::Directory => (b'5', 0, ""),
            Node::File { size } => (b'0', *size, ""),
            Node::Symlink { target } => (b'2', 0, target.as_str()),
            Node::Hardlink { target } => (b'1', 0, target.as_str()),
        };
        let slash = if kind == b'5' { "/" } else { "" };
        header.path(&format!("{}{slash}", entry.path));
        header.number(100..108, u64::from(entry.mode), "mode");
        header.number(108..116, u64::from(entry.uid), "uid");
        header.number(116..124, u64::from(entry.gid), "gid");
        header.number(124..136, size, "size");
        header.number(136..148, entry.mtime, "mtime");
        header.block[156] = kind;
        if link.len() <= 100 {
            header.block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        } else {
            header.unfit.insert("linkpath", link.into());
        }
        header.block[257..265].copy_from_slice(b"ustar\x0000");
        header.number(329..337, 0, "devmajor");
        header.number(337..345, 0, "devminor");
        header
    }

    fn extended(entry: &Entry, length: usize) -> Header {
        let name: String = entry
            .path
            .chars()
            .scan(11, |bytes, c| {
                (*bytes + c.len_utf8() <= 100).then(|| {
                    *bytes += c.len_utf8();
                    c
                })
            })
            .collect();
        let carrier = Entry {
            path: format!("PaxHeaders/{name}"),
            node: Node::File { size: length as u64 },
            xattrs: BTreeMap::new(),
            ..entry.clone()
        };
        let mut header = Header::of(&Entry { mode: 0o644, uid: 0, gid: 0, ..carrier });
        header.block[156] = b'x';
        header
    }

    fn path(&mut self, path: &str) {
        if path.len() <= 100 {
            self.block[..path.len()].copy_from_slice(path.as_bytes());
            return;
        }
        // The last slash that leaves at most 100 bytes behind it and 155 in front.
        let split =
            path.char_indices().rfind(|(at, c)| *c == '/' && *at <= 155 && *at > 0 && path.len() - at - 1 <= 100 && *at + 1 < path.len());
        match split {
            Some((at, _)) => {
                self.block[345..345 + at].copy_from_slice(&path.as_bytes()[..at]);
                self.block[..path.len() - at - 1].copy_from_slice(&path.as_bytes()[at + 1..]);
            }
            None => {
                // Readers that know no PAX get as much of the name as there is room for.
                let end = (0..=100).rev().find(|at| path.is_char_boundary(*at)).unwrap_or(0);
                self.block[..end].copy_from_slice(&path.as_bytes()[..end]);
                self.unfit.insert("path", path.into());
            }
        }
    }

    fn number(&mut self, field: std::ops::Range<usize>, value: u64, name: &'static str) {
        let width = field.len() - 1;
        let text = format!("{value:0width$o}");
        if text.len() <= width {
            self.block[field.start..field.start + width].copy_from_slice(text.as_bytes());
        } else {
            self.block[field.start..field.start + width].fill(b'0');
            self.unfit.insert(name, value.to_string().into_bytes());
        }
    }

    fn pax_records(&self, entry: &Entry) -> Option<Vec<u8>> {
        let mut all: BTreeMap<String, &[u8]> = self.unfit.iter().map(|(name, value)| ((*name).to_owned(), value.as_slice())).collect();
        all.extend(entry.xattrs.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice())));
        let mut records = Vec::new();
        for (name, value) in &all {
            records.extend_from_slice(&pax_record(name, value));
        }
        (!records.is_empty()).then_some(records)
    }

    fn finish(&mut self) -> [u8; BLOCK] {
        self.block[148..156].fill(b' ');
        let sum: u32 = self.block.iter().map(|byte| u32::from(*byte)).sum();
        self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.block
    }
}

/// `LENGTH NAME=VALUE\n`, where the length counts itself.
fn pax_record(name: &str, value: &[u8]) -> Vec<u8> {
    let body = name.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    let mut record = format!("{length} {name}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use proptest::prelude::*;
    use std::io::Read;

    fn write(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in entries {
            writer.entry(entry).expect("a Vec takes all");
            writer.content(content).expect("a Vec takes all");
        }
        writer.finish().expect("a Vec takes all").0
    }

    fn samples() -> Vec<(Entry, &'static [u8])> {
        let long = format!("{}/{}", "a".repeat(120), "b".repeat(90));
        let longer = "c".repeat(140);
        let mut capable = Entry::file("usr/bin/turnserver", 5, 0o755, 1_700_000_000);
        capable.xattrs.insert("security.capability".into(), b"\x01\x00\x00\x02\x00\x04\x00\x00".to_vec());
        let mut hard = Entry::file("usr/bin/other", 0, 0o755, 1_700_000_000);
        hard.node = Node::Hardlink { target: "usr/bin/turnserver".into() };
        vec![
            (Entry::directory("usr", 0o755, 1_700_000_000), b""),
            (capable, b"hello"),
            (hard, b""),
            (Entry::symlink("bin", "usr/bin", 0), b""),
            (Entry::symlink("far", "t".repeat(130), 0), b""),
            (Entry::file(long, 3, 0o644, 1).owned_by(2000), b"abc"),
            (Entry::file(longer, 512, 0o4755, 1).owned_by(u32::MAX), &[9; 512]),
            (Entry::file("var/größe", 0, 0o1777, 0o77777777777), b""),
        ]
    }

    /// These bytes are what `format = 1` promises: every layer that was ever built moves with them. They change only
    /// together with a new format.
    #[test]
    fn the_bytes_of_format_1_do_not_move() {
        assert_eq!(Digest::of(write(&[])).to_string(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
        assert_eq!(Digest::of(write(&samples())).to_string(), "37cdd0c44a0df6b6c8526417abb2584f748af88c27d03fc0472fafd5610d067f");
    }

    #[test]
    fn another_reader_reads_what_was_written() {
        let bytes = write(&samples());
        let mut archive = ::tar::Archive::new(&bytes[..]);
        let mut read = Vec::new();
        for member in archive.entries().expect("an archive") {
            let mut member = member.expect("an entry");
            let mut content = Vec::new();
            member.read_to_end(&mut content).expect("its content");
            let link = member.link_name_bytes().map(|link| String::from_utf8_lossy(&link).into_owned());
            read.push((
                String::from_utf8_lossy(&member.path_bytes()).trim_end_matches('/').to_owned(),
                member.header().uid().expect("uid"),
                link,
                content,
            ));
        }
        for ((entry, content), (path, _, link, found)) in samples().iter().zip(&read) {
            assert_eq!((&entry.path, content.len(), *content), (path, found.len(), found.as_slice()));
            match &entry.node {
                Node::Symlink { target } | Node::Hardlink { target } => assert_eq!(Some(target), link.as_ref()),
                _ => {}
            }
        }
        assert_eq!(read.len(), samples().len());
    }

    #[test]
    fn content_has_to_be_as_long_as_its_header_says() {
        let mut writer = Writer::new(Vec::new());
        writer.entry(&Entry::file("a", 2, 0o644, 0)).expect("a header");
        assert!(writer.content(b"abc").is_err());
        let mut writer = Writer::new(Vec::new());
        writer.entry(&Entry::file("a", 2, 0o644, 0)).expect("a header");
        assert!(writer.entry(&Entry::file("b", 0, 0o644, 0)).is_err());
        assert!(writer.finish().is_err());
    }

    #[test]
    fn a_pax_record_counts_itself() {
        for (value, expected) in [(2, "9 a=bb\n".len()), (93, 99), (94, 101)] {
            let record = pax_record("a", &vec![b'b'; value]);
            let said: usize = String::from_utf8_lossy(&record).split(' ').next().and_then(|n| n.parse().ok()).expect("a length");
            assert_eq!(said, record.len());
            if value > 2 {
                assert_eq!(record.len(), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn any_path_comes_back(names in proptest::collection::vec("[a-zäö.+~_-]{1,90}", 1..6)) {
            let path = names.join("/");
            prop_assume!(names.iter().all(|name| name != "." && name != ".."));
            let bytes = write(&[(Entry::file(path.clone(), 1, 0o644, 7), b"x")]);
            let mut archive = ::tar::Archive::new(&bytes[..]);
            let member = archive.entries().expect("an archive").next().expect("one entry").expect("an entry");
            prop_assert_eq!(String::from_utf8_lossy(&member.path_bytes()).into_owned(), path);
        }
    }
}
