//! Specs and the old lock → the new lock: `images lock`. Reads Debian's index only where a spec or a wish needs it.

use std::collections::{BTreeMap, BTreeSet};

use crate::deb::Deb;
use crate::debian_index::{ARCHITECTURE, REPOSITORIES, SUITE, Source, Trust};
use crate::digest::Digest;
use crate::error::{Class, Context, Error, Result};
use crate::ledger::{self, Decision, Found};
use crate::lock::{Archive, Artefact, FORMAT, Group, Kind, Lock, Origin, TOOLCHAIN, TOOLCHAIN_PACKAGES};
use crate::mirror::Mirrors;
use crate::progress::Progress;
use crate::resolve::packages::{self, Stanza};
use crate::resolve::{Candidate, Request, Resolution, resolve};
use crate::spec::Spec;
use crate::store::{Options, Store, http_client};

/// Which pins of Debian packages move to the archive's newest.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Update {
    /// None, but what the specs newly name is added.
    #[default]
    Keep,
    /// All of them.
    All,
    /// These packages.
    Names(BTreeSet<String>),
}

/// What a new lock is made from.
pub struct Relock<'a> {
    /// Every image's spec by name.
    pub specs: &'a BTreeMap<String, Spec>,
    /// The lock as it is. Vendors' entries live here and nowhere else.
    pub old: &'a Lock,
    /// Which pins move.
    pub update: Update,
    /// What a person decided about scripts.
    pub decisions: &'a [Decision],
    /// Whose signatures make an index Debian's. Asked only where an index is read.
    pub trust: &'a dyn Fn() -> Result<Trust>,
    /// Where the archive lies. Asked only where it is read.
    pub mirrors: &'a dyn Fn() -> Result<Mirrors>,
    /// Where packages are kept.
    pub store: &'a Store,
    /// Seconds since 1970.
    pub now: i64,
    /// How hard to try.
    pub options: &'a Options,
    /// Where downloads are reported.
    pub progress: &'a dyn Progress,
}

/// A new lock, and what happened on the way to it that nobody asked for.
#[derive(Debug)]
pub struct Relocked {
    /// The lock, not written yet.
    pub lock: Lock,
    /// Pins that had to move, each with the relation that they no longer satisfied.
    pub moved: BTreeMap<String, String>,
}

/// A lock that pins nothing yet.
pub fn empty() -> Lock {
    let debian = Archive { suite: SUITE.to_owned(), architecture: ARCHITECTURE.to_owned(), indexes: BTreeMap::new() };
    Lock { format: FORMAT, debian, groups: BTreeMap::new(), artefacts: Vec::new(), scripts: Vec::new() }
}

