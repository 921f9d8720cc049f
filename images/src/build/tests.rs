//! Whole images from packages that the tests make.

use super::*;
use crate::layout;
use crate::lock::{Archive, Group, Kind, Lock, Origin, Signature};
use crate::progress::Silent;
use crate::spec::Spec;
use crate::testing::{self, DebBuilder, Packing};

const ROOT: &[u8] = include_bytes!("../../tests/data/root.pem");

/// A store with packages, a lock that pins them, and a layout.
struct World {
    _folder: tempfile::TempDir,
    store: Store,
    root: PathBuf,
    lock: Lock,
    spec: String,
}

impl World {
    fn new(debs: &[(&str, &str, Vec<u8>)]) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_owned();
        let store = Store::open(&root.join("store")).expect("a store");
        let archive = Archive { suite: "trixie".into(), architecture: "amd64".into(), indexes: BTreeMap::new() };
        let lock = Lock { format: FORMAT, debian: archive, groups: BTreeMap::new(), artefacts: Vec::new(), scripts: Vec::new() };
        let mut world = World { _folder: folder, store, root, lock, spec: String::new() };
        let names: Vec<String> = debs.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        for (name, version, bytes) in debs {
            world.put(Kind::Deb, name, version, bytes);
        }
        let group = Group { requests: names.clone(), without: Vec::new(), packages: names.clone() };
        world.lock.groups.insert("sample".into(), group);
        world.spec = format!(
            "format = 1\ntitle = \"Sample\"\nversion = \"debian:{}\"\n[debian]\npackages = {names:?}\n[exclude]\npaths = [\"/usr/share/man/**\"]\n\
             [config]\nuser = \"nobody\"\n[[layer]]\nname = \"base\"\npackages = [\"{}\"]\n",
            names[0], names[0]
        );
        world
    }

    fn put(&mut self, kind: Kind, name: &str, version: &str, bytes: &[u8]) {
        let (sha256, size) = self.store.insert(bytes, None, None).expect("room");
        self.lock.artefacts.retain(|artefact| artefact.name != name);
        self.lock.artefacts.push(Artefact {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            kind,
            size: Some(size),
            sha256: Some(sha256),
            from: Origin::Url { url: format!("https://example.org/{name}.tar.gz") },
            source: None,
            signature: None,
            scripts: BTreeMap::new(),
        });
    }

    fn locked(&self) -> Locked {
        let spec = Spec::parse(&self.spec, "image.toml").expect("a valid spec");
        self.lock.bind("sample", spec, "enterprise", &[]).expect("a lock that answers")
    }

    fn layout(&self, name: &str) -> Layout {
        Layout::open(&self.root.join(name)).expect("a layout")
    }

    fn build_in(&self, layout: &Layout, threads: usize, site: &SiteInputs) -> Result<Built> {
        build(&self.locked(), &self.store, &Inputs::default(), site, layout, threads, &Silent)
    }

    fn build(&self) -> Result<Built> {
        self.build_in(&self.layout("images"), 2, &SiteInputs::default())
    }

    fn damage(&self, name: &str) {
        let artefact = self.lock.artefacts.iter().find(|artefact| artefact.name == name).and_then(|artefact| artefact.sha256);
        let path = self.store.path(&artefact.expect("pinned"));
        let mut bytes = fs_err::read(&path).expect("a blob");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs_err::remove_file(&path).and_then(|()| fs_err::write(&path, &bytes)).expect("a write");
    }

    fn forget(&self) {
        if self.store.memory().exists() {
            fs_err::remove_dir_all(self.store.memory()).expect("a memory");
        }
    }
}

fn base() -> Vec<u8> {
    DebBuilder::new("base", "1.2+dfsg-3")
        .time(1_700_000_000)
        .directory("etc", 0o755)
        .file("etc/motd", 0o644, b"welcome\n")
        .directory("usr", 0o755)
        .file("usr/lib/os-release", 0o644, b"ID=debian\n")
        .file("usr/share/man/man1/a.1.gz", 0o644, b"man")
        .file("lib/old", 0o644, b"before usrmerge")
        .symlink("lib64", "usr/lib64")
        .build()
}

