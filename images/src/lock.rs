//! `images/lock.json` → [`Lock`]: every foreign byte by name, version, size, SHA-256 and origin, and what replaces each
//! maintainer script. Pure parsing and writing.
//!
//! Only a [`Locked`] spec can be built: it is made by [`Lock::bind`] alone, which checks that the lock answers the spec.

pub mod diff;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Class, Error, Result};
use crate::spec::Spec;

/// The lock's format. It fixes the tar dialect, the order of entries and layers, and the JSON form of what is built:
/// a new format never changes what an old lock builds.
pub const FORMAT: u32 = 1;

/// Vendors publish signatures with padding and without.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The group whose packages the programs are linked with.
pub const TOOLCHAIN: &str = "toolchain";

/// The packages of the group [`TOOLCHAIN`]: C runtime and compiler runtime, taken alone, without their dependencies.
pub const TOOLCHAIN_PACKAGES: [&str; 5] = ["libc6", "libc6-dev", "libgcc-14-dev", "libgcc-s1", "zlib1g"];

/// The whole lock file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The version of the grammar and of what it builds: 1.
    pub format: u32,
    /// Where the Debian packages were resolved.
    pub debian: Archive,
    /// Image name, or `toolchain` → what it asked for and what it got.
    pub groups: BTreeMap<String, Group>,
    /// Every foreign file, sorted by kind and name.
    pub artefacts: Vec<Artefact>,
    /// Treatment of maintainer scripts, sorted by name.
    pub scripts: Vec<Script>,
}

/// The Debian archive as it was when the lock was last resolved.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Codename: `trixie`.
    pub suite: String,
    /// Architecture: `amd64`.
    pub architecture: String,
    /// Repository (`main`, `security`) → the index that was read. An older one is refused.
    pub indexes: BTreeMap<String, Index>,
}

/// One signed index.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The `Date` field of `InRelease`, as it stands there.
    pub date: String,
    /// SHA-256 of the uncompressed or compressed `Packages` file that was read, as `InRelease` names it.
    pub packages: Digest,
}

/// What a spec asked for and what the resolver chose.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// `debian.packages` of the spec, sorted.
    pub requests: Vec<String>,
    /// Keys of `debian.without` of the spec, sorted.
    pub without: Vec<String>,
    /// The chosen closure, sorted by name.
    pub packages: Vec<String>,
}

/// One foreign file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Package or release name.
    pub name: String,
    /// The full version: a Debian version with epoch and revision, or the vendor's.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes. Absent while no one has seen a vendor's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256. Absent for a plugin that is pinned by signature and was not verified yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Where it comes from.
    pub from: Origin,
    /// Debian source package, where its name differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Detached OpenPGP signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Maintainer scripts: `postinst` and so on → SHA-256.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scripts: BTreeMap<String, Digest>,
}

/// What an artefact is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A Debian package.
    Deb,
    /// A vendor's release tarball.
    Release,
    /// A plugin bundle.
    Plugin,
}

/// Where a file comes from. No mirror's host stands in a lock.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(untagged, deny_unknown_fields)]
pub enum Origin {
    /// A Debian repository (`main`, `security`) and the pool path in it.
    Debian {
        /// `main` or `security`.
        repository: String,
        /// Such as `pool/main/c/coturn/coturn_4.6.1-2_amd64.deb`.
        path: String,
    },
    /// A vendor's address.
    Url {
        /// The whole URL.
        url: String,
    },
}

impl Origin {
    /// The file's name.
    pub fn file_name(&self) -> &str {
        let path = match self {
            Origin::Debian { path, .. } => path,
            Origin::Url { url } => url,
        };
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// A detached OpenPGP signature and the key that has to have made it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Fingerprint of the primary key: 40 upper-case hex digits.
    pub fingerprint: String,
    /// The binary signature in base64.
    pub base64: String,
}

impl Signature {
    /// The binary signature: what the `.sig` file holds. Padding may be missing.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        BASE64
            .decode(&self.base64)
            .map_err(|error| Error::new(Class::Usage, "a signature in the lock is not base64").detail(error.to_string()))
    }
}

