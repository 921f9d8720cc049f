//! Bundles that are damaged, cut, forged and made to harm; and what becomes of a folder that they are applied to.

use std::path::{Path, PathBuf};

use images::progress::Silent;
use images::{Class, Digest};
use minisign::KeyPair;

use super::apply::{Applied, Outcome};
use super::frames::{FRAME, Writing, pack};
use super::list::{BLOBS, FORMAT};
use super::read::Checking;
use super::write::{Content, put_signature, small, write};
use super::*;

const PACE: Pace = Pace { threads: 2, progress: &Silent };

struct Bench {
    folder: tempfile::TempDir,
    trust: Trust,
    secret: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let (secret, public) = (folder.path().join("s"), folder.path().join("p"));
        fs_err::write(&secret, pair.sk.to_box(None).unwrap().into_string()).unwrap();
        fs_err::write(&public, pair.pk.to_box().unwrap().into_string()).unwrap();
        Bench { trust: Trust::key(&public).unwrap(), folder, secret }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A bundle of blobs and other files; the last is the program.
    fn make(&self, name: &str, since: Option<&List>, blobs: &[&[u8]], files: &[(&str, &[u8])]) -> PathBuf {
        let mut all: Vec<(Part, Content)> = Vec::new();
        let mut add = |path: &str, bytes: &[u8]| {
            let content = Content::Bytes(bytes.to_vec());
            all.push((content.part(path).unwrap(), content));
        };
        blobs.iter().for_each(|blob| add(&format!("{BLOBS}{}", Digest::of(blob)), blob));
        files.iter().for_each(|(path, bytes)| add(path, bytes));
        let came = |part: &Part| since.is_some_and(|list| list.all().any(|other| other == part));
        let (earlier, inside): (Vec<_>, Vec<_>) = all.into_iter().partition(|(part, _)| came(part));
        let (mut parts, contents): (Vec<Part>, Vec<Content>) = inside.into_iter().unzip();
        let program = parts.pop_if(|part| part.path == "xtask");
        let list = List {
            format: FORMAT,
            version: "0.1.0".into(),
            source: None,
            ca: None,
            since: since.map(List::id),
            images: Vec::new(),
            parts,
            earlier: earlier.into_iter().map(|(part, _)| part).collect(),
            program,
        };
        let path = self.at(name);
        write(&path, &list, &contents, PACE).unwrap();
        path
    }

    fn sign(&self, path: &Path) {
        let bundle = Bundle::open(path, &Trust::Anybody).unwrap();
        let made = signature::sign(&bundle.list.text(), &bundle.id(), &self.secret, || unreachable!()).unwrap();
        put_signature(path, &bundle, &made).unwrap();
    }

    fn check(&self, path: &Path, trust: &Trust) -> images::Result<()> {
        Bundle::open(path, trust)?.read(&mut Checking, "", PACE)
    }

    fn open(&self, path: &Path) -> Bundle {
        Bundle::open(path, &Trust::Anybody).unwrap()
    }
}

/// Bytes that do not pack well.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn parts_of_every_length_are_read_back_and_the_same_parts_make_the_same_file() {
    let bench = Bench::new();
    let lengths = [0, 1, 511, 512, 513, FRAME - 513, FRAME - 512, FRAME - 511, FRAME, FRAME + 1, 2 * FRAME - 512, 2 * FRAME + 77];
    let contents: Vec<(String, Vec<u8>)> = lengths.iter().map(|length| (format!("of/{length}"), noise(*length, *length as u64))).collect();
    let files: Vec<(&str, &[u8])> = contents.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect();
    let path = bench.make("a", None, &[], &files);
    bench.check(&path, &Trust::Anybody).unwrap();
    let bundle = bench.open(&path);
    for (path, bytes) in &contents {
        assert_eq!(bundle.small(path, PACE).unwrap().as_ref().map(Vec::len), Some(bytes.len()), "{path}");
        assert!(bundle.small(path, PACE).unwrap() == Some(bytes.clone()), "{path}");
    }
    assert_eq!(bundle.small("none", PACE).unwrap(), None);
    let again = bench.make("b", None, &[], &files);
    assert!(fs_err::read(&path).unwrap() == fs_err::read(again).unwrap());

    // Every reader of zstd and tar reads it.
    let plain = zstd::decode_all(fs_err::File::open(&path).unwrap()).unwrap();
    let mut tar = tar_names(&plain);
    assert_eq!(tar.remove(0), LIST);
    assert_eq!(tar, contents.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>());

    // Signing keeps every other byte.
    bench.sign(&path);
    bench.check(&path, &bench.trust).unwrap();
    assert_eq!(bench.open(&path).id(), bundle.id());
    let signed = zstd::decode_all(fs_err::File::open(&path).unwrap()).unwrap();
    assert_eq!(tar_names(&signed)[..2], [LIST, SIGNATURE]);
    let ahead = 512 + bundle.list.text().len().next_multiple_of(512);
    assert!(signed[..ahead] == plain[..ahead] && signed.ends_with(&plain[ahead..]));
}

