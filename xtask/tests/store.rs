//! `cargo xtask images fetch` and `add` as a person calls them: in a small checkout, against servers on the loopback interface.

#[path = "../../images/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Answer, Server};
use fs_err as fs;
use images::lock::{Archive, Artefact, Group, Kind, Lock, Origin, Signature, TOOLCHAIN};
use images::{Digest, Store};
use xtask::process::Process;

const SPEC: &str = "\
format = 1
title = \"a test\"
version = \"debian:hello\"
[debian]
packages = [\"hello\"]
[[release]]
editions = { one = \"vendor\" }
strip = \"vendor\"
destination = \"/vendor\"
owner = \"root\"
[config]
user = \"nobody\"
";

const PROGRAM: &str = "[[program]]\npackage = \"hello\"\ndestination = \"/hello\"\n";

/// A key that nobody has the secret part of any more, and its signature of "a bundle".
const FINGERPRINT: &str = "24FFA48DD3259DD8B09AC32DDA5423C5AC70CAEA";
const SIGNATURE: &str = "iHUEABYIAB0WIQQk/6SN0yWd2LCawy3aVCPFrHDK6gUCZZIAgAAKCRDaVCPFrHDK6o1tAP9/UXOOqNy2JcysiqjTYXkKKIdmGKMjx01vLNDR7YbjgQEAobScfzFTsDkA4uSatNGCqy5HPlUJsAFMQNwd//xBiAc=";
const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEZZIAgBYJKwYBBAHaRw8BAQdAl3E9F4jklygnaHmTSJDA2ar26/dFJzyjaFTT
MM6Dcy60GUEgdGVzdCA8dGVzdEBleGFtcGxlLm9yZz6IkAQTFggAOBYhBCT/pI3T
JZ3YsJrDLdpUI8WscMrqBQJlkgCAAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheA
AAoJENpUI8WscMrqnc0BAK6REOKQIarU9rP5oezQP+dXq1QG4XAN7SH9LzCO+SPN
AQDM3pl07MlLCIScW1FVRABUFE+ndVzVGedLGH9Mw4blCA==
=dBSW
-----END PGP PUBLIC KEY BLOCK-----
";

/// Long enough that it takes several reads.
fn body(seed: u8) -> Vec<u8> {
    (0..400_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect()
}

/// A checkout with one image that needs a package and a vendor's release.
struct Checkout {
    folder: tempfile::TempDir,
    server: String,
}

impl Checkout {
    fn new(server: &Server) -> Checkout {
        let checkout = Checkout { folder: tempfile::tempdir().expect("a temporary folder"), server: server.url("/debian") };
        let files = [("images/src/lock.rs", ""), ("images/demo/image.toml", SPEC)];
        for (path, text) in files {
            checkout.write(path, text);
        }
        let vendor = Origin::Url { url: server.url("/vendor-2.0.tar.gz") };
        let debian = |name: &str| Origin::Debian { repository: "main".to_owned(), path: format!("pool/{name}_1.0-1_amd64.deb") };
        let artefacts = vec![
            artefact(Kind::Deb, "hello", "1.0-1", debian("hello"), &body(1)),
            artefact(Kind::Deb, "libc6", "2.0-1", debian("libc6"), &body(3)),
            artefact(Kind::Release, "vendor", "2.0", vendor, &body(2)),
        ];
        let group = |name: &str| Group { requests: vec![name.to_owned()], packages: vec![name.to_owned()], ..Group::default() };
        let groups = [("demo".to_owned(), group("hello")), (TOOLCHAIN.to_owned(), group("libc6"))];
        let debian = Archive { suite: "trixie".to_owned(), architecture: "amd64".to_owned(), indexes: BTreeMap::new() };
        let lock = Lock { format: 1, debian, groups: groups.into(), artefacts, scripts: Vec::new() };
        checkout.write("images/lock.json", lock.to_text());
        checkout
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    fn xtask(&self, args: &[&str]) -> Process {
        let mut xtask = Process::new(env!("CARGO_BIN_EXE_xtask"), self.folder.path())
            .env("CARGO_MANIFEST_DIR", self.folder.path())
            .env("DEBIAN_MIRROR", &self.server);
        for name in
            ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "DEBIAN_SECURITY_MIRROR", "DEBIAN_ARCHIVE"]
        {
            xtask = xtask.env_remove(name);
        }
        xtask.arg("images").args(args)
    }

    /// Exit code, standard output and standard error, without what differs from run to run.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.outcome(&self.xtask(args))
    }

    fn outcome(&self, xtask: &Process) -> (i32, String, String) {
        let outcome = xtask.outcome().expect("it runs");
        let stable = |bytes: &[u8]| {
            let folder = self.folder.path().display().to_string();
            let server = self.server.trim_end_matches("/debian");
            String::from_utf8_lossy(bytes).replace(&folder, "CHECKOUT").replace(server, "http://SERVER")
        };
        (outcome.status.code().unwrap_or(-1), stable(&outcome.stdout), stable(&outcome.stderr))
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        let blob = self.folder.path().join(format!("target/store/blobs/sha256/{}", Digest::of(bytes)));
        fs::read(blob).is_ok_and(|found| found == bytes)
    }

    fn left_over(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("target/store/tmp")).expect("readable");
        entries.map(|entry| entry.expect("readable").path()).collect()
    }
}

fn artefact(kind: Kind, name: &str, version: &str, from: Origin, bytes: &[u8]) -> Artefact {
    let (size, sha256) = (Some(bytes.len() as u64), Some(Digest::of(bytes)));
    let (name, version, architecture) = (name.to_owned(), version.to_owned(), "amd64".to_owned());
    Artefact { name, version, architecture, kind, size, sha256, from, source: None, signature: None, scripts: BTreeMap::new() }
}

fn good(target: &str) -> Option<Vec<u8>> {
    match target.rsplit('/').next()? {
        "hello_1.0-1_amd64.deb" => Some(body(1)),
        "vendor-2.0.tar.gz" => Some(body(2)),
        "libc6_1.0-1_amd64.deb" => Some(body(3)),
        _ => None,
    }
}

fn good_server() -> Server {
    Server::start(|request| good(&request.target).map_or(Answer::status(404), |body| Answer::ranged(request, &body)))
}

/// Asks until `ready`, at most for a minute.
fn wait_until(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

#[test]
fn fetch_brings_what_the_images_need_once() {
    let server = good_server();
    let checkout = Checkout::new(&server);
    let (code, out, err) = checkout.run(&["fetch", "demo"]);
    assert_eq!((code, out.as_str()), (0, "2 files, 781 KiB, in CHECKOUT/target/store\n"), "{err}");
    assert!(checkout.holds(&body(1)) && checkout.holds(&body(2)) && checkout.left_over().is_empty());
    assert_eq!(checkout.run(&["fetch"]).0, 0);
    assert_eq!(server.requests().len(), 2, "the second run asks for nothing");
    let (code, _, err) = checkout.run(&["fetch", "other"]);
    assert_eq!((code, err.as_str()), (2, "error: there is no image \"other\"\n  expected one of: demo\n"));
}

#[test]
fn an_image_with_programs_needs_the_toolchain_and_their_crates() {
    let server = good_server();
    let checkout = Checkout::new(&server);
    checkout.write("images/demo/image.toml", SPEC.replace("[config]", &format!("{PROGRAM}[config]")));
    checkout.write("src/lib.rs", "");
    checkout.write("Cargo.toml", "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n");
    let (code, _, err) = checkout.run(&["fetch"]);
    assert_eq!(code, 5, "--locked refuses a workspace without Cargo.lock: {err}");
    assert!(err.contains("fetching the programs' crates"), "{err}");
    assert!(checkout.holds(&body(1)) && checkout.holds(&body(3)), "the files came nevertheless");
    checkout.write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"hello\"\nversion = \"0.1.0\"\n");
    let (code, out, err) = checkout.run(&["fetch"]);
    assert_eq!((code, out.as_str()), (0, "3 files, 1.1 MiB, in CHECKOUT/target/store\n"), "{err}");
}

#[test]
fn a_vendor_that_cannot_be_reached_does_not_stop_the_packages() {
    let server = Server::start(|request| match good(&request.target) {
        Some(body) if request.target.ends_with(".deb") => Answer::ranged(request, &body),
        _ => Answer::status(403),
    });
    let checkout = Checkout::new(&server);
    let (code, out, err) = checkout.run(&["fetch"]);
    assert_eq!((code, out.as_str()), (5, ""));
    insta::assert_snapshot!(err);
    assert!(checkout.holds(&body(1)));
}

#[test]
fn a_store_may_lie_elsewhere() {
    let server = good_server();
    let checkout = Checkout::new(&server);
    let elsewhere = checkout.folder.path().join("shared");
    assert_eq!(checkout.run(&["fetch", "--store", &elsewhere.display().to_string()]).0, 0);
    let store = Store::open(&elsewhere).expect("opens");
    assert!(store.has(&Digest::of(body(1))) && !checkout.folder.path().join("target").exists());
}

#[test]
fn the_proxy_of_the_environment_is_asked() {
    let proxy = good_server();
    let mut checkout = Checkout::new(&proxy);
    checkout.server = "http://mirror.invalid/debian".to_owned();
    let xtask = checkout.xtask(&["fetch"]).env("http_proxy", proxy.url(""));
    let (code, _, err) = checkout.outcome(&xtask);
    assert_eq!(code, 0, "{err}");
    let targets: Vec<String> = proxy.requests().into_iter().map(|request| request.target).collect();
    assert!(targets.contains(&"http://mirror.invalid/debian/pool/hello_1.0-1_amd64.deb".to_owned()), "{targets:?}");
    assert!(targets.contains(&"/vendor-2.0.tar.gz".to_owned()), "this machine's own server is asked directly: {targets:?}");
}

#[test]
fn the_run_after_a_kill_goes_on_where_it_was() {
    let server = Server::start(|request| {
        let body = good(&request.target).expect("one of the two");
        if request.earlier == 0 { Answer::ranged(request, &body).cut(150_000).stall() } else { Answer::ranged(request, &body) }
    });
    let checkout = Checkout::new(&server);
    let running = checkout.xtask(&["fetch"]).start(&checkout.folder.path().join("log")).expect("started");
    let sizes = || checkout.left_over().iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).collect::<Vec<_>>();
    let tmp = checkout.folder.path().join("target/store/tmp");
    wait_until("both halves", || tmp.is_dir() && sizes() == [150_000, 150_000]);
    let pid = rustix::process::Pid::from_raw(running.pid() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    wait_until("its end", || running.ended().expect("known").is_some());
    assert!(!checkout.holds(&body(1)) && !checkout.holds(&body(2)));
    assert_eq!(fs::read_dir(checkout.folder.path().join("target/store/blobs/sha256")).expect("readable").count(), 0);
    let (code, _, err) = checkout.run(&["fetch"]);
    assert_eq!(code, 0, "{err}");
    assert!(checkout.holds(&body(1)) && checkout.holds(&body(2)) && checkout.left_over().is_empty());
    let ranges: Vec<_> = server.requests().iter().map(common::Request::range).collect();
    assert_eq!(ranges, [None, None, Some(150_000), Some(150_000)]);
}

#[test]
fn two_processes_fetch_into_one_store_and_both_end_well() {
    let server = good_server();
    let checkout = Checkout::new(&server);
    let runs: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| checkout.run(&["fetch"]))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(runs.iter().all(|(code, ..)| *code == 0), "{runs:?}");
    assert!(checkout.holds(&body(1)) && checkout.holds(&body(2)) && checkout.left_over().is_empty());
    assert_eq!(server.requests().len(), 2, "each file is fetched once");
}

