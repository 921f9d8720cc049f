//! `cargo xtask images` as a person calls it, in a small checkout whose packages the test makes: interrupted, without room,
//! without network, twice at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use images::lock::{Archive, Artefact, Group, Kind, Lock, Origin};
use images::testing::{DebBuilder, Packing};
use images::{Digest, Store};
use rustix::process::{Pid, Signal, kill_process};
use xtask::process::{Process, Running};

const PACKAGES: [&str; 4] = ["alpha", "beta", "delta", "gamma"];

/// A checkout with one image of four packages that hold 24 MiB which do not compress.
struct Checkout {
    folder: tempfile::TempDir,
}

impl Checkout {
    fn new() -> Checkout {
        let checkout = Checkout { folder: tempfile::tempdir().expect("a temporary folder") };
        let store = Store::open(&checkout.path("target/store")).expect("a store");
        let mut artefacts = Vec::new();
        for (seed, name) in PACKAGES.into_iter().enumerate() {
            let bytes = DebBuilder::new(name, "1.0-1").packing(Packing::Zstd).file(&format!("usr/lib/{name}"), 0o644, &noise(seed)).build();
            let (sha256, size) = store.insert(bytes.as_slice(), None, None).expect("room");
            let from = Origin::Debian { repository: "main".into(), path: format!("pool/{name}_1.0-1_amd64.deb") };
            let (name, version, architecture) = (name.to_owned(), "1.0-1".to_owned(), "amd64".to_owned());
            let (size, sha256) = (Some(size), Some(sha256));
            let kind = Kind::Deb;
            artefacts.push(Artefact {
                name,
                version,
                architecture,
                kind,
                size,
                sha256,
                from,
                source: None,
                signature: None,
                scripts: BTreeMap::new(),
            });
        }
        let names = PACKAGES.map(str::to_owned).to_vec();
        let groups = BTreeMap::from([("demo".to_owned(), Group { requests: names.clone(), without: Vec::new(), packages: names })]);
        let debian = Archive { suite: "trixie".into(), architecture: "amd64".into(), indexes: BTreeMap::new() };
        let lock = Lock { format: 1, debian, groups, artefacts, scripts: Vec::new() };
        let spec = format!(
            "format = 1\ntitle = \"a test\"\nversion = \"debian:alpha\"\n[debian]\npackages = {PACKAGES:?}\n[config]\nuser = \"nobody\"\n"
        );
        for (path, text) in [("images/src/lock.rs", ""), ("images/demo/image.toml", &spec), ("images/lock.json", &lock.to_text())] {
            let path = checkout.path(path);
            fs::create_dir_all(path.parent().expect("a file has a folder")).and_then(|()| fs::write(&path, text)).expect("written");
        }
        checkout
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn xtask(&self, args: &[&str]) -> Process {
        let xtask = Process::new(env!("CARGO_BIN_EXE_xtask"), self.folder.path()).env("CARGO_MANIFEST_DIR", self.folder.path());
        xtask.arg("images").args(args)
    }

    /// Exit code, standard output and standard error.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let outcome = self.xtask(args).outcome().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.folder.path().display().to_string(), "CHECKOUT");
        (outcome.status.code().unwrap_or(-1), text(&outcome.stdout), text(&outcome.stderr))
    }

    fn starts_over(&self) {
        for folder in ["target/images", "target/store/made"] {
            if self.path(folder).exists() {
                fs::remove_dir_all(self.path(folder)).expect("removed");
            }
        }
    }
}

/// 6 MiB that no compressor makes smaller.
fn noise(seed: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(6 << 17).flatten().collect()
}

/// Every blob has the name of its bytes, whatever happened; what is unfinished is hidden.
fn assert_no_wrong_blob(layout: &Path) {
    let Ok(blobs) = fs::read_dir(layout.join("blobs/sha256")) else { return };
    for blob in blobs {
        let blob = blob.expect("readable").path();
        let name = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') {
            assert_eq!(Digest::of(fs::read(&blob).expect("readable")).to_string(), name);
        }
    }
    if layout.join("index.json").exists() {
        images::layout::read_index(layout).expect("an index that is whole or absent");
    }
}

