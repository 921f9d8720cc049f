//! Two builds of one image → every difference, in words: package, setting, layer, path, field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::compare::{self, Change, NOTHING};
use crate::contents::{Image, Layer, Member, Place};
use crate::error::{Class, Error, Result};

/// Differences that an error lists before it only counts.
const SHOWN: usize = 20;

/// One thing that is not the same in both builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `packages`, `config`, `manifest`, or the layer by number (from 1 at the bottom) and name.
    pub place: String,
    /// The path in the image, with its leading slash, where it is about one.
    pub path: Option<String>,
    /// What differs.
    pub change: Change,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}, {path}, {}", self.place, self.change),
            None => write!(f, "{}, {}", self.place, self.change),
        }
    }
}

impl Difference {
    fn new(place: &str, path: Option<&str>, change: Change) -> Difference {
        Difference { place: place.to_owned(), path: path.map(|path| format!("/{path}")), change }
    }
}

/// Every difference between the images called `name` in two layouts, packages and settings first; empty is good.
///
/// Layers are read and hashed, also where both sides name the same digest: a damaged layer is a difference.
pub fn differences(left: &Path, right: &Path, name: &str) -> Result<Vec<Difference>> {
    let (left, right) = (Place::open(left)?.image(name)?, Place::open(right)?.image(name)?);
    let mut found = Vec::new();
    for pair in pairs(&left, &right) {
        layer(&pair, &mut found)?;
    }
    // The digests of what was named above are no news.
    let consequence = |field: &str| field.ends_with("/digest") || field.ends_with("/size") || field.starts_with("/rootfs/diff_ids");
    let documents = [("config", &left.config, &right.config), ("manifest", &left.manifest, &right.manifest)];
    let documents = documents.into_iter().flat_map(|(place, left, right)| {
        let changes = compare::documents(left, right).into_iter().filter(|change| !consequence(&change.field));
        changes.map(|change| Difference::new(place, None, change)).collect::<Vec<_>>()
    });
    let mut first = packages(&left, &right)?;
    first.extend(documents);
    first.append(&mut found);
    if first.is_empty() && left.digest != right.digest {
        first.push(Difference::new("manifest", None, change("digest", left.digest.oci(), right.digest.oci())));
    }
    Ok(first)
}

/// The error that lists `differences` of the image `name`: what stands → what was rebuilt.
pub fn error(name: &str, differences: &[Difference]) -> Error {
    let many = if differences.len() == 1 { "1 difference".to_owned() } else { format!("{} differences", differences.len()) };
    let mut error = Error::new(Class::NotReproducible, format!("{name} was not reproduced: {many}, as it stands → as it was rebuilt"));
    for difference in differences.iter().take(SHOWN) {
        error = error.detail(difference.to_string());
    }
    if differences.len() > SHOWN {
        error = error.detail(format!("… and {} more", differences.len() - SHOWN));
    }
    let inputs = format!("/config/Labels/{}", crate::build::INPUTS_LABEL);
    match differences.iter().any(|difference| difference.change.field == inputs) {
        true => error.hint("it was built from other inputs than the checkout has now; `cargo xtask images` builds it from these"),
        false => error.hint("the same inputs gave other bytes: keep both for a look with `cargo xtask images diff`, or build it again"),
    }
}

fn change(field: impl Into<String>, left: impl Into<String>, right: impl Into<String>) -> Change {
    Change { field: field.into(), left: left.into(), right: right.into() }
}

/// A layer on both sides, or on one.
struct Pair<'a> {
    place: String,
    left: Option<&'a Layer>,
    right: Option<&'a Layer>,
}

/// Layers by position where both sides have the same names, else by name.
fn pairs<'a>(left: &'a Image, right: &'a Image) -> Vec<Pair<'a>> {
    let numbered = |image: &'a Image| -> Vec<(usize, &'a Layer)> { image.layers.iter().enumerate().collect() };
    let mut unpaired: Vec<(usize, &Layer)> = numbered(right);
    let mut pairs = Vec::new();
    let place = |number: usize, layer: &Layer| format!("layer {} \"{}\"", number + 1, layer.name);
    for (number, layer) in numbered(left) {
        let twin = unpaired.iter().position(|(_, other)| other.name == layer.name).map(|at| unpaired.remove(at).1);
        pairs.push(Pair { place: place(number, layer), left: Some(layer), right: twin });
    }
    pairs.extend(unpaired.into_iter().map(|(number, layer)| Pair { place: place(number, layer), left: None, right: Some(layer) }));
    pairs
}

