//! The bodies of the fuzz targets: each takes any bytes and hands them to one reader of foreign input.
//!
//! A body panics when the reader does, or when what came out breaks a promise of the reader. `tests/fuzz` calls the bodies from
//! a fuzzer; the tests below replay the committed corpora.

use std::io::{Cursor, Read};
use std::path::Path;

use crate::entry::{self, Entry, Limited, Node};
use crate::lock::Lock;
use crate::openpgp::Keyring;
use crate::resolve::release::Release;
use crate::resolve::{depends, packages, version};
use crate::rules::ca_bundle;
use crate::sbom::licence;
use crate::spec::{self, Spec};
use crate::{Result, elf, go_build};

/// A target's body.
pub type Body = fn(&[u8]);

/// Every target by the name of its corpus and of its file in `tests/fuzz/fuzz_targets`.
pub const TARGETS: [(&str, Body); 13] = [
    ("ca_bundle", ca_bundle),
    ("copyright", copyright),
    ("deb", deb),
    ("elf", elf),
    ("glob", glob),
    ("go_build", go_build),
    ("lock", lock),
    ("openpgp", openpgp),
    ("packages", packages),
    ("relations", relations),
    ("release", release),
    ("spec", spec),
    ("tar", tar),
];

/// A PEM file of certificates.
pub fn ca_bundle(data: &[u8]) {
    if let Ok(certificates) = ca_bundle::parse(data, "usr/local/share/ca.crt", "ca.crt") {
        let bundle = ca_bundle::bundle(&certificates, &std::collections::BTreeSet::new());
        let again = ca_bundle::parse(bundle.text.as_bytes(), "etc/ssl/certs/ca-certificates.crt", "bundle");
        assert!(again.is_ok_and(|again| again.len() == bundle.links.len()), "a bundle is read as it was written");
    }
}

/// A package's `copyright` file.
pub fn copyright(data: &[u8]) {
    if let Some(licences) = licence::read(&String::from_utf8_lossy(data), "app") {
        let legal = |c: char| c.is_ascii_alphanumeric() || " ().-".contains(c);
        assert!(licences.expression.chars().all(legal), "an expression is made of identifiers: {}", licences.expression);
        assert!(licences.texts.keys().all(|reference| licences.expression.contains(reference.as_str())), "every text is referred to");
    }
}

/// A Debian package.
pub fn deb(data: &[u8]) {
    if let Ok(deb) = crate::deb::Deb::open(data) {
        let _ = deb.entries(&mut checked_entry);
    }
}

/// An ELF file.
pub fn elf(data: &[u8]) {
    if let Some(dynamic) = elf::dynamic(Cursor::new(data)) {
        assert!(dynamic.needed.len() <= data.len(), "every name lies in the file");
    }
}

/// A Go program.
pub fn go_build(data: &[u8]) {
    if let Some(build) = go_build::read(Cursor::new(data)) {
        assert!(build.modules.len() <= data.len(), "every module lies in the file");
    }
}

/// A glob, a line end, and a path.
pub fn glob(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (glob, path) = text.split_once('\n').unwrap_or((text, text));
    let _ = spec::glob_matches(glob, path);
    assert!(spec::glob_matches("**", path) && (glob.contains('*') || spec::glob_matches(glob, glob)));
}

/// A lock file.
pub fn lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(lock) = Lock::parse(text, "lock.json") else { return };
    let written = lock.to_text();
    let again = Lock::parse(&written, "lock.json").map(|again| again.to_text());
    assert!(again.is_ok_and(|again| again == written), "a lock is read as it was written");
    let _ = lock.disagreements(&std::collections::BTreeMap::new());
    for signature in lock.artefacts.iter().filter_map(|artefact| artefact.signature.as_ref()) {
        let _ = signature.bytes();
    }
}

/// Keys, then a signed document (from its first line on) or a detached signature over `content`.
pub fn openpgp(data: &[u8]) {
    const MARKS: [&[u8]; 2] = [b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----BEGIN PGP SIGNATURE-----"];
    let cut = MARKS.iter().filter_map(|mark| data.windows(mark.len()).position(|window| window == *mark)).min().unwrap_or(data.len() / 2);
    let (keys, signed) = data.split_at(cut);
    if let Ok(keyring) = Keyring::parse(keys, "keys") {
        let prints = keyring.fingerprints();
        let allowed: Vec<&str> = prints.iter().map(String::as_str).collect();
        let _ = keyring.verify_cleartext(signed, &allowed, "document");
        let _ = keyring.verify_detached(Cursor::new("content"), signed, &allowed, "file");
        assert!(keyring.verify_detached(Cursor::new("content"), signed, &[], "file").is_err(), "nobody is allowed");
    }
}

/// A `Packages` file.
pub fn packages(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for stanza in packages::parse(text).into_iter().flat_map(std::collections::BTreeMap::into_values) {
        let _ = stanza.clauses();
        let _ = depends::parse_provides(&stanza.provides);
        if let Ok((path, ..)) = stanza.file() {
            assert!(!path.starts_with('/') && !path.split('/').any(|name| name == ".."), "{path:?}");
        }
    }
}

/// A `Depends` field, or two versions on two lines.
pub fn relations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(clauses) = depends::parse(text) {
        let shown = clauses.iter().map(|clause| depends::show(clause)).collect::<Vec<_>>().join(", ");
        assert!(depends::parse(&shown).is_ok_and(|again| again.len() == clauses.len()), "{shown}");
    }
    let _ = depends::parse_provides(text);
    if let Some((a, b)) = text.split_once('\n') {
        assert_eq!(version::compare(a, b), version::compare(b, a).reverse());
    }
}

