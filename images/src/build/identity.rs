//! What an image is called and what it is made of: version, tag, labels, and the digest of its inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{INPUTS_LABEL, Inputs, PLUGIN_KEYS, Program, RELEASE_LABEL, ReleaseFile, SiteInputs, StandIn};
use crate::digest::Digest;
use crate::error::{Class, Error, Result};
use crate::lock::{Artefact, FORMAT, Locked};
use crate::oci;
use crate::rules::ca_bundle;

/// The name that the image gets: `chatops/<name>:<version>`, and `-ca<fingerprint>` behind it where a site's CA is in it, so that
/// it lies beside the one without, and beside another site's.
pub fn name(locked: &Locked, inputs: &Inputs, site: &SiteInputs) -> Result<String> {
    let tag = tag(locked, inputs, &version(locked, inputs)?);
    Ok(format!("chatops/{}:{tag}{}", locked.name(), mark(site)?))
}

/// What a site's CAs add to a tag: eight digits of the SHA-256 of the certificate; of all their fingerprints where there are several.
pub(super) fn mark(site: &SiteInputs) -> Result<String> {
    let mut fingerprints = Vec::new();
    for (name, pem) in &site.cas {
        fingerprints.extend(ca_bundle::parse(pem, name, name)?.iter().map(|ca| ca.fingerprint()));
    }
    fingerprints.dedup();
    let digest = match fingerprints[..] {
        [] => return Ok(String::new()),
        [only] => only,
        _ => Digest::of(fingerprints.iter().map(Digest::to_string).collect::<String>()),
    };
    Ok(format!("-ca{}", &digest.to_string()[..8]))
}

/// The digest of everything that decides this image's bytes below the site layer, and of nothing else.
pub fn inputs_digest(locked: &Locked, inputs: &Inputs) -> Result<Digest> {
    #[derive(Serialize)]
    struct Identity<'a> {
        artefacts: Vec<String>,
        files: BTreeMap<&'a str, Digest>,
        format: u32,
        plugins: Vec<String>,
        programs: BTreeMap<&'a str, Digest>,
        spec: &'a crate::spec::Spec,
    }
    let sums = |artefact: &Artefact| {
        format!("{} {} {}", artefact.name, artefact.version, artefact.sha256.map_or_else(String::new, |sha256| sha256.to_string()))
    };
    let mut artefacts: Vec<String> = locked.packages().iter().chain(locked.plugins()).map(sums).collect();
    match &inputs.release {
        Some(file) => artefacts.push(format!("file {} {}", file.version, file.sha256)),
        None => artefacts.extend(locked.releases().iter().map(sums)),
    }
    let mut files = BTreeMap::new();
    for file in &locked.spec().files {
        files.insert(file.source.as_str(), Digest::of(fs_err::read(inputs.folder.join(&file.source))?));
    }
    let programs =
        locked.spec().programs.iter().map(|program| Ok((program.package.as_str(), program_of(inputs, &program.package)?.sha256)));
    let identity = Identity {
        artefacts,
        files,
        format: FORMAT,
        plugins: inputs
            .plugins
            .iter()
            .map(|plugin| format!("{} {} {} {}", plugin.name, plugin.sha256, Digest::of(&plugin.signature), Digest::of(&plugin.key)))
            .collect(),
        programs: programs.collect::<Result<_>>()?,
        spec: locked.spec(),
    };
    Ok(Digest::of(oci::canonical(&identity)))
}

pub(super) fn program_of<'a>(inputs: &'a Inputs, package: &str) -> Result<&'a Program> {
    inputs.programs.get(package).ok_or_else(|| Error::new(Class::Build, format!("the program {package} was not built")))
}

/// The upstream version that names the image: without epoch and Debian revision.
pub(super) fn version(locked: &Locked, inputs: &Inputs) -> Result<String> {
    let unknown = || {
        Error::new(
            Class::Usage,
            format!("images/{}/image.toml: version = \"{}\" names nothing in the image", locked.name(), locked.spec().version),
        )
    };
    let (kind, name) = locked.spec().version.split_once(':').ok_or_else(unknown)?;
    match kind {
        "debian" => locked
            .packages()
            .iter()
            .find(|package| package.name == name)
            .map(|package| upstream(&package.version).to_owned())
            .ok_or_else(unknown),
        "release" => match (&inputs.release, locked.releases().first()) {
            (Some(file), _) => Ok(file.version.clone()),
            (None, release) => release.map(|release| release.version.clone()).ok_or_else(unknown),
        },
        "program" => Ok(program_of(inputs, name)?.version.clone()),
        _ => Err(unknown()),
    }
}

/// A Debian version without epoch and revision (Debian policy 5.6.12).
pub fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.rsplit_once('-').map_or(version, |(upstream, _)| upstream)
}

/// Tags know letters, digits, `_`, `.` and `-` only (OCI distribution-spec 1.1).
pub(super) fn tag(locked: &Locked, inputs: &Inputs, version: &str) -> String {
    let mut tag = version.replace(['+', '~'], "-");
    if locked.releases().iter().any(|release| release.name.ends_with("-team")) {
        tag.push_str("-team");
    }
    tag.push_str(match &inputs.release {
        None => "",
        Some(ReleaseFile { origin: StandIn::File, .. }) => "-file",
        Some(ReleaseFile { origin: StandIn::Double, .. }) => "-double",
    });
    tag
}

pub(super) fn labels(version: &str, identity: &Digest, inputs: &Inputs) -> BTreeMap<String, String> {
    let mut labels =
        BTreeMap::from([("org.opencontainers.image.version".to_owned(), version.to_owned()), (INPUTS_LABEL.to_owned(), identity.oci())]);
    if let Some(file) = &inputs.release {
        let what = match file.origin {
            StandIn::File => "a file, not the lock's release",
            StandIn::Double => "API double, not the vendor's server",
        };
        labels.insert(RELEASE_LABEL.to_owned(), format!("{what}: {}", file.sha256.oci()));
    }
    labels
}

/// The server splits this list at single spaces.
pub(super) fn environment(inputs: &Inputs) -> BTreeMap<String, String> {
    let keys: BTreeSet<String> =
        inputs.plugins.iter().map(|plugin| format!("/{PLUGIN_KEYS}/{}.asc", Digest::of(&plugin.key).short())).collect();
    match keys.is_empty() {
        true => BTreeMap::new(),
        false => BTreeMap::from([("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES".to_owned(), keys.into_iter().collect::<Vec<_>>().join(" "))]),
    }
}