fn packages(left: &Image, right: &Image) -> Result<Vec<Difference>> {
    let (left, right) = (left.packages(&left.members()?)?, right.packages(&right.members()?)?);
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let version = |side: &BTreeMap<String, crate::contents::Package>| side.get(name).map_or(NOTHING.into(), |one| one.version.clone());
        let (a, b) = (version(&left), version(&right));
        if a != b {
            found.push(Difference::new("packages", None, change(name.as_str(), a, b)));
        }
    }
    Ok(found)
}

fn layer(pair: &Pair<'_>, found: &mut Vec<Difference>) -> Result<()> {
    let (Some(left), Some(right)) = (pair.left, pair.right) else {
        let text = |side: Option<&Layer>| side.map_or(NOTHING.to_owned(), |layer| layer.digest.oci());
        found.push(Difference::new(&pair.place, None, change("the whole layer", text(pair.left), text(pair.right))));
        return Ok(());
    };
    let before = found.len();
    for (side, layer) in [("as it stands", left), ("as rebuilt", right)] {
        if !layer.is_whole()? {
            let damaged = change(format!("bytes {side}"), layer.digest.oci(), "another digest: the file is damaged");
            found.push(Difference::new(&pair.place, None, damaged));
        }
    }
    if left.digest == right.digest && found.len() == before {
        return Ok(());
    }
    let (a, b) = (left.members()?, right.members()?);
    let before = found.len();
    entries(pair, (left, &a), (right, &b), found)?;
    if found.len() == before
        && let Some((at, ..)) = compare::first_difference(left.bytes(&left.open()?), right.bytes(&right.open()?))?
    {
        // Everything that the entries say is the same: the form is not.
        let near = a.iter().find(|member| member.offset > at).map_or("the end", |member| member.entry.path.as_str());
        found.push(Difference::new(&pair.place, None, change("form of the tar", format!("byte {at}, near /{near}"), "other bytes")));
    }
    Ok(())
}

fn entries(pair: &Pair<'_>, left: (&Layer, &[Member]), right: (&Layer, &[Member]), found: &mut Vec<Difference>) -> Result<()> {
    let by_path = |members: &'_ [Member]| -> BTreeMap<String, usize> {
        members.iter().enumerate().rev().map(|(at, member)| (member.entry.path.clone(), at)).collect()
    };
    let (known, other) = (by_path(left.1), by_path(right.1));
    let files = (left.0.open()?, right.0.open()?);
    for member in left.1 {
        let path = &member.entry.path;
        let Some(twin) = other.get(path).map(|at| &right.1[*at]) else {
            found.push(Difference::new(&pair.place, Some(path), change("entry", compare::describe(&member.entry), NOTHING)));
            continue;
        };
        let changes = compare::members((left.0, &files.0, member), (right.0, &files.1, twin))?;
        found.extend(changes.into_iter().map(|change| Difference::new(&pair.place, Some(path), change)));
    }
    for member in right.1.iter().filter(|member| !known.contains_key(&member.entry.path)) {
        let entry = change("entry", NOTHING, compare::describe(&member.entry));
        found.push(Difference::new(&pair.place, Some(&member.entry.path), entry));
    }
    let common = |members: &'_ [Member], there: &BTreeMap<String, usize>| -> Vec<String> {
        members.iter().map(|member| member.entry.path.clone()).filter(|path| there.contains_key(path)).collect()
    };
    let (a, b) = (common(left.1, &other), common(right.1, &known));
    if let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) {
        found.push(Difference::new(
            &pair.place,
            None,
            change(format!("order at entry {}", at + 1), format!("/{}", a[at]), format!("/{}", b[at])),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
