//! The store: foreign files by their SHA-256, fetched once, checked before they get their name, kept.
//!
//! Layout below the root (`target/store` or `--store DIR`): `blobs/sha256/<64 hex digits>` and `tmp/`. Checkouts and
//! processes may share one store: a blob appears by a rename, complete or not at all, and files in `tmp/` are locked by
//! the process that writes them.

mod failure;
pub mod fetch;
pub mod http;
mod known;
mod temp;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::{Digest, Hashing};
use crate::error::{Class, Error, Result};
use crate::lock::{Artefact, Origin};
pub use fetch::Options;
pub use http::{http_client, http_client_with};
use temp::Temp;

/// A folder of blobs.
#[derive(Clone, Debug)]
pub struct Store {
    blobs: PathBuf,
    tmp: PathBuf,
    memory: PathBuf,
}

impl Store {
    /// Opens the store at `root`, making it where there is none, and removes what processes that are gone left in `tmp/`
    /// (partial downloads stay: the next fetch goes on with them).
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store { blobs: root.join("blobs/sha256"), tmp: root.join("tmp"), memory: root.join("made") };
        fs::create_dir_all(&store.blobs)?;
        fs::create_dir_all(&store.tmp)?;
        temp::clean(&store.tmp, |digest| store.has(digest))?;
        Ok(store)
    }

    /// The folder of what was made from which inputs; losing it costs time, nothing else.
    pub fn memory(&self) -> PathBuf {
        self.memory.clone()
    }

    /// The same blobs with another memory: an empty folder makes every build cold.
    #[must_use]
    pub fn with_memory(self, folder: &Path) -> Store {
        Store { memory: folder.to_owned(), ..self }
    }

    /// The SHA-256 of a file outside of the store. It is read once and then known by inode and times, until it changes.
    pub fn digest_of(&self, file: &Path) -> Result<Digest> {
        known::digest(file, &self.memory)
    }

    /// Where the blob lies, or would lie.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.to_string())
    }

    /// Whether the blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Whether the artefact's blob is there, as long as the lock says: one that a disk or a copy cut short counts as missing
    /// and is fetched again.
    pub fn holds(&self, artefact: &Artefact) -> bool {
        let length = artefact.sha256.and_then(|digest| fs::metadata(self.path(&digest)).ok()).map(|blob| blob.len());
        length.is_some() && artefact.size.is_none_or(|size| length == Some(size))
    }

    /// The artefact's blob, or an error that says which file is missing, where it comes from and how to bring it.
    pub fn require(&self, artefact: &Artefact) -> Result<PathBuf> {
        let missing = || {
            let file = artefact.from.file_name();
            let mut error = Error::new(Class::Fetch, format!("{} {} is not in the store", artefact.name, artefact.version))
                .detail(format!("file    {file}"))
                .detail(format!("from    {}", from(&artefact.from)));
            if let Some(sha256) = artefact.sha256 {
                error = error.detail(format!("sha256  {sha256}"));
            }
            error.hint(format!("`cargo xtask images fetch` brings it; `cargo xtask images add {file}` takes it from a disk"))
        };
        let digest = artefact.sha256.ok_or_else(missing)?;
        if self.holds(artefact) { Ok(self.path(&digest)) } else { Err(missing()) }
    }

    /// Those of `artefacts` that are not in the store, each blob once. An artefact without a SHA-256 is always missing.
    pub fn missing<'a>(&self, artefacts: impl IntoIterator<Item = &'a Artefact>) -> Vec<&'a Artefact> {
        let mut seen = std::collections::BTreeSet::new();
        let is_new = |artefact: &&Artefact| match artefact.sha256 {
            Some(digest) => !self.holds(artefact) && seen.insert(digest),
            None => true,
        };
        artefacts.into_iter().filter(is_new).collect()
    }

    /// Keeps what `reader` gives, and says its digest and length in bytes. What has another digest than `expected`
    /// ([`Class::HashMismatch`]) or more or less bytes than `expected_size` is not kept; reading stops at the limit.
    pub fn insert(&self, reader: impl Read, expected: Option<Digest>, expected_size: Option<u64>) -> Result<(Digest, u64)> {
        let temp = Temp::create(&self.tmp)?;
        let mut source = Hashing::new(match expected_size {
            Some(size) => reader.take(size.saturating_add(1)),
            None => reader.take(u64::MAX),
        });
        let mut sink = temp.file();
        std::io::copy(&mut source, &mut sink)?;
        sink.flush()?;
        let (_, digest, size) = source.finish();
        if let Some(wanted) = expected_size.filter(|wanted| *wanted != size) {
            let found = if size > wanted { "more".to_owned() } else { format!("{size} bytes") };
            return Err(Error::new(Class::HashMismatch, "the file has another length than the lock says")
                .detail(format!("expected {wanted} bytes"))
                .detail(format!("found    {found}"))
                .hint("the file was not kept"));
        }
        if let Some(wanted) = expected.filter(|wanted| *wanted != digest) {
            return Err(Error::new(Class::HashMismatch, "the file does not match the lock")
                .detail(format!("expected sha256 {wanted}"))
                .detail(format!("found    sha256 {digest}"))
                .hint("the file was not kept"));
        }
        temp.publish(&self.path(&digest))?;
        Ok((digest, size))
    }

    /// Keeps a copy of the file at `path`.
    pub fn add_file(&self, path: &Path) -> Result<(Digest, u64)> {
        self.insert(fs::File::open(path)?, None, None)
    }
}

/// Where a file comes from, for people: the URL, or repository and pool path.
pub fn from(origin: &Origin) -> String {
    match origin {
        Origin::Debian { repository, path } => format!("Debian {repository}, {path}"),
        Origin::Url { url } => url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("store")).expect("opens");
        (folder, store)
    }

    fn left_over(store: &Store) -> usize {
        fs::read_dir(&store.tmp).expect("readable").count()
    }

    #[test]
    fn what_is_inserted_is_found_by_its_digest() {
        let (_folder, store) = store();
        let digest = Digest::of("bytes");
        assert_eq!(store.insert("bytes".as_bytes(), Some(digest), Some(5)).expect("kept"), (digest, 5));
        assert_eq!(fs::read_to_string(store.path(&digest)).expect("readable"), "bytes");
        assert_eq!(store.insert("bytes".as_bytes(), None, None).expect("kept again"), (digest, 5));
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn wrong_bytes_get_no_name() {
        let (_folder, store) = store();
        let wanted = Digest::of("wanted");
        let error = store.insert("other!".as_bytes(), Some(wanted), Some(6)).expect_err("refused");
        assert_eq!(error.class(), Class::HashMismatch);
        assert!(!store.has(&wanted) && !store.has(&Digest::of("other!")));
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn reading_stops_right_after_the_locked_size() {
        let (_folder, store) = store();
        let mut endless = std::io::repeat(0);
        let error = store.insert(&mut endless, None, Some(1 << 20)).expect_err("refused");
        assert!(error.to_string().contains("expected 1048576 bytes\n  found    more"), "{error}");
        assert_eq!(left_over(&store), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not() {
        let (folder, store) = store();
        fs::write(store.tmp.join("new-dead"), "half").expect("written");
        let alive = Temp::create(&store.tmp).expect("created");
        let again = Store::open(&folder.path().join("store")).expect("opens");
        assert_eq!(left_over(&again), 1);
        alive.publish(&again.path(&Digest::of(""))).expect("its file is still there");
    }
}
