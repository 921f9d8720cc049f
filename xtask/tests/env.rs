//! `cargo xtask env`, as people call it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use xtask::machine::Machine;
use xtask::process::{Outcome, Process};
use xtask::site::Folder;
use xtask::workspace::Workspace;

struct Site {
    root: tempfile::TempDir,
}

impl Site {
    fn new(toml: &str) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        fs_err::create_dir(root.path().join("site")).expect("made");
        let site = Site { root };
        fs_err::write(site.path("site.toml"), format!("format = 1\naddresses = [\"192.168.1.20\"]\n{toml}")).expect("written");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("site").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).expect("a text")
    }

    fn run(&self, options: &[&str]) -> Outcome {
        env(self.root.path(), &[&["--site", "site"], options].concat())
    }

    fn good(&self, options: &[&str]) -> String {
        let outcome = self.run(options);
        assert!(outcome.success(), "{options:?}: {}", said(&outcome));
        said(&outcome)
    }

    /// The exit code, and what was said.
    fn bad(&self, options: &[&str]) -> (Option<i32>, String) {
        let outcome = self.run(options);
        assert!(!outcome.success(), "{options:?} went well: {}", said(&outcome));
        (outcome.status.code(), said(&outcome))
    }

    fn secret(&self, name: &str) -> String {
        let text = self.text("secrets.env");
        text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).expect(name).to_owned()
    }
}

fn env(folder: &Path, options: &[&str]) -> Outcome {
    let process = Process::new(env!("CARGO_BIN_EXE_xtask"), folder).arg("env").args(options);
    process.env("NO_COLOR", "1").env_remove("CHATOPS_SITE").outcome().expect("it starts")
}

fn said(outcome: &Outcome) -> String {
    format!("{}{}", String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr))
}

/// Every file with its time and text, the lock and the folders too.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in fs_err::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let time = entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
        if entry.path().is_dir() {
            files.extend(tree(&entry.path()));
            files.insert(entry.path(), (time, Vec::new()));
        } else {
            files.insert(entry.path(), (time, fs_err::read(entry.path()).expect("readable")));
        }
    }
    files
}

