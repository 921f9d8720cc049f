//! `cargo xtask images add`: files that were brought by hand, where a network cannot.

use std::path::{Path, PathBuf};

use images::digest::Hashing;
use images::lock::{Artefact, Kind, Lock};
use images::progress::human;
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
    #[command(flatten)]
    store: StoreArgs,
}

/// Adds every file that the lock names; one that it does not name is an error, after the others were taken.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let lock = workspace.read_lock()?;
    let store = Store::open(&args.store.root(&workspace))?;
    let mut refused = Vec::new();
    for file in &args.files {
        match add(&store, &lock, file) {
            Ok(line) => out.result(line),
            Err(error) => refused.push(error),
        }
    }
    // Each refusal has its own lines and hint; the last one also decides the exit code.
    let last = refused.pop();
    refused.iter().for_each(|error| out.error(error));
    last.map_or(Ok(()), Err)
}

/// Keeps `file` if the lock names it, and says which entries it satisfies.
fn add(store: &Store, lock: &Lock, file: &Path) -> Result<String> {
    let mut source = Hashing::new(fs_err::File::open(file)?);
    std::io::copy(&mut source, &mut std::io::sink())?;
    let (_, digest, size) = source.finish();
    let satisfied: Vec<&Artefact> = lock.artefacts.iter().filter(|artefact| artefact.sha256 == Some(digest)).collect();
    if satisfied.is_empty() {
        return Err(unknown(lock, file, &digest, size));
    }
    let known = store.has(&digest);
    if !known {
        // Read again, and checked again: the file may change between the two.
        store.insert(fs_err::File::open(file)?, Some(digest), Some(size))?;
    }
    let entries: Vec<String> = satisfied.iter().map(|artefact| entry(lock, artefact)).collect();
    let already = if known { ", which the store has already" } else { "" };
    Ok(format!("{} is {}{already}", file.display(), entries.join("; ")))
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
