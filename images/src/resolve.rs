//! Debian's index → which packages in which versions an image gets. Pure; `relock` brings the index and writes the lock.
//!
//! Deterministic: of alternatives the first that can be had, but one that is chosen already (or was, in the old lock) wins.
//! Pins win over newer versions for as long as they satisfy every relation.

pub mod depends;
pub mod packages;
pub mod release;
pub mod version;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::error::{Class, Error, Result};
use depends::Relation;
use packages::Stanza;

/// A package that can be had, and from which repository (`main`, `security`).
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// Repository of the archive.
    pub repository: &'a str,
    /// What the index, or the pinned package itself, says of it.
    pub stanza: Stanza<'a>,
}

/// What one image, or the toolchain, wants.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// The group's name in the lock.
    pub group: &'a str,
    /// Packages that it names.
    pub packages: Vec<&'a str>,
    /// Packages that are cut off the closure, with everything that only they need.
    pub without: Vec<&'a str>,
    /// Whether dependencies are followed. Where not, those among the named packages still have to hold.
    pub closed: bool,
    /// What the old lock had chosen for this group: wins among alternatives.
    pub before: Vec<&'a str>,
}

/// What was chosen.
#[derive(Debug, Default)]
pub struct Resolution<'a> {
    /// Group → its packages, sorted.
    pub groups: BTreeMap<String, BTreeSet<String>>,
    /// Every chosen package.
    pub chosen: BTreeMap<String, Candidate<'a>>,
    /// Pins that had to move although nobody asked, each with the relation that they do not satisfy.
    pub moved: BTreeMap<String, String>,
}

/// Everything that can be had: one candidate a name.
struct Universe<'a> {
    candidates: BTreeMap<String, Candidate<'a>>,
    /// What is provided → who provides it, in which version.
    providers: BTreeMap<String, BTreeMap<String, Option<String>>>,
}

/// A relation that the pinned version of a package does not satisfy, but the archive's newest does.
struct Outgrown {
    package: String,
    relation: String,
}

/// Resolves every request from the newest packages of `repositories` (name → its stanzas) and from `pins`, which take the
/// place of newer versions. All groups see the same versions.
pub fn resolve<'a>(
    repositories: &[(&'a str, BTreeMap<String, Stanza<'a>>)],
    pins: &BTreeMap<String, Candidate<'a>>,
    requests: &[Request<'_>],
) -> Result<Resolution<'a>> {
    let newest = newest(repositories);
    let mut pins = pins.clone();
    let mut moved = BTreeMap::new();
    // Each round gives up one pin, so it ends.
    'round: loop {
        let universe = Universe::new(&newest, &pins)?;
        let mut resolution = Resolution::default();
        let mut stale = Vec::new();
        for request in requests {
            match universe.close(request, &newest)? {
                Ok((packages, unmet)) => {
                    if !unmet.is_empty() {
                        stale.push(format!("images/{}/image.toml: {}", request.group, unmet.join(", ")));
                    }
                    let chosen = packages.iter().map(|name| (name.clone(), universe.candidates[name].clone()));
                    resolution.chosen.extend(chosen);
                    resolution.groups.insert(request.group.to_owned(), packages);
                }
                Err(Outgrown { package, relation }) => {
                    pins.remove(&package);
                    moved.insert(package, relation);
                    continue 'round;
                }
            }
        }
        if !stale.is_empty() {
            let error = Error::new(Class::Check, "debian.without names packages that nothing would bring");
            return Err(stale.into_iter().fold(error, |error, line| error.detail(line)).hint("take them out of debian.without"));
        }
        resolution.moved = moved;
        return Ok(resolution);
    }
}

/// Of each name the latest version; where two repositories have the same, the first one's.
fn newest<'a>(repositories: &[(&'a str, BTreeMap<String, Stanza<'a>>)]) -> BTreeMap<String, Candidate<'a>> {
    let mut newest: BTreeMap<String, Candidate<'a>> = BTreeMap::new();
    for (repository, stanzas) in repositories {
        for (name, stanza) in stanzas {
            match newest.get(name) {
                Some(known) if version::compare(&known.stanza.version, &stanza.version).is_ge() => {}
                _ => {
                    newest.insert(name.clone(), Candidate { repository, stanza: stanza.clone() });
                }
            }
        }
    }
    newest
}

/// The packages of a closure, and the names of `without` that it never met.
type Closed = (BTreeSet<String>, Vec<String>);

impl<'a> Universe<'a> {
    fn new(newest: &BTreeMap<String, Candidate<'a>>, pins: &BTreeMap<String, Candidate<'a>>) -> Result<Self> {
        let mut candidates = newest.clone();
        candidates.extend(pins.clone());
        let mut providers: BTreeMap<String, BTreeMap<String, Option<String>>> = BTreeMap::new();
        for (name, candidate) in &candidates {
            for (provided, version) in depends::parse_provides(&candidate.stanza.provides).map_err(|error| error.context(name))? {
                providers.entry(provided.to_owned()).or_default().insert(name.clone(), version.map(str::to_owned));
            }
        }
        Ok(Universe { candidates, providers })
    }

