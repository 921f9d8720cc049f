//! TLS by rustls with graviola, both ways: the feature `tls`.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned};

/// A client that believes the certificates of the bundle `roots` (PEM).
///
/// # Errors
/// In words, where the processor is too old or the bundle cannot be read.
pub fn client(roots: &Path) -> Result<Arc<ClientConfig>, String> {
    processor()?;
    let mut trusted = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(roots).map_err(|error| format!("reading {}: {error}", roots.display()))?;
    // A bundle holds what others put there; one that is not usable must not hide the rest.
    trusted.add_parsable_certificates(certificates.filter_map(Result::ok));
    let config = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Shakes hands with a server that has to be `host`: a name or an address.
///
/// # Errors
/// In words, with the name: the handshake comes first, so that its error is told as what it is.
pub fn connect<S: Read + Write>(
    config: &Arc<ClientConfig>,
    host: &str,
    mut connection: S,
) -> Result<StreamOwned<ClientConnection, S>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} cannot be a certificate's name"))?;
    let mut client = ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())?;
    client.complete_io(&mut connection).map_err(|error| format!("TLS as {host}: {error}"))?;
    Ok(StreamOwned::new(client, connection))
}

/// A server that shows the certificates of `cert`, its own first, with the key of `key` (both PEM).
///
/// # Errors
/// In words, where the processor is too old, a file cannot be read, or the two do not belong together.
pub fn server(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    processor()?;
    let wrong = |path: &Path, error: rustls::pki_types::pem::Error| format!("reading {}: {error}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(|error| wrong(cert, error))?.collect();
    let chain = chain.map_err(|error| wrong(cert, error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| format!("{} and {}: {error}", cert.display(), key.display()))?;
    Ok(Arc::new(config))
}

/// graviola is written for processors from 2015 on, and has no other way.
fn processor() -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
        ("ADX", std::arch::is_x86_feature_detected!("adx")),
    ] {
        if !there {
            return Err(format!("this processor has no {name}, which TLS needs here"));
        }
    }
    Ok(())
}
