//! The C runtime that programs are linked with: the lock's toolchain packages, unpacked once.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
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
    for (package, file) in packages {
        let bytes = fs_err::read(file)?;
        unpack(&bytes, beside.path()).context(|| format!("unpacking {}", package.name))?;
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

/// Lays down what a package has below `usr/lib*`.
fn unpack(package: &[u8], folder: &Path) -> Result<()> {
    let xz = member(package, "data.tar.xz").ok_or_else(|| {
        Error::new(Class::Build, "not a package as expected").detail("expected a Debian package with data.tar.xz, as trixie has them")
    })?;
    let mut archive = tar::Archive::new(liblzma::read::XzDecoder::new(xz));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.starts_with("./usr/lib") || path.starts_with("./usr/lib64") {
            entry.unpack_in(folder)?;
        }
    }
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    Ok(())
}

/// A member of an `ar` archive (deb(5)): 60-byte headers, members padded to even length.
fn member<'a>(archive: &'a [u8], wanted: &str) -> Option<impl Read + 'a> {
    let mut rest = archive.strip_prefix(b"!<arch>\n")?;
    while rest.len() >= 60 {
        let (header, after) = rest.split_at(60);
        let name = std::str::from_utf8(&header[..16]).ok()?.trim_end().trim_end_matches('/');
        let size: usize = std::str::from_utf8(&header[48..58]).ok()?.trim_end().parse().ok()?;
        let body = after.get(..size)?;
        if name == wanted {
            return Some(body);
        }
        rest = after.get(size + size % 2..)?;
    }
    None
}
