//! The lock against published advisories: what is known of the versions that images are made of, and what of it is explained.
//!
//! Pure: the files are read by the verb, and nobody is asked.

pub mod advisories;
pub mod vex;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use images::Result;
use images::lock::{Artefact, Kind, Lock};
use images::programs::Crate;
use images::resolve::version;
use serde::Serialize;

use advisories::{Advisories, Osv, Range, Tracker};
use vex::{Status, Vex};

/// What an advisory says about something that the lock pins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Such as `CVE-2026-27624`.
    pub id: String,
    /// Its other names.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// Debian's source package, the crate, or the Go module.
    pub package: String,
    /// What of it is pinned: name and version.
    pub pinned: BTreeSet<(String, String)>,
    /// The images, or programs, that it is in.
    pub within: BTreeSet<String>,
    /// The version that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// What it is, in a few words.
    pub summary: String,
    /// What is to be thought of it.
    pub verdict: Verdict,
}

/// What is to be thought of a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nobody has said why it does no harm here.
    Unexplained,
    /// A statement speaks of it, but it stays open: `affected` or `under_investigation`.
    Admitted(String),
    /// A statement says why it does no harm here.
    Explained(String),
    /// Debian's security team holds it for no hole.
    Unimportant,
}

impl Verdict {
    /// Whether an audit passes with it.
    pub fn is_settled(&self) -> bool {
        matches!(self, Verdict::Explained(_) | Verdict::Unimportant)
    }
}

/// What the lock and `Cargo.lock` pin, as advisories name it.
pub struct Pinned<'a> {
    suite: &'a str,
    /// Source package → its binary packages.
    sources: BTreeMap<&'a str, Vec<&'a Artefact>>,
    /// Package → the images that it is in.
    images: BTreeMap<&'a str, BTreeSet<String>>,
    /// Crate → version and programs.
    crates: Within<'a>,
    /// Go module → version and where it is.
    modules: Within<'a>,
}

/// Name → version → what has it.
type Within<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>;

impl<'a> Pinned<'a> {
    /// From the lock, and from the crates of each program.
    pub fn of(lock: &'a Lock, programs: &'a BTreeMap<String, Vec<Crate>>) -> Self {
        let mut pinned = Pinned {
            suite: &lock.debian.suite,
            sources: BTreeMap::new(),
            images: BTreeMap::new(),
            crates: BTreeMap::new(),
            modules: BTreeMap::new(),
        };
        for artefact in lock.artefacts.iter().filter(|artefact| artefact.kind == Kind::Deb) {
            pinned.sources.entry(artefact.source.as_deref().unwrap_or(&artefact.name)).or_default().push(artefact);
        }
        for (image, group) in &lock.groups {
            for package in &group.packages {
                pinned.images.entry(package).or_default().insert(image.clone());
            }
        }
        for (program, crates) in programs {
            for one in crates {
                pinned.crates.entry(&one.name).or_default().entry(&one.version).or_default().insert(program.clone());
            }
        }
        pinned
    }

    /// The same with the Go modules of a release, as its image tells them (`images::sbom::modules`).
    #[must_use]
    pub fn with_modules(mut self, modules: &'a BTreeMap<String, BTreeMap<String, BTreeSet<String>>>) -> Self {
        for (path, versions) in modules {
            for (version, within) in versions {
                self.modules.entry(path).or_default().entry(version).or_default().extend(within.iter().cloned());
            }
        }
        self
    }

    /// Every name and version that a statement may be about: binary packages, source packages, crates, Go modules.
    fn has(&self, name: &str, version: Option<&str>) -> bool {
        let fits = |found: &str| version.is_none_or(|version| version == found);
        let deb = |artefact: &Artefact| (artefact.name == name || artefact.source.as_deref() == Some(name)) && fits(&artefact.version);
        self.sources.values().flatten().any(|artefact| deb(artefact))
            || [&self.crates, &self.modules].iter().any(|all| all.get(name).is_some_and(|versions| versions.keys().any(|one| fits(one))))
    }

