//! One difference of each kind, planted.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its input may as well stop")]

use super::*;
use crate::layout::Layout;
use crate::oci;
use crate::tar::Writer;
use crate::testing::{DebBuilder, SampleImage};

const NAME: &str = "chatops/sample:1.0";

fn app(deb: DebBuilder) -> DebBuilder {
    deb.directory("usr", 0o755).directory("usr/bin", 0o755).file("usr/bin/app", 0o755, b"hello world").symlink("usr/bin/also", "app")
}

fn sample() -> SampleImage {
    SampleImage::default().package("app", "1.0-1", app)
}

/// What differs between two images, a line each.
fn between(left: &SampleImage, right: &SampleImage) -> String {
    let folder = tempfile::tempdir().unwrap();
    let sides = [folder.path().join("left"), folder.path().join("right")];
    left.build(&sides[0]);
    right.build(&sides[1]);
    lines(&differences(&sides[0], &sides[1], "sample").unwrap())
}

/// Labels hold a digest of the inputs, which moves with the assembler; what is about it says nothing here.
fn lines(found: &[Difference]) -> String {
    let told = found.iter().filter(|difference| !difference.change.field.contains(crate::build::INPUTS_LABEL));
    told.map(|difference| format!("{difference}\n")).collect()
}

/// An image with one layer of these entries, under [`NAME`].
fn plant(root: &Path, members: &[(crate::entry::Entry, &[u8])]) {
    let mut tar = Writer::new(Vec::new());
    for (entry, content) in members {
        tar.entry(entry).unwrap();
        tar.content(content).unwrap();
    }
    plant_layer(root, &tar.finish().unwrap().0);
}

fn plant_layer(root: &Path, bytes: &[u8]) {
    let layout = Layout::open(root).unwrap();
    let digest = layout.put(bytes).unwrap();
    let layer = oci::LayerRef { name: "planted".into(), digest, size: bytes.len() as u64 };
    let config = serde_json::json!({"history": [{"comment": "planted"}], "rootfs": {"diff_ids": [digest.oci()]}});
    let config = oci::canonical(&config);
    layout.put(&config).unwrap();
    let manifest = oci::canonical(&oci::manifest(&config, &[layer]));
    layout.name(NAME, layout.put(&manifest).unwrap(), manifest.len() as u64).unwrap();
}

#[test]
fn two_builds_of_one_input_do_not_differ() {
    assert_eq!(between(&sample(), &sample()), "");
}

