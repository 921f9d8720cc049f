//! What is measured: the real images, and files made for the purpose. Everything lies below one folder, on one disk.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use images::lock::{Kind, Lock};
use images::oci::LayerRef;
use images::progress::human;
use images::{Class, Context, Digest, Error, Result};
use serde::Deserialize;
use xtask::output::Output;
use xtask::process::Process;
use xtask::workspace::Workspace;

use crate::ar;
use crate::tarball::Shape;

/// An image that is measured.
#[derive(Debug)]
pub struct Image {
    /// Its name.
    pub name: &'static str,
    /// The package of its runtime layer that is upgraded.
    pub upgraded: &'static str,
    /// Whether the made tarball stands in for the vendor's release.
    pub release: bool,
}

/// All of them.
pub const IMAGES: &[Image] = &[
    Image { name: "coturn", upgraded: "coturn", release: false },
    Image { name: "postgres", upgraded: "libpq5", release: false },
    Image { name: "mattermost", upgraded: "tidy", release: true },
];

/// The folders of a benchmark.
pub struct Bench {
    /// `target/release/xtask`.
    pub xtask: PathBuf,
    /// Where everything lies.
    pub output: PathBuf,
    /// Runs of each measurement.
    pub runs: usize,
    /// The checkout.
    checkout: Workspace,
    /// A copy of the checkout, whose lock may be changed.
    workspace: PathBuf,
    certificates: Cell<usize>,
}

/// What one image is made of, on this disk.
pub struct Material {
    /// Which.
    pub image: &'static Image,
    /// Package files: name in the pool, file.
    pub packages: Vec<(String, PathBuf)>,
    /// The tarball.
    pub tarball: Option<PathBuf>,
    /// The lock as it is, and with one package upgraded.
    pub locks: [String; 2],
}

/// What `images --json` prints.
#[derive(Clone, Debug, Deserialize)]
pub struct Built {
    /// From the bottom up.
    pub layers: Vec<LayerRef>,
    /// Whether anything was made.
    pub fresh: bool,
}

