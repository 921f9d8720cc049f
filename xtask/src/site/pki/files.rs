//! `pki/` on disk: certificates 0644, keys 0600 from the moment they exist, and changes that happen as a whole or not at all.

use std::path::{Path, PathBuf};

use images::{Class, Error, Result};

use crate::site::journal::{Entry, Journal};

/// A file of `pki/` and its new content; without one it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file's name.
    pub name: String,
    /// PEM text.
    pub content: Option<String>,
}

impl Change {
    /// A file that gets `content`.
    pub fn write(name: impl Into<String>, content: impl Into<String>) -> Self {
        Change { name: name.into(), content: Some(content.into()) }
    }

    /// A file that goes.
    pub fn remove(name: impl Into<String>) -> Self {
        Change { name: name.into(), content: None }
    }
}

/// Keys are for their owner alone.
pub fn mode_of(name: &str) -> u32 {
    if name.ends_with("key.pem") { 0o600 } else { 0o644 }
}

/// The folder. Looking at it writes nothing: what another command is changing there stays as it is.
#[derive(Clone, Debug)]
pub struct Files {
    journal: Journal,
}

impl Files {
    /// Looks into `pki/`, which need not exist.
    pub fn look(folder: &Path) -> Self {
        Files { journal: Journal::of(folder, 0o700) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.journal.folder()
    }

    /// Where a file lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.journal.path(name)
    }

    /// Whether a change is under way, or was interrupted.
    pub fn in_between(&self) -> bool {
        self.journal.in_between()
    }

    /// A file's text, or nothing where there is none.
    pub fn read(&self, name: &str) -> Result<Option<String>> {
        let bytes = self.journal.read(name)?;
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|_| {
            Error::new(Class::Check, format!("{} is in the way", self.path(name).display()))
                .detail("expected a PEM file, or none")
                .detail("found what is no text")
                .hint("move it elsewhere")
        })
    }

    /// Makes every change, or none. The caller holds the site's folder.
    pub fn change(&self, changes: &[Change]) -> Result<()> {
        self.journal.change(&changes.iter().map(entry).collect::<Vec<_>>())
    }
}

fn entry(change: &Change) -> Entry {
    match &change.content {
        Some(text) => Entry::write(&change.name, text.as_str(), mode_of(&change.name)),
        None => Entry::remove(&change.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::journal::tests::{contents, cut_off_everywhere};

    #[test]
    fn certificates_and_keys_change_together_wherever_the_change_is_cut_off() {
        let names = ["a.pem", "a-key.pem", "b.pem", "b-key.pem"];
        let begin = || {
            let folder = tempfile::tempdir().unwrap();
            let files = Files::look(&folder.path().join("pki"));
            let old = names.iter().chain(&["a.csr"]).map(|name| Change::write(*name, format!("old {name}")));
            files.change(&old.collect::<Vec<_>>()).unwrap();
            let new = names.iter().map(|name| Change::write(*name, format!("new {name}"))).chain([Change::remove("a.csr")]);
            let entries = new.map(|change| entry(&change)).collect();
            (folder, files.journal, entries)
        };
        assert_eq!(cut_off_everywhere(&begin), (13, 7));
        let (_folder, journal, entries) = begin();
        journal.change(&entries).unwrap();
        let now = contents(journal.folder());
        assert!(
            now.len() == 4 && now.iter().all(|(name, (text, mode))| *text == format!("new {name}") && *mode == mode_of(name)),
            "{now:?}"
        );
    }

    #[test]
    fn what_is_no_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("ca.pem"), [0xff]).unwrap();
        let error = Files::look(folder.path()).read("ca.pem").unwrap_err().to_string();
        assert!(error.contains("ca.pem is in the way"), "{error}");
    }
}
