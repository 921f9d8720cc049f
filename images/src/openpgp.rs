//! OpenPGP signatures (RFC 9580): checked against keyring bytes and a set of allowed fingerprints, and made with RSA keys.
//! Nothing here reads a clock to decide: whose key it has to be is pinned, and a signature does not grow false with age.

use std::io::{Read, Seek, SeekFrom};

use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails, KeyVersion, Password, PublicParams, SigningKey, Timestamp, VerifyingKey};

use crate::error::{Class, Error, Result};

/// The least RSA modulus that a new signature may be made with, in bits.
pub const MIN_RSA_BITS: u16 = 2048;

/// Public keys that signatures are checked against.
#[derive(Debug)]
pub struct Keyring {
    name: String,
    keys: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads the public keys of `bytes`, binary or armored, one or many; `name` is the keyring's name in errors. Keys of
    /// kinds that are not known here are passed over, as gpgv does.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Keyring> {
        let mut keys = Vec::new();
        // The parsers answer with errors for packets that they do not know; the limit ends a parser that would never end.
        let limit = bytes.len() / 16 + 1;
        match armored_blocks(bytes, "PGP PUBLIC KEY BLOCK") {
            Some(blocks) => {
                for block in blocks {
                    if let Ok((found, _)) = SignedPublicKey::from_armor_many(block.as_bytes()) {
                        keys.extend(found.take(limit).filter_map(|key| key.ok()));
                    }
                }
            }
            None => {
                if let Ok(found) = SignedPublicKey::from_bytes_many(bytes) {
                    keys.extend(found.take(limit).filter_map(|key| key.ok()));
                }
            }
        }
        if keys.is_empty() {
            return Err(Error::new(Class::Usage, format!("{name} holds no OpenPGP public key"))
                .detail("expected public keys, binary (gpg --export) or armored (BEGIN PGP PUBLIC KEY BLOCK)")
                .detail(format!("found {} bytes that are neither", bytes.len())));
        }
        Ok(Keyring { name: name.to_owned(), keys })
    }

    /// Fingerprints of the primary keys: 40 upper-case hex digits each (64 for version 6).
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(fingerprint).collect()
    }

    /// Checks a detached signature, binary or armored, over `data`, by a key whose primary fingerprint is in `allowed`.
    /// Gives back that fingerprint. `what` is the signed thing's name in errors.
    pub fn verify_detached(&self, mut data: impl Read + Seek, signature: &[u8], allowed: &[&str], what: &str) -> Result<String> {
        let mut signatures = Vec::new();
        match armored_blocks(signature, "PGP SIGNATURE") {
            Some(blocks) => {
                for block in blocks {
                    if let Ok((found, _)) = DetachedSignature::from_armor_many(block.as_bytes()) {
                        signatures.extend(found.take(16).filter_map(|one| one.ok()));
                    }
                }
            }
            None => {
                if let Ok(found) = DetachedSignature::from_bytes_many(signature) {
                    signatures.extend(found.take(16).filter_map(|one| one.ok()));
                }
            }
        }
        let signatures: Vec<Signature> = signatures.into_iter().map(|one| one.signature).collect();
        self.verify(&signatures, allowed, what, |signature, key| {
            data.seek(SeekFrom::Start(0))?;
            signature.verify(&key, &mut data)
        })
    }

    /// Checks a cleartext-signed document such as `InRelease` and gives back the text that was signed, with `\n` at line
    /// ends: nothing outside the signed part reaches the caller. `what` is the document's name in errors.
    pub fn verify_cleartext(&self, document: &[u8], allowed: &[&str], what: &str) -> Result<String> {
        let (message, _) = CleartextSignedMessage::from_armor(document).map_err(|error| {
            Error::new(Class::HashMismatch, format!("{what} is not a signed document"))
                .detail("expected BEGIN PGP SIGNED MESSAGE, text and signature, and nothing around them")
                .detail(format!("found {} bytes: {error}", document.len()))
        })?;
        let text = message.signed_text();
        self.verify(message.signatures(), allowed, what, |signature, key| signature.verify(&key, text.as_bytes()))?;
        Ok(text.replace("\r\n", "\n"))
    }

    /// One good signature by an allowed key is enough: Debian signs with several keys.
    fn verify(
        &self,
        signatures: &[Signature],
        allowed: &[&str],
        what: &str,
        mut check: impl FnMut(&Signature, Signer<'_>) -> pgp::errors::Result<()>,
    ) -> Result<String> {
        let mut found = Vec::new();
        for signature in signatures {
            if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
                found.push("a signature over something other than data".to_owned());
                continue;
            }
            let mut known = false;
            for key in &self.keys {
                for signer in signers(key).filter(|signer| issued_by(signature, signer)) {
                    known = true;
                    let primary = fingerprint(key);
                    if !allowed.iter().any(|one| normal(one) == primary) {
                        found.push(format!("a signature by {primary}, which is not one of them"));
                    } else if let Err(reason) = usable(key, &signer) {
                        found.push(format!("a signature by {primary}, {reason}"));
                    } else {
                        match check(signature, signer) {
                            Ok(()) => return Ok(primary),
                            Err(_) => {
                                found.push(format!("a signature by {primary} that does not fit: the content or the signature was changed"))
                            }
                        }
                    }
                }
            }
            if !known {
                found.push(format!("a signature by key {}, which {} does not hold", issuer(signature), self.name));
            }
        }
        if found.is_empty() {
            found.push("no OpenPGP signature".to_owned());
        }
        found.sort();
        found.dedup();
        let expected = allowed.iter().map(|one| normal(one)).collect::<Vec<_>>().join(", ");
        let error = Error::new(Class::HashMismatch, format!("{what} has no valid signature")).detail(format!("expected one by {expected}"));
        Err(found.into_iter().fold(error, |error, line| error.detail(format!("found {line}"))))
    }
}

