//! Ready files in `integrations/NAME/`, and a note of what a tool was told and does not show again.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use images::file::write_beside;
use images::{Class, Digest, Error, Result};

use crate::provision::Tool;
use crate::site::Folder;
use crate::site::folder::make_folder;
use crate::site::secrets::Secret;

/// A file that is ready to be used.
pub struct Ready {
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub content: Vec<u8>,
    /// 0600 where it holds a secret.
    pub mode: u32,
}

impl Ready {
    /// For everybody's eyes.
    pub fn open(name: &'static str, content: impl Into<Vec<u8>>) -> Ready {
        Ready { name, content: content.into(), mode: 0o644 }
    }

    /// With a secret in it.
    pub fn secret(name: &'static str, content: &Secret) -> Ready {
        Ready { name, content: format!("{}\n", content.expose()).into_bytes(), mode: 0o600 }
    }

    fn is_at(&self, path: &Path) -> bool {
        let mode =
            |path: &Path| fs_err::symlink_metadata(path).ok().filter(|found| found.is_file()).map(|found| found.permissions().mode());
        mode(path).is_some_and(|mode| mode & 0o7777 == self.mode) && fs_err::read(path).is_ok_and(|found| found == self.content)
    }
}

/// The ready files of one tool.
pub struct Bundle {
    folder: PathBuf,
    files: Vec<Ready>,
}

impl Bundle {
    /// Those of `tool`, in the site's folder.
    pub fn new(folder: &Folder, tool: Tool, files: Vec<Ready>) -> Bundle {
        Bundle { folder: folder.integrations().join(tool.name()), files }
    }

    /// Where they lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The content of a file, as it should be.
    pub fn text(&self, name: &str) -> String {
        let file = self.files.iter().find(|file| file.name == name);
        file.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default()
    }

    fn differing(&self) -> impl Iterator<Item = &Ready> {
        self.files.iter().filter(|file| !file.is_at(&self.folder.join(file.name)))
    }

    /// Writes what is missing or differs; the names of it.
    pub fn write(&self) -> Result<Vec<&'static str>> {
        let due: Vec<&Ready> = self.differing().collect();
        if !due.is_empty() {
            // They hold secrets, and belong to whoever runs this.
            make_folder(&self.folder, 0o700)?;
        }
        due.iter().try_for_each(|file| write_beside(&self.folder.join(file.name), &file.content, file.mode))?;
        Ok(due.iter().map(|file| file.name).collect())
    }

    /// A line about it.
    pub fn state(&self, tool: Tool) -> String {
        let due: Vec<&str> = self.differing().map(|file| file.name).collect();
        match due.is_empty() {
            false => format!("~ integrations {tool}: {} to be written: cargo xtask integrations {tool}", due.join(", ")),
            true => match Applied::read(&self.folder).server() {
                Some(server) => format!("= integrations {tool}: files are ready, applied to {server}"),
                None => format!("= integrations {tool}: files are ready; nothing was applied through its API"),
            },
        }
    }
}

/// What a tool was told and does not show again: name → digest, in `applied.json` (0600). It can be deleted; what it knew is told once more.
#[derive(Default)]
pub struct Applied {
    path: PathBuf,
    known: BTreeMap<String, String>,
}

/// Under this name stands the tool's address.
const SERVER: &str = "server";

impl Applied {
    /// Of the files in `folder`. What cannot be read is none.
    pub fn read(folder: &Path) -> Applied {
        let path = folder.join("applied.json");
        let known = fs_err::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Applied { path, known }
    }

    /// Whose notes they are.
    pub fn server(&self) -> Option<&str> {
        self.known.get(SERVER).map(String::as_str)
    }

    /// Notes about another server are worth nothing.
    pub fn of_server(mut self, server: &str) -> Applied {
        if self.server() != Some(server) {
            self.known = BTreeMap::from([(SERVER.to_owned(), server.to_owned())]);
        }
        self
    }

    /// Whether `what` was told exactly this.
    pub fn has(&self, what: &str, value: &Secret) -> bool {
        self.known.get(what).is_some_and(|known| *known == digest(value))
    }

    /// Notes it, at once.
    pub fn note(&mut self, what: &str, value: &Secret) -> Result<()> {
        self.known.insert(what.to_owned(), digest(value));
        self.write()
    }

    /// What was noted of things whose name begins so; the rest of each name.
    pub fn noted(&self, begin: &str) -> Vec<String> {
        self.known.keys().filter_map(|what| what.strip_prefix(begin)).map(str::to_owned).collect()
    }

    /// Takes a note back.
    pub fn forget(&mut self, what: &str) -> Result<()> {
        self.known.remove(what);
        self.write()
    }

    /// Writes the notes, unless the file says so already.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.known).map_err(|error| Error::new(Class::Build, error.to_string()))? + "\n";
        match fs_err::read_to_string(&self.path).is_ok_and(|found| found == text) {
            true => Ok(()),
            false => write_beside(&self.path, text.as_bytes(), 0o600),
        }
    }
}

fn digest(value: &Secret) -> String {
    Digest::of(value.expose().as_bytes()).to_string()
}
