//! The folder of a site: what lies where, and one run at a time.
//!
//! | path | mode | holds |
//! |---|---|---|
//! | `site.toml` | 0644 | what a person wrote; optional |
//! | `secrets.env` | 0600 | passwords and keys, generated or imported |
//! | `pki/` | 0700 | `ca.pem`, `ca-key.pem`; `NAME.pem` (leaf, then chain) and `NAME-key.pem` of each service; keys 0600 |
//! | `env/` | 0755 | settings of each service, without secrets |
//! | `compose.json` | 0644 | the Compose file |
//! | `compose.healthy.json` | 0644 | the last one whose services were healthy: the way back |
//! | `integrations/` | 0700 | ready files for Jenkins, GitLab, SonarQube |
//! | `onboarding/` | 0755 | the page for phones and desktops |
//! | `.lock` | 0600 | held while a command writes here; empty |
//! | `.stack.lock` | 0600 | held while a command changes what runs; empty |
//! | `.next/`, `.ready/` | 0700 | here and in `pki/` and `onboarding/`: a change on its way; the next command undoes or finishes it |
//!
//! All belongs to whoever runs `cargo xtask`. Everything but `site.toml`, `secrets.env` and `pki/` can be deleted: the next
//! command writes it again.

use std::fs::TryLockError;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use rustix::io::FdFlags;

use super::journal::Journal;
use super::model::Service;
use crate::output::Output;

/// How long a command waits for its turn: longer than an `up` that brings a database to a new schema.
const TURN: Duration = Duration::from_secs(15 * 60);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// The folder of a site; it may not exist yet.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

/// Held while a command writes into the folder; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Held(fs_err::File);

impl Folder {
    /// The site in `root`.
    pub fn new(root: &Path) -> Self {
        Folder { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `site.toml`.
    pub fn toml(&self) -> PathBuf {
        self.root.join("site.toml")
    }

    /// `secrets.env`.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets.env")
    }

    /// `pki/`.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// `pki/ca.pem`.
    pub fn ca(&self) -> PathBuf {
        self.pki().join("ca.pem")
    }

    /// `pki/ca-key.pem`.
    pub fn ca_key(&self) -> PathBuf {
        self.pki().join("ca-key.pem")
    }

    /// `pki/NAME.pem`: the leaf of a service, then its chain.
    pub fn certificate(&self, service: Service) -> PathBuf {
        self.pki().join(format!("{}.pem", service.name()))
    }

    /// `pki/NAME-key.pem`.
    pub fn key(&self, service: Service) -> PathBuf {
        self.pki().join(format!("{}-key.pem", service.name()))
    }

    /// `env/NAME.env`.
    pub fn env(&self, service: Service) -> PathBuf {
        self.root.join("env").join(format!("{}.env", service.name()))
    }

    /// `compose.json`.
    pub fn compose(&self) -> PathBuf {
        self.root.join("compose.json")
    }

    /// `compose.healthy.json`: the last Compose file whose services were healthy.
    pub fn healthy_compose(&self) -> PathBuf {
        self.root.join("compose.healthy.json")
    }

    /// `stack.json`: the same for Swarm.
    pub fn stack(&self) -> PathBuf {
        self.root.join("stack.json")
    }

    /// `stack.healthy.json`: the last one whose services were healthy.
    pub fn healthy_stack(&self) -> PathBuf {
        self.root.join("stack.healthy.json")
    }

    /// `integrations/`.
    pub fn integrations(&self) -> PathBuf {
        self.root.join("integrations")
    }

    /// `onboarding/`.
    pub fn onboarding(&self) -> PathBuf {
        self.root.join("onboarding")
    }

    /// Makes the folder where it is missing, and keeps every other command out of it until the value is dropped. A command
    /// that holds it already is named by its process number. What a command before was cut off in is finished or undone first.
    pub fn hold(&self) -> Result<Held> {
        let held = self.lock(".lock")?.map_err(|holder| self.at_work(&holder))?;
        for journal in [self.journal(), Journal::of(&self.pki(), 0o700), Journal::of(&self.onboarding(), 0o755)] {
            journal.recover()?;
        }
        Ok(held)
    }

    /// Secrets and settings, which change together.
    pub fn journal(&self) -> Journal {
        Journal::of(&self.root, 0o755)
    }

    /// As [`Folder::hold`], for the containers and volumes of the site; but this one waits its turn, and says for whom. Whoever has
    /// it may also hold the folder for a while.
    ///
    /// Programs that this process starts have it too: where a command is killed, the Compose that it left at work keeps the next
    /// command away until it is done.
    pub fn hold_stack(&self, out: &mut Output) -> Result<Held> {
        let start = Instant::now();
        let mut told = false;
        loop {
            match self.lock(".stack.lock")? {
                Ok(held) => {
                    rustix::io::fcntl_setfd(held.0.file(), FdFlags::empty()).map_err(std::io::Error::from)?;
                    return Ok(held);
                }
                Err(holder) if start.elapsed() > TURN => return Err(self.at_work(&holder)),
                Err(holder) if !told => out.say(format!("{holder} is at work on what runs; waiting for it to end")),
                Err(_) => {}
            }
            told = true;
            std::thread::sleep(LOOK);
        }
    }

    fn at_work(&self, holder: &str) -> Error {
        Error::new(Class::Check, format!("{holder} is at work in {}", self.root.display())).hint("wait for it to end")
    }

    /// The lock, or who has it.
    fn lock(&self, name: &str) -> Result<std::result::Result<Held, String>> {
        make_folder(&self.root, 0o755)?;
        let path = self.root.join(name);
        let file = fs_err::OpenOptions::from_options({
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_FOLLOW);
            options
        })
        .open(&path)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Err(match holder(&file) {
                    Some(process) => format!("another command (process {process})"),
                    None => "another command, or what a killed one has left,".to_owned(),
                }));
            }
            Err(TryLockError::Error(error)) => return Err(Error::from(error).context(format!("locking {}", path.display()))),
        }
        Ok(Ok(Held(file)))
    }
}

