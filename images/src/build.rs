//! `build(locked, store, inputs, site, layout)`: one function from a locked spec to a named manifest. No clock, no
//! environment, nothing of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::elf;
use crate::entry::{Entry, Node};
use crate::error::{Class, Error, Result};
use crate::layer::{self, Blob, Content, Item, Layer, Plan, Section, Source};
use crate::layout::{self, Layout};
use crate::lock::{Artefact, FORMAT, Locked};
use crate::oci::{self, LayerRef};
use crate::progress::Progress;
use crate::rules::ca_bundle::{self, Certificate};
use crate::rules::select::Select;
use crate::rules::{accounts, skeleton};
use crate::store::Store;
use crate::tree::{Owned, Tree};

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
    /// A release that stands in for the lock's: `--mattermost FILE`.
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

/// A release from a file.
#[derive(Clone, Debug)]
pub struct ReleaseFile {
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
    /// `chatops/<name>:<version>`.
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

/// What is remembered of an image without its site layer.
#[derive(Serialize, Deserialize)]
struct Remembered {
    layers: Vec<LayerRef>,
    created: u64,
    /// The CA bundle in the topmost layer that has it: layer, offset, size.
    bundle: Option<(Digest, u64, u64)>,
    links: BTreeSet<String>,
    folders: Vec<Entry>,
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
    let key = Digest::of(format!("{ASSEMBLER} image {identity}"));
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
    let name = name(locked, inputs)?;
    let config =
        oci::canonical(&oci::image(locked.spec(), &image.layers, image.created, labels(&version, &identity, inputs), environment(inputs)));
    let manifest = oci::canonical(&oci::manifest(&config, &image.layers));
    let (config, digest) = (layout.put(&config)?, layout.put(&manifest)?);
    layout.name(&name, digest, manifest.len() as u64)?;
    Ok(Built { name, manifest: digest, config, layers: image.layers, fresh })
}

/// The name that the image gets: `chatops/<name>:<version>`.
pub fn name(locked: &Locked, inputs: &Inputs) -> Result<String> {
    Ok(format!("chatops/{}:{}", locked.name(), tag(locked, inputs, &version(locked, inputs)?)))
}

/// The digest of everything that decides this image's bytes below the site layer, and of nothing else.
pub fn inputs_digest(locked: &Locked, inputs: &Inputs) -> Result<Digest> {
    #[derive(Serialize)]
    struct Identity<'a> {
        artefacts: Vec<String>,
        files: BTreeMap<&'a str, Digest>,
        format: u32,
        plugins: Vec<String>,
        programs: BTreeMap<&'a str, Digest>,
        spec: &'a crate::spec::Spec,
    }
    let sums = |artefact: &Artefact| {
        format!("{} {} {}", artefact.name, artefact.version, artefact.sha256.map_or_else(String::new, |sha256| sha256.to_string()))
    };
    let mut artefacts: Vec<String> = locked.packages().iter().chain(locked.plugins()).map(sums).collect();
    match &inputs.release {
        Some(file) => artefacts.push(format!("file {} {}", file.version, file.sha256)),
        None => artefacts.extend(locked.releases().iter().map(sums)),
    }
    let mut files = BTreeMap::new();
    for file in &locked.spec().files {
        files.insert(file.source.as_str(), Digest::of(fs_err::read(inputs.folder.join(&file.source))?));
    }
    let programs =
        locked.spec().programs.iter().map(|program| Ok((program.package.as_str(), program_of(inputs, &program.package)?.sha256)));
    let identity = Identity {
        artefacts,
        files,
        format: FORMAT,
        plugins: inputs
            .plugins
            .iter()
            .map(|plugin| format!("{} {} {} {}", plugin.name, plugin.sha256, Digest::of(&plugin.signature), Digest::of(&plugin.key)))
            .collect(),
        programs: programs.collect::<Result<_>>()?,
        spec: locked.spec(),
    };
    Ok(Digest::of(oci::canonical(&identity)))
}

fn program_of<'a>(inputs: &'a Inputs, package: &str) -> Result<&'a Program> {
    inputs.programs.get(package).ok_or_else(|| Error::new(Class::Build, format!("the program {package} was not built")))
}

