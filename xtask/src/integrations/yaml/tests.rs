use super::*;

const PATH: [&str; 2] = ["unclassified", "mattermostNotifier"];
const VALUES: [(&str, &str); 3] = [("endpoint", "${HOOK}"), ("room", "builds"), ("buildServerUrl", "https://j.test/")];
const OURS: &str = "  mattermostNotifier:\n    endpoint: \"${HOOK}\"\n    room: \"builds\"\n    buildServerUrl: \"https://j.test/\"\n";

fn edited(text: &str) -> String {
    let new = set(text, "jenkins.yaml", &PATH, &VALUES).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(set(&new, "jenkins.yaml", &PATH, &VALUES).unwrap(), new, "a second time changes nothing");
    new
}

fn refused(text: &str) -> String {
    let error = set(text, "jenkins.yaml", &PATH, &VALUES).expect_err(text);
    assert_eq!(error.class(), Class::Usage);
    error.to_string()
}

#[test]
fn what_is_missing_is_added_and_nothing_else_is_touched() {
    for (before, expected) in [
        ("", format!("unclassified:\n{OURS}")),
        ("# only a comment\n", format!("# only a comment\nunclassified:\n{OURS}")),
        ("---\njenkins:\n  mode: NORMAL\n", format!("---\njenkins:\n  mode: NORMAL\nunclassified:\n{OURS}")),
        ("jenkins:\n  mode: NORMAL", format!("jenkins:\n  mode: NORMAL\nunclassified:\n{OURS}")),
        ("jenkins: {mode: NORMAL}\n...\n", format!("jenkins: {{mode: NORMAL}}\nunclassified:\n{OURS}...\n")),
        ("unclassified:\n", format!("unclassified:\n{OURS}")),
        ("unclassified: # all of it\njenkins: {}\n", format!("unclassified: # all of it\n{OURS}jenkins: {{}}\n")),
        ("unclassified:\n  # where\n  location:\n    url: x\n", format!("unclassified:\n  # where\n{OURS}  location:\n    url: x\n")),
        ("unclassified:\n  mattermostNotifier:\n  location: {}\n", format!("unclassified:\n{OURS}  location: {{}}\n")),
    ] {
        assert_eq!(edited(before), expected, "{before:?}");
    }
}

#[test]
fn comments_order_anchors_line_ends_and_foreign_keys_stay() {
    let before = "# Jenkins, as we like it\r\njenkins: &j   # the core\r\n  systemMessage: |\r\n    unclassified:\r\n      not: ours\r\n  ü: \"\\u00e9 # no comment\"\r\n\r\n\
                  unclassified:   &u\r\n    location: *j\r\n    # mattermost\r\n    mattermostNotifier:   # old\r\n        icon: 'https://i.test/x.png' # stays\r\n        \
                  room: engineering@builds\r\n        buildServerUrl: 'https://old.test/'   # ours\r\n\r\n# the end\r\ntool: {git: {installations: [{name: git}]}}\r\n";
    let after = edited(before);
    let expected = before
        .replace("        icon", "        endpoint: \"${HOOK}\"\r\n        icon")
        .replace("room: engineering@builds", "room: \"builds\"")
        .replace("'https://old.test/'", "\"https://j.test/\"");
    assert_eq!(after, expected);
}

#[test]
fn a_value_that_is_right_in_another_style_is_not_written_again() {
    let text = "unclassified:\n  mattermostNotifier: {}\n";
    assert!(refused(text).contains("in braces"));
    let text = "unclassified:\n  mattermostNotifier:\n    endpoint: ${HOOK}\n    room: 'builds'\n    buildServerUrl: https://j.test/\n";
    assert_eq!(edited(text), text);
    let empty = "unclassified:\n  mattermostNotifier:\n    endpoint:   # none\n    room:\n    buildServerUrl: https://j.test/\n";
    assert!(edited(empty).contains("    endpoint: \"${HOOK}\"   # none\n    room: \"builds\"\n"), "{}", edited(empty));
}

#[test]
fn what_cannot_be_edited_is_refused_with_the_reason() {
    for (text, reason) in [
        ("- a\n- list\n", "the document is no mapping"),
        ("just text\n", "the document is no mapping"),
        ("{jenkins: {}, unclassified: {}}\n", "the document is written in braces"),
        ("jenkins: {}\n---\nunclassified: {}\n", "2 documents"),
        ("a: &x {b: c}\nunclassified: *x\n", "unclassified is an alias"),
        ("unclassified: {location: {}}\n", "unclassified is written in braces"),
        ("unclassified: text\n", "unclassified is no mapping"),
        ("unclassified:\n  - a\n", "unclassified is no mapping"),
        ("unclassified:\n  mattermostNotifier: [a]\n", "unclassified.mattermostNotifier is no mapping"),
        ("unclassified:\n  mattermostNotifier:\n    room: |\n      builds\n", "room is no plain value"),
        ("unclassified:\n  mattermostNotifier:\n    room: &r old\n", "room is no plain value"),
        ("unclassified:\n  mattermostNotifier:\n    room: {a: b}\n", "room is no plain value"),
        ("unclassified:\n  a: b\nunclassified:\n  c: d\n", "twice"),
        ("unclassified:\n\tlocation: {}\n", "a tab stands there"),
        ("unclassified:\n  a: [b\n", "is not YAML"),
        ("a: *missing\n", "is not YAML"),
    ] {
        let said = refused(text);
        assert!(said.starts_with("jenkins.yaml is not changed") && said.contains(reason), "{text:?}: expected {reason:?} in {said}");
    }
}

#[test]
fn a_refusal_says_what_to_write_by_hand() {
    assert!(refused("unclassified: {}\n").contains("unclassified:\n  mattermostNotifier:\n    endpoint: \"${HOOK}\""));
}

#[test]
fn a_tab_in_a_comment_or_behind_a_value_is_no_indentation() {
    let before = "jenkins:\t# core\n  mode: NORMAL\t# a tab\n";
    assert_eq!(edited(before), format!("{before}unclassified:\n{OURS}"));
}

#[test]
fn a_value_is_read_by_its_path() {
    let text = "unclassified:\n  mattermostNotifier:\n    room: \"builds\"\n    port: 1\n";
    assert_eq!(scalar(text, &["unclassified", "mattermostNotifier", "room"]).as_deref(), Some("builds"));
    for path in [["unclassified", "mattermostNotifier", "icon"], ["unclassified", "other", "room"]] {
        assert_eq!(scalar(text, &path), None);
    }
}

#[test]
fn a_quoted_value_ends_at_its_quote() {
    for (text, end) in [("'it''s' # x", 7), ("\"a\\\"b\" # x", 6), ("plain  ", 5), ("\"ü\"", 4), ("''", 2)] {
        assert_eq!(written(text), end, "{text}");
    }
}
