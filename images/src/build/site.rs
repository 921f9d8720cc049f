//! The CA bundle, and the top layer that brings a site's own CAs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::identity::mark;
use super::memory::Memory;
use super::{ASSEMBLER, Built, SiteInputs};
use crate::digest::Digest;
use crate::entry::{Entry, Node};
use crate::error::{Class, Context, Error, Result};
use crate::layer::{Item, Layer, Making, Plan, Section, Source};
use crate::layout::{Layout, read_blob};
use crate::lock::FORMAT;
use crate::oci::{self, Image, LayerRef};
use crate::rules::ca_bundle::{self, Certificate};
use crate::rules::select::Select;
use crate::tree::{Owned, Tree};

/// What is remembered of an image without its site layer.
#[derive(Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) layers: Vec<LayerRef>,
    pub(super) created: u64,
    /// The CA bundle in the topmost layer that has it: layer, offset, size.
    pub(super) bundle: Option<(Digest, u64, u64)>,
    pub(super) links: BTreeSet<String>,
    pub(super) folders: Vec<Entry>,
}

pub(super) fn ca_items(certificates: &[Certificate], taken: &BTreeSet<String>, below: &str, time: u64) -> Vec<Item> {
    if certificates.is_empty() {
        return Vec::new();
    }
    let bundle = ca_bundle::bundle(certificates, taken);
    let links =
        bundle.links.iter().map(|(name, target)| Item::bare(Entry::symlink(format!("{}/{name}", ca_bundle::FOLDER), target.clone(), time)));
    let mut items = vec![Item::text(ca_bundle::BUNDLE, format!("{below}{}", bundle.text), time)];
    items.extend(links);
    items
}

pub(super) fn read_content(layer: &Path, owned: &Owned) -> Result<Vec<u8>> {
    let (Some(start), Node::File { size }) = (owned.offset, &owned.entry.node) else { return Ok(Vec::new()) };
    read_section(layer, start, *size)
}

fn read_section(layer: &Path, start: u64, size: u64) -> Result<Vec<u8>> {
    let file = fs_err::File::open(layer)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut Section { file: file.file(), start, size, at: 0 }, &mut bytes)?;
    Ok(bytes)
}

const SITE_CAS: &str = "usr/local/share/ca-certificates";

pub(super) fn remember(layers: &[Layer], created: u64, tree: &Tree) -> Remembered {
    let above = |path: &str| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).chain([path.to_owned()]).collect::<Vec<_>>();
    let folders = above(ca_bundle::FOLDER)
        .into_iter()
        .chain(above(SITE_CAS))
        .filter_map(|path| tree.get(&path).map(|(_, owned)| owned.entry.clone()));
    let bundle = tree.get(ca_bundle::BUNDLE).and_then(|(layer, owned)| match (owned.offset, &owned.entry.node) {
        (Some(offset), Node::File { size }) => Some((layers[layer].digest, offset, *size)),
        _ => None,
    });
    let prefix = format!("{}/", ca_bundle::FOLDER);
    Remembered {
        layers: layers.iter().map(|layer| LayerRef { name: layer.name.clone(), digest: layer.digest, size: layer.size }).collect(),
        created,
        bundle,
        links: tree.iter().filter_map(|(_, owned)| owned.entry.path.strip_prefix(&prefix)).map(str::to_owned).collect(),
        folders: folders.collect(),
    }
}

/// The top layer: the site's CAs as files, by OpenSSL's links, and behind Debian's in the bundle.
pub(super) fn site_layer(image: &Remembered, site: &SiteInputs, layout: &Layout, memory: &Memory) -> Result<(LayerRef, bool)> {
    let below = image.layers.iter().map(|layer| layer.digest.to_string()).collect::<Vec<_>>().join(" ");
    let cas: BTreeMap<&str, Digest> = site.cas.iter().map(|(name, pem)| (name.as_str(), Digest::of(pem))).collect();
    let key = Digest::of(format!("{ASSEMBLER} site {FORMAT} {below} {cas:?}"));
    if let Some(layer) = memory.recall::<LayerRef>(&key).filter(|layer| layout.has(&layer.digest, layer.size)) {
        return Ok((layer, false));
    }
    let time = image.created;
    let mut certificates = Vec::new();
    let mut items: Vec<Item> = image.folders.iter().cloned().map(Item::bare).collect();
    for (name, pem) in &site.cas {
        let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".pem").trim_end_matches(".crt");
        let path = format!("{SITE_CAS}/{stem}.crt");
        let parsed = ca_bundle::parse(pem, &path, name)?;
        items.push(Item::text(path, parsed.iter().map(Certificate::pem).collect::<String>(), time));
        certificates.extend(parsed);
    }
    let debian = match image.bundle {
        Some((digest, offset, size)) => String::from_utf8_lossy(&read_section(&layout.blob(&digest), offset, size)?).into_owned(),
        None => String::new(),
    };
    items.extend(ca_items(&certificates, &image.links, &debian, time));
    let plan = Plan { name: "site".into(), sources: vec![Source::Items { owner: "site".into(), items }] };
    let making = Making { select: &Select::none(), folder: &layout.blobs(), threads: 1, tick: &|_| {} };
    let made = making.layers(&[plan], image.layers.len(), &mut Tree::default())?;
    let layer = made.into_iter().next().map(|layer| LayerRef { name: layer.name, digest: layer.digest, size: layer.size });
    let layer = layer.ok_or_else(|| Error::new(Class::Build, "no site layer was made"))?;
    memory.keep(&key, &layer)?;
    Ok((layer, true))
}

/// Puts a site's CAs on top of an image that lies in `layout` without them, where neither its sources nor its packages are: the result
/// is what a build with these CAs gives. `below` is what [`super::below_site`] told of it, `config` its configuration, and
/// `memory` a folder.
///
/// # Errors
/// [`Class::Build`] where `below` is of another image; [`Class::HashMismatch`] where the layout is damaged.
pub fn add_site(name: &str, config: &Digest, below: &[u8], site: &SiteInputs, layout: &Layout, memory: &Path) -> Result<Built> {
    let mut image: Remembered = serde_json::from_slice(below)
        .map_err(|error| Error::new(Class::Build, format!("what is told of {name} is not usable: {error}")))?;
    let bytes = read_blob(layout.root(), &config.oci())?;
    let mut runtime: Image =
        serde_json::from_slice(&bytes).map_err(|error| Error::new(Class::Build, format!("{config} is no configuration: {error}")))?;
    let diff_ids: Vec<String> = image.layers.iter().map(|layer| layer.digest.oci()).collect();
    if runtime.rootfs.diff_ids != diff_ids {
        return Err(Error::new(Class::Build, format!("what is told of {name} is of another image")));
    }
    let mut fresh = false;
    if !site.cas.is_empty() {
        let memory = Memory { folder: memory.to_owned() };
        let (layer, made) = site_layer(&image, site, layout, &memory).context(|| name.to_owned())?;
        fresh = made;
        runtime.rootfs.diff_ids.push(layer.digest.oci());
        runtime.history.push(oci::history(&layer.name, &runtime.created));
        image.layers.push(layer);
    }
    let name = format!("{name}{}", mark(site)?);
    let config = oci::canonical(&runtime);
    let manifest = oci::canonical(&oci::manifest(&config, &image.layers));
    let (config, digest) = (layout.put(&config)?, layout.put(&manifest)?);
    layout.name(&name, digest, manifest.len() as u64)?;
    Ok(Built { name, manifest: digest, config, layers: image.layers, fresh })
}
