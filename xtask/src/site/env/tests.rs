use serde_json::{Value, json};

use super::*;
use crate::site::parse;

mod article;
mod files;

/// Each value is recognisable, and none is another's part.
const SECRETS: &str = "MATTERMOST_DB_PASSWORD=p@ss/w:rd%41$#?&+\n\
                       MATTERMOST_TURN_SECRET=turn-secret-of-the-test\n\
                       MATTERMOST_AT_REST_KEY=at-rest-key-of-the-test-32-chars\n\
                       MATTERMOST_PUBLIC_LINK_SALT=salt-of-public-links-of-the-test\n\
                       MATTERMOST_ADMIN_PASSWORD=Administrators-pass-1\n\
                       MATTERMOST_JENKINS_PLUGIN_KEY=jenkins-key-of-the-test-32-chars\n\
                       MATTERMOST_GITLAB_PLUGIN_KEY=gitlab-key-of-the-test--32-chars\n\
                       MATTERMOST_GITLAB_PLUGIN_SECRET=gitlab-webhook-secret-of-the-test\n\
                       SONARQUBE_WEBHOOK_SECRET=sonarqube-secret-of-the-test\n\
                       SONARQUBE_TOKEN=squ_token-of-the-test\n\
                       GITLAB_OAUTH_ID=application-id-of-the-test\n\
                       GITLAB_OAUTH_SECRET=application-secret-of-the-test\n\
                       MATTERMOST_SMTP_PASSWORD=smtp \"pass\" of the $test\n";

const EVERYTHING: &str = r#"
    names = ["chat.cicd.local"]
    addresses = ["192.168.1.20", "fd00::20", "10.0.0.5"]
    [network]
    front = "https://chat.example.lan/"
    [jenkins]
    url = "https://jenkins.cicd.local:10400/"
    [gitlab]
    url = "https://gitlab.cicd.local:10300"
    sign-in = true
    [sonarqube]
    url = "http://192.168.1.9:9000"
    [smtp]
    host = "mail.cicd.local"
    user = "mattermost"
    from = "chat@cicd.local"
    [proxy]
    https = "http://proxy.cicd.local:3128"
    none = [".cicd.local"]
    [push]
    url = "https://push.cicd.local"
    contents = "id_loaded"
    [mattermost]
    banner = "🚀 CI/CD City: it's \"operational\""
    guests = true
    [mattermost.extra]
    MM_SERVICESETTINGS_ENABLELATEX = "false"
    MM_SERVICESETTINGS_SESSIONLENGTHWEBINHOURS = "720"
    MM_NEWSETTINGS_OFNEXTYEAR = "x"
"#;

fn site(text: &str) -> Site {
    let addresses = if text.contains("addresses") { "" } else { "addresses = [\"192.168.1.20\"]\n" };
    parse("site.toml", &format!("format = 1\n{addresses}{text}"), || unreachable!()).expect("a site")
}

fn secrets() -> Secrets {
    Secrets::parse(SECRETS, "secrets.env").expect("good secrets")
}

fn envs(text: &str) -> BTreeMap<Service, ServiceEnv> {
    environments(&site(text), &secrets()).expect("a good site")
}

fn refused(text: &str, secrets: &str) -> String {
    let secrets = Secrets::parse(secrets, "secrets.env").expect("good secrets");
    environments(&site(text), &secrets).expect_err("a mistake").to_string()
}

fn mattermost(text: &str) -> ServiceEnv {
    envs(text).remove(&Service::Mattermost).expect("always")
}

/// The value of a setting, wherever it stands.
fn value(env: &ServiceEnv, name: &str) -> Option<String> {
    let hidden = env.secret_settings().find(|(known, _)| *known == name).map(|(_, value)| value.expose().to_owned());
    hidden.or_else(|| env.settings().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()))
}

fn every_file(text: &str) -> String {
    let mut all = String::new();
    for (service, env) in envs(text) {
        let _ = writeln!(all, "==> env/{}.env <==\n{}", service.name(), env.text(service).expect("a text"));
        for (name, secret) in env.secret_files() {
            let _ = writeln!(all, "==> {}: /run/secrets/{name} <==\n{}", service.name(), secret.expose());
        }
    }
    all
}

