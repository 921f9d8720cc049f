//! The corpora, replayed; and where their first files come from.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input may as well stop")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::openpgp::sign_detached;
use crate::openpgp::tests::{ALICE, clearsign, public};
use crate::testing::{DebBuilder, Packing, SampleImage, append};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
}

fn deb(packing: Packing) -> Vec<u8> {
    DebBuilder::new("app", "1.0-1")
        .packing(packing)
        .field("Depends", "libc6 (>= 2.38)")
        .script("postinst", "#!/bin/sh\nset -e\n")
        .directory("usr", 0o755)
        .file("usr/app", 0o755, b"hello")
        .symlink("bin", "usr")
        .hardlink("usr/also", "usr/app")
        .build()
}

/// One good input of every kind that a reader knows, and what readers refuse.
fn seeds() -> BTreeMap<&'static str, Vec<(&'static str, Vec<u8>)>> {
    let text = |text: &str| text.as_bytes().to_vec();
    let checkout = tempfile::tempdir().unwrap();
    SampleImage::default().package("app", "1.0-1", |deb| deb).checkout(checkout.path());
    let read = |path: &str| fs_err::read(checkout.path().join(path)).unwrap();
    let signed = clearsign("Origin: Debian\nCodename: trixie\n", &ALICE.primary_key);
    let signature = sign_detached(&b"content"[..], &pgp::ser::Serialize::to_bytes(&*ALICE).unwrap(), b"", "key").unwrap();
    let signature: pgp::composed::DetachedSignature = pgp::composed::Deserializable::from_bytes(&signature[..]).unwrap();
    let detached = signature.to_armored_string(pgp::composed::ArmorOptions::default()).unwrap();
    let root = include_bytes!("../../tests/data/root.pem");
    let sum = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let packages = format!(
        "Package: app\nVersion: 1:1.0-1\nArchitecture: amd64\nSource: apps (1.0)\nDepends: libc6 (>= 2.38),\n more | other\nProvides: web (= 2)\n\
         Filename: pool/main/a/app/app_1.0-1_amd64.deb\nSize: 12\nSHA256: {sum}\n\nPackage: lib\nVersion: 2\n"
    );
    let mut members = tar::Builder::new(Vec::new());
    let long = format!("mattermost/{}", "l".repeat(150));
    for (path, kind, link, content) in [
        ("mattermost", tar::EntryType::Directory, "", &b""[..]),
        ("mattermost/bin", tar::EntryType::Regular, "", b"hello"),
        (&long, tar::EntryType::Regular, "", b"x"),
        ("mattermost/link", tar::EntryType::Symlink, "bin", b""),
        ("mattermost/hard", tar::EntryType::Link, "mattermost/bin", b""),
    ] {
        append(&mut members, path, kind, 0o755, 1, link, content);
    }
    let mut capable = Entry::file("bin", 0, 0o755, 1).owned_by(u32::MAX);
    capable.xattrs.insert("security.capability".into(), vec![1, 0, 0, 2]);
    let mut ours = crate::tar::Writer::new(Vec::new());
    ours.entry(&capable).unwrap();
    BTreeMap::from([
        (
            "ca_bundle",
            vec![
                ("root", root.to_vec()),
                ("twice", [&root[..], root].concat()),
                ("leaf", include_bytes!("../../tests/data/leaf.pem").to_vec()),
            ],
        ),
        (
            "copyright",
            vec![(
                "two",
                text(
                    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+ or own, and Expat\n\n\
                     License: own\n Be kind.\n .\n Always.\n",
                ),
            )],
        ),
        (
            "deb",
            vec![
                ("plain", deb(Packing::None)),
                ("gzip", deb(Packing::Gzip)),
                ("xz", deb(Packing::Xz)),
                ("zstd", deb(Packing::Zstd)),
                ("cut", deb(Packing::Xz)[..400].to_vec()),
            ],
        ),
        ("elf", vec![("library", library()), ("cut", library()[..100].to_vec())]),
        (
            "glob",
            vec![
                ("documents", text("/usr/share/doc/**/copyright\n/usr/share/doc/a/copyright")),
                ("many-stars", text("**a*a*a*a*a*a*a*b\naaaaaaaaaaaaaaaaaaaaaaaa")),
            ],
        ),
        ("go_build", vec![("program", go_program()), ("cut", go_program()[..200].to_vec())]),
        ("lock", vec![("sample", read("images/lock.json"))]),
        (
            "openpgp",
            vec![
                ("cleartext", [public(&ALICE), signed.into_bytes()].concat()),
                ("detached", [public(&ALICE), detached.into_bytes()].concat()),
            ],
        ),
        ("packages", vec![("two", text(&packages))]),
        (
            "relations",
            vec![
                ("alternatives", text("libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0, python3:any (<< 3.14)")),
                ("versions", text("1:1.0~rc1-1\n1.0-1+b2")),
            ],
        ),
        (
            "release",
            vec![(
                "trixie",
                text(&format!(
                    "Origin: Debian\nCodename: trixie\nDate: Sat, 06 Sep 2025 09:42:15 UTC\nValid-Until: Sat, 13 Sep 2025 09:42:15 UTC\nAcquire-By-Hash: yes\nSHA256:\n {sum} 12 main/binary-amd64/Packages.xz\n"
                )),
            )],
        ),
        ("spec", vec![("sample", read("images/sample/image.toml")), ("coturn", include_bytes!("../../coturn/image.toml").to_vec())]),
        ("tar", vec![("gnu", members.into_inner().unwrap()), ("pax", ours.finish().unwrap().0)]),
    ])
}

