//! The signature over the list: minisign's, so that its own program can make and check one too.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use images::{Class, Digest, Error, Result};
use minisign::{PublicKey, PublicKeyBox, SecretKey, SecretKeyBox, SignatureBox};

use super::{SIGNATURE, damaged};

/// What a signature may have, bytes; usual are 300.
pub const LONGEST: u32 = 64 << 10;

/// Whom a bundle has to be from.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whoever has the secret key of this one.
    Key {
        /// The public key.
        key: PublicKey,
        /// Its file.
        file: PathBuf,
    },
    /// Anybody: what is checked is that nothing was damaged.
    Anybody,
}

impl Trust {
    /// Reads a public key, as `minisign -G` writes it.
    pub fn key(file: &Path) -> Result<Trust> {
        let wrong = || Error::new(Class::Usage, format!("{} is no public key of minisign's", file.display()));
        let text = fs_err::read_to_string(file).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
        let key = PublicKeyBox::from_string(&text).and_then(PublicKeyBox::into_public_key);
        Ok(Trust::Key { key: key.map_err(|error| wrong().detail(error.to_string()))?, file: file.to_owned() })
    }

    /// Whether a list with this signature is to be used.
    pub fn check(&self, list: &[u8], signature: Option<&[u8]>) -> Result<()> {
        let Trust::Key { key, file } = self else { return Ok(()) };
        let Some(signature) = signature else {
            return Err(Error::new(Class::Check, "the bundle is not signed").hint("cargo xtask bundle sign, where it was made"));
        };
        let text = std::str::from_utf8(signature).ok();
        let signature = text.and_then(|text| SignatureBox::from_string(text).ok());
        let signature = signature.ok_or_else(|| damaged(format!("{SIGNATURE} is damaged")))?;
        // Only the kind that `sign` makes, over BLAKE2b; the older one is over the file itself.
        minisign::verify(key, &signature, Cursor::new(list), true, false, false).map_err(|error| {
            let other = signature.keynum() != key.keynum();
            let why = if other { "another key made its signature" } else { "its signature is not over this list" };
            Error::new(Class::Check, format!("the bundle is not from {}: {why}", file.display()))
                .detail(format!("expected key {}", number(key.keynum())))
                .detail(format!("found    key {}", number(signature.keynum())))
                .detail(error.to_string())
                .hint("do not use it before it is clear where it comes from")
        })
    }
}

/// A key's number as minisign shows it.
fn number(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// A key without a passphrase; nothing where it has one. Debian's `minisign -W` leaves its checksum empty, so that is not asked for.
fn open_key(text: &str) -> Option<minisign::Result<SecretKey>> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    (bytes.get(2..4)? == [0, 0]).then(|| SecretKey::from_bytes(&bytes))
}

