//! `build(locked, store, inputs, site, layout)`: one function from a locked spec to a named manifest. No clock, no
//! environment, nothing of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::elf;
use crate::entry::Entry;
use crate::error::{Class, Error, Result};
use crate::layer::{self, Blob, Content, Item, Layer, Making, Plan, Source};
use crate::layout::Layout;
use crate::lock::{Artefact, FORMAT, Locked, Signature};
use crate::oci::{self, LayerRef};
use crate::progress::Progress;
use crate::rules::ca_bundle::{self, Certificate};
use crate::rules::select::Select;
use crate::rules::{accounts, skeleton};
use crate::store::Store;
use crate::tree::Tree;

mod identity;
mod memory;
mod site;

use identity::{environment, labels, program_of, version};
pub use identity::{inputs_digest, name, upstream};
use memory::Memory;
pub use site::add_site;
use site::{Remembered, ca_items, read_content, remember, site_layer};

/// Where the server finds the keys of plugins that are not the vendor's: outside every volume.
const PLUGIN_KEYS: &str = "mattermost/plugin-keys";

/// The assembler's own sources, hashed when it was compiled: what another assembler remembered is not believed.
const ASSEMBLER: &str = env!("ASSEMBLER_SOURCES");

/// Label with the digest of an image's own inputs.
pub const INPUTS_LABEL: &str = "org.chatops.image.inputs";

/// Label that says where a release came from when it is not the lock's.
pub const RELEASE_LABEL: &str = "org.chatops.image.release";

/// What goes into an image besides the lock's artefacts.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The image's folder, for its local files.
    pub folder: PathBuf,
    /// Cargo package → its program.
    pub programs: BTreeMap<String, Program>,
    /// A release that stands in for the lock's: `--mattermost double` or a file.
    pub release: Option<ReleaseFile>,
    /// Plugin bundles besides the spec's.
    pub plugins: Vec<PluginFile>,
}

/// A program of the workspace.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its cargo version.
    pub version: String,
}

/// What a release is that is not the lock's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// Somebody's own file in the vendor's layout.
    File,
    /// The API double: for tests, and the image says so.
    Double,
}

/// A release from a file.
#[derive(Clone, Debug)]
pub struct ReleaseFile {
    /// What it is.
    pub origin: StandIn,
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The version it says it is.
    pub version: String,
}

/// A plugin bundle from a file, its signature, and the key that made it.
#[derive(Clone, Debug)]
pub struct PluginFile {
    /// The file name of the bundle.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The detached signature.
    pub signature: Vec<u8>,
    /// The public key, armored.
    pub key: Vec<u8>,
}

/// What belongs to one installation alone.
#[derive(Clone, Debug, Default)]
pub struct SiteInputs {
    /// CA certificates: file name → PEM.
    pub cas: BTreeMap<String, Vec<u8>>,
}

/// An image that was built, or that was there already.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Built {
    /// `chatops/<name>:<version>`, with the fingerprint of the site's CA where it is in the image.
    pub name: String,
    /// The manifest's digest.
    pub manifest: Digest,
    /// The configuration's digest: Docker's image ID.
    pub config: Digest,
    /// The layers, from the bottom up.
    pub layers: Vec<LayerRef>,
    /// Whether anything had to be made.
    pub fresh: bool,
}