    /// The closure of one request, and the names of `without` that it never met. The inner error asks for a round without that pin.
    fn close(&self, request: &Request<'_>, newest: &BTreeMap<String, Candidate<'_>>) -> Result<Result<Closed, Outgrown>> {
        let mut closure = Closure { universe: self, request, chosen: BTreeSet::new(), met: BTreeSet::new(), wanted_by: BTreeMap::new() };
        let mut queue = VecDeque::new();
        for name in &request.packages {
            if request.without.contains(name) {
                return Err(Error::new(Class::Usage, format!("{}: {name} is asked for and left out at once", request.group))
                    .hint("take it from debian.packages or from debian.without of image.toml"));
            }
            if !self.candidates.contains_key(*name) {
                return Err(Error::new(Class::Check, format!("{}: no package is called \"{name}\"", request.group))
                    .detail("expected a package of trixie, component main, for amd64")
                    .hint("apt-cache search finds names"));
            }
            closure.chosen.insert((*name).to_owned());
            queue.push_back((*name).to_owned());
        }
        while let Some(name) = queue.pop_front() {
            for clause in self.candidates[&name].stanza.clauses()? {
                let own = |relation: &Relation<'_>| request.packages.contains(&relation.name);
                if closure.has(&clause) || (!request.closed && !clause.iter().any(own)) {
                    continue;
                }
                if let Some(outgrown) = outgrown(&clause, self, newest, |name| request.closed || request.packages.contains(&name)) {
                    return Ok(Err(outgrown));
                }
                match closure.choose(&clause) {
                    Some(Choice::CutOff) => {}
                    Some(Choice::Take(next)) => {
                        closure.wanted_by.insert(next.clone(), name.clone());
                        closure.chosen.insert(next.clone());
                        queue.push_back(next);
                    }
                    None => return Err(closure.unsatisfied(&name, &clause)),
                }
            }
        }
        let stale = request.without.iter().filter(|name| !closure.met.contains(**name)).map(|name| (*name).to_owned()).collect();
        Ok(Ok((closure.chosen, stale)))
    }
}

/// A pin whose version does not do although the newest would, where nothing else of the clause can be had as it is.
fn outgrown(
    clause: &[Relation<'_>],
    universe: &Universe<'_>,
    newest: &BTreeMap<String, Candidate<'_>>,
    may: impl Fn(&str) -> bool,
) -> Option<Outgrown> {
    let takes = |from: &BTreeMap<String, Candidate<'_>>, relation: &Relation<'_>| {
        from.get(relation.name).is_some_and(|candidate| relation.takes(&candidate.stanza.version))
    };
    if clause.iter().any(|relation| takes(&universe.candidates, relation)) {
        return None;
    }
    let relation = clause.iter().find(|relation| may(relation.name) && takes(newest, relation))?;
    Some(Outgrown { package: relation.name.to_owned(), relation: relation.to_string() })
}

enum Choice {
    CutOff,
    Take(String),
}

struct Closure<'u, 'a> {
    universe: &'u Universe<'a>,
    request: &'u Request<'u>,
    chosen: BTreeSet<String>,
    /// Names of `without` that something asked for.
    met: BTreeSet<String>,
    /// Package → the one that brought it first.
    wanted_by: BTreeMap<String, String>,
}

impl<'u, 'a> Closure<'u, 'a> {
    /// The packages that satisfy `relation`, the one of that name first, then its providers.
    fn answers(&self, relation: &Relation<'_>) -> impl Iterator<Item = &'u str> + use<'u, 'a> {
        let universe = self.universe;
        let real = universe.candidates.get_key_value(relation.name).filter(|(_, candidate)| relation.takes(&candidate.stanza.version));
        let providers = universe.providers.get(relation.name).into_iter().flatten();
        let provided = providers.filter(|(_, version)| relation.takes_provided(version.as_deref())).map(|(name, _)| name.as_str());
        real.map(|(name, _)| name.as_str()).into_iter().chain(provided.collect::<Vec<_>>())
    }

    fn has(&self, clause: &[Relation<'_>]) -> bool {
        clause.iter().any(|relation| self.answers(relation).any(|name| self.chosen.contains(name)))
    }

    fn choose(&mut self, clause: &[Relation<'_>]) -> Option<Choice> {
        let cut = |name: &&str| self.request.without.contains(name);
        for relation in clause {
            // What is left out is left out in every version, and as a provider as well.
            let cut_off = Some(relation.name).filter(cut).or_else(|| self.answers(relation).find(|name| cut(name)));
            if let Some(name) = cut_off {
                let name = name.to_owned();
                self.met.insert(name);
                return Some(Choice::CutOff);
            }
            let mut answers: Vec<&str> = self.answers(relation).collect();
            // A package of that very name comes first; providers by priority, as apt does, then by name.
            answers.sort_by_key(|name| (*name != relation.name, self.priority(name)));
            if let Some(name) = self.kept(clause).or(answers.first().copied()) {
                return Some(Choice::Take(name.to_owned()));
            }
        }
        None
    }

    /// What the old lock had chosen for the clause.
    fn kept(&self, clause: &[Relation<'_>]) -> Option<&'u str> {
        let before = |name: &&str| self.request.before.contains(name) && !self.request.without.contains(name);
        clause.iter().find_map(|relation| self.answers(relation).find(before))
    }

    fn priority(&self, name: &str) -> usize {
        let priority = &self.universe.candidates[name].stanza.priority;
        ["required", "important", "standard"].iter().position(|one| one == priority).unwrap_or(3)
    }

    fn unsatisfied(&self, package: &str, clause: &[Relation<'_>]) -> Error {
        let mut path = vec![package];
        while let Some(by) = path.last().and_then(|last| self.wanted_by.get(*last)) {
            path.push(by);
        }
        path.reverse();
        let found = clause.iter().map(|relation| match self.universe.candidates.get(relation.name) {
            Some(candidate) => format!("{} {}", relation.name, candidate.stanza.version),
            None => format!("no {}", relation.name),
        });
        Error::new(Class::Check, format!("{}: {package} needs {}", self.request.group, depends::show(clause)))
            .detail(format!("found {}", found.collect::<Vec<_>>().join(", ")))
            .detail(format!("on the way {}", path.join(" → ")))
            .hint("debian.without in image.toml cuts a package off; --update moves a pin that is in the way")
    }
}

#[cfg(test)]
mod tests;
