//! `cargo xtask images sbom NAME`: what is in an image, as SPDX.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;

use images::contents::{Image, Place, repository};
use images::file::write_beside;
use images::lock::Lock;
use images::programs::{self, Crate};
use images::sbom::provenance::{self, Source};
use images::sbom::{self, Subject};
use images::spec::Spec;
use images::{Class, Digest, Error, Result};

use crate::output::Output;
use crate::process::Process;
use crate::workspace::Workspace;

/// Tell what is in an image as SPDX 2.3: packages, licences, hashes, crates, Go modules, plugins
///
/// The image is read from the layout and has to be what lock and spec make. The same image gives the same bytes.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    paper: PaperArgs,
}

/// About which image, and where the paper goes.
#[derive(clap::Args)]
pub struct PaperArgs {
    /// The image: coturn, or chatops/coturn:4.6.1
    name: String,
    /// Layout folder, or a file that --archive wrote [default: target/images]
    #[arg(long, value_name = "DIR|FILE")]
    layout: Option<PathBuf>,
    /// Write it into a file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Tells.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let made = args.paper.made()?;
    args.paper.write(&made.sbom()?, out)
}

/// An image of a layout, with what it was made from.
pub struct Made {
    workspace: Workspace,
    lock: Lock,
    spec: Spec,
    image: Image,
}

impl Made {
    /// Reads the image `name` of `place`, and the lock and spec of this checkout.
    pub fn read(workspace: &Workspace, place: &Place, name: &str) -> Result<Self> {
        let image = place.image(name)?;
        let name = repository(&image.name).to_owned();
        let spec = workspace.read_specs(std::slice::from_ref(&name))?.remove(&name);
        let spec = spec.ok_or_else(|| Error::new(Class::Usage, format!("there is no image \"{name}\"")))?;
        Ok(Made { workspace: workspace.clone(), lock: workspace.read_lock()?, spec, image })
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The image, once it was found to be what lock and spec make.
    pub fn subject(&self) -> Result<Subject<'_>> {
        Subject::check(&self.image, &self.lock, &self.spec, &self.workspace.image(repository(&self.image.name)))
    }

    /// Its SPDX document.
    pub fn sbom(&self) -> Result<Vec<u8>> {
        let names = self.spec.programs.iter().map(|program| program.package.as_str());
        let crates = crates(&self.workspace, names)?;
        Ok(sbom::bytes(&sbom::document(&self.subject()?, &crates)?))
    }

    /// Its provenance: an in-toto statement.
    pub fn provenance(&self, out: &mut Output) -> Result<Vec<u8>> {
        self.provenance_as_pushed(None, out)
    }

    /// The same, also about the manifest `pushed` where that is another.
    pub fn provenance_as_pushed(&self, pushed: Option<&Digest>, out: &mut Output) -> Result<Vec<u8>> {
        Ok(provenance::statement(&self.subject()?, &source(&self.workspace, repository(&self.image.name), out)?, pushed))
    }
}

/// The crates of others that are compiled into each of the programs `names`: of those that `Cargo.lock` has, also for other systems
/// and for features that are off, cargo knows which.
pub fn crates<'a>(workspace: &Workspace, names: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, Vec<Crate>>> {
    let mut crates = programs::crates(workspace.root(), names)?;
    for (program, all) in &mut crates {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let tree = Process::new(cargo, workspace.root())
            .args(["tree", "--quiet", "--locked", "--offline", "--package", program, "--target", programs::TARGET])
            .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
            .text()?;
        // `name vVERSION`, and for some a place.
        let compiled: BTreeSet<String> = tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        all.retain(|one| compiled.contains(&format!("{} v{}", one.name, one.version)));
    }
    Ok(crates)
}

/// What this checkout is: its commit, if git knows one, and the locks.
fn source(workspace: &Workspace, image: &str, out: &mut Output) -> Result<Source> {
    let git = |args: &[&str]| Process::new("git", workspace.root()).args(args).text();
    let commit = match workspace.root().join(".git").exists() {
        true => Some(git(&["rev-parse", "HEAD"])?.trim().to_owned()),
        false => None,
    };
    // Files that git does not know build nothing: every source is committed or changed.
    let modified = commit.is_some() && !git(&["status", "--porcelain", "--untracked-files=no"])?.trim().is_empty();
    match (&commit, modified) {
        (None, _) => out.say("this is no git checkout: the provenance names no commit"),
        (Some(_), true) => out.say("files of this checkout are not committed: the provenance says so"),
        (Some(_), false) => {}
    }
    let file = |path: &str| Ok((path.to_owned(), Digest::of_file(&workspace.root().join(path))?.0));
    let files = [file("Cargo.lock"), file("images/lock.json"), file(&format!("images/{image}/image.toml"))];
    Ok(Source { commit, modified, files: files.into_iter().collect::<Result<_>>()? })
}

impl PaperArgs {
    /// The image.
    pub fn made(&self) -> Result<Made> {
        let workspace = Workspace::find()?;
        let layout = self.layout.clone().unwrap_or_else(|| workspace.target().join("images"));
        Made::read(&workspace, &Place::open(&layout)?, &self.name)
    }

    /// Writes a paper where it is wanted, byte for byte as a registry would get it.
    pub fn write(&self, paper: &[u8], out: &mut Output) -> Result<()> {
        match &self.output {
            Some(file) => {
                write_beside(file, paper, 0o644)?;
                out.say(format!("wrote {}", file.display()));
                Ok(())
            }
            None => Ok(std::io::stdout().write_all(paper)?),
        }
    }
}