#[test]
fn a_full_disk_is_named_and_nothing_half_is_kept() {
    let server = good_server();
    let checkout = Checkout::new(&server);
    let small = checkout.folder.path().join("small");
    fs::create_dir(&small).expect("made");
    let mount = Process::new("mount", "/").args(["-t", "tmpfs", "-o", "size=300k", "tmpfs"]).arg(&small).outcome();
    if !mount.is_ok_and(|outcome| outcome.success()) {
        eprintln!("skipped: a small file system needs mount(8) and root");
        return;
    }
    let (code, _, err) = checkout.run(&["fetch", "--store", &small.display().to_string()]);
    let left: Vec<_> = ["tmp", "blobs/sha256"].iter().flat_map(|folder| fs::read_dir(small.join(folder)).expect("readable")).collect();
    Process::new("umount", "/").arg(&small).capture().expect("unmounted");
    assert!(code != 0 && err.contains("No space left on device") && err.contains("the disk is full"), "{err}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn add_says_which_entries_a_file_satisfies() {
    let server = Server::start(|_| Answer::status(500));
    let checkout = Checkout::new(&server);
    checkout.write("brought/by-hand", body(1));
    checkout.write("brought/release", body(2));
    let (code, out, err) = checkout.run(&["add", "brought/by-hand", "brought/release"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "brought/by-hand is hello 1.0-1 (demo)\nbrought/release is vendor 2.0\n");
    assert!(checkout.holds(&body(1)) && checkout.holds(&body(2)));
    let (_, out, _) = checkout.run(&["add", "brought/release"]);
    assert_eq!(out, "brought/release is vendor 2.0, which the store has already\n");
    assert_eq!(checkout.run(&["fetch"]).0, 0, "nothing is left to fetch");
    assert!(server.requests().is_empty());
}

#[test]
fn add_refuses_what_the_lock_does_not_name_and_takes_the_rest() {
    let server = Server::start(|_| Answer::status(500));
    let checkout = Checkout::new(&server);
    checkout.write("vendor-2.0.tar.gz", body(9));
    checkout.write("hello_1.0-2_amd64.deb", "newer");
    checkout.write("x", "?");
    checkout.write("hello.deb", body(1));
    let mut said = Vec::new();
    for (file, expected) in [("vendor-2.0.tar.gz", 6), ("hello_1.0-2_amd64.deb", 2), ("x", 2), ("missing", 7)] {
        let (code, out, err) = checkout.run(&["add", file, "hello.deb"]);
        assert_eq!(code, expected, "{err}");
        assert!(out.starts_with("hello.deb is hello 1.0-1"), "{out}");
        said.push(err);
    }
    insta::assert_snapshot!(said.join("\n"));
    let blobs = fs::read_dir(checkout.folder.path().join("target/store/blobs/sha256")).expect("readable").count();
    assert_eq!((blobs, checkout.left_over().len()), (1, 0));
}

#[test]
fn add_takes_a_plugin_that_its_makers_key_verifies_and_pins_it() {
    let server = Server::start(|_| Answer::status(500));
    let checkout = Checkout::new(&server);
    let lock =
        || Lock::parse(&fs::read_to_string(checkout.folder.path().join("images/lock.json")).expect("there"), "lock.json").expect("valid");
    let mut with_plugin = lock();
    let url = Origin::Url { url: server.url("/jenkins-1.1.0.tar.gz") };
    let mut plugin = artefact(Kind::Plugin, "jenkins", "1.1.0", url, b"");
    (plugin.sha256, plugin.size) = (None, None);
    plugin.signature = Some(Signature { fingerprint: FINGERPRINT.to_owned(), base64: SIGNATURE.to_owned() });
    with_plugin.artefacts.push(plugin);
    checkout.write("images/lock.json", with_plugin.to_text());
    checkout.write("key.asc", KEY);
    checkout.write("jenkins-1.1.0.tar.gz", "a bundle");
    checkout.write("tampered/jenkins-1.1.0.tar.gz", "a bundlf");

    let (code, _, err) = checkout.run(&["add", "jenkins-1.1.0.tar.gz"]);
    assert!(code == 2 && err.contains("hint: --plugin-key KEY"), "{err}");
    let (code, _, err) = checkout.run(&["add", "--plugin-key", "key.asc", "tampered/jenkins-1.1.0.tar.gz"]);
    assert_eq!((code, lock()), (6, with_plugin), "{err}");
    assert!(!checkout.holds(b"a bundlf"));

    let (code, out, err) = checkout.run(&["add", "--plugin-key", "key.asc", "jenkins-1.1.0.tar.gz"]);
    assert_eq!((code, out.as_str()), (0, "jenkins-1.1.0.tar.gz is jenkins 1.1.0; images/lock.json now names its SHA-256\n"), "{err}");
    assert_eq!(lock().artefact(Kind::Plugin, "jenkins").and_then(|plugin| plugin.sha256), Some(Digest::of("a bundle")));
    assert!(checkout.holds(b"a bundle"));
    assert_eq!(checkout.run(&["add", "jenkins-1.1.0.tar.gz"]).0, 0, "from now on its hash is enough");
}

#[test]
fn a_machine_without_ca_certificates_still_fetches_from_a_plain_mirror() {
    let server = good_server();
    let checkout = Checkout::new(&server);
    let xtask = checkout.xtask(&["fetch"]).env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", checkout.folder.path());
    let (code, _, err) = checkout.outcome(&xtask);
    assert_eq!(code, 0, "{err}");
}
