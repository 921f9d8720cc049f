//! Two images, for a person who wants to know what changed: packages, files, settings, sizes.
//!
//! Locks have a diff of their own: [`crate::lock::diff`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::compare::{self, Change, NOTHING};
use crate::contents::{self, Image, Member};
use crate::error::Result;
use crate::progress::human;

/// The schema of [`Comparison`] as JSON.
const FORMAT: u32 = 1;

/// Lines of files that are shown where not all are asked for.
const SHOWN: usize = 20;

/// What differs between two images. Empty lists are good.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Version of this schema: 1.
    pub format: u32,
    /// The left image's name.
    pub left: String,
    /// The right image's name.
    pub right: String,
    /// Whether both manifests are one.
    pub equal: bool,
    /// Debian packages, versions left and right; `nothing` where one side has it not.
    pub packages: Vec<Change>,
    /// Files as a container sees them.
    pub files: Vec<File>,
    /// Leaves of the configuration, without digests and history.
    pub config: Vec<Change>,
    /// Layers by name, from the bottom up.
    pub layers: Vec<Size>,
    /// All layers.
    pub total: Size,
}

/// A path that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// With its leading slash.
    pub path: String,
    /// What it is on the left, in words; `nothing`.
    pub left: String,
    /// What it is on the right, in words; `nothing`.
    pub right: String,
    /// Which fields differ where both sides have it.
    pub fields: Vec<Change>,
}

/// Bytes of a layer, or of all; nothing where a side has no such layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// The layer's name.
    pub name: String,
    /// Bytes on the left.
    pub left: Option<u64>,
    /// Bytes on the right.
    pub right: Option<u64>,
    /// Whether both are the same layer.
    pub equal: bool,
}

/// Compares two images.
pub fn images(left: &Image, right: &Image) -> Result<Comparison> {
    let (a, b) = (left.members()?, right.members()?);
    let (old, new) = (left.packages(&a)?, right.packages(&b)?);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let version = |side: &BTreeMap<String, contents::Package>, name| side.get(name).map_or(NOTHING.to_owned(), |one| one.version.clone());
    let packages = names.into_iter().map(|name| Change { field: name.clone(), left: version(&old, name), right: version(&new, name) });
    let total = |image: &Image| Some(image.layers.iter().map(|layer| layer.size).sum());
    let equal = left.digest == right.digest;
    let config = compare::documents(&left.config, &right.config);
    Ok(Comparison {
        format: FORMAT,
        left: left.name.clone(),
        right: right.name.clone(),
        equal,
        packages: packages.filter(|change| change.left != change.right).collect(),
        files: files((left, &a), (right, &b))?,
        config: config.into_iter().filter(|change| !change.field.starts_with("/rootfs") && !change.field.starts_with("/history")).collect(),
        layers: layers(left, right),
        total: Size { name: "total".into(), left: total(left), right: total(right), equal },
    })
}

