//! What goes into a bundle: a checkout, its images and perhaps a site → a list and the bytes of its parts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use images::build::Built;
use images::layout::{read_blob, read_index};
use images::{Class, Digest, Error, Result, oci};

use super::list::{BLOBS, FORMAT, Image, List, Part, Source};
use super::write::Content;
use crate::machine::Machine;
use crate::site::compose::{self, Reach, compose};
use crate::site::env::{self, environments};
use crate::site::model::PerService;
use crate::site::onboarding::{self, Facts, Links};
use crate::site::pki::Certificate;
use crate::site::secrets::Secrets;
use crate::site::{COMMENTED, Service, Site, parse};
use crate::workspace::Workspace;

/// Where the program stands.
pub const PROGRAM: &str = "xtask";

/// What is asked for.
pub struct Wanted<'a> {
    /// The checkout.
    pub workspace: &'a Workspace,
    /// The layout that the images were built into.
    pub layout: &'a Path,
    /// Each image, and what is told of it where the other side adds its CA.
    pub images: Vec<(Built, Option<Vec<u8>>)>,
    /// The site that the bundle is for, and its CA.
    pub site: Option<(Site, Certificate)>,
    /// What an auditor asks for: name below `papers/`, and bytes.
    pub papers: Vec<(String, Vec<u8>)>,
    /// The static program.
    pub program: &'a Path,
    /// The list of the bundle that the other side has.
    pub since: Option<&'a List>,
}

/// The parts by path: what stands in a bundle, before anything is left out.
type Parts = BTreeMap<String, (Part, Content)>;

/// The list, and the content of each of its parts in its order.
pub fn gather(wanted: &Wanted) -> Result<(List, Vec<Content>)> {
    let mut parts = Parts::new();
    let images = layout(wanted, &mut parts)?;
    documents(wanted.workspace, &mut parts)?;
    templates(wanted, &images, &mut parts)?;
    for (name, paper) in &wanted.papers {
        put(&mut parts, &format!("papers/{name}"), Content::Bytes(paper.clone()))?;
    }
    let sums: String = parts.values().map(|(part, _)| format!("{}  {}\n", part.sha256, part.path)).collect();
    put(&mut parts, "SHA256SUMS", Content::Bytes(sums.into_bytes()))?;

    let known: BTreeSet<(&str, Digest)> =
        wanted.since.into_iter().flat_map(List::all).map(|part| (part.path.as_str(), part.sha256)).collect();
    let came = |part: &Part| known.contains(&(part.path.as_str(), part.sha256));
    let (earlier, inside): (Vec<_>, Vec<_>) = parts.into_values().partition(|(part, _)| came(part));
    let program = Content::File(wanted.program.to_owned());
    let own = program.part(PROGRAM)?;
    let mut earlier: Vec<Part> = earlier.into_iter().map(|(part, _)| part).collect();
    let (parts, mut contents): (Vec<Part>, Vec<Content>) = inside.into_iter().unzip();
    let program_came = came(&own);
    if program_came {
        earlier.push(own.clone());
    } else {
        contents.push(program);
    }
    let list = List {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        source: source(wanted.workspace)?,
        ca: wanted.site.as_ref().map(|(_, ca)| ca.fingerprint()),
        since: wanted.since.map(List::id),
        images,
        parts,
        earlier,
        program: (!program_came).then_some(own),
    };
    Ok((list, contents))
}

fn put(parts: &mut Parts, path: &str, content: Content) -> Result<()> {
    parts.insert(path.to_owned(), (content.part(path)?, content));
    Ok(())
}

/// The images: every blob, the index that names them, and what `up` has to know to add a CA.
fn layout(wanted: &Wanted, parts: &mut Parts) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    // What a blob is called is what it is: it is compared while it is packed.
    let mut blob = |digest: &Digest, size: u64| {
        let path = format!("{BLOBS}{digest}");
        let content = Content::File(wanted.layout.join("blobs/sha256").join(digest.to_string()));
        parts.insert(path.clone(), (Part { path, size, sha256: *digest }, content));
    };
    for (built, _) in &wanted.images {
        let (manifest, config) = (read_blob(wanted.layout, &built.manifest.oci())?, read_blob(wanted.layout, &built.config.oci())?);
        blob(&built.manifest, manifest.len() as u64);
        blob(&built.config, config.len() as u64);
        built.layers.iter().for_each(|layer| blob(&layer.digest, layer.size));
        let service = Service::ALL.into_iter().find(|service| built.name.starts_with(&format!("chatops/{}:", service.name())));
        let service = service.ok_or_else(|| Error::new(Class::Build, format!("{} is an image for no service", built.name)))?;
        images.push(Image { service: service.name().into(), name: built.name.clone(), manifest: built.manifest, config: built.config });
    }
    let mut index = read_index(wanted.layout)?;
    index.manifests.retain(|entry| images.iter().any(|image| entry.annotations.get(oci::REF_NAME) == Some(&image.name)));
    put(parts, "images/index.json", Content::Bytes(oci::canonical(&index)))?;
    put(parts, "images/oci-layout", Content::Bytes(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()))?;
    for ((_, below), image) in wanted.images.iter().zip(&images) {
        if let Some(below) = below {
            put(parts, &below_path(&image.service), Content::Bytes(below.clone()))?;
        }
    }
    Ok(images)
}

