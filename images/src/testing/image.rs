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
        self.fill(&store);
        let locked = self.lock().bind("sample", Spec::parse(&self.spec(), "image.toml").unwrap(), "", &[]).unwrap();
        let layout = Layout::open(root).unwrap();
        build::build(&locked, &store, &Inputs::default(), &SiteInputs::default(), &layout, 2, &Silent).unwrap()
    }

    /// Makes a checkout at `root` that holds this image alone, with its packages in `target/store`.
    pub fn checkout(&self, root: &Path) {
        for (path, text) in [
            // By this file a checkout is known.
            ("images/src/lock.rs", String::new()),
            ("images/sample/image.toml", self.spec()),
            ("images/lock.json", self.lock().to_text()),
        ] {
            fs_err::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs_err::write(root.join(path), text).unwrap();
        }
        self.fill(&Store::open(&root.join("target/store")).unwrap());
    }

    fn fill(&self, store: &Store) {
        for (_, _, deb) in &self.packages {
            store.insert(deb.as_slice(), None, None).unwrap();
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.packages.iter().map(|(name, ..)| name.clone()).collect();
        names.sort();
        names
    }

    fn spec(&self) -> String {
        format!(
            "format = 1\ntitle = \"Sample\"\nversion = \"debian:{}\"\n[debian]\npackages = {:?}\n[config]\nuser = \"nobody\"\n{}",
            self.packages[0].0,
            self.names(),
            self.settings
        )
    }

    fn lock(&self) -> Lock {
        let artefact = |(name, version, deb): &(String, String, Vec<u8>)| Artefact {
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
        };
        Lock {
            format: FORMAT,
            debian: Archive { suite: "trixie".into(), architecture: "amd64".into(), indexes: BTreeMap::new() },
            groups: BTreeMap::from([("sample".into(), Group { requests: self.names(), without: vec![], packages: self.names() })]),
            artefacts: self.packages.iter().map(artefact).collect(),
            scripts: Vec::new(),
        }
    }
}
