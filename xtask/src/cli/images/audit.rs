//! `cargo xtask images audit`: the lock against published advisories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use images::contents::{Place, repository};
use images::sbom;
use images::spec::Spec;
use images::{Class, Error, Result};
use serde::Serialize;

use super::sbom::crates;
use crate::audit::advisories::{Advisories, Osv};
use crate::audit::vex::Vex;
use crate::audit::{Finding, Pinned, Verdict};
use crate::output::Output;
use crate::workspace::Workspace;

/// Hold the lock against published advisories, offline, and say what nobody has explained
///
/// Files are the JSON of Debian's security tracker, or OSV records: one, a list, or a folder of them. images/vex.json says of some
/// why they do no harm here; where one is left without such a statement, the exit code is 1.
#[derive(clap::Args)]
pub struct Args {
    /// Advisories. May be given several times
    #[arg(long, value_name = "FILE|DIR", required = true)]
    advisories: Vec<PathBuf>,
    /// Statements, in OpenVEX [default: images/vex.json]
    #[arg(long, value_name = "FILE")]
    vex: Option<PathBuf>,
    /// Where the image of Mattermost is, whose Go modules OSV's records of Go are held against [default: target/images]
    #[arg(long, value_name = "DIR|FILE")]
    layout: Option<PathBuf>,
    /// Print JSON; its field `format` is 1
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    format: u32,
    findings: &'a [Finding],
    stale_statements: &'a [&'a str],
}

/// Audits.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let lock = workspace.read_lock()?;
    let vex = match &args.vex {
        Some(file) => Vex::parse(&fs_err::read(file)?, &file.display().to_string())?,
        None => Vex::parse(&fs_err::read(workspace.root().join("images/vex.json"))?, "images/vex.json")?,
    };
    let specs = workspace.read_specs(&[])?;
    let programs = specs.values().flat_map(|spec| &spec.programs).map(|program| program.package.as_str());
    let crates = crates(&workspace, programs)?;
    let advisories: Vec<Advisories> = args.advisories.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let modules = match advisories.iter().any(Advisories::are_about_go) {
        true => modules(args, &workspace, &specs)?,
        false => BTreeMap::new(),
    };
    let pinned = Pinned::of(&lock, &crates).with_modules(&modules);
    let mut findings = Vec::new();
    for advisories in &advisories {
        findings.extend(pinned.hold(advisories, &vex)?);
    }
    findings.sort();
    findings.dedup();
    let stale = pinned.stale(&vex);
    if args.json {
        let report = Report { format: 1, findings: &findings, stale_statements: &stale };
        out.result(serde_json::to_string(&report).unwrap_or_else(|error| unreachable!("plain data: {error}")));
    } else {
        findings.iter().for_each(|finding| out.result(line(finding)));
    }
    for name in stale {
        out.say(format!("the statement about {name} is about nothing that is pinned any more"));
    }
    verdict(&findings, out)
}

/// The Go modules of each image that has a vendor's release: the release itself tells them.
fn modules(
    args: &Args,
    workspace: &Workspace,
    specs: &BTreeMap<String, Spec>,
) -> Result<BTreeMap<String, BTreeMap<String, BTreeSet<String>>>> {
    let layout = args.layout.clone().unwrap_or_else(|| workspace.target().join("images"));
    let missing = || {
        Error::new(Class::Usage, format!("there is no image with a release in {}", layout.display()))
            .detail("the advisories are about Go modules too, and which are compiled in is told by the release's programs alone")
            .hint("cargo xtask images mattermost, or --layout")
    };
    let place = Place::open(&layout).map_err(|_| missing())?;
    let has_release = |name: &&&str| specs.get(repository(name)).is_some_and(|spec| !spec.releases.is_empty());
    let names: Vec<&str> = place.names().iter().filter(has_release).copied().collect();
    let mut all: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for name in &names {
        for (path, versions) in sbom::modules(&place.image(name)?)? {
            for (version, within) in versions {
                all.entry(path.clone()).or_default().entry(version).or_default().extend(within);
            }
        }
    }
    if names.is_empty() { Err(missing()) } else { Ok(all) }
}

fn verdict(findings: &[Finding], out: &mut Output) -> Result<()> {
    let open = findings.iter().filter(|finding| !finding.verdict.is_settled()).count();
    if open == 0 {
        out.say(format!("{} advisories are about what is pinned, and each is explained or held for unimportant", findings.len()));
        return Ok(());
    }
    Err(Error::new(Class::Check, format!("{open} of {} advisories about what is pinned are not explained", findings.len())).hint(
        "`cargo xtask images lock --update NAME` moves a pin to a mended version; \
         images/vex.json takes a statement where one does no harm here (docs/audit.md)",
    ))
}

fn line(finding: &Finding) -> String {
    let pinned: Vec<String> = finding.pinned.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let within: Vec<&str> = finding.within.iter().map(String::as_str).collect();
    let fixed = finding.fixed.as_ref().map_or_else(|| "no mended version".to_owned(), |version| format!("mended in {version}"));
    let (mark, why) = match &finding.verdict {
        Verdict::Unexplained => ("open", String::new()),
        Verdict::Admitted(why) => ("open", format!("\n    {why}")),
        Verdict::Explained(why) => ("explained", format!("\n    {why}")),
        Verdict::Unimportant => ("unimportant", String::new()),
    };
    let summary = if finding.summary.is_empty() { String::new() } else { format!("\n    {}", finding.summary) };
    format!("{mark:<11}  {}  {} (in {}), {fixed}{summary}{why}", finding.id, pinned.join(", "), within.join(", "))
}

/// A file, or every `.json` of a folder: OSV's records come one a file.
fn read(path: &Path) -> Result<Advisories> {
    if !path.is_dir() {
        return Advisories::parse(&fs_err::read(path)?, &path.display().to_string());
    }
    let mut files: Vec<PathBuf> = fs_err::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    let mut records: Vec<Osv> = Vec::new();
    for file in &files {
        match Advisories::parse(&fs_err::read(file)?, &file.display().to_string())? {
            Advisories::Osv(more) => records.extend(more),
            Advisories::Tracker(_) => {
                return Err(Error::new(Class::Usage, format!("{} is no OSV record", file.display()))
                    .detail("a folder holds OSV records; the tracker's JSON is named as a file"));
            }
        }
    }
    if records.is_empty() {
        return Err(Error::new(Class::Usage, format!("{} holds no OSV record", path.display())));
    }
    Ok(Advisories::Osv(records))
}
