//! Several files of a folder that change together: all of them or none, wherever the change is cut off.
//!
//! Two files cannot be renamed at once. So every file of a change is written into `.next/` first; one rename makes it `.ready/`, and
//! from then on the change has happened: whoever holds the site next ([`super::Folder::hold`]) moves what still lies there to its place.
//! Before that rename it has not happened, and `.next/` is thrown away.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use images::{Class, Error, Result};

use super::folder::make_folder;

/// A change that is being written.
const NEXT: &str = ".next";
/// A change that is written, and on its way.
const READY: &str = ".ready";
/// In both: files that come, each with its content, and names of files that go.
const COMES: &str = "comes";
const GOES: &str = "goes";

/// What becomes of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file's name, or its path in the folder.
    pub name: String,
    /// Bytes and mode; without them the file goes.
    content: Option<(Vec<u8>, u32)>,
}

impl Entry {
    /// A file that gets `content`, and this mode from the moment it exists.
    pub fn write(name: impl Into<String>, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        Entry { name: name.into(), content: Some((content.into(), mode)) }
    }

    /// A file that goes, if it is there.
    pub fn remove(name: impl Into<String>) -> Self {
        Entry { name: name.into(), content: None }
    }

    /// Whether the file goes.
    pub fn removes(&self) -> bool {
        self.content.is_none()
    }
}

/// Without the content, which may be a key.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Some((bytes, mode)) => write!(f, "{}: {} bytes, mode {mode:04o}", self.name, bytes.len()),
            None => write!(f, "{}: goes", self.name),
        }
    }
}

/// A folder whose files change together. Looking at it writes nothing: what another command is changing there stays as it is.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
    mode: u32,
}

impl Journal {
    /// That of `folder`, which need not exist; where a change makes it, it gets `mode`.
    pub fn of(folder: &Path, mode: u32) -> Self {
        Journal { folder: folder.to_owned(), mode }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a file lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where to look for a file, in this order: what lies in `.ready/` has happened already.
    pub fn places(&self, name: &str) -> [PathBuf; 2] {
        [self.path(READY).join(COMES).join(name), self.path(name)]
    }

    /// Whether a change is under way, or was cut off.
    pub fn in_between(&self) -> bool {
        [NEXT, READY].iter().any(|name| self.path(name).is_dir())
    }

    /// A file's bytes, or nothing where there is none.
    ///
    /// # Errors
    /// [`Class::Check`] for what is no file, or cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if self.path(READY).join(GOES).join(name).is_file() {
            return Ok(None);
        }
        for place in self.places(name) {
            match fs_err::read(&place) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(in_the_way(&place, &error.to_string())),
            }
        }
        Ok(None)
    }

    /// Finishes or undoes a change that was cut off. The caller holds the site: a change that another command is about to finish
    /// looks the same.
    pub fn recover(&self) -> Result<()> {
        if self.path(READY).is_dir() {
            self.put_in_place(&mut |_| Ok(()))?;
        }
        if self.path(NEXT).is_dir() {
            fs_err::remove_dir_all(self.path(NEXT))?;
        }
        Ok(())
    }

    /// Makes every change, or none. The caller holds the site.
    ///
    /// # Errors
    /// [`Class::Check`] for what is in the way, and as [`images::file::write_beside`]; then nothing was changed.
    pub fn change(&self, entries: &[Entry]) -> Result<()> {
        self.change_in_steps(entries, &mut |_| Ok(()))
    }

    /// The same; `step` hears of each step before it is taken, and an error from it ends everything there, as a power cut would.
    fn change_in_steps(&self, entries: &[Entry], step: Step<'_>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            self.refuse_what_is_in_the_way(&entry.name)?;
        }
        make_folder(&self.folder, self.mode)?;
        step(format!("make {NEXT}"))?;
        self.write_next(entries, step)?;
        step(format!("rename {NEXT} to {READY}"))?;
        fs_err::rename(self.path(NEXT), self.path(READY))?;
        sync(&self.folder)?;
        self.put_in_place(step)
    }

    fn write_next(&self, entries: &[Entry], step: Step<'_>) -> Result<()> {
        let next = self.path(NEXT);
        let make = |folder: &Path| std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder);
        make(&next).map_err(|error| {
            Error::new(Class::Check, format!("{} cannot be written: {error}", next.display())).hint("nothing was changed")
        })?;
        let mut folders = vec![next.clone()];
        for entry in entries {
            step(format!("write {}", entry.name))?;
            let (kind, bytes, mode) = match &entry.content {
                Some((bytes, mode)) => (COMES, bytes.as_slice(), *mode),
                None => (GOES, [].as_slice(), 0o600),
            };
            let path = next.join(kind).join(&entry.name);
            let folder = path.parent().unwrap_or(&next).to_owned();
            let written = make(&folder).map_err(|error| Error::from(error).context(format!("making the folder {}", folder.display())));
            if let Err(error) = written.and_then(|()| images::file::write_beside(&path, bytes, mode)) {
                // The disk is full, most likely: what was written so far is of no use.
                let _ = fs_err::remove_dir_all(&next);
                return Err(error.hint("nothing was changed"));
            }
            folders.extend(folder.ancestors().take_while(|above| *above != next).map(Path::to_owned));
        }
        folders.sort();
        folders.dedup();
        folders.iter().try_for_each(|folder| sync(folder))
    }

    fn refuse_what_is_in_the_way(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        // Everything above a file is a folder, or will be made.
        for above in path.ancestors().skip(1).take_while(|above| above.starts_with(&self.folder)) {
            if fs_err::metadata(above).is_ok_and(|there| !there.is_dir()) {
                return Err(in_the_way(above, "it is no folder"));
            }
        }
        match fs_err::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => Err(in_the_way(&path, "it is a folder")),
            Ok(there) if !there.is_file() => Err(in_the_way(&path, "it is a link, or something else than a file")),
            _ => Ok(()),
        }
    }

    fn put_in_place(&self, step: Step<'_>) -> Result<()> {
        let ready = self.path(READY);
        let mut changed = vec![self.folder.clone()];
        for name in files(&ready.join(COMES))? {
            let to = self.folder.join(&name);
            step(format!("put {} in place", name.display()))?;
            if let Some(folder) = to.parent() {
                make_folder(folder, 0o755)?;
                changed.push(folder.to_owned());
            }
            fs_err::rename(ready.join(COMES).join(&name), &to)?;
        }
        for name in files(&ready.join(GOES))? {
            let there = self.folder.join(&name);
            step(format!("remove {}", name.display()))?;
            match fs_err::remove_file(&there) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => changed.extend(there.parent().filter(|folder| folder.is_dir()).map(Path::to_owned)),
            }
        }
        changed.sort();
        changed.dedup();
        changed.iter().try_for_each(|folder| sync(folder))?;
        step(format!("remove {READY}"))?;
        Ok(fs_err::remove_dir_all(&ready)?)
    }
}

