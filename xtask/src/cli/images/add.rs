//! `cargo xtask images add`: files that were brought by hand, where a network cannot.

use std::path::{Path, PathBuf};

use images::file::write_beside;
use images::lock::{Artefact, Kind, Lock};
use images::progress::human;
use images::vendor::{PLUGIN_KEY_URL, accept_plugin};
use images::{Class, Digest, Error, Result, Store};

use super::options::StoreArgs;
use crate::output::Output;
use crate::workspace::Workspace;

/// Put files into the store that were brought by hand, and say what each is
#[derive(clap::Args)]
pub struct Args {
    /// Files that the lock names: packages, releases, plugin bundles
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Public key of a plugin's maker (OpenPGP), for a bundle that the lock pins by signature: once it is verified, the
    /// lock names its SHA-256
    #[arg(long, value_name = "KEY")]
    plugin_key: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

/// Adds every file that the lock names; one that it does not name is an error, after the others were taken.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let mut lock = workspace.read_lock()?;
    let key = args.plugin_key.as_ref().map(fs_err::read).transpose()?;
    let store = Store::open(&args.store.root(&workspace))?;
    let mut refused = Vec::new();
    for file in &args.files {
        match add(&store, &mut lock, &workspace, file, key.as_deref()) {
            Ok(line) => out.result(line),
            Err(error) => refused.push(error),
        }
    }
    // Each refusal has its own lines and hint; the last one also decides the exit code.
    let last = refused.pop();
    refused.iter().for_each(|error| out.error(error));
    last.map_or(Ok(()), Err)
}

/// Keeps `file` if the lock names it, or if it is a plugin that `key` verifies, and says which entries it satisfies.
fn add(store: &Store, lock: &mut Lock, workspace: &Workspace, file: &Path, key: Option<&[u8]>) -> Result<String> {
    let (digest, size) = Digest::of_file(file)?;
    let satisfied: Vec<&Artefact> = lock.artefacts.iter().filter(|artefact| artefact.sha256 == Some(digest)).collect();
    if satisfied.is_empty() {
        return match unpinned(lock, file, key.is_some()) {
            Some(plugin) => add_plugin(store, lock, workspace, &plugin, file, key),
            None => Err(unknown(lock, file, &digest, size)),
        };
    }
    let known = satisfied.iter().all(|artefact| store.holds(artefact));
    if !known {
        // Read again, and checked again: the file may change between the two.
        store.insert(fs_err::File::open(file)?, Some(digest), Some(size))?;
    }
    let entries: Vec<String> = satisfied.iter().map(|artefact| entry(lock, artefact)).collect();
    let already = if known { ", which the store has already" } else { "" };
    Ok(format!("{} is {}{already}", file.display(), entries.join("; ")))
}

/// The plugin that `file` may be and that the lock names no SHA-256 for: the one of that file name; with a key at hand,
/// also the only one, as long as no entry has the file's name.
fn unpinned(lock: &Lock, file: &Path, has_key: bool) -> Option<String> {
    let named = |artefact: &&Artefact| file.file_name().is_some_and(|name| name == artefact.from.file_name());
    let mut plugins = lock.artefacts.iter().filter(|artefact| artefact.kind == Kind::Plugin && artefact.sha256.is_none());
    let found = match lock.artefacts.iter().find(named) {
        Some(artefact) => Some(artefact).filter(|artefact| artefact.kind == Kind::Plugin && artefact.sha256.is_none()),
        None => plugins.next().filter(|_| has_key && plugins.next().is_none()),
    };
    found.map(|artefact| artefact.name.clone())
}

/// Verifies the bundle of `plugin`, keeps it, and writes its SHA-256 into the lock.
fn add_plugin(store: &Store, lock: &mut Lock, workspace: &Workspace, plugin: &str, file: &Path, key: Option<&[u8]>) -> Result<String> {
    let Some(key) = key else {
        return Err(Error::new(Class::Usage, format!("{} is pinned by its signature, and no key was given", file.display()))
            .hint(format!("--plugin-key KEY; the vendor publishes it at {PLUGIN_KEY_URL}")));
    };
    let mut accepted = lock.clone();
    accept_plugin(&mut accepted, plugin, fs_err::File::open(file)?, key)?;
    let artefact = accepted.artefact(Kind::Plugin, plugin).ok_or_else(|| Error::new(Class::Build, format!("{plugin} left the lock")))?;
    store.insert(fs_err::File::open(file)?, artefact.sha256, artefact.size)?;
    let line = format!("{} is {} {}; images/lock.json now names its SHA-256", file.display(), artefact.name, artefact.version);
    write_beside(&workspace.lock(), accepted.to_text().as_bytes(), 0o644)?;
    *lock = accepted;
    Ok(line)
}

/// An artefact and who needs it: `libc6 2.41-12 (coturn, postgres)`.
fn entry(lock: &Lock, artefact: &Artefact) -> String {
    let needs = |packages: &[String]| artefact.kind == Kind::Deb && packages.contains(&artefact.name);
    let groups: Vec<&str> = lock.groups.iter().filter(|(_, group)| needs(&group.packages)).map(|(name, _)| name.as_str()).collect();
    let groups = if groups.is_empty() { String::new() } else { format!(" ({})", groups.join(", ")) };
    format!("{} {}{groups}", artefact.name, artefact.version)
}

/// The error for a file that the lock does not name, with the entry whose file name comes nearest.
fn unknown(lock: &Lock, file: &Path, digest: &Digest, size: u64) -> Error {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let nearest = nearest(lock, &name);
    let same_name = nearest.is_some_and(|artefact| artefact.from.file_name() == name);
    let class = if same_name { Class::HashMismatch } else { Class::Usage };
    let mut error = Error::new(class, format!("{} is not a file that the lock names", file.display()))
        .detail(format!("found     sha256 {digest} ({}) as {name}", human(size)));
    let hint = match nearest {
        Some(artefact) => {
            let sha256 = artefact.sha256.map_or("none: its signature was not verified yet".to_owned(), |sha256| sha256.to_string());
            let size = artefact.size.map(|size| format!(" ({})", human(size))).unwrap_or_default();
            let nearest = format!("expected  sha256 {sha256}{size} as {}", artefact.from.file_name());
            error = error.detail(nearest);
            match same_name {
                true => "this file is damaged, or another build of the same version; the file was not kept".to_owned(),
                false => format!("the nearest entry is {} {}; the file was not kept", artefact.name, artefact.version),
            }
        }
        None => "images/lock.json lists what is wanted; the file was not kept".to_owned(),
    };
    error.hint(hint)
}

/// The entry whose file name begins most like `name`, as another version of the same file does.
fn nearest<'a>(lock: &'a Lock, name: &str) -> Option<&'a Artefact> {
    let common = |artefact: &Artefact| artefact.from.file_name().bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let distance = |artefact: &Artefact| artefact.from.file_name().len().abs_diff(name.len());
    let best = lock.artefacts.iter().max_by_key(|artefact| (common(artefact), std::cmp::Reverse(distance(artefact))))?;
    // A few letters in common are chance.
    (common(best) >= 4).then_some(best)
}
