//! Releases and plugins of vendors: how their entries in the lock come to a SHA-256.

use std::io::{Read, Seek};

use crate::digest::Digest;
use crate::error::{Class, Error, Result};
use crate::lock::{Artefact, Kind, Lock, Origin};
use crate::openpgp::Keyring;

/// Where Mattermost publishes its plugins' signing key. Any copy will do: the lock pins the fingerprint.
pub const PLUGIN_KEY_URL: &str =
    "https://raw.githubusercontent.com/mattermost/mattermost/master/server/build/plugin-production-public-key.gpg";

/// Pins a release: the vendor's version and SHA-256, and its size in bytes where somebody has seen the file. Its address
/// follows from name and version, as the vendor's do.
pub fn accept_release(lock: &mut Lock, name: &str, version: &str, sha256: Digest, size: Option<u64>) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    if version.is_empty() || !version.starts_with(|c: char| c.is_ascii_digit()) || !version.chars().all(legal) {
        return Err(
            Error::new(Class::Usage, format!("\"{version}\" is not a version of {name}")).detail("expected a version such as 11.7.9")
        );
    }
    let same = lock.artefact(Kind::Release, name).filter(|artefact| artefact.sha256 == Some(sha256)).and_then(|artefact| artefact.size);
    let url = format!("https://releases.mattermost.com/{version}/{name}-{version}-linux-amd64.tar.gz");
    lock.artefacts.retain(|artefact| (artefact.kind, artefact.name.as_str()) != (Kind::Release, name));
    lock.artefacts.push(Artefact {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        kind: Kind::Release,
        size: size.or(same),
        sha256: Some(sha256),
        from: Origin::Url { url },
        source: None,
        signature: None,
        scripts: Default::default(),
    });
    Ok(())
}

/// Checks a release's tarball against its detached signature by one of the keys of `keyring`, which the caller vouches for,
/// and pins what it hashes to.
pub fn accept_release_file(
    lock: &mut Lock,
    name: &str,
    version: &str,
    mut tarball: impl Read + Seek,
    signature: &[u8],
    keyring: &Keyring,
) -> Result<()> {
    let fingerprints = keyring.fingerprints();
    let allowed: Vec<&str> = fingerprints.iter().map(String::as_str).collect();
    keyring.verify_detached(&mut tarball, signature, &allowed, &format!("{name} {version}"))?;
    tarball.rewind()?;
    let (digest, size) = Digest::of_reader(tarball)?;
    accept_release(lock, name, version, digest, Some(size))
}

/// Checks a plugin bundle against the signature and the fingerprint in its entry, with the public key(s) in `key` (binary
/// or armored), and writes its SHA-256 and size into the entry.
pub fn accept_plugin(lock: &mut Lock, name: &str, mut bundle: impl Read + Seek, key: &[u8]) -> Result<()> {
    let entry = lock.artefacts.iter_mut().find(|artefact| (artefact.kind, artefact.name.as_str()) == (Kind::Plugin, name));
    let entry = entry.ok_or_else(|| Error::new(Class::Usage, format!("the lock has no plugin \"{name}\"")))?;
    let signature =
        entry.signature.as_ref().ok_or_else(|| Error::new(Class::Usage, format!("the lock has no signature for plugin \"{name}\"")))?;
    let keyring = Keyring::parse(key, "the plugin's key")?;
    let file = entry.from.file_name().to_owned();
    keyring.verify_detached(&mut bundle, &signature.bytes()?, &[&signature.fingerprint], &file)?;
    bundle.rewind()?;
    let (digest, size) = Digest::of_reader(bundle)?;
    entry.sha256 = Some(digest);
    entry.size = Some(size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::lock::Signature;
    use crate::openpgp::sign_detached;
    use crate::openpgp::tests::{ALICE, MALLORY, base64, name, public};
    use pgp::ser::Serialize as _;

    fn empty() -> Lock {
        let text =
            r#"{"format":1,"debian":{"suite":"trixie","architecture":"amd64","indexes":{}},"groups":{},"artefacts":[],"scripts":[]}"#;
        Lock::parse(text, "lock.json").expect("valid")
    }

    fn with_plugin(signature: &[u8]) -> Lock {
        let mut lock = empty();
        accept_release(&mut lock, "demo", "1.0", Digest::of(""), None).expect("good");
        let plugin = &mut lock.artefacts[0];
        plugin.kind = Kind::Plugin;
        plugin.sha256 = None;
        plugin.signature = Some(Signature { fingerprint: name(&ALICE), base64: base64(signature) });
        lock
    }

    #[test]
    fn a_plugin_is_pinned_by_its_signature_alone() {
        let signature = sign_detached(&b"bundle"[..], &ALICE.to_bytes().expect("serializes"), b"", "key").expect("signs");
        let mut lock = with_plugin(&signature);
        accept_plugin(&mut lock, "demo", Cursor::new("bundle"), &public(&ALICE)).expect("good");
        assert_eq!((lock.artefacts[0].sha256, lock.artefacts[0].size), (Some(Digest::of("bundle")), Some(6)));
    }

    #[test]
    fn a_tampered_plugin_and_a_wrong_key_are_refused_and_change_nothing() {
        let signature = sign_detached(&b"bundle"[..], &ALICE.to_bytes().expect("serializes"), b"", "key").expect("signs");
        let lock = with_plugin(&signature);
        for (bundle, key) in [("bundles", public(&ALICE)), ("bundle", public(&MALLORY))] {
            let mut changed = lock.clone();
            let error = accept_plugin(&mut changed, "demo", Cursor::new(bundle), &key).expect_err("refused");
            assert_eq!(error.class(), Class::HashMismatch, "{error}");
            assert_eq!(changed, lock);
        }
        // Signed well, but by somebody else than the lock says.
        let by_mallory = sign_detached(&b"bundle"[..], &MALLORY.to_bytes().expect("serializes"), b"", "key").expect("signs");
        let mut lock = with_plugin(&by_mallory);
        let error = accept_plugin(&mut lock, "demo", Cursor::new("bundle"), &public(&MALLORY)).expect_err("refused");
        assert!(error.to_string().contains("which is not one of them"), "{error}");
        assert!(accept_plugin(&mut lock, "other", Cursor::new("bundle"), &public(&ALICE)).is_err());
    }

    #[test]
    fn a_release_is_pinned_by_version_and_hash_or_by_its_signed_file() {
        let mut lock = empty();
        accept_release(&mut lock, "mattermost", "11.7.9", Digest::of("a"), None).expect("good");
        let signature = sign_detached(&b"release"[..], &ALICE.to_bytes().expect("serializes"), b"", "key").expect("signs");
        let ring = Keyring::parse(&public(&ALICE), "ring").expect("a keyring");
        accept_release_file(&mut lock, "mattermost", "11.7.10", Cursor::new("release"), &signature, &ring).expect("good");
        let entry = &lock.artefacts[0];
        assert_eq!((lock.artefacts.len(), entry.sha256, entry.size), (1, Some(Digest::of("release")), Some(7)));
        assert_eq!(entry.from.file_name(), "mattermost-11.7.10-linux-amd64.tar.gz");
        assert!(accept_release_file(&mut lock, "mattermost", "11.7.10", Cursor::new("released"), &signature, &ring).is_err());
        for bad in ["", "latest", "11.7/..", "v1"] {
            assert!(accept_release(&mut lock, "mattermost", bad, Digest::of("a"), None).is_err(), "{bad}");
        }
    }
}
