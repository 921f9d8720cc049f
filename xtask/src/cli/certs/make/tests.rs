use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    certs: crate::cli::certs::Args,
}

fn certs(folder: &Path, options: &[&str]) -> Result<()> {
    let site = folder.display().to_string();
    let words = [&["certs"], options, &["--site", &site]].concat();
    crate::cli::certs::run(&Cli::try_parse_from(words).expect("known options").certs, &mut Output::new())
}

fn site() -> tempfile::TempDir {
    let site = tempfile::tempdir().expect("a folder");
    fs_err::write(site.path().join("site.toml"), "format = 1\naddresses = [\"192.168.1.20\"]\n").expect("written");
    site
}

/// Every file and folder, the site's own and its lock among them: inode and time.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let there = fs_err::symlink_metadata(folder).expect("there");
    let mut found = BTreeMap::from([(folder.to_owned(), (there.ino(), there.modified().expect("a time")))]);
    if there.is_dir() {
        fs_err::read_dir(folder).expect("a folder").for_each(|entry| found.extend(tree(&entry.expect("an entry").path())));
    }
    found
}

#[test]
fn the_second_run_changes_nothing_on_disk_not_even_the_lock_and_waits_for_nobody() {
    let (own, other) = (site(), site());
    certs(other.path(), &[]).expect("made");
    let [ca, key, cert, cert_key] =
        ["ca.pem", "ca-key.pem", "coturn.pem", "coturn-key.pem"].map(|name| other.path().join("pki").join(name).display().to_string());
    // Sites of their own for what changes the others': a CA from elsewhere, a certificate from elsewhere.
    let (by_ca, by_cert) = (site(), site());
    for (site, options) in [
        (&own, &[][..]),
        (&own, &["--csr"]),
        (&own, &["phone"]),
        (&by_ca, &["--ca", &ca, "--ca-key", &key]),
        (&by_cert, &["--cert", &cert, "--key", &cert_key, "--ca", &ca, "--for", "coturn"]),
    ] {
        certs(site.path(), options).expect("made");
        let before = tree(site.path());
        assert!(before.contains_key(&site.path().join(".lock")), "the first run held the folder");
        certs(site.path(), options).expect("unchanged");
        assert_eq!(tree(site.path()), before, "{options:?}");
    }
    let site = own;
    let folder = Folder::new(site.path());
    let held = folder.hold().expect("free");
    certs(site.path(), &[]).expect("nothing is due");
    fs_err::remove_file(folder.key(Service::Coturn)).expect("removed");
    let error = certs(site.path(), &[]).expect_err("something is due").to_string();
    assert!(error.contains("at work in"), "{error}");
    drop(held);
    certs(site.path(), &[]).expect("made");
    assert!(folder.key(Service::Coturn).is_file());
}

#[test]
fn what_a_command_was_cut_off_in_is_finished_though_nothing_is_due() {
    let site = site();
    certs(site.path(), &[]).expect("made");
    let pki = site.path().join("pki");
    let next = pki.join(".next");
    fs_err::create_dir(&next).expect("made");
    look(&pki, &Wanted::of(&crate::site::load(&Folder::new(site.path())).expect("a site"))).expect("read");
    assert!(next.is_dir(), "looking leaves it");
    certs(site.path(), &[]).expect("nothing is due");
    assert!(!next.exists());
}

#[test]
fn bad_input_is_named_and_writes_nothing() {
    let other = site();
    certs(other.path(), &[]).expect("made");
    let of = |name: &str| other.path().join("pki").join(name).display().to_string();
    let (ca, leaf, key, leaf_key) = (of("ca.pem"), of("coturn.pem"), of("ca-key.pem"), of("coturn-key.pem"));
    let toml = other.path().join("site.toml").display().to_string();
    for (options, wanted) in [
        (&["--ca", &leaf, "--ca-key", &leaf_key][..], "it is no CA"),
        (&["--ca", &ca, "--ca-key", &leaf_key], "key"),
        (&["--ca", &toml, "--ca-key", &key], "site.toml"),
        (&["--ca", "none.pem", "--ca-key", &key], "none.pem"),
        (&["--ca", &ca], "--ca without --ca-key signs nothing"),
        (&["--cert", &leaf, "--key", &key, "--ca", &ca], "key"),
        (&["phone"], "the site has no certificates"),
    ] {
        let site = site();
        let error = certs(site.path(), options).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{options:?}: expected {wanted:?} in {error}");
        assert!(!site.path().join("pki").exists(), "{options:?}");
    }
    let outside = site();
    fs_err::write(outside.path().join("site.toml"), "format = 1\naddresses = [\"192.168.1.20\"]\nnames = [\"chat.example.org\"]\n")
        .expect("written");
    let error = certs(outside.path(), &["--ca", &ca, "--ca-key", &key]).expect_err("outside of the constraint").to_string();
    assert!(error.contains("chat.example.org"), "{error}");
    for (place, is_folder) in [("pki", false), ("pki/ca.pem", true), ("pki/coturn-key.pem", true)] {
        let site = site();
        let path = site.path().join(place);
        fs_err::create_dir_all(if is_folder { path.as_path() } else { site.path() }).expect("made");
        if !is_folder {
            fs_err::write(&path, "precious").expect("written");
        }
        let error = certs(site.path(), &[]).expect_err("in the way").to_string();
        assert!(error.contains(&path.display().to_string()), "{place}: {error}");
        assert_eq!((path.is_dir(), site.path().join("pki/ca-key.pem").exists()), (is_folder, false), "{place}");
    }
}