/// Signs a list. `passphrase` is asked for where the key is encrypted.
pub fn sign(list: &[u8], id: &Digest, key: &Path, passphrase: impl FnOnce() -> Result<String>) -> Result<Vec<u8>> {
    let wrong = |error: &dyn std::fmt::Display| {
        Error::new(Class::Usage, format!("{} is no secret key of minisign's that can be opened", key.display()))
            .detail(error.to_string())
            .hint("minisign -G makes a pair of keys")
    };
    let text = fs_err::read_to_string(key).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
    let secret = match open_key(&text) {
        Some(secret) => secret.map_err(|error| wrong(&error))?,
        None => {
            let locked = SecretKeyBox::from_string(&text).map_err(|error| wrong(&error))?;
            locked.into_secret_key(Some(passphrase()?)).map_err(|error| wrong(&error))?
        }
    };
    // Its public half, which is in it, has to agree with what it signs.
    let public = PublicKey::from_secret_key(&secret).map_err(|error| wrong(&error))?;
    let comment = format!("bundle {id}");
    // Without a time: what tells the older of two bundles stands in the list, where it is signed as well.
    let signature = minisign::sign(Some(&public), &secret, Cursor::new(list), Some(&comment), Some("signature of parts.json"));
    Ok(signature.map_err(|error| wrong(&error))?.into_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use minisign::KeyPair;

    use super::*;

    fn keys(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let (secret, public) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
        fs_err::write(&secret, pair.sk.to_box(None).unwrap().into_string()).unwrap();
        fs_err::write(&public, pair.pk.to_box().unwrap().into_string()).unwrap();
        (secret, public)
    }

    #[test]
    fn a_signature_is_of_one_key_over_one_list() {
        let folder = tempfile::tempdir().unwrap();
        let ((secret, public), (_, other)) = (keys(folder.path(), "a"), keys(folder.path(), "b"));
        let list = b"the list";
        let made = sign(list, &Digest::of(list), &secret, || unreachable!("the key is open")).unwrap();
        let trust = Trust::key(&public).unwrap();
        trust.check(list, Some(&made)).unwrap();
        let refused = |trust: &Trust, list: &[u8], made: Option<&[u8]>| trust.check(list, made).unwrap_err().to_string();
        assert!(refused(&trust, b"another list", Some(&made)).contains("not over this list"));
        assert!(refused(&Trust::key(&other).unwrap(), list, Some(&made)).contains("another key"));
        assert!(refused(&trust, list, None).contains("not signed"));
        assert!(refused(&trust, list, Some(b"\xff")).contains("damaged"));
        // The first line is a remark that nobody signs; what is at the end of the last one is white space.
        let remark = b"untrusted comment: ".len()..made.iter().position(|byte| *byte == b'\n').unwrap();
        for at in 0..made.trim_ascii_end().len() {
            let mut flipped = made.clone();
            flipped[at] ^= 1;
            assert_eq!(trust.check(list, Some(&flipped)).is_ok(), remark.contains(&at), "byte {at}");
        }
        assert_eq!(Trust::key(&secret).unwrap_err().class(), Class::Usage);
        let error = sign(list, &Digest::of(list), &public, || Ok(String::new())).unwrap_err();
        assert_eq!(error.class(), Class::Usage);
    }

    /// Made by Debian's minisign 0.11: `minisign -G -W`, and used nowhere.
    #[test]
    fn a_key_that_minisign_made_without_a_passphrase_signs() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = (folder.path().join("s"), folder.path().join("p"));
        fs_err::write(&secret, "untrusted comment: minisign encrypted secret key\nRWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACJ63jzphfGqPKHzDlFIRyTrqsuYRJEVUm1GhWwAQn9KeJJW5Kqc+aAEFb//ebDNq2CNBNl/ONAc4HpYd3yBpRBWVo6P2jnqtAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        fs_err::write(
            &public,
            "untrusted comment: minisign public key 6A7C613A8FB79E08\nRWQInrePOmF8agEFb//ebDNq2CNBNl/ONAc4HpYd3yBpRBWVo6P2jnqt",
        )
        .unwrap();
        let made = sign(b"l", &Digest::of("l"), &secret, || unreachable!("it has none")).unwrap();
        Trust::key(&public).unwrap().check(b"l", Some(&made)).unwrap();
    }

    #[test]
    fn an_encrypted_key_wants_its_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate_encrypted_keypair(Some("geheim".into())).unwrap();
        let (secret, public) = (folder.path().join("s"), folder.path().join("p"));
        fs_err::write(&secret, pair.sk.to_box(None).unwrap().into_string()).unwrap();
        fs_err::write(&public, pair.pk.to_box().unwrap().into_string()).unwrap();
        let error = sign(b"l", &Digest::of("l"), &secret, || Ok("other".into())).unwrap_err();
        assert!(!error.to_string().contains("other"), "{error}");
        let made = sign(b"l", &Digest::of("l"), &secret, || Ok("geheim".into())).unwrap();
        Trust::key(&public).unwrap().check(b"l", Some(&made)).unwrap();
    }
}
