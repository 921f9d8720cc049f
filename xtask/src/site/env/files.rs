//! `env/` and `secrets.env`: what would be written there. They change together ([`Folder::journal`]).

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use images::{Class, Error, Result};

use super::{Author, ServiceEnv, author};
use crate::site::folder::Folder;
use crate::site::journal::Entry;
use crate::site::model::Service;
use crate::site::secrets::{Secret, Secrets};

/// How a file differs from what the site says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing,
    /// It is ours, and the site has changed.
    Outdated,
    /// Somebody has written in it, or it is somebody else's.
    Edited,
    /// It is ours, and the site does not have it any more.
    Leftover,
    /// It holds secrets, and others can read it.
    Open,
}

/// One file that differs.
#[derive(Debug, PartialEq)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// How it differs.
    pub difference: Difference,
    /// What stands there.
    pub old: Option<Secret>,
    /// What will; none for a file that goes away.
    pub new: Option<Secret>,
    /// Whether texts may be shown.
    pub shown: bool,
    mode: u32,
}

impl Change {
    fn of(folder: &Folder, path: PathBuf, new: Option<Secret>, shown: bool) -> Result<Option<Change>> {
        let old = read(folder, &path)?;
        let mode = if shown { 0o644 } else { 0o600 };
        let ours = old.as_ref().is_none_or(|old| match shown {
            true => author(old.expose()) == Author::Us,
            false => true,
        });
        let difference = match (&old, &new) {
            (None, None) => return Ok(None),
            (Some(old), Some(new)) if old == new => match shown || fs_err::metadata(&path).is_ok_and(|there| there.mode() & 0o077 == 0) {
                true => return Ok(None),
                false => Difference::Open,
            },
            (None, Some(_)) => Difference::Missing,
            (Some(_), _) if !ours => Difference::Edited,
            (Some(_), Some(_)) => Difference::Outdated,
            (Some(_), None) => Difference::Leftover,
        };
        Ok(Some(Change { path, difference, old, new, shown, mode }))
    }

    fn entries(&self, folder: &Folder) -> Result<Vec<Entry>> {
        let copy = match (self.difference, &self.old) {
            (Difference::Edited, Some(old)) => Some(copy(folder, &self.path, old)?),
            _ => None,
        };
        let name = name(folder, &self.path);
        let own = match &self.new {
            Some(new) => Entry::write(name, new.expose(), self.mode),
            None => Entry::remove(name),
        };
        Ok(copy.into_iter().chain([own]).collect())
    }
}

/// A copy of what stands at `path`, beside it, under a name that is free.
pub fn copy(folder: &Folder, path: &Path, old: &Secret) -> Result<Entry> {
    Ok(Entry::write(name(folder, &free_name(path)?), old.expose(), 0o600))
}

fn name(folder: &Folder, path: &Path) -> String {
    path.strip_prefix(folder.root()).unwrap_or(path).display().to_string()
}

/// The file of `env --with-secrets`.
pub fn combined(folder: &Folder) -> PathBuf {
    folder.env(Service::Mattermost).with_file_name("mattermost-with-secrets.env")
}

/// What of the site's folder differs from `secrets` and `envs`: the secrets first, because all others come from them. `with_secrets`
/// adds the combined file; one that is there is kept up to date in any case.
///
/// # Errors
/// For what cannot be read, or is no file.
pub fn changes(
    folder: &Folder,
    secrets: &Secrets,
    envs: &std::collections::BTreeMap<Service, ServiceEnv>,
    with_secrets: bool,
) -> Result<Vec<Change>> {
    let mut changes = vec![Change::of(folder, folder.secrets(), Some(secrets.render()), false)?];
    for service in Service::ALL {
        let text = envs.get(&service).map(|env| env.text(service)).transpose()?;
        changes.push(Change::of(folder, folder.env(service), text.map(Secret::new), true)?);
    }
    let path = combined(folder);
    let with_secrets = with_secrets || read(folder, &path)?.is_some();
    if let Some(env) = envs.get(&Service::Mattermost).filter(|_| with_secrets) {
        changes.push(Change::of(folder, path, Some(env.with_secrets()?), false)?);
    }
    Ok(changes.into_iter().flatten().collect())
}

/// What becomes of each file, so that what should stand there does.
///
/// # Errors
/// [`Class::Check`] for files that somebody has written in, unless `force`: then a copy of each is kept.
pub fn entries(folder: &Folder, changes: &[Change], force: bool) -> Result<Vec<Entry>> {
    let edited: Vec<&Change> = changes.iter().filter(|change| change.difference == Difference::Edited && !force).collect();
    if !edited.is_empty() {
        let error = Error::new(Class::Check, "somebody has written in files that are made from site.toml; nothing was changed");
        let error = edited.iter().fold(error, |error, change| error.detail(change.path.display().to_string()));
        return Err(error.hint(
            "`cargo xtask env --diff` shows it; settings of your own go into [mattermost.extra]; --force writes over it and keeps a copy",
        ));
    }
    Ok(changes.iter().map(|change| change.entries(folder)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The first of `NAME.old-1`, `NAME.old-2`, … that is free.
fn free_name(path: &Path) -> Result<PathBuf> {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".old-{number}"));
        PathBuf::from(name)
    };
    (1..1000)
        .map(name)
        .find(|path| fs_err::symlink_metadata(path).is_err())
        .ok_or_else(|| Error::new(Class::Usage, format!("{} has 999 copies", path.display())).hint("remove some"))
}

fn read(folder: &Folder, path: &Path) -> Result<Option<Secret>> {
    match fs_err::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::new(Class::Usage, error.to_string())),
        Ok(metadata) if !metadata.is_file() => {
            return Err(Error::new(Class::Usage, format!("{} is in the way", path.display()))
                .detail("expected a file, or nothing")
                .detail(format!("found {}", if metadata.is_dir() { "a folder" } else { "a link or something else" })));
        }
        Ok(_) => {}
    }
    // Whatever it is, it is not ours: it can be shown and copied, and will not be mistaken for what we would write.
    Ok(folder.journal().read(&name(folder, path))?.map(|bytes| Secret::new(String::from_utf8_lossy(&bytes))))
}