fn tar_names(plain: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    images::entry::read_tar(plain, "", &mut |entry, _| {
        names.push(entry.path);
        Ok(())
    })
    .unwrap();
    names
}

#[test]
fn a_bundle_that_is_cut_short_anywhere_is_refused() {
    let bench = Bench::new();
    let path = bench.make("whole", None, &[&noise(3000, 1)], &[("README.md", b"read"), ("xtask", b"program")]);
    bench.sign(&path);
    let whole = fs_err::read(&path).unwrap();
    let cut = bench.at("cut");
    for length in 0..whole.len() {
        fs_err::write(&cut, &whole[..length]).unwrap();
        let error = bench.check(&cut, &bench.trust).unwrap_err();
        assert_eq!(error.class(), Class::HashMismatch, "{length} of {} bytes: {error}", whole.len());
    }
    // Something behind it, and something ahead of it.
    for other in [[&whole[..], b"x"].concat(), [b"x", &whole[..]].concat(), [&whole[..], &whole[..]].concat()] {
        fs_err::write(&cut, other).unwrap();
        assert!(bench.check(&cut, &bench.trust).is_err());
    }
    fs_err::write(&cut, "a shell script, maybe").unwrap();
    assert!(bench.check(&cut, &bench.trust).unwrap_err().to_string().contains("no bundle"));
    assert_eq!(bench.check(&bench.at("none"), &bench.trust).unwrap_err().class(), Class::Usage);
    assert_eq!(bench.check(bench.folder.path(), &bench.trust).unwrap_err().class(), Class::Usage);
}

#[test]
fn a_bit_that_is_flipped_anywhere_is_found_or_changes_nothing_that_is_read() {
    let bench = Bench::new();
    let path = bench.make("whole", None, &[&noise(1500, 1)], &[("README.md", b"read me"), ("xtask", b"program")]);
    bench.sign(&path);
    let whole = fs_err::read(&path).unwrap();
    let plain = zstd::decode_all(&whole[..]).unwrap();
    let flipped = bench.at("flipped");
    let mut harmless = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs_err::write(&flipped, &bytes).unwrap();
        if bench.check(&flipped, &bench.trust).is_ok() {
            // zstd has bits that no reader looks at, and two ways to say one thing.
            assert!(zstd::decode_all(&bytes[..]).unwrap() == plain, "byte {at} of {}", whole.len());
            harmless += 1;
        }
    }
    assert!(harmless < whole.len() / 50, "{harmless} of {}", whole.len());
}

#[test]
fn a_bundle_is_from_whom_it_has_to_be_from() {
    let (bench, other) = (Bench::new(), Bench::new());
    let path = bench.make("a", None, &[], &[("README.md", b"read")]);
    assert!(bench.check(&path, &bench.trust).unwrap_err().to_string().contains("not signed"));
    bench.sign(&path);
    bench.check(&path, &bench.trust).unwrap();
    bench.check(&path, &Trust::Anybody).unwrap();
    let error = bench.check(&path, &other.trust).unwrap_err();
    assert!(error.class() == Class::Check && error.to_string().contains("another key"), "{error}");
    // The signature of another list.
    let another = bench.make("b", None, &[], &[("README.md", b"other")]);
    put_signature(&another, &bench.open(&another), bench.open(&path).signature.as_ref().unwrap()).unwrap();
    let error = bench.check(&another, &bench.trust).unwrap_err();
    assert!(error.class() == Class::Check && error.to_string().contains("not over this list"), "{error}");
}

