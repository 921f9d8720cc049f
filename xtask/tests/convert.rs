//! `cargo xtask convert`, as people call it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use xtask::process::{Outcome, Process};

struct Place(tempfile::TempDir);

impl Place {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        let place = Place(tempfile::tempdir().expect("a folder"));
        fs_err::write(place.path(name), text).expect("written");
        // So that no machine's own address is asked for.
        fs_err::create_dir(place.path("none")).expect("made");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).expect("a text")
    }

    fn run(&self, options: &[&str]) -> Outcome {
        let process = Process::new(env!("CARGO_BIN_EXE_xtask"), self.0.path()).arg("convert").args(options);
        process.env("NO_COLOR", "1").env_remove("CHATOPS_SITE").outcome().expect("it starts")
    }

    /// Standard output and standard error.
    fn good(&self, options: &[&str]) -> (String, String) {
        let outcome = self.run(options);
        let said = String::from_utf8(outcome.stderr.clone()).expect("text");
        assert!(outcome.success(), "{options:?}: {said}");
        (String::from_utf8(outcome.stdout).expect("text"), said)
    }

    fn bad(&self, options: &[&str]) -> (Option<i32>, String) {
        let outcome = self.run(options);
        assert!(!outcome.success(), "{options:?} went well");
        (outcome.status.code(), String::from_utf8(outcome.stderr).expect("text"))
    }
}

/// An address that is GitLab's and Mattermost's: no address of this machine is needed.
const GITLAB_RB: &str = "mattermost_external_url 'https://192.168.1.20'\nmattermost['email_smtp_server'] = 'mail.example.com'\n\
    mattermost['email_feedback_email'] = 'chat@example.com'\nmattermost['ldap_bind_password'] = 'hush-hush'\n\
    mattermost['team_site_name'] = 'Chat'\nmattermost['webrtc_enable'] = true\n";

