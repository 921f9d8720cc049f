//! Files that are there whole or not at all: written beside their place under a name of their own, then renamed.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Class, Context, Error, Result};

/// Writes a file with exactly these permissions, such as 0o600, whatever the umask says. It is on disk when this returns.
///
/// No moment shows half of it, nor lets anybody read it whom `mode` does not allow to. What is at `path` may be a regular file,
/// which is replaced; a symbolic link, a folder, a socket or a device is an error of [`Class::Usage`] and stays as it is.
pub fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let beside = Beside::create(folder_of(path), mode)?;
    beside.file().write_all(bytes).context(|| format!("writing {}", path.display()))?;
    beside.publish(path)
}

/// As [`write_beside`] with mode 0644, but in the system's own time: for what can be made again. A power cut may leave it empty,
/// so the reader has to notice that.
pub fn write_cached(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = Beside::create(folder_of(path), 0o644)?;
    beside.file().write_all(bytes).context(|| format!("writing {}", path.display()))?;
    beside.publish_cached(path)
}

/// A file that has no name of its own yet, and goes away if it never gets one.
#[derive(Debug)]
pub struct Beside {
    file: NamedTempFile,
}

impl Beside {
    /// An empty file in `folder`, with exactly these permissions.
    pub fn create(folder: &Path, mode: u32) -> Result<Beside> {
        let file = tempfile::Builder::new().prefix(".new-").permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
        // The file was opened with `mode` less the umask's bits: at no time it allows more.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        Ok(Beside { file })
    }

    /// The file, to write it and to read it again.
    pub fn file(&self) -> &std::fs::File {
        self.file.as_file()
    }

    /// Gives the file its name, in the same file system, as [`write_beside`] does.
    pub fn publish(self, path: &Path) -> Result<()> {
        self.file().sync_all().context(|| format!("writing {}", path.display()))?;
        self.publish_cached(path)?;
        // The new name is on disk when its folder is.
        Ok(fs_err::File::open(folder_of(path))?.sync_all()?)
    }

    /// Gives the file its name, as [`write_cached`] does.
    pub fn publish_cached(self, path: &Path) -> Result<()> {
        // A rename follows no link and writes into no device; it would silently take their place.
        match fs_err::symlink_metadata(path) {
            Ok(there) if !there.is_file() => return Err(no_file(path, there.file_type())),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.file.persist(path).map_err(|error| error.error).context(|| format!("writing {}", path.display()))?;
        Ok(())
    }
}

fn no_file(path: &Path, found: std::fs::FileType) -> Error {
    let kind = match (found.is_symlink(), found.is_dir()) {
        (true, _) => "a symbolic link",
        (_, true) => "a folder",
        _ => "a device, socket or pipe",
    };
    Error::new(Class::Usage, format!("{} is not written", path.display()))
        .detail("expected a regular file, or none")
        .detail(format!("found    {kind}"))
        .hint("remove it, or name another place")
}

/// Where the file lies; a bare name lies in the working folder.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs_err::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs_err::read_dir(folder)
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_secret_is_readable_for_its_owner_alone_from_its_first_byte_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs_err::write(&path, "old, and readable for all").expect("written");
        fs_err::set_permissions(&path, Permissions::from_mode(0o644)).expect("set");
        let beside = Beside::create(folder.path(), 0o600).expect("made");
        assert_eq!(mode(beside.file.path()), 0o600);
        drop(beside);
        write_beside(&path, b"new", 0o600).expect("written");
        assert_eq!((fs_err::read(&path).expect("there"), mode(&path)), (b"new".to_vec(), 0o600));
        assert_eq!(names(folder.path()), ["secret"]);
    }

    #[test]
    fn the_mode_is_the_one_that_was_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for wanted in [0o400, 0o440, 0o644, 0o755, 0o666] {
            write_beside(&path, b"", wanted).expect("written");
            assert_eq!(mode(&path), wanted);
        }
        write_cached(&path, b"").expect("written");
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs_err::write(at("elsewhere"), "kept").expect("written");
        std::os::unix::fs::symlink(at("elsewhere"), at("link")).expect("linked");
        std::os::unix::fs::symlink(at("nowhere"), at("dangling")).expect("linked");
        fs_err::create_dir(at("folder")).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        let before = names(folder.path());
        for (name, kind) in
            [("link", "a symbolic link"), ("dangling", "a symbolic link"), ("folder", "a folder"), ("socket", "a device, socket or pipe")]
        {
            for error in [write_beside(&at(name), b"x", 0o600), write_cached(&at(name), b"x")].map(|result| result.expect_err(name)) {
                assert_eq!(error.class(), Class::Usage);
                assert!(error.to_string().contains(&format!("found    {kind}\n")), "{error}");
            }
        }
        assert_eq!(fs_err::read_to_string(at("elsewhere")).expect("there"), "kept");
        assert_eq!(names(folder.path()), before, "nothing is left behind, and nothing was replaced");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none/file");
        let error = write_beside(&path, b"", 0o600).expect_err("no folder");
        assert!(error.message().contains("none"), "{error}");
    }
}
