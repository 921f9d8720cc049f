//! The folder of a run, and what runs that were killed have left.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use images::{Class, Context, Error, Result};
use time::OffsetDateTime;
use xtask::workspace::Workspace;

use crate::world::Folders;

/// How long the kernel may take to end what was killed.
const GONE: Duration = Duration::from_secs(20);

/// A run that goes on: its folder, and the lock that says so.
pub struct Run {
    /// Its folders.
    pub folders: Folders,
    _held: fs_err::File,
}

/// The lock of a run: shared by the processes that work in it.
pub fn lock_of(run: &Path) -> PathBuf {
    run.join(".lock")
}

/// `target/e2e`.
pub fn all(workspace: &Workspace) -> PathBuf {
    workspace.target().join("e2e")
}

impl Run {
    /// A folder of its own, called by the clock and this process.
    pub fn begin(workspace: &Workspace) -> Result<Run> {
        let _alone = alone(workspace)?;
        let now = OffsetDateTime::now_utc();
        let format = time::macros::format_description!("[year][month][day]-[hour][minute][second]");
        let name = now.format(format).map_err(|error| Error::new(Class::Build, error.to_string()))?;
        let run = all(workspace).join(format!("{name}-{}", std::process::id()));
        fs_err::create_dir_all(&run)?;
        let held = fs_err::File::create(lock_of(&run))?;
        held.file().lock_shared().context(|| "locking the folder of the run")?;
        let folders = Folders { run };
        for folder in [folders.logs(), folders.world()] {
            fs_err::create_dir_all(folder)?;
        }
        Ok(Run { folders, _held: held })
    }
}

/// Held while a folder is made, and while those of killed runs are removed: one that was just made has no lock yet.
pub fn alone(workspace: &Workspace) -> Result<fs_err::File> {
    fs_err::create_dir_all(all(workspace))?;
    let folder = fs_err::File::open(all(workspace))?;
    folder.file().lock().context(|| "locking the folder of runs")?;
    Ok(folder)
}

/// An earlier run.
pub struct Earlier {
    folders: Folders,
    /// Whether a process of it is at work, or was left on purpose.
    pub alive: bool,
}

/// Every run that has a folder.
pub fn earlier(workspace: &Workspace) -> Result<Vec<Earlier>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(all(workspace)).into_iter().flatten() {
        let run = entry?.path();
        if run.is_dir() {
            found.push(Earlier { alive: is_held(&run)?, folders: Folders { run } });
        }
    }
    found.sort_by(|one, other| one.folders.run.cmp(&other.folders.run));
    Ok(found)
}

fn is_held(run: &Path) -> Result<bool> {
    match fs_err::File::open(lock_of(run)) {
        Ok(file) => match file.file().try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error.into()),
        },
        Err(_) => Ok(false),
    }
}

impl Earlier {
    /// How it is called.
    pub fn name(&self) -> String {
        self.folders.name()
    }

    /// Removes what is left of a run that nobody is at work in: its world; and the whole folder where it got to no report. True when
    /// there was something.
    pub fn remove_rest(&self) -> Result<bool> {
        let world = self.folders.world();
        let there = world.exists();
        if there {
            remove_world(&self.folders)?;
        }
        if !self.folders.run.join("run.json").exists() {
            fs_err::remove_dir_all(&self.folders.run)?;
            return Ok(true);
        }
        Ok(there)
    }

    /// Ends one that was kept: its process inside, by the number that it left.
    pub fn end_kept(&self) -> Result<bool> {
        let file = self.folders.run.join("kept.pid");
        let Some(pid) = fs_err::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u32>().ok()) else { return Ok(false) };
        // A number may be another program's by now; that one does not name this folder.
        let command = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&command).contains(&*self.folders.run.to_string_lossy()) {
            return Ok(false);
        }
        kill(pid);
        let begin = Instant::now();
        while is_held(&self.folders.run)? {
            if begin.elapsed() > GONE {
                return Err(Error::new(Class::Check, format!("process {pid} of the kept run {} does not end", self.name())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }
}

fn kill(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
        // An error means that it is gone, which is the aim.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Removes `world/` of a run, and what the kernel kept for its Engine.
pub fn remove_world(folders: &Folders) -> Result<()> {
    let begin = Instant::now();
    // What was killed a moment ago may still be on its way out: its mounts go with its last process.
    loop {
        let groups = lab::remove_cgroups(&folders.lab());
        match fs_err::remove_dir_all(folders.world()) {
            Ok(()) if groups => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && groups => return Ok(()),
            Err(error) if begin.elapsed() > GONE => return Err(error.into()),
            Ok(()) if begin.elapsed() > GONE => {
                return Err(Error::new(Class::Check, format!("control groups of the run {} cannot be removed", folders.name())));
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_killed_leaves_nothing_and_one_at_work_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(root.path());
        let dead = all(&workspace).join("20200101-000000-1");
        fs_err::create_dir_all(dead.join("world/site")).unwrap();
        fs_err::write(lock_of(&dead), "").unwrap();
        let reported = all(&workspace).join("20200101-000000-2");
        fs_err::create_dir_all(reported.join("world")).unwrap();
        fs_err::write(reported.join("run.json"), "{}").unwrap();
        let alive = Run::begin(&workspace).unwrap();
        let found = earlier(&workspace).unwrap();
        assert_eq!(found.iter().map(|run| run.alive).collect::<Vec<_>>(), [false, false, true]);
        for run in found.iter().filter(|run| !run.alive) {
            assert!(run.remove_rest().unwrap(), "{}", run.name());
        }
        assert!(!dead.exists() && !reported.join("world").exists() && reported.join("run.json").exists());
        assert!(alive.folders.world().is_dir());
    }

    #[test]
    fn a_number_that_is_another_programs_by_now_is_not_killed() {
        let root = tempfile::tempdir().unwrap();
        let run = all(&Workspace::at(root.path())).join("20200101-000000-1");
        fs_err::create_dir_all(&run).unwrap();
        fs_err::write(run.join("kept.pid"), std::process::id().to_string()).unwrap();
        assert!(!Earlier { folders: Folders { run }, alive: true }.end_kept().unwrap());
    }
}
