//! What others publish about holes: the JSON of Debian's security tracker, and OSV records (ossf.github.io/osv-schema).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use images::{Class, Error, Result};
use serde::Deserialize;

/// OSV's name for Go modules.
pub const GO: &str = "Go";

/// Advisories as a file has them.
#[derive(Debug)]
pub enum Advisories {
    /// Debian's security tracker.
    Tracker(Tracker),
    /// OSV records.
    Osv(Vec<Osv>),
}

/// Source package → name of the hole → what is known.
#[derive(Debug, Deserialize)]
pub struct Tracker(pub BTreeMap<String, BTreeMap<String, Entry>>);

/// A hole, in the tracker.
#[derive(Debug, Deserialize)]
pub struct Entry {
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Codename → what became of it there.
    pub releases: BTreeMap<String, Release>,
}

/// What became of a hole in a release of Debian.
#[derive(Debug, Deserialize)]
pub struct Release {
    status: String,
    #[serde(default)]
    fixed_version: Option<String>,
    /// `unimportant` where it is no hole in the security team's eyes.
    #[serde(default)]
    pub urgency: String,
}

impl Release {
    /// The version from which on it is closed; `None` while it is open, or nobody knows.
    pub fn fixed(&self) -> Result<Option<&str>> {
        match (self.status.as_str(), &self.fixed_version) {
            ("resolved", Some(version)) => Ok(Some(version)),
            ("open" | "undetermined", _) => Ok(None),
            (status, _) => Err(Error::new(Class::Usage, "the advisories are not the tracker's that this xtask knows")
                .detail("expected status open, undetermined, or resolved with a fixed_version")
                .detail(format!("found    {status:?}, fixed_version {:?}", self.fixed_version))),
        }
    }
}

impl Tracker {
    /// Fails where the file says nothing about the release `suite`: it would find nothing in any lock.
    pub fn must_know(&self, suite: &str) -> Result<()> {
        let known = self.0.values().flat_map(BTreeMap::values).any(|entry| entry.releases.contains_key(suite));
        if known { Ok(()) } else { Err(says_nothing(suite)) }
    }
}

fn says_nothing(what: &str) -> Error {
    Error::new(Class::Usage, format!("the advisories say nothing about {what}, so they would find nothing"))
        .hint("is it the whole file, and a new one? See docs/audit.md")
}

/// An OSV record, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub struct Osv {
    /// Such as `DEBIAN-CVE-2026-27624`.
    pub id: String,
    /// The same hole, by other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What a distribution's record is about.
    #[serde(default)]
    pub upstream: Vec<String>,
    /// When it was taken back.
    #[serde(default)]
    pub withdrawn: Option<String>,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    details: String,
    /// What has the hole.
    pub affected: Vec<Affected>,
}

/// A package that has a hole.
#[derive(Debug, Deserialize)]
pub struct Affected {
    /// Which.
    pub package: OsvPackage,
    /// From which version to which.
    #[serde(default)]
    pub ranges: Vec<Range>,
    #[serde(default)]
    versions: Vec<String>,
}

/// A package, as OSV names it.
#[derive(Debug, Deserialize)]
pub struct OsvPackage {
    /// Such as `Debian:13` or `crates.io`.
    pub ecosystem: String,
    /// Debian's source package, or the crate.
    pub name: String,
}

/// Versions from `introduced` on, up to `fixed` or with `last_affected`.
#[derive(Debug, Deserialize)]
pub struct Range {
    #[serde(rename = "type")]
    kind: String,
    events: Vec<BTreeMap<String, String>>,
}

impl Range {
    /// Versions that close it.
    pub fn fixes(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.events.iter().filter_map(|event| event.get("fixed")).map(String::as_str)
    }

    /// OSV's own algorithm: the last event that is not above the version decides.
    fn has(&self, version: &str, compare: impl Fn(&str, &str) -> Ordering) -> bool {
        let mut affected = false;
        for event in &self.events {
            for (name, at) in event {
                let reached = at == "0" || compare(version, at) != Ordering::Less;
                match name.as_str() {
                    "introduced" if reached => affected = true,
                    "fixed" if reached => affected = false,
                    "last_affected" if compare(version, at) == Ordering::Greater => affected = false,
                    _ => {}
                }
            }
        }
        affected
    }
}

