//! What is in an image and who made it, for auditors: SPDX 2.3 from the lock and the image's own bytes.
//!
//! Nothing of it enters an image: a registry gets it as a referrer (`referrer`), so that papers never change a digest. The same
//! image, lock and `Cargo.lock` give the same bytes.

pub mod agreement;
pub mod licence;
mod parts;
pub mod provenance;
pub mod spdx;

use std::collections::BTreeMap;

pub use agreement::Subject;
use parts::Parts;
pub use parts::modules;
use spdx::{Document, Package};

use crate::build::RELEASE_LABEL;
use crate::digest::Digest;
use crate::error::Result;
use crate::lock::{Artefact, Kind, Origin, TOOLCHAIN};
use crate::oci;
use crate::programs::{Crate, Toolchain};
use crate::store::http::without_password;

/// What an SPDX document is called as an artefact of a registry.
pub const MEDIA_TYPE: &str = "application/spdx+json";

/// What of the toolchain is linked into each program: libc is static there.
const LINKED: [&str; 2] = ["libc6-dev", "libgcc-14-dev"];

/// The SPDX document of an image; `crates` are those of each of its programs ([`crate::programs::crates`]).
pub fn document(subject: &Subject<'_>, crates: &BTreeMap<String, Vec<Crate>>) -> Result<Document> {
    let image = subject.image;
    let parts = Parts::read(subject)?;
    let mut document = Document::new(&image.name, &image.digest, image.config["created"].as_str().unwrap_or("1970-01-01T00:00:00Z"));
    let mut paper = Package::new("image", &image.name, &subject.version, &image_purl(subject)).sha256(Some(image.digest));
    paper.purpose = Some("CONTAINER");
    let root = document.root(paper);
    for (name, package) in &subject.packages {
        let Some(artefact) = subject.lock.artefact(Kind::Deb, name) else { continue };
        let mut paper = debian(artefact, &subject.lock.debian.suite);
        debug_assert_eq!(artefact.version, package.version, "the subject was checked");
        if let Some(licences) = parts.copyrights.get(name).and_then(|text| licence::read(text, name)) {
            paper.licence = licences.expression;
            document.texts(licences.texts);
        }
        document.add(&root, "CONTAINS", paper);
    }
    for program in &subject.spec.programs {
        let digest = parts.programs.get(&program.destination).copied();
        let version = env!("CARGO_PKG_VERSION");
        let purl = format!("pkg:generic/{}@{version}", program.package);
        let mut paper = Package::new("program", &program.package, version, &purl).sha256(digest);
        paper.purpose = Some("APPLICATION");
        paper.licence = env!("CARGO_PKG_LICENSE").to_owned();
        let id = document.add(&root, "CONTAINS", paper);
        for found in crates.get(&program.package).into_iter().flatten() {
            let purl = format!("pkg:cargo/{}@{}", found.name, escaped(&found.version));
            let sha256 = found.sha256.as_deref().and_then(|sum| sum.parse().ok());
            document.add(&id, "STATIC_LINK", Package::new("crate", &found.name, &found.version, &purl).sha256(sha256));
        }
        let release = Toolchain::PINNED.release;
        document.add(&id, "STATIC_LINK", Package::new("rust", "rust-std", release, &format!("pkg:generic/rust-std@{release}")));
        let group = subject.lock.groups.get(TOOLCHAIN);
        for name in LINKED.iter().filter(|name| group.is_some_and(|group| group.packages.iter().any(|package| package == *name))) {
            if let Some(artefact) = subject.lock.artefact(Kind::Deb, name) {
                document.add(&id, "STATIC_LINK", debian(artefact, &subject.lock.debian.suite));
            }
        }
    }
    let mut release = None;
    for artefact in &subject.releases {
        release = Some(document.add(&root, "CONTAINS", vendor(artefact, image.config["config"]["Labels"][RELEASE_LABEL].as_str())));
    }
    for go in &parts.go {
        let owner = match &go.plugin {
            Some(plugin) => {
                let locked =
                    subject.lock.artefacts.iter().find(|artefact| artefact.kind == Kind::Plugin && artefact.sha256 == Some(plugin.sha256));
                let purl = format!("pkg:generic/{}@{}", escaped(&plugin.id), escaped(&plugin.version));
                let mut paper = Package::new("plugin", &plugin.id, &plugin.version, &purl).sha256(Some(plugin.sha256));
                paper.source = Some(format!("the bundle /{}", plugin.path));
                if let Some(Origin::Url { url }) = locked.map(|artefact| &artefact.from) {
                    paper.location = without_password(url);
                }
                document.add(release.as_ref().filter(|_| locked.is_none()).unwrap_or(&root), "CONTAINS", paper)
            }
            None => release.clone().unwrap_or_else(|| root.clone()),
        };
        for build in &go.builds {
            let std = build.go.trim_start_matches("go");
            document.add(&owner, "CONTAINS", Package::new("go", "stdlib", std, &format!("pkg:golang/stdlib@{}", escaped(std))));
            for module in &build.modules {
                let purl = format!("pkg:golang/{}@{}", module.path.to_lowercase(), escaped(&module.version));
                let mut paper = Package::new("go", &module.path, &module.version, &purl);
                paper.source = (!module.sum.is_empty()).then(|| format!("go.sum {}", module.sum));
                document.add(&owner, "CONTAINS", paper);
            }
        }
    }
    Ok(document)
}

