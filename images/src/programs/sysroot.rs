//! The C runtime that programs are linked with: the lock's toolchain packages, unpacked once.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::deb::Deb;
use crate::digest::Digest;
use crate::entry::Node;
use crate::error::{Class, Context, Error, Result};
use crate::lock::Artefact;

/// What the runtime is made of, in a form that does not depend on where the files lie.
pub(super) fn identity(packages: &[(Artefact, PathBuf)]) -> String {
    let mut lines: Vec<String> = packages
        .iter()
        .map(|(package, _)| {
            let digest = package.sha256.map_or_else(String::new, |digest| digest.to_string());
            format!("{} {} {digest}\n", package.name, package.version)
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// The folder that holds `usr/lib` of all `packages`, made on first use.
pub(super) fn unpacked(packages: &[(Artefact, PathBuf)], cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("sysroot").join(Digest::of(identity(packages)).short());
    if folder.is_dir() {
        return Ok(folder);
    }
    let parent = cache.join("sysroot");
    fs_err::create_dir_all(&parent)?;
    let beside = tempfile::tempdir_in(&parent)?;
    fs_err::create_dir(beside.path().join("usr"))?;
    for (package, file) in packages {
        unpack(file, beside.path()).context(|| format!("unpacking {}", package.name))?;
    }
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        fs_err::os::unix::fs::symlink(target, beside.path().join(link))?;
    }
    // The rename is what makes it complete: a build that was cut off leaves only a temporary folder.
    fs_err::rename(beside.keep(), &folder)?;
    Ok(folder)
}

/// `crtbeginS.o` and `libgcc.a` lie in a folder named by GCC's major version.
pub(super) fn gcc(sysroot: &Path) -> Result<PathBuf> {
    let parent = sysroot.join("usr/lib/gcc/x86_64-linux-gnu");
    let versions = fs_err::read_dir(&parent)?.collect::<std::io::Result<Vec<_>>>()?;
    match versions.as_slice() {
        [version] => Ok(version.path()),
        several => Err(Error::new(Class::Build, format!("{} holds {} versions of GCC", parent.display(), several.len()))
            .detail("expected one, from the lock's group `toolchain`")),
    }
}

/// Lays down what a package has below `usr/lib*`: archives, objects and links. A program's link step reads nothing else.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let deb = Deb::open(BufReader::new(fs_err::File::open(package)?))?;
    deb.entries(&mut |entry, content| {
        if !entry.path.starts_with("usr/lib") {
            return Ok(());
        }
        // The reader has refused paths that are absolute or climb; a link among their folders could still lead out.
        let path = folder.join(&entry.path);
        let parent = path.parent().unwrap_or(folder);
        if fs_err::canonicalize(parent)? != parent {
            return Err(Error::new(Class::Build, format!("{} lies below a symbolic link", entry.path)));
        }
        match &entry.node {
            Node::Directory => fs_err::create_dir_all(&path)?,
            Node::File { .. } => _ = std::io::copy(content, &mut fs_err::File::create_new(&path)?)?,
            Node::Symlink { target } => fs_err::os::unix::fs::symlink(target, &path)?,
            Node::Hardlink { target } => fs_err::hard_link(folder.join(target), &path)?,
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DebBuilder;

    fn package(folder: &Path, build: impl FnOnce(DebBuilder) -> DebBuilder) -> Vec<(Artefact, PathBuf)> {
        let bytes = build(DebBuilder::new("libc6-dev", "2.41")).build();
        let path = folder.join("libc6-dev.deb");
        fs_err::write(&path, &bytes).expect("written");
        let text = format!(
            r#"{{"name":"libc6-dev","version":"2.41","architecture":"amd64","kind":"deb","sha256":"{}","from":{{"url":"x"}}}}"#,
            Digest::of(&bytes)
        );
        vec![(serde_json::from_str(&text).expect("an artefact"), path)]
    }

    #[test]
    fn libraries_are_laid_down_once_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = package(folder.path(), |deb| {
            let deb = deb.directory("usr", 0o755).directory("usr/lib", 0o755).directory("usr/share", 0o755);
            deb.file("usr/lib/libc.a", 0o644, b"c").symlink("usr/lib/libm.a", "libc.a").file("usr/share/x", 0o644, b"")
        });
        let sysroot = unpacked(&made, folder.path()).expect("unpacked");
        assert_eq!(fs_err::read(sysroot.join("lib/libm.a")).expect("through both links"), b"c");
        assert!(!sysroot.join("usr/share/x").exists());
        fs_err::remove_file(&made[0].1).expect("removed");
        assert_eq!(unpacked(&made, folder.path()).expect("there already"), sysroot);
        assert!(gcc(&sysroot).is_err(), "no GCC was in it");
    }

    #[test]
    fn a_package_that_writes_through_a_link_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = package(folder.path(), |deb| {
            let deb = deb.directory("usr", 0o755).directory("usr/lib", 0o755);
            deb.symlink("usr/lib/out", "..").file("usr/lib/out/x", 0o644, b"")
        });
        let error = unpacked(&made, folder.path()).expect_err("it climbs").to_string();
        assert!(error.contains("below a symbolic link"), "{error}");
        assert_eq!(fs_err::read_dir(folder.path().join("sysroot")).expect("made").count(), 0);
    }
}
