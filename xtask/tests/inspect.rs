//! `cargo xtask images verify`, `diff` and `show` as a person calls them: in a small checkout, without a network.

use std::path::Path;

use fs_err as fs;
use images::layout::{Layout, read_index};
use images::testing::SampleImage;
use xtask::process::Process;

fn sample(greeting: &str) -> SampleImage {
    SampleImage::default().package("app", "1.0-1", |deb| {
        deb.directory("usr", 0o755).directory("usr/bin", 0o755).file("usr/bin/app", 0o755, greeting.as_bytes()).symlink("bin", "usr/bin")
    })
}

/// Exit code, standard output and standard error, with what is this machine's taken out.
fn xtask(checkout: &Path, args: &[&str]) -> (i32, String, String) {
    let process = Process::new(env!("CARGO_BIN_EXE_xtask"), checkout).env("CARGO_MANIFEST_DIR", checkout).env_remove("DEBIAN_MIRROR");
    let outcome = process.arg("images").args(args).outcome().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&checkout.display().to_string(), "CHECKOUT");
    (outcome.status.code().expect("it ends by itself"), text(&outcome.stdout), text(&outcome.stderr))
}

fn digest(layout: &Path) -> String {
    read_index(layout).expect("an index").manifests[0].digest.clone()
}

#[test]
fn an_image_is_built_and_reproduced() {
    let checkout = tempfile::tempdir().expect("a folder");
    sample("hello").checkout(checkout.path());
    let (code, stdout, stderr) = xtask(checkout.path(), &["verify", "--offline"]);
    assert_eq!(code, 0, "{stderr}");
    let digest = digest(&checkout.path().join("target/images"));
    assert_eq!(stdout, format!("chatops/sample:1.0  {digest}  reproduced\n"));
    assert!(stderr.contains("chatops/sample:1.0 is not in CHECKOUT/target/images yet"), "{stderr}");
    let left: Vec<_> =
        fs::read_dir(checkout.path().join("target")).expect("target").map(|entry| entry.expect("entry").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("verify-")), "{left:?}");
}

#[test]
fn another_image_under_the_same_name_is_found_out() {
    let checkout = tempfile::tempdir().expect("a folder");
    sample("hello").checkout(checkout.path());
    sample("hallo").build(&checkout.path().join("target/images"));
    let (code, stdout, stderr) = xtask(checkout.path(), &["verify", "sample", "--offline"]);
    assert_eq!((code, stdout.as_str()), (8, ""), "{stderr}");
    assert!(stderr.contains("error: chatops/sample:1.0 was not reproduced"), "{stderr}");
    assert!(stderr.contains("layer 1 \"runtime\", /usr/bin/app, content at byte 1: 61 → 65"), "{stderr}");
    assert!(stderr.contains("hint: it was built from other inputs"), "{stderr}");
}

#[test]
fn a_layer_that_was_tampered_with_is_found_out() {
    let checkout = tempfile::tempdir().expect("a folder");
    let layout = checkout.path().join("target/images");
    sample("hello").checkout(checkout.path());
    let built = sample("hello").build(&layout);
    let blob = Layout::open(&layout).expect("a layout").blob(&built.layers[0].digest);
    let bytes = fs::read(&blob).expect("a layer");
    let at = bytes.windows(5).position(|window| window == b"hello").expect("its file");
    fs::write(&blob, [&bytes[..at], b"jello", &bytes[at + 5..]].concat()).expect("written");
    let (code, _, stderr) = xtask(checkout.path(), &["verify", "--offline"]);
    assert_eq!(code, 8, "{stderr}");
    assert!(stderr.contains("/usr/bin/app, content at byte 0: 6a → 68"), "{stderr}");
}

