//! TLS as a client of a site speaks it: trust in one CA and nothing else.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use images::{Class, Error, Result};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// The cryptography of everything that runs on this machine.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The roots in a PEM file.
pub fn roots(ca: &Path) -> Result<RootCertStore> {
    let pem = fs_err::read(ca).map_err(|error| {
        let hint = "cargo xtask certs makes the site's CA; --ca FILE names another";
        Error::new(Class::Usage, error.to_string()).hint(hint)
    })?;
    let wrong = |why: String| Error::new(Class::Usage, format!("{} holds no CA certificate", ca.display())).detail(why);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("expected certificates in PEM".to_owned())) } else { Ok(roots) }
}

/// A client that trusts the CA in this PEM file and nobody else.
pub fn trusting(ca: &Path) -> Result<Arc<ClientConfig>> {
    let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| Error::new(Class::Build, error.to_string()))?;
    Ok(Arc::new(versions.with_root_certificates(roots(ca)?).with_no_client_auth()))
}

/// What a handshake failed with, for people.
pub fn words(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(refused)) => certificate_words(refused),
        Some(other) => other.to_string(),
        None if error.kind() == ErrorKind::UnexpectedEof => "the connection ended in the middle of the TLS handshake".to_owned(),
        None if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => "no answer in time".to_owned(),
        None => error.to_string(),
    }
}

/// Why a certificate was refused, for people.
pub fn certificate_words(refused: &CertificateError) -> String {
    match refused {
        CertificateError::UnknownIssuer => "the certificate is not from this CA, or its chain is not complete".to_owned(),
        CertificateError::BadSignature => "the certificate's signature does not fit this CA's key".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet: compare the clocks".to_owned()
        }
        CertificateError::NotValidForName => "the certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, .. } => format!("the certificate is not for {}", expected.to_str()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "the certificate is not a server's".to_owned(),
        other => format!("the certificate is refused: {other}"),
    }
}
