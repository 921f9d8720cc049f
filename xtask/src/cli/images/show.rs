//! `cargo xtask images show NAME`: what is in an image, and who brought a path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use images::compare::describe;
use images::contents::{Image, Member, Package, Place, follow, tree};
use images::entry::{Entry, Node};
use images::oci::rfc3339;
use images::progress::human;
use images::{Class, Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::output::Output;
use crate::workspace::Workspace;

/// Show what is in an image: layers, packages, settings, and who owns a path
#[derive(clap::Args)]
pub struct Args {
    /// The image: coturn, or chatops/coturn:4.6.1
    name: String,
    /// Say who brought this path, with its mode, owner, size and layer
    #[arg(long, value_name = "PATH", conflicts_with = "files")]
    owns: Option<String>,
    /// List every path with who brought it
    #[arg(long)]
    files: bool,
    /// Layout folder, or a file that --archive wrote [default: target/images]
    #[arg(long, value_name = "DIR|FILE")]
    layout: Option<PathBuf>,
    /// Print JSON; its field `format` is 1
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    format: u32,
    name: &'a str,
    manifest: String,
    config_digest: String,
    created: &'a Value,
    config: &'a Value,
    layers: Vec<LayerReport<'a>>,
    packages: BTreeMap<&'a str, PackageReport<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileReport<'a>>,
}

#[derive(Serialize)]
struct LayerReport<'a> {
    name: &'a str,
    digest: String,
    size: u64,
    entries: usize,
}

#[derive(Serialize)]
struct PackageReport<'a> {
    version: &'a str,
    layer: &'a str,
    size: u64,
}

/// One path of the image.
#[derive(Serialize)]
struct FileReport<'a> {
    path: String,
    owner: String,
    layer: usize,
    layer_name: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Shows.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let layout = match &args.layout {
        Some(layout) => layout.clone(),
        None => Workspace::find()?.target().join("images"),
    };
    let image = Place::open(&layout)?.image(&args.name)?;
    let members = image.members()?;
    let packages = image.packages(&members)?;
    if let Some(path) = &args.owns {
        return owns(&image, &members, &packages, path, args.json, out);
    }
    let report = report(&image, &members, &packages, args.files);
    if args.json {
        out.result(json(&report));
        return Ok(());
    }
    if args.files {
        report.files.iter().for_each(|file| out.result(format!("{}  {}  {}", file.path, describe(file.entry), file.owner)));
        return Ok(());
    }
    lines(&report).iter().for_each(|line| out.result(line));
    Ok(())
}

fn report<'a>(image: &'a Image, members: &'a [Vec<Member>], packages: &'a BTreeMap<String, Package>, files: bool) -> Report<'a> {
    let layers = image.layers.iter().zip(members);
    let all = if files { tree(members) } else { BTreeMap::new() };
    let layer = |number: usize| image.layers.get(number).map_or("", |layer| layer.name.as_str());
    Report {
        format: 1,
        name: &image.name,
        manifest: image.digest.oci(),
        config_digest: image.config_digest.oci(),
        created: &image.config["created"],
        config: &image.config["config"],
        layers: layers
            .map(|(layer, members)| LayerReport { name: &layer.name, digest: layer.digest.oci(), size: layer.size, entries: members.len() })
            .collect(),
        packages: packages
            .iter()
            .map(|(name, package)| {
                (name.as_str(), PackageReport { version: &package.version, layer: layer(package.layer), size: package.size })
            })
            .collect(),
        files: all.into_values().map(|(number, member)| file(image, packages, number, member)).collect(),
    }
}

fn file<'a>(image: &'a Image, packages: &BTreeMap<String, Package>, number: usize, member: &'a Member) -> FileReport<'a> {
    let layer_name = image.layers[number].name.as_str();
    let owner = match &member.package {
        Some(name) => format!("{name} {}", packages.get(name).map_or("", |package| package.version.as_str())),
        None => origin(image, layer_name),
    };
    FileReport { path: format!("/{}", member.entry.path), owner, layer: number + 1, layer_name, entry: &member.entry }
}

/// Who brings a layer without packages.
fn origin(image: &Image, layer: &str) -> String {
    let name = images::contents::repository(&image.name);
    match layer {
        "image" => format!("images/{name}/image.toml"),
        "site" => "this site: --ca".to_owned(),
        "release" => {
            let label = |key: &str| image.config["config"]["Labels"][key].as_str().map(str::to_owned);
            let version = label("org.opencontainers.image.version").unwrap_or_default();
            label(images::build::RELEASE_LABEL).unwrap_or_else(|| format!("the release of {name} {version}"))
        }
        other => other.to_owned(),
    }
}