#[test]
fn the_files_of_a_site_of_defaults() {
    insta::assert_snapshot!(every_file(""));
}

#[test]
fn the_files_of_a_site_with_everything() {
    insta::assert_snapshot!(every_file(EVERYTHING));
    insta::assert_snapshot!("with_secrets", mattermost("").with_secrets().expect("a text").expose());
}

#[test]
fn the_files_of_a_site_with_the_team_edition_and_another_database() {
    insta::assert_snapshot!(every_file(
        "edition = \"team\"\n[database]\nhost = \"db.cicd.local\"\nport = 5433\nca = \"db.pem\"\n[calls]\nenabled = false\n"
    ));
}

#[test]
fn no_secret_stands_in_a_file_of_settings_or_in_debug() {
    let secrets = secrets();
    for (service, env) in envs(EVERYTHING) {
        let (text, debug) = (env.text(service).expect("a text"), format!("{env:?}"));
        for name in Name::ALL {
            let secret = secrets.get(name).expect("set").expose();
            assert!(!text.contains(secret) && !debug.contains(secret), "{} stands in what {} shows", name.name(), service.name());
        }
        assert!(!text.contains("p%40ss"), "the encoded password is the password");
    }
}

#[test]
fn the_same_site_gives_the_same_bytes_and_an_edit_is_noticed() {
    let text = mattermost(EVERYTHING).text(Service::Mattermost).expect("a text");
    assert_eq!(mattermost(EVERYTHING).text(Service::Mattermost).expect("a text"), text);
    assert_eq!(author(&text), Author::Us);
    for edited in
        [text.replace("8444", "8445"), format!("{text}MM_X=1\n"), text.replace("sha256 of what follows: ", "sha256 of what follows: 0")]
    {
        assert_eq!(author(&edited), Author::Edited);
    }
    assert_eq!(author("MM_SERVICESETTINGS_SITEURL=x\n"), Author::Other);
}