/// Asks until the unfinished layer has so many bytes, or the build has ended.
fn wait_for_bytes(layout: &Path, bytes: u64, build: &Running) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline && build.ended().expect("its state").is_none() {
        let unfinished = fs::read_dir(layout.join("blobs/sha256")).into_iter().flatten().filter_map(Result::ok);
        let written: u64 = unfinished.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        if written >= bytes {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_build_that_is_killed_anywhere_leaves_nothing_wrong_and_the_next_one_works() {
    let checkout = Checkout::new();
    let layout = checkout.path("target/images");
    let whole = checkout.run(&["--offline"]);
    assert_eq!(whole.0, 0, "{}", whole.2);
    let mut killed = 0;
    for (round, signal) in [Signal::KILL, Signal::INT, Signal::KILL, Signal::TERM, Signal::KILL, Signal::KILL].into_iter().enumerate() {
        if round % 2 == 0 {
            checkout.starts_over();
        }
        let build = checkout.xtask(&["--offline"]).start(&checkout.path("log")).expect("it starts");
        wait_for_bytes(&layout, (round as u64) * (5 << 20), &build);
        let pid = Pid::from_raw(build.pid().cast_signed()).expect("a process");
        if kill_process(pid, signal).is_ok() {
            killed += 1;
        }
        build.stop(Duration::from_secs(20));
        assert_no_wrong_blob(&layout);
    }
    assert!(killed > 0, "no build lived long enough to be killed");
    let again = checkout.run(&["--offline", "--json"]);
    assert_eq!(again.0, 0, "{}", again.2);
    let digest = whole.1.split_whitespace().nth(1).expect("a digest").trim_start_matches("sha256:").to_owned();
    assert!(again.1.contains(&digest), "expected {digest} in {}", again.1);
    let hidden = fs::read_dir(layout.join("blobs/sha256"))
        .expect("blobs")
        .filter(|file| file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().starts_with('.')));
    assert_eq!(hidden.count(), 0, "what a killed build left is gone");
}

#[test]
fn two_builds_at_once_both_end_well() {
    let checkout = Checkout::new();
    let builds: Vec<Running> =
        (0..2).map(|n| checkout.xtask(&["--offline"]).start(&checkout.path(&format!("log-{n}"))).expect("it starts")).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    for build in &builds {
        let status = loop {
            if let Some(status) = build.ended().expect("its state") {
                break status;
            }
            assert!(Instant::now() < deadline, "two builds block each other");
            std::thread::yield_now();
        };
        assert!(status.success());
    }
    assert_no_wrong_blob(&checkout.path("target/images"));
    assert!(checkout.run(&["--offline"]).1.contains("unchanged"));
}

#[test]
fn a_full_disk_is_said_and_leaves_no_wrong_blob() {
    let checkout = Checkout::new();
    let layout = checkout.path("small");
    fs::create_dir(&layout).expect("made");
    let mount = Process::new("mount", checkout.folder.path()).args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&layout);
    if mount.capture().is_err() {
        eprintln!("skipped: a small file system needs root to be mounted");
        return;
    }
    let (code, _, said) = checkout.run(&["--offline", "--layout", &layout.display().to_string()]);
    assert_no_wrong_blob(&layout);
    let unmounted = Process::new("umount", checkout.folder.path()).arg(&layout).capture();
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("the disk is full; nothing half-written was kept"), "{said}");
    unmounted.expect("unmounted");
}

#[test]
fn what_is_missing_without_a_network_is_named_with_the_way_to_bring_it() {
    let checkout = Checkout::new();
    let lock = Lock::parse(&fs::read_to_string(checkout.path("images/lock.json")).expect("a lock"), "lock").expect("valid");
    let sha256 = lock.artefact(Kind::Deb, "delta").and_then(|artefact| artefact.sha256).expect("pinned");
    fs::remove_file(checkout.path(&format!("target/store/blobs/sha256/{sha256}"))).expect("removed");
    let (code, _, said) = checkout.run(&["--offline"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("delta") && said.contains("images fetch") && said.contains("images add"), "{said}");
}

#[test]
fn a_lock_that_does_not_answer_is_said_before_anything_is_done() {
    let checkout = Checkout::new();
    let path = checkout.path("images/demo/image.toml");
    let spec = fs::read_to_string(&path).expect("a spec").replace("\"gamma\"", "\"gamma\", \"omega\"");
    fs::write(&path, spec).expect("written");
    let (code, _, said) = checkout.run(&["demo", "--offline"]);
    assert_eq!((code, said.contains("hint: cargo xtask images lock")), (1, true), "{said}");
    let (code, _, said) = checkout.run(&["dmeo"]);
    assert_eq!((code, said.contains("expected one of: demo")), (2, true), "{said}");
}

#[test]
fn a_sites_ca_is_added_where_there_is_one_and_none_is_made() {
    let checkout = Checkout::new();
    let name = |args: &[&str]| {
        let (code, stdout, stderr) = checkout.run(&[&["--offline"], args].concat());
        assert_eq!(code, 0, "{stderr}");
        stdout.split_whitespace().next().expect("a name").to_owned()
    };
    let plain = name(&[]);
    assert!(!checkout.path("site").exists(), "building makes no PKI");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/tests/data/root.pem");
    fs::create_dir_all(checkout.path("site/pki")).expect("made");
    fs::copy(root, checkout.path("site/pki/ca.pem")).expect("copied");
    let with = name(&[]);
    assert!(with.starts_with(&format!("{plain}-ca")), "{with}");
    assert_eq!(name(&["--no-ca"]), plain);
    assert_eq!(name(&["--site", "elsewhere"]), plain);
    assert_eq!(name(&["--site", "elsewhere", "--ca", "site/pki/ca.pem"]), with);
    let (code, stdout, stderr) = checkout.run(&["verify", "demo", "--offline"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with(&format!("{with}  ")) && stdout.ends_with("reproduced\n"), "{stdout}");
}
