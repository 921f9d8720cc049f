//! `cargo xtask images verify`: the same inputs again, under other circumstances, and what differs, in words.

use std::path::{Path, PathBuf};

use images::build::{self, Built};
use images::layout::Layout;
use images::verify::{differences, error};
use images::{Class, Context, Error, Result};

use super::build::{all_processors, build_one, in_the_end, programs_folder};
use super::recipe::{Prepared, RecipeArgs};
use crate::output::Output;
use crate::process::Process;
use crate::workspace::Workspace;

/// Build images a second time, cold and under other circumstances, and compare
///
/// What stands in the layout is compared with what a process of its own makes from the same lock and store: in another folder,
/// with one thread, another umask, time zone and language, and without anything remembered. Images that do not stand there are built
/// first. Differences are named by image, layer, path and field; the exit code is then 8.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Compile the workspace's programs again too, a minute each; else those that were built are taken
    #[arg(long)]
    cold_programs: bool,
}

/// Verifies. One image that differs does not stop the others.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut prepared = args.recipe.prepare(&workspace, &programs_folder(&workspace), out)?;
    let mut failures = std::mem::take(&mut prepared.failures);
    if prepared.images.is_empty() {
        return in_the_end(failures, out);
    }
    let layout = args.recipe.layout(&workspace);
    let standing = standing(&prepared, &layout, out)?;
    let has_programs = prepared.images.iter().any(|(image, _)| !image.spec().programs.is_empty());
    if has_programs && !args.cold_programs {
        out.say("programs are taken as they were built; --cold-programs compiles them again");
    }
    out.say(format!("building {} again, cold, with one thread", count(standing.len())));
    let folder = tempfile::Builder::new().prefix("verify-").tempdir_in(workspace.target())?;
    let rebuilt = rebuild(args, &prepared, &workspace, folder.path())?;
    for (name, digest) in standing {
        let again = rebuilt.iter().find(|built| built.name == name);
        let again = again.ok_or_else(|| Error::new(Class::NotReproducible, format!("the second build did not make {name}")))?;
        let found = differences(&layout, &folder.path().join("images"), &name).context(|| format!("comparing {name}"))?;
        match found.is_empty() && again.manifest.oci() == digest {
            true => out.result(format!("{name}  {digest}  reproduced")),
            false => failures.push(error(&name, &found)),
        }
    }
    in_the_end(failures, out)
}

/// Name and manifest digest of each image in the layout; what is missing is built.
fn standing(prepared: &Prepared, root: &Path, out: &mut Output) -> Result<Vec<(String, String)>> {
    let layout = Layout::open(root)?;
    let mut standing = Vec::new();
    for (number, (image, inputs)) in prepared.images.iter().enumerate() {
        let name = build::name(image, inputs, &prepared.site)?;
        let index = layout.index()?;
        let entry = index.manifests.into_iter().find(|entry| entry.annotations.get(images::oci::REF_NAME) == Some(&name));
        let digest = match entry {
            Some(entry) => entry.digest,
            None => {
                out.say(format!("{name} is not in {} yet", root.display()));
                build_one(prepared, number, &layout, all_processors(), out)?.manifest.oci()
            }
        };
        standing.push((name, digest));
    }
    Ok(standing)
}

/// Runs a build of the same images in a process of its own below `folder`.
fn rebuild(args: &Args, prepared: &Prepared, workspace: &Workspace, folder: &Path) -> Result<Vec<Built>> {
    let names = prepared.images.iter().map(|(image, _)| image.name().to_owned());
    let here = folder.join("somewhere else");
    fs_err::create_dir(&here)?;
    let mut child = Process::new("sh", here)
        // The umask is the shell's to set: whichever this process has, the other one gets another.
        .args(["-c", "case $(umask) in *77) umask 0002 ;; *) umask 0077 ;; esac; exec \"$@\"", "sh"])
        .arg(std::env::current_exe()?)
        .arg("images")
        .args(args.recipe.arguments(names, workspace)?)
        .args(["--threads", "1", "--json"])
        .env("CARGO_MANIFEST_DIR", workspace.root())
        .env("TZ", "Pacific/Kiritimati")
        .env("LANG", "tr_TR.UTF-8")
        .env("LC_ALL", "tr_TR.UTF-8")
        .fails_as(Class::Build);
    let mut folders: Vec<(&str, PathBuf)> = vec![("--layout", folder.join("images")), ("--memory", folder.join("memory"))];
    if args.cold_programs {
        folders.push(("--programs", folder.join("programs")));
    }
    for (option, path) in folders {
        child = child.arg(option).arg(path);
    }
    let text = child.text().map_err(|error| error.context("the second build"))?;
    let read = |line: &str| {
        serde_json::from_str::<Built>(line)
            .map_err(|error| Error::new(Class::Build, format!("the second build printed \"{line}\": {error}")))
    };
    text.lines().map(read).collect()
}

fn count(images: usize) -> String {
    if images == 1 { "1 image".to_owned() } else { format!("{images} images") }
}