/// A primary key or a signing subkey.
enum Signer<'a> {
    Primary(&'a SignedPublicKey),
    Sub(&'a pgp::composed::SignedPublicSubKey),
}

impl VerifyingKey for Signer<'_> {
    fn verify(&self, hash: HashAlgorithm, data: &[u8], signature: &pgp::types::SignatureBytes) -> pgp::errors::Result<()> {
        match self {
            Signer::Primary(key) => key.verify(hash, data, signature),
            Signer::Sub(key) => key.verify(hash, data, signature),
        }
    }
}

impl std::fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.fingerprint())
    }
}

impl Signer<'_> {
    fn details(&self) -> &dyn KeyDetails {
        match self {
            Signer::Primary(key) => *key,
            Signer::Sub(key) => *key,
        }
    }
}

impl KeyDetails for Signer<'_> {
    fn version(&self) -> KeyVersion {
        self.details().version()
    }
    fn fingerprint(&self) -> pgp::types::Fingerprint {
        self.details().fingerprint()
    }
    fn legacy_key_id(&self) -> pgp::types::KeyId {
        self.details().legacy_key_id()
    }
    fn algorithm(&self) -> pgp::crypto::public_key::PublicKeyAlgorithm {
        self.details().algorithm()
    }
    fn created_at(&self) -> Timestamp {
        self.details().created_at()
    }
    fn legacy_v3_expiration_days(&self) -> Option<u16> {
        self.details().legacy_v3_expiration_days()
    }
    fn public_params(&self) -> &PublicParams {
        self.details().public_params()
    }
}

fn signers(key: &SignedPublicKey) -> impl Iterator<Item = Signer<'_>> {
    std::iter::once(Signer::Primary(key)).chain(key.public_subkeys.iter().map(Signer::Sub))
}

fn issued_by(signature: &Signature, signer: &Signer<'_>) -> bool {
    signature.issuer_fingerprint().contains(&&signer.fingerprint()) || signature.issuer_key_id().contains(&&signer.legacy_key_id())
}

/// A revoked key signs nothing any more; a subkey has to be bound to its primary key both ways and be meant for signing,
/// else anybody's key could be slipped below a pinned one.
fn usable(key: &SignedPublicKey, signer: &Signer<'_>) -> Result<(), &'static str> {
    if key.details.revocation_signatures.iter().any(|revocation| revocation.verify_key(&key.primary_key).is_ok()) {
        return Err("which its owner has revoked");
    }
    let Signer::Sub(sub) = signer else { return Ok(()) };
    let typed = |wanted| sub.signatures.iter().filter(move |one| one.typ() == Some(wanted));
    if typed(SignatureType::SubkeyRevocation).any(|one| one.verify_subkey_binding(&key.primary_key, &sub.key).is_ok()) {
        return Err("whose signing subkey is revoked");
    }
    let bound = typed(SignatureType::SubkeyBinding).any(|one| {
        let back = one.embedded_signature();
        one.key_flags().sign()
            && one.verify_subkey_binding(&key.primary_key, &sub.key).is_ok()
            && back.is_some_and(|back| back.verify_primary_key_binding(&sub.key, &key.primary_key).is_ok())
    });
    if bound { Ok(()) } else { Err("whose subkey is not bound to it for signing") }
}

fn issuer(signature: &Signature) -> String {
    let fingerprints = signature.issuer_fingerprint().into_iter().map(|one| one.to_string());
    let ids = signature.issuer_key_id().into_iter().map(|one| one.to_string());
    fingerprints.chain(ids).next().unwrap_or_else(|| "(unnamed)".to_owned()).to_uppercase()
}

fn fingerprint(key: &impl KeyDetails) -> String {
    key.fingerprint().to_string().to_uppercase()
}

/// Fingerprints are often written in groups of four and in either case.
fn normal(fingerprint: &str) -> String {
    fingerprint.split_whitespace().collect::<String>().to_uppercase()
}

/// The armored blocks of that kind, with their marker lines; `None` where `bytes` is not armored.
fn armored_blocks<'a>(bytes: &'a [u8], kind: &str) -> Option<Vec<&'a str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&begin) {
        let length = rest[start..].find(&end)? + end.len();
        blocks.push(&rest[start..start + length]);
        rest = &rest[start + length..];
    }
    (!blocks.is_empty()).then_some(blocks)
}