/// The ledger's line for one maintainer script.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Where it was seen first, such as `base-files.postinst`.
    pub name: String,
    /// SHA-256 of the script.
    pub sha256: Digest,
    /// What stands in for it.
    pub treatment: Treatment,
    /// Why that is enough, in one sentence.
    pub reason: String,
}

/// What stands in for a maintainer script, which is never run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// `[[account]]` and `[[path]]` of the spec.
    Accounts,
    /// The assembler makes the CA bundle.
    CaBundle,
    /// Libraries lie in default folders, which `elf.rs` proves.
    Ldconfig,
    /// `[[link]]` of the spec.
    Links,
    /// Nothing: it has no effect in an image.
    None,
}

/// A spec together with everything it needs from the lock. What takes a `Locked` cannot be called with less.
#[derive(Clone, Debug)]
pub struct Locked {
    name: String,
    spec: Spec,
    packages: Vec<Artefact>,
    releases: Vec<Artefact>,
    plugins: Vec<Artefact>,
}

impl Locked {
    /// The image's name: its folder's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the image holds.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Debian packages, sorted by name.
    pub fn packages(&self) -> &[Artefact] {
        &self.packages
    }

    /// The release for each `[[release]]`, in the spec's order, in the chosen edition.
    pub fn releases(&self) -> &[Artefact] {
        &self.releases
    }

    /// The bundle for each `[[plugin]]`, in the spec's order.
    pub fn plugins(&self) -> &[Artefact] {
        &self.plugins
    }

    /// Everything that has to be in the store.
    pub fn artefacts(&self) -> impl Iterator<Item = &Artefact> {
        self.packages.iter().chain(&self.releases).chain(&self.plugins)
    }
}

