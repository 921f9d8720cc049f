//! `cargo xtask images fetch`: everything that builds will need, so that they can do without a network.

use images::lock::{Artefact, Kind, Lock, TOOLCHAIN};
use images::progress::human;
use images::spec::Spec;
use images::store::Options;
use images::{Class, Error, Result, Store};

use super::options::{EditionArgs, StoreArgs};
use crate::mirror::MirrorArgs;
use crate::nix::{Nix, Nixpkgs, blobs};
use crate::output::Output;
use crate::process::Process;
use crate::workspace::Workspace;

/// Fill the store and cargo's cache with everything that the images need, for builds without a network
#[derive(clap::Args)]
pub struct Args {
    /// Images to fetch for; all of them where none is named
    names: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    edition: EditionArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Put everything into the Nix store too, with the Rust distribution and every crate: `nix build` then fetches nothing of its own
    #[arg(long)]
    nix: bool,
    /// Which store that is: the user's, or with `shim` the one below target/nix (docs/nix.md)
    #[arg(long, value_enum, value_name = "NIXPKGS", default_value_t, requires = "nix")]
    nixpkgs: Nixpkgs,
}

/// Fetches the artefacts of the lock, then the crates of the programs. Neither stops the other.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let lock = workspace.read_lock()?;
    let has_programs = workspace.read_specs(&args.names)?.values().any(|spec| !spec.programs.is_empty());
    let wants = wants(&workspace, &args.names, &args.edition.edition)?;
    let store = Store::open(&args.store.root(&workspace))?;
    let wants: Vec<&Artefact> = wants.iter().collect();
    let files = bring(&store, &wants, &lock, &args.mirrors, out);
    let target = if args.nix { None } else { Some(images::programs::TARGET) };
    let crates = if has_programs || args.nix { fetch_crates(&workspace, target) } else { Ok(()) };
    // What could be had goes there, whatever else could not.
    let through_nix = if args.nix { into_nix(args, &workspace, &store, &lock, out) } else { Ok(()) };
    let crates = crates.and(through_nix);
    match (files, crates) {
        (Ok(()), Ok(())) => {
            let mut seen = std::collections::BTreeSet::new();
            let unique = wants.iter().filter(|artefact| seen.insert(artefact.sha256));
            let (count, bytes) = unique.fold((0, 0), |(count, bytes), artefact| (count + 1, bytes + artefact.size.unwrap_or(0)));
            let files = if count == 1 { "file" } else { "files" };
            out.result(format!("{count} {files}, {}, in {}", human(bytes), args.store.root(&workspace).display()));
            Ok(())
        }
        (Err(error), Ok(())) | (Ok(()), Err(error)) => Err(error),
        (Err(files), Err(crates)) => {
            out.error(&crates);
            Err(files)
        }
    }
}

/// Every foreign file that building these images takes, or all images where none is named.
pub fn wants(workspace: &Workspace, names: &[String], edition: &str) -> Result<Vec<Artefact>> {
    let lock = workspace.read_lock()?;
    let specs = workspace.read_specs(names)?;
    let has_programs = specs.values().any(|spec| !spec.programs.is_empty());
    let mut wants = Vec::new();
    for (name, spec) in specs {
        wants.extend(wanted(&lock, &name, spec, edition)?);
    }
    if has_programs {
        let group = lock.groups.get(TOOLCHAIN).map(|group| group.packages.as_slice()).unwrap_or_default();
        wants.extend(group.iter().filter_map(|package| lock.artefact(Kind::Deb, package).cloned()));
    }
    Ok(wants)
}

/// Fetches those of `wants` that are not in the store; asks for a mirror only where a Debian package is among them.
pub fn bring(store: &Store, wants: &[&Artefact], lock: &Lock, mirrors: &MirrorArgs, out: &Output) -> Result<()> {
    store.fetch(wants, &|| mirrors.load()?.at(lock), &Options::default(), out.progress())
}

/// What one image needs, with plugins that nobody has verified yet: these are reported as missing.
fn wanted(lock: &Lock, name: &str, spec: Spec, edition: &str) -> Result<Vec<Artefact>> {
    let plugins = spec.plugins.iter().filter_map(|plugin| lock.artefact(Kind::Plugin, &plugin.artefact));
    let unpinned: Vec<Artefact> = plugins.filter(|artefact| artefact.sha256.is_none()).cloned().collect();
    let names: Vec<String> = unpinned.iter().map(|artefact| artefact.name.clone()).collect();
    let locked = lock.bind(name, spec, edition, &names)?;
    Ok(locked.artefacts().cloned().chain(unpinned).collect())
}

/// Fetches the Rust distribution, and puts it and all the others into the Nix store.
fn into_nix(args: &Args, workspace: &Workspace, store: &Store, lock: &Lock, out: &Output) -> Result<()> {
    let nix = Nix::find(workspace, args.nixpkgs)?;
    let rust = blobs::rust(workspace)?;
    let fetched = bring(store, &rust.iter().collect::<Vec<_>>(), lock, &args.mirrors, out);
    nix.add(super::nix::everything(workspace, store)?)?;
    fetched
}

/// Crates for the images' platform, which is also the one that builds: other systems' crates are never compiled. Without a target they
/// come too, for cargo wants to see every crate that a vendor folder's lock names.
pub fn fetch_crates(workspace: &Workspace, target: Option<&str>) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let fetch = Process::new(cargo, workspace.root()).args(["fetch", "--quiet", "--locked"]);
    let fetch = target.into_iter().fold(fetch, |fetch, target| fetch.args(["--target", target]));
    fetch.fails_as(Class::Fetch).inherit().map_err(|error: Error| error.context("fetching the programs' crates"))
}
