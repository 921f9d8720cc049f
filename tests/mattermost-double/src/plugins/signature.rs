//! Signatures of bundles: detached OpenPGP, binary or armored, by a key that the server knows.
//!
//! The real server has the vendor's key compiled in; the double has its own in that place, whose secret half packs its bundles.

use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey};
use pgp::types::{KeyDetails as _, PublicParams};
use serde_json::json;

use crate::log;

const VENDOR: &[u8] = include_bytes!("vendor.asc");

/// Keys that sign plugins.
pub struct Keys(Vec<SignedPublicKey>);

impl Keys {
    /// The compiled-in one, and those in files; what cannot be read is left out, with a line in the log.
    pub fn read<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut keys = parse(VENDOR);
        for path in paths.filter(|path| !path.is_empty()) {
            match fs_err::read(path) {
                Ok(bytes) => keys.extend(parse(&bytes)),
                Err(error) => log::error("Unable to read plugin public key", &json!({ "error": error.to_string() })),
            }
        }
        // golang.org/x/crypto/openpgp, which the real server verifies with, knows no Edwards curves.
        keys.retain(|key| matches!(key.primary_key.public_params(), PublicParams::RSA(_)));
        Keys(keys)
    }

    /// Whether one of them made it.
    pub fn verify(&self, bundle: &[u8], signature: &[u8]) -> bool {
        let armored = DetachedSignature::from_armor_single(signature).map(|(signature, _)| signature);
        let signature = armored.or_else(|_| DetachedSignature::from_bytes(signature));
        let Ok(signature) = signature else { return false };
        self.0.iter().any(|key| {
            signature.verify(key, bundle).is_ok() || key.public_subkeys.iter().any(|subkey| signature.verify(&subkey.key, bundle).is_ok())
        })
    }
}

fn parse(bytes: &[u8]) -> Vec<SignedPublicKey> {
    match SignedPublicKey::from_armor_many(bytes) {
        Ok((keys, _)) => keys.filter_map(Result::ok).collect(),
        Err(_) => SignedPublicKey::from_bytes_many(bytes).map(|keys| keys.filter_map(Result::ok).collect()).unwrap_or_default(),
    }
}