impl Relock<'_> {
    /// The new lock. Writes nothing but blobs to the store.
    pub fn run(&self) -> Result<Relocked> {
        let mut lock = self.old.clone();
        let vendors = self.vendors()?;
        let mut moved = BTreeMap::new();
        let mut found = Vec::new();
        if self.needs_archive() {
            (found, moved) = self.debian(&mut lock)?;
        }
        lock.artefacts.retain(|artefact| artefact.kind == Kind::Deb);
        lock.artefacts.extend(vendors);
        lock.scripts = ledger::settle(&self.old.scripts, &scripts(&lock), &found, self.decisions)?;
        // The file's order, so that a lock that was just made equals the one that is read back.
        let lock = Lock::parse(&lock.to_text(), "images/lock.json")?;
        Ok(Relocked { lock, moved })
    }

    fn needs_archive(&self) -> bool {
        let groups = &self.old.groups;
        let answered = self.specs.iter().all(|(name, spec)| groups.get(name).is_some_and(|group| group.answers(spec)));
        let toolchain = groups.get(TOOLCHAIN).is_some_and(|group| group.packages == TOOLCHAIN_PACKAGES);
        let no_more = groups.keys().all(|name| name == TOOLCHAIN || self.specs.contains_key(name));
        self.update != Update::Keep || !(answered && toolchain && no_more)
    }

    /// The entries that specs name, as they are in the old lock.
    fn vendors(&self) -> Result<Vec<Artefact>> {
        let mut wanted = BTreeSet::new();
        for spec in self.specs.values() {
            wanted.extend(spec.releases.iter().flat_map(|release| release.editions.values()).map(|name| (Kind::Release, name)));
            wanted.extend(spec.plugins.iter().map(|plugin| (Kind::Plugin, &plugin.artefact)));
        }
        let find = |(kind, name): (Kind, &String)| {
            self.old.artefact(kind, name).cloned().ok_or_else(|| {
                let hint = match kind {
                    Kind::Plugin => "its entry needs URL, fingerprint and signature; restore it from version control".to_owned(),
                    _ => format!("cargo xtask images lock --update {name} --version VERSION --sha256 HEX"),
                };
                Error::new(Class::Check, format!("a spec names {name}, which the lock does not pin")).hint(hint)
            })
        };
        wanted.into_iter().map(find).collect()
    }

    fn debian(&self, lock: &mut Lock) -> Result<(Vec<Found>, BTreeMap<String, String>)> {
        let pinned = self.pinned()?;
        let mirrors = (self.mirrors)()?;
        let (client, trust) = (http_client()?, (self.trust)()?);
        let (now, options, progress) = (self.now, self.options, self.progress);
        let source = Source { mirrors: &mirrors, client: &client, trust: &trust, now, options, progress };
        let mut texts = Vec::new();
        for (repository, codename) in REPOSITORIES {
            let (index, text) = source.read(repository, codename, self.old.debian.indexes.get(repository))?;
            lock.debian.indexes.insert(repository.to_owned(), index);
            texts.push((repository, text));
        }
        let mut repositories = Vec::new();
        for (repository, text) in &texts {
            repositories.push((*repository, packages::parse(text).context(|| format!("the index of {repository}"))?));
        }
        let controls = self.left_the_index(&pinned, &repositories)?;
        let pins = pins(&pinned, &repositories, &controls)?;
        let resolution = resolve(&repositories, &pins, &self.requests())?;
        let (artefacts, found) = self.pin(&resolution)?;
        lock.artefacts.retain(|artefact| artefact.kind != Kind::Deb);
        lock.artefacts.extend(artefacts);
        lock.groups = self.groups(&resolution);
        Ok((found, resolution.moved))
    }

    /// Pins that stay: those of groups that are still there, without what is to be updated.
    fn pinned(&self) -> Result<Vec<&Artefact>> {
        let needed = |name: &str| {
            let mut groups = self.old.groups.iter().filter(|(group, _)| *group == TOOLCHAIN || self.specs.contains_key(*group));
            groups.any(|(_, group)| group.packages.iter().any(|package| package == name))
        };
        if let Update::Names(names) = &self.update
            && let Some(unknown) = names.iter().find(|name| self.old.artefact(Kind::Deb, name).is_none())
        {
            return Err(
                Error::new(Class::Usage, format!("the lock pins no package \"{unknown}\"")).hint("images/lock.json lists what is pinned")
            );
        }
        let stays = |artefact: &&Artefact| match &self.update {
            Update::All => false,
            Update::Keep => true,
            Update::Names(names) => !names.contains(&artefact.name),
        };
        let debs = self.old.artefacts.iter().filter(|artefact| artefact.kind == Kind::Deb && needed(&artefact.name));
        Ok(debs.filter(stays).collect())
    }

    /// The `control` of each pinned package that the index no longer describes, from the package itself.
    fn left_the_index(
        &self,
        pinned: &[&Artefact],
        repositories: &[(&str, BTreeMap<String, Stanza<'_>>)],
    ) -> Result<BTreeMap<String, String>> {
        let gone: Vec<&Artefact> = pinned.iter().copied().filter(|artefact| described(artefact, repositories).is_none()).collect();
        self.store.fetch(&gone, self.mirrors, self.options, self.progress).context(|| "reading pins that have left the index")?;
        gone.into_iter().map(|artefact| Ok((artefact.name.clone(), self.open(artefact)?.control.control))).collect()
    }

    fn requests(&self) -> Vec<Request<'_>> {
        let before = |name: &str| -> Vec<&str> {
            self.old.groups.get(name).map(|group| group.packages.iter().map(String::as_str).collect()).unwrap_or_default()
        };
        let mut requests = Vec::new();
        for (name, spec) in self.specs {
            let mut packages: Vec<&str> = spec.debian.packages.iter().map(String::as_str).collect();
            packages.sort_unstable();
            let without = spec.debian.without.keys().map(String::as_str).collect();
            requests.push(Request { group: name, packages, without, closed: true, before: before(name) });
        }
        let packages = TOOLCHAIN_PACKAGES.to_vec();
        requests.push(Request { group: TOOLCHAIN, packages, closed: false, ..Request::default() });
        requests
    }

    /// Every chosen package as an artefact, with its scripts: pins as they are, others fetched and read.
    fn pin(&self, resolution: &Resolution<'_>) -> Result<(Vec<Artefact>, Vec<Found>)> {
        let (mut artefacts, mut fresh) = (Vec::new(), Vec::new());
        for (name, candidate) in &resolution.chosen {
            let stanza = &candidate.stanza;
            let old = self.old.artefact(Kind::Deb, name).filter(|old| old.version == stanza.version);
            match old.filter(|old| stanza.sha256.is_empty() || old.sha256.is_some_and(|sha256| sha256.to_string() == stanza.sha256)) {
                Some(old) => artefacts.push(old.clone()),
                None => fresh.push(artefact(candidate)?),
            }
        }
        let wants: Vec<&Artefact> = fresh.iter().collect();
        self.store.fetch(&wants, self.mirrors, self.options, self.progress)?;
        let mut found = Vec::new();
        for mut artefact in fresh {
            for (script, text) in self.open(&artefact)?.control.scripts {
                let sha256 = Digest::of(&text);
                found.push(Found { name: format!("{}.{script}", artefact.name), sha256, text });
                artefact.scripts.insert(script, sha256);
            }
            artefacts.push(artefact);
        }
        Ok((artefacts, found))
    }

    fn open(&self, artefact: &Artefact) -> Result<Deb<std::io::BufReader<fs_err::File>>> {
        let path = self.store.require(artefact)?;
        let deb = Deb::open(std::io::BufReader::new(fs_err::File::open(path)?)).context(|| artefact.from.file_name().to_owned())?;
        let said = (deb.control.field("Package"), deb.control.field("Version"));
        if said != (Some(artefact.name.as_str()), Some(artefact.version.as_str())) {
            return Err(Error::new(Class::Build, format!("{} is another package than the index says", artefact.from.file_name()))
                .detail(format!("expected {} {}", artefact.name, artefact.version))
                .detail(format!("found    {} {}", said.0.unwrap_or("no name"), said.1.unwrap_or("no version"))));
        }
        Ok(deb)
    }

    fn groups(&self, resolution: &Resolution<'_>) -> BTreeMap<String, Group> {
        let mut groups = BTreeMap::new();
        for (name, packages) in &resolution.groups {
            let spec = self.specs.get(name);
            let mut requests =
                spec.map(|spec| spec.debian.packages.clone()).unwrap_or_else(|| TOOLCHAIN_PACKAGES.map(str::to_owned).to_vec());
            requests.sort();
            let without = spec.map(|spec| spec.debian.without.keys().cloned().collect()).unwrap_or_default();
            groups.insert(name.clone(), Group { requests, without, packages: packages.iter().cloned().collect() });
        }
        groups
    }
}