fn tool(version: &str) -> Vec<u8> {
    let content: Vec<u8> = version.bytes().cycle().take(3 << 20).collect();
    DebBuilder::new("tool", version)
        .time(1_700_000_500)
        .packing(Packing::Zstd)
        .directory("usr", 0o755)
        .file("usr/bin/tool", 0o755, &content)
        .hardlink("usr/bin/tool2", "usr/bin/tool")
        .build()
}

fn cas() -> Vec<u8> {
    DebBuilder::new("cas", "1").time(1_600_000_000).file("usr/share/ca-certificates/mozilla/Root.crt", 0o644, ROOT).build()
}

fn world() -> World {
    World::new(&[("base", "1.2+dfsg-3", base()), ("tool", "2-1", tool("2-1"))])
}

fn site() -> SiteInputs {
    SiteInputs { cas: BTreeMap::from([("site.pem".to_owned(), ROOT.to_vec())]) }
}

fn entries(layout: &Layout, layer: &LayerRef) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let file = fs_err::File::open(layout.blob(&layer.digest)).expect("a layer");
    crate::entry::read_tar(file, "", &mut |entry, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        found.insert(entry.path, (entry.mode, u64::from(entry.uid), bytes));
        Ok(())
    })
    .expect("a good layer");
    found
}

