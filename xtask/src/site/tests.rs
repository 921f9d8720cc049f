use std::net::IpAddr;

use super::*;

fn read(text: &str) -> Result<Site> {
    parse("site/site.toml", text, || Ok(vec![IpAddr::from([192, 168, 1, 20])]))
}

fn refusal(text: &str) -> String {
    read(&format!("format = 1\n{text}")).unwrap_err().to_string()
}

/// The commented file with every hash sign taken away that stands before a key or a table.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    COMMENTED.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commented_file_changes_nothing() {
    assert_eq!(read(COMMENTED).unwrap(), read("format = 1\n").unwrap());
}

#[test]
fn the_commented_file_shows_every_key_and_each_default_as_it_is() {
    let all = read(&uncommented()).unwrap();
    insta::assert_json_snapshot!(all);
    let default = read("format = 1\n").unwrap();
    assert_eq!(
        (&all.name, &all.project, &all.ports, &all.administrator),
        (&default.name, &default.project, &model::Ports { redirect_http: Some(80), ..default.ports }, &default.administrator)
    );
    assert_eq!((&all.team, &all.channels, &all.calls, &all.coturn), (&default.team, &default.channels, &default.calls, &default.coturn));
    assert_eq!((all.accounts, all.memory), (default.accounts, default.memory));
    // Every key that the reader asks for stands in the file: one that it does not know would be an error above.
    for key in ["names", "addresses", "version", "host", "join", "front", "hosts", "permit", "jenkins", "smtp", "push", "extra"] {
        assert!(uncommented().contains(key), "{key}");
    }
}

#[test]
fn every_mistake_is_named_with_its_line_at_once() {
    let text = "format = 2\nname = \"bad_name\"\naddresses = [\"127.0.0.1\", \"192.168.1.20\"]\nedtion = \"team\"\n\n[ports]\nmattermost = 0\nturn = 8444\n\n\
                [[channel]]\nname = \"X\"\n\n[jenkins]\nurl = \"https://user:password@jenkins\"\n\n[smtp]\nhost = \"mail\"\n";
    insta::assert_snapshot!(read(text).unwrap_err());
}

#[test]
fn ports_that_meet_are_refused() {
    assert!(refusal("[ports]\nturn = 8065\n").contains("line 2: ports: turn and mattermost are both 8065"));
    assert!(refusal("[ports]\nrelay = [8000, 9000]\n").contains("mattermost = 8065 lies in the relay range 8000–9000"));
    assert!(refusal("[ports]\nrelay = [49200, 49160]\n").contains("relay ends at 49160 before it begins at 49200"));
    assert!(refusal("[ports]\nrelay = [49200]\n").contains("expected the first and the last port"));
    assert!(refusal("[ports]\ncalls = 50000\n").contains("calls: expected 80 to 49151, found 50000"));
}

#[test]
fn a_tool_that_tells_a_channel_nobody_makes_is_refused() {
    let text = "[sonarqube]\nurl = \"https://sonarqube.cicd.local\"\nchannel = \"quality\"\n";
    assert!(refusal(text).contains("line 2: sonarqube: there is no [[channel]] called \"quality\""));
}

#[test]
fn values_that_the_parts_would_choke_on_are_refused() {
    let long = format!("name = \"{}.local\"", "a".repeat(300));
    for (text, word) in [
        ("name = \"chat\\nlocal\"", "U+000A"),
        ("name = \"chat$HOME\"", "expected a host name"),
        (long.as_str(), "expected a host name"),
        ("name = \"bücher.local\"", "xn--"),
        ("names = [\"mattermost.cicd.local\"]", "stands there twice"),
        ("version = \"latest\"", "expected a version such as"),
        ("[administrator]\nname = \"Root User\"", "expected 3 to 22"),
        ("[database]\nport = 5433", "database.host is missing"),
        ("[database]\nname = \"a-b\"", "lower-case letters"),
        ("[gitlab]\nprojects = [\"a/b\"]", "gitlab.url: missing"),
        ("[gitlab]\nurl = \"https://g\"\nevents = { pushes = \"builds\" }", "no event of GitLab's"),
        ("edition = \"team\"\n[gitlab]\nurl = \"https://g\"\nsign-in = true", "took it out of the team edition"),
        ("[accounts]\nmattermost = \"0:0\"", "neither of them 0"),
        ("[memory]\ncoturn = \"64\"", "with m (MiB) or g (GiB)"),
        ("[mattermost.extra]\nPATH = \"x\"", "expected a name such as MM_"),
        ("[coturn]\ncredential-minutes = 10080", "from 5 to 10079"),
        ("[push]\nurl = \"ftp://x\"", "expected http or https"),
    ] {
        let error = refusal(text);
        assert!(error.contains(word), "{text}\n{error}");
    }
}

#[test]
fn a_missing_format_is_asked_for() {
    assert!(read("name = \"chat.local\"\n").unwrap_err().to_string().contains("write format = 1 as the first line"));
}

#[test]
fn several_addresses_of_both_families_are_kept_in_order() {
    let site = read("format = 1\naddresses = [\"10.0.0.7\", \"fd00::7\"]\n").unwrap();
    assert_eq!(site.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.7", "fd00::7"]);
}

#[test]
fn what_people_open_is_the_front_where_there_is_one() {
    assert_eq!(read("format = 1\n").unwrap().url(), "https://mattermost.cicd.local:8065");
    assert_eq!(read("format = 1\n[network]\nfront = \"https://chat.example.org/\"\n").unwrap().url(), "https://chat.example.org");
}
