//! Files that are not blobs yet. Each is locked (flock) while its process lives, so that another one can tell a file
//! that is being written from one that was left behind: the kernel drops the lock with the process, whatever ended it.

use std::fs::TryLockError;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::digest::Digest;
use crate::error::Result;

/// Names of partial downloads end so; what stands before it is the digest of the whole.
const PARTIAL: &str = ".partial";

/// A locked file in `tmp/` that becomes a blob, or goes away when it is dropped.
#[derive(Debug)]
pub struct Temp {
    path: PathBuf,
    file: fs::File,
    keep: bool,
}

impl Temp {
    /// A new empty file that only this process knows.
    pub fn create(tmp: &Path) -> Result<Temp> {
        loop {
            // The umask decides who may read: people may share a store.
            let mode = std::fs::Permissions::from_mode(0o666);
            let (file, path) =
                tempfile::Builder::new().prefix("new-").permissions(mode).tempfile_in(tmp)?.keep().map_err(|error| error.error)?;
            let file = fs::File::from_parts(file, &path);
            // Between making and locking it, another process that opens the store may have taken it for a left-over.
            if file.file().try_lock().is_ok() && is_at(&file, &path)? {
                return Ok(Temp { path, file, keep: false });
            }
        }
    }

    /// The partial download of `digest`, with whatever is in it. Waits while another process has it.
    pub fn partial(tmp: &Path, digest: &Digest) -> Result<Temp> {
        let path = tmp.join(format!("{digest}{PARTIAL}"));
        loop {
            let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            file.file().lock()?;
            // The process that had it may have published or removed it meanwhile.
            if is_at(&file, &path)? {
                return Ok(Temp { path, file, keep: true });
            }
        }
    }

    /// The file, to read and to write.
    pub fn file(&self) -> &fs::File {
        &self.file
    }

    /// Whether the file stays in `tmp/` when this is dropped, for a later fetch to go on with.
    pub fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Gives the file its name. It is on disk before it has the name, so that a power cut leaves no empty blob.
    pub fn publish(mut self, target: &Path) -> Result<()> {
        self.file.sync_data()?;
        fs::rename(&self.path, target)?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.keep {
            // Best effort: a file that stays is removed by the next `Store::open`.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes from `tmp/` what no process holds: unfinished files, and partial downloads of blobs that are there.
pub fn clean(tmp: &Path, has: impl Fn(&Digest) -> bool) -> Result<()> {
    for entry in fs::read_dir(tmp)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.strip_suffix(PARTIAL).and_then(|hex| hex.parse().ok()).is_some_and(|digest| !has(&digest)) {
            continue;
        }
        // A file that is gone, or that is not ours to open, is no reason to refuse the store.
        let Ok(file) = fs::File::open(&path) else { continue };
        match file.file().try_lock() {
            Ok(()) if is_at(&file, &path).unwrap_or(false) => {
                let _ = fs::remove_file(&path);
            }
            Ok(()) | Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}

/// Whether `path` still names the open `file`.
fn is_at(file: &fs::File, path: &Path) -> Result<bool> {
    let open = file.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())))
}