#[test]
fn what_a_package_changes_is_named_with_layer_path_and_field() {
    let changed = |make: fn(DebBuilder) -> DebBuilder| between(&sample(), &SampleImage::default().package("app", "1.0-1", make));
    insta::assert_snapshot!(changed(|deb| app(deb).file("usr/bin/new", 0o755, b"1")), @r#"
    layer 1 "runtime", /var/lib/dpkg/status.d/app.md5sums, size: 46 → 92
    layer 1 "runtime", /var/lib/dpkg/status.d/app.md5sums, content at byte 46: its end → 30
    layer 1 "runtime", /usr/bin/new, entry: nothing → file 0755 0:0, 1 bytes
    "#);
    insta::assert_snapshot!(changed(|deb| deb.directory("usr", 0o755).directory("usr/bin", 0o755).file("usr/bin/app", 0o750, b"hello wOrld").symlink("usr/bin/also", "./app")), @r#"
    layer 1 "runtime", /usr/bin/app, mode: 0755 → 0750
    layer 1 "runtime", /usr/bin/app, content at byte 7: 6f → 4f
    layer 1 "runtime", /usr/bin/also, link target: app → ./app
    "#);
    insta::assert_snapshot!(changed(|deb| deb.directory("usr", 0o755).directory("usr/bin", 0o755).symlink("usr/bin/app", "also").file("usr/bin/also", 0o755, b"hello world")), @r#"
    layer 1 "runtime", /usr/bin/app, kind: file → symbolic link
    layer 1 "runtime", /usr/bin/app, mode: 0755 → 0777
    layer 1 "runtime", /usr/bin/also, kind: symbolic link → file
    layer 1 "runtime", /usr/bin/also, mode: 0777 → 0755
    layer 1 "runtime", /var/lib/dpkg/status.d/app.md5sums, size: 46 → 47
    layer 1 "runtime", /var/lib/dpkg/status.d/app.md5sums, content at byte 43: 70 → 6c
    "#);
    insta::assert_snapshot!(changed(|deb| app(deb.time(1_700_000_000))), @r#"
    config, /created: "2020-09-13T12:26:40Z" → "2023-11-14T22:13:20Z"
    config, /history/0/created: "2020-09-13T12:26:40Z" → "2023-11-14T22:13:20Z"
    config, /history/1/created: "2020-09-13T12:26:40Z" → "2023-11-14T22:13:20Z"
    layer 1 "runtime", /usr, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /usr/bin, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /usr/bin/app, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /usr/bin/also, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /var, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /var/lib, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /var/lib/dpkg, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /var/lib/dpkg/status.d, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /var/lib/dpkg/status.d/app, mtime: 1600000000 → 1700000000
    layer 1 "runtime", /var/lib/dpkg/status.d/app.md5sums, mtime: 1600000000 → 1700000000
    layer 2 "image", /etc, mtime: 1600000000 → 1700000000
    layer 2 "image", /etc/group, mtime: 1600000000 → 1700000000
    layer 2 "image", /etc/nsswitch.conf, mtime: 1600000000 → 1700000000
    layer 2 "image", /etc/passwd, mtime: 1600000000 → 1700000000
    "#);
}

#[test]
fn packages_and_settings_are_named_first() {
    let other = SampleImage::default().package("app", "1.0-2", app).package("lib", "2", |deb| deb).settings("ports = [\"3478/udp\"]\n");
    insta::assert_snapshot!(between(&sample(), &other), @r#"
    packages, app: 1.0-1 → 1.0-2
    packages, lib: nothing → 2
    config, /config/ExposedPorts: nothing → {"3478/udp":{}}
    layer 1 "runtime", /var/lib/dpkg/status.d/app, content at byte 26: 31 → 32
    layer 1 "runtime", /var/lib/dpkg/status.d/lib, entry: nothing → file 0644 0:0, 104 bytes
    layer 1 "runtime", /var/lib/dpkg/status.d/lib.md5sums, entry: nothing → file 0644 0:0, 0 bytes
    "#);
}

#[test]
fn order_attributes_and_form_are_seen() {
    use crate::entry::{Entry, Node};
    let folder = tempfile::tempdir().unwrap();
    let (left, right) = (folder.path().join("left"), folder.path().join("right"));
    let compared = || lines(&differences(&left, &right, NAME).unwrap());
    let (a, b) = (Entry::file("a", 1, 0o644, 0), Entry::file("b", 1, 0o644, 0));
    plant(&left, &[(a.clone(), b"x"), (b.clone(), b"x")]);
    plant(&right, &[(b.clone(), b"x"), (a.clone(), b"x")]);
    insta::assert_snapshot!(compared(), @r#"
    layer 1 "planted", order at entry 1: /a → /b
    "#);
    let mut capable = a.clone().owned_by(7);
    capable.xattrs.insert("security.capability".into(), vec![1, 0]);
    let mut hard = b.clone();
    hard.node = Node::Hardlink { target: "a".into() };
    plant(&right, &[(capable, b"x"), (hard, b"")]);
    insta::assert_snapshot!(compared(), @r#"
    layer 1 "planted", /a, uid: 0 → 7
    layer 1 "planted", /a, gid: 0 → 7
    layer 1 "planted", /a, xattr security.capability: nothing → 0100
    layer 1 "planted", /b, kind: file → hard link
    "#);
    // The same entries in another dialect: a digit of the field for device numbers.
    let mut tar = Writer::new(Vec::new());
    for entry in [&a, &b] {
        tar.entry(entry).unwrap();
        tar.content(b"x").unwrap();
    }
    let mut bytes = tar.finish().unwrap().0;
    bytes[1024 + 335] = b'1';
    let sum: u32 =
        bytes[1024..1536].iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
    bytes[1024 + 148..1024 + 154].copy_from_slice(format!("{sum:06o}").as_bytes());
    plant_layer(&right, &bytes);
    insta::assert_snapshot!(compared(), @r#"
    layer 1 "planted", form of the tar: byte 1177, near /b → other bytes
    "#);
}

#[test]
fn a_damaged_layer_is_a_difference_although_its_name_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (left, right) = (folder.path().join("left"), folder.path().join("right"));
    let built = sample().build(&left);
    sample().build(&right);
    let blob = left.join("blobs/sha256").join(built.layers[0].digest.to_string());
    let mut bytes = fs_err::read(&blob).unwrap();
    let at = bytes.windows(11).position(|window| window == b"hello world").unwrap();
    bytes[at + 4] = b'0';
    fs_err::write(&blob, bytes).unwrap();
    let found = lines(&differences(&left, &right, "sample").unwrap()).replace(&built.layers[0].digest.oci(), "DIGEST");
    insta::assert_snapshot!(found, @r#"
    layer 1 "runtime", bytes as it stands: DIGEST → another digest: the file is damaged
    layer 1 "runtime", /usr/bin/app, content at byte 4: 30 → 6f
    "#);
}

#[test]
fn the_error_shows_twenty_and_counts_the_rest() {
    let one = Difference::new("config", None, change("/config/User", "\"0:0\"", "\"1:1\""));
    let error = error(NAME, &vec![one; 23]);
    assert_eq!((error.class(), error.to_string().lines().count()), (Class::NotReproducible, 23));
    assert!(error.to_string().contains("… and 3 more\nhint: the same inputs gave other bytes"), "{error}");
    let label = Difference::new("config", None, change(format!("/config/Labels/{}", crate::build::INPUTS_LABEL), "\"a\"", "\"b\""));
    assert!(super::error(NAME, &[label]).to_string().contains("built from other inputs"));
}

#[test]
fn a_name_that_is_not_there_is_answered_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    sample().build(folder.path());
    let error = differences(folder.path(), folder.path(), "postgres")
        .unwrap_err()
        .to_string()
        .replace(&folder.path().display().to_string(), "LAYOUT");
    insta::assert_snapshot!(error, @r#"
    LAYOUT has no image "postgres"
      it has chatops/sample:1.0
    hint: `cargo xtask images` builds every image
    "#);
}