/// What `format = 1` builds of these packages, for ever. It moves only with a new format, which builds old locks as before.
#[test]
fn the_digests_of_format_1_do_not_move() {
    let built = world().build().expect("a good image");
    let digests: Vec<String> = built.layers.iter().map(|layer| format!("{} {}", layer.name, layer.digest)).collect();
    insta::assert_snapshot!(format!("{} {}\n{}", built.name, built.manifest, digests.join("\n")), @r"
    chatops/sample:1.2-dfsg f30fadc677fb0938ab851c6a08cf1d4417e726061b98235fe6e1c8dd25eed64b
    base 9e3f79c7bf0715a19aaa1c8a041cacd5df32ea0b1d5db3ed873e63e7911c1c27
    runtime 7ca88ba502e2b5ed4a91d8fbcf0607e24e1b221b6f550bd22556742d1e845aa6
    image 82d305c62832b686a97620abdb19a9d314e790f32104f6ba9d4a221a82dfea96
    ");
}

#[test]
fn the_number_of_threads_and_what_is_remembered_never_show() {
    let world = world();
    let first = world.build().expect("a good image");
    assert!(first.fresh);
    for threads in [1, 4] {
        world.forget();
        let again = world.build_in(&world.layout(&format!("other-{threads}")), threads, &SiteInputs::default()).expect("a good image");
        assert_eq!((again.manifest, again.fresh), (first.manifest, true), "{threads} threads");
    }
}

#[test]
fn a_second_run_makes_nothing() {
    let world = world();
    world.build().expect("a good image");
    let blobs = |world: &World| {
        let list = fs_err::read_dir(world.layout("images").blobs()).expect("blobs");
        list.map(|file| file.and_then(|file| Ok((file.file_name(), file.metadata()?.modified()?))).expect("a blob"))
            .collect::<BTreeMap<_, _>>()
    };
    let before = blobs(&world);
    let index = fs_err::metadata(world.root.join("images/index.json")).and_then(|index| index.modified()).expect("an index");
    assert!(!world.build().expect("a good image").fresh);
    assert_eq!(blobs(&world), before);
    assert_eq!(fs_err::metadata(world.root.join("images/index.json")).and_then(|index| index.modified()).expect("an index"), index);
}

#[test]
fn an_upgrade_changes_its_own_layer_and_the_images_own() {
    let mut world = world();
    let before = world.build().expect("a good image");
    let bytes = tool("3-1");
    world.put(Kind::Deb, "tool", "3-1", &bytes);
    let kept = world.layout("images").blob(&before.layers[0].digest);
    let written = fs_err::metadata(&kept).and_then(|blob| blob.modified()).expect("a blob");
    let after = world.build().expect("a good image");
    let changed: Vec<&str> =
        before.layers.iter().zip(&after.layers).filter(|(a, b)| a.digest != b.digest).map(|(a, _)| a.name.as_str()).collect();
    assert_eq!(changed, ["runtime"]);
    assert_eq!(fs_err::metadata(&kept).and_then(|blob| blob.modified()).expect("a blob"), written, "the base layer was made again");
}

#[test]
fn the_image_holds_what_the_rules_say() {
    let world = world();
    let built = world.build().expect("a good image");
    let layout = world.layout("images");
    let base = entries(&layout, &built.layers[0]);
    assert_eq!(base["etc/motd"].2, b"welcome\n");
    assert_eq!(base["usr/lib/old"].2, b"before usrmerge");
    assert!(base.contains_key("var/lib/dpkg/status.d/base") && base.contains_key("var/lib/dpkg/status.d/base.md5sums"));
    assert!(String::from_utf8_lossy(&base["var/lib/dpkg/status.d/base.md5sums"].2).contains("  usr/lib/old"));
    assert!(!base.keys().any(|path| path.starts_with("usr/share/man/")), "manual pages are excluded");
    let own = entries(&layout, &built.layers[2]);
    assert!(String::from_utf8_lossy(&own["etc/passwd"].2).contains("nobody:x:65534"));
    assert!(own.contains_key("var/run"));
    assert_eq!(built.name, "chatops/sample:1.2-dfsg");
}

#[test]
fn the_sites_ca_is_the_top_layer_and_nothing_below_moves() {
    let world = World::new(&[("base", "1", base()), ("cas", "1", cas())]);
    let without = world.build().expect("a good image");
    let layout = world.layout("images");
    let with = world.build_in(&layout, 2, &site()).expect("a good image");
    assert_eq!(with.layers[..without.layers.len()], without.layers);
    let top = entries(&layout, &with.layers[without.layers.len()]);
    let pem = String::from_utf8_lossy(ROOT);
    assert_eq!(String::from_utf8_lossy(&top[ca_bundle::BUNDLE].2), format!("{pem}{pem}"), "Debian's bundle, then the site's CA");
    assert_eq!(String::from_utf8_lossy(&top["usr/local/share/ca-certificates/site.crt"].2), pem);
    assert!(top.keys().any(|path| path.ends_with(".1")), "the hash that Debian's CA has already gets the next number");
    assert!(!world.build_in(&layout, 2, &site()).expect("again").fresh);
}

#[test]
fn an_image_with_a_sites_ca_lies_beside_the_one_without() {
    let world = World::new(&[("base", "1", base()), ("cas", "1", cas())]);
    let layout = world.layout("images");
    let without = world.build().expect("a good image");
    let with = world.build_in(&layout, 2, &site()).expect("a good image");
    // The beginning of what `openssl x509 -fingerprint -sha256` says of the root.
    let fingerprint = include_str!("../../tests/data/root.sha256").replace(':', "").to_lowercase();
    assert_eq!(with.name, format!("{}-ca{}", without.name, &fingerprint[..8]));
    let names = layout.index().expect("an index").manifests.len();
    assert_eq!(names, 2, "one does not replace the other");
    let renamed = SiteInputs { cas: BTreeMap::from([("other.pem".to_owned(), [ROOT, ROOT].concat())]) };
    assert_eq!(world.build_in(&layout, 2, &renamed).expect("a good image").name, with.name, "the certificate counts, not its file");
    let bad = SiteInputs { cas: BTreeMap::from([("site.pem".to_owned(), b"no certificate".to_vec())]) };
    assert!(world.build_in(&layout, 2, &bad).expect_err("no CA").to_string().starts_with("site.pem holds no certificate"));
}

#[test]
fn a_sites_ca_that_is_added_later_elsewhere_gives_the_image_that_a_build_with_it_gives() {
    let world = World::new(&[("base", "1", base()), ("cas", "1", cas())]);
    let plain = world.build().expect("built");
    let built = world.build_in(&world.layout("other"), 1, &site()).expect("built");
    let below = below_site(&world.locked(), &world.store, &Inputs::default()).expect("readable").expect("it was built here");
    let (layout, memory) = (world.layout("images"), world.root.join("memory"));
    for fresh in [true, false] {
        let added = add_site(&plain.name, &plain.config, &below, &site(), &layout, &memory).expect("added");
        assert_eq!((&added.name, added.manifest, added.config), (&built.name, built.manifest, built.config));
        assert_eq!((added.layers, added.fresh), (built.layers.clone(), fresh));
    }
    let none = add_site(&plain.name, &plain.config, &below, &SiteInputs::default(), &layout, &memory).expect("nothing is added");
    assert_eq!((none.name, none.manifest), (plain.name.clone(), plain.manifest));
    let other = add_site(&plain.name, &built.config, &below, &site(), &world.layout("other"), &memory).expect_err("another image");
    assert!(other.message().contains("another image"), "{other}");
    world.forget();
    assert!(below_site(&world.locked(), &world.store, &Inputs::default()).expect("readable").is_none());
}

#[test]
fn a_damaged_blob_stops_the_build_and_leaves_no_layer() {
    let world = world();
    world.damage("tool");
    let error = world.build().expect_err("damaged");
    assert_eq!(error.class(), Class::HashMismatch, "{error}");
    let layout = world.layout("images");
    assert!(layout.index().expect("an index").manifests.is_empty());
    for blob in fs_err::read_dir(layout.blobs()).expect("blobs") {
        let blob = blob.expect("a blob").path();
        let digest = Digest::of(fs_err::read(&blob).expect("a blob")).to_string();
        assert_eq!(blob.file_name().map(|name| name.to_string_lossy().into_owned()), Some(digest), "a blob with a wrong name");
    }
}

#[test]
fn a_library_that_was_cut_from_the_closure_is_missed_at_build_time() {
    let shell = fs_err::read("/bin/sh").expect("every Unix has one");
    let deb = DebBuilder::new("shell", "1").file("usr/bin/sh", 0o755, &shell).build();
    let error = World::new(&[("shell", "1", deb)]).build().expect_err("no libc").to_string();
    assert!(error.contains("usr/bin/sh of shell needs libc.so"), "{error}");
}

#[test]
fn two_packages_with_one_file_are_both_named() {
    let twin = DebBuilder::new("twin", "1").file("etc/motd", 0o644, b"mine\n").build();
    let error = World::new(&[("base", "1", base()), ("twin", "1", twin)]).build().expect_err("a conflict").to_string();
    assert!(error.contains("base and twin both bring /etc/motd"), "{error}");
}

#[test]
fn two_builds_at_once_share_a_layout() {
    let world = world();
    let digests: Vec<Digest> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| world.build().map(|built| built.manifest))).collect();
        builds.into_iter().map(|build| build.join().expect("no panic").expect("a good image")).collect()
    });
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(world.layout("images").index().expect("an index").manifests.len(), 1);
}