impl Bench {
    /// Makes the folders, and the copy of the checkout.
    pub fn prepare(xtask: PathBuf, output: PathBuf, runs: usize, out: &mut Output) -> Result<Bench> {
        let checkout = Workspace::find()?;
        fs_err::create_dir_all(&output)?;
        let output = fs_err::canonicalize(output)?;
        let bench = Bench {
            xtask: fs_err::canonicalize(xtask)?,
            workspace: output.join("workspace"),
            output,
            runs,
            checkout,
            certificates: Cell::new(0),
        };
        out.say(format!("scratch files are in {}", bench.output.display()));
        if bench.workspace.exists() {
            fs_err::remove_dir_all(&bench.workspace)?;
        }
        for part in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "images", "tests", "xtask"] {
            copy(&bench.checkout.root().join(part), &bench.workspace.join(part))?;
        }
        // Compiling our programs is cargo's work, not the assembler's: both sides of a comparison find them made.
        let programs = bench.checkout.target().join("programs");
        fs_err::create_dir_all(&programs)?;
        fs_err::create_dir_all(bench.workspace.join("target"))?;
        fs_err::os::unix::fs::symlink(programs, bench.workspace.join("target/programs"))?;
        Ok(bench)
    }

    /// The command that builds an image of the copied checkout into `layout`, with the network out of play.
    pub fn build(&self, material: &Material, layout: &Path) -> Process {
        let process = Process::new(&self.xtask, &self.workspace)
            .args(["images", material.image.name, "--offline", "--json", "--store"])
            .arg(self.store())
            .arg("--layout")
            .arg(layout)
            .env("CARGO_MANIFEST_DIR", self.workspace.join("xtask"));
        with_tarball(process, material.tarball.as_deref())
    }

    /// The command that builds an image of the checkout into `layout`, with whatever it takes.
    pub fn image(&self, name: &str, layout: &Path) -> Process {
        let process = Process::new(&self.xtask, self.checkout.root()).args(["images", name, "--no-ca", "--json", "--layout"]);
        process.arg(layout).env("CARGO_MANIFEST_DIR", self.checkout.root().join("xtask"))
    }

    /// Runs of other builders: what they differ by is seen in three, and with more nobody would wait for the end.
    pub fn peer_runs(&self) -> usize {
        self.runs.min(3)
    }

    /// The store: hard links to the checkout's blobs, and a memory of its own.
    pub fn store(&self) -> PathBuf {
        self.output.join("store")
    }

    /// An empty folder for one measurement.
    pub fn empty(&self, name: &str) -> Result<PathBuf> {
        let folder = self.output.join(name);
        if folder.exists() {
            fs_err::remove_dir_all(&folder)?;
        }
        fs_err::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Writes the lock of the copied checkout.
    pub fn set_lock(&self, lock: &str) -> Result<()> {
        Ok(fs_err::write(self.workspace.join("images/lock.json"), lock)?)
    }

    /// A CA that no image has seen.
    pub fn new_ca(&self) -> Result<PathBuf> {
        let number = self.certificates.replace(self.certificates.get() + 1);
        let folder = self.output.join("ca");
        fs_err::create_dir_all(&folder)?;
        let settings = folder.join("openssl.cnf");
        fs_err::write(
            &settings,
            "[req]\ndistinguished_name=dn\nx509_extensions=ca\nprompt=no\n[dn]\nCN=Benchmark\n[ca]\nbasicConstraints=critical,CA:TRUE\n",
        )?;
        let file = folder.join(format!("{number}.pem"));
        Process::new("openssl", &folder)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "/dev/null"])
            .args(["-subj", &format!("/CN=Benchmark {number}"), "-days", "30", "-config"])
            .arg(&settings)
            .arg("-out")
            .arg(&file)
            .brought_by("apt-get install openssl")
            .capture()?;
        Ok(file)
    }

    /// Brings and makes what `image` is made of. The first build fetches packages and compiles our programs; it is not timed.
    pub fn material(&self, image: &'static Image, out: &mut Output) -> Result<Material> {
        let tarball = image.release.then(|| self.tarball(out)).transpose()?;
        let first = Process::new(&self.xtask, self.checkout.root())
            .args(["images", image.name, "--layout"])
            .arg(self.empty("layout")?)
            .env("CARGO_MANIFEST_DIR", self.checkout.root().join("xtask"));
        with_tarball(first, tarball.as_deref()).capture().context(|| "the build before the measurements")?;

        let lock = self.checkout.read_lock()?;
        let group = |name: &str| lock.groups.get(name).map(|group| group.packages.clone()).unwrap_or_default();
        let blobs = self.checkout.target().join("store/blobs/sha256");
        let ours = self.store().join("blobs/sha256");
        fs_err::create_dir_all(&ours)?;
        let mut packages = Vec::new();
        for (name, packed) in
            group(image.name).iter().map(|name| (name, true)).chain(group(images::lock::TOOLCHAIN).iter().map(|name| (name, false)))
        {
            let artefact = lock.artefact(Kind::Deb, name).ok_or_else(|| Error::new(Class::Check, format!("the lock has no {name}")))?;
            let sha256 = artefact.sha256.unwrap_or(Digest::of("")).to_string();
            link(&blobs.join(&sha256), &ours.join(&sha256))?;
            if packed {
                packages.push((artefact.from.file_name().to_owned(), ours.join(&sha256)));
            }
        }
        let upgraded = self.upgraded(&lock, image.upgraded)?;
        Ok(Material { image, packages, tarball, locks: [lock.to_text(), upgraded] })
    }

    /// The lock with another version of one package, which is in the store then.
    fn upgraded(&self, lock: &Lock, name: &str) -> Result<String> {
        let mut lock = lock.clone();
        let artefact = lock.artefacts.iter_mut().find(|artefact| artefact.kind == Kind::Deb && artefact.name == name);
        let artefact = artefact.ok_or_else(|| Error::new(Class::Check, format!("the lock has no {name}")))?;
        let blobs = self.store().join("blobs/sha256");
        let package = fs_err::read(blobs.join(artefact.sha256.unwrap_or(Digest::of("")).to_string()))?;
        let made = ar::upgraded(&package, "+bench1").context(|| name.to_owned())?;
        let sha256 = Digest::of(&made);
        fs_err::write(blobs.join(sha256.to_string()), &made)?;
        artefact.version.push_str("+bench1");
        (artefact.size, artefact.sha256) = (Some(made.len() as u64), Some(sha256));
        Ok(lock.to_text())
    }

    fn tarball(&self, out: &mut Output) -> Result<PathBuf> {
        let shape = Shape::release();
        let file = self.output.join(shape.file_name());
        if !file.exists() {
            out.say("making the Mattermost-shaped tarball, once");
            let beside = self.output.join("tarball.partial");
            shape.write(std::io::BufWriter::with_capacity(1 << 20, fs_err::File::create(&beside)?))?;
            fs_err::rename(&beside, &file)?;
        }
        out.say(format!("{}: {}", file.display(), human(fs_err::metadata(&file)?.len())));
        Ok(file)
    }
}

impl Material {
    /// Bytes of everything that is read: packages and tarball.
    pub fn packed_bytes(&self) -> u64 {
        let files = self.packages.iter().map(|(_, path)| path).chain(&self.tarball);
        files.filter_map(|path| fs_err::metadata(path).ok()).map(|file| file.len()).sum()
    }
}

/// What a build printed.
pub fn built(process: &Process) -> Result<Built> {
    let outcome = process.capture()?;
    serde_json::from_slice(&outcome.stdout).map_err(std::io::Error::from).context(|| "reading what `images --json` printed")
}

fn with_tarball(process: Process, tarball: Option<&Path>) -> Process {
    match tarball {
        Some(file) => process.arg("--mattermost").arg(file).args(["--without-plugin", "jenkins"]),
        None => process,
    }
}

/// A second name for a file; a copy where the file system cannot do that.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    if !to.exists() && fs_err::hard_link(from, to).is_err() {
        fs_err::copy(from, to)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        if let Some(folder) = to.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::copy(from, to)?;
        return Ok(());
    }
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
