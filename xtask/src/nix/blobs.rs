//! Foreign files under the names and hashes that nix/blobs.nix fetches them by, put into Nix's store beforehand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use images::file::write_cached;
use images::lock::Artefact;
use images::{Class, Digest, Error, Result, Store};
use serde::Deserialize;

use super::Nix;
use crate::workspace::Workspace;

/// A file and what Nix calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// Its name in the store.
    pub name: String,
    /// What it has to be.
    pub sha256: Digest,
    /// Where it lies.
    pub file: PathBuf,
}

/// A file name as a store takes it, the same as `storeName` in nix/blobs.nix.
pub fn store_name(file: &str) -> String {
    file.chars().map(|letter| if letter.is_ascii_alphanumeric() || "+-._?=".contains(letter) { letter } else { '_' }).collect()
}

/// The components of the Rust distribution that nix/rust.json names, as artefacts that a [`Store`] can fetch.
pub fn rust(workspace: &Workspace) -> Result<Vec<Artefact>> {
    #[derive(Deserialize)]
    struct Pin {
        version: String,
        base: String,
        components: BTreeMap<String, Digest>,
    }
    let path = workspace.root().join("nix/rust.json");
    let wrong = |error: serde_json::Error| Error::new(Class::Usage, format!("nix/rust.json: {error}"));
    let pin: Pin = serde_json::from_str(&fs_err::read_to_string(path)?).map_err(wrong)?;
    let artefact = |(name, sha256): (&String, &Digest)| {
        let url = format!("{}/{name}-{}-x86_64-unknown-linux-gnu.tar.gz", pin.base, pin.version);
        serde_json::from_value(serde_json::json!({
            "name": name, "version": pin.version, "architecture": "amd64", "kind": "release",
            "sha256": sha256.to_string(), "from": { "url": url },
        }))
        .map_err(wrong)
    };
    pin.components.iter().map(artefact).collect()
}

/// Those of `artefacts` that are in the store.
pub fn artefacts<'a>(store: &Store, artefacts: impl IntoIterator<Item = &'a Artefact>) -> Vec<Blob> {
    let blob = |artefact: &Artefact| {
        let sha256 = artefact.sha256.filter(|_| store.holds(artefact))?;
        Some(Blob { name: store_name(artefact.from.file_name()), sha256, file: store.path(&sha256) })
    };
    artefacts.into_iter().filter_map(blob).collect()
}

/// Every crate of `Cargo.lock`, out of cargo's own cache: it has those of other systems too, once `cargo fetch` was told no target.
pub fn crates(workspace: &Workspace, cargo_home: &Path) -> Result<Vec<Blob>> {
    #[derive(Deserialize)]
    struct LockFile {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        checksum: Option<Digest>,
    }
    let lock: LockFile = toml::from_str(&fs_err::read_to_string(workspace.root().join("Cargo.lock"))?)
        .map_err(|error| Error::new(Class::Usage, format!("Cargo.lock: {error}")))?;
    let cache = cargo_home.join("registry/cache");
    let registries: Vec<PathBuf> = fs_err::read_dir(&cache)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let mut found = Vec::new();
    for Package { name, version, checksum } in lock.package {
        let Some(sha256) = checksum else { continue };
        let files = registries.iter().map(|registry| registry.join(format!("{name}-{version}.crate")));
        let file = files.into_iter().find(|file| file.is_file()).ok_or_else(|| {
            Error::new(Class::Fetch, format!("crate {name} {version} is not in cargo's cache"))
                .detail(format!("looked below {}", cache.display()))
                .hint("cargo fetch --locked")
        })?;
        found.push(Blob { name: store_name(&format!("crate-{name}-{version}.tar.gz")), sha256, file });
    }
    Ok(found)
}

/// Where cargo keeps what it fetched.
pub fn cargo_home() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).unwrap_or_default()
}

impl Nix<'_> {
    /// Puts `blobs` into the store, under paths that follow from their names and hashes. What was put there once is only asked for.
    pub fn add(&self, mut blobs: Vec<Blob>) -> Result<()> {
        blobs.sort();
        blobs.dedup_by(|a, b| (&a.name, a.sha256) == (&b.name, b.sha256));
        let list: String = blobs.iter().map(|blob| format!("{} {}\n", blob.sha256, blob.name)).collect();
        let which = if self.is_shim() { "own" } else { "users" };
        let known = self.folder().join("added").join(format!("{which}-{}", Digest::of(list)));
        if let Ok(paths) = fs_err::read_to_string(&known)
            && self.process("nix-store", &["--check-validity"]).args(paths.lines()).outcome()?.success()
        {
            return Ok(());
        }
        fs_err::create_dir_all(self.folder().join("added"))?;
        let folder = tempfile::tempdir_in(self.folder())?;
        for Blob { name, sha256, file } in &blobs {
            let (found, _) = Digest::of_file(file)?;
            if found != *sha256 {
                return Err(Error::new(Class::HashMismatch, format!("{} is not what the lock names", file.display()))
                    .detail(format!("expected sha256 {sha256}"))
                    .detail(format!("found    sha256 {found}"))
                    .hint("remove the file; cargo xtask images fetch --nix brings it again"));
            }
            // The file's name becomes the path's. Another file system does not take a link.
            let place = folder.path().join(name);
            fs_err::hard_link(file, &place).or_else(|_| fs_err::copy(file, &place).map(drop))?;
        }
        let add = self.process("nix-store", &["--add-fixed", "sha256"]).args(blobs.iter().map(|blob| &blob.name));
        let paths = add.in_folder(folder.path()).text()?;
        write_cached(&known, paths.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_name_has_no_letter_that_stores_refuse() {
        assert_eq!(store_name("libgcc-s1_14.2.0-19_amd64.deb"), "libgcc-s1_14.2.0-19_amd64.deb");
        assert_eq!(store_name("zlib1g_1%3a1.3~rc+dfsg:1.deb"), "zlib1g_1_3a1.3_rc+dfsg_1.deb");
    }

    #[test]
    fn the_rust_distribution_is_that_of_the_toolchain_file() {
        let workspace = Workspace::find().unwrap();
        let components = rust(&workspace).unwrap();
        assert_eq!(components.len(), 3);
        let toolchain = fs_err::read_to_string(workspace.root().join("rust-toolchain.toml")).unwrap();
        assert!(components.iter().all(|component| toolchain.contains(&format!("channel = \"{}\"", component.version))));
        let text = fs_err::read_to_string(workspace.root().join("nix/rust.json")).unwrap();
        assert!(text.contains(images::programs::Toolchain::PINNED.commit));
    }

    #[test]
    fn a_crate_that_cargo_does_not_have_is_named_with_what_brings_it() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("Cargo.lock"), format!("[[package]]\nname='x'\nversion='1.0'\nchecksum='{}'\n", "0".repeat(64)))
            .unwrap();
        let cache = folder.path().join("registry/cache/index-1");
        fs_err::create_dir_all(&cache).unwrap();
        let workspace = Workspace::at(folder.path());
        let error = crates(&workspace, folder.path()).unwrap_err();
        assert!(error.to_string().starts_with("crate x 1.0 is not in cargo's cache"), "{error}");
        fs_err::write(cache.join("x-1.0.crate"), "").unwrap();
        assert_eq!(crates(&workspace, folder.path()).unwrap()[0].name, "crate-x-1.0.tar.gz");
    }
}
