//! `cargo xtask images [NAME…]`: from the lock to named manifests, and on to a file or an Engine.

use std::path::{Path, PathBuf};

use images::build::{self, Built};
use images::file::Beside;
use images::layout::Layout;
use images::progress::human;
use images::{Context, Error, Result};

use super::nix::{self, NixArgs};
use super::recipe::{Prepared, RecipeArgs};
use crate::engine::api::Engine;
use crate::output::Output;
use crate::workspace::Workspace;

/// What a build takes.
#[derive(clap::Args)]
pub struct BuildArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Load what was built into Docker
    #[arg(long)]
    load: bool,
    /// Write what was built into one file, for `docker load`, podman and readers of OCI archives
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// Threads that unpack [default: one a processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    nix: NixArgs,
    /// Print the result as JSON: name, manifest, config, layers, fresh
    #[arg(long)]
    json: bool,
    /// Where it is remembered what was made from which inputs, and where programs are kept: `images verify` takes empty folders
    #[arg(long, value_name = "DIR", hide = true)]
    memory: Option<PathBuf>,
    #[arg(long, value_name = "DIR", hide = true)]
    programs: Option<PathBuf>,
}

/// Builds. A vendor's file that cannot be had does not stop the other images.
pub fn run(args: &BuildArgs, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let cache = args.programs.clone().unwrap_or_else(|| programs_folder(&workspace));
    let mut prepared = args.recipe.prepare(&workspace, &cache, out)?;
    if let Some(memory) = &args.memory {
        prepared.store = prepared.store.with_memory(memory);
    }
    let layout = args.recipe.layout(&workspace);
    let built = build_all(&prepared, &layout, args.threads.unwrap_or_else(all_processors), out, |one, out| report(one, args.json, out))?;
    deliver(&layout, &built, args, out)?;
    if args.nix.nix {
        nix::compare(args.nix, &args.recipe, &prepared, &built, &workspace, out)?;
    }
    in_the_end(prepared.failures, out)
}

/// Builds what a recipe names, and gives the Engine those that it lacks.
pub fn load_all(recipe: &RecipeArgs, workspace: &Workspace, engine: &Engine, out: &mut Output) -> Result<Vec<Built>> {
    let prepared = recipe.prepare(workspace, &programs_folder(workspace), out)?;
    let layout = recipe.layout(workspace);
    let built = build_all(&prepared, &layout, all_processors(), out, |_, _| {})?;
    in_the_end(prepared.failures, out)?;
    load(&layout, &built, engine, out)?;
    Ok(built)
}

/// Gives the Engine the images of a layout that it lacks.
pub fn load(layout: &Path, built: &[Built], engine: &Engine, out: &mut Output) -> Result<()> {
    for image in built.iter().filter(|image| !engine.has_image(&image.config.oci())) {
        engine.load(layout, &image.name, &image.config)?;
        out.say(format!("loaded {}", image.name));
    }
    Ok(())
}

/// Builds every prepared image into a layout, tells of each, and removes what the layout names no longer.
pub fn build_all(
    prepared: &Prepared,
    layout: &Path,
    threads: usize,
    out: &mut Output,
    tell: impl Fn(&Built, &mut Output),
) -> Result<Vec<Built>> {
    let layout = Layout::open(layout)?;
    let mut built = Vec::new();
    for number in 0..prepared.images.len() {
        let one = build_one(prepared, number, &layout, threads, out)?;
        tell(&one, out);
        built.push(one);
    }
    layout.prune()?;
    Ok(built)
}

/// Where programs that were built are kept between builds.
pub fn programs_folder(workspace: &Workspace) -> PathBuf {
    workspace.target().join("programs")
}

/// How many threads unpack where nobody says it.
pub fn all_processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Builds one of the prepared images into the layout.
pub fn build_one(prepared: &Prepared, number: usize, layout: &Layout, threads: usize, out: &Output) -> Result<Built> {
    let (image, inputs) = &prepared.images[number];
    build::build(image, &prepared.store, inputs, &prepared.site, layout, threads, out.progress())
        .context(|| format!("image {}", image.name()))
}

/// The last of `failures` is the command's, those before it are shown.
pub fn in_the_end(mut failures: Vec<Error>, out: &mut Output) -> Result<()> {
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|error| out.error(error));
    Err(last)
}

fn report(built: &Built, json: bool, out: &mut Output) {
    if json {
        out.result(serde_json::to_string(built).unwrap_or_else(|error| unreachable!("plain data: {error}")));
        return;
    }
    let size: u64 = built.layers.iter().map(|layer| layer.size).sum();
    let state = if built.fresh { "built" } else { "unchanged" };
    let double = if built.name.contains("-double") { ", API double" } else { "" };
    out.result(format!("{}  {}  {} in {} layers, {state}{double}", built.name, built.manifest.oci(), human(size), built.layers.len()));
}

fn deliver(root: &Path, built: &[Built], args: &BuildArgs, out: &mut Output) -> Result<()> {
    let names: Vec<String> = built.iter().map(|image| image.name.clone()).collect();
    if let Some(file) = &args.archive {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = Beside::create(folder, 0o644)?;
        images::archive::write(root, &names, std::io::BufWriter::with_capacity(1 << 20, beside.file()))?;
        beside.publish(file)?;
        out.say(format!("wrote {}", file.display()));
    }
    if args.load && !names.is_empty() {
        let engine = Engine::connect()?;
        for image in built {
            engine.load(root, &image.name, &image.config)?;
            out.say(format!("loaded {} as {}", image.name, image.config.oci()));
        }
    }
    Ok(())
}