/// A bundle as somebody would make it who does not use this program: frames with any content.
fn forge(path: &Path, frames: &[Vec<u8>]) {
    let mut out = Writing::new(fs_err::File::create(path).unwrap());
    for frame in frames {
        out.frame(&pack(frame).unwrap(), frame.len()).unwrap();
    }
    out.finish().unwrap();
}

#[test]
fn what_a_hostile_archive_says_is_not_believed() {
    let bench = Bench::new();
    let path = bench.make("good", None, &[], &[("docs/a", b"text")]);
    let list = bench.open(&path).list.text();
    let (first, end) = (small(LIST, &list).unwrap(), vec![0; 1024]);
    let good = small("docs/a", b"text").unwrap();
    let forged = bench.at("forged");
    let refused = |frames: &[Vec<u8>]| {
        forge(&forged, frames);
        bench.check(&forged, &Trust::Anybody).map_err(|error| error.to_string())
    };
    refused(&[first.clone(), good.clone(), end.clone()]).unwrap();
    let header = |kind: u8, change: &dyn Fn(&mut [u8])| {
        let mut entry = good.clone();
        entry[156] = kind;
        change(&mut entry);
        entry[148..156].copy_from_slice(b"        ");
        let sum: u32 = entry[..512].iter().map(|byte| u32::from(*byte)).sum();
        entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        entry
    };
    let link = |entry: &mut [u8]| entry[157..168].copy_from_slice(b"/etc/shadow");
    let up = |entry: &mut [u8]| entry[..6].copy_from_slice(b"../../");
    let set_uid = |entry: &mut [u8]| entry[100..108].copy_from_slice(b"0004755\0");
    // A symbolic link, a hard link, a device, a folder, a path that climbs, a mode.
    for entry in
        [header(b'2', &link), header(b'1', &link), header(b'3', &|_| ()), header(b'5', &|_| ()), header(b'0', &up), header(b'0', &set_uid)]
    {
        assert!(refused(&[first.clone(), entry, end.clone()]).unwrap_err().contains("its header is damaged"));
    }
    let behind = |byte: usize| {
        let mut entry = good.clone();
        entry[byte] = b'!';
        entry
    };
    for (frames, why) in [
        (vec![good.clone(), first.clone(), end.clone()], "does not stand first"),
        (vec![first.clone(), end.clone()], "not that of its list"),
        (vec![first.clone(), good.clone(), good.clone(), end.clone()], "not that of its list"),
        (vec![first.clone(), good.clone(), [&end[..], &end].concat()], "not that of its list"),
        (vec![first.clone(), good.clone(), vec![1; 1024]], "its end is damaged"),
        (vec![first.clone(), behind(512), end.clone()], "it is damaged"),
        (vec![first.clone(), behind(1000), end.clone()], "what is behind it is damaged"),
        (vec![[&first[..], &[0; 512]].concat(), good.clone(), end.clone()], "is damaged"),
        (vec![small(LIST, b"{").unwrap(), end.clone()], "is damaged"),
        (vec![], "does not stand first"),
    ] {
        let error = refused(&frames).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
    // A list that unpacks to gigabytes is not unpacked.
    forge(&forged, &[small(LIST, &vec![b' '; 16 << 20]).unwrap_or_else(|_| vec![0; 17 << 20]), end]);
    assert!(bench.check(&forged, &Trust::Anybody).is_err());
}

fn tree(root: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            match fs_err::symlink_metadata(&path).unwrap() {
                there if there.is_symlink() => all.push(format!("{name} -> {}", fs_err::read_link(&path).unwrap().display())),
                there if there.is_dir() => folders.push(path),
                _ => all.push(format!("{name} {}", Digest::of(fs_err::read(&path).unwrap()).short())),
            }
        }
    }
    all.sort();
    all
}

