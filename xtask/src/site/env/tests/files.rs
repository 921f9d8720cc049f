//! Writing: all old or all new, never a mix; what stands in the way is named.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::site::Folder;
use crate::site::env::files::{Difference, changes, combined, entries};
use crate::site::journal::Entry;
use crate::site::journal::tests::{contents, cut_off_everywhere};

const CHANGED: &str = "[ports]\ncalls = 8555\nturn = 3555\nalert-gateway = 9555\n[database]\nrole = \"other\"\n";

fn wanted(folder: &Folder, text: &str) -> Vec<Entry> {
    let changes = changes(folder, &secrets(), &envs(text), true).expect("readable");
    entries(folder, &changes, false).expect("nobody's edits")
}

/// Brings the folder to what `text` says.
fn write(folder: &Folder, text: &str) {
    folder.journal().change(&wanted(folder, text)).expect("written");
}

#[test]
fn secrets_and_settings_change_together_wherever_the_change_is_cut_off() {
    let begin = || {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(root.path());
        write(&folder, "");
        let secrets = Secrets::parse(&SECRETS.replace("turn-secret-of-the-test", "another-turn-secret-of-it"), "f").expect("good");
        let envs = environments(&site(CHANGED), &secrets).expect("a good site");
        let changes = changes(&folder, &secrets, &envs, true).expect("readable");
        let entries = entries(&folder, &changes, false).expect("nobody's edits");
        (root, folder.journal(), entries)
    };
    assert_eq!(begin().2.len(), 6, "all of them change");
    assert_eq!(cut_off_everywhere(&begin), (15, 8));
    let (_root, journal, _) = begin();
    for (name, (_, mode)) in contents(journal.folder()) {
        assert_eq!(mode, if name.contains("secrets") { 0o600 } else { 0o644 }, "{name}");
    }
}

#[test]
fn the_next_command_finishes_what_was_cut_off_and_whoever_reads_before_it_sees_the_new_secrets() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    write(&folder, "");
    let cut_off = |name: &str, text: &str| {
        let path = root.path().join(name).join("comes/secrets.env");
        fs_err::create_dir_all(path.parent().expect("in one")).expect("made");
        fs_err::write(&path, text).expect("written");
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    };
    let new = SECRETS.replace("turn-secret-of-the-test", "another-turn-secret-of-it");
    let read = || Secrets::read(root.path()).expect("readable").expect("there").require(Name::TurnSecret).expect("there").clone();
    cut_off(".next", &new);
    assert_eq!(read().expose(), "turn-secret-of-the-test", "it has not happened");
    cut_off(".ready", &new);
    assert_eq!(read().expose(), "another-turn-secret-of-it", "it has happened");
    drop(folder.hold().expect("free"));
    assert_eq!(read().expose(), "another-turn-secret-of-it");
    assert!(!folder.journal().in_between());
}

#[test]
fn edits_are_noticed_kept_and_written_over_with_force_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    write(&folder, "");
    let path = folder.env(Service::Coturn);
    for edit in 1..=2 {
        fs_err::write(&path, format!("edit {edit}")).expect("written");
        let changes = changes(&folder, &secrets(), &envs(""), false).expect("readable");
        assert_eq!(changes.iter().map(|change| change.difference).collect::<Vec<_>>(), [Difference::Edited]);
        let error = entries(&folder, &changes, false).expect_err("not without --force").to_string();
        assert!(error.contains("coturn.env") && error.contains("nothing was changed") && error.contains("--force"), "{error}");
        folder.journal().change(&entries(&folder, &changes, true).expect("forced")).expect("written");
        assert_eq!(fs_err::read_to_string(root.path().join(format!("env/coturn.env.old-{edit}"))).expect("kept"), format!("edit {edit}"));
    }
    assert_eq!(wanted(&folder, ""), []);
}

#[test]
fn what_a_site_has_no_more_goes_away_unless_somebody_wrote_in_it() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    write(&folder, "");
    let external = "[database]\nhost = \"db.cicd.local\"\n";
    let changes = |text| changes(&folder, &secrets(), &envs(text), false).expect("readable");
    let of = |path: &Path| changes(external).into_iter().find(|change| change.path == path).map(|change| change.difference);
    let path = folder.env(Service::Postgres);
    assert_eq!(of(&path), Some(Difference::Leftover));
    fs_err::write(&path, "mine").expect("written");
    assert_eq!(of(&path), Some(Difference::Edited));
    folder.journal().change(&entries(&folder, &changes(external), true).expect("forced")).expect("written");
    assert!(!path.exists() && root.path().join("env/postgres.env.old-1").is_file());
}

#[test]
fn the_combined_file_is_closed_and_kept_up_to_date() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    write(&folder, "");
    let path = combined(&folder);
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
    let differences = |text| {
        changes(&folder, &secrets(), &envs(text), false).expect("readable").into_iter().map(|change| (change.path, change.difference))
    };
    assert!(differences("").eq([(path.clone(), Difference::Open)]));
    assert!(differences(CHANGED).any(|(changed, _)| changed == path), "a stale copy of secrets stays behind");
    write(&folder, "");
    assert_eq!(fs_err::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_stands_in_the_way_is_named_and_stays() {
    for (place, what) in [("secrets.env", "folder"), ("env/coturn.env", "folder"), ("env/coturn.env", "link"), ("env", "file")] {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(root.path());
        let path = root.path().join(place);
        fs_err::create_dir_all(path.parent().expect("in one")).expect("made");
        match what {
            "folder" => fs_err::create_dir(&path).expect("made"),
            "link" => fs_err::os::unix::fs::symlink("/etc/passwd", &path).expect("linked"),
            _ => fs_err::write(&path, "precious").expect("written"),
        }
        let error = changes(&folder, &secrets(), &envs(""), false)
            .and_then(|changes| entries(&folder, &changes, true))
            .and_then(|entries| folder.journal().change(&entries))
            .expect_err(place)
            .to_string();
        assert!(error.contains(&path.display().to_string()), "{place} as a {what}: {error}");
        assert!(fs_err::symlink_metadata(&path).is_ok());
    }
}