fn owns(
    image: &Image,
    members: &[Vec<Member>],
    packages: &BTreeMap<String, Package>,
    path: &str,
    json_wanted: bool,
    out: &mut Output,
) -> Result<()> {
    let tree = tree(members);
    let found = tree.get(follow(&tree, path).as_str());
    let Some((number, member)) = found else {
        let name = path.rsplit('/').next().unwrap_or(path);
        let elsewhere = tree.keys().find(|other| other.rsplit('/').next() == Some(name)).filter(|_| !name.is_empty());
        let error = Error::new(Class::Check, format!("{} has no {path}", image.name));
        return Err(match elsewhere {
            Some(other) => error.hint(format!("it has /{other}")),
            None => error,
        });
    };
    let mut report = file(image, packages, *number, member);
    if member.entry.node == Node::Directory {
        report.owner = sharers(image, members, packages, &member.entry.path);
    }
    if json_wanted {
        out.result(json(&report));
        return Ok(());
    }
    out.result(&report.path);
    let mut line = |name: &str, text: &str| out.result(format!("  {name:<9} {text}"));
    line("owner", &report.owner);
    line("layer", &format!("{} {}", report.layer, report.layer_name));
    line("entry", &describe(report.entry));
    line("time", &rfc3339(report.entry.mtime));
    for (name, value) in &report.entry.xattrs {
        line("attribute", &format!("{name}, {} bytes", value.len()));
    }
    if let Node::Symlink { target } = &report.entry.node
        && let Some(to) = images::entry::link_destination(&report.entry.path, target)
    {
        line("leads to", &format!("/{}", follow(&tree, &to)));
    }
    Ok(())
}

/// Everybody who brings a folder, in the order of the layers; the first few by name.
fn sharers(image: &Image, members: &[Vec<Member>], packages: &BTreeMap<String, Package>, path: &str) -> String {
    let all = members.iter().enumerate().flat_map(|(number, layer)| layer.iter().map(move |member| (number, member)));
    let mut names: Vec<String> =
        all.filter(|(_, member)| member.entry.path == path).map(|(number, member)| file(image, packages, number, member).owner).collect();
    names.dedup();
    match names.len() {
        0..=3 => names.join(", "),
        many => format!("{} and {} more", names[..3].join(", "), many - 3),
    }
}

fn lines(report: &Report<'_>) -> Vec<String> {
    let mut lines = vec![report.name.to_owned()];
    lines.push(format!("  manifest    {}", report.manifest));
    lines.push(format!("  config      {}", report.config_digest));
    lines.push(format!("  created     {}", plain(report.created)));
    let total = report.layers.iter().map(|layer| layer.size).sum();
    lines.push(format!("layers: {}, {}", report.layers.len(), human(total)));
    for (number, layer) in report.layers.iter().enumerate() {
        let size = human(layer.size);
        lines.push(format!("  {} {:<12} {size:>10}  {:>6} entries  {}", number + 1, layer.name, layer.entries, layer.digest));
    }
    lines.push(format!("packages: {}", report.packages.len()));
    let width = report.packages.keys().map(|name| name.len()).max().unwrap_or(0);
    for (name, PackageReport { version, layer, size }) in &report.packages {
        lines.push(format!("  {name:<width$}  {:>10}  {version}  ({layer})", human(*size)));
    }
    lines.push("settings".to_owned());
    if let Value::Object(settings) = report.config {
        for (name, value) in settings.iter().filter(|(name, _)| *name != "Labels") {
            match value {
                Value::Object(set) if set.values().all(|value| value == &serde_json::json!({})) => {
                    lines.push(format!("  {name:<11} {}", set.keys().cloned().collect::<Vec<_>>().join(", ")));
                }
                _ => lines.push(format!("  {name:<11} {}", plain(value))),
            }
        }
        lines.push("labels".to_owned());
        let labels = settings.get("Labels").and_then(Value::as_object);
        lines.extend(labels.into_iter().flatten().map(|(name, value)| format!("  {name}={}", plain(value))));
    }
    lines
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("plain data: {error}"))
}
