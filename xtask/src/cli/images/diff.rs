//! `cargo xtask images diff A B`: what changed between two layouts, archives or locks.

use std::path::{Path, PathBuf};

use images::contents::{Place, repository};
use images::diff::{self, Comparison};
use images::lock::{self, Lock};
use images::{Class, Error, Result};

use crate::output::Output;

/// Say what changed between two layouts, archives or locks: packages, files, settings, sizes
///
/// A and B are each a layout folder, a file that --archive wrote, or a lock; a folder or archive may be followed by :NAME for one of
/// its images. Without a name, images of the same name are compared whatever their versions. The exit code is that of diff(1): 0 for no
/// difference, 1 for some, 2 for what cannot be compared.
#[derive(clap::Args)]
pub struct Args {
    /// The old one
    #[arg(value_name = "A")]
    left: String,
    /// The new one
    #[arg(value_name = "B")]
    right: String,
    /// Show every file, and those that differ in time alone
    #[arg(long)]
    all: bool,
    /// Print JSON; its field `format` is 1
    #[arg(long)]
    json: bool,
}

/// What one argument names.
enum Side {
    Lock(Box<Lock>),
    Images { place: Place, name: Option<String> },
}

#[derive(serde::Serialize)]
struct Report {
    format: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lock: Vec<String>,
    images: Vec<Comparison>,
    only_left: Vec<String>,
    only_right: Vec<String>,
}

/// Compares.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let mut report = Report { format: 1, lock: Vec::new(), images: Vec::new(), only_left: Vec::new(), only_right: Vec::new() };
    match (side(&args.left)?, side(&args.right)?) {
        (Side::Lock(old), Side::Lock(new)) => report.lock = lock::diff::lines(&old, &new),
        (Side::Images { place: left, name: old }, Side::Images { place: right, name: new }) => {
            for (old, new) in pairs(&left, old, &right, new, &mut report) {
                report.images.push(diff::images(&left.image(&old)?, &right.image(&new)?)?);
            }
        }
        _ => {
            return Err(Error::new(Class::Usage, "a lock cannot be compared with images")
                .detail(format!("found {}", args.left))
                .detail(format!("and   {}", args.right)));
        }
    }
    if args.json {
        out.result(serde_json::to_string(&report).unwrap_or_else(|error| unreachable!("plain data: {error}")));
    } else {
        report.lock.iter().for_each(|line| out.result(line));
        report.images.iter().flat_map(|image| image.lines(args.all)).for_each(|line| out.result(line));
        report.only_left.iter().for_each(|name| out.result(format!("- {name}")));
        report.only_right.iter().for_each(|name| out.result(format!("+ {name}")));
    }
    let different = report.images.iter().filter(|image| !image.equal).count() + report.only_left.len() + report.only_right.len();
    match (report.lock.len(), different) {
        (0, 0) => Ok(()),
        (0, images) => Err(Error::new(Class::Check, format!("{images} of the images differ"))),
        (lines, _) => Err(Error::new(Class::Check, format!("the locks differ in {lines} lines"))),
    }
}

/// `PATH` or `PATH:NAME`, where the path may have colons as well.
fn side(text: &str) -> Result<Side> {
    let ends = std::iter::once(text.len()).chain(text.match_indices(':').map(|(at, _)| at));
    let found = ends.map(|at| (PathBuf::from(&text[..at]), text.get(at + 1..).map(str::to_owned))).find(|(path, _)| path.exists());
    let (path, name) = found.ok_or_else(|| {
        Error::new(Class::Usage, format!("there is no {text}")).detail("expected a layout folder, an archive of images, or a lock")
    })?;
    if path.is_file() && begins_like_json(&path)? {
        return Ok(Side::Lock(Box::new(Lock::parse(&fs_err::read_to_string(&path)?, text)?)));
    }
    Ok(Side::Images { place: Place::open(&path)?, name })
}

fn begins_like_json(path: &Path) -> Result<bool> {
    let mut first = [0];
    let mut file = fs_err::File::open(path)?;
    Ok(std::io::Read::read(&mut file, &mut first)? == 1 && first == *b"{")
}

/// Which image is compared with which; those without a counterpart go into the report.
fn pairs(left: &Place, old: Option<String>, right: &Place, new: Option<String>, report: &mut Report) -> Vec<(String, String)> {
    match (old, new) {
        (Some(old), Some(new)) => return vec![(old, new)],
        (Some(name), None) | (None, Some(name)) => return vec![(name.clone(), name)],
        (None, None) => {}
    }
    let names = |place: &Place| place.names().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let (mut left, mut right) = (names(left), names(right));
    let mut pairs = Vec::new();
    // The very same name first, so that two versions of one image side by side are not mixed up.
    for same in [|a: &str, b: &str| a == b, |a: &str, b: &str| repository(a) == repository(b)] {
        left.retain(|old| match right.iter().position(|new| same(old, new)) {
            Some(at) => {
                pairs.push((old.clone(), right.remove(at)));
                false
            }
            None => true,
        });
    }
    pairs.sort();
    (report.only_left, report.only_right) = (left, right);
    pairs
}
