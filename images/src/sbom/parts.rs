//! What an image says of its own parts: copyright files, programs, and the Go programs of a release and of its plugins.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};

use serde::Deserialize;

use super::Subject;
use crate::contents::{Image, Layer, Member, follow, tree};
use crate::digest::Digest;
use crate::entry::{self, Limited, Node};
use crate::error::{Context, Result};
use crate::go_build::{self, GoBuild};

/// A plugin's own description, next to its top.
const PLUGIN_JSON: &str = "plugin.json";
/// A copyright file is a text; the longest in Debian are below 1 MiB.
const LONGEST_TEXT: u64 = 8 << 20;
/// The largest program that is read out of a bundle.
const LARGEST_PROGRAM: u64 = 512 << 20;

/// What was read.
#[derive(Debug, Default)]
pub struct Parts {
    /// Debian package → its `copyright` file.
    pub copyrights: BTreeMap<String, String>,
    /// Absolute path of a program of this workspace → SHA-256 of the file.
    pub programs: BTreeMap<String, Digest>,
    /// Files that hold Go programs, in the order of their paths.
    pub go: Vec<GoFile>,
}

/// A Go program, or a bundle of some.
#[derive(Debug)]
pub struct GoFile {
    /// The bundle, where it is one.
    pub plugin: Option<Plugin>,
    /// What its programs say.
    pub builds: Vec<GoBuild>,
}

/// A plugin's bundle.
#[derive(Debug)]
pub struct Plugin {
    /// Where it lies, without a leading slash.
    pub path: String,
    /// As it calls itself.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Of the bundle.
    pub sha256: Digest,
}

impl Parts {
    /// Reads them. Each Go program and each bundle is read through once.
    pub fn read(subject: &Subject<'_>) -> Result<Parts> {
        let tree = tree(&subject.members);
        let mut parts = Parts::default();
        for name in subject.packages.keys() {
            let path = follow(&tree, &format!("usr/share/doc/{name}/copyright"));
            if let Some((layer, member)) = tree.get(path.as_str()) {
                let mut bytes = Vec::new();
                let layer = &subject.image.layers[*layer];
                layer.content(&layer.open()?, member).take(LONGEST_TEXT).read_to_end(&mut bytes).context(|| format!("/{path}"))?;
                parts.copyrights.insert(name.clone(), String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        let programs: BTreeSet<&str> = subject.spec.programs.iter().map(|program| program.destination.trim_start_matches('/')).collect();
        for (path, (layer, member)) in &tree {
            let layer = &subject.image.layers[*layer];
            if programs.contains(path) {
                let sha256 = Digest::of_reader(layer.content(&layer.open()?, member))?.0;
                parts.programs.insert(format!("/{path}"), sha256);
            } else if holds_go(layer) {
                parts.go.extend(go_file(layer, member).context(|| format!("/{path}"))?);
            }
        }
        Ok(parts)
    }
}

/// A vendor's release, and plugins.
fn holds_go(layer: &Layer) -> bool {
    layer.name == "release" || layer.name.starts_with("plugin ")
}

/// The Go modules that are compiled into an image's release and its plugins, Go's own library as `stdlib` among them: path → version →
/// where they are, `NAME` of the image or that of a plugin.
pub fn modules(image: &Image) -> Result<BTreeMap<String, BTreeMap<String, BTreeSet<String>>>> {
    let mut modules: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let members = image.members()?;
    for (path, (layer, member)) in &tree(&members) {
        let layer = &image.layers[*layer];
        if !holds_go(layer) {
            continue;
        }
        let Some(file) = go_file(layer, member).context(|| format!("/{path}"))? else { continue };
        let within = file.plugin.as_ref().map_or_else(|| image.name.clone(), |plugin| format!("{} {}", plugin.id, plugin.version));
        for build in file.builds {
            let std = ("stdlib".to_owned(), build.go.trim_start_matches("go").to_owned());
            let all = build.modules.into_iter().map(|module| (module.path, module.version)).chain([std]);
            for (path, version) in all {
                modules.entry(path).or_default().entry(version).or_default().insert(within.clone());
            }
        }
    }
    Ok(modules)
}

fn go_file(layer: &Layer, member: &Member) -> Result<Option<GoFile>> {
    let Node::File { .. } = member.entry.node else { return Ok(None) };
    let file = layer.open()?;
    let mut content = layer.content(&file, member);
    if member.entry.path.ends_with(".tar.gz") {
        let sha256 = Digest::of_reader(&mut content)?.0;
        content.seek(SeekFrom::Start(0))?;
        return bundle(content, member, sha256);
    }
    if !is_elf(&mut content)? {
        return Ok(None);
    }
    Ok(go_build::read(content).map(|build| GoFile { plugin: None, builds: vec![build] }))
}

fn is_elf(content: &mut (impl Read + Seek)) -> Result<bool> {
    let mut magic = Vec::new();
    content.take(4).read_to_end(&mut magic)?;
    content.seek(SeekFrom::Start(0))?;
    Ok(magic == b"\x7fELF")
}

/// A plugin's bundle: `ID/plugin.json`, and for each platform a server in Go. The one that runs here is read.
fn bundle(content: impl Read, member: &Member, sha256: Digest) -> Result<Option<GoFile>> {
    #[derive(Deserialize)]
    struct Description {
        id: String,
        #[serde(default)]
        version: String,
    }
    let (mut described, mut builds) = (None, Vec::new());
    let size = match member.entry.node {
        Node::File { size } => size,
        _ => 0,
    };
    let unpacked = Limited::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, content)), entry::unpacked_limit(size));
    entry::read_tar(unpacked, "", &mut |entry, content| {
        let Node::File { size } = entry.node else { return Ok(()) };
        if entry.path.split('/').count() == 2 && entry.path.ends_with(PLUGIN_JSON) && size < LONGEST_TEXT {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            described = serde_json::from_slice::<Description>(&bytes).ok();
        } else if entry.mode & 0o111 != 0
            && size < LARGEST_PROGRAM
            && !["darwin", "windows", "arm64", "freebsd"].iter().any(|other| entry.path.contains(other))
        {
            let mut bytes = vec![0; usize::try_from(size.min(4)).unwrap_or(0)];
            content.read_exact(&mut bytes)?;
            if bytes == b"\x7fELF" {
                content.read_to_end(&mut bytes)?;
                builds.extend(go_build::read(Cursor::new(bytes)));
            }
        }
        Ok(())
    })?;
    Ok(described.map(|Description { id, version }| {
        let plugin = Plugin { path: member.entry.path.clone(), id, version, sha256 };
        GoFile { plugin: Some(plugin), builds }
    }))
}
