//! From a signed archive that the test makes, over HTTP on the loopback interface, to a lock.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Answer, Server};

use super::*;
use crate::lock::diff;
use crate::mirror::{AptMirrors, Wishes};
use crate::openpgp::Keyring;
use crate::openpgp::tests::{ALICE, MALLORY, clearsign, name, public};
use crate::progress::Silent;
use crate::testing::{DebBuilder, Packing, pack};

const MONDAY: &str = "Mon, 02 Nov 2026 08:00:00 UTC";
const TUESDAY: &str = "Tue, 03 Nov 2026 08:00:00 UTC";
const WEDNESDAY: &str = "Wed, 04 Nov 2026 08:00:00 UTC";

/// `name version; field: value; …`, and scripts.
fn package(head: &str, scripts: &[(&str, &str)]) -> (String, Vec<u8>) {
    let mut parts = head.split(';').map(str::trim);
    let (name, version) = parts.next().and_then(|head| head.split_once(' ')).expect("name and version");
    let mut stanza = format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n");
    // Uncompressed, so that the sizes in snapshots depend on no compressor.
    let mut deb = DebBuilder::new(name, version).packing(Packing::None);
    for (field, value) in parts.filter_map(|field| field.split_once(": ")) {
        deb = deb.field(field, value);
        stanza.push_str(&format!("{field}: {value}\n"));
    }
    let deb = scripts.iter().fold(deb, |deb, (name, text)| deb.script(name, text)).build();
    let file = version.split_once(':').map_or(version, |(_, version)| version);
    stanza.push_str(&format!("Filename: pool/main/{name}_{file}_amd64.deb\nSize: {}\nSHA256: {}\n", deb.len(), Digest::of(&deb)));
    (stanza, deb)
}

/// One repository as it is published: what can go wrong with it can be set.
struct Repository {
    codename: &'static str,
    date: &'static str,
    origin: &'static str,
    valid_until: Option<&'static str>,
    mallory: bool,
    packages: Vec<(String, Vec<u8>)>,
}

impl Repository {
    fn new(codename: &'static str, date: &'static str, packages: Vec<(String, Vec<u8>)>) -> Self {
        Repository { codename, date, origin: "Debian", valid_until: None, mallory: false, packages }
    }

    fn publish(&self, base: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        let text = self.packages.iter().map(|(stanza, _)| format!("{stanza}\n")).collect::<String>();
        let packed = pack(text.as_bytes(), Packing::Xz);
        let mut release = format!("Origin: {}\nCodename: {}\nDate: {}\n", self.origin, self.codename, self.date);
        if let Some(until) = self.valid_until {
            release.push_str(&format!("Valid-Until: {until}\n"));
        }
        release.push_str("Acquire-By-Hash: yes\nSHA256:\n");
        for (name, bytes) in [("Packages", text.as_bytes()), ("Packages.xz", &packed)] {
            release.push_str(&format!(" {} {} main/binary-amd64/{name}\n", Digest::of(bytes), bytes.len()));
        }
        let key = if self.mallory { &MALLORY } else { &ALICE };
        let dists = format!("{base}/dists/{}", self.codename);
        files.insert(format!("{dists}/InRelease"), clearsign(&release, &key.primary_key).into_bytes());
        files.insert(format!("{dists}/main/binary-amd64/by-hash/SHA256/{}", Digest::of(&packed)), packed.clone());
        files.insert(format!("{dists}/main/binary-amd64/Packages.xz"), packed);
        for (stanza, deb) in &self.packages {
            let path = stanza.lines().find_map(|line| line.strip_prefix("Filename: ")).expect("it has a file");
            files.insert(format!("{base}/{path}"), deb.clone());
        }
    }
}

