//! mmdebstrap's `extract` variant unpacks packages and runs no scripts; umoci makes a layer of what it gives. Neither needs a
//! daemon, and with `SOURCE_DATE_EPOCH` both are reproducible: the nearest peer.
//!
//! The package lists are made beforehand and name no dependencies, so that apt takes exactly the locked packages and has
//! nothing to resolve. umoci always compresses layers (gzip).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use images::deb::Deb;
use images::{Digest, Result};
use xtask::process::Process;

use super::Measured;
use crate::inputs::{Bench, Material, link};
use crate::measure::Sample;

pub(super) fn measure(bench: &Bench, material: &Material) -> Result<Measured> {
    let (repository, names) = repository(bench, material)?;
    let work = bench.output.join("umoci");
    let cold = Sample::take(bench.peer_runs(), || bench.empty("umoci"), |work| build(&work, &repository, &names, material))?;
    // The kindest reading: the image stays under its name, and the CA is one more layer of another.
    let ca = Sample::take(
        bench.peer_runs(),
        || {
            let tar = work.join("ca.tar");
            run(Process::new("tar", &work)
                .arg("-cf")
                .arg(&tar)
                .arg("--transform=s,^.*/,usr/local/share/ca-certificates/,")
                .arg("-P")
                .arg(bench.new_ca()?))?;
            Ok(tar)
        },
        |tar| run(umoci(&work).args(["raw", "add-layer", "--image", "image:latest", "--tag", "site"]).arg(tar)),
    )?;
    bench.empty("umoci")?;
    Ok(Measured { name: String::new(), cold, no_op: None, ca: Some(ca) })
}

fn build(work: &Path, repository: &Path, names: &str, material: &Material) -> Result<()> {
    let source = format!("deb [trusted=yes] copy://{} ./", repository.display());
    // Its scratch files on the same disk as everybody's.
    let tool = Process::new("mmdebstrap", work).env("SOURCE_DATE_EPOCH", "1700000000").env("LC_ALL", "C.UTF-8").env("TMPDIR", work);
    run(tool.args(["--quiet", "--variant=extract", "--format=tar", &format!("--include={names}"), "trixie", "root.tar", &source]))?;
    run(umoci(work).args(["init", "--layout", "image"]))?;
    run(umoci(work).args(["new", "--image", "image:latest"]))?;
    run(umoci(work).args(["raw", "add-layer", "--image", "image:latest", "root.tar"]))?;
    if let Some(tarball) = &material.tarball {
        run(Process::new("sh", work).args(["-c", "gzip -dc \"$1\" >release.tar", "sh"]).arg(tarball))?;
        run(umoci(work).args(["raw", "add-layer", "--image", "image:latest", "release.tar"]))?;
    }
    run(umoci(work).args(["config", "--image", "image:latest", "--config.entrypoint", "/usr/local/bin/entrypoint"]))
}

fn umoci(work: &Path) -> Process {
    Process::new("umoci", work)
}

fn run(process: Process) -> Result<()> {
    process.capture().map(drop)
}

/// A flat repository of the image's packages, and their names with commas in between.
fn repository(bench: &Bench, material: &Material) -> Result<(PathBuf, String)> {
    let folder = bench.empty("repository")?;
    let (mut index, mut names) = (String::new(), Vec::new());
    for (name, path) in &material.packages {
        link(path, &folder.join(name))?;
        let bytes = fs_err::read(path)?;
        let control = Deb::open(bytes.as_slice())?.control;
        names.push(control.field("Package").unwrap_or_default().to_owned());
        let _ = writeln!(index, "{}Filename: ./{name}\nSize: {}\nSHA256: {}\n", stanza(&control.control), bytes.len(), Digest::of(&bytes));
    }
    fs_err::write(folder.join("Packages"), index)?;
    Ok((folder, names.join(",")))
}

/// A control file without what makes apt think.
fn stanza(control: &str) -> String {
    const RELATIONS: [&str; 10] =
        ["Depends", "Pre-Depends", "Recommends", "Suggests", "Enhances", "Breaks", "Conflicts", "Replaces", "Provides", "Essential"];
    let mut kept = String::new();
    let mut keeping = true;
    for line in control.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            keeping = !line.split(':').next().is_some_and(|field| RELATIONS.contains(&field));
        }
        if keeping {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_keeps_everything_but_relations_with_their_further_lines() {
        let control = "Package: a\nDepends: b,\n c\nVersion: 1\nEssential: yes\nDescription: d\n more\n\n";
        assert_eq!(stanza(control), "Package: a\nVersion: 1\nDescription: d\n more\n");
    }
}
