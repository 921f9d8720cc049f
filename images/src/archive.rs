//! A layout as one file that both worlds read: an OCI layout and a docker-archive in one tar.
//!
//! `manifest.json` names configs and layers by their OCI blob paths, which `docker load` follows since 1.10 and podman as
//! well; readers of OCI archives find `index.json`. The bytes depend on the images alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;

use crate::entry::{Entry, Node};
use crate::error::{Class, Context, Error, Result};
use crate::layout;
use crate::oci::{self, Index};
use crate::tar;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    layers: Vec<String>,
    repo_tags: Vec<String>,
}

/// Writes the images called `names` of the layout at `root` to `out`.
pub fn write<W: Write>(root: &Path, names: &[String], out: W) -> Result<W> {
    let mut index = layout::read_index(root)?;
    index.manifests.retain(|entry| entry.annotations.get(oci::REF_NAME).is_some_and(|name| names.contains(name)));
    if let Some(missing) = names.iter().find(|name| !index.manifests.iter().any(|entry| entry.annotations.get(oci::REF_NAME) == Some(name)))
    {
        return Err(Error::new(Class::Usage, format!("{} holds no image called {missing}", root.display())).hint("cargo xtask images"));
    }
    let mut blobs = BTreeMap::new();
    let mut docker = Vec::new();
    for entry in &index.manifests {
        let manifest = layout::read_manifest(root, entry)?;
        let path = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        blobs.insert(path(&entry.digest), entry.size);
        blobs.extend(manifest.layers.iter().chain([&manifest.config]).map(|blob| (path(&blob.digest), blob.size)));
        docker.push(DockerEntry {
            config: path(&manifest.config.digest),
            layers: manifest.layers.iter().map(|layer| path(&layer.digest)).collect(),
            repo_tags: entry.annotations.get(oci::REF_NAME).cloned().into_iter().collect(),
        });
    }
    write_tar(root, &index, &docker, &blobs, out)
}

fn write_tar<W: Write>(root: &Path, index: &Index, docker: &[DockerEntry], blobs: &BTreeMap<String, u64>, out: W) -> Result<W> {
    let mut tar = tar::Writer::new(out);
    let text = |tar: &mut tar::Writer<W>, path: &str, bytes: &[u8]| -> Result<()> {
        tar.entry(&Entry::file(path, bytes.len(), 0o644, 0))?;
        Ok(tar.content(bytes)?)
    };
    text(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    text(&mut tar, "index.json", &oci::canonical(index))?;
    text(&mut tar, "manifest.json", &oci::canonical(&docker))?;
    let folders: BTreeSet<&str> = ["blobs", "blobs/sha256"].into();
    for folder in folders {
        tar.entry(&Entry::directory(folder, 0o755, 0))?;
    }
    for (path, size) in blobs {
        let mut entry = Entry::file(path, 0, 0o644, 0);
        entry.node = Node::File { size: *size };
        tar.entry(&entry)?;
        let mut file = fs_err::File::open(root.join(path)).context(|| "reading the layout")?.take(*size);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => tar.content(&buffer[..count])?,
            }
        }
    }
    Ok(tar.finish()?.0)
}
