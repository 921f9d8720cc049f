//! What a site's `pki/` holds, read.

use std::collections::BTreeMap;

use images::Result;
use rcgen::KeyPair;

use super::certificate::Certificate;
use super::files::Files;
use super::key;
use super::reason::Pair;

/// The root that phones trust, or several.
pub const CA: &str = "ca.pem";
/// The private key of the site's own root; not there where somebody else's CA signs, or where it is kept elsewhere.
pub const CA_KEY: &str = "ca-key.pem";
/// The first line of a certificate that somebody else issued. Readers of PEM pass over it (RFC 7468).
pub const GIVEN: &str = "# Issued elsewhere: cargo xtask certs judges this certificate, and never replaces it.\n";

/// A service's certificate file.
pub fn cert_file(service: &str) -> String {
    format!("{service}.pem")
}

/// A service's key file.
pub fn key_file(service: &str) -> String {
    format!("{service}-key.pem")
}

/// A service's request to somebody else's CA.
pub fn request_file(service: &str) -> String {
    format!("{service}.csr")
}

/// The key of that request, until its certificate comes.
pub fn request_key_file(service: &str) -> String {
    format!("{service}-request-key.pem")
}

/// What lies in `pki/`.
#[derive(Debug, Default)]
pub struct Found {
    /// The certificates of `ca.pem`: the site's CA first.
    pub roots: Vec<Certificate>,
    /// The site's own CA's key, unread: it may be encrypted, and mostly it is not needed.
    pub ca_key: Option<String>,
    /// Server → certificate and key.
    pub pairs: BTreeMap<String, Pair>,
    /// Server → request and its key.
    pub requests: BTreeMap<String, (String, KeyPair)>,
}

impl Found {
    /// Reads the files of these services. A file that is none of ours is an error: it is not overwritten.
    pub fn read<'a>(files: &Files, services: impl Iterator<Item = &'a str>) -> Result<Self> {
        let certificates = |name: &str| -> Result<Vec<Certificate>> {
            let pem = files.read(name)?;
            pem.map_or(Ok(Vec::new()), |pem| Certificate::from_pem(pem.as_bytes(), &files.path(name).display().to_string()))
        };
        let key = |name: &str| -> Result<Option<KeyPair>> {
            let shown = files.path(name).display().to_string();
            let mut no_passphrase =
                || Err(images::Error::new(images::Class::Check, format!("{shown} is encrypted, and no service could read it")));
            files.read(name)?.map(|pem| key::read(&pem, &shown, &mut no_passphrase)).transpose()
        };
        let mut found = Found { roots: certificates(CA)?, ca_key: files.read(CA_KEY)?, ..Found::default() };
        for service in services {
            let chain = certificates(&cert_file(service))?;
            if !chain.is_empty() {
                let given = files.read(&cert_file(service))?.is_some_and(|text| text.starts_with(GIVEN));
                found.pairs.insert(service.to_owned(), Pair { chain, key: key(&key_file(service))?, given });
            }
            if let (Some(request), Some(key)) = (files.read(&request_file(service))?, key(&request_key_file(service))?) {
                found.requests.insert(service.to_owned(), (request, key));
            }
        }
        Ok(found)
    }
}

/// Certificates in PEM, one after the other.
pub fn pem_of(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::pem).collect()
}
