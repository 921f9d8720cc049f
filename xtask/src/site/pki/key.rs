//! Private keys: made, read, decrypted. Their bytes stand in no error and in no `Debug`.

use images::{Class, Error, Result};
use pkcs8::SecretDocument;
use pkcs8::der::Document;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

use super::certificate::Certificate;

/// Where a passphrase comes from. Asked only when a key is encrypted.
pub type Passphrase<'a> = &'a mut dyn FnMut() -> Result<String>;

/// Makes a key on P-256: what every client takes, and ring signs with.
pub fn generate() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| Error::new(Class::Build, format!("no key could be made: {error}")))
}

/// Reads a private key in PKCS#8 PEM, decrypting it with the passphrase where it is encrypted. `name` names it in errors.
pub fn read(pem: &str, name: &str, passphrase: Passphrase<'_>) -> Result<KeyPair> {
    let label = pem.lines().find_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    // Text may stand in front of the block, as `openssl pkcs12` writes it.
    let block = pem.find("-----BEGIN ").map_or("", |start| &pem[start..]).trim_end();
    let der = match label {
        Some("PRIVATE KEY") => SecretDocument::from_pem(block).map_err(|_| unreadable(name))?.1,
        Some("ENCRYPTED PRIVATE KEY") => decrypted(block, name, passphrase)?,
        Some(other @ ("EC PRIVATE KEY" | "RSA PRIVATE KEY")) => {
            return Err(Error::new(Class::Usage, format!("{name} is in an old form: {other}"))
                .detail("expected PKCS#8: PRIVATE KEY, or ENCRYPTED PRIVATE KEY")
                .hint(format!("openssl pkcs8 -topk8 -v2 aes-256-cbc -in {name} -out key.pem")));
        }
        Some(other) => {
            return Err(Error::new(Class::Usage, format!("{name} holds a {other}, not a private key")));
        }
        None => return Err(Error::new(Class::Usage, format!("{name} holds no private key in PEM"))),
    };
    KeyPair::try_from(der.as_bytes()).map_err(|_| {
        Error::new(Class::Usage, format!("{name} is no key that can be used here"))
            .detail("expected RSA with 2048 to 4096 bits, or EC on P-256 or P-384, in PKCS#8 with its public key")
    })
}

fn decrypted(block: &str, name: &str, passphrase: Passphrase<'_>) -> Result<SecretDocument> {
    let (_, outer) = Document::from_pem(block).map_err(|_| unreadable(name))?;
    let encrypted = pkcs8::EncryptedPrivateKeyInfo::try_from(outer.as_bytes()).map_err(|_| {
        Error::new(Class::Usage, format!("{name} is encrypted in a way that is not read here"))
            .detail("expected PBES2: PBKDF2 with SHA-2, or scrypt, and AES in CBC mode")
            .hint(format!("openssl pkcs8 -in {name} | openssl pkcs8 -topk8 -v2 aes-256-cbc -out key.pem"))
    })?;
    let passphrase = passphrase()?;
    encrypted.decrypt(passphrase).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed | pkcs8::pkcs5::Error::EncryptFailed)
        | pkcs8::Error::Asn1(_) => Error::new(Class::Usage, format!("the passphrase does not open {name}")),
        other => Error::new(Class::Usage, format!("{name} cannot be decrypted: {other}"))
            .detail("expected PBES2: PBKDF2 with SHA-2, or scrypt, and AES in CBC mode"),
    })
}

fn unreadable(name: &str) -> Error {
    Error::new(Class::Usage, format!("{name} is not readable PEM"))
}

/// Whether a private key belongs to a certificate.
pub fn fits(key: &KeyPair, certificate: &Certificate) -> bool {
    key.subject_public_key_info() == certificate.spki
}

/// The key in PKCS#8 PEM, unencrypted: what services read.
pub fn pem(key: &KeyPair) -> String {
    super::certificate::pem("PRIVATE KEY", key.serialized_der())
}
