//! Writing: old or new, never a mix; what stands in the way is named.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::site::Folder;
use crate::site::env::files::{Difference, Step, changes, combined, steps};

const CHANGED: &str = "[ports]\ncalls = 8555\nturn = 3555\nalert-gateway = 9555\n[database]\nrole = \"other\"\n";

fn wanted(folder: &Folder, text: &str) -> Vec<Step> {
    let changes = changes(folder, &secrets(), &envs(text), true).expect("readable");
    steps(&changes, false).expect("nobody's edits")
}

fn tree(root: &Path) -> BTreeMap<String, (String, u32)> {
    let mut files = BTreeMap::new();
    for folder in [root.to_owned(), root.join("env")] {
        for entry in fs_err::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry")) {
            if entry.path().is_file() {
                let mode = entry.metadata().expect("there").permissions().mode() & 0o777;
                let text = fs_err::read_to_string(entry.path()).expect("a text");
                files.insert(entry.path().strip_prefix(root).expect("in it").display().to_string(), (text, mode));
            }
        }
    }
    files
}

#[test]
fn a_run_that_ends_after_any_step_leaves_each_file_old_or_new_and_the_next_one_finishes() {
    let begin = |text: &str| {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(root.path());
        wanted(&folder, text).iter().try_for_each(Step::take).expect("written");
        (root, folder)
    };
    let (old, new) = (tree(begin("").0.path()), tree(begin(CHANGED).0.path()));
    assert!(old.keys().eq(new.keys()) && old.len() == 6, "{:?}", old.keys());
    let count = wanted(&begin("").1, CHANGED).len();
    assert_eq!(count, 5, "all but the secrets change");
    for taken in 0..=count {
        let (root, folder) = begin("");
        wanted(&folder, CHANGED).iter().take(taken).try_for_each(Step::take).expect("written");
        let now = tree(root.path());
        assert!(now.iter().all(|(name, file)| *file == old[name] || *file == new[name]), "a mix after {taken} steps");
        wanted(&folder, CHANGED).iter().try_for_each(Step::take).expect("written");
        assert_eq!(tree(root.path()), new);
        assert_eq!(wanted(&folder, CHANGED), []);
    }
    assert!(old.iter().all(|(name, (_, mode))| *mode == if name.contains("secrets") { 0o600 } else { 0o644 }), "{old:?}");
}

#[test]
fn edits_are_noticed_kept_and_written_over_with_force_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    wanted(&folder, "").iter().try_for_each(Step::take).expect("written");
    let path = folder.env(Service::Coturn);
    for edit in 1..=2 {
        fs_err::write(&path, format!("edit {edit}")).expect("written");
        let changes = changes(&folder, &secrets(), &envs(""), false).expect("readable");
        assert_eq!(changes.iter().map(|change| change.difference).collect::<Vec<_>>(), [Difference::Edited]);
        let error = steps(&changes, false).expect_err("not without --force").to_string();
        assert!(error.contains("coturn.env") && error.contains("nothing was changed") && error.contains("--force"), "{error}");
        steps(&changes, true).expect("forced").iter().try_for_each(Step::take).expect("written");
        assert_eq!(fs_err::read_to_string(root.path().join(format!("env/coturn.env.old-{edit}"))).expect("kept"), format!("edit {edit}"));
    }
    assert_eq!(wanted(&folder, ""), []);
}

#[test]
fn what_a_site_has_no_more_goes_away_unless_somebody_wrote_in_it() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    wanted(&folder, "").iter().try_for_each(Step::take).expect("written");
    let external = "[database]\nhost = \"db.cicd.local\"\n";
    let changes = |text| changes(&folder, &secrets(), &envs(text), false).expect("readable");
    let of = |path: &Path| changes(external).into_iter().find(|change| change.path == path).map(|change| change.difference);
    let path = folder.env(Service::Postgres);
    assert_eq!(of(&path), Some(Difference::Leftover));
    fs_err::write(&path, "mine").expect("written");
    assert_eq!(of(&path), Some(Difference::Edited));
    steps(&changes(external), true).expect("forced").iter().try_for_each(Step::take).expect("written");
    assert!(!path.exists() && root.path().join("env/postgres.env.old-1").is_file());
}

#[test]
fn the_combined_file_is_closed_and_kept_up_to_date() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    wanted(&folder, "").iter().try_for_each(Step::take).expect("written");
    let path = combined(&folder);
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
    let differences = |text| {
        changes(&folder, &secrets(), &envs(text), false).expect("readable").into_iter().map(|change| (change.path, change.difference))
    };
    assert!(differences("").eq([(path.clone(), Difference::Open)]));
    assert!(differences(CHANGED).any(|(changed, _)| changed == path), "a stale copy of secrets stays behind");
    wanted(&folder, "").iter().try_for_each(Step::take).expect("written");
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
            .and_then(|changes| steps(&changes, true))
            .and_then(|steps| steps.iter().try_for_each(Step::take))
            .expect_err(place)
            .to_string();
        assert!(error.contains(&path.display().to_string()), "{place} as a {what}: {error}");
        assert!(fs_err::symlink_metadata(&path).is_ok());
    }
}