#[test]
fn diff_says_what_changed_and_answers_like_diff() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (folder.path().join("old"), folder.path().join("new:2"));
    sample("hello").checkout(&old);
    sample("hallo").settings("ports = [\"1/udp\"]\n").checkout(&new);
    sample("hello").build(&old.join("layout"));
    sample("hallo").settings("ports = [\"1/udp\"]\n").build(&new.join("layout"));
    let diff = |args: &[&str]| xtask(folder.path(), &[&["diff"], args].concat());
    let (code, stdout, stderr) = diff(&["old/layout", "new:2/layout:sample"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stdout.contains("~ /usr/bin/app  content at byte 1: 65 → 61"), "{stdout}");
    assert!(stdout.contains("+ /config/ExposedPorts {\"1/udp\":{}}"), "{stdout}");
    let (code, stdout, _) = diff(&["old/layout", "old/layout:chatops/sample:1.0"]);
    assert_eq!((code, stdout.as_str()), (0, "chatops/sample:1.0\n  the same manifest\n"));
    let (code, stdout, _) = diff(&["--json", "old/layout", "new:2/layout"]);
    assert!(code == 1 && stdout.starts_with("{\"format\":1,\"images\":[{\"format\":1,\"left\":\"chatops/sample:1.0\""), "{stdout}");
    let (code, stdout, _) = diff(&["old/images/lock.json", "new:2/images/lock.json"]);
    assert!(code == 1 && stdout.starts_with("changed  app 1.0-1"), "{stdout}");
    assert_eq!(diff(&["old/images/lock.json", "old/images/lock.json"]).0, 0);
    assert_eq!(diff(&["old/images/lock.json", "old/layout"]).0, 2);
    assert_eq!(diff(&["nowhere", "old/layout"]).0, 2);
}

#[test]
fn show_says_what_is_inside_and_who_owns_a_path() {
    let checkout = tempfile::tempdir().expect("a folder");
    sample("hello").build(&checkout.path().join("layout"));
    let show = |args: &[&str]| xtask(checkout.path(), &[&["show", "sample", "--layout", "layout"], args].concat());
    let (code, stdout, stderr) = show(&[]);
    assert_eq!(code, 0, "{stderr}");
    let masked: String = stdout.lines().map(|line| line.split("sha256:").next().unwrap_or(line).trim_end().to_owned() + "\n").collect();
    insta::assert_snapshot!(masked, @r#"
    chatops/sample:1.0
      manifest
      config
      created     2020-09-13T12:26:40Z
    layers: 2, 12.0 KiB
      1 runtime         7.5 KiB      10 entries
      2 image           4.5 KiB       4 entries
    packages: 1
      app   159 bytes  1.0-1  (runtime)
    settings
      User        65534:65534
    labels
      org.chatops.image.inputs=
      org.opencontainers.image.title=Sample
      org.opencontainers.image.version=1.0
    "#);
    insta::assert_snapshot!(show(&["--owns", "/bin/app"]).1, @r#"
    /usr/bin/app
      owner     app 1.0-1
      layer     1 runtime
      entry     file 0755 0:0, 5 bytes
      time      2020-09-13T12:26:40Z
    "#);
    insta::assert_snapshot!(show(&["--owns", "/bin"]).1, @r#"
    /bin
      owner     app 1.0-1
      layer     1 runtime
      entry     symbolic link to usr/bin
      time      2020-09-13T12:26:40Z
      leads to  /usr/bin
    "#);
    insta::assert_snapshot!(show(&["--owns", "/etc/passwd"]).1, @r#"
    /etc/passwd
      owner     images/sample/image.toml
      layer     2 image
      entry     file 0644 0:0, 99 bytes
      time      2020-09-13T12:26:40Z
    "#);
    let (code, _, stderr) = show(&["--owns", "/opt/app"]);
    insta::assert_snapshot!(format!("{code}\n{stderr}"), @r#"
    1
    error: chatops/sample:1.0 has no /opt/app
    hint: it has /usr/bin/app
    "#);
    assert!(show(&["--files"]).1.contains("/usr/bin/app  file 0755 0:0, 5 bytes  app 1.0-1\n"));
    assert!(show(&["--json", "--owns", "usr/bin/app"]).1.contains("\"owner\":\"app 1.0-1\""));
}
