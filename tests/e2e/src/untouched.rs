//! What a run must not change: this checkout's images and site, and the user's own Engine.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use images::Result;
use xtask::machine::Machine;
use xtask::workspace::Workspace;

use crate::world::Folders;

/// How it was at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untouched {
    /// Path, size and time of each file of `target/images` and `site/`.
    files: BTreeSet<String>,
    /// What the user's Engine has: `image sha256:…`, `container …`. Nothing where no Engine answers.
    engine: Option<BTreeSet<String>>,
}

/// What is other than before.
#[derive(Debug, Default)]
pub struct Difference {
    /// What only this run can have changed.
    pub ours: Vec<String>,
    /// What changed in the user's Engine meanwhile, by others: what is there now is not of this run.
    pub others: Vec<String>,
}

impl Untouched {
    /// How it is now.
    pub fn look(workspace: &Workspace, machine: &Machine) -> Result<Untouched> {
        let mut files = BTreeSet::new();
        for folder in [workspace.target().join("images"), workspace.root().join("site")] {
            below(&folder, &mut files)?;
        }
        Ok(Untouched { files, engine: engine(machine) })
    }

    /// What is other in `after`. What the Engine has newly is the run's where its layout holds it, or its project names it.
    pub fn compare(&self, after: &Untouched, folders: &Folders, project: &str) -> Difference {
        let mut difference = Difference { ours: self.files.symmetric_difference(&after.files).cloned().collect(), others: Vec::new() };
        let none = BTreeSet::new();
        let (before, now) = (self.engine.as_ref().unwrap_or(&none), after.engine.as_ref().unwrap_or(&none));
        for thing in now.difference(before) {
            let id = thing.rsplit(' ').next().unwrap_or_default();
            let is_ours =
                folders.layout().join("blobs").join(id.replace(':', "/")).exists() || (!project.is_empty() && id.contains(project));
            if is_ours { &mut difference.ours } else { &mut difference.others }.push(format!("new in the Engine: {thing}"));
        }
        difference.others.extend(before.difference(now).map(|thing| format!("gone from the Engine: {thing}")));
        difference
    }
}

fn below(folder: &Path, files: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs_err::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        let about = fs_err::symlink_metadata(&path)?;
        files.insert(format!("{} {} {}.{:09}", path.display(), about.len(), about.mtime(), about.mtime_nsec()));
        if about.is_dir() {
            below(&path, files)?;
        }
    }
    Ok(())
}

fn engine(machine: &Machine) -> Option<BTreeSet<String>> {
    let ask = |what: &str, words: &str| -> Option<Vec<String>> {
        let process = machine.process("docker").args(words.split(' ')).deadline(Duration::from_secs(10));
        Some(process.text().ok()?.lines().map(|line| format!("{what} {line}")).collect())
    };
    let all = [
        ask("image", "image ls --all --quiet --no-trunc")?,
        ask("container", "ps --all --no-trunc --format {{.Names}}")?,
        ask("volume", "volume ls --format {{.Name}}")?,
        ask("network", "network ls --format {{.Name}}")?,
    ];
    Some(all.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(files: &[&str], engine: &[&str]) -> Untouched {
        let set = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Untouched { files: set(files), engine: Some(set(engine)) }
    }

    #[test]
    fn what_this_run_put_into_the_users_engine_is_told_from_what_others_did() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders { run: root.path().to_owned() };
        fs_err::create_dir_all(folders.layout().join("blobs/sha256")).unwrap();
        fs_err::write(folders.layout().join("blobs/sha256/aa"), "").unwrap();
        let before = at(&["images/index.json 1 1"], &["image sha256:cc"]);
        let after = at(&["images/index.json 2 2"], &["image sha256:aa", "image sha256:bb", "volume e2e7_postgres"]);
        let found = before.compare(&after, &folders, "e2e7");
        assert_eq!(found.ours.len(), 4, "{found:?}");
        assert_eq!(found.others, ["new in the Engine: image sha256:bb", "gone from the Engine: image sha256:cc"]);
        let same = before.compare(&at(&["images/index.json 1 1"], &["image sha256:cc"]), &folders, "e2e7");
        assert!(same.ours.is_empty() && same.others.is_empty());
    }
}
