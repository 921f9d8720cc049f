//! A certificate as x509-parser reads it: not by the code that issued it.

use std::net::IpAddr;

use images::{Class, Digest, Error, Result};
use time::OffsetDateTime;
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::extensions::{GeneralName, GeneralSubtree, ParsedExtension};
use x509_parser::prelude::{FromDer, Pem, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

use super::names::{Constraint, Network, Subtrees, address_of};

/// A public key, as far as clients care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// RSA with this many bits.
    Rsa(usize),
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// Anything else, by its object identifier.
    Other(String),
}

/// Basic constraints (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basic {
    /// Whether a reader that does not know the extension must refuse.
    pub critical: bool,
    /// Whether it may sign certificates.
    pub ca: bool,
    /// How many CAs may follow below it.
    pub path: Option<u32>,
}

/// Key usage (section 4.2.1.3), the two bits that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// May sign a TLS handshake.
    pub digital_signature: bool,
    /// May sign certificates.
    pub cert_sign: bool,
}

/// The names that a certificate is for (section 4.2.1.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Whether the extension is critical: it must be where the subject is empty.
    pub critical: bool,
    /// Host names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// What was read. Times are those of the certificate, to the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// The DER form.
    pub der: Vec<u8>,
    /// The subject, for people.
    pub subject: String,
    /// The issuer, for people.
    pub issuer: String,
    /// The subject's DER form: by this, not by its text, issuers are found.
    pub raw_subject: Vec<u8>,
    /// The issuer's DER form.
    pub raw_issuer: Vec<u8>,
    /// The subject's common name.
    pub common_name: Option<String>,
    /// 3 for version 3.
    pub version: u32,
    /// The serial number, big-endian, with its sign.
    pub serial: Vec<u8>,
    /// Valid from.
    pub not_before: OffsetDateTime,
    /// Valid until.
    pub not_after: OffsetDateTime,
    /// The public key.
    pub key: Key,
    /// The public key's DER form.
    pub spki: Vec<u8>,
    /// The name of the signature's algorithm.
    pub signature: Signature,
    /// Basic constraints.
    pub basic: Option<Basic>,
    /// Key usage.
    pub usage: Option<Usage>,
    /// Whether the extended key usage, if there is one, has serverAuth (or any).
    pub server_auth: Option<bool>,
    /// Subject alternative names.
    pub names: Option<Names>,
    /// Name constraints.
    pub constraint: Option<Constraint>,
    /// Subject key identifier.
    pub key_id: Option<Vec<u8>>,
    /// Authority key identifier.
    pub authority_id: Option<Vec<u8>>,
}

/// How a certificate was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// With a hash of the SHA-2 family, and RSA or ECDSA.
    Sha2,
    /// In another way, by name where it has a well-known one.
    Other(String),
}

impl Certificate {
    /// Reads one certificate in DER. `name` names it in errors.
    pub fn from_der(der: &[u8], name: &str) -> Result<Self> {
        let refuse = |why: String| Error::new(Class::Check, format!("{name} holds no readable certificate: {why}"));
        let (rest, read) = X509Certificate::from_der(der).map_err(|error| refuse(error.to_string()))?;
        if !rest.is_empty() {
            return Err(refuse(format!("{} bytes follow the certificate", rest.len())));
        }
        let mut found = Certificate {
            der: der.to_vec(),
            subject: read.subject().to_string(),
            issuer: read.issuer().to_string(),
            raw_subject: read.subject().as_raw().to_vec(),
            raw_issuer: read.issuer().as_raw().to_vec(),
            common_name: common_name(read.subject()),
            version: read.version().0 + 1,
            serial: read.raw_serial().to_vec(),
            not_before: read.validity().not_before.to_datetime(),
            not_after: read.validity().not_after.to_datetime(),
            key: key_of(&read),
            spki: read.public_key().raw.to_vec(),
            signature: signature_of(&read.signature_algorithm.algorithm),
            basic: None,
            usage: None,
            server_auth: None,
            names: None,
            constraint: None,
            key_id: None,
            authority_id: None,
        };
        for extension in read.extensions() {
            found.take(extension.parsed_extension(), extension.critical).map_err(&refuse)?;
        }
        Ok(found)
    }