fn files(left: (&Image, &[Vec<Member>]), right: (&Image, &[Vec<Member>])) -> Result<Vec<File>> {
    let (a, b) = (contents::tree(left.1), contents::tree(right.1));
    let open = |image: &Image| image.layers.iter().map(contents::Layer::open).collect::<Result<Vec<_>>>();
    let opened = (open(left.0)?, open(right.0)?);
    let mut found = Vec::new();
    for (path, (number, member)) in &a {
        let Some((other, twin)) = b.get(path) else {
            found.push(file(path, compare::describe(&member.entry), NOTHING.into(), Vec::new()));
            continue;
        };
        let layers = (&left.0.layers[*number], &right.0.layers[*other]);
        if layers.0.digest == layers.1.digest && member.offset == twin.offset {
            continue;
        }
        let fields = compare::members((layers.0, &opened.0[*number], member), (layers.1, &opened.1[*other], twin))?;
        if !fields.is_empty() {
            found.push(file(path, compare::describe(&member.entry), compare::describe(&twin.entry), fields));
        }
    }
    let added = b.iter().filter(|(path, _)| !a.contains_key(*path));
    found.extend(added.map(|(path, (_, member))| file(path, NOTHING.into(), compare::describe(&member.entry), Vec::new())));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn file(path: &str, left: String, right: String, fields: Vec<Change>) -> File {
    File { path: format!("/{path}"), left, right, fields }
}

fn layers(left: &Image, right: &Image) -> Vec<Size> {
    let find = |image: &'_ Image, name: &str| image.layers.iter().find(|layer| layer.name == name).map(|layer| (layer.size, layer.digest));
    let mut names: Vec<&String> = left.layers.iter().map(|layer| &layer.name).collect();
    names.extend(right.layers.iter().map(|layer| &layer.name));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let size = |name: &String| {
        let (a, b) = (find(left, name), find(right, name));
        Size { name: name.clone(), left: a.map(|one| one.0), right: b.map(|one| one.0), equal: a == b }
    };
    names.into_iter().map(size).collect()
}

impl Comparison {
    /// The comparison for a person. Without `all`, files are cut after twenty lines, and those that differ in time alone
    /// are only counted.
    pub fn lines(&self, all: bool) -> Vec<String> {
        let mut lines = vec![if self.left == self.right { self.left.clone() } else { format!("{} → {}", self.left, self.right) }];
        if self.equal {
            lines.push("  the same manifest".into());
            return lines;
        }
        let mut section = |title: &str, entries: Vec<String>| {
            if !entries.is_empty() {
                lines.push(format!("  {title}"));
                lines.extend(entries.into_iter().map(|line| format!("    {line}")));
            }
        };
        section("packages", self.packages.iter().map(|change| change_line(&change.field, change)).collect());
        section(&self.files_title(), self.file_lines(all));
        section("config", self.config.iter().map(|change| change_line(&change.field, change)).collect());
        section("layers", self.layers.iter().chain([&self.total]).map(size_line).collect());
        lines
    }

    fn files_title(&self) -> String {
        let count = |test: fn(&File) -> bool| self.files.iter().filter(|file| test(file)).count();
        let (added, removed) = (count(|file| file.left == NOTHING), count(|file| file.right == NOTHING));
        format!("files: {added} added, {removed} removed, {} changed", self.files.len() - added - removed)
    }

    fn file_lines(&self, all: bool) -> Vec<String> {
        let time_alone = |file: &File| file.fields.iter().all(|change| change.field == "mtime") && !file.fields.is_empty();
        let chosen: Vec<&File> = self.files.iter().filter(|file| all || !time_alone(file)).collect();
        let shown = if all { chosen.len() } else { chosen.len().min(SHOWN) };
        let mut lines: Vec<String> = chosen[..shown].iter().map(|file| file_line(file)).collect();
        if shown < chosen.len() {
            lines.push(format!("… and {} more; --all shows them", chosen.len() - shown));
        }
        if chosen.len() < self.files.len() {
            lines.push(format!("and {} that differ in time alone", self.files.len() - chosen.len()));
        }
        lines
    }
}

fn change_line(name: &str, change: &Change) -> String {
    match (change.left.as_str(), change.right.as_str()) {
        (NOTHING, new) => format!("+ {name} {new}"),
        (old, NOTHING) => format!("- {name} {old}"),
        (old, new) => format!("~ {name} {old} → {new}"),
    }
}

fn file_line(file: &File) -> String {
    match (file.left.as_str(), file.right.as_str()) {
        (NOTHING, new) => format!("+ {}  {new}", file.path),
        (old, NOTHING) => format!("- {}  {old}", file.path),
        _ => {
            let fields = file.fields.iter().filter(|change| change.field != "mtime" || file.fields.len() == 1);
            format!("~ {}  {}", file.path, fields.map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
    }
}

fn size_line(size: &Size) -> String {
    let text = match (size.left, size.right) {
        (Some(a), Some(b)) if a == b => human(a),
        (Some(a), Some(b)) if a < b => format!("{} → {} (+{})", human(a), human(b), human(b - a)),
        (Some(a), Some(b)) => format!("{} → {} (-{})", human(a), human(b), human(a - b)),
        (Some(a), None) => format!("{} → {NOTHING}", human(a)),
        (None, Some(b)) => format!("{NOTHING} → {}", human(b)),
        (None, None) => NOTHING.into(),
    };
    let same = if size.equal { ", unchanged" } else { "" };
    format!("{:<12} {text}{same}", size.name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot make its input may as well stop")]

    use super::*;
    use crate::contents::Place;
    use crate::testing::SampleImage;

    fn compare(left: &SampleImage, right: &SampleImage) -> Comparison {
        let folder = tempfile::tempdir().unwrap();
        let read = |side: &str, image: &SampleImage| {
            let root = folder.path().join(side);
            image.build(&root);
            Place::open(&root).unwrap().image("sample").unwrap()
        };
        let mut found = images(&read("left", left), &read("right", right)).unwrap();
        // It moves with the assembler's own lock format and spec; it has a test of its own.
        found.config.retain(|change| !change.field.ends_with(crate::build::INPUTS_LABEL));
        found
    }

    fn sample(version: &str, time: u64) -> SampleImage {
        SampleImage::default().package("app", version, |deb| {
            deb.time(time).directory("usr", 0o755).file("usr/app", 0o755, version.as_bytes()).file("usr/fixed", 0o644, b"same")
        })
    }

    #[test]
    fn a_new_version_is_told_as_a_person_would() {
        let new = sample("1.1-1", 1_700_000_000)
            .package("lib", "3", |deb| deb.file("usr/lib.so", 0o644, b"new"))
            .settings("command = [\"/usr/app\"]\n");
        let found = compare(&sample("1.0-1", 1_600_000_000), &new);
        insta::assert_snapshot!(found.lines(false).join("\n"), @r#"
        chatops/sample:1.0 → chatops/sample:1.1
          packages
            ~ app 1.0-1 → 1.1-1
            + lib 3
          files: 3 added, 0 removed, 13 changed
            ~ /usr/app  content at byte 2: 30 → 31
            + /usr/lib.so  file 0644 0:0, 3 bytes
            ~ /var/lib/dpkg/status.d/app  content at byte 24: 30 → 31
            + /var/lib/dpkg/status.d/lib  file 0644 0:0, 104 bytes
            + /var/lib/dpkg/status.d/lib.md5sums  file 0644 0:0, 45 bytes
            and 11 that differ in time alone
          config
            + /config/Cmd ["/usr/app"]
            ~ /config/Labels/org.opencontainers.image.version "1.0" → "1.1"
            ~ /created "2020-09-13T12:26:40Z" → "2023-11-14T22:13:20Z"
          layers
            runtime      7.5 KiB → 10.5 KiB (+3.0 KiB)
            image        4.5 KiB
            total        12.0 KiB → 15.0 KiB (+3.0 KiB)
        "#);
        assert!(found.lines(true).len() > found.lines(false).len(), "times are shown with --all");
        let back = compare(&new, &sample("1.0-1", 1_600_000_000)).lines(false);
        assert!(back.contains(&"    - lib 3".to_owned()), "{back:?}");
    }

    #[test]
    fn many_files_are_cut_unless_all_are_wanted() {
        let many = SampleImage::default().package("app", "1.0-1", |deb| {
            (0..30).fold(deb.directory("usr", 0o755), |deb, number| deb.file(&format!("usr/{number:02}"), 0o644, b"x"))
        });
        let few = SampleImage::default().package("app", "1.0-1", |deb| deb.directory("usr", 0o755));
        let found = compare(&few, &many);
        assert!(found.lines(false).iter().any(|line| line.trim() == "… and 11 more; --all shows them"), "{:?}", found.lines(false));
        assert!(found.lines(true).iter().any(|line| line.contains("/usr/29")));
    }

    #[test]
    fn one_image_does_not_differ_from_itself_in_a_layout_or_in_an_archive() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, archive) = (folder.path().join("layout"), folder.path().join("images.tar"));
        let built = sample("1.0-1", 1).build(&layout);
        crate::archive::write(&layout, std::slice::from_ref(&built.name), fs_err::File::create(&archive).unwrap()).unwrap();
        let (left, right) = (Place::open(&layout).unwrap(), Place::open(&archive).unwrap());
        assert_eq!(right.names(), [built.name.as_str()]);
        let (left, right) = (left.image("sample").unwrap(), right.image("chatops/sample:1.0").unwrap());
        assert_eq!(left.members().unwrap(), right.members().unwrap());
        assert!(right.layers.iter().all(|layer| layer.is_whole().unwrap()), "layers are found in the archive");
        let found = images(&left, &right).unwrap();
        assert!(found.equal && found.files.is_empty());
        assert_eq!(found.lines(false), ["chatops/sample:1.0", "  the same manifest"]);
    }
}