/// A tarball in the vendor's layout, made by somebody with another umask and uid.
fn release() -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, mode, content) in [
        ("mattermost/bin/mattermost", 0o775, "server"),
        ("mattermost/client/root.html", 0o664, "<html>"),
        ("mattermost/prepackaged_plugins/mattermost-plugin-calls-v1.11.6-linux-amd64.tar.gz", 0o664, "calls"),
        ("mattermost/prepackaged_plugins/mattermost-plugin-calls-v1.11.6-linux-amd64.tar.gz.sig", 0o664, "signature"),
        ("mattermost/prepackaged_plugins/mattermost-plugin-zoom-v1.13.0-linux-amd64.tar.gz", 0o664, "zoom"),
    ] {
        testing::append(&mut builder, path, ::tar::EntryType::Regular, mode, 1_750_000_000, "", content.as_bytes());
    }
    testing::pack(&builder.into_inner().expect("a Vec takes all"), Packing::Gzip)
}

fn with_release() -> World {
    let mut world = world();
    world.put(Kind::Release, "mattermost", "11.7.9", &release());
    world.put(Kind::Release, "mattermost-team", "11.7.9", &release());
    world.spec.push_str(
        "[[account]]\nname = \"mattermost\"\nid = 2000\nhome = \"/mattermost\"\n[[release]]\neditions = { enterprise = \"mattermost\", team = \"mattermost-team\" }\n\
         strip = \"mattermost\"\ndestination = \"/mattermost\"\nowner = \"mattermost\"\nexclude = [\"prepackaged_plugins/**\"]\nkeep = [\"prepackaged_plugins/mattermost-plugin-calls-v*\"]\n",
    );
    world.spec = world.spec.replace("debian:base", "release:mattermost");
    world
}

