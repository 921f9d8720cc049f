//! TLS to the database: `require` believes any certificate, `verify-ca` and `verify-full` the given roots'.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes connections of that mode.
pub fn connector(mode: &str, roots: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    if mode.starts_with("verify") {
        return verifying(roots).map(MakeRustlsConnect::new);
    }
    let provider = Arc::new(rustls_graviola::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let believing = builder.dangerous().with_custom_certificate_verifier(Arc::new(Believing(provider)));
    Ok(MakeRustlsConnect::new(believing.with_no_client_auth()))
}

/// A client that checks certificates, name and all: by these roots, else by the system's.
pub fn verifying(roots: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls_graviola::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let path = roots.map(Path::to_owned).or_else(|| std::env::var_os("SSL_CERT_FILE").map(Into::into)).unwrap_or(SYSTEM_ROOTS.into());
    let mut trusted = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    trusted.add_parsable_certificates(certificates.filter_map(Result::ok));
    Ok(builder.with_root_certificates(trusted).with_no_client_auth())
}

/// `sslmode=require` encrypts and asks nobody who the peer is.
#[derive(Debug)]
struct Believing(Arc<CryptoProvider>);

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