/// A detached binary signature (SHA-256) over `data` by the RSA key in `secret` (binary or armored): the form that the
/// Mattermost server checks. `name` is the key's name in errors; the passphrase may be empty.
pub fn sign_detached(data: impl Read, secret: &[u8], passphrase: &[u8], name: &str) -> Result<Vec<u8>> {
    sign_detached_at(Timestamp::now().as_secs(), data, secret, passphrase, name)
}

/// The same with the time that it says it was made at, in seconds since 1970: an RSA signature then has the same bytes each time.
pub fn sign_detached_at(made: u32, data: impl Read, secret: &[u8], passphrase: &[u8], name: &str) -> Result<Vec<u8>> {
    let key = match armored_blocks(secret, "PGP PRIVATE KEY BLOCK") {
        Some(blocks) => SignedSecretKey::from_armor_single(blocks[0].as_bytes()).map(|(key, _)| key),
        None => SignedSecretKey::from_bytes(secret),
    };
    let key = key.map_err(|error| {
        Error::new(Class::Usage, format!("{name} holds no OpenPGP secret key"))
            .detail("expected a secret key, binary or armored (BEGIN PGP PRIVATE KEY BLOCK)")
            .detail(format!("found {error}"))
            .hint("gpg --export-secret-keys --armor FINGERPRINT > key.asc")
    })?;
    let (rsa, bits) = match key.primary_key.public_params() {
        params @ PublicParams::RSA(_) => (true, rsa_bits(params)?),
        _ => (false, 0),
    };
    if !rsa || bits < MIN_RSA_BITS {
        let found = if rsa { format!("RSA with {bits} bits") } else { format!("{:?}", key.primary_key.algorithm()) };
        return Err(Error::new(Class::Usage, format!("{name} cannot sign plugins"))
            .detail(format!("expected an RSA key of at least {MIN_RSA_BITS} bits: the Mattermost server knows no other kind (golang.org/x/crypto/openpgp)"))
            .detail(format!("found {found}"))
            .hint("gpg --quick-generate-key \"Plugins of this site\" rsa3072 sign never"));
    }
    let broken = |error: pgp::errors::Error| Error::new(Class::Usage, format!("cannot sign with {name}")).detail(format!("found {error}"));
    let config = signature_config(&key.primary_key, Timestamp::from_secs(made));
    let signature = config.and_then(|config| config.sign(&key.primary_key, &Password::from(passphrase), data));
    let signature =
        signature.map_err(|error| broken(error).hint("is the passphrase right? --passphrase-file names the file that holds it"))?;
    DetachedSignature::new(signature).to_bytes().map_err(broken)
}

fn signature_config(key: &impl SigningKey, made: Timestamp) -> pgp::errors::Result<SignatureConfig> {
    let mut config = SignatureConfig::v4(SignatureType::Binary, key.algorithm(), HashAlgorithm::Sha256);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(made))?,
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
    ];
    config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
    Ok(config)
}

/// The modulus is the first number of an RSA key, and a number begins with its length in bits (RFC 9580, section 3.2).
fn rsa_bits(params: &PublicParams) -> Result<u16> {
    let bytes = params.to_bytes().map_err(|error| Error::new(Class::Usage, format!("the key cannot be read: {error}")))?;
    Ok(bytes.first_chunk().map_or(0, |bits| u16::from_be_bytes(*bits)))
}

#[cfg(test)]
pub(crate) mod tests;