#[test]
fn a_release_is_owned_by_its_account_and_keeps_what_is_enabled() {
    let world = with_release();
    let built = world.build().expect("a good image");
    assert_eq!(built.name, "chatops/sample:11.7.9");
    let found = entries(&world.layout("images"), built.layers.iter().find(|layer| layer.name == "release").expect("its layer"));
    assert_eq!(found["mattermost/bin/mattermost"], (0o755, 2000, b"server".to_vec()));
    assert_eq!((found["mattermost"].0, found["mattermost"].1), (0o755, 2000));
    let plugins: Vec<_> = found.keys().filter(|path| path.contains("plugin-")).collect();
    assert_eq!(plugins.len(), 2, "calls and its signature: {plugins:?}");
}

/// What comes of a build with one thread, where all is written in order, and with four, where the release is written beside.
fn in_order_and_beside(world: &World) -> [Result<Built>; 2] {
    [1, 4].map(|threads| {
        world.forget();
        world.build_in(&world.layout(&format!("threads-{threads}")), threads, &SiteInputs::default())
    })
}

#[test]
fn a_release_that_is_written_beside_the_packages_is_the_one_that_comes_after_them() {
    let world = with_release();
    let [in_order, beside] = in_order_and_beside(&world).map(|built| built.expect("a good image"));
    assert_eq!(beside.manifest, in_order.manifest);
}

#[test]
fn a_release_below_a_packages_folder_shows_that_folder_as_the_package_has_it() {
    let mut world = with_release();
    let host = DebBuilder::new("base", "1").time(1_700_000_000).directory("srv", 0o750).build();
    world.put(Kind::Deb, "base", "1", &host);
    world.spec = world.spec.replace("destination = \"/mattermost\"", "destination = \"/srv/app\"");
    let [in_order, beside] = in_order_and_beside(&world).map(|built| built.expect("a good image"));
    let layer = beside.layers.iter().find(|layer| layer.name == "release").expect("its layer");
    assert_eq!(entries(&world.layout("threads-4"), layer)["srv"].0, 0o750);
    assert_eq!(beside.manifest, in_order.manifest);
}

#[test]
fn a_release_fails_in_the_same_words_whether_it_is_written_in_order_or_beside() {
    for (path, mode, expected) in [
        ("mattermost/bin/mattermost", 0o644, "say which holds with a [[path]] for \"/mattermost\""),
        ("mattermost", 0o755, "leave one out with exclude.paths = [\"/mattermost\"]"),
        ("usr/share/doc/damaged", 0o644, "base in the store is damaged"),
    ] {
        let mut world = with_release();
        world.put(Kind::Deb, "base", "1", &DebBuilder::new("base", "1").file(path, mode, b"").build());
        if expected.contains("damaged") {
            world.damage("base");
            world.damage("mattermost");
        }
        let [in_order, beside] = in_order_and_beside(&world).map(|built| built.expect_err(path).to_string());
        assert!(in_order.contains(expected), "{in_order}");
        assert_eq!(beside, in_order);
    }
}

