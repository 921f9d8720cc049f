//! One entry of somebody's archive, checked: the common ground of packages and release tarballs.
//!
//! Reading is the `tar` crate's; what is refused here is what has no place in an image: absolute and climbing paths,
//! devices, sockets, sparse files, links out of the tree, more bytes than the input can honestly hold.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::error::{Class, Context, Error, Result};

/// A file-system object without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path from the root without a leading slash, such as `usr/bin/turnserver`; the root itself is never an entry.
    pub path: String,
    /// What it is.
    pub node: Node,
    /// Permission bits, 12 of them.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: u64,
    /// Extended attributes, such as `security.capability`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link.
        target: String,
    },
    /// A second name of a regular file.
    Hardlink {
        /// Path from the root without a leading slash.
        target: String,
    },
}

impl Entry {
    /// A directory of root's.
    pub fn directory(path: impl Into<String>, mode: u32, mtime: u64) -> Entry {
        Entry::of(path, Node::Directory, mode, mtime)
    }

    /// A regular file of root's.
    pub fn file(path: impl Into<String>, size: usize, mode: u32, mtime: u64) -> Entry {
        Entry::of(path, Node::File { size: size as u64 }, mode, mtime)
    }

    /// A symbolic link of root's.
    pub fn symlink(path: impl Into<String>, target: impl Into<String>, mtime: u64) -> Entry {
        Entry::of(path, Node::Symlink { target: target.into() }, 0o777, mtime)
    }

    fn of(path: impl Into<String>, node: Node, mode: u32, mtime: u64) -> Entry {
        Entry { path: path.into(), node, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// The same entry with another owner.
    #[must_use]
    pub fn owned_by(mut self, id: u32) -> Entry {
        (self.uid, self.gid) = (id, id);
        self
    }

    /// The word for what it is.
    pub fn kind(&self) -> &'static str {
        match self.node {
            Node::Directory => "directory",
            Node::File { .. } => "file",
            Node::Symlink { .. } => "symbolic link",
            Node::Hardlink { .. } => "hard link",
        }
    }
}

/// The folder that a path lies in; `None` at the top.
pub fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(folder, _)| folder)
}

/// Where a symbolic link at `path` leads, as a path from the root; `None` when it climbs out of the tree.
pub fn link_destination(path: &str, target: &str) -> Option<String> {
    let mut names: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => parent(path).unwrap_or("").split('/').filter(|name| !name.is_empty()).collect(),
    };
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            _ => names.push(name),
        }
    }
    Some(names.join("/"))
}

/// The most bytes that an archive of `packed` bytes may unpack to. Real packages reach about 1:30; what goes beyond
/// 1:200 is made to fill memory or disk; below 8 MiB nobody is harmed.
pub fn unpacked_limit(packed: u64) -> u64 {
    packed.saturating_mul(200).saturating_add(8 << 20)
}

/// Fails once more than `limit` bytes were read.
pub struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R> Limited<R> {
    /// Lets `limit` bytes through.
    pub fn new(inner: R, limit: u64) -> Self {
        Limited { inner, left: limit, limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            Error::new(Class::Build, "it unpacks to far more than its size allows")
                .detail(format!("stopped after {} MiB", self.limit >> 20))
                .hint("this is how a decompression bomb looks; check where the file came from")
        })?;
        Ok(count)
    }
}

/// Reads a tar archive to its last byte and calls `visit` for each entry with a reader of its content.
///
/// `strip` is a folder that every path has to lie in and that is taken off; `""` for none.
pub fn read_tar(mut reader: impl Read, strip: &str, visit: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<()>) -> Result<()> {
    let mut archive = tar::Archive::new(&mut reader);
    for member in archive.entries()? {
        let mut member = member.map_err(Error::from)?;
        let Some(entry) = checked(&mut member, strip)? else { continue };
        let path = entry.path.clone();
        let wanted = match entry.node {
            Node::File { size } => size,
            _ => 0,
        };
        let mut content = (&mut member).take(wanted);
        visit(entry, &mut content).context(|| path.clone())?;
        std::io::copy(&mut content, &mut std::io::sink())?;
        if content.limit() != 0 {
            return Err(Error::new(Class::Build, format!("the archive ends inside {path}")));
        }
    }
    // The decoder checks its sums at the end of its stream, so the stream is read to the end; only padding may follow.
    let mut rest = [0; 8192];
    loop {
        let count = reader.read(&mut rest)?;
        if count == 0 {
            return Ok(());
        }
        if rest[..count].iter().any(|byte| *byte != 0) {
            return Err(Error::new(Class::Build, "there is data behind the end of the archive"));
        }
    }
}

