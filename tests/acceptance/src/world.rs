//! What all claims share: the checkout, the images built from it once, and one Docker Engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use images::{Class, Error, Result};
use lab::Lab;
use serde::Deserialize;
use xtask::engine::{self, Started};
use xtask::machine::Machine;
use xtask::output::Output;
use xtask::process::Process;
use xtask::workspace::Workspace;

/// The images that need nothing but Debian's packages and our own programs.
pub const NAMES: [&str; 3] = ["alert-gateway", "coturn", "postgres"];

/// An image as `cargo xtask images --json` tells it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Image {
    /// `chatops/<name>:<version>`.
    pub name: String,
    /// The manifest's SHA-256.
    pub manifest: images::Digest,
    /// The configuration's SHA-256.
    pub config: images::Digest,
    /// From the bottom up.
    pub layers: Vec<images::oci::LayerRef>,
}

/// What all claims share.
pub struct World {
    /// The checkout.
    pub workspace: Workspace,
    /// Its machine.
    pub machine: Machine,
    images: OnceLock<Result<BTreeMap<String, Image>, String>>,
    xtask: OnceLock<Result<PathBuf, String>>,
    engine: OnceLock<Result<(), String>>,
    started: Mutex<Option<Started>>,
    lab: OnceLock<Result<Lab, String>>,
}

impl World {
    /// The checkout that this test is part of.
    pub fn open() -> Result<World> {
        let workspace = Workspace::find()?;
        let machine = Machine::of(&workspace);
        Ok(World {
            workspace,
            machine,
            images: OnceLock::new(),
            xtask: OnceLock::new(),
            engine: OnceLock::new(),
            started: Mutex::new(None),
            lab: OnceLock::new(),
        })
    }

    /// Ends the Engine, if it was started here.
    pub fn close(&self) {
        if let Some(started) = self.started.lock().unwrap().take() {
            started.stop(&mut Output::new());
        }
    }

    /// Where this test keeps what it makes: `target/acceptance`.
    pub fn folder(&self) -> PathBuf {
        let folder = self.workspace.target().join("acceptance");
        fs_err::create_dir_all(&folder).unwrap();
        folder
    }

    /// An empty folder that goes when it is dropped.
    pub fn scratch(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(self.folder()).unwrap()
    }

    /// The layout with the real images.
    pub fn layout(&self) -> PathBuf {
        self.folder().join("images")
    }

    /// The shared store.
    pub fn store(&self) -> PathBuf {
        self.workspace.target().join("store")
    }

    /// The release build of xtask: the program that `cargo xtask` starts.
    pub fn xtask(&self) -> Result<&Path> {
        let built = self.xtask.get_or_init(|| {
            let build = self.machine.process("cargo").args(["build", "--quiet", "--release", "--package", "xtask"]);
            build.capture().map_err(|error| error.to_string())?;
            Ok(self.workspace.target().join("release/xtask"))
        });
        built.as_deref().map_err(again)
    }

    /// `cargo xtask images` with `args`, in this checkout.
    pub fn images_verb(&self, args: &[&str]) -> Result<Process> {
        Ok(self.images_verb_in(self.workspace.root(), self.xtask()?, args))
    }

    /// The same in another checkout.
    pub fn images_verb_in(&self, checkout: &Path, xtask: &Path, args: &[&str]) -> Process {
        let verb = Process::new(xtask, checkout).arg("images").args(args);
        // cargo sets it for tests; the verb would take this checkout for the one that it is run in.
        verb.env_remove("CARGO_MANIFEST_DIR").env("PATH", self.machine.path())
    }

    /// Builds images with `args` into the shared layout; what was built, by the name of its folder.
    pub fn build(&self, args: &[&str]) -> Result<BTreeMap<String, Image>> {
        let layout = self.layout();
        let (layout, store) = (layout.display().to_string(), self.store().display().to_string());
        let fixed = ["--json", "--layout", &layout, "--store", &store];
        let printed = self.images_verb(&[args, &fixed].concat())?.text()?;
        Ok(parse(&printed))
    }

    /// Builds with `args`, expecting that it is refused; the words.
    pub fn refused(&self, args: &[&str]) -> Result<String> {
        let (layout, store) = (self.layout().display().to_string(), self.store().display().to_string());
        let outcome = self.images_verb(&[args, &["--layout", &layout, "--store", &store]].concat())?.outcome()?;
        assert!(!outcome.success(), "{args:?} was built");
        Ok(String::from_utf8_lossy(&outcome.stderr).into_owned())
    }

    /// The real images.
    pub fn images(&self) -> Result<&BTreeMap<String, Image>> {
        self.images.get_or_init(|| self.build(&NAMES).map_err(|error| error.to_string())).as_ref().map_err(again)
    }

    /// One of the real images.
    pub fn image(&self, name: &str) -> Result<&Image> {
        Ok(self.images()?.get(name).unwrap_or_else(|| panic!("{name} was not built")))
    }

    /// A LAN with an Engine of its own, made once; it ends with this.
    pub fn lab(&self) -> Result<&Lab> {
        self.lab
            .get_or_init(|| Lab::start(&self.machine, &self.folder().join("lab")).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(again)
    }

    /// Makes sure that a Docker Engine answers, once.
    pub fn engine(&self) -> std::result::Result<(), String> {
        let ready = self.engine.get_or_init(|| {
            let log = self.folder().join("dockerd.log");
            let started = engine::ensure(&self.machine, &log, &mut Output::new()).map_err(|error| error.to_string())?;
            *self.started.lock().unwrap() = started;
            Ok(())
        });
        ready.clone()
    }
}

/// What `--json` printed, by the name of the image's folder.
pub fn parse(printed: &str) -> BTreeMap<String, Image> {
    let images = printed.lines().map(|line| serde_json::from_str::<Image>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    images.map(|image| (image.name["chatops/".len()..].split(':').next().unwrap().to_owned(), image)).collect()
}

fn again(what: &String) -> Error {
    Error::new(Class::Build, format!("what the claims share could not be made:\n{what}"))
}
