//! Whether an image of a layout is what lock and spec make: papers about anything else would be lies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::build::{self, INPUTS_LABEL, Inputs, PluginFile, Program, RELEASE_LABEL, ReleaseFile, StandIn};
use crate::contents::{Image, Member, Package, repository, tree};
use crate::digest::Digest;
use crate::error::{Class, Context, Error, Result};
use crate::lock::{Artefact, Kind, Lock, Origin};
use crate::spec::Spec;

/// An image that was found to be what the lock says.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The image.
    pub image: &'a Image,
    /// The lock.
    pub lock: &'a Lock,
    /// The image's spec.
    pub spec: &'a Spec,
    /// Everything in every layer.
    pub members: Vec<Vec<Member>>,
    /// Its Debian packages.
    pub packages: BTreeMap<String, Package>,
    /// Its releases, in the edition that is in it; what stands in for the lock's has that file's SHA-256.
    pub releases: Vec<Artefact>,
    /// The version that its label says.
    pub version: String,
}

impl<'a> Subject<'a> {
    /// Compares an image with the lock and its spec; `folder` is the image's, for its local files.
    ///
    /// # Errors
    /// [`Class::Check`] where the image holds other packages than the lock, or was made from other inputs than are here.
    pub fn check(image: &'a Image, lock: &'a Lock, spec: &'a Spec, folder: &Path) -> Result<Self> {
        let members = image.members()?;
        let packages = image.packages(&members)?;
        let name = repository(&image.name);
        let found = differences(&packages, lock, name);
        if !found.is_empty() {
            return Err(found.iter().fold(stale(image), |error, line| error.detail(line)));
        }
        let label = |key: &str| image.config["config"]["Labels"][key].as_str().unwrap_or_default().to_owned();
        let version = label("org.opencontainers.image.version");
        let inputs = inputs(image, spec, &members, folder, &label(RELEASE_LABEL), &version)?;
        let layers: BTreeSet<&str> = image.layers.iter().map(|layer| layer.name.as_str()).collect();
        let without: Vec<String> = spec
            .plugins
            .iter()
            .map(|plugin| plugin.artefact.clone())
            .filter(|name| !layers.contains(format!("plugin {name}").as_str()))
            .collect();
        let editions: BTreeSet<&str> = spec.releases.iter().flat_map(|release| release.editions.keys().map(String::as_str)).collect();
        let editions = if editions.is_empty() { BTreeSet::from([""]) } else { editions };
        let wanted = label(INPUTS_LABEL);
        for edition in editions {
            let locked = lock.bind(name, spec.clone(), edition, &without)?;
            if build::inputs_digest(&locked, &inputs)?.oci() != wanted {
                continue;
            }
            let mut releases = locked.releases().to_vec();
            if let (Some(file), Some(release)) = (&inputs.release, releases.first_mut()) {
                release.sha256 = Some(file.sha256);
                release.version.clone_from(&file.version);
            }
            return Ok(Subject { image, lock, spec, members, packages, releases, version });
        }
        Err(stale(image).detail(format!("its label says that its inputs were {wanted}, and those that are here are others")))
    }

    /// Every artefact that is in the image, each with where it is from.
    pub fn artefacts(&self) -> impl Iterator<Item = &Artefact> {
        let debs = self.packages.keys().filter_map(|name| self.lock.artefact(Kind::Deb, name));
        let plugins = self
            .spec
            .plugins
            .iter()
            .filter(|plugin| self.image.layers.iter().any(|layer| layer.name == format!("plugin {}", plugin.artefact)));
        let plugins = plugins.filter_map(|plugin| self.lock.artefact(Kind::Plugin, &plugin.artefact));
        debs.chain(&self.releases).chain(plugins)
    }

    /// Whether something stands in for the lock's release.
    pub fn stand_in(&self) -> Option<&str> {
        self.image.config["config"]["Labels"][RELEASE_LABEL].as_str()
    }
}

fn stale(image: &Image) -> Error {
    Error::new(Class::Check, format!("{} is not what images/lock.json and its image.toml make", image.name))
        .hint("`cargo xtask images` builds what they say; or take the checkout that the image was built from")
}

fn differences(packages: &BTreeMap<String, Package>, lock: &Lock, name: &str) -> Vec<String> {
    let group = lock.groups.get(name).map(|group| group.packages.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    for locked in group.iter().filter_map(|name| lock.artefact(Kind::Deb, name)) {
        match packages.get(&locked.name) {
            None => found.push(format!("{} {}: in the lock, not in the image", locked.name, locked.version)),
            Some(package) if package.version != locked.version => {
                found.push(format!("{}: {} in the image, {} in the lock", locked.name, package.version, locked.version));
            }
            Some(_) => {}
        }
    }
    let unknown = packages.iter().filter(|(name, _)| !group.contains(name));
    found.extend(unknown.map(|(name, package)| format!("{name} {}: in the image, not in the lock", package.version)));
    found
}

/// What the build of this image was given besides the lock's artefacts, read from the image again.
fn inputs(image: &Image, spec: &Spec, members: &[Vec<Member>], folder: &Path, release: &str, version: &str) -> Result<Inputs> {
    let tree = tree(members);
    let bytes = |path: &str| -> Result<Vec<u8>> {
        let missing = || stale(image).detail(format!("it has no /{path}"));
        let (layer, member) = tree.get(path).ok_or_else(missing)?;
        let layer = &image.layers[*layer];
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut layer.content(&layer.open()?, member), &mut bytes).context(|| format!("/{path}"))?;
        Ok(bytes)
    };
    let mut inputs = Inputs { folder: folder.to_owned(), ..Inputs::default() };
    for program in &spec.programs {
        let sha256 = Digest::of(bytes(program.destination.trim_start_matches('/'))?);
        let made = Program { path: program.destination.clone().into(), sha256, version: env!("CARGO_PKG_VERSION").to_owned() };
        inputs.programs.insert(program.package.clone(), made);
    }
    if let Some((what, sha256)) = release.split_once(": ").and_then(|(what, digest)| Some((what, Digest::from_oci(digest)?))) {
        let origin = if what.starts_with("API double") { StandIn::Double } else { StandIn::File };
        inputs.release = Some(ReleaseFile { origin, path: Default::default(), sha256, version: version.to_owned() });
    }
    let keys: Vec<&str> =
        tree.keys().copied().filter(|path| path.starts_with("mattermost/plugin-keys/") && path.ends_with(".asc")).collect();
    let locked = |name: &str| spec.plugins.iter().any(|plugin| plugin.artefact == name);
    for (layer, members) in image.layers.iter().zip(members) {
        let Some(name) = layer.name.strip_prefix("plugin ").filter(|name| !locked(name)) else { continue };
        let Some(bundle) = members.iter().map(|member| member.entry.path.as_str()).find(|path| path.rsplit('/').next() == Some(name))
        else {
            continue;
        };
        // Where several keys are baked in, the image does not say which one is whose; one is what the command line takes.
        let [key] = keys[..] else { continue };
        inputs.plugins.push(PluginFile {
            name: name.to_owned(),
            path: Default::default(),
            sha256: Digest::of(bytes(bundle)?),
            signature: bytes(&format!("{bundle}.sig"))?,
            key: bytes(key)?,
        });
    }
    Ok(inputs)
}

/// Where an artefact comes from, as an address without any mirror's host.
pub fn address(origin: &Origin) -> String {
    match origin {
        Origin::Debian { repository, path } => format!("mirror://debian/{}{path}", if repository == "main" { "" } else { "security/" }),
        Origin::Url { url } => crate::store::http::without_password(url),
    }
}
