//! `cargo xtask images --nix`: the same images through the second door, and what differs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use images::build::Built;
use images::layout::read_index;
use images::progress::Progress as _;
use images::{Class, Context, Digest, Error, Result, Store};

use super::fetch::{bring, fetch_crates};
use super::recipe::{Prepared, RecipeArgs};
use crate::double;
use crate::nix::blobs::{self, Blob, cargo_home};
use crate::nix::shim::static_xtask;
use crate::nix::{Nix, Nixpkgs};
use crate::output::Output;
use crate::workspace::Workspace;

/// How the second door is gone through.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct NixArgs {
    /// Through Nix as well, and compare every manifest and every program (docs/nix.md)
    #[arg(long, conflicts_with = "json")]
    pub nix: bool,
    /// Where busybox, fetchers and xtask come from
    #[arg(long, value_enum, value_name = "NIXPKGS", default_value_t, requires = "nix")]
    pub nixpkgs: Nixpkgs,
    /// Have Nix build each twice and compare: `nix build --rebuild`, which compiles the images' programs again
    #[arg(long, requires = "nix")]
    pub rebuild: bool,
}

/// Builds what `prepared` holds through Nix, and compares it with what was `built` here.
pub fn compare(
    args: NixArgs,
    recipe: &RecipeArgs,
    prepared: &Prepared,
    built: &[Built],
    workspace: &Workspace,
    out: &mut Output,
) -> Result<()> {
    if prepared.images.is_empty() {
        return Ok(());
    }
    let overrides = recipe.overrides()?;
    let nix = Nix::find(workspace, args.nixpkgs)?;
    let store = &prepared.store;
    fill(&nix, recipe, workspace, store, out)?;
    if nix.is_shim() {
        nix.lay_shim(&static_xtask(workspace, recipe.offline)?)?;
    }

    // What each door calls a thing: Nix's attribute, and what the cargo door says of it.
    let mut images = BTreeMap::new();
    let mut programs = BTreeMap::new();
    for ((image, inputs), built) in prepared.images.iter().zip(built) {
        let double = if inputs.release.is_some() { "-double" } else { "" };
        images.insert(format!("image-{}{double}", image.name()), built);
        programs.extend(inputs.programs.iter().map(|(name, program)| (format!("program-{name}"), program.sha256)));
    }
    let names: Vec<String> = images.keys().chain(programs.keys()).cloned().collect();
    let step = out.progress().begin(&format!("building {} through Nix", names.join(", ")), None);
    let through_nix = nix.build(&names, &overrides, &[])?;
    step.done();
    if args.rebuild {
        // The double's program is no part of what anybody runs, and the largest.
        let again: Vec<String> = names.into_iter().filter(|name| *name != format!("program-{}", double::PROGRAM)).collect();
        let step = out.progress().begin(&format!("building {} through Nix again", again.join(", ")), None);
        nix.build(&again, &overrides, &["--rebuild"])?;
        step.done();
    }

    let mut pairs = Vec::new();
    for (name, digest) in programs {
        let program = place(&through_nix, &name)?.join("bin").join(name.trim_start_matches("program-"));
        pairs.push(Pair { name, here: digest.oci(), there: Digest::of_file(&program)?.0.oci(), look: None });
    }
    for (name, image) in images {
        let layout = place(&through_nix, &name)?;
        let index = read_index(layout).context(|| format!("reading what Nix made of {name}"))?;
        let entry = index.manifests.iter().find(|entry| entry.annotations.get(images::oci::REF_NAME) == Some(&image.name));
        let there = entry.map_or("nothing of that name".to_owned(), |entry| entry.digest.clone());
        let look = format!("cargo xtask images diff {} {}", recipe.layout(workspace).display(), layout.display());
        pairs.push(Pair { name: image.name.clone(), here: image.manifest.oci(), there, look: Some(look) });
    }
    judge(&pairs, if args.rebuild { "both doors, and again" } else { "both doors" }, out)
}

/// Everything that the derivations may fetch, out of our own store and cargo's cache.
pub fn fill(nix: &Nix, recipe: &RecipeArgs, workspace: &Workspace, store: &Store, out: &Output) -> Result<()> {
    let lock = workspace.read_lock()?;
    let rust = blobs::rust(workspace)?;
    if !recipe.offline {
        bring(store, &rust.iter().collect::<Vec<_>>(), &lock, recipe.mirrors(), out)?;
        fetch_crates(workspace, None)?;
    }
    nix.add(everything(workspace, store)?)
}

/// The files of the lock, of the Rust distribution and of `Cargo.lock` that are on this machine.
pub fn everything(workspace: &Workspace, store: &Store) -> Result<Vec<Blob>> {
    let (lock, rust) = (workspace.read_lock()?, blobs::rust(workspace)?);
    let mut all = blobs::artefacts(store, lock.artefacts.iter().chain(&rust));
    all.extend(blobs::crates(workspace, &cargo_home())?);
    Ok(all)
}

fn place<'a>(made: &'a BTreeMap<String, PathBuf>, name: &str) -> Result<&'a Path> {
    let missing = || Error::new(Class::Build, format!("nix build did not say where {name} is"));
    made.get(name).map(PathBuf::as_path).ok_or_else(missing)
}

/// One thing that both doors make.
struct Pair {
    name: String,
    here: String,
    there: String,
    look: Option<String>,
}

/// Tells of those that agree; one error for all that do not.
fn judge(pairs: &[Pair], agreed: &str, out: &mut Output) -> Result<()> {
    let (same, differ): (Vec<&Pair>, Vec<&Pair>) = pairs.iter().partition(|pair| pair.here == pair.there);
    for pair in same {
        out.result(format!("{}  {}  {agreed}", pair.name, pair.here));
    }
    let Some(first) = differ.first() else { return Ok(()) };
    let names: Vec<&str> = differ.iter().map(|pair| pair.name.as_str()).collect();
    let error = Error::new(Class::NotReproducible, format!("the two doors differ: {}", names.join(", ")));
    let error = differ.iter().fold(error, |error, pair| {
        error.detail(format!("{}  cargo {}", pair.name, pair.here)).detail(format!("{}  nix   {}", pair.name, pair.there))
    });
    // A program that differs makes its image differ.
    let program = "compare the programs first: the flags are in images/src/programs/wrapper.rs and nix/sh/flags.sh".to_owned();
    Err(error.hint(first.look.clone().unwrap_or(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, here: &str, there: &str, look: Option<&str>) -> Pair {
        Pair { name: name.to_owned(), here: here.to_owned(), there: there.to_owned(), look: look.map(str::to_owned) }
    }

    #[test]
    fn doors_that_differ_end_with_their_own_exit_code_and_both_digests() {
        let same = pair("program-a", "sha256:1", "sha256:1", None);
        judge(&[same], "both doors", &mut Output::new()).unwrap();
        let pairs = [pair("program-a", "sha256:1", "sha256:1", None), pair("chatops/a:1", "sha256:2", "sha256:3", Some("look there"))];
        let error = judge(&pairs, "both doors", &mut Output::new()).unwrap_err();
        assert_eq!(error.class(), Class::NotReproducible);
        let text = error.to_string();
        for wanted in ["the two doors differ: chatops/a:1\n", "cargo sha256:2", "nix   sha256:3", "hint: look there"] {
            assert!(text.contains(wanted), "{wanted:?} in {text}");
        }
        assert!(!text.contains("sha256:1"));
    }
}
