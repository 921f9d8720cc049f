use super::*;

fn load(variables: &[(&str, &str)]) -> (tempfile::TempDir, Result<Settings, String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings::load(folder.path(), variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    (folder, settings)
}

#[test]
fn what_the_real_server_swallows_is_swallowed_and_yet_shown_as_set() {
    let (_folder, settings) = load(&[
        ("MM_NONSENSE_AT_ALL", "1"),
        ("MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS", "\"false\""),
        ("MM_SERVICESETTINGS_MAXIMUMLOGINATTEMPTS", "ten"),
        ("MM_PLUGINSETTINGS_PLUGINS", "{not json"),
        ("MM_PLUGINSETTINGS_PLUGINSTATES", "'{}'"),
        ("MM_CALLS_TURN_STATIC_AUTH_SECRET", "hush"),
    ]);
    let settings = settings.expect("it starts");
    assert!(settings.is("ServiceSettings", "EnableIncomingWebhooks"));
    assert_eq!(settings.number("ServiceSettings", "MaximumLoginAttempts"), 10);
    assert_eq!(settings.get()["PluginSettings"]["Plugins"], json!({}));
    assert_eq!(settings.get()["PluginSettings"]["PluginStates"]["com.mattermost.calls"]["Enable"], true, "the dangerous default");
    let shown = settings.environment();
    assert_eq!(shown["ServiceSettings"]["EnableIncomingWebhooks"], true);
    assert_eq!(shown.as_object().map(Map::len), Some(2), "{shown}");
}

#[test]
fn what_the_environment_decides_cannot_be_changed_and_is_not_written() {
    let (folder, settings) = load(&[("MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS", "true"), ("MM_TEAMSETTINGS_SITENAME", "Ours")]);
    let settings = settings.expect("it starts");
    let mut wanted = settings.get();
    wanted["ServiceSettings"]["EnableIncomingWebhooks"] = false.into();
    wanted["ServiceSettings"]["EnableBotAccountCreation"] = true.into();
    settings.set(&wanted).expect("taken without a word");
    assert!(settings.is("ServiceSettings", "EnableIncomingWebhooks"));
    let file: Value = serde_json::from_str(&fs_err::read_to_string(folder.path().join("config.json")).expect("written")).expect("JSON");
    assert_eq!(file["ServiceSettings"]["EnableBotAccountCreation"], true);
    assert_eq!(file["TeamSettings"]["SiteName"], "Mattermost");
}

#[test]
fn loud_failures_have_the_servers_words() {
    for (name, value, words) in [
        ("MM_SERVICESETTINGS_SITEURL", "\"https://chat.test\"", "Site URL must be a valid URL"),
        ("MM_SERVICESETTINGS_CONNECTIONSECURITY", "tls", "Invalid value for webserver connection security."),
        ("MM_SERVICESETTINGS_CONNECTIONSECURITY", "TLS", "Invalid value for TLS certificate file"),
        ("MM_SQLSETTINGS_ATRESTENCRYPTKEY", "31 characters are one too few..", "32 chars or more"),
    ] {
        let error = load(&[(name, value)]).1.err().expect(name);
        assert!(error.contains(words), "{name}: {error}");
    }
    for length in [0, 32, 64] {
        assert!(load(&[("MM_SQLSETTINGS_ATRESTENCRYPTKEY", &"x".repeat(length))]).1.is_ok(), "{length}");
    }
}

#[test]
fn secrets_are_masked_but_not_those_of_plugins() {
    let (_folder, settings) = load(&[
        ("MM_SQLSETTINGS_DATASOURCE", "postgres://mm:hush@db/mm"),
        ("MM_PLUGINSETTINGS_PLUGINS", r#"{"jenkins":{"encryptionkey":"open"}}"#),
    ]);
    let shown = masked(settings.expect("it starts").get()).to_string();
    assert!(!shown.contains("hush") && shown.contains("open"), "{shown}");
}