#[test]
fn the_second_run_writes_nothing_and_both_are_quick() {
    let site = Site::new("");
    let start = Instant::now();
    let said = site.good(&[]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for file in ["secrets.env", "env/mattermost.env", "env/coturn.env", "env/postgres.env", "env/alert-gateway.env"] {
        assert!(said.contains(&format!("site/{file}  written")), "{file} is not in {said}");
    }
    assert_eq!(fs_err::metadata(site.path("secrets.env")).expect("there").permissions().mode() & 0o777, 0o600);
    let before = tree(site.root.path());
    assert_eq!(site.good(&[]), "site is up to date\n");
    site.good(&["--check"]);
    assert_eq!(site.good(&["--diff"]), "");
    assert!(tree(site.root.path()) == before, "something was touched");
    fs_err::write(site.root.path().join("cicd.env"), "MATTERMOST_TURN_SECRET=0011223344556677\n").expect("written");
    for options in [&["--import", "cicd.env", "--force"][..], &["--with-secrets"], &["--init"]] {
        site.good(options);
        let before = tree(site.root.path());
        site.good(options);
        assert!(tree(site.root.path()) == before, "{options:?} touched something");
    }
}

#[test]
fn what_was_made_from_the_rest_is_made_again() {
    let site = Site::new("");
    site.good(&[]);
    let texts = || tree(&site.path("")).into_iter().map(|(path, (_, text))| (path, text)).collect::<BTreeMap<_, _>>();
    let before = texts();
    fs_err::remove_dir_all(site.path("env")).expect("removed");
    fs_err::remove_file(site.path(".lock")).expect("removed");
    site.good(&[]);
    assert!(texts() == before, "another site");
}

#[test]
fn check_and_diff_tell_what_differs_and_write_nothing() {
    let site = Site::new("");
    let (code, said) = site.bad(&["--check"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("site/secrets.env: missing") && said.contains("hint: `cargo xtask env` mends it"), "{said}");
    assert_eq!(tree(site.root.path()).len(), 2, "--check made something");
    site.good(&[]);
    fs_err::write(site.path("site.toml"), "format = 1\naddresses = [\"192.168.1.21\"]\n").expect("written");
    let (_, said) = site.bad(&["--check"]);
    assert!(said.contains("env/coturn.env: out of date") && !said.contains("postgres"), "{said}");
    let said = site.good(&["--diff"]);
    for line in ["--- a/env/coturn.env", "+++ b/env/coturn.env", "-COTURN_LISTENING_IP=192.168.1.20", "+COTURN_LISTENING_IP=192.168.1.21"] {
        assert!(said.lines().any(|found| found == line), "{line} is not in {said}");
    }
    site.good(&[]);
    site.good(&["--check"]);
}

#[test]
fn a_secret_that_somebody_wrote_into_the_settings_is_not_shown() {
    let site = Site::new("");
    site.good(&[]);
    let text = site.text("env/mattermost.env");
    let added = "MM_SQLSETTINGS_DATASOURCE=postgres://hush\nMATTERMOST_TURN_SECRET=hush\nANYTHING=hush\nexport X=hush\nMM_PLUGINSETTINGS_PLUGINS=hush\n";
    fs_err::write(site.path("env/mattermost.env"), format!("{text}{added}")).expect("written");
    let said = site.good(&["--diff"]);
    assert!(said.contains("-MM_SQLSETTINGS_DATASOURCE=…") && said.contains("-ANYTHING=…") && !said.contains("hush"), "{said}");
    let (code, said) = site.bad(&[]);
    assert!(code == Some(1) && said.contains("somebody has written in files") && said.contains("--force"), "{said}");
    site.good(&["--force"]);
    assert_eq!(site.text("env/mattermost.env"), text);
    assert!(site.text("env/mattermost.env.old-1").ends_with(added));
    assert_eq!(fs_err::metadata(site.path("env/mattermost.env.old-1")).expect("kept").permissions().mode() & 0o777, 0o600);
}

#[test]
fn rotating_replaces_one_secret_and_says_what_has_to_happen() {
    let site = Site::new("");
    site.good(&[]);
    fs_err::write(site.path("secrets.env"), format!("# mine\nOTHER=x\n{}", site.text("secrets.env"))).expect("written");
    let before = site.text("secrets.env");
    let old = site.secret("MATTERMOST_GITLAB_PLUGIN_KEY");
    let said = site.good(&["--rotate", "MATTERMOST_GITLAB_PLUGIN_KEY"]);
    let new = site.secret("MATTERMOST_GITLAB_PLUGIN_KEY");
    assert!(old != new && new.len() == 32, "not rotated");
    assert!(site.text("secrets.env") == before.replace(&old, &new), "another line changed");
    assert!(
        said.contains("restart mattermost") && said.contains("/gitlab connect") && !said.contains(&new) && !said.contains(&old),
        "{said}"
    );
    for (name, wanted) in [
        ("MATTERMOST_TURN_SECRTE", "did you mean MATTERMOST_TURN_SECRET?"),
        ("$X\n", "expected one of: MATTERMOST_DB_PASSWORD"),
        ("GITLAB_OAUTH_SECRET", "comes from elsewhere"),
    ] {
        let (code, said) = site.bad(&["--rotate", name]);
        assert!(code == Some(2) && said.contains(wanted), "expected {wanted:?} in {said}");
    }
    let external = Site::new("[database]\nhost = \"db.cicd.local\"\n");
    fs_err::write(external.path("secrets.env"), "MATTERMOST_DB_PASSWORD=given-by-somebody\n").expect("written");
    fs_err::set_permissions(external.path("secrets.env"), std::fs::Permissions::from_mode(0o600)).expect("set");
    assert!(external.bad(&["--rotate", "MATTERMOST_DB_PASSWORD"]).1.contains("comes from elsewhere"));
}

#[test]
fn the_articles_file_is_taken_over() {
    let site = Site::new("");
    let file = site.root.path().join("cicd.env");
    let turn = "0011223344556677".repeat(4);
    fs_err::write(
        &file,
        format!("MATTERMOST_DB_PASSWORD='p@ss$word'\nMATTERMOST_TURN_SECRET=\"{turn}\"\nGITLAB_API_TOKEN=x\nX=$(touch ran)\n"),
    )
    .expect("written");
    let said = site.good(&["--import", "cicd.env"]);
    assert!(said.contains("MATTERMOST_TURN_SECRET taken") && said.contains("GITLAB_API_TOKEN, X") && !said.contains("p@ss"), "{said}");
    assert_eq!((site.secret("MATTERMOST_DB_PASSWORD").as_str(), site.secret("MATTERMOST_TURN_SECRET")), ("p@ss$word", turn.clone()));
    assert_eq!(site.secret("MATTERMOST_AT_REST_KEY").len(), 32, "what the file lacks is generated");
    assert!(!site.root.path().join("ran").exists(), "the file was run");
    let before = site.text("secrets.env");
    site.good(&["--import", "cicd.env"]);
    fs_err::write(&file, format!("MATTERMOST_TURN_SECRET={turn}00\n")).expect("written");
    let (code, said) = site.bad(&["--import", "cicd.env"]);
    assert!(
        code == Some(1) && said.contains("MATTERMOST_TURN_SECRET") && !said.contains(&turn) && site.text("secrets.env") == before,
        "{said}"
    );
    site.good(&["--import", "cicd.env", "--force"]);
    assert_eq!((site.secret("MATTERMOST_TURN_SECRET"), site.text("secrets.env.old-1")), (format!("{turn}00"), before));
    assert!(site.bad(&["--import", "none.env"]).1.contains("none.env"));
}

#[test]
fn a_file_may_hold_what_the_site_waits_for() {
    let site = Site::new("[database]\nhost = \"db.cicd.local\"\n");
    let (code, said) = site.bad(&[]);
    assert!(code == Some(2) && said.contains("secrets.env does not hold MATTERMOST_DB_PASSWORD"), "{said}");
    fs_err::write(site.root.path().join("cicd.env"), "MATTERMOST_DB_PASSWORD=given-by-somebody\n").expect("written");
    site.good(&["--import", "cicd.env"]);
    assert_eq!(site.secret("MATTERMOST_DB_PASSWORD"), "given-by-somebody");
}

#[test]
fn init_writes_a_commented_file_only_where_there_is_none() {
    let root = tempfile::tempdir().expect("a folder");
    assert!(env(root.path(), &["--init"]).success());
    let path = root.path().join("site/site.toml");
    assert_eq!(fs_err::read_to_string(&path).expect("written"), xtask::site::COMMENTED);
    fs_err::write(&path, "format = 1 # mine\n").expect("written");
    let outcome = env(root.path(), &["--init"]);
    assert!(outcome.success() && said(&outcome).contains("stays as it is"), "{}", said(&outcome));
    assert_eq!(fs_err::read_to_string(&path).expect("there"), "format = 1 # mine\n");
}

#[test]
fn two_runs_at_once_are_one_after_the_other() {
    let site = Site::new("");
    let held = Folder::new(&site.path("")).hold().expect("free");
    let (code, said) = site.bad(&[]);
    assert!(code == Some(1) && said.contains("is at work in site"), "{said}");
    drop(held);
    site.good(&[]);
}

/// A program of the images, built beside ours: cargo builds those of other packages for their own tests only.
fn program(name: &str) -> PathBuf {
    let workspace = Workspace::find().expect("a checkout");
    let cargo = Machine::of(&workspace).process("cargo").args(["build", "--quiet", "--package", name]);
    cargo.capture().expect("it builds");
    Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name(name)
}

#[test]
fn the_programs_in_the_images_take_what_is_written() {
    let tools = "[jenkins]\nurl = \"https://jenkins.cicd.local\"\n[gitlab]\nurl = \"https://gitlab.cicd.local\"\n";
    let own = "[mattermost]\nbanner = 'it is 🚀#\"up\"'\n[mattermost.extra]\nMM_NEWSETTINGS_X = \"1\"\n";
    let site = Site::new(&format!("{tools}{own}"));
    site.good(&["--with-secrets"]);
    for (name, command, file) in
        [("mattermost-entrypoint", "check", "mattermost-with-secrets.env"), ("coturn-entrypoint", "config", "coturn.env")]
    {
        let program = program(name);
        let settings = xtask::site::env_file::read(&site.text(&format!("env/{file}")), file).expect("settings");
        assert!(settings.len() > 8);
        let process = settings.iter().fold(Process::new(program, "/"), |process, (name, value)| process.env(name, value));
        let outcome = process.clone().arg(command).outcome().expect("it starts");
        assert!(outcome.success(), "{name}: {}", said(&outcome));
        let outcome = process.arg(command).env("MM_NONSENSE", "1").env("COTURN_NONSENSE", "1").outcome().expect("it starts");
        assert!(!outcome.success(), "{name} takes anything");
    }
}

#[test]
fn bad_input_is_named() {
    let long = "x".repeat(300);
    let banner = |text: &str| format!("[mattermost]\nbanner = {text}\n");
    for (toml, wanted) in [
        (format!("name = \"{long}.local\"\n"), "name"),
        (banner("\"costs $5\""), "MM_ANNOUNCEMENTSETTINGS_BANNERTEXT cannot stand in an environment file"),
        (banner("'\"quoted\"'"), "MM_ANNOUNCEMENTSETTINGS_BANNERTEXT"),
        (banner("\"two\\nlines\""), "mattermost.banner"),
        (banner("\"ends in a blank \""), "mattermost.banner"),
        ("name = \"bücher.local\"\n".to_owned(), "name"),
        ("[mattermost.extra]\nMM_SERVICESETTINGS_ENABLETESTING = \"maybe\"\n".to_owned(), "MM_SERVICESETTINGS_ENABLETESTING is not usable"),
    ] {
        let site = Site::new(&toml);
        let (code, said) = site.bad(&[]);
        assert!(code == Some(2) && said.contains(wanted), "expected {wanted:?} in {said}");
        assert_eq!(tree(site.root.path()).len(), 2, "{toml}: something was written");
    }
    Site::new(&banner("\"Ünïcödé 🚀, it's \\\"so\\\"\"")).good(&[]);
    let outcome = env(Path::new("/"), &["--site", &format!("/tmp/{long}")]);
    assert!(!outcome.success() && said(&outcome).contains(&long), "{}", said(&outcome));
    // A folder that nobody can write in, root neither.
    let outcome = env(Path::new("/"), &["--site", "/sys/site"]);
    assert!(!outcome.success() && said(&outcome).contains("/sys/site"), "{}", said(&outcome));
}

#[test]
fn secrets_that_others_can_read_are_refused_with_the_command_that_mends_it() {
    let site = Site::new("");
    site.good(&[]);
    fs_err::set_permissions(site.path("secrets.env"), std::fs::Permissions::from_mode(0o644)).expect("set");
    let (code, said) = site.bad(&[]);
    assert!(code == Some(2) && said.contains("`chmod 600 site/secrets.env`"), "{said}");
}

#[test]
fn the_help_says_what_it_does() {
    let outcome = env(Path::new("/"), &["--help"]);
    insta::assert_snapshot!(said(&outcome));
}