#[test]
fn a_site_is_written_whole_and_a_second_time_changes_nothing() {
    let place = Place::new("gitlab.rb", GITLAB_RB);
    let (lines, said) = place.good(&["gitlab-rb", "gitlab.rb"]);
    for file in ["site.toml", "secrets.env", "env/mattermost.env"] {
        assert!(lines.contains(&format!("site/{file}  written")), "{file} is not in {lines}");
    }
    assert!(said.contains("line 6, mattermost['webrtc_enable']: dropped: "), "{said}");
    assert!(said.contains("gitlab.rb: 4 applied, 1 mapped, 1 dropped"), "{said}");
    assert!(place.text("site/env/mattermost.env").contains("\nMM_TEAMSETTINGS_SITENAME=Chat\n"));
    assert!(place.text("site/env/mattermost.env").contains("#   MM_LDAPSETTINGS_BINDPASSWORD\n"), "it reaches the container");
    assert!(place.text("site/secrets.env").contains("\nMM_LDAPSETTINGS_BINDPASSWORD=hush-hush\n"));
    assert_eq!(fs_err::metadata(place.path("site/secrets.env")).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(!format!("{lines}{said}{}{}", place.text("site/site.toml"), place.text("site/env/mattermost.env")).contains("hush-hush"));
    let (lines, _) = place.good(&["gitlab-rb", "gitlab.rb"]);
    assert_eq!(lines, "", "nothing has changed");
}

#[test]
fn a_site_that_is_there_is_not_written_over_without_a_word() {
    let place = Place::new("gitlab.rb", GITLAB_RB);
    fs_err::create_dir(place.path("site")).expect("made");
    fs_err::write(place.path("site/site.toml"), "format = 1\n# mine\n").expect("written");
    let (code, said) = place.bad(&["gitlab-rb", "gitlab.rb"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("site/site.toml is there already, and says something else; nothing was changed"), "{said}");
    assert!(!place.path("site/secrets.env").exists());
    place.good(&["gitlab-rb", "gitlab.rb", "--force"]);
    assert_eq!(place.text("site/site.toml.old-1"), "format = 1\n# mine\n");
    fs_err::write(place.path("gitlab.rb"), GITLAB_RB.replace("hush-hush", "hush-more")).expect("written");
    let (code, said) = place.bad(&["gitlab-rb", "gitlab.rb"]);
    assert!(code == Some(1) && said.contains("another MM_LDAPSETTINGS_BINDPASSWORD") && !said.contains("hush-more"), "{said}");
    place.good(&["gitlab-rb", "gitlab.rb", "--force"]);
    assert!(place.text("site/secrets.env").contains("hush-more") && place.text("site/secrets.env.old-1").contains("hush-hush"));
}

#[test]
fn the_report_is_all_that_standard_output_has() {
    let place = Place::new("gitlab.rb", GITLAB_RB);
    let (markdown, _) = place.good(&["gitlab-rb", "gitlab.rb", "--report", "markdown", "--dry-run"]);
    insta::assert_snapshot!(markdown);
    assert!(!place.path("site").exists(), "a dry run writes nothing");
    let (json, _) = place.good(&["gitlab-rb", "gitlab.rb", "--report", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON alone");
    assert_eq!(report["settings"][5]["outcome"], "dropped");
    assert_eq!((&report["format"], &report["settings"][5]["line"]), (&1.into(), &6.into()));
    assert!(place.path("site/site.toml").exists());
}

#[test]
fn a_config_json_becomes_a_site_too() {
    let config = r#"{"ServiceSettings":{"SiteURL":"https://192.168.1.20"},"LdapSettings":{"BindPassword":"hush-hush"}}"#;
    let place = Place::new("config.json", config);
    let (_, said) = place.good(&["config-json", "config.json"]);
    assert!(said.contains("config.json: 1 applied, 1 mapped, 0 dropped"), "{said}");
    assert!(place.text("site/secrets.env").contains("\nMM_LDAPSETTINGS_BINDPASSWORD=hush-hush\n"));
}

#[test]
fn what_cannot_be_read_writes_nothing() {
    for (text, wanted) in [
        (b"mattermost['uid'] = 1234\nmattermost['gitlab_secret'] = 'hush".to_vec(), "line 2: expected the ' that ends"),
        (b"a = 1\nb = \xff\n".to_vec(), "found other bytes than UTF-8 in line 2"),
        (b"mattermost['env'] = {\n".repeat(500_000), "expected"),
        (vec![b'#'; 17 << 20], "found more than 16 MiB"),
        (vec![b'['; 10 << 20], "expected the ] that ends what begins here"),
    ] {
        let place = Place::new("gitlab.rb", text);
        let (code, said) = place.bad(&["gitlab-rb", "gitlab.rb"]);
        assert!(code == Some(2) && said.contains(wanted) && !said.contains("hush"), "expected {wanted:?} in {said}");
        assert!(!place.path("site").exists());
    }
    let place = Place::new("x", "");
    for (file, wanted) in [("none", "no file"), ("/dev/zero", "no file"), ("missing", "missing")] {
        let (code, said) = place.bad(&["gitlab-rb", file]);
        assert!(code == Some(2) && said.contains(wanted), "{file}: {said}");
    }
}

#[test]
fn nothing_in_the_file_is_run_and_no_other_file_is_read() {
    let place = Place::new("other", "mattermost['team_site_name'] = 'stolen'\n");
    let folder = place.0.path().display();
    let hostile = format!(
        "`touch {folder}/ran`\nsystem('touch {folder}/ran')\nFile.write('{folder}/ran', '')\nfrom_file '{folder}/other'\n\
         eval(File.read('{folder}/other'))\nmattermost['team_site_name'] = \"#{{`touch {folder}/ran`}}\"\n\
         mattermost['support_email'] = File.read('{folder}/other')\nmattermost_external_url 'https://192.168.1.20'\n"
    );
    fs_err::write(place.path("gitlab.rb"), hostile).expect("written");
    let (_, said) = place.good(&["gitlab-rb", "gitlab.rb"]);
    assert!(!place.path("ran").exists());
    assert!(!place.text("site/site.toml").contains("stolen"));
    for line in 1..=7 {
        assert!(said.contains(&format!("line {line}, ")), "line {line} is not in {said}");
    }
}
