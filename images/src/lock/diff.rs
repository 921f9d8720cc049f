//! What changed between two locks, for a person.

use std::collections::{BTreeMap, BTreeSet};

use super::{Artefact, Kind, Lock, Origin};
use crate::ledger::treatment_name;
use crate::progress::human;

/// A line for each change, in the order artefacts, groups, scripts, indexes; empty where nothing changed.
pub fn lines(old: &Lock, new: &Lock) -> Vec<String> {
    let mut lines = artefacts(old, new);
    let names: BTreeSet<&String> = old.groups.keys().chain(new.groups.keys()).collect();
    for name in names {
        let packages = |lock: &Lock| -> BTreeSet<String> {
            lock.groups.get(name).map(|group| group.packages.iter().cloned().collect()).unwrap_or_default()
        };
        let (before, after) = (packages(old), packages(new));
        if before != after || old.groups.contains_key(name) != new.groups.contains_key(name) {
            let added = after.difference(&before).map(|package| format!("+{package}"));
            let changes: Vec<String> = added.chain(before.difference(&after).map(|package| format!("-{package}"))).collect();
            lines.push(format!("group    {name}: {} packages: {}", after.len(), changes.join(" ")));
        }
    }
    lines.extend(scripts(old, new));
    for (repository, index) in &new.debian.indexes {
        let before = old.debian.indexes.get(repository).map(|index| index.date.as_str());
        if before != Some(index.date.as_str()) {
            lines.push(format!("index    {repository}: {} → {}", before.unwrap_or("none"), index.date));
        }
    }
    lines
}

fn artefacts(old: &Lock, new: &Lock) -> Vec<String> {
    let by_name = |lock: &Lock| -> BTreeMap<(Kind, String), Artefact> {
        lock.artefacts.iter().map(|artefact| ((artefact.kind, artefact.name.clone()), artefact.clone())).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let line = |key| match (before.get(key), after.get(key)) {
        (None, Some(new)) => Some(format!("added    {} {}, {}{}", new.name, new.version, size(new), place(new))),
        (Some(old), None) => Some(format!("removed  {} {}, {}", old.name, old.version, size(old))),
        (Some(old), Some(new)) if old.version != new.version => {
            Some(format!("moved    {} {} → {}, {} → {}{}", new.name, old.version, new.version, size(old), size(new), place(new)))
        }
        (Some(old), Some(new)) if old.sha256 != new.sha256 && old.sha256.is_none() => {
            Some(format!("verified {} {}, {}", new.name, new.version, size(new)))
        }
        (Some(old), Some(new)) if old != new => Some(format!("changed  {} {}, {} → {}", new.name, new.version, size(old), size(new))),
        _ => None,
    };
    keys.into_iter().filter_map(line).collect()
}

fn scripts(old: &Lock, new: &Lock) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in &new.scripts {
        match old.scripts.iter().find(|before| before.sha256 == entry.sha256) {
            Some(before) if before.treatment == entry.treatment && before.reason == entry.reason => {}
            _ => lines.push(format!("script   {} is {}: {}", entry.name, treatment_name(entry.treatment), entry.reason)),
        }
    }
    let gone = old.scripts.iter().filter(|entry| !new.scripts.iter().any(|kept| kept.sha256 == entry.sha256));
    lines.extend(gone.map(|entry| format!("script   {} is no longer needed", entry.name)));
    lines
}

fn size(artefact: &Artefact) -> String {
    artefact.size.map_or("size not known".to_owned(), human)
}

fn place(artefact: &Artefact) -> String {
    match &artefact.from {
        Origin::Debian { repository, .. } => format!(", {repository}"),
        Origin::Url { .. } => String::new(),
    }
}