/// Who holds the lock, from `/proc/locks`: a number written into the file would change it though nothing else changes. Nobody's where
/// the kernel shows none, as for a process outside of this container.
fn holder(file: &fs_err::File) -> Option<u32> {
    let there = file.metadata().ok()?;
    let device = there.dev();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    let place = format!("{major:02x}:{minor:02x}:{}", there.ino());
    let locks = fs_err::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK ADVISORY WRITE 712 fe:00:1048581 0 EOF
    let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let found = locks.lines().map(words).find(|words| words.get(1).is_some_and(|kind| kind == "FLOCK") && words.get(5) == Some(&place));
    found?.get(4)?.parse().ok().filter(|process| *process > 0)
}

/// `O_NOFOLLOW` of Linux on amd64: a link in the lock's place is an error.
const NO_FOLLOW: i32 = 0o400_000;

/// Makes a folder and those above it; a new one gets `mode`, one that exists keeps its own.
pub fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(|error| Error::from(error).context(format!("making the folder {}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_at_a_time_and_the_next_after_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(&root.path().join("site"));
        let held = folder.hold().unwrap();
        let refused = folder.hold().unwrap_err();
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        drop(held);
        // A program that another test starts at this moment has the file too, until it becomes that program.
        let begin = Instant::now();
        while let Err(error) = folder.hold() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{error}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_command_started_and_left_keeps_the_next_one_waiting() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        let held = folder.hold_stack(&mut Output::new()).unwrap();
        let child = crate::process::Process::new("sleep", root.path()).arg("600").start(&root.path().join("log")).unwrap();
        drop(held);
        assert!(folder.lock(".stack.lock").unwrap().is_err(), "the program that was started is still at work");
        child.stop(Duration::ZERO);
        folder.hold_stack(&mut Output::new()).unwrap();
    }

    #[test]
    fn a_link_in_the_locks_place_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let other = root.path().join("other");
        fs_err::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, root.path().join(".lock")).unwrap();
        assert!(Folder::new(root.path()).hold().is_err());
        assert_eq!(fs_err::read_to_string(&other).unwrap(), "precious");
    }

    #[test]
    fn every_path_lies_in_the_folder() {
        let folder = Folder::new(Path::new("site"));
        assert_eq!(folder.certificate(Service::AlertGateway), Path::new("site/pki/alert-gateway.pem"));
        assert_eq!(folder.key(Service::Postgres), Path::new("site/pki/postgres-key.pem"));
        assert_eq!(folder.env(Service::Coturn), Path::new("site/env/coturn.env"));
    }
}