impl Lock {
    /// Reads a lock; `file` is its name in errors.
    pub fn parse(text: &str, file: &str) -> Result<Lock> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let wrong = |error: serde_json::Error| {
            Error::new(Class::Usage, format!("{file} is not a valid lock"))
                .detail(error.to_string())
                .hint("`cargo xtask images lock` writes it; restore it from version control")
        };
        let head: Head = serde_json::from_str(text).map_err(wrong)?;
        if head.format != FORMAT {
            return Err(Error::new(Class::Usage, format!("{file} has format {}; this xtask reads format {FORMAT}", head.format))
                .hint("use the xtask of the checkout that the lock belongs to"));
        }
        serde_json::from_str(text).map_err(wrong)
    }

    /// The file's text: sorted, one field a line, with a newline at the end.
    pub fn to_text(&self) -> String {
        let mut sorted = self.clone();
        sorted.artefacts.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        sorted.scripts.sort_by(|a, b| (&a.name, a.sha256).cmp(&(&b.name, b.sha256)));
        for group in sorted.groups.values_mut() {
            for list in [&mut group.requests, &mut group.without, &mut group.packages] {
                list.sort();
            }
        }
        let mut text = serde_json::to_string_pretty(&sorted).unwrap_or_else(|error| unreachable!("a lock is plain data: {error}"));
        text.push('\n');
        text
    }

    /// The artefact of that kind and name.
    pub fn artefact(&self, kind: Kind, name: &str) -> Option<&Artefact> {
        self.artefacts.iter().find(|artefact| artefact.kind == kind && artefact.name == name)
    }

    /// Everything by which the specs, the ledger and the lock disagree; empty is good. Needs no network.
    pub fn disagreements(&self, specs: &BTreeMap<String, Spec>) -> Vec<String> {
        let mut found = Vec::new();
        let mut used = BTreeSet::new();
        let mut want = |kind: Kind, name: &str, by: &str, found: &mut Vec<String>| {
            if self.artefact(kind, name).is_none() {
                found.push(format!("{by} needs {name}, which the lock does not pin"));
            }
            used.insert((kind, name.to_owned()));
        };
        for (image, spec) in specs {
            match self.groups.get(image) {
                Some(group) if group.answers(spec) => {}
                Some(_) => found.push(format!("{image}: image.toml asks for other packages than the lock answers")),
                None => found.push(format!("{image}: not in the lock")),
            }
            let releases = spec.releases.iter().flat_map(|release| release.editions.values());
            releases.for_each(|name| want(Kind::Release, name, image, &mut found));
            spec.plugins.iter().for_each(|plugin| want(Kind::Plugin, &plugin.artefact, image, &mut found));
        }
        for (name, group) in &self.groups {
            group.packages.iter().for_each(|package| want(Kind::Deb, package, name, &mut found));
            if name != TOOLCHAIN && !specs.contains_key(name) {
                found.push(format!("{name}: in the lock, but there is no such image"));
            }
        }
        if self.groups.get(TOOLCHAIN).is_none_or(|group| group.packages != TOOLCHAIN_PACKAGES) {
            found.push(format!("{TOOLCHAIN}: the lock does not pin {}", TOOLCHAIN_PACKAGES.join(", ")));
        }
        for artefact in &self.artefacts {
            if !used.contains(&(artefact.kind, artefact.name.clone())) {
                found.push(format!("{}: pinned, but no image needs it", artefact.name));
            }
            for (script, sha256) in &artefact.scripts {
                if !self.scripts.iter().any(|entry| entry.sha256 == *sha256) {
                    found.push(format!("{}.{script}: the ledger has no treatment for {sha256}", artefact.name));
                }
            }
        }
        for entry in &self.scripts {
            if !self.artefacts.iter().any(|artefact| artefact.scripts.values().any(|sha256| *sha256 == entry.sha256)) {
                found.push(format!("{}: in the ledger, but no pinned package has this script", entry.name));
            }
        }
        found
    }

    /// Binds a spec to its artefacts. `edition` chooses among the spec's releases; `without_plugins` names plugins that
    /// are left out on purpose.
    pub fn bind(&self, name: &str, spec: Spec, edition: &str, without_plugins: &[String]) -> Result<Locked> {
        let stale = || {
            Error::new(Class::Check, format!("images/lock.json does not answer images/{name}/image.toml")).hint("cargo xtask images lock")
        };
        let group = self.groups.get(name).filter(|group| group.answers(&spec)).ok_or_else(stale)?;
        let find = |kind, artefact: &str| self.artefact(kind, artefact).cloned().ok_or_else(stale);
        let packages = group.packages.iter().map(|package| find(Kind::Deb, package)).collect::<Result<_>>()?;
        let mut releases = Vec::new();
        for release in &spec.releases {
            let artefact = match release.editions.len() {
                1 => release.editions.values().next(),
                _ => release.editions.get(edition),
            };
            let artefact = artefact.ok_or_else(|| {
                let known = release.editions.keys().cloned().collect::<Vec<_>>().join(", ");
                Error::new(Class::Usage, format!("{name} has no edition \"{edition}\"")).detail(format!("expected one of: {known}"))
            })?;
            releases.push(find(Kind::Release, artefact)?);
        }
        let mut spec = spec;
        spec.plugins.retain(|plugin| !without_plugins.contains(&plugin.artefact));
        let plugins: Vec<Artefact> = spec.plugins.iter().map(|plugin| find(Kind::Plugin, &plugin.artefact)).collect::<Result<_>>()?;
        if let Some(plugin) = plugins.iter().find(|plugin| plugin.sha256.is_none()) {
            return Err(Error::new(Class::Check, format!("plugin \"{}\" has not been verified yet", plugin.name))
                .detail(format!("the lock names its address and signature, but no SHA-256: {}", plugin.from.file_name()))
                .hint(format!(
                    "`cargo xtask images lock --update {0}` fetches and verifies it, `cargo xtask images add {1}` takes a file; \
                     or build with --without-plugin {0}",
                    plugin.name,
                    plugin.from.file_name()
                )));
        }
        Ok(Locked { name: name.to_owned(), spec, packages, releases, plugins })
    }
}

impl Group {
    /// Whether this is the answer to what `spec` asks.
    pub fn answers(&self, spec: &Spec) -> bool {
        let mut requests = spec.debian.packages.clone();
        requests.sort();
        self.requests == requests && self.without.iter().eq(spec.debian.without.keys())
    }
}
