//! `pki/` on disk: certificates 0644, keys 0600 from the moment they exist, and changes that happen as a whole or not at all.
//!
//! Two files cannot be renamed at once. So every file of a change is written into `.next/` first; one rename makes it `.ready/`, and
//! from then on the change has happened: whoever opens the folder next moves what still lies there to its place. Before that rename it
//! has not happened, and `.next/` is thrown away.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use images::{Class, Error, Result};

use crate::site::folder::make_folder;

/// Files that are being written.
const NEXT: &str = ".next";
/// Files that are written and on their way.
const READY: &str = ".ready";

/// A file of `pki/` and its new content; without one it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The file's name.
    pub name: String,
    /// PEM text: never empty, because an empty file in `.ready/` says that the file is removed.
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

/// The folder. As [`Files::look`] gives it, it is for reading.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Looks into `pki/`, which need not exist, and writes nothing: what another command is changing there stays as it is.
    pub fn look(folder: &Path) -> Self {
        Files { folder: folder.to_owned() }
    }

    /// Opens `pki/`, which need not exist, and first finishes or undoes a change that was interrupted. The caller holds the site's
    /// folder: a change that another command is about to finish looks the same.
    pub fn open(folder: &Path) -> Result<Self> {
        let files = Files::look(folder);
        if files.path(READY).is_dir() {
            files.put_in_place(&mut |_| Ok(()))?;
        }
        if files.path(NEXT).is_dir() {
            fs_err::remove_dir_all(files.path(NEXT))?;
        }
        Ok(files)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether a change is under way, or was interrupted.
    pub fn in_between(&self) -> bool {
        [NEXT, READY].iter().any(|name| self.path(name).is_dir())
    }

    /// A file's text, or nothing where there is none. What lies in `.ready/` has happened already.
    pub fn read(&self, name: &str) -> Result<Option<String>> {
        match text(&self.path(READY).join(name))? {
            Some(ready) => Ok(Some(ready).filter(|text| !text.is_empty())),
            None => text(&self.path(name)),
        }
    }

    /// Makes every change, or none.
    pub fn change(&self, changes: &[Change]) -> Result<()> {
        self.change_in_steps(changes, &mut |_| Ok(()))
    }

    /// The same; `step` hears of each step before it is taken, and an error from it ends everything there, as a power cut would.
    fn change_in_steps(&self, changes: &[Change], step: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.refuse_what_is_in_the_way(changes)?;
        make_folder(&self.folder, 0o700)?;
        let next = self.path(NEXT);
        step(format!("make {NEXT}"))?;
        std::fs::DirBuilder::new().mode(0o700).create(&next).map_err(|error| cannot_write(&next, &error))?;
        for change in changes {
            step(format!("write {}", change.name))?;
            let content = change.content.as_deref().unwrap_or_default();
            if let Err(error) = images::file::write_beside(&next.join(&change.name), content.as_bytes(), mode_of(&change.name)) {
                // The disk is full, most likely: what was written so far is of no use.
                let _ = fs_err::remove_dir_all(&next);
                return Err(error.hint("nothing was changed"));
            }
        }
        sync(&next)?;
        step(format!("rename {NEXT} to {READY}"))?;
        fs_err::rename(&next, self.path(READY))?;
        sync(&self.folder)?;
        self.put_in_place(step)
    }

    fn refuse_what_is_in_the_way(&self, changes: &[Change]) -> Result<()> {
        match changes.iter().map(|change| self.path(&change.name)).find(|path| path.is_dir()) {
            Some(path) => Err(Error::new(Class::Check, format!("{} is a folder", path.display()))
                .detail("expected a PEM file, or none")
                .hint("move it elsewhere")),
            None => Ok(()),
        }
    }

    fn put_in_place(&self, step: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        let ready = self.path(READY);
        let mut names = fs_err::read_dir(&ready)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let (from, to) = (ready.join(&name), self.folder.join(&name));
            step(format!("put {} in place", name.display()))?;
            if fs_err::metadata(&from)?.len() > 0 {
                fs_err::rename(&from, &to)?;
            } else {
                if to.exists() {
                    fs_err::remove_file(&to)?;
                }
                step(format!("forget that {} goes", name.display()))?;
                fs_err::remove_file(&from)?;
            }
        }
        sync(&self.folder)?;
        step(format!("remove {READY}"))?;
        fs_err::remove_dir(&ready)?;
        Ok(())
    }
}

fn text(path: &Path) -> Result<Option<String>> {
    match fs_err::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(Class::Check, format!("{} is in the way: {error}", path.display()))
            .detail("expected a PEM file, or none")
            .hint("move it elsewhere")),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Class::Check, format!("{} cannot be written: {error}", path.display())).hint("nothing was changed")
}

