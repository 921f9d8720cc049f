//! Where a layer's entries come from, and how each source hands them over: decoded, selected, checked, never held whole.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use super::{CHUNK, ahead};
use crate::conveyor::Piece;
use crate::deb::Deb;
use crate::digest::{Digest, Hashing};
use crate::entry::{self, Entry, Limited, Node};
use crate::error::{Class, Error, Result};
use crate::rules::select::Select;
use crate::rules::usrmerge;
use crate::spec::glob_matches;

/// Where entries come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A Debian package.
    Deb {
        /// The blob.
        blob: Blob,
    },
    /// A release tarball, gzip or plain tar by its first bytes.
    Release {
        /// The blob.
        blob: Blob,
        /// Top folder that is taken off.
        strip: String,
        /// Where it goes, without a leading slash.
        destination: String,
        /// Number of the owner and group.
        owner: u32,
        /// Globs, relative to the destination, of what stays out.
        exclude: Vec<String>,
        /// Globs of what stays in all the same.
        keep: Vec<String>,
    },
    /// What this program makes, and files as they are.
    Items {
        /// Who is named as the owner in conflicts.
        owner: String,
        /// Entries with their content.
        items: Vec<Item>,
    },
}

/// A foreign file in the store.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Who is named as the owner in conflicts: package or release.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What its bytes have to be.
    pub sha256: Digest,
}

/// An entry with its content.
#[derive(Clone, Debug)]
pub struct Item {
    /// The entry.
    pub entry: Entry,
    /// The bytes of a file.
    pub content: Content,
}

/// The bytes of a file.
#[derive(Clone, Debug)]
pub enum Content {
    /// None: it is no file.
    None,
    /// These.
    Bytes(Vec<u8>),
    /// Those of a file.
    File(PathBuf),
}

impl Item {
    /// A directory or link.
    pub fn bare(entry: Entry) -> Item {
        Item { entry, content: Content::None }
    }

    /// A file with these bytes.
    pub fn text(path: impl Into<String>, text: impl Into<Vec<u8>>, mtime: u64) -> Item {
        let bytes = text.into();
        Item { entry: Entry::file(path, bytes.len(), 0o644, mtime), content: Content::Bytes(bytes) }
    }
}

impl Source {
    /// Bytes of the file that has to be unpacked; 0 where there is none, or it cannot be asked: opening it will tell.
    pub(super) fn packed(&self) -> u64 {
        match self {
            Source::Deb { blob } | Source::Release { blob, .. } => fs_err::metadata(&blob.path).map_or(0, |file| file.len()),
            Source::Items { .. } => 0,
        }
    }

    /// Who is named as the owner.
    pub fn owner(&self) -> &str {
        match self {
            Source::Deb { blob } | Source::Release { blob, .. } => &blob.name,
            Source::Items { owner, .. } => owner,
        }
    }
}

type Sink<'a> = dyn FnMut(Piece) -> Result<()> + 'a;

/// Hands everything of a source to `sink`, in the source's order.
pub(super) fn produce(source: &Source, select: &Select, sink: &mut Sink<'_>) -> Result<()> {
    match source {
        Source::Deb { blob } => produce_deb(blob, select, sink),
        Source::Release { blob, strip, destination, owner, exclude, keep } => {
            let globs = Globs { exclude, keep };
            produce_release(blob, strip, destination, *owner, &globs, sink)
        }
        Source::Items { items, .. } => items.iter().try_for_each(|item| produce_item(item, sink)),
    }
}

/// Reads a blob and checks its hash on the way: a damaged store must not become an image.
fn reading<T>(blob: &Blob, read: impl FnOnce(&mut Hashing<fs_err::File>) -> Result<T>) -> Result<T> {
    let mut hashing = Hashing::new(fs_err::File::open(&blob.path)?);
    let result = read(&mut hashing);
    std::io::copy(&mut hashing, &mut std::io::sink())?;
    undamaged(blob, hashing.finish().1)?;
    result
}

fn undamaged(blob: &Blob, found: Digest) -> Result<()> {
    if found == blob.sha256 {
        return Ok(());
    }
    Err(Error::new(Class::HashMismatch, format!("{} in the store is damaged", blob.name))
        .detail(format!("expected sha256 {}", blob.sha256))
        .detail(format!("found    sha256 {found}"))
        .hint(format!("remove {} and run `cargo xtask images fetch`", blob.path.display())))
}