/// The text of an `InRelease`.
pub fn release(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(release) = Release::parse(text) {
        let _ = release.check("trixie", Some("Sat, 06 Sep 2025 09:42:15 UTC"), 1_760_000_000);
        let _ = release.check("trixie", None, i64::MAX);
    }
}

/// An `image.toml`.
pub fn spec(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(spec) = Spec::parse(text, "image.toml") {
        assert!(spec.account_id(&spec.config.user).is_some(), "owners are known");
    }
}

/// A release tarball after gzip.
pub fn tar(data: &[u8]) {
    for strip in ["", "mattermost"] {
        let _ = entry::read_tar(Limited::new(data, entry::unpacked_limit(0)), strip, &mut checked_entry);
    }
}

/// What is promised of every entry: it lies in the tree and leads nowhere else, and the canonical writer can write it.
fn checked_entry(entry: Entry, content: &mut dyn Read) -> Result<()> {
    let clean = |path: &str| !path.is_empty() && path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    assert!(clean(&entry.path), "{:?}", entry.path);
    match &entry.node {
        Node::Hardlink { target } => assert!(clean(target), "{target:?}"),
        Node::Symlink { target } => assert!(entry::link_destination(&entry.path, target).is_some(), "{target:?}"),
        Node::File { .. } | Node::Directory => {}
    }
    let passed = std::io::copy(content, &mut std::io::sink())?;
    assert!(!matches!(entry.node, Node::File { size } if passed > size), "no more than the header says");
    let bare = Entry { node: if matches!(entry.node, Node::File { .. }) { Node::File { size: 0 } } else { entry.node.clone() }, ..entry };
    let mut writer = crate::tar::Writer::new(Vec::new());
    writer.entry(&bare)?;
    let bytes = writer.finish()?.0;
    let mut back = None;
    entry::read_tar(&bytes[..], "", &mut |entry, _| {
        back = Some(entry);
        Ok(())
    })?;
    assert_eq!(back.map(|back| (back.path, back.node)), Some((bare.path, bare.node)), "what is written is read");
    Ok(())
}

/// Hands every file of the corpora of `targets` to its body; `folder` is `tests/fuzz`.
///
/// # Panics
/// Where a body does, for a corpus that is empty, and for corpora that have grown too large to be committed.
#[expect(clippy::expect_used, reason = "it is a test's")]
pub fn replay(targets: &[(&str, Body)], folder: &Path) {
    let mut bytes = 0;
    for (target, body) in targets {
        let mut count = 0;
        for file in fs_err::read_dir(folder.join("corpus").join(target)).expect("a corpus") {
            let path = file.expect("an entry").path();
            let data = fs_err::read(&path).expect("readable");
            // What a fuzzer found on this machine is named by its SHA-1 and not committed.
            if path.file_name().is_some_and(|name| name.len() != 40) {
                bytes += data.len();
            }
            count += 1;
            if let Err(panic) = std::panic::catch_unwind(|| body(&data)) {
                eprintln!("{}", path.display());
                std::panic::resume_unwind(panic);
            }
        }
        assert!(count > 0, "the corpus of {target} is empty");
    }
    assert!(bytes < 1 << 20, "the corpora have {bytes} bytes");
}

/// Looks whether the fuzzer has each of the `targets` of a crate, and none that the crate does not have.
///
/// # Panics
/// Where it does not.
#[expect(clippy::expect_used, reason = "it is a test's")]
pub fn wired(targets: &[(&str, Body)], krate: &str, folder: &Path) {
    let read = |path: &Path| fs_err::read_to_string(path).expect("readable");
    let manifest = read(&folder.join("Cargo.toml"));
    for (target, _) in targets {
        let file = read(&folder.join(format!("fuzz_targets/{target}.rs")));
        assert!(file.contains(&format!("{krate}::fuzzing::{target}(data)")), "{target}");
        assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target}");
    }
    let files = fs_err::read_dir(folder.join("fuzz_targets")).expect("a folder").map(|file| read(&file.expect("an entry").path()));
    assert_eq!(files.filter(|file| file.contains(&format!(" {krate}::fuzzing::"))).count(), targets.len());
}

#[cfg(test)]
mod tests;