/// Hears of each step of a change.
type Step<'a> = &'a mut dyn FnMut(String) -> Result<()>;

/// Every file below a folder, which need not exist: paths in it, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop().filter(|next| next.is_dir()) {
        for entry in fs_err::read_dir(&next)? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.extend(path.strip_prefix(folder).ok().map(Path::to_owned)),
            }
        }
    }
    found.sort();
    Ok(found)
}

fn in_the_way(path: &Path, why: &str) -> Error {
    Error::new(Class::Check, format!("{} is in the way: {why}", path.display()))
        .detail("expected a file, or nothing")
        .hint("move it elsewhere")
}

fn sync(folder: &Path) -> Result<()> {
    Ok(fs_err::File::open(folder)?.sync_all()?)
}

/// What the tests of those who have one share.
#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Path → text and mode of every file below `folder`.
    pub fn contents(folder: &Path) -> BTreeMap<String, (String, u32)> {
        let read = |name: PathBuf| {
            let path = folder.join(&name);
            let mode = fs_err::metadata(&path).unwrap().permissions().mode() & 0o777;
            (name.display().to_string(), (fs_err::read_to_string(path).unwrap(), mode))
        };
        files(folder).unwrap().into_iter().map(read).collect()
    }

    /// Cuts a change off before each of its steps, on a folder that `begin` makes anew each time. Whoever looks then, and whoever goes
    /// on, finds every file old or every file new. How many steps there are, and the first after which it has happened.
    pub fn cut_off_everywhere(begin: &dyn Fn() -> (tempfile::TempDir, Journal, Vec<Entry>)) -> (usize, usize) {
        let mut outcomes = Vec::new();
        let (whole, journal, entries) = begin();
        let old = contents(journal.folder());
        journal.change(&entries).unwrap();
        let new = contents(journal.folder());
        assert_ne!(old, new, "a change changes something");
        drop(whole);
        for cut in 0.. {
            let (_folder, journal, entries) = begin();
            let mut at = 0;
            let result = journal.change_in_steps(&entries, &mut |_| {
                at += 1;
                if at > cut { Err(Error::new(Class::Build, "the power was cut")) } else { Ok(()) }
            });
            let looked = |all: &BTreeMap<String, (String, u32)>| {
                let seen = |name: &&String| journal.read(name).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
                old.keys().chain(new.keys()).all(|name| seen(&name) == all.get(name).map(|(text, _)| text.clone()))
            };
            let seen_new = looked(&new);
            assert!(seen_new || looked(&old), "a mix is seen after {cut} steps");
            assert_eq!(journal.in_between(), result.is_err() && cut > 0, "after {cut} steps");
            journal.recover().unwrap();
            let after = contents(journal.folder());
            assert!(after == old || after == new, "a mix after {cut} steps: {:?}", after.keys());
            assert_eq!(after == new, seen_new, "looking and going on differ after {cut} steps");
            assert!(!journal.in_between());
            outcomes.push(after == new);
            if result.is_ok() {
                break;
            }
        }
        let first = outcomes.iter().position(|happened| *happened).unwrap();
        assert!(outcomes[first..].iter().all(|happened| *happened), "{outcomes:?}");
        (outcomes.len() - 1, first)
    }

    fn old() -> Vec<Entry> {
        let key = Entry::write("a-key.pem", "old", 0o600);
        [key].into_iter().chain(["a.pem", "a.csr", "env/b.env", "env/c.env"].map(|name| Entry::write(name, "old", 0o644))).collect()
    }

    /// Files of the folder and of one in it: replaced, new, emptied; removed, and never there.
    fn new() -> Vec<Entry> {
        vec![
            Entry::write("a.pem", "new", 0o644),
            Entry::write("a-key.pem", "new", 0o600),
            Entry::write("env/b.env", "", 0o644),
            Entry::write("fresh/d.env", "new", 0o600),
            Entry::remove("a.csr"),
            Entry::remove("env/c.env"),
            Entry::remove("never/there"),
        ]
    }

    fn begin() -> (tempfile::TempDir, Journal, Vec<Entry>) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::of(&folder.path().join("folder"), 0o700);
        journal.change(&old()).unwrap();
        (folder, journal, new())
    }

    #[test]
    fn a_change_that_is_cut_off_anywhere_has_happened_or_not() {
        // Make the folder, write seven files, rename; after that it has happened. Four come, three go, and the folder goes.
        assert_eq!(cut_off_everywhere(&begin), (17, 9));
        let (_folder, journal, entries) = begin();
        journal.change(&entries).unwrap();
        let now: Vec<_> = contents(journal.folder()).into_iter().map(|(name, (text, mode))| format!("{name} {mode:o} {text}")).collect();
        assert_eq!(now, ["a-key.pem 600 new", "a.pem 644 new", "env/b.env 644 ", "fresh/d.env 600 new"]);
    }

    #[test]
    fn looking_writes_nothing_while_a_change_is_under_way() {
        let (_folder, journal, entries) = begin();
        let (look, mut steps) = (journal.clone(), 0);
        let mut each = |_| {
            let there = contents(look.folder());
            entries.iter().for_each(|entry| drop(look.read(&entry.name).unwrap()));
            assert_eq!(contents(look.folder()), there);
            steps += u32::from(look.in_between());
            Ok(())
        };
        journal.change_in_steps(&entries, &mut each).unwrap();
        assert_eq!(steps, 16, "a change is seen from its first folder on");
    }

    #[test]
    fn being_cut_off_twice_changes_nothing() {
        let (_folder, journal, entries) = begin();
        let cut_before = |count: usize| {
            let mut left = count;
            move |_| {
                left = left.checked_sub(1).ok_or_else(|| Error::new(Class::Build, "cut"))?;
                Ok(())
            }
        };
        journal.change_in_steps(&entries, &mut cut_before(11)).unwrap_err();
        for count in 0..4 {
            journal.put_in_place(&mut cut_before(count)).unwrap_err();
        }
        // The last step is not one for the file system: it may end in the middle.
        fs_err::remove_dir_all(journal.path(READY).join(COMES)).unwrap();
        journal.recover().unwrap();
        assert_eq!(contents(journal.folder()).len(), 4);
    }

    #[test]
    fn a_key_is_for_its_owner_alone_while_it_is_written_too() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::of(folder.path(), 0o700);
        let (next, mut seen) = (journal.path(NEXT), 0);
        journal
            .change_in_steps(&[Entry::write("ca-key.pem", "secret", 0o600), Entry::write("ca.pem", "public", 0o644)], &mut |_| {
                if next.is_dir() {
                    assert_eq!(fs_err::metadata(&next)?.permissions().mode() & 0o777, 0o700);
                    for (name, (_, mode)) in contents(&next) {
                        assert_eq!(mode, if name.contains("key") { 0o600 } else { 0o644 });
                        seen += 1;
                    }
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, 3);
        assert_eq!(contents(folder.path())["ca-key.pem"].1, 0o600);
    }

    #[test]
    fn what_is_in_the_way_is_said_and_nothing_is_written() {
        for (place, what) in [("env/b.env", "folder"), ("a.pem", "link"), ("env", "file"), ("", "file")] {
            let folder = tempfile::tempdir().unwrap();
            let journal = Journal::of(&folder.path().join("folder"), 0o700);
            let path = if place.is_empty() { journal.folder().to_owned() } else { journal.path(place) };
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            match what {
                "folder" => fs_err::create_dir(&path).unwrap(),
                "link" => fs_err::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
                _ => fs_err::write(&path, "precious").unwrap(),
            }
            let error = journal.change(&new()).unwrap_err().to_string();
            assert!(error.contains(&format!("{} is in the way", path.display())), "{place}: {error}");
            assert!(!journal.in_between());
            assert_eq!(fs_err::symlink_metadata(&path).unwrap().is_symlink(), what == "link");
        }
    }

    #[test]
    fn no_content_shows_in_debug_output() {
        assert_eq!(format!("{:?}", Entry::write("k", "secret", 0o600)), "k: 6 bytes, mode 0600");
    }
}