fn sync(folder: &Path) -> Result<()> {
    fs_err::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn contents(folder: &Path) -> BTreeMap<String, (String, u32)> {
        let read = |entry: std::io::Result<fs_err::DirEntry>| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            (entry.file_name().to_string_lossy().into_owned(), (fs_err::read_to_string(entry.path()).unwrap(), mode))
        };
        fs_err::read_dir(folder).unwrap().map(read).collect()
    }

    fn old() -> Vec<Change> {
        ["a.pem", "a-key.pem", "a.csr", "b.pem", "b-key.pem"].map(|name| Change::write(name, format!("old {name}"))).to_vec()
    }

    fn new() -> Vec<Change> {
        let mut changes = ["a.pem", "a-key.pem", "b.pem", "b-key.pem"].map(|name| Change::write(name, format!("new {name}"))).to_vec();
        changes.push(Change::remove("a.csr"));
        changes.push(Change::remove("was-never-there"));
        changes
    }

    #[test]
    fn a_change_that_is_cut_off_anywhere_has_happened_or_not() {
        let end = || Error::new(Class::Build, "the power was cut");
        let mut outcomes = Vec::new();
        for cut in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let pki = folder.path().join("pki");
            let files = Files::open(&pki).unwrap();
            files.change(&old()).unwrap();
            let before = contents(&pki);
            let mut at = 0;
            let result = files.change_in_steps(&new(), &mut |_| {
                at += 1;
                if at > cut { Err(end()) } else { Ok(()) }
            });
            Files::open(&pki).unwrap();
            let after = contents(&pki);
            let happened = after != before;
            if happened {
                assert_eq!(after.len(), 4, "{after:?}");
                assert!(after.iter().all(|(name, (text, mode))| *text == format!("new {name}") && *mode == mode_of(name)), "{after:?}");
            }
            outcomes.push(happened);
            if result.is_ok() {
                break;
            }
        }
        let first = outcomes.iter().position(|happened| *happened).unwrap();
        // Make the folder, write six files, rename; after that it has happened.
        assert_eq!((first, outcomes[first..].iter().all(|happened| *happened)), (8, true), "{outcomes:?}");
        assert!(outcomes.len() > first + 6);
    }

    /// Every file and folder below `folder`.
    fn below(folder: &Path) -> BTreeMap<PathBuf, Option<String>> {
        let mut found = BTreeMap::new();
        for path in fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            found.insert(path.clone(), fs_err::read_to_string(&path).ok());
            if path.is_dir() {
                found.extend(below(&path));
            }
        }
        found
    }

    #[test]
    fn looking_sees_the_old_files_or_the_new_ones_wherever_a_change_is_and_leaves_it_to_go_on() {
        let seen = |files: &Files| {
            let names = ["a.pem", "a-key.pem", "b.pem", "b-key.pem", "a.csr", "was-never-there"];
            names.map(|name| files.read(name).unwrap().map(|text| text[..3].to_owned()))
        };
        let (before, after) = (["old"; 5].map(|text| Some(text.to_owned())), ["new"; 4].map(|text| Some(text.to_owned())));
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        files.change(&old()).unwrap();
        let (mut steps, mut under_way) = (0, 0);
        let look = Files::look(folder.path());
        let mut each = |_| {
            let there = below(folder.path());
            let found = seen(&look);
            assert!(found[..5] == before || (found[..4] == after && found[4].is_none()), "{found:?}");
            assert_eq!(found[5], None);
            assert_eq!(below(folder.path()), there, "looking writes nothing");
            steps += 1;
            under_way += u32::from(look.in_between());
            Ok(())
        };
        files.change_in_steps(&new(), &mut each).unwrap();
        assert_eq!((steps, under_way), (17, 16), "a change is seen from its first folder on");
        assert!(!look.in_between());
        assert_eq!(seen(&look)[..4], after);
    }

    #[test]
    fn being_cut_off_twice_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        files.change(&old()).unwrap();
        let mut steps = 0;
        let _ = files.change_in_steps(&new(), &mut |_| {
            steps += 1;
            if steps > 10 { Err(Error::new(Class::Build, "once")) } else { Ok(()) }
        });
        assert!(files.path(READY).is_dir());
        for cut in 0..3 {
            let mut left = cut;
            let again = files.put_in_place(&mut |_| {
                left -= 1;
                if left < 0 { Err(Error::new(Class::Build, "again")) } else { Ok(()) }
            });
            assert!(again.is_err());
        }
        Files::open(folder.path()).unwrap();
        assert_eq!(contents(folder.path()).len(), 4);
    }

    #[test]
    fn keys_are_for_their_owner_alone_while_they_are_written_too() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let mut seen = 0;
        let next = files.path(NEXT);
        files
            .change_in_steps(&[Change::write("ca-key.pem", "secret"), Change::write("ca.pem", "public")], &mut |_| {
                if next.is_dir() {
                    assert_eq!(fs_err::metadata(&next)?.permissions().mode() & 0o777, 0o700);
                    for (name, (_, mode)) in contents(&next) {
                        assert_eq!(mode, mode_of(&name));
                        seen += 1;
                    }
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, 3);
        assert_eq!(contents(folder.path())["ca-key.pem"].1, 0o600);
        assert_eq!(contents(folder.path())["ca.pem"].1, 0o644);
    }

    #[test]
    fn what_is_in_the_way_is_said_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join("b.pem")).unwrap();
        let files = Files::open(folder.path()).unwrap();
        let error = files.change(&new()).unwrap_err().to_string();
        assert!(error.contains("b.pem is a folder"), "{error}");
        assert!(files.read("b.pem").unwrap_err().to_string().contains("is in the way"));
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
        let file = folder.path().join("file");
        fs_err::write(&file, "").unwrap();
        assert!(Files { folder: file }.change(&old()).is_err());
    }
}