fn produce_deb(blob: &Blob, select: &Select, sink: &mut Sink<'_>) -> Result<()> {
    reading(blob, |file| {
        let deb = Deb::open(file)?;
        let (control, time) = (deb.control.clone(), deb.time);
        sink(Piece::Time(time))?;
        deb.entries(&mut |entry, content| match select.entry(entry) {
            Some(entry) => emit(entry, content, sink),
            None => Ok(()),
        })?;
        // Where scanners look for packages in an image without dpkg.
        let name = control.field("Package").unwrap_or(&blob.name).to_owned();
        let status = format!("var/lib/dpkg/status.d/{name}");
        let sums = Item::text(format!("{status}.md5sums"), usrmerge::md5sums(&control.md5sums), time);
        produce_item(&Item::text(status, format!("{}\n", control.control.trim_end()), time), sink)?;
        produce_item(&sums, sink)
    })
}

struct Globs<'a> {
    exclude: &'a [String],
    keep: &'a [String],
}

impl Globs<'_> {
    fn out(&self, path: &str) -> bool {
        let named = |globs: &[String]| globs.iter().any(|glob| glob_matches(glob, path));
        named(self.exclude) && !named(self.keep)
    }
}

fn produce_release(blob: &Blob, strip: &str, destination: &str, owner: u32, globs: &Globs<'_>, sink: &mut Sink<'_>) -> Result<()> {
    let size = fs_err::metadata(&blob.path)?.len();
    let (result, digest) = ahead::hashed(&blob.path, |file| {
        let gzip = std::io::BufRead::fill_buf(file)?.starts_with(&[0x1f, 0x8b]);
        let unpacked: Box<dyn Read> = if gzip { Box::new(flate2::bufread::MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut folders = BTreeSet::new();
        entry::read_tar(Limited::new(unpacked, entry::unpacked_limit(size)), strip, &mut |mut entry, content| {
            if globs.out(&entry.path) && entry.node != Node::Directory {
                return Ok(());
            }
            sink(Piece::Time(entry.mtime))?;
            entry.path = format!("{destination}/{}", entry.path);
            if let Node::Hardlink { target } = &mut entry.node {
                *target = format!("{destination}/{target}");
            }
            let mtime = entry.mtime;
            release_folders(&entry.path, destination, &mut folders, &mut |path| {
                sink(Piece::Entry(Entry::directory(path, 0o755, mtime).owned_by(owner)))
            })?;
            // A folder's mode is the vendor's packer's umask; what a folder has to be is said by [[path]].
            if entry.node == Node::Directory {
                return Ok(());
            }
            entry.mode &= 0o755;
            emit(entry.owned_by(owner), content, sink)
        })
    })?;
    undamaged(blob, digest)?;
    result
}

/// Calls `make` for each folder from the destination down to where `path` lies, once.
fn release_folders(path: &str, destination: &str, seen: &mut BTreeSet<String>, make: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at >= destination.len());
    for end in ends {
        if seen.insert(path[..end].to_owned()) {
            make(&path[..end])?;
        }
    }
    Ok(())
}

fn produce_item(item: &Item, sink: &mut Sink<'_>) -> Result<()> {
    match &item.content {
        Content::None => sink(Piece::Entry(item.entry.clone())),
        Content::Bytes(bytes) => emit(item.entry.clone(), &mut bytes.as_slice(), sink),
        Content::File(path) => emit(item.entry.clone(), &mut fs_err::File::open(path)?, sink),
    }
}

fn emit(entry: Entry, content: &mut dyn Read, sink: &mut Sink<'_>) -> Result<()> {
    let mut left = match entry.node {
        Node::File { size } => size,
        _ => 0,
    };
    let path = entry.path.clone();
    sink(Piece::Entry(entry))?;
    while left > 0 {
        let length = left.min(CHUNK as u64);
        let mut chunk = Vec::with_capacity(length as usize);
        content.take(length).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Err(Error::new(Class::Build, format!("{path} ends {left} bytes early")));
        }
        left -= chunk.len() as u64;
        sink(Piece::Content(chunk))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Packing, append, pack};

    #[test]
    fn a_damaged_release_is_refused_by_its_hash_whatever_the_decoder_says() {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "top/file", tar::EntryType::Regular, 0o644, 7, "", b"content");
        let good = pack(&tar.into_inner().expect("a tar"), Packing::Gzip);
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = |bytes: &[u8]| {
            fs_err::write(file.path(), bytes).expect("written");
            let blob = Blob { name: "release".into(), path: file.path().to_owned(), sha256: Digest::of(&good) };
            let globs = Globs { exclude: &[], keep: &[] };
            produce_release(&blob, "top", "opt", 0, &globs, &mut |_| Ok(()))
        };
        read(&good).expect("a good release");
        let mut other_time = good.clone();
        other_time[5] ^= 1; // gzip's own time: nothing that it packs changes
        for damaged in [&other_time[..], &good[..good.len() - 3], b"<html>"] {
            assert_eq!(read(damaged).expect_err("damaged").class(), Class::HashMismatch);
        }
    }
}