/// The least file with a dynamic section: one program header of each kind, two names.
fn library() -> Vec<u8> {
    let strings = b"\0libc.so.6\0/opt/lib\0";
    let dynamic: [(u64, u64); 5] = [(1, 1), (29, 11), (5, 0x1000), (10, strings.len() as u64), (0, 0)];
    let (headers, names) = (64 + 2 * 56, 64 + 2 * 56 + 16 * dynamic.len());
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    for (kind, offset, address, size) in [(1u32, names, 0x1000u64, strings.len()), (2, headers, 0x2000, 16 * dynamic.len())] {
        file.extend(kind.to_le_bytes());
        file.extend(4u32.to_le_bytes());
        for word in [offset as u64, address, address, size as u64, size as u64, 8] {
            file.extend(word.to_le_bytes());
        }
    }
    for (tag, value) in dynamic {
        file.extend(tag.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend(strings);
    file
}

/// The least Go program: one data segment, the magic, two strings.
fn go_program() -> Vec<u8> {
    let lines = "path\texample.org/app\nmod\texample.org/app\t(devel)\t\ndep\texample.org/one\tv1.2.3\th1:one=\n";
    let mut data = b"\xff Go buildinf:\x08\x02".to_vec();
    data.resize(32, 0);
    data.push(8);
    data.extend(b"go1.24.4");
    let marked = u16::try_from(lines.len() + 32).unwrap();
    data.extend([(marked & 0x7f | 0x80) as u8, (marked >> 7) as u8]);
    data.extend([b'['; 16]);
    data.extend(lines.as_bytes());
    data.extend([b']'; 16]);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend(1u32.to_le_bytes());
    file.extend(6u32.to_le_bytes());
    for word in [120, 0x1000, 0x1000, data.len() as u64, data.len() as u64, 16] {
        file.extend(word.to_le_bytes());
    }
    file.extend(data);
    file
}

#[test]
fn the_program_that_seeds_the_fuzzer_names_its_modules() {
    let build = go_build::read(Cursor::new(go_program())).expect("a Go program");
    assert_eq!((build.go.as_str(), build.modules[0].path.as_str()), ("go1.24.4", "example.org/one"));
}

#[test]
fn the_library_that_seeds_the_fuzzer_is_one() {
    let dynamic = elf::dynamic(Cursor::new(library())).expect("a dynamic section");
    assert_eq!((dynamic.needed, dynamic.search), (vec!["libc.so.6".to_owned()], vec!["/opt/lib".to_owned()]));
}

#[test]
fn every_file_of_every_corpus_is_read_without_a_panic() {
    let bless = std::env::var_os("BLESS").is_some();
    for (target, files) in seeds() {
        let corpus = folder().join("corpus").join(target);
        if bless {
            fs_err::create_dir_all(&corpus).unwrap();
            // Keys and compressors make other bytes each time: what is there stays.
            files
                .iter()
                .filter(|(name, _)| !corpus.join(name).exists())
                .for_each(|(name, bytes)| fs_err::write(corpus.join(name), bytes).unwrap());
        }
    }
    replay(&TARGETS, &folder());
}

/// Fresh seeds reach the end of each reader: a corpus of refused files would prove little.
#[test]
fn good_seeds_are_accepted() {
    for packing in [Packing::None, Packing::Gzip, Packing::Xz, Packing::Zstd] {
        let mut count = 0;
        let package = deb(packing);
        crate::deb::Deb::open(&package[..])
            .unwrap()
            .entries(&mut |entry, content| {
                count += 1;
                checked_entry(entry, content)
            })
            .unwrap();
        assert_eq!(count, 4, "{packing:?}");
    }
    let seeds = seeds();
    let first = |target: &str| String::from_utf8_lossy(&seeds[target][0].1).into_owned();
    assert_eq!(ca_bundle::parse(&seeds["ca_bundle"][0].1, "a", "a").unwrap().len(), 1);
    assert_eq!(packages::parse(&first("packages")).unwrap().len(), 2);
    assert_eq!(Release::parse(&first("release")).unwrap().files.len(), 1);
    depends::parse(&first("relations")).unwrap();
    Lock::parse(&first("lock"), "lock").unwrap();
    Spec::parse(&first("spec"), "spec").unwrap();
    for (_, data) in &seeds["tar"] {
        entry::read_tar(&data[..], "", &mut checked_entry).unwrap();
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    wired(&TARGETS, "images", &folder());
}