#[test]
fn an_edition_and_a_file_show_in_the_name_and_the_label() {
    let world = with_release();
    let spec = Spec::parse(&world.spec, "image.toml").expect("valid");
    let team = world.lock.bind("sample", spec.clone(), "team", &[]).expect("bound");
    let layout = world.layout("images");
    let path = world.root.join("mattermost-11.9.1-linux-amd64.tar.gz");
    fs_err::write(&path, release()).expect("a file");
    let file = ReleaseFile { origin: StandIn::File, sha256: Digest::of(release()), path, version: "11.9.1".into() };
    let inputs = Inputs { release: Some(file), ..Inputs::default() };
    let built = build(&team, &world.store, &inputs, &SiteInputs::default(), &layout, 1, &Silent).expect("a good image");
    assert_eq!(built.name, "chatops/sample:11.9.1-team-file");
    let config = layout::read_blob(layout.root(), &built.config.oci()).expect("a config");
    assert!(String::from_utf8_lossy(&config).contains("a file, not the lock's release"));
    let double = inputs.release.map(|file| ReleaseFile { origin: StandIn::Double, ..file });
    let inputs = Inputs { release: double, ..Inputs::default() };
    let built = build(&team, &world.store, &inputs, &SiteInputs::default(), &layout, 1, &Silent).expect("a good image");
    assert_eq!(built.name, "chatops/sample:11.9.1-team-double");
    let config = layout::read_blob(layout.root(), &built.config.oci()).expect("a config");
    assert!(String::from_utf8_lossy(&config).contains("API double, not the vendor's server"));
    let error = world.lock.bind("sample", spec, "gold", &[]).expect_err("no such edition").to_string();
    assert!(error.contains("expected one of: enterprise, team"), "{error}");
}

#[test]
fn a_plugin_lies_beside_its_signature_and_its_key_is_told_to_the_server() {
    let mut world = with_release();
    world.put(Kind::Plugin, "jenkins", "1.1.0", b"bundle");
    let jenkins = world.lock.artefacts.last_mut().expect("put");
    jenkins.signature = Some(Signature { fingerprint: "F".repeat(40), base64: "c2lnbmF0dXJl".into() });
    world.spec.push_str("[[plugin]]\nartefact = \"jenkins\"\ndestination = \"/mattermost/prepackaged_plugins\"\n");
    let path = world.root.join("own.tar.gz");
    fs_err::write(&path, b"own").expect("a file");
    let own = PluginFile { name: "own.tar.gz".into(), path, sha256: Digest::of("own"), signature: b"sig".to_vec(), key: b"key".to_vec() };
    let inputs = Inputs { plugins: vec![own], ..Inputs::default() };
    let layout = world.layout("images");
    let built = build(&world.locked(), &world.store, &inputs, &SiteInputs::default(), &layout, 1, &Silent).expect("a good image");
    let layer = |name: &str| entries(&layout, built.layers.iter().find(|layer| layer.name == name).expect(name));
    assert_eq!(layer("plugin jenkins")["mattermost/prepackaged_plugins/jenkins.tar.gz.sig"].2, b"signature");
    assert_eq!(layer("plugin own.tar.gz")["mattermost/prepackaged_plugins/own.tar.gz"].2, b"own");
    assert_eq!(layer("plugin own.tar.gz")["mattermost/prepackaged_plugins"].1, 2000, "the folder keeps its owner");
    let key = format!("mattermost/plugin-keys/{}.asc", Digest::of("key").short());
    assert_eq!(layer("image")[&key].2, b"key");
    let config = layout::read_blob(layout.root(), &built.config.oci()).expect("a config");
    assert!(String::from_utf8_lossy(&config).contains(&format!("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES=/{key}")));
}

#[test]
fn a_plugin_that_nobody_verified_is_refused_with_the_ways_out() {
    let mut world = with_release();
    world.put(Kind::Plugin, "jenkins", "1.1.0", b"bundle");
    world.lock.artefacts.last_mut().expect("put").sha256 = None;
    world.spec.push_str("[[plugin]]\nartefact = \"jenkins\"\ndestination = \"/mattermost/prepackaged_plugins\"\n");
    let spec = Spec::parse(&world.spec, "image.toml").expect("valid");
    let error = world.lock.bind("sample", spec.clone(), "team", &[]).expect_err("unverified").to_string();
    assert!(error.contains("images lock --update jenkins") && error.contains("--without-plugin jenkins"), "{error}");
    assert!(world.lock.bind("sample", spec, "team", &["jenkins".to_owned()]).is_ok());
}