    /// Reads every certificate of a PEM file, in the file's order. Text around them is passed over (RFC 7468).
    pub fn from_pem(pem: &[u8], name: &str) -> Result<Vec<Self>> {
        let refuse = |why: String| Error::new(Class::Check, format!("{name} {why}")).detail("expected certificates in PEM");
        let mut found = Vec::new();
        for block in Pem::iter_from_buffer(pem) {
            let block = block.map_err(|error| refuse(format!("is not readable PEM: {error}")))?;
            match block.label.as_str() {
                "CERTIFICATE" => found.push(Certificate::from_der(&block.contents, name)?),
                other => return Err(refuse(format!("holds a {other}"))),
            }
        }
        if found.is_empty() {
            return Err(refuse("holds no certificate".to_owned()));
        }
        Ok(found)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>, critical: bool) -> Result<(), String> {
        match extension {
            ParsedExtension::BasicConstraints(basic) => {
                self.basic = Some(Basic { critical, ca: basic.ca, path: basic.path_len_constraint });
            }
            ParsedExtension::KeyUsage(usage) => {
                self.usage = Some(Usage { digital_signature: usage.digital_signature(), cert_sign: usage.key_cert_sign() });
            }
            ParsedExtension::ExtendedKeyUsage(usage) => self.server_auth = Some(usage.server_auth || usage.any),
            ParsedExtension::SubjectKeyIdentifier(id) => self.key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => self.authority_id = id.key_identifier.as_ref().map(|id| id.0.to_vec()),
            ParsedExtension::SubjectAlternativeName(names) => {
                let mut read = Names { critical, ..Names::default() };
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(name) => read.dns.push((*name).to_owned()),
                        GeneralName::IPAddress(bytes) => {
                            read.addresses.push(address_of(bytes).ok_or("an address of neither 4 nor 16 bytes")?);
                        }
                        _ => {}
                    }
                }
                self.names = Some(read);
            }
            ParsedExtension::NameConstraints(constraints) => {
                let permitted = subtrees(constraints.permitted_subtrees.as_deref())?;
                self.constraint = Some(Constraint { permitted, excluded: subtrees(constraints.excluded_subtrees.as_deref())? });
            }
            ParsedExtension::ParseError { error } => return Err(format!("an extension cannot be read: {error}")),
            _ => {}
        }
        Ok(())
    }

    /// SHA-256 of the DER form.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The PEM form: 64 characters a line.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Whether this is a root: it names itself as its issuer.
    pub fn is_root(&self) -> bool {
        self.raw_subject == self.raw_issuer
    }

    /// Whether it may sign certificates.
    pub fn is_ca(&self) -> bool {
        self.basic.is_some_and(|basic| basic.ca)
    }

    /// Whether `issuer` signed this: its name stands here, and its key fits the signature.
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        let signed = || {
            let (_, this) = X509Certificate::from_der(&self.der).ok()?;
            let (_, issuer) = X509Certificate::from_der(&issuer.der).ok()?;
            this.verify_signature(Some(issuer.public_key())).ok()
        };
        self.raw_issuer == issuer.raw_subject && signed().is_some()
    }

    /// Whole days until it ends; negative when it has ended.
    pub fn days_left(&self, now: OffsetDateTime) -> i64 {
        (self.not_after - now).whole_seconds().div_euclid(86_400)
    }
}

/// A DER value in PEM.
pub(super) fn pem(label: &'static str, der: &[u8]) -> String {
    pkcs8::der::pem::encode_string(label, pkcs8::LineEnding::LF, der).unwrap_or_else(|error| unreachable!("a plain label: {error}"))
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
}

fn subtrees(found: Option<&[GeneralSubtree<'_>]>) -> Result<Subtrees, String> {
    let mut all = Subtrees::default();
    for subtree in found.unwrap_or_default() {
        match &subtree.base {
            GeneralName::DNSName(name) => all.dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                all.networks.push(Network::from_bytes(bytes).ok_or("a name constraint with a mask that is no block")?);
            }
            _ => {}
        }
    }
    Ok(all)
}

fn key_of(read: &X509Certificate<'_>) -> Key {
    let key = read.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok()).map(|oid| oid.to_id_string());
    match (key.parsed(), curve.as_deref()) {
        // The parser counts the bytes of the modulus; a leading zero keeps it positive.
        (Ok(PublicKey::RSA(key)), _) => Key::Rsa(bits(key.modulus)),
        (Ok(PublicKey::EC(_)), Some("1.2.840.10045.3.1.7")) => Key::P256,
        (Ok(PublicKey::EC(_)), Some("1.3.132.0.34")) => Key::P384,
        (_, curve) => Key::Other(curve.map_or_else(|| key.algorithm.algorithm.to_id_string(), str::to_owned)),
    }
}

fn bits(modulus: &[u8]) -> usize {
    let significant = modulus.iter().position(|byte| *byte != 0).map_or(&modulus[..0], |start| &modulus[start..]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

fn signature_of(oid: &Oid<'_>) -> Signature {
    match oid.to_id_string().as_str() {
        // sha256, sha384 and sha512 with RSA (RFC 4055); RSASSA-PSS; ECDSA with the same (RFC 5758)
        "1.2.840.113549.1.1.11" | "1.2.840.113549.1.1.12" | "1.2.840.113549.1.1.13" | "1.2.840.113549.1.1.10" => Signature::Sha2,
        "1.2.840.10045.4.3.2" | "1.2.840.10045.4.3.3" | "1.2.840.10045.4.3.4" => Signature::Sha2,
        "1.2.840.113549.1.1.5" => Signature::Other("SHA-1 with RSA".to_owned()),
        "1.2.840.10045.4.1" => Signature::Other("SHA-1 with ECDSA".to_owned()),
        "1.2.840.113549.1.1.4" => Signature::Other("MD5 with RSA".to_owned()),
        "1.3.101.112" => Signature::Other("Ed25519".to_owned()),
        other => Signature::Other(other.to_owned()),
    }
}
