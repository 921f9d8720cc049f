//! Digests of files that lie elsewhere, such as a release given by its path: read once, then known by what the file system
//! says of them, as git's index knows files. Losing this costs time, nothing else.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::error::Result;

/// A file may change twice within one tick of the file system's clock; what changed just now is not believed to stay.
/// Times are compared in whole seconds here, so this is two of them at least.
const SETTLED: Duration = Duration::from_secs(3);

/// The SHA-256 of the file at `path`; `folder` keeps what is known.
///
/// A file counts as the same when device, inode, length, and the times at which content and inode last changed are. Nobody
/// can set the last of these, so a file with a restored time is another one. A build that reads the file checks its hash again.
pub(super) fn digest(path: &Path, folder: &Path) -> Result<Digest> {
    let file = fs_err::File::open(path)?;
    let before = Seen::of(&file.metadata()?);
    let note = folder.join(format!("{}.file", before.key()));
    if let Some(known) = fs_err::read_to_string(&note).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(known);
    }
    let (digest, _) = Digest::of_reader(&file)?;
    if before.is_settled(SystemTime::now()) && Seen::of(&file.metadata()?) == before {
        fs_err::create_dir_all(folder)?;
        crate::file::write_cached(&note, digest.to_string().as_bytes())?;
    }
    Ok(digest)
}

/// What the file system says of a file.
#[derive(Debug, PartialEq)]
struct Seen {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds since 1970.
    content: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn of(file: &std::fs::Metadata) -> Seen {
        Seen {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
            content: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    fn key(&self) -> Digest {
        Digest::of(format!("file {self:?}"))
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = u64::try_from(self.changed.0).map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > SETTLED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_lay_still_is_read_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let read = digest(&path, folder.path()).expect("its digest");
        assert_eq!(read, Digest::of(fs_err::read(&path).expect("a file")));
        let notes: Vec<_> = fs_err::read_dir(folder.path()).expect("a folder").map(|note| note.expect("a note").path()).collect();
        assert_eq!(notes.len(), 1);
        // What stands in the note is what is answered: the file was not read again.
        let planted = Digest::of("planted");
        fs_err::write(&notes[0], planted.to_string()).expect("a note");
        assert_eq!(digest(&path, folder.path()).expect("its digest"), planted);
        fs_err::write(&notes[0], "no digest").expect("a note");
        assert_eq!(digest(&path, folder.path()).expect("its digest"), read);
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("release.tar.gz");
        for text in ["one", "two"] {
            fs_err::write(&path, text).expect("a file");
            assert_eq!(digest(&path, &folder.path().join("known")).expect("its digest"), Digest::of(text));
        }
        assert!(!folder.path().join("known").exists());
    }

    #[test]
    fn another_content_is_another_file_even_with_the_time_set_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("release.tar.gz");
        let seen = |text: &str| {
            fs_err::write(&path, text).expect("a file");
            let file = std::fs::OpenOptions::new().write(true).open(&path).expect("a file");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
            Seen::of(&fs_err::metadata(&path).expect("a file"))
        };
        let (one, started) = (seen("one"), std::time::Instant::now());
        // The clock of the file system ticks now and then; ask until it has.
        while seen("two").changed == one.changed {
            assert!(started.elapsed() < Duration::from_secs(10), "the time of change does not move");
        }
        assert_ne!(seen("two"), one);
    }
}