/// The upstream version that names the image: without epoch and Debian revision.
fn version(locked: &Locked, inputs: &Inputs) -> Result<String> {
    let unknown = || {
        Error::new(
            Class::Usage,
            format!("images/{}/image.toml: version = \"{}\" names nothing in the image", locked.name(), locked.spec().version),
        )
    };
    let (kind, name) = locked.spec().version.split_once(':').ok_or_else(unknown)?;
    match kind {
        "debian" => locked
            .packages()
            .iter()
            .find(|package| package.name == name)
            .map(|package| upstream(&package.version).to_owned())
            .ok_or_else(unknown),
        "release" => match (&inputs.release, locked.releases().first()) {
            (Some(file), _) => Ok(file.version.clone()),
            (None, release) => release.map(|release| release.version.clone()).ok_or_else(unknown),
        },
        "program" => Ok(program_of(inputs, name)?.version.clone()),
        _ => Err(unknown()),
    }
}

/// A Debian version without epoch and revision (Debian policy 5.6.12).
pub fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.rsplit_once('-').map_or(version, |(upstream, _)| upstream)
}

/// Tags know letters, digits, `_`, `.` and `-` only (OCI distribution-spec 1.1).
fn tag(locked: &Locked, inputs: &Inputs, version: &str) -> String {
    let mut tag = version.replace(['+', '~'], "-");
    if locked.releases().iter().any(|release| release.name.ends_with("-team")) {
        tag.push_str("-team");
    }
    if inputs.release.is_some() {
        tag.push_str("-file");
    }
    tag
}

fn labels(version: &str, identity: &Digest, inputs: &Inputs) -> BTreeMap<String, String> {
    let mut labels =
        BTreeMap::from([("org.opencontainers.image.version".to_owned(), version.to_owned()), (INPUTS_LABEL.to_owned(), identity.oci())]);
    if let Some(file) = &inputs.release {
        labels.insert(RELEASE_LABEL.to_owned(), format!("a file, not the lock's release: {}", file.sha256.oci()));
    }
    labels
}

const PLUGIN_KEYS: &str = "mattermost/plugin-keys";

/// The server splits this list at single spaces.
fn environment(inputs: &Inputs) -> BTreeMap<String, String> {
    let keys: BTreeSet<String> =
        inputs.plugins.iter().map(|plugin| format!("/{PLUGIN_KEYS}/{}.asc", Digest::of(&plugin.key).short())).collect();
    match keys.is_empty() {
        true => BTreeMap::new(),
        false => BTreeMap::from([("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES".to_owned(), keys.into_iter().collect::<Vec<_>>().join(" "))]),
    }
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
        let made = layer::make(plans, layers.len(), select, tree, &self.layout.blobs(), self.threads, &|bytes| step.advance(bytes))?;
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
            let signature = artefact
                .signature
                .as_ref()
                .and_then(|signature| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &signature.base64).ok());
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

fn ca_items(certificates: &[Certificate], taken: &BTreeSet<String>, below: &str, time: u64) -> Vec<Item> {
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

fn read_content(layer: &Path, owned: &Owned) -> Result<Vec<u8>> {
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

fn remember(layers: &[Layer], created: u64, tree: &Tree) -> Remembered {
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
fn site_layer(image: &Remembered, site: &SiteInputs, layout: &Layout, memory: &Memory) -> Result<(LayerRef, bool)> {
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
    let none = Select::none();
    let made = layer::make(&[plan], image.layers.len(), &none, &mut Tree::default(), &layout.blobs(), 1, &|_| {})?;
    let layer = made.into_iter().next().map(|layer| LayerRef { name: layer.name, digest: layer.digest, size: layer.size });
    let layer = layer.ok_or_else(|| Error::new(Class::Build, "no site layer was made"))?;
    memory.keep(&key, &layer)?;
    Ok((layer, true))
}

/// What was made from which inputs. Losing it costs time, nothing else.
struct Memory {
    folder: PathBuf,
}

impl Memory {
    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    fn recall<T: for<'a> Deserialize<'a>>(&self, key: &Digest) -> Option<T> {
        serde_json::from_slice(&fs_err::read(self.path(key)).ok()?).ok()
    }

    fn keep(&self, key: &Digest, value: &impl Serialize) -> Result<()> {
        fs_err::create_dir_all(&self.folder)?;
        layout::write_beside(&self.path(key), &oci::canonical(value))
    }
}

#[cfg(test)]
mod tests;