#[test]
fn every_mistake_in_extra_is_told_at_once() {
    let text = r#"[mattermost.extra]
        MM_SERVICESETTINGS_ENABLETESTING = "yes"
        MM_SQLSETTINGS_MAXOPENCONNS = "1e3"
        MM_SERVICESETTINGS_SITEURL = "\"https://x\""
        MM_PLUGINSETTINGS_PLUGINSTATES = "{\"jenkins\":true}"
        MM_PLUGINSETTINGS_PLUGINS = "{\"jenkins\":\"hush\"}"
        MM_SQLSETTINGS_DATASOURCE = "postgres://hush"
        MM_TEAMSETTINGS_SITENAME = "costs $5"
    "#;
    let error = refused(text, SECRETS);
    for wanted in [
        "MM_SERVICESETTINGS_ENABLETESTING is not usable",
        "MM_SQLSETTINGS_MAXOPENCONNS is not usable",
        "MM_SERVICESETTINGS_SITEURL is not usable",
        "MM_PLUGINSETTINGS_PLUGINSTATES is not usable",
        "MM_PLUGINSETTINGS_PLUGINS is not usable",
        "MM_SQLSETTINGS_DATASOURCE is a secret",
        "MM_TEAMSETTINGS_SITENAME cannot stand in an environment file",
        "found a $, which Compose would replace",
    ] {
        assert!(error.contains(wanted), "expected {wanted:?} in {error}");
    }
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn what_the_edition_does_not_have_is_named_in_a_comment() {
    let extra = "[mattermost.extra]\nMM_CLUSTERSETTINGS_ENABLE = \"true\"\nMM_COMPLIANCESETTINGS_ENABLE = \"true\"\n\
                 MM_CALLS_RTCD_SERVICE_URL = \"https://rtcd.cicd.local\"\n";
    let comment = |edition: &str, extra: &str| {
        let text = mattermost(&format!("edition = \"{edition}\"\n{extra}")).text(Service::Mattermost).expect("a text");
        let after = text.lines().skip_while(|line| !line.starts_with("# Without effect")).map(str::to_owned);
        after.take_while(|line| line.starts_with("# Without effect") || line.starts_with("#   MM_")).collect::<Vec<_>>()
    };
    assert_eq!(comment("enterprise", ""), [""; 0]);
    assert_eq!(
        comment("enterprise", extra),
        [
            "# Without effect while the enterprise edition has no licence (Entry mode):",
            "#   MM_CLUSTERSETTINGS_ENABLE",
            "#   MM_COMPLIANCESETTINGS_ENABLE"
        ]
    );
    let team = comment("team", extra);
    assert!(team.len() > 6 && team.contains(&"#   MM_CALLS_RTCD_SERVICE_URL".to_owned()), "{team:?}");
}

#[test]
fn extra_takes_the_place_of_what_was_derived() {
    let env = mattermost("[mattermost.extra]\nMM_CALLS_DEFAULT_ENABLED = \"false\"\nMM_PLUGINSETTINGS_PLUGINS = '{\"x\":{}}'\n");
    assert_eq!(
        env.settings().filter(|(name, _)| *name == "MM_CALLS_DEFAULT_ENABLED").collect::<Vec<_>>(),
        [("MM_CALLS_DEFAULT_ENABLED", "false")]
    );
    assert_eq!(value(&env, "MM_PLUGINSETTINGS_PLUGINS").as_deref(), Some("{\"x\":{}}"));
    assert!(env.settings().all(|(name, _)| name != "MM_PLUGINSETTINGS_PLUGINS"));
}

#[test]
fn what_is_missing_is_told_with_where_it_comes_from() {
    let error = refused(EVERYTHING, "");
    // The server needs no administrator's password, and the gateway works without asking SonarQube.
    for name in Name::ALL.into_iter().filter(|name| !matches!(name, Name::AdministratorPassword | Name::SonarqubeToken)) {
        assert!(error.contains(name.name()), "{} is not in {error}", name.name());
    }
    let error = refused("[smtp]\nhost = \"mail\"\nuser = \"x\"\nfrom = \"a@b.c\"\n", &SECRETS.replace("MATTERMOST_SMTP_PASSWORD", "# X"));
    assert!(error.contains("hint: add the line MATTERMOST_SMTP_PASSWORD=VALUE to secrets.env"), "{error}");
    let error = refused("addresses = [\"fd00::20\"]\n", SECRETS);
    assert!(error.contains("calls need an IPv4 address"), "{error}");
}

/// What the programs in the images document at their top and refuse otherwise.
#[test]
fn the_other_services_know_every_setting_and_read_every_secret() {
    let known = [
        (Service::Coturn, include_str!("../../../../images/coturn/src/settings.rs")),
        (Service::Postgres, include_str!("../../../../images/postgres/src/settings.rs")),
        (Service::AlertGateway, include_str!("../../../../images/alert-gateway/src/settings.rs")),
    ];
    let envs = envs("");
    for (service, source) in known {
        for (name, _) in envs[&service].settings() {
            assert!(source.contains(&format!("\"{name}\"")), "{} does not know {name}", service.name());
        }
        for name in envs[&service].secret_files().keys() {
            assert!(source.contains(&format!("\"/run/secrets/{name}\"")), "{} reads no /run/secrets/{name}", service.name());
        }
    }
}

#[test]
fn json_with_dollars_is_read_alike_everywhere() {
    let mut text = SECRETS.replace("application-id-of-the-test", "id");
    text = text.replace("turn-secret-of-the-test", "another-turn-secret-of-it");
    let secrets = Secrets::parse(&text, "f").expect("good");
    let env =
        environments(&site("[jenkins]\nurl = \"https://jenkins.cicd.local/a$b\"\n"), &secrets).expect("good").remove(&Service::Mattermost);
    let plugins = value(&env.expect("always"), "MM_PLUGINSETTINGS_PLUGINS").expect("set");
    assert!(!plugins.contains('$') && env_file::wrong(&plugins).is_none(), "{plugins}");
    let plugins: Value = serde_json::from_str(&plugins).expect("JSON");
    assert_eq!(
        plugins,
        json!({ "jenkins": { "jenkinsurl": "https://jenkins.cicd.local/a$b", "encryptionkey": "jenkins-key-of-the-test-32-chars" } })
    );
}