/// The index's stanza for exactly this pin.
fn described<'r, 'a>(artefact: &Artefact, repositories: &'r [(&'a str, BTreeMap<String, Stanza<'a>>)]) -> Option<Candidate<'a>> {
    let sha256 = artefact.sha256?.to_string();
    repositories.iter().find_map(|(repository, stanzas)| {
        let stanza: &'r Stanza<'a> = stanzas.get(&artefact.name)?;
        (stanza.version == artefact.version && stanza.sha256 == sha256).then(|| Candidate { repository, stanza: stanza.clone() })
    })
}

fn pins<'a>(
    pinned: &[&Artefact],
    repositories: &[(&'a str, BTreeMap<String, Stanza<'a>>)],
    controls: &'a BTreeMap<String, String>,
) -> Result<BTreeMap<String, Candidate<'a>>> {
    let mut pins = BTreeMap::new();
    for artefact in pinned {
        let candidate = match described(artefact, repositories) {
            Some(candidate) => candidate,
            None => {
                let stanza = Stanza::parse(controls[&artefact.name].trim_end()).context(|| artefact.from.file_name().to_owned())?;
                // What becomes of it is the old artefact, with the repository that it has there.
                Candidate { repository: "main", stanza }
            }
        };
        pins.insert(artefact.name.clone(), candidate);
    }
    Ok(pins)
}

fn artefact(candidate: &Candidate<'_>) -> Result<Artefact> {
    let stanza = &candidate.stanza;
    let (path, size, sha256) = stanza.file()?;
    Ok(Artefact {
        name: stanza.name.clone().into_owned(),
        version: stanza.version.clone().into_owned(),
        architecture: stanza.architecture.clone().into_owned(),
        kind: Kind::Deb,
        size: Some(size),
        sha256: Some(sha256),
        from: Origin::Debian { repository: candidate.repository.to_owned(), path: path.to_owned() },
        source: (!stanza.source.is_empty()).then(|| stanza.source.clone().into_owned()),
        signature: None,
        scripts: BTreeMap::new(),
    })
}

/// Every script that the lock's packages have: hash → the first name that it has.
fn scripts(lock: &Lock) -> BTreeMap<Digest, String> {
    let mut scripts = BTreeMap::new();
    let mut artefacts: Vec<&Artefact> = lock.artefacts.iter().collect();
    artefacts.sort_by_key(|artefact| &artefact.name);
    for artefact in artefacts {
        for (script, sha256) in &artefact.scripts {
            scripts.entry(*sha256).or_insert_with(|| format!("{}.{script}", artefact.name));
        }
    }
    scripts
}

#[cfg(test)]
mod tests;
