//! `secrets.env`: what only this site knows. What is missing is generated; what stands there is kept, comments and foreign lines too.
//!
//! Values stand as they are, to the end of the line, unquoted: the same grammar as everywhere (see [`super::env_file`]).
//! No error, log or `Debug` shows one.

mod import;
mod names;

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use entrypoint::env::nearest;
use images::{Class, Error, Result};

pub use entrypoint::Secret;
pub use import::{Found, import};
pub use names::{Name, Origin};

use super::env_file;
use super::folder::Folder;
use super::journal::Entry;

/// Where random bytes come from: the system in [`system_random`], a counter in tests.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<()>;

/// The secrets of a site, with the lines of their file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq)]
enum Line {
    /// A comment, an empty line, or a variable of somebody else's. It may hold a secret too.
    Kept(Secret),
    Ours(Name, Secret),
}

impl Secrets {
    /// Reads the text of `secrets.env`. `file` is how the errors call it.
    ///
    /// # Errors
    /// [`Class::Usage`] with everything that is wrong: a secret that stands there twice, or is not in its form.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let mut secrets = Secrets::default();
        let mut problems = Vec::new();
        for (at, line) in text.split_terminator('\n').enumerate() {
            let ours = line.split_once('=').and_then(|(name, value)| Some((Name::of(name)?, value)));
            let Some((name, value)) = ours else {
                secrets.lines.push(Line::Kept(Secret::new(line)));
                continue;
            };
            let problem = match secrets.get(name) {
                Some(_) => Some("it stands there twice".to_owned()),
                None => name.wrong(value),
            };
            problems.extend(problem.map(|problem| format!("line {}, {}: {problem}", at + 1, name.name())));
            secrets.lines.push(Line::Ours(name, Secret::new(value)));
        }
        match problems.is_empty() {
            true => Ok(secrets),
            false => Err(refused(&format!("{file} is not usable"), &problems).hint("a line that is removed is generated again")),
        }
    }

    /// Reads `secrets.env` in a site's folder; none where there is none.
    ///
    /// # Errors
    /// [`Class::Usage`] for a file that others can read, with the command that mends it, for what is no file, and for what
    /// [`Secrets::parse`] refuses.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let places = Folder::new(folder).journal().places("secrets.env");
        places.iter().find_map(|place| Secrets::read_file(place).transpose()).transpose()
    }

    /// As [`Secrets::read`], and empty where there is no file.
    pub fn of(folder: &Folder) -> Result<Self> {
        Ok(Secrets::read(folder.root())?.unwrap_or_default())
    }

    /// Writes `secrets.env`, at once: what is only in memory is lost with the process. The caller holds the folder.
    pub fn keep(&self, folder: &Folder) -> Result<()> {
        folder.journal().change(&[Entry::write("secrets.env", self.render().expose(), 0o600)])
    }

    fn read_file(path: &Path) -> Result<Option<Self>> {
        let metadata = match fs_err::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::new(Class::Usage, error.to_string())),
        };
        let shown = path.display().to_string();
        if !metadata.is_file() {
            return Err(Error::new(Class::Usage, format!("{shown} is in the way"))
                .detail("expected a file, which is replaced by renaming")
                .detail(format!("found {}", if metadata.is_symlink() { "a symbolic link" } else { "something else" })));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(Error::new(Class::Usage, format!("{shown} is open to others"))
                .detail("expected mode 0600")
                .detail(format!("found mode {:04o}", metadata.mode() & 0o7777))
                .hint(format!("`chmod 600 {shown}`, and `cargo xtask env --rotate NAME` for what somebody may have read")));
        }
        let text = fs_err::read(path).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
        let text = String::from_utf8(text).map_err(|_| Error::new(Class::Usage, format!("{shown} is not UTF-8")))?;
        Secrets::parse(&text, &shown).map(Some)
    }

    /// The secret, if there is one.
    pub fn get(&self, name: Name) -> Option<&Secret> {
        self.lines.iter().find_map(|line| match line {
            Line::Ours(found, value) if *found == name => Some(value),
            _ => None,
        })
    }

    /// The secret.
    ///
    /// # Errors
    /// [`Class::Usage`] where it is missing, with how it gets there.
    pub fn require(&self, name: Name) -> Result<&Secret> {
        self.get(name).ok_or_else(|| {
            let error = Error::new(Class::Usage, format!("secrets.env does not hold {}: {}", name.name(), name.what()));
            error.hint(match name.origin() {
                Origin::Generated(_) => "`cargo xtask env` generates it".to_owned(),
                Origin::Given => format!("add the line {}=VALUE to secrets.env", name.name()),
            })
        })
    }

    /// Generates what `wanted` asks for and is missing: the names of what is new, none of them for a file that is complete.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn fill(&mut self, wanted: impl Fn(Name) -> bool, random: Random) -> Result<Vec<Name>> {
        let mut made = Vec::new();
        for name in Name::ALL {
            if wanted(name)
                && self.get(name).is_none()
                && let Some(value) = name.generate(random)?
            {
                self.put(name, value);
                made.push(name);
            }
        }
        Ok(made)
    }

    /// Makes a secret of ours anew; one that somebody else gives stays.
    ///
    /// # Errors
    /// Where the system has no random bytes.
    pub fn rotate(&mut self, name: Name, random: Random) -> Result<()> {
        name.generate(random)?.into_iter().for_each(|value| self.put(name, value));
        Ok(())
    }

    /// Replaces a secret, or adds it with a line that says what it is.
    ///
    /// Whether `value` is in its form is the caller's to know.
    pub fn put(&mut self, name: Name, value: Secret) {
        let place = self.lines.iter_mut().find(|line| matches!(line, Line::Ours(found, _) if *found == name));
        if let Some(place) = place {
            *place = Line::Ours(name, value);
            return;
        }
        if self.lines.is_empty() {
            let head = "# What only this site knows: back it up, keep it to yourself (mode 0600). `cargo xtask env --rotate NAME` replaces a value.";
            self.lines.push(Line::Kept(Secret::new(head)));
        }
        self.lines.push(Line::Kept(Secret::new(format!("# {}", name.what()))));
        self.lines.push(Line::Ours(name, value));
    }

    /// The value of a line `NAME=value` that is none of [`Name`]'s, such as a webhook's URL.
    pub fn other(&self, name: &str) -> Option<Secret> {
        self.lines.iter().find_map(|line| match line {
            Line::Kept(line) => line.expose().strip_prefix(name)?.strip_prefix('=').map(Secret::new),
            Line::Ours(..) => None,
        })
    }

    /// Replaces such a line, or adds it with a line that says what it is.
    pub fn put_other(&mut self, name: &str, what: &str, value: Secret) {
        let new = Line::Kept(Secret::new(format!("{name}={}", value.expose())));
        let is_it =
            |line: &Line| matches!(line, Line::Kept(line) if line.expose().strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
        match self.lines.iter_mut().find(|line| is_it(line)) {
            Some(place) => *place = new,
            None => self.lines.extend([Line::Kept(Secret::new(format!("# {what}"))), new]),
        }
    }

    /// Lines of secret settings of Mattermost's that have no name of ours, such as `MM_LDAPSETTINGS_BINDPASSWORD`.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.lines.iter().filter_map(|line| match line {
            Line::Kept(line) => line.expose().split_once('='),
            Line::Ours(..) => None,
        });
        kept.filter(|(name, _)| mattermost_settings::form(name) == Ok(mattermost_settings::Form::Secret))
    }

    /// The text of the file: to be written with mode 0600, and to be shown to nobody.
    pub fn render(&self) -> Secret {
        let mut text = String::new();
        for line in &self.lines {
            let _ = match line {
                Line::Kept(line) => writeln!(text, "{}", line.expose()),
                Line::Ours(name, value) => writeln!(text, "{}={}", name.name(), value.expose()),
            };
        }
        Secret::new(text)
    }

    /// Names that are almost one of ours, with the one that was probably meant: such a line is kept, and does nothing.
    pub fn misspelt(&self) -> Vec<(String, &'static str)> {
        let foreign = self.lines.iter().filter_map(|line| match line {
            Line::Kept(line) => line.expose().split_once('=').map(|(name, _)| name.trim()).filter(|name| env_file::is_name(name)),
            Line::Ours(..) => None,
        });
        foreign.filter_map(|name| Some((name.to_owned(), nearest(name, Name::ALL.iter().map(|name| name.name()))?))).collect()
    }
}

/// Every problem as a line of one error.
fn refused(what: &str, problems: &[String]) -> Error {
    problems.iter().fold(Error::new(Class::Usage, what), |error, problem| error.detail(problem))
}

/// A secret in a file that somebody names on the command line: one line of `least` or more characters, mode 0600.
///
/// # Errors
/// [`Class::Usage`] for anything else. No error shows the value.
pub fn given(file: &Path, least: usize) -> Result<Secret> {
    entrypoint::secret::read_value(file, least).map_err(|error| Error::new(Class::Usage, error.to_string()))
}

/// The system's random bytes.
pub fn system_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::new(Class::Build, format!("the system has no random bytes: {error}")))
}

#[cfg(test)]
mod tests;