/// Builds an image, or finds that it is built, and names it in the layout.
pub fn build(
    locked: &Locked,
    store: &Store,
    inputs: &Inputs,
    site: &SiteInputs,
    layout: &Layout,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Built> {
    let identity = inputs_digest(locked, inputs)?;
    let memory = Memory { folder: store.memory() };
    let key = key(&identity);
    let mut fresh = false;
    let remembered =
        memory.recall::<Remembered>(&key).filter(|image| image.layers.iter().all(|layer| layout.has(&layer.digest, layer.size)));
    let mut image = match remembered {
        Some(image) => image,
        None => {
            fresh = true;
            let image = Assembly { locked, store, inputs, layout, memory: &memory, threads, progress }.run()?;
            memory.keep(&key, &image)?;
            image
        }
    };
    if !site.cas.is_empty() {
        let (layer, made) = site_layer(&image, site, layout, &memory)?;
        image.layers.push(layer);
        fresh |= made;
    }
    let version = version(locked, inputs)?;
    let name = name(locked, inputs, site)?;
    let config =
        oci::canonical(&oci::image(locked.spec(), &image.layers, image.created, labels(&version, &identity, inputs), environment(inputs)));
    let manifest = oci::canonical(&oci::manifest(&config, &image.layers));
    let (config, digest) = (layout.put(&config)?, layout.put(&manifest)?);
    layout.name(&name, digest, manifest.len() as u64)?;
    Ok(Built { name, manifest: digest, config, layers: image.layers, fresh })
}

fn key(identity: &Digest) -> Digest {
    Digest::of(format!("{ASSEMBLER} image {identity}"))
}

/// What [`add_site`] has to know of an image that was built without a site's CA, as JSON; nothing where it was not built here.
pub fn below_site(locked: &Locked, store: &Store, inputs: &Inputs) -> Result<Option<Vec<u8>>> {
    let memory = Memory { folder: store.memory() };
    Ok(memory.recall::<Remembered>(&key(&inputs_digest(locked, inputs)?)).map(|image| oci::canonical(&image)))
}

struct Assembly<'a> {
    locked: &'a Locked,
    store: &'a Store,
    inputs: &'a Inputs,
    layout: &'a Layout,
    memory: &'a Memory,
    threads: usize,
    progress: &'a dyn Progress,
}

