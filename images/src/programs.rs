//! Workspace programs with host-independent bytes, keyed by the hash of everything that decides them.
//!
//! A program that goes into an image is linked from pinned inputs alone: its sources, what `Cargo.lock` names, the
//! official Rust distribution of [`Toolchain`], and the C runtime of locked Debian packages. The host's compiler, linker,
//! libc, paths, locale and cargo settings do not show, so that two machines give one SHA-256.
//!
//! [`build`] starts nothing at all when the key of a program is in the cache: a build of images that changes nothing
//! stays quick. This module is the only place of this crate that starts child processes.

mod cargo;
mod check;
mod key;
mod sysroot;
mod wrapper;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Class, Context, Error, Result};
use crate::lock::Artefact;
use crate::progress::Progress;

pub use cargo::Toolchain;
pub use wrapper::rustc_wrapper;

/// The target that all images are made for, and the only one whose C runtime is locked.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where things are and how the build may behave.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The checkout's top folder: it holds `Cargo.toml` and `Cargo.lock`.
    pub workspace: &'a Path,
    /// The packages of the lock's group `toolchain`, each with its verified file.
    pub toolchain: &'a [(Artefact, PathBuf)],
    /// Everything that is made, kept between runs: `target/programs`.
    pub cache: &'a Path,
    /// An executable whose `main` calls [`rustc_wrapper`] before anything else: the running xtask.
    pub wrapper: &'a Path,
    /// Whether cargo has to do without the network.
    pub offline: bool,
}

/// A program, ready to be laid into an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltProgram {
    /// The executable: a stripped static-pie ELF file.
    pub path: PathBuf,
    /// SHA-256 of the executable.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// Builds the cargo packages `names`, each with one binary of the same name. Each that has to be
/// built is a step of `progress`.
///
/// Each program is built by a cargo of its own: cargo unifies features over all packages of one call, so that together
/// the bytes of one would depend on which others were asked for.
///
/// # Errors
/// [`Class::Usage`] for a name that is no workspace package, [`Class::MissingTool`] where the toolchain is not the pinned
/// one, [`Class::Build`] where cargo fails, a source lies outside what the key covers, or the ELF file is not as it has to be.
pub fn build(setup: &Setup, names: &[String], progress: &dyn Progress) -> Result<BTreeMap<String, BuiltProgram>> {
    let sources = key::Sources::read(setup.workspace)?;
    let mut built = BTreeMap::new();
    let mut missing = Vec::new();
    for name in names {
        let inputs = sources.inputs(name, setup.toolchain)?;
        match cached(&setup.cache.join(name).join(inputs.key.to_string()))? {
            Some(program) => _ = built.insert(name.clone(), program),
            None => missing.push(name),
        }
    }
    if !missing.is_empty() {
        // One cargo at a time: what it leaves in the target folder has to be the program that was asked for here.
        fs_err::create_dir_all(setup.cache)?;
        let lock = fs_err::File::create(setup.cache.join("lock"))?;
        lock.file().lock().context(|| "locking the folder of built programs")?;
        let session = cargo::Session::open(setup)?;
        for name in missing {
            let step = progress.begin_long(&format!("building {name}"));
            let program = build_one(setup, &session, name).context(|| format!("building program {name}"))?;
            step.done();
            built.insert(name.clone(), program);
        }
    }
    Ok(built)
}

/// A crate that is compiled into a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the file that the registry gives, as `Cargo.lock` names it.
    pub sha256: Option<String>,
}

/// The crates of others in each of the programs `names`, from `Cargo.lock` of the workspace.
pub fn crates<'a>(workspace: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, Vec<Crate>>> {
    let sources = key::Sources::read(workspace)?;
    let of = |name: &str| {
        let all = sources.crates(name)?.into_iter().map(|(name, version, sha256)| Crate { name, version, sha256 });
        Ok((name.to_owned(), all.collect()))
    };
    names.into_iter().map(of).collect()
}

fn build_one(setup: &Setup, session: &cargo::Session, name: &str) -> Result<BuiltProgram> {
    let sources = key::Sources::read(setup.workspace)?;
    let inputs = sources.inputs(name, setup.toolchain)?;
    let folder = setup.cache.join(name).join(inputs.key.to_string());
    if let Some(program) = cached(&folder)? {
        return Ok(program); // another process was quicker
    }
    let output = session.build(name, &sources.profile()?)?;
    check::sources_are_covered(&output.dep_info, session.workspace(), session.target_folder(), &inputs.files)?;
    let bytes = fs_err::read(&output.executable)?;
    check::is_static_pie(&bytes)?;
    check::names_no_host_path(&bytes, &session.host_paths())?;
    if key::Sources::read(setup.workspace)?.inputs(name, setup.toolchain)?.key != inputs.key {
        return Err(Error::new(Class::Build, "its sources changed while it was built").hint("run it again"));
    }
    let digest = Digest::of(&bytes);
    let path = folder.join(digest.to_string());
    fs_err::create_dir_all(&folder)?;
    crate::file::write_beside(&path, &bytes, 0o755)?;
    Ok(BuiltProgram { path, digest, size: bytes.len() as u64 })
}

/// The program in `folder`, whose one file is named by its SHA-256. A file with other bytes, or half a write, is not taken.
fn cached(folder: &Path) -> Result<Option<BuiltProgram>> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Ok(None) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Digest>().ok());
        if let Some(digest) = name {
            let bytes = fs_err::read(&path)?;
            if Digest::of(&bytes) == digest {
                return Ok(Some(BuiltProgram { path, digest, size: bytes.len() as u64 }));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_program_in_the_cache_is_not_taken() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(cached(&folder.path().join("none")).expect("no folder, no program"), None);
        let path = folder.path().join(Digest::of("program").to_string());
        fs_err::write(&path, "program").expect("writing");
        fs_err::write(folder.path().join(".tmp1"), "half").expect("writing");
        let found = cached(folder.path()).expect("readable").expect("found");
        assert_eq!((found.path, found.digest, found.size), (path.clone(), Digest::of("program"), 7));
        fs_err::write(&path, "progrum").expect("writing");
        assert_eq!(cached(folder.path()).expect("readable"), None);
    }
}