/// The document's bytes, as a registry and people get them.
pub fn bytes(document: &Document) -> Vec<u8> {
    oci::canonical(document)
}

/// A Debian package as package URLs name it.
pub fn debian_purl(artefact: &Artefact, suite: &str) -> String {
    format!("pkg:deb/debian/{}@{}?arch={}&distro={suite}", escaped(&artefact.name), escaped(&artefact.version), artefact.architecture)
}

fn debian(artefact: &Artefact, suite: &str) -> Package {
    let mut paper = Package::new("deb", &artefact.name, &artefact.version, &debian_purl(artefact, suite)).sha256(artefact.sha256);
    let source = artefact.source.as_deref().unwrap_or(&artefact.name);
    paper.supplier = Some("Organization: Debian");
    paper.source = Some(format!("built from the source package {source}; {}", crate::store::from(&artefact.from)));
    paper
}

/// A vendor's release, or what stands in for it.
fn vendor(artefact: &Artefact, stand_in: Option<&str>) -> Package {
    let purl = format!("pkg:generic/{}@{}", escaped(&artefact.name), escaped(&artefact.version));
    let mut paper = Package::new("release", &artefact.name, &artefact.version, &purl).sha256(artefact.sha256);
    match (stand_in, &artefact.from) {
        (Some(what), _) => paper.source = Some(what.to_owned()),
        (None, Origin::Url { url }) => paper.location = without_password(url),
        (None, Origin::Debian { .. }) => {}
    }
    paper
}

fn image_purl(subject: &Subject<'_>) -> String {
    let repository = crate::contents::repository(&subject.image.name);
    format!(
        "pkg:oci/{repository}@sha256%3A{}?tag={}",
        subject.image.digest,
        escaped(subject.image.name.rsplit(':').next().unwrap_or_default())
    )
}

/// A part of a package URL: what is not a letter, a digit or one of `.-_~:` as `%XX`.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The manifest that hangs a paper on an image (OCI image-spec 1.1, "subject"), and the blobs that it names: its empty
/// configuration and the paper.
pub fn referrer(subject: &oci::Descriptor, media_type: &str, paper: Vec<u8>, annotations: BTreeMap<String, String>) -> Referrer {
    const EMPTY: &[u8] = b"{}";
    let descriptor = |media_type: &str, bytes: &[u8]| oci::Descriptor {
        annotations: BTreeMap::new(),
        digest: Digest::of(bytes).oci(),
        media_type: media_type.to_owned(),
        platform: None,
        size: bytes.len() as u64,
    };
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest<'a> {
        annotations: &'a BTreeMap<String, String>,
        artifact_type: &'a str,
        config: oci::Descriptor,
        layers: [oci::Descriptor; 1],
        media_type: &'a str,
        schema_version: u32,
        subject: oci::Descriptor,
    }
    let manifest = oci::canonical(&Manifest {
        annotations: &annotations,
        artifact_type: media_type,
        config: descriptor("application/vnd.oci.empty.v1+json", EMPTY),
        layers: [descriptor(media_type, &paper)],
        media_type: oci::MANIFEST,
        schema_version: 2,
        // The subject's name in a layout is nobody else's business.
        subject: oci::Descriptor { annotations: BTreeMap::new(), platform: None, ..subject.clone() },
    });
    Referrer { artifact_type: media_type.to_owned(), annotations, manifest, blobs: vec![EMPTY.to_vec(), paper] }
}

/// A paper as a registry or a layout takes it.
#[derive(Clone, Debug)]
pub struct Referrer {
    /// What it is.
    pub artifact_type: String,
    /// What its manifest says of it.
    pub annotations: BTreeMap<String, String>,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// What the manifest names.
    pub blobs: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests;