impl Assembly<'_> {
    fn run(&self) -> Result<Remembered> {
        let select = Select::new(self.locked.spec())?;
        let mut tree = Tree::default();
        let mut layers: Vec<Layer> = Vec::new();
        self.streamed(&select, &mut tree, &mut layers)?;
        let created = layers.iter().map(|layer| layer.time).max().unwrap_or(0);
        for plan in self.plugin_plans(created)? {
            self.make(&[plan], &select, &mut tree, &mut layers)?;
        }
        let own = self.own_plan(created, &tree, &layers)?;
        self.make(&[own], &select, &mut tree, &mut layers)?;
        elf::prove_closure(&tree)?;
        Ok(remember(&layers, created, &tree))
    }

    /// Packages and releases: remembered layers are taken, runs of others are made together.
    fn streamed(&self, select: &Select, tree: &mut Tree, layers: &mut Vec<Layer>) -> Result<()> {
        let rules = oci::canonical(&(&self.locked.spec().exclude, &self.locked.spec().paths, &self.locked.spec().accounts));
        let mut waiting: Vec<(Digest, Plan)> = Vec::new();
        for plan in self.package_plans()?.into_iter().chain(self.release_plans()?) {
            let key = Digest::of(format!("{ASSEMBLER} layer {FORMAT} {:?} {}", layer::describe(&plan), Digest::of(&rules)));
            let known = self.memory.recall::<Layer>(&key).filter(|layer| self.layout.has(&layer.digest, layer.size));
            match known {
                None => waiting.push((key, plan)),
                Some(layer) => {
                    self.make_all(&mut waiting, select, tree, layers)?;
                    layer.entries.iter().try_for_each(|owned| tree.add(layers.len(), owned.clone()).map(drop))?;
                    layers.push(layer);
                }
            }
        }
        self.make_all(&mut waiting, select, tree, layers)
    }

    fn make_all(&self, waiting: &mut Vec<(Digest, Plan)>, select: &Select, tree: &mut Tree, layers: &mut Vec<Layer>) -> Result<()> {
        let (keys, plans): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        let first = layers.len();
        self.make(&plans, select, tree, layers)?;
        keys.iter().zip(&layers[first..]).try_for_each(|(key, layer)| self.memory.keep(key, layer))
    }

    fn make(&self, plans: &[Plan], select: &Select, tree: &mut Tree, layers: &mut Vec<Layer>) -> Result<()> {
        if plans.is_empty() {
            return Ok(());
        }
        let step = self.progress.begin(
            &format!("{}: {}", self.locked.name(), plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>().join(", ")),
            None,
        );
        let making = Making { select, folder: &self.layout.blobs(), threads: self.threads, tick: &|bytes| step.advance(bytes) };
        let made = making.layers(plans, layers.len(), tree)?;
        step.done();
        layers.extend(made);
        Ok(())
    }

    fn blob(&self, artefact: &Artefact) -> Result<Blob> {
        let path = self.store.require(artefact)?;
        let sha256 = artefact.sha256.ok_or_else(|| Error::new(Class::Build, format!("{} has no SHA-256 in the lock", artefact.name)))?;
        Ok(Blob { name: artefact.name.clone(), path, sha256 })
    }

    fn package_plans(&self) -> Result<Vec<Plan>> {
        let hints = &self.locked.spec().layers;
        let names: BTreeSet<&str> = self.locked.packages().iter().map(|package| package.name.as_str()).collect();
        if let Some(package) = hints.iter().flat_map(|hint| &hint.packages).find(|package| !names.contains(package.as_str())) {
            return Err(Error::new(
                Class::Usage,
                format!("images/{}/image.toml: layers name \"{package}\", which the closure does not hold", self.locked.name()),
            ));
        }
        let hinted: BTreeSet<&str> = hints.iter().flat_map(|hint| hint.packages.iter().map(String::as_str)).collect();
        let plan = |name: &str, wanted: &dyn Fn(&str) -> bool| -> Result<Plan> {
            let packages = self.locked.packages().iter().filter(|package| wanted(&package.name));
            Ok(Plan {
                name: name.to_owned(),
                sources: packages.map(|package| Ok(Source::Deb { blob: self.blob(package)? })).collect::<Result<_>>()?,
            })
        };
        let mut plans = hints
            .iter()
            .map(|hint| plan(&hint.name, &|name| hint.packages.iter().any(|package| package == name)))
            .collect::<Result<Vec<_>>>()?;
        plans.push(plan("runtime", &|name| !hinted.contains(name))?);
        plans.retain(|plan| !plan.sources.is_empty());
        Ok(plans)
    }

    fn release_plans(&self) -> Result<Vec<Plan>> {
        let mut plans = Vec::new();
        for (release, artefact) in self.locked.spec().releases.iter().zip(self.locked.releases()) {
            let blob = match &self.inputs.release {
                Some(file) => Blob { name: artefact.name.clone(), path: file.path.clone(), sha256: file.sha256 },
                None => self.blob(artefact)?,
            };
            let source = Source::Release {
                blob,
                strip: release.strip.clone(),
                destination: release.destination.trim_start_matches('/').to_owned(),
                owner: self.locked.spec().account_id(&release.owner).unwrap_or(0),
                exclude: release.exclude.clone(),
                keep: release.keep.clone(),
            };
            plans.push(Plan { name: "release".into(), sources: vec![source] });
        }
        Ok(plans)
    }

    fn plugin_plans(&self, time: u64) -> Result<Vec<Plan>> {
        let mut plans = Vec::new();
        let mut plan = |name: String, file_name: &str, path: PathBuf, signature: Vec<u8>, destination: &str| -> Result<()> {
            let size = fs_err::metadata(&path)?.len() as usize;
            let target = format!("{}/{file_name}", destination.trim_start_matches('/'));
            let bundle = Item { entry: Entry::file(target.clone(), size, 0o644, time), content: Content::File(path) };
            let items = vec![bundle, Item::text(format!("{target}.sig"), signature, time)];
            plans.push(Plan { name: format!("plugin {name}"), sources: vec![Source::Items { owner: name, items }] });
            Ok(())
        };
        for (plugin, artefact) in self.locked.spec().plugins.iter().zip(self.locked.plugins()) {
            let signature = artefact.signature.as_ref().map(Signature::bytes).transpose()?;
            let signature = signature.ok_or_else(|| {
                Error::new(Class::Build, format!("plugin {} has no signature in the lock; the server would ignore it", artefact.name))
            })?;
            plan(artefact.name.clone(), artefact.from.file_name(), self.blob(artefact)?.path, signature, &plugin.destination)?;
        }
        for plugin in &self.inputs.plugins {
            plan(plugin.name.clone(), &plugin.name, plugin.path.clone(), plugin.signature.clone(), "mattermost/prepackaged_plugins")?;
        }
        Ok(plans)
    }

    /// The image's own layer: accounts, folders, links, files, programs, the CA bundle.
    fn own_plan(&self, time: u64, tree: &Tree, layers: &[Layer]) -> Result<Plan> {
        let spec = self.locked.spec();
        let mut items = vec![
            Item::text("etc/group", accounts::group(spec), time),
            Item::text("etc/nsswitch.conf", accounts::NSSWITCH, time),
            Item::text("etc/passwd", accounts::passwd(spec), time),
        ];
        if tree.get("usr/lib/os-release").is_some() {
            items.extend(skeleton::entries(time).into_iter().filter(|entry| tree.get(&entry.path).is_none()).map(Item::bare));
        }
        for rule in &spec.paths {
            let path = rule.path.trim_start_matches('/');
            if tree.get(path).is_none() {
                let mode = rule.mode.ok_or_else(|| {
                    Error::new(
                        Class::Usage,
                        format!("images/{}/image.toml: [[path]] {} is in no source and has no mode", self.locked.name(), rule.path),
                    )
                    .hint("give a mode to make a folder of it")
                })?;
                items.push(Item::bare(Entry::directory(path, mode.0, time).owned_by(spec.account_id(&rule.owner).unwrap_or(0))));
            }
        }
        items
            .extend(spec.links.iter().map(|link| Item::bare(Entry::symlink(link.path.trim_start_matches('/'), link.target.clone(), time))));
        for file in &spec.files {
            let bytes = fs_err::read(self.inputs.folder.join(&file.source))?;
            let mut item = Item::text(file.destination.trim_start_matches('/'), bytes, time);
            item.entry = Entry { mode: file.mode.0, ..item.entry }.owned_by(spec.account_id(&file.owner).unwrap_or(0));
            items.push(item);
        }
        for program in &spec.programs {
            let file = program_of(self.inputs, &program.package)?;
            let size = fs_err::metadata(&file.path)?.len() as usize;
            let entry = Entry::file(program.destination.trim_start_matches('/'), size, 0o755, time);
            items.push(Item { entry, content: Content::File(file.path.clone()) });
        }
        let keys: BTreeMap<String, &PluginFile> =
            self.inputs.plugins.iter().map(|plugin| (Digest::of(&plugin.key).short(), plugin)).collect();
        items.extend(keys.into_iter().map(|(name, plugin)| Item::text(format!("{PLUGIN_KEYS}/{name}.asc"), plugin.key.clone(), time)));
        items.extend(ca_items(&self.certificates(tree, layers)?, &BTreeSet::new(), "", time));
        items.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        Ok(Plan { name: "image".into(), sources: vec![Source::Items { owner: format!("images/{}", self.locked.name()), items }] })
    }

    /// The certificates that ca-certificates brings, in byte order of their files.
    fn certificates(&self, tree: &Tree, layers: &[Layer]) -> Result<Vec<Certificate>> {
        let mut all = Vec::new();
        for (number, owned) in tree.iter() {
            let path = &owned.entry.path;
            if path.starts_with("usr/share/ca-certificates/") && path.ends_with(".crt") {
                let pem = read_content(&self.layout.blob(&layers[number].digest), owned)?;
                all.extend(ca_bundle::parse(&pem, path, &format!("{path} of {}", owned.owner))?);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