#[test]
fn applying_again_changes_nothing_and_mends_what_is_damaged() {
    let bench = Bench::new();
    let blob = noise(70_000, 3);
    let path = bench.make("a", None, &[&blob, b"small"], &[("README.md", b"read"), ("docs/a.md", b"a"), ("xtask", b"#!/bin/sh\necho run")]);
    bench.sign(&path);
    let bundle = Bundle::open(&path, &bench.trust).unwrap();
    let root = bench.at("to");
    let applied = Applied::new(&root);
    assert_eq!(applied.apply(&bundle, PACE).unwrap(), Outcome { written: 5, there: 0, switched: true });
    assert!(Applied::is(&root));
    let first = tree(&root);
    let ran = crate::process::Process::new(root.join("xtask"), &root).text().unwrap();
    assert_eq!(ran, "run", "the program can be run");
    assert_eq!(applied.apply(&bundle, PACE).unwrap(), Outcome { written: 0, there: 5, switched: false });
    assert_eq!(tree(&root), first);
    assert_eq!(applied.list().unwrap().unwrap().id(), bundle.id());

    let damage: [(PathBuf, &[u8]); 3] = [
        (root.join("images/blobs/sha256").join(Digest::of(&blob).to_string()), &noise(70_000, 4)),
        (root.join("current/docs/a.md"), b"b"),
        (root.join("current").join(SIGNATURE), b""),
    ];
    for (place, bytes) in damage {
        fs_err::write(&place, bytes).unwrap();
        let outcome = applied.apply(&bundle, PACE).unwrap();
        assert!(outcome.there < 5 || place.ends_with(SIGNATURE), "{}", place.display());
        assert_eq!(tree(&root), first, "{}", place.display());
    }
    fs_err::remove_dir_all(root.join("versions")).unwrap();
    applied.apply(&bundle, PACE).unwrap();
    assert_eq!(tree(&root), first);
}

