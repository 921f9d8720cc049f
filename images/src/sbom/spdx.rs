//! SPDX 2.3 as JSON: the types, and nothing of what goes into them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::digest::Digest;

/// What nobody here can say.
const UNKNOWN: &str = "NOASSERTION";

/// A document; everything in it stands in the order in which it was added.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Written>,
    relationships: Vec<Relationship>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<Text>,
    #[serde(skip)]
    known: BTreeSet<(String, &'static str, String)>,
}

#[derive(Clone, Debug, Serialize)]
struct CreationInfo {
    created: String,
    creators: [&'static str; 1],
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    license_id: String,
    extracted_text: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<&'static str>,
    download_location: String,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
    external_refs: [Reference; 1],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

/// A package before it is in a document.
#[derive(Clone, Debug)]
pub struct Package {
    kind: &'static str,
    name: String,
    version: String,
    purl: String,
    sha256: Option<Digest>,
    /// Its licence as an SPDX expression.
    pub licence: String,
    /// Where it can be had.
    pub location: String,
    /// What else is known of where it comes from.
    pub source: Option<String>,
    /// Who gives it.
    pub supplier: Option<&'static str>,
    /// What it is for, in SPDX's words.
    pub purpose: Option<&'static str>,
}

impl Package {
    /// A package of which nothing more is known.
    pub fn new(kind: &'static str, name: &str, version: &str, purl: &str) -> Self {
        Package {
            kind,
            name: name.to_owned(),
            version: version.to_owned(),
            purl: purl.to_owned(),
            sha256: None,
            licence: UNKNOWN.to_owned(),
            location: UNKNOWN.to_owned(),
            source: None,
            supplier: None,
            purpose: None,
        }
    }

    /// With the SHA-256 of its file, where that is known.
    #[must_use]
    pub fn sha256(self, sha256: Option<Digest>) -> Self {
        Package { sha256, ..self }
    }

    /// Letters, digits, dots and hyphens are all that an identifier may have; the digest keeps names apart that differ in others.
    fn id(&self) -> String {
        let plain: String = self.name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        format!("SPDXRef-{}-{plain}-{}", self.kind, &Digest::of(&self.purl).to_string()[..12])
    }
}

impl Document {
    /// An empty document about the image `name` with this manifest; `created` is the image's time, so that no clock shows.
    pub fn new(name: &str, digest: &Digest, created: &str) -> Self {
        Document {
            spdx_version: "SPDX-2.3",
            data_license: "CC0-1.0",
            id: "SPDXRef-DOCUMENT",
            name: name.to_owned(),
            // SPDX 2.3, 6.5: an address that need not answer, of its own for each document. The manifest's digest is that.
            document_namespace: format!("https://spdx.org/spdxdocs/{}-{digest}", name.replace(['/', ':'], "-")),
            creation_info: CreationInfo {
                created: created.to_owned(),
                creators: [concat!("Tool: chatops-xtask-", env!("CARGO_PKG_VERSION"))],
            },
            packages: Vec::new(),
            relationships: Vec::new(),
            has_extracted_licensing_infos: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    /// What the document is about. Returns its identifier.
    pub fn root(&mut self, package: Package) -> String {
        self.add("SPDXRef-DOCUMENT", "DESCRIBES", package)
    }

    /// Adds a package as what `parent` has to it in SPDX's words. One that several parents have stands there once. Returns its identifier.
    pub fn add(&mut self, parent: &str, relation: &'static str, package: Package) -> String {
        let id = package.id();
        if !self.packages.iter().any(|there| there.id == id) {
            let sha256 = package.sha256.map(|sum| Checksum { algorithm: "SHA256", checksum_value: sum.to_string() });
            self.packages.push(Written {
                id: id.clone(),
                name: package.name,
                version_info: package.version,
                supplier: package.supplier,
                download_location: package.location,
                files_analyzed: false,
                checksums: sha256.into_iter().collect(),
                source_info: package.source,
                license_concluded: UNKNOWN,
                license_declared: package.licence,
                copyright_text: UNKNOWN,
                primary_package_purpose: package.purpose,
                external_refs: [Reference {
                    reference_category: "PACKAGE-MANAGER",
                    reference_type: "purl",
                    reference_locator: package.purl,
                }],
            });
        }
        if self.known.insert((parent.to_owned(), relation, id.clone())) {
            self.relationships.push(Relationship {
                spdx_element_id: parent.to_owned(),
                relationship_type: relation,
                related_spdx_element: id.clone(),
            });
        }
        id
    }

    /// Texts of licences that SPDX's list has not, by their references.
    pub fn texts(&mut self, texts: BTreeMap<String, String>) {
        let all = texts.into_iter().map(|(license_id, extracted_text)| Text { license_id, extracted_text });
        self.has_extracted_licensing_infos.extend(all);
        self.has_extracted_licensing_infos.sort();
        self.has_extracted_licensing_infos.dedup_by(|a, b| a.license_id == b.license_id);
    }
}
