//! Whole images of packages that tests make.

use std::collections::BTreeMap;
use std::path::Path;

use crate::build::{self, Built, Inputs, SiteInputs};
use crate::digest::Digest;
use crate::layout::Layout;
use crate::lock::{Archive, Artefact, FORMAT, Group, Kind, Lock, Origin};
use crate::progress::Silent;
use crate::spec::Spec;
use crate::store::Store;

use super::DebBuilder;

/// An image `chatops/sample` of some packages; its version is that of the first.
#[derive(Clone, Default)]
pub struct SampleImage {
    packages: Vec<(String, String, Vec<u8>)>,
    settings: String,
}

impl SampleImage {
    /// Adds a package.
    pub fn package(mut self, name: &str, version: &str, make: impl FnOnce(DebBuilder) -> DebBuilder) -> Self {
        self.packages.push((name.to_owned(), version.to_owned(), make(DebBuilder::new(name, version)).build()));
        self
    }

    /// Adds lines to the end of the spec, whose last table is `[config]`.
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings = toml.to_owned();
        self
    }

    /// Builds it into the layout at `root`.
    pub fn build(&self, root: &Path) -> Built {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut artefacts = Vec::new();
        for (name, version, deb) in &self.packages {
            store.insert(deb.as_slice(), None, None).unwrap();
            artefacts.push(Artefact {
                name: name.clone(),
                version: version.clone(),
                architecture: "amd64".into(),
                kind: Kind::Deb,
                size: Some(deb.len() as u64),
                sha256: Some(Digest::of(deb)),
                from: Origin::Debian { repository: "main".into(), path: format!("pool/{name}.deb") },
                source: None,
                signature: None,
                scripts: BTreeMap::new(),
            });
        }
        let mut names: Vec<String> = artefacts.iter().map(|artefact| artefact.name.clone()).collect();
        let text = format!(
            "format = 1\ntitle = \"Sample\"\nversion = \"debian:{}\"\n[debian]\npackages = {names:?}\n[config]\nuser = \"nobody\"\n{}",
            names[0], self.settings
        );
        names.sort();
        let lock = Lock {
            format: FORMAT,
            debian: Archive { suite: "trixie".into(), architecture: "amd64".into(), indexes: BTreeMap::new() },
            groups: BTreeMap::from([("sample".into(), Group { requests: names.clone(), without: vec![], packages: names })]),
            artefacts,
            scripts: Vec::new(),
        };
        let locked = lock.bind("sample", Spec::parse(&text, "image.toml").unwrap(), "", &[]).unwrap();
        let layout = Layout::open(root).unwrap();
        build::build(&locked, &store, &Inputs::default(), &SiteInputs::default(), &layout, 2, &Silent).unwrap()
    }
}