#[test]
fn what_is_in_use_stays_in_use_until_all_of_the_new_one_is_there() {
    let bench = Bench::new();
    let one = bench.make("one", None, &[b"one"], &[("README.md", b"one"), ("xtask", b"p")]);
    let root = bench.at("to");
    let applied = Applied::new(&root);
    applied.apply(&bench.open(&one), PACE).unwrap();
    let before = tree(&root);

    // Its last part is damaged: by then the others have been read.
    let two = bench.make("two", None, &[&noise(9000, 5), b"one"], &[("README.md", b"two"), ("xtask", &noise(5000, 6))]);
    let whole = fs_err::read(&two).unwrap();
    let mut bytes = whole.clone();
    let at = bytes.len() - 3000;
    bytes[at] ^= 1;
    fs_err::write(&two, &bytes).unwrap();
    let error = applied.apply(&bench.open(&two), PACE).unwrap_err();
    assert_eq!(error.class(), Class::HashMismatch, "{error}");
    let blob = format!("images/blobs/sha256/{}", Digest::of(noise(9000, 5)));
    let since = |name: &String| !before.contains(name) && !name.contains(".new-") && !name.starts_with(&blob);
    assert_eq!(tree(&root).into_iter().filter(since).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(applied.list().unwrap().unwrap().id(), bench.open(&one).id());

    // What was whole is not read again.
    fs_err::write(&two, &whole).unwrap();
    assert_eq!(applied.apply(&bench.open(&two), PACE).unwrap(), Outcome { written: 2, there: 2, switched: true });
    assert!(!tree(&root).iter().any(|name| name.contains(".new-")), "{:?}", tree(&root));
    assert_eq!(fs_err::read(root.join("current/README.md")).unwrap(), b"two");
    // And back.
    assert!(applied.apply(&bench.open(&one), PACE).unwrap().switched);
    assert_eq!(fs_err::read(root.join("current/README.md")).unwrap(), b"one");
}

#[test]
fn a_successor_brings_only_what_is_new_and_goes_on_from_its_own_base_alone() {
    let bench = Bench::new();
    let (big, plugin, changed) = (noise(2 << 20, 7), noise(9000, 8), noise(9001, 9));
    let program = noise(100_000, 10);
    let files: [(&str, &[u8]); 3] = [("README.md", b"read"), ("docs/a.md", b"a"), ("xtask", &program)];
    let one = bench.make("one", None, &[&big, &plugin], &files);
    let two = bench.make("two", Some(&bench.open(&one).list), &[&big, &changed], &files);
    let size = fs_err::metadata(&two).unwrap().len();
    assert!(size < changed.len() as u64 + 4000, "{size} bytes");
    let three = bench.make("three", Some(&bench.open(&two).list), &[&big, &plugin], &[("README.md", b"three"), files[1], files[2]]);

    let root = bench.at("to");
    let applied = Applied::new(&root);
    let error = applied.apply(&bench.open(&two), PACE).unwrap_err();
    let base = bench.open(&one).id().short();
    assert!(error.class() == Class::Check && error.to_string().contains(&format!("goes on from {base}, which is not here")), "{error}");
    assert!(error.to_string().contains("applied  nothing"), "{error}");
    assert!(!Applied::is(&root), "nothing is half applied");
    // Another base.
    let other = bench.make("other", None, &[b"other"], &files);
    applied.apply(&bench.open(&other), PACE).unwrap();
    let before = tree(&root);
    let error = applied.apply(&bench.open(&two), PACE).unwrap_err().to_string();
    assert!(error.contains("missing  1 parts"), "{error}");
    assert_eq!(tree(&root), before);

    applied.apply(&bench.open(&one), PACE).unwrap();
    assert_eq!(applied.apply(&bench.open(&two), PACE).unwrap(), Outcome { written: 1, there: 4, switched: true });
    assert_eq!(applied.apply(&bench.open(&two), PACE).unwrap(), Outcome { written: 0, there: 5, switched: false });
    applied.apply(&bench.open(&three), PACE).unwrap();
    // What a successor's successor leaves is what one whole bundle would.
    let whole = bench.make("whole", None, &[&big, &plugin], &[("README.md", b"three"), files[1], files[2]]);
    let fresh = Applied::new(&bench.at("fresh"));
    fresh.apply(&bench.open(&whole), PACE).unwrap();
    let current = |root: &Path| tree(&root.join("current/")).into_iter().filter(|name| !name.starts_with(LIST)).collect::<Vec<_>>();
    assert_eq!(current(&root), current(&bench.at("fresh")));
    // A blob of the base that is damaged is noticed, though no bundle here brings it.
    fs_err::write(root.join("images/blobs/sha256").join(Digest::of(&big).to_string()), &big[1..]).unwrap();
    assert!(applied.apply(&bench.open(&three), PACE).unwrap_err().to_string().contains("missing  1 parts"));
}

#[test]
fn a_link_in_the_folder_is_not_followed() {
    let bench = Bench::new();
    let path = bench.make("a", None, &[b"blob"], &[("README.md", b"read"), ("xtask", b"p")]);
    let (root, elsewhere) = (bench.at("to"), bench.at("elsewhere"));
    fs_err::create_dir_all(root.join("images/blobs/sha256")).unwrap();
    fs_err::write(&elsewhere, "precious").unwrap();
    let blob = root.join("images/blobs/sha256").join(Digest::of("blob").to_string());
    std::os::unix::fs::symlink(&elsewhere, &blob).unwrap();
    let error = Applied::new(&root).apply(&bench.open(&path), PACE).unwrap_err();
    assert_eq!(error.class(), Class::Usage, "{error}");
    fs_err::remove_file(&blob).unwrap();
    fs_err::write(root.join("xtask"), "somebody's").unwrap();
    let error = Applied::new(&root).apply(&bench.open(&path), PACE).unwrap_err();
    assert!(error.to_string().contains("is in the way"), "{error}");
    assert_eq!(fs_err::read(&elsewhere).unwrap(), b"precious");
    assert_eq!(fs_err::read(root.join("xtask")).unwrap(), b"somebody's");
}

#[test]
fn a_bundle_for_one_site_is_not_started_with_the_ca_of_another() {
    let bench = Bench::new();
    let path = bench.make("a", None, &[], &[("README.md", b"read")]);
    let pem = include_bytes!("../../../images/tests/data/root.pem");
    let ca = crate::site::pki::Certificate::from_pem(pem, "root.pem").unwrap()[0].fingerprint();
    for (theirs, is_ours) in [(ca, true), (Digest::of("another"), false)] {
        let list = List { ca: Some(theirs), ..bench.open(&path).list };
        let site = bench.at("site.tar.zst");
        write(&site, &list, &[Content::Bytes(b"read".to_vec())], PACE).unwrap();
        let applied = Applied::new(&bench.at(&theirs.short()));
        applied.apply(&bench.open(&site), PACE).unwrap();
        match applied.images(pem, "pki/ca.pem") {
            Ok(images) => assert!(is_ours && images.is_empty()),
            Err(error) => {
                assert!(!is_ours && error.class() == Class::Check && error.to_string().contains("a site with another CA"), "{error}")
            }
        }
    }
}
