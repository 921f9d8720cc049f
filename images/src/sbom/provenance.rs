//! How an image came to be: an in-toto statement v1 with SLSA's provenance v1, from the lock and the source's revision.
//!
//! Neither clock nor machine is in it: an image that anybody can make again is not better known for who made it when.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::Subject;
use super::agreement::address;
use crate::digest::Digest;
use crate::lock::{Artefact, FORMAT};
use crate::oci;
use crate::programs::Toolchain;

/// What an in-toto statement is called as an artefact of a registry.
pub const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// What the statement says: SLSA 1.0, "Provenance".
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// How the build is to be read: `images/lock.json` and an `image.toml` go into `cargo xtask images`.
const BUILD_TYPE: &str = "urn:chatops:cargo-xtask-images:v1";
const BUILDER: &str = "urn:chatops:cargo-xtask";

/// The checkout that an image was made from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The commit, where the checkout is git's.
    pub commit: Option<String>,
    /// Whether files differ from that commit.
    pub modified: bool,
    /// Files that decide the image, by path from the top of the checkout.
    pub files: BTreeMap<String, Digest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, Value>,
    digest: BTreeMap<&'static str, String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
}

impl Descriptor {
    fn sha256(name: &str, sha256: &Digest) -> Self {
        Descriptor {
            annotations: BTreeMap::new(),
            digest: BTreeMap::from([("sha256", sha256.to_string())]),
            name: name.to_owned(),
            uri: None,
        }
    }

    fn artefact(artefact: &Artefact, stand_in: Option<&str>) -> Option<Self> {
        let mut one = Descriptor::sha256(&artefact.name, &artefact.sha256?);
        one.annotations.insert("version", artefact.version.clone().into());
        match stand_in {
            Some(what) => _ = one.annotations.insert("standsIn", what.into()),
            None => one.uri = Some(address(&artefact.from)),
        }
        Some(one)
    }
}

/// The statement's bytes, as a registry and people get them. `pushed` is the manifest of the same image with compressed layers, where
/// a registry has it so: whoever holds a statement against an image compares digests.
pub fn statement(subject: &Subject<'_>, source: &Source, pushed: Option<&Digest>) -> Vec<u8> {
    let image = subject.image;
    let mut dependencies = Vec::new();
    if let Some(commit) = &source.commit {
        dependencies.push(Descriptor {
            annotations: BTreeMap::from([("modified", source.modified.into())]),
            digest: BTreeMap::from([("gitCommit", commit.clone())]),
            name: "source".to_owned(),
            uri: None,
        });
    }
    dependencies.extend(source.files.iter().map(|(path, sha256)| Descriptor::sha256(path, sha256)));
    let is_release = |artefact: &Artefact| subject.releases.iter().any(|release| release.name == artefact.name);
    let stand_in = |artefact: &Artefact| subject.stand_in().filter(|_| is_release(artefact));
    dependencies.extend(subject.artefacts().filter_map(|artefact| Descriptor::artefact(artefact, stand_in(artefact))));
    let manifests = std::iter::once(&image.digest).chain(pushed.filter(|digest| **digest != image.digest));
    let manifests: Vec<Value> = manifests.map(|digest| json!({ "digest": { "sha256": digest.to_string() }, "name": image.name })).collect();
    let layers: Vec<&str> = image.layers.iter().map(|layer| layer.name.as_str()).collect();
    let toolchain = Toolchain::PINNED;
    oci::canonical(&json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": { "image": crate::contents::repository(&image.name), "layers": layers },
                "internalParameters": {
                    "format": FORMAT,
                    "inputs": image.config["config"]["Labels"][crate::build::INPUTS_LABEL],
                    "rustc": { "commit": toolchain.commit, "release": toolchain.release },
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": { "builder": { "id": BUILDER, "version": { "xtask": env!("CARGO_PKG_VERSION") } } },
        },
        "predicateType": PREDICATE,
        "subject": manifests,
    }))
}
