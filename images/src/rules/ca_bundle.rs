//! The CA bundle: what `update-ca-certificates` and `openssl rehash` make, without running them.
//!
//! Every PEM file is parsed, only CA certificates are taken, each once, and the order is bytes, not locale. The bundle
//! lies where OpenSSL and Go look first, and each certificate has the link by which OpenSSL finds it in a folder.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::digest::Digest;
use crate::error::{Class, Error, Result};

/// Where the bundle lies.
pub const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// The folder of links by subject hash.
pub const FOLDER: &str = "etc/ssl/certs";

/// A CA certificate and the file it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// Path in the image, without a leading slash.
    pub path: String,
    der: Vec<u8>,
    hash: u32,
}

impl Certificate {
    /// SHA-256 of the DER form.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The PEM form: 64 characters a line.
    pub fn pem(&self) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }
}

/// Reads the certificates of a PEM file. `path` is where the file lies in the image; `name` names it in errors.
pub fn parse(pem: &[u8], path: &str, name: &str) -> Result<Vec<Certificate>> {
    let refuse =
        |why: String| Error::new(Class::Build, format!("{name} {why}")).detail("expected CA certificates in PEM, each with CA:TRUE");
    let mut found = Vec::new();
    for block in x509_parser::pem::Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| refuse(format!("is not readable PEM: {error}")))?;
        if block.label != "CERTIFICATE" {
            let hint =
                if block.label.contains("PRIVATE KEY") { "a private key never goes into an image" } else { "give the certificate alone" };
            return Err(refuse(format!("holds a {}", block.label)).hint(hint));
        }
        let (rest, certificate) =
            X509Certificate::from_der(&block.contents).map_err(|error| refuse(format!("holds no X.509 certificate: {error}")))?;
        if !rest.is_empty() {
            return Err(refuse("has data behind a certificate".into()));
        }
        // Version 1 roots have no extensions; Debian's bundle has none of them any more.
        let is_ca = certificate.basic_constraints().ok().flatten().is_some_and(|constraints| constraints.value.ca);
        if !is_ca {
            return Err(refuse(format!("holds a certificate that is no CA: {}", certificate.subject()))
                .hint("give the root (CA:TRUE), not the server's certificate"));
        }
        let hash = subject_hash(certificate.subject());
        found.push(Certificate { path: path.to_owned(), hash, der: block.contents });
    }
    if found.is_empty() {
        return Err(refuse("holds no certificate".into()));
    }
    Ok(found)
}

/// What lies in `/etc/ssl/certs` for these certificates: the bundle's text, and link name → target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    /// The concatenated PEM forms.
    pub text: String,
    /// Name below [`FOLDER`] → absolute path of the certificate's file.
    pub links: BTreeMap<String, String>,
}

/// Makes the bundle in the order given; a certificate that came before is not taken again. `taken` are link names that
/// a lower layer has.
pub fn bundle(certificates: &[Certificate], taken: &BTreeSet<String>) -> Bundle {
    let mut bundle = Bundle::default();
    let mut seen = BTreeSet::new();
    for certificate in certificates {
        if !seen.insert(certificate.fingerprint()) {
            continue;
        }
        bundle.text.push_str(&certificate.pem());
        let names = (0..).map(|n| format!("{:08x}.{n}", certificate.hash));
        let free = names.into_iter().find(|name| !taken.contains(name) && !bundle.links.contains_key(name));
        bundle.links.extend(free.map(|name| (name, format!("/{}", certificate.path))));
    }
    bundle
}

/// The hash by which OpenSSL names a CA's link (X509_NAME_hash_ex): SHA-1 over the canonical form of the subject, of
/// which the first four bytes count, little-endian. SHA-1 is a file name here, not a signature.
fn subject_hash(name: &X509Name<'_>) -> u32 {
    let mut canonical = Vec::new();
    for set in name.iter() {
        let attributes: Vec<u8> = set
            .iter()
            .flat_map(|attribute| tlv(0x30, &[tlv(0x06, attribute.attr_type().as_bytes()), value(attribute.attr_value())].concat()))
            .collect();
        canonical.extend(tlv(0x31, &attributes));
    }
    let digest = <sha1::Sha1 as sha1::Digest>::digest(&canonical);
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Text becomes UTF8String in lower case with single spaces; anything else stays.
fn value(any: &Any<'_>) -> Vec<u8> {
    let utf16 = || any.data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let text = match any.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
            String::from_utf8_lossy(any.data).into_owned()
        }
        Tag::T61String => any.data.iter().map(|byte| char::from(*byte)).collect(),
        Tag::BmpString => char::decode_utf16(utf16()).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
        tag => return tlv(u8::try_from(tag.0).unwrap_or(0), any.data),
    };
    let words: Vec<String> = text.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
    tlv(0x0c, words.join(" ").as_bytes())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut out = vec![tag];
    match content.len() {
        0..=0x7f => out.push(significant[0]),
        _ => {
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/C=DE/O=Example  Site/CN=Prüf Root CA"
    /// -utf8 -addext basicConstraints=critical,CA:TRUE`; `openssl x509 -subject_hash` said what stands in root.hash.
    const ROOT: &str = include_str!("../../tests/data/root.pem");
    const LEAF: &str = include_str!("../../tests/data/leaf.pem");
    const ROOT_HASH: &str = include_str!("../../tests/data/root.hash");

    #[test]
    fn the_link_is_the_one_that_openssl_looks_for() {
        let root = parse(ROOT.as_bytes(), "usr/local/share/ca-certificates/root.crt", "root.pem").expect("a root");
        let bundle = bundle(&root, &BTreeSet::new());
        assert_eq!(
            bundle.links,
            BTreeMap::from([(format!("{}.0", ROOT_HASH.trim()), "/usr/local/share/ca-certificates/root.crt".to_owned())])
        );
        assert_eq!(bundle.text, ROOT);
    }

    #[test]
    fn a_certificate_comes_once_and_a_taken_name_is_not_taken_again() {
        let root = parse(format!("{ROOT}{ROOT}").as_bytes(), "a.crt", "root.pem").expect("twice");
        let taken = BTreeSet::from([format!("{}.0", ROOT_HASH.trim())]);
        let bundle = bundle(&root, &taken);
        assert_eq!(bundle.text, ROOT);
        assert_eq!(bundle.links.keys().collect::<Vec<_>>(), [&format!("{}.1", ROOT_HASH.trim())]);
    }

    #[test]
    fn what_is_no_ca_is_refused() {
        for (pem, wanted) in [
            (LEAF.to_owned(), "is no CA"),
            (ROOT.replace("CERTIFICATE", "PRIVATE KEY"), "PRIVATE KEY"),
            (ROOT.replace("MI", "!!"), "PEM"),
            ("nothing".to_owned(), "holds no certificate"),
        ] {
            let error = parse(pem.as_bytes(), "a.crt", "ca.pem").expect_err(wanted).to_string();
            assert!(error.contains(wanted) && error.starts_with("ca.pem"), "expected {wanted:?} in {error}");
        }
    }
}
