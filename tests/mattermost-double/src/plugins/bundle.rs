//! Bundles: a gzipped tarball with one folder, in it `plugin.json`.

use std::io::{Error, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The bundles of a folder, by name.
pub fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut bundles: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(".tar.gz")).collect();
    bundles.sort();
    bundles
}

/// What a bundle says of itself.
pub fn manifest(path: &Path) -> std::io::Result<Value> {
    let mut archive = open(path)?;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let is_manifest = entry.path()?.file_name().is_some_and(|name| name == "plugin.json");
        if is_manifest {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(serde_json::from_str(&text)?);
        }
    }
    Err(Error::new(ErrorKind::NotFound, "no plugin.json in it"))
}

/// Unpacks a bundle below `folder`, and returns its manifest.
pub fn unpack(path: &Path, folder: &Path) -> std::io::Result<Value> {
    open(path)?.unpack(folder)?;
    manifest(path)
}

/// Removes what lies in a folder, but not the folder, which may be a mount.
pub fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { fs_err::remove_dir_all(path)? } else { fs_err::remove_file(path)? }
    }
    Ok(())
}

fn open(path: &Path) -> std::io::Result<tar::Archive<impl Read>> {
    Ok(tar::Archive::new(flate2::read::GzDecoder::new(fs_err::File::open(path)?)))
}
