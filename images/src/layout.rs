//! An OCI image layout on disk (image-spec 1.1, "Image Layout"): blobs by digest and `index.json`, shared by several
//! builds at once.
//!
//! A build holds `.lock` shared while it writes blobs, so that nobody prunes what no index names yet. The index is
//! written beside and renamed, under `.index.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Class, Context, Error, Result};
use crate::file::write_cached;
use crate::oci::{self, Descriptor, Index, Manifest, Platform};

/// A layout folder.
pub struct Layout {
    root: PathBuf,
    building: fs_err::File,
}

impl Layout {
    /// Opens a layout for building, and makes it where there is none. Blocks while another process prunes.
    pub fn open(root: &Path) -> Result<Layout> {
        fs_err::create_dir_all(root.join("blobs/sha256"))?;
        let building = lock_file(&root.join(".lock"))?;
        building.lock_shared()?;
        let marker = root.join("oci-layout");
        if !marker.exists() {
            write_cached(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(Layout { root: root.to_owned(), building })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of blobs.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Where a blob lies.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.to_string())
    }

    /// Whether a blob is there with that length in bytes.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs_err::metadata(self.blob(digest)).is_ok_and(|found| found.len() == size)
    }

    /// Writes a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(&digest, bytes.len() as u64) {
            write_cached(&self.blob(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// The index as it is.
    pub fn index(&self) -> Result<Index> {
        read_index(&self.root)
    }

    /// Gives `name` to a manifest and takes it from whatever had it. Entries are sorted by name; others are kept.
    pub fn name(&self, name: &str, manifest: Digest, size: u64) -> Result<()> {
        let guard = lock_file(&self.root.join(".index.lock"))?;
        guard.lock()?;
        let mut index = self.index()?;
        let before = index.clone();
        let new = Descriptor {
            annotations: BTreeMap::from([(oci::REF_NAME.to_owned(), name.to_owned())]),
            digest: manifest.oci(),
            media_type: oci::MANIFEST.into(),
            platform: Some(Platform { architecture: "amd64".into(), os: "linux".into() }),
            size,
        };
        index.manifests.retain(|entry| entry.annotations.get(oci::REF_NAME).map(String::as_str) != Some(name));
        index.manifests.push(new);
        index.manifests.sort_by(|a, b| a.annotations.get(oci::REF_NAME).cmp(&b.annotations.get(oci::REF_NAME)));
        if index != before {
            write_cached(&self.root.join("index.json"), &oci::canonical(&index))?;
        }
        Ok(())
    }

    /// Removes blobs that no named manifest needs, unless another build is under way. Returns the bytes set free.
    pub fn prune(self) -> Result<u64> {
        self.building.unlock()?;
        if self.building.try_lock().is_err() {
            return Ok(0);
        }
        let mut needed = BTreeSet::new();
        for entry in &self.index()?.manifests {
            needed.insert(entry.digest.clone());
            let manifest = read_manifest(&self.root, entry)?;
            needed.insert(manifest.config.digest);
            needed.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        let mut freed = 0;
        for file in fs_err::read_dir(self.blobs())? {
            let file = file?;
            if !needed.contains(&format!("sha256:{}", file.file_name().to_string_lossy())) {
                freed += file.metadata()?.len();
                fs_err::remove_file(file.path())?;
            }
        }
        Ok(freed)
    }
}

/// Reads `index.json` of a layout; an empty index where there is none.
pub fn read_index(root: &Path) -> Result<Index> {
    let path = root.join("index.json");
    if !path.exists() {
        return Ok(Index { manifests: Vec::new(), media_type: oci::INDEX.into(), schema_version: 2 });
    }
    let text = fs_err::read(&path)?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::new(Class::Build, format!("{} is not an OCI index", path.display()))
            .detail(error.to_string())
            .hint("remove the folder; the next build makes it again")
    })
}

/// Reads the manifest that an index entry points to, and checks its digest.
pub fn read_manifest(root: &Path, entry: &Descriptor) -> Result<Manifest> {
    let bytes = read_blob(root, &entry.digest)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::new(Class::Build, format!("{} is not a manifest: {error}", entry.digest)))
}

/// Reads a small blob and checks its digest.
pub fn read_blob(root: &Path, digest: &str) -> Result<Vec<u8>> {
    let wanted = Digest::from_oci(digest).ok_or_else(|| Error::new(Class::Build, format!("{digest:?} is not a SHA-256 digest")))?;
    let bytes = fs_err::read(root.join("blobs/sha256").join(wanted.to_string())).context(|| "reading the layout")?;
    if Digest::of(&bytes) != wanted {
        return Err(Error::new(Class::HashMismatch, format!("blob {digest} of {} is damaged", root.display()))
            .hint("remove the folder; the next build makes it again"));
    }
    Ok(bytes)
}

fn lock_file(path: &Path) -> Result<fs_err::File> {
    Ok(fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(layout: &Layout, name: &str, config: &[u8]) -> Digest {
        let manifest = oci::canonical(&oci::manifest(config, &[]));
        layout.put(config).expect("a config");
        let digest = layout.put(&manifest).expect("a manifest");
        layout.name(name, digest, manifest.len() as u64).expect("an index");
        digest
    }

    #[test]
    fn names_are_sorted_and_move_and_what_nobody_needs_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::open(folder.path()).expect("a layout");
        let old = image(&layout, "b:1", b"old");
        let kept = image(&layout, "a:1", b"kept");
        let new = image(&layout, "b:1", b"new");
        let index = layout.index().expect("an index");
        let names: Vec<_> = index.manifests.iter().map(|entry| (entry.annotations[oci::REF_NAME].as_str(), entry.digest.clone())).collect();
        assert_eq!(names, [("a:1", kept.oci()), ("b:1", new.oci())]);
        let freed = Layout::open(folder.path()).expect("a layout").prune();
        assert_eq!(freed.ok(), Some(0), "another build is under way");
        assert!(layout.blob(&old).exists());
        let blobs = layout.blobs();
        assert!(layout.prune().expect("alone") > 0);
        let left = fs_err::read_dir(blobs).expect("blobs").count();
        assert_eq!(left, 4);
    }

    #[test]
    fn a_damaged_blob_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::open(folder.path()).expect("a layout");
        let digest = layout.put(b"whole").expect("a blob");
        fs_err::write(layout.blob(&digest), b"wrong").expect("a write");
        let error = read_blob(folder.path(), &digest.oci()).expect_err("damaged");
        assert_eq!(error.class(), Class::HashMismatch);
    }
}