/// Where it stands what is told of an image.
pub fn below_path(service: &str) -> String {
    format!("images/below/{service}.json")
}

/// What people read, and the lock.
fn documents(workspace: &Workspace, parts: &mut Parts) -> Result<()> {
    let root = workspace.root();
    for name in ["README.md", "CONTRIBUTING.md", "LICENSE"] {
        put(parts, name, Content::File(root.join(name)))?;
    }
    for entry in fs_err::read_dir(root.join("docs"))? {
        let entry = entry?;
        put(parts, &format!("docs/{}", entry.file_name().to_string_lossy()), Content::File(entry.path()))?;
    }
    put(parts, "images/lock.json", Content::File(workspace.lock()))
}

/// The Compose file and the settings of each service, as they are of a site with nothing in its site.toml: to be read, and to see
/// what differs. `up` writes those of the site.
fn templates(wanted: &Wanted, images: &[Image], parts: &mut Parts) -> Result<()> {
    // An address for documentation (RFC 5737).
    let plain = || parse("site.toml", "format = 1\n", || Ok(vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))]));
    let site = match &wanted.site {
        Some((site, _)) => site.clone(),
        None => plain()?,
    };
    // No secret stands in a template, but settings are not made without: these are nobody's.
    let mut secrets = Secrets::default();
    let mut count = 0_u64;
    secrets.fill(env::wanted(&site), &mut |bytes| {
        for byte in bytes {
            count += 1;
            *byte = u8::from_str_radix(&Digest::of(count.to_le_bytes()).to_string()[..2], 16).unwrap_or_default();
        }
        Ok(())
    })?;
    let mut content = compose::Content {
        images: PerService::default(),
        secrets: Service::ALL.iter().fold(PerService::default(), |mut all, service| {
            *all.of_mut(*service) = format!("{}_secrets-{}", site.project.as_str(), service.name());
            all
        }),
        settings: PerService::default(),
    };
    for image in images {
        if let Some(service) = Service::ALL.into_iter().find(|service| service.name() == image.service) {
            *content.images.of_mut(service) = image.config.oci();
        }
    }
    for (service, env) in environments(&site, &secrets)? {
        content.settings.of_mut(service).extend(env.settings().map(|(name, value)| (name.to_owned(), value.to_owned())));
        put(parts, &format!("templates/env/{}.env", service.name()), Content::Bytes(env.text(service)?.into_bytes()))?;
    }
    put(parts, "templates/compose.json", Content::Bytes(compose(&site, &content, Reach::Lan).text().into_bytes()))?;
    put(parts, "templates/site.toml", Content::Bytes(COMMENTED.as_bytes().to_vec()))?;
    if let Some((site, ca)) = &wanted.site {
        for (name, _, bytes) in onboarding::files(&Facts::of(site, ca), &Links::Embedded)? {
            put(parts, &format!("onboarding/{name}"), Content::Bytes(bytes))?;
        }
    }
    Ok(())
}

/// Of which commit the checkout is.
fn source(workspace: &Workspace) -> Result<Option<Source>> {
    if !workspace.root().join(".git").exists() {
        return Ok(None);
    }
    let git = |args: &[&str]| Machine::of(workspace).process("git").args(args).text();
    let wrong = |text: &str| Error::new(Class::Build, format!("git told of no commit, but of {text:?}"));
    let text = git(&["log", "-1", "--format=%H %ct"])?;
    let (revision, time) = text.split_once(' ').ok_or_else(|| wrong(&text))?;
    let time = time.parse().map_err(|_| wrong(&text))?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(Some(Source { revision: revision.to_owned(), time, changed }))
}