    /// Everything that `advisories` say about what is pinned, judged by `vex`, in order.
    ///
    /// # Errors
    /// [`images::Class::Usage`] where the advisories speak of nothing that is pinned here: another Debian, another file.
    pub fn hold(&self, advisories: &Advisories, vex: &Vex) -> Result<Vec<Finding>> {
        let mut found = match advisories {
            Advisories::Tracker(tracker) => self.by_tracker(tracker)?,
            Advisories::Osv(records) => self.by_osv(records)?,
        };
        for finding in &mut found {
            if finding.verdict == Verdict::Unexplained {
                finding.verdict = judge(finding, vex);
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Statements that are about nothing that is pinned.
    pub fn stale<'v>(&self, vex: &'v Vex) -> Vec<&'v str> {
        // Without an image to read, nobody knows of which modules it is made.
        let may_be = |product: &vex::Product| product.is_module && self.modules.is_empty();
        let is_about = |product: &vex::Product| may_be(product) || self.has(&product.name, product.version.as_deref());
        let about_nothing = |statement: &&vex::Statement| !statement.products.iter().any(is_about);
        vex.statements.iter().filter(about_nothing).map(|statement| statement.vulnerability.as_str()).collect()
    }

    fn finding(&self, id: &str, source: &str, artefacts: &[&Artefact], summary: &str) -> Finding {
        let within = artefacts.iter().filter_map(|artefact| self.images.get(artefact.name.as_str())).flatten();
        Finding {
            id: id.to_owned(),
            aliases: BTreeSet::new(),
            package: source.to_owned(),
            pinned: artefacts.iter().map(|artefact| (artefact.name.clone(), artefact.version.clone())).collect(),
            within: within.cloned().collect(),
            fixed: None,
            summary: first_words(summary),
            verdict: Verdict::Unexplained,
        }
    }

    fn by_tracker(&self, tracker: &Tracker) -> Result<Vec<Finding>> {
        tracker.must_know(self.suite)?;
        let mut found = Vec::new();
        for (source, artefacts) in &self.sources {
            for (id, entry) in tracker.0.get(*source).into_iter().flatten() {
                let Some(release) = entry.releases.get(self.suite) else { continue };
                let mended = release.fixed()?;
                let open: Vec<&Artefact> = artefacts
                    .iter()
                    .copied()
                    .filter(|artefact| {
                        mended.is_none_or(|fixed| version::compare(source_version(&artefact.version), fixed) == Ordering::Less)
                    })
                    .collect();
                if open.is_empty() {
                    continue;
                }
                let mut finding = self.finding(id, source, &open, &entry.description);
                finding.fixed = mended.map(str::to_owned);
                if release.urgency == "unimportant" {
                    finding.verdict = Verdict::Unimportant;
                }
                found.push(finding);
            }
        }
        Ok(found)
    }

    fn by_osv(&self, records: &[Osv]) -> Result<Vec<Finding>> {
        let debian = advisories::must_know(records, self.suite)?;
        let mut found = Vec::new();
        for record in records.iter().filter(|record| record.withdrawn.is_none()) {
            for affected in &record.affected {
                let name = affected.package.name.as_str();
                let mut finding = if debian.contains(&affected.package.ecosystem.as_str()) {
                    let Some((source, artefacts)) = self.sources.get_key_value(name) else { continue };
                    let hit = |artefact: &&&Artefact| affected.has(source_version(&artefact.version), version::compare);
                    let open: Vec<&Artefact> = artefacts.iter().filter(hit).copied().collect();
                    if open.is_empty() {
                        continue;
                    }
                    self.finding(&record.id, source, &open, record.words())
                } else {
                    let all = match affected.package.ecosystem.as_str() {
                        "crates.io" => &self.crates,
                        advisories::GO => &self.modules,
                        _ => continue,
                    };
                    let Some(versions) = all.get(name) else { continue };
                    // Go writes a `v` before the number, and OSV does not.
                    let has = |version: &str| affected.has(version.trim_start_matches('v'), advisories::semver);
                    let hit: Vec<_> = versions.iter().filter(|(version, _)| has(version)).collect();
                    if hit.is_empty() {
                        continue;
                    }
                    let mut finding = self.finding(&record.id, name, &[], record.words());
                    finding.pinned = hit.iter().map(|(version, _)| (name.to_owned(), (**version).to_owned())).collect();
                    finding.within = hit.iter().flat_map(|(_, within)| within.iter().cloned()).collect();
                    finding
                };
                finding.aliases = record.aliases.iter().chain(&record.upstream).cloned().collect();
                finding.fixed = affected.ranges.iter().flat_map(Range::fixes).next_back().map(str::to_owned);
                found.push(finding);
            }
        }
        Ok(found)
    }
}

/// A package that was only compiled again has `+bN` behind the version of its source (deb-version(7)).
fn source_version(version: &str) -> &str {
    match version.rsplit_once("+b") {
        Some((source, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => source,
        _ => version,
    }
}

fn judge(finding: &Finding, vex: &Vex) -> Verdict {
    let named = |statement: &&vex::Statement| statement.names().any(|name| name == finding.id || finding.aliases.contains(name));
    let covers = |statement: &vex::Statement, (name, version): &(String, String)| {
        statement.products.iter().any(|product| {
            (product.name == *name || product.name == finding.package) && product.version.as_ref().is_none_or(|wanted| wanted == version)
        })
    };
    let statements: Vec<&vex::Statement> = vex.statements.iter().filter(named).collect();
    // The last word about a package counts, as in OpenVEX; each that is pinned needs one.
    let words: Option<Vec<&vex::Statement>> =
        finding.pinned.iter().map(|one| statements.iter().rev().find(|statement| covers(statement, one)).copied()).collect();
    let Some(words) = words else { return Verdict::Unexplained };
    let open = words.iter().find(|statement| matches!(statement.status, Status::Affected | Status::UnderInvestigation));
    match (open, words.first()) {
        (Some(open), _) => Verdict::Admitted(open.reason()),
        (None, Some(first)) => Verdict::Explained(first.reason()),
        (None, None) => Verdict::Unexplained,
    }
}

fn first_words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