struct World {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    server: Server,
    store: Store,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(main: &Repository, security: &Repository) -> World {
        let files = Arc::new(Mutex::new(BTreeMap::<String, Vec<u8>>::new()));
        let served = Arc::clone(&files);
        let server = Server::start(move |request| match served.lock().expect("no thread died with it").get(&request.target) {
            Some(bytes) => Answer::ranged(request, bytes),
            None => Answer::status(404),
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("store")).expect("opens");
        let world = World { files, server, store, _folder: folder };
        world.publish(main, security);
        world
    }

    fn publish(&self, main: &Repository, security: &Repository) {
        let mut files = self.files.lock().expect("no thread died with it");
        main.publish("/debian", &mut files);
        security.publish("/debian-security", &mut files);
    }

    fn lock(&self, specs: &BTreeMap<String, Spec>, old: &Lock, update: Update, decisions: &[Decision]) -> Result<Relocked> {
        let options = Options { tries: 1, pause: Duration::ZERO, ..Options::default() };
        let wishes = Wishes { main: Some(self.server.url("/debian")), ..Wishes::default() };
        let trust = || {
            let keyring = [public(&ALICE), public(&MALLORY)].concat();
            Ok(Trust { keyring: Keyring::parse(&keyring, "the keyring")?, fingerprints: vec![name(&ALICE)] })
        };
        let now = crate::mirror::parse_date(WEDNESDAY)?;
        let mirrors = || Mirrors::choose(&wishes, &AptMirrors::default());
        let (store, options, progress) = (&self.store, &options, &Silent);
        Relock { specs, old, update, decisions, trust: &trust, mirrors: &mirrors, store, now, options, progress }.run()
    }

    /// What `lock` says against this world, with its address taken out.
    fn refusal(&self, old: &Lock) -> String {
        let error = self.lock(&specs(&["app"]), old, Update::All, &decisions()).expect_err("refused");
        error.to_string().replace(&self.server.url(""), "http://mirror").replace(&name(&ALICE), "ALICE").replace(&name(&MALLORY), "MALLORY")
    }
}

fn specs(packages: &[&str]) -> BTreeMap<String, Spec> {
    let text = format!(
        "format = 1\ntitle = \"t\"\nversion = \"debian:app\"\n[debian]\npackages = {packages:?}\n[debian.without]\ndebconf = \"no\"\n[config]\nuser = \"nobody\"\n"
    );
    BTreeMap::from([("demo".to_owned(), Spec::parse(&text, "image.toml").expect("valid"))])
}

fn decisions() -> Vec<Decision> {
    let decision = |text: &str, reason| ledger::parse_decision(text, reason).expect("valid");
    vec![decision("app.postinst=accounts", "declared in image.toml"), decision("app.prerm=none", "nothing is removed")]
}

fn toolchain() -> Vec<(String, Vec<u8>)> {
    let heads = [
        "libc6 2.41-1",
        "libc6-dev 2.41-1; Depends: libc6 (= 2.41-1), linux-libc-dev",
        "libgcc-s1 14-1",
        "libgcc-14-dev 14-1; Depends: libgcc-s1",
        "zlib1g 1:1.3-1",
    ];
    heads.iter().map(|head| package(head, &[])).collect()
}

fn app(version: &str) -> (String, Vec<u8>) {
    let head = format!("app {version}; Depends: libaa (>= 1), libc6, debconf | debconf-2.0");
    package(&head, &[("postinst", "#!/bin/sh\nadduser --system app\n"), ("prerm", "#!/bin/sh\nrm -f /run/app\n")])
}

fn monday() -> Repository {
    let mut packages = toolchain();
    packages.extend([app("1.0-1"), package("libaa 1.0-1; Source: aa", &[]), package("libbb 1.0-1", &[]), package("debconf 1.5", &[])]);
    Repository::new("trixie", MONDAY, packages)
}

fn security(date: &'static str) -> Repository {
    Repository::new("trixie-security", date, vec![package("libbb 1.0-1+deb13u1", &[])])
}

/// App and library have moved on; the old files are still in the pool.
fn tuesday() -> Repository {
    let mut packages = toolchain();
    packages.extend([app("1.0-2"), package("libaa 1.0-2; Source: aa", &[]), package("libbb 1.0-1", &[]), package("debconf 1.5", &[])]);
    Repository::new("trixie", TUESDAY, packages)
}

#[test]
fn a_lock_is_made_kept_and_moved_pin_by_pin() {
    let world = World::new(&monday(), &security(MONDAY));
    let wanted = specs(&["app", "libbb"]);
    let error = world.lock(&wanted, &empty(), Update::Keep, &[]).expect_err("two scripts are unknown");
    insta::assert_snapshot!("unknown_scripts", error);
    let first = world.lock(&wanted, &empty(), Update::Keep, &decisions()).expect("locks").lock;
    insta::assert_snapshot!("first_lock", diff::lines(&empty(), &first).join("\n"));
    assert!(first.disagreements(&wanted).is_empty(), "{:?}", first.disagreements(&wanted));

    // An answered lock asks nobody: there is no server behind this address.
    let alone = World { server: Server::start(|_| Answer::status(500)), ..World::new(&monday(), &security(MONDAY)) };
    assert_eq!(alone.lock(&wanted, &first, Update::Keep, &[]).expect("nothing to do").lock, first);
    assert!(alone.server.requests().is_empty());

    // Only what is named moves, although the index describes the other pins no longer.
    world.publish(&tuesday(), &security(TUESDAY));
    let one = world.lock(&wanted, &first, Update::Names(BTreeSet::from(["libaa".to_owned()])), &[]).expect("moves one").lock;
    insta::assert_snapshot!(diff::lines(&first, &one).join("\n"), @r"
    moved    libaa 1.0-1 → 1.0-2, 3.7 KiB → 3.7 KiB, main
    index    main: Mon, 02 Nov 2026 08:00:00 UTC → Tue, 03 Nov 2026 08:00:00 UTC
    index    security: Mon, 02 Nov 2026 08:00:00 UTC → Tue, 03 Nov 2026 08:00:00 UTC
    ");
    // A spec that asks for less drops what nobody needs; a known script needs no new decision.
    let less = specs(&["app"]);
    let all = world.lock(&less, &one, Update::All, &[]).expect("moves all").lock;
    insta::assert_snapshot!("all_moved", diff::lines(&one, &all).join("\n"));
    assert!(all.disagreements(&less).is_empty(), "{:?}", all.disagreements(&less));
}

#[test]
fn a_pin_that_has_left_index_pool_and_store_names_the_way_out() {
    let world = World::new(&monday(), &security(MONDAY));
    let lock = world.lock(&specs(&["app"]), &empty(), Update::Keep, &decisions()).expect("locks").lock;
    let later = World::new(&tuesday(), &security(TUESDAY));
    let error = later.lock(&specs(&["app", "libbb"]), &lock, Update::Keep, &[]).expect_err("app 1.0-1 is nowhere");
    assert_eq!(error.class(), Class::Fetch);
    assert!(error.to_string().contains("cargo xtask images lock --update"), "{error}");
}

#[test]
fn an_index_that_is_not_debians_of_now_is_refused() {
    let known = World::new(&monday(), &security(TUESDAY)).lock(&specs(&["app"]), &empty(), Update::Keep, &decisions()).expect("locks").lock;
    let good = || (monday(), security(TUESDAY));
    let said = |change: &dyn Fn(&mut Repository, &mut Repository)| {
        let (mut main, mut security) = good();
        change(&mut main, &mut security);
        World::new(&main, &security).refusal(&known)
    };
    insta::assert_snapshot!(said(&|main, _| main.mallory = true), @r"
    http://mirror/debian/dists/trixie/InRelease has no valid signature
      expected one by ALICE
      found a signature by MALLORY, which is not one of them
    ");
    insta::assert_snapshot!(said(&|main, _| main.origin = "Dubian"), @r"
    http://mirror/debian/dists/trixie/InRelease: the index of trixie is not Debian's
      expected Origin: Debian
      found    Origin: Dubian
    ");
    insta::assert_snapshot!(said(&|_, security| security.valid_until = Some(TUESDAY)), @r"
    http://mirror/debian-security/dists/trixie-security/InRelease: the index of trixie-security has expired
      expected Valid-Until in the future
      found    Valid-Until: Tue, 03 Nov 2026 08:00:00 UTC
    hint: the mirror has stopped following Debian; name another one with --debian-mirror
    ");
    insta::assert_snapshot!(said(&|_, security| security.date = MONDAY), @r"
    http://mirror/debian-security/dists/trixie-security/InRelease: the index of trixie-security is older than the one that the lock was resolved from
      expected Date: Tue, 03 Nov 2026 08:00:00 UTC or later
      found    Date: Mon, 02 Nov 2026 08:00:00 UTC
    hint: the mirror lags behind; try later, or name another one with --debian-mirror
    ");
}

#[test]
fn tampered_files_of_the_archive_are_refused() {
    let said = |change: &dyn Fn(&str, &mut Vec<u8>)| {
        let world = World::new(&monday(), &security(MONDAY));
        world.files.lock().expect("no thread died with it").iter_mut().for_each(|(path, bytes)| change(path, bytes));
        world.refusal(&empty())
    };
    let in_release = said(&|path, bytes| {
        if path == "/debian/dists/trixie/InRelease" {
            *bytes = String::from_utf8_lossy(bytes).replace("Mon, 02 Nov", "Tue, 03 Nov").into_bytes();
        }
    });
    assert!(in_release.contains("the content or the signature was changed"), "{in_release}");
    let packages = said(&|path, bytes| {
        if path.contains("trixie/main/binary-amd64") {
            *bytes = pack(b"Package: evil\nVersion: 1\n", Packing::Xz);
        }
    });
    assert!(packages.contains("Packages.xz does not match its InRelease\n  expected sha256"), "{packages}");
    let deb = said(&|path, bytes| {
        if path.ends_with("app_1.0-1_amd64.deb") {
            bytes[200] ^= 1;
        }
    });
    assert!(deb.contains("app_1.0-1_amd64.deb does not match the lock"), "{deb}");
}

#[test]
fn a_mirror_without_hashed_names_will_do() {
    let world = World::new(&monday(), &security(MONDAY));
    world.files.lock().expect("no thread died with it").retain(|path, _| !path.contains("by-hash"));
    world.lock(&specs(&["app"]), &empty(), Update::Keep, &decisions()).expect("locks");
}

#[test]
fn a_package_that_is_another_than_the_index_says_is_refused() {
    let mut main = monday();
    let (stanza, _) = package("libaa 1.0-1", &[]);
    let (_, other) = package("libzz 1.0-1", &[]);
    let (hash, size) = (Digest::of(&other), other.len());
    let stanza = stanza.lines().filter(|line| !line.starts_with("SHA256") && !line.starts_with("Size")).map(|line| format!("{line}\n"));
    let stanza = format!("{}Size: {size}\nSHA256: {hash}\n", stanza.collect::<String>());
    main.packages.retain(|(stanza, _)| !stanza.starts_with("Package: libaa\n"));
    main.packages.push((stanza, other));
    insta::assert_snapshot!(World::new(&main, &security(MONDAY)).refusal(&empty()), @r"
    libaa_1.0-1_amd64.deb is another package than the index says
      expected libaa 1.0-1
      found    libzz 1.0-1
    ");
}

#[test]
fn wishes_that_name_nothing_are_refused() {
    let world = World::new(&monday(), &security(MONDAY));
    let names = Update::Names(BTreeSet::from(["libxx".to_owned()]));
    let error = world.lock(&specs(&["app"]), &empty(), names, &decisions()).expect_err("not pinned");
    insta::assert_snapshot!(error, @r#"
    the lock pins no package "libxx"
    hint: images/lock.json lists what is pinned
    "#);
    let vendor = "format = 1\ntitle = \"t\"\nversion = \"release:mattermost\"\n[[release]]\neditions = { only = \"mattermost\" }\nstrip = \"m\"\ndestination = \"/m\"\nowner = \"root\"\n[config]\nuser = \"nobody\"\n";
    let specs = BTreeMap::from([("demo".to_owned(), Spec::parse(vendor, "image.toml").expect("valid"))]);
    let error = world.lock(&specs, &empty(), Update::Keep, &[]).expect_err("no vendor entry");
    insta::assert_snapshot!(error, @r"
    a spec names mattermost, which the lock does not pin
    hint: cargo xtask images lock --update mattermost --version VERSION --sha256 HEX
    ");
}