impl Affected {
    /// Whether a version has the hole. Ranges of commits are left out: no lock has them.
    pub fn has(&self, version: &str, compare: impl Fn(&str, &str) -> Ordering) -> bool {
        let ranges = self.ranges.iter().filter(|range| range.kind != "GIT");
        self.versions.iter().any(|one| one == version) || ranges.into_iter().any(|range| range.has(version, &compare))
    }
}

impl Osv {
    /// What it is.
    pub fn words(&self) -> &str {
        if self.summary.is_empty() { &self.details } else { &self.summary }
    }
}

/// The ecosystems that speak of the release `suite`.
///
/// # Errors
/// [`Class::Usage`] where no record is about that release, about crates or about Go modules.
pub fn must_know<'a>(records: &'a [Osv], suite: &str) -> Result<Vec<&'a str>> {
    let number = match suite {
        "bookworm" => "12",
        "trixie" => "13",
        "forky" => "14",
        other => return Err(Error::new(Class::Usage, format!("OSV names releases by number, and {other}'s is not known here"))),
    };
    let all = records.iter().flat_map(|record| &record.affected).map(|affected| affected.package.ecosystem.as_str());
    let (mut debian, mut others) = (Vec::new(), false);
    for ecosystem in all {
        others |= matches!(ecosystem, "crates.io" | GO);
        if (ecosystem == "Debian" || ecosystem.strip_prefix("Debian:") == Some(number)) && !debian.contains(&ecosystem) {
            debian.push(ecosystem);
        }
    }
    match debian.is_empty() && !others {
        true => Err(says_nothing(&format!("Debian {number}, crates or Go modules"))),
        false => Ok(debian),
    }
}

/// Semantic versions: three numbers, then whatever stands behind a hyphen, which comes before the release.
pub fn semver(a: &str, b: &str) -> Ordering {
    let split = |version: &str| -> (Vec<u64>, bool, String) {
        let version = version.split('+').next().unwrap_or_default();
        let (numbers, pre) = version.split_once('-').unwrap_or((version, ""));
        (numbers.split('.').map(|number| number.parse().unwrap_or(0)).collect(), pre.is_empty(), pre.to_owned())
    };
    let (mut a, mut b) = (split(a), split(b));
    a.0.resize(3, 0);
    b.0.resize(3, 0);
    // Parts of a pre-release are compared as Debian's are: numbers as numbers.
    a.0.cmp(&b.0).then(a.1.cmp(&b.1)).then_with(|| images::resolve::version::compare(&a.2.replace('-', "."), &b.2.replace('-', ".")))
}

impl Advisories {
    /// Whether any of them is about a Go module.
    pub fn are_about_go(&self) -> bool {
        let about_go = |record: &Osv| record.affected.iter().any(|affected| affected.package.ecosystem == GO);
        matches!(self, Advisories::Osv(records) if records.iter().any(about_go))
    }

    /// Reads a file; `file` is its name in errors.
    pub fn parse(text: &[u8], file: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Records {
            Many(Vec<Osv>),
            Answer { vulns: Vec<Osv> },
            One(Osv),
        }
        let wrong = |why: Vec<String>| {
            let error = Error::new(Class::Usage, format!("{file} holds no advisories that can be read"));
            why.into_iter()
                .fold(error, |error, line| error.detail(line))
                .hint("the JSON of Debian's security tracker, or OSV records; see docs/audit.md")
        };
        // Read without a model first, so that a file that ends too early is told as that.
        let as_tracker = match serde_json::from_slice::<Tracker>(text) {
            Ok(tracker) if !tracker.0.is_empty() => return Ok(Advisories::Tracker(tracker)),
            Ok(_) => return Err(wrong(vec!["it names no package".to_owned()])),
            Err(error) if error.is_syntax() || error.is_eof() => return Err(wrong(vec![format!("it is no JSON: {error}")])),
            Err(error) => error,
        };
        match serde_json::from_slice::<Records>(text) {
            Ok(Records::Many(all) | Records::Answer { vulns: all }) if all.is_empty() => Err(wrong(vec!["it has no record".to_owned()])),
            Ok(Records::Many(all) | Records::Answer { vulns: all }) => Ok(Advisories::Osv(all)),
            Ok(Records::One(one)) => Ok(Advisories::Osv(vec![one])),
            Err(error) => Err(wrong(vec![format!("as the tracker's: {as_tracker}"), format!("as OSV: {error}")])),
        }
    }
}