pub(crate) fn checked<R: Read>(member: &mut tar::Entry<'_, R>, strip: &str) -> Result<Option<Entry>> {
    let raw = member.path_bytes().into_owned();
    let name = String::from_utf8_lossy(&raw).into_owned();
    let refuse = |why: &str| Error::new(Class::Build, format!("{name:?} {why}"));
    if raw.len() != name.len() || name.contains('\0') {
        return Err(refuse("is not a path in UTF-8"));
    }
    let Some(path) = clean_path(&name).map_err(refuse)? else { return Ok(None) };
    let path = match strip {
        "" => path,
        _ if path == strip => return Ok(None),
        _ => match path.strip_prefix(strip).and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => rest.to_owned(),
            None => return Err(refuse(&format!("does not lie in the folder \"{strip}\", as everything should"))),
        },
    };
    let xattrs = xattrs(member)?;
    let header = member.header();
    let link = || -> Result<String> {
        let target = member.link_name_bytes().ok_or_else(|| refuse("is a link to nothing"))?;
        String::from_utf8(target.into_owned()).map_err(|_| refuse("links to something that is not UTF-8"))
    };
    let node = match header.entry_type() {
        tar::EntryType::Directory => Node::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => Node::File { size: member.size() },
        tar::EntryType::Symlink => {
            let target = link()?;
            if link_destination(&path, &target).is_none() {
                return Err(refuse(&format!("links out of the tree, to {target:?}")));
            }
            Node::Symlink { target }
        }
        tar::EntryType::Link => {
            let target = link()?;
            let clean = clean_path(&target).map_err(|why| refuse(&format!("is a hard link to {target:?}, which {why}")))?;
            let stripped = clean.and_then(|clean| match strip {
                "" => Some(clean),
                _ => clean.strip_prefix(strip)?.strip_prefix('/').map(str::to_owned),
            });
            Node::Hardlink { target: stripped.ok_or_else(|| refuse(&format!("is a hard link to {target:?}, outside")))? }
        }
        tar::EntryType::Char | tar::EntryType::Block => return Err(refuse("is a device, which an image does not carry")),
        tar::EntryType::Fifo => return Err(refuse("is a named pipe, which an image does not carry")),
        other => return Err(refuse(&format!("is an entry of type {:?}, which is not supported", char::from(other.as_byte())))),
    };
    let number = |value: std::io::Result<u64>, field: &str| {
        value.ok().and_then(|value| u32::try_from(value).ok()).ok_or_else(|| refuse(&format!("has a {field} that is no number of 32 bits")))
    };
    Ok(Some(Entry {
        node,
        mode: header.mode().map_err(|_| refuse("has no readable mode"))? & 0o7777,
        uid: number(header.uid(), "uid")?,
        gid: number(header.gid(), "gid")?,
        mtime: header.mtime().map_err(|_| refuse("has no readable time"))?,
        xattrs,
        path,
    }))
}

/// Takes `./` and slashes at the ends off; `None` for the root.
fn clean_path(path: &str) -> Result<Option<String>, &'static str> {
    if path.starts_with('/') {
        return Err("is an absolute path");
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => return Err("climbs out of its folder"),
            _ => names.push(name),
        }
    }
    Ok(if names.is_empty() { None } else { Some(names.join("/")) })
}

fn xattrs<R: Read>(member: &mut tar::Entry<'_, R>) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    if let Some(extensions) = member.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
                found.insert(name.to_owned(), extension.value_bytes().to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().expect("a Vec takes all")
    }

    fn raw(path: &str, kind: tar::EntryType, link: &str) -> Vec<u8> {
        archive(|builder| {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append(&header, &[][..]).expect("a Vec takes all");
        })
    }

    fn read(bytes: &[u8], strip: &str) -> Result<Vec<(Entry, Vec<u8>)>> {
        let mut all = Vec::new();
        read_tar(bytes, strip, &mut |entry, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            all.push((entry, bytes));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn what_has_no_place_in_an_image_is_refused_by_name() {
        use tar::EntryType as T;
        for (path, kind, link, wanted) in [
            ("/etc/passwd", T::Regular, "", "absolute path"),
            ("./a/../../etc", T::Regular, "", "climbs out"),
            ("dev/sda", T::Block, "", "device"),
            ("dev/null", T::Char, "", "device"),
            ("run/pipe", T::Fifo, "", "named pipe"),
            ("a/b", T::Symlink, "../../etc/shadow", "links out of the tree"),
            ("a/b", T::Link, "../etc/shadow", "climbs out"),
            ("a/b", T::Link, "", "link"),
            ("a", T::GNUSparse, "", ""),
        ] {
            let error = read(&raw(path, kind, link), "").expect_err(path).to_string();
            assert!(error.contains(wanted), "expected {wanted:?} in {error}");
        }
        assert!(read(&raw("other/file", T::Regular, ""), "mattermost").expect_err("outside").to_string().contains("does not lie in"));
    }

    #[test]
    fn paths_lose_their_dots_and_the_root_is_no_entry() {
        assert_eq!(read(&raw("./", tar::EntryType::Directory, ""), "").expect("fine"), []);
        let entries = read(&raw("./mattermost/bin/", tar::EntryType::Directory, ""), "mattermost").expect("fine");
        assert_eq!(entries[0].0.path, "bin");
    }

    #[test]
    fn an_archive_that_ends_early_or_goes_on_is_refused() {
        let whole = archive(|builder| {
            let mut header = tar::Header::new_ustar();
            header.set_size(1000);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            builder.append_data(&mut header, "a", &[7; 1000][..]).expect("a Vec takes all");
        });
        assert_eq!(read(&whole, "").expect("whole")[0].1, [7; 1000]);
        assert!(read(&whole[..700], "").is_err());
        let error = read(&[&whole[..], b"more"].concat(), "").expect_err("trailing data").to_string();
        assert!(error.contains("behind the end"), "{error}");
    }

    #[test]
    fn a_bomb_is_stopped() {
        let error = std::io::copy(&mut Limited::new(std::io::repeat(0), 1 << 20), &mut std::io::sink()).expect_err("endless");
        assert!(Error::from(error).message().contains("far more"));
    }

    #[test]
    fn links_are_followed_on_paper() {
        for (path, target, expected) in [
            ("usr/lib/ssl/certs", "/etc/ssl/certs", Some("etc/ssl/certs")),
            ("usr/lib/libz.so.1", "libz.so.1.3", Some("usr/lib/libz.so.1.3")),
            ("usr/lib/a", "../share/./b", Some("usr/share/b")),
            ("bin", "usr/bin", Some("usr/bin")),
            ("a", "../b", None),
        ] {
            assert_eq!(link_destination(path, target).as_deref(), expected);
        }
    }
}
