use images::Class;

use super::*;

/// What a build of the tracker's JSON looks like, cut down to what a test needs.
const TRACKER: &str = r#"{
    "coturn": {
        "CVE-2026-27624": {"description": "mapped addresses pass the ACL", "scope": "remote", "releases": {
            "trixie": {"status": "open", "repositories": {"trixie": "4.6.1-2"}, "urgency": "not yet assigned"}}},
        "CVE-2020-26262": {"releases": {"trixie": {"status": "resolved", "fixed_version": "4.5.2-1", "urgency": "medium"}}}
    },
    "e2fsprogs": {"CVE-2030-1": {"releases": {"trixie": {"status": "resolved", "fixed_version": "1.47.2-3+deb13u1", "urgency": "low"}}}},
    "glibc": {"CVE-2010-4756": {"releases": {"trixie": {"status": "open", "urgency": "unimportant"}}}},
    "nobody": {"CVE-2030-2": {"releases": {"trixie": {"status": "open", "urgency": "high"}}}},
    "zlib": {"CVE-2030-3": {"releases": {"trixie": {"status": "resolved", "fixed_version": "0", "urgency": "low"}}}}
}"#;

const STATEMENT: &str = r#"{"vulnerability": {"name": "CVE-2026-27624"}, "products": [{"@id": "pkg:oci/coturn",
    "subcomponents": [{"@id": "pkg:deb/debian/coturn@4.6.1-2"}]}], "status": "not_affected", "justification": "inline_mitigations_already_exist"}"#;

fn vex(statements: &[&str]) -> Result<Vex> {
    let text = format!(r#"{{"@context": "https://openvex.dev/ns/v0.2.0", "statements": [{}]}}"#, statements.join(","));
    Vex::parse(text.as_bytes(), "vex.json")
}

fn lock(packages: &[(&str, &str, &str)]) -> Lock {
    let artefacts: Vec<_> = packages
        .iter()
        .map(|(name, source, version)| {
            let source = if source == name { serde_json::Value::Null } else { (*source).into() };
            serde_json::json!({"name": name, "version": version, "architecture": "amd64", "kind": "deb", "source": source,
                "from": {"repository": "main", "path": "pool/x.deb"}})
        })
        .collect();
    let names: Vec<&str> = packages.iter().map(|(name, ..)| *name).collect();
    let lock = serde_json::json!({"format": 1, "debian": {"suite": "trixie", "architecture": "amd64", "indexes": {}},
        "groups": {"coturn": {"requests": names, "without": [], "packages": names}}, "artefacts": artefacts, "scripts": []});
    Lock::parse(&lock.to_string(), "lock").unwrap()
}

const PINNED: [(&str, &str, &str); 4] = [
    ("coturn", "coturn", "4.6.1-2"),
    ("libc6", "glibc", "2.41-12"),
    ("libcom-err2", "e2fsprogs", "1.47.2-3+b12"),
    ("zlib1g", "zlib", "1:1.3.1-1"),
];

fn held(text: &str, vex: &Vex) -> Result<Vec<(String, Verdict, Option<String>)>> {
    let lock = lock(&PINNED);
    let crates = BTreeMap::from([(
        "coturn-entrypoint".to_owned(),
        vec![Crate { name: "fs-err".to_owned(), version: "3.3.2".to_owned(), sha256: None }],
    )]);
    let found = Pinned::of(&lock, &crates).hold(&Advisories::parse(text.as_bytes(), "file")?, vex)?;
    Ok(found.into_iter().map(|finding| (finding.id, finding.verdict, finding.fixed)).collect())
}

#[test]
fn the_trackers_open_holes_are_found_and_mended_ones_are_not() {
    let found = held(TRACKER, &Vex::default()).unwrap();
    let fixed = Some("1.47.2-3+deb13u1".to_owned());
    assert_eq!(
        found,
        [
            ("CVE-2010-4756".to_owned(), Verdict::Unimportant, None),
            ("CVE-2026-27624".to_owned(), Verdict::Unexplained, None),
            // Compiled again is still the old source.
            ("CVE-2030-1".to_owned(), Verdict::Unexplained, fixed),
        ]
    );
}

#[test]
fn a_statement_explains_the_version_that_it_is_about_and_no_other() {
    let explained = |statement: &str| {
        let found = held(TRACKER, &vex(&[statement]).unwrap()).unwrap();
        found.into_iter().find(|(id, ..)| id == "CVE-2026-27624").unwrap().1
    };
    assert_eq!(explained(STATEMENT), Verdict::Explained("not affected: inline mitigations already exist".to_owned()));
    assert_eq!(explained(&STATEMENT.replace("4.6.1-2", "4.6.1-1")), Verdict::Unexplained);
    assert!(matches!(explained(&STATEMENT.replace("@4.6.1-2", "")), Verdict::Explained(_)));
    let admitted = STATEMENT.replace("\"not_affected\"", "\"under_investigation\"");
    assert!(matches!(explained(&admitted), Verdict::Admitted(_)) && !explained(&admitted).is_settled());
    // The last word counts.
    let both = vex(&[STATEMENT, &admitted]).unwrap();
    assert!(held(TRACKER, &both).unwrap().iter().any(|(_, verdict, _)| matches!(verdict, Verdict::Admitted(_))));
    let old = vex(&[&STATEMENT.replace("4.6.1-2", "4.5.0-1")]).unwrap();
    assert_eq!(Pinned::of(&lock(&PINNED), &BTreeMap::new()).stale(&old), ["CVE-2026-27624"]);
}

#[test]
fn osv_records_are_held_by_release_version_and_alias() {
    let record = |ecosystem: &str, name: &str, events: &str| {
        format!(
            r#"{{"id": "DEBIAN-CVE-2026-27624", "upstream": ["CVE-2026-27624"], "affected": [{{"package": {{"ecosystem": "{ecosystem}",
            "name": "{name}"}}, "ranges": [{{"type": "ECOSYSTEM", "events": [{events}]}}]}}]}}"#
        )
    };
    let open = r#"{"introduced": "0"}"#;
    let found = |text: &str| held(text, &Vex::default()).unwrap().len();
    assert_eq!(found(&record("Debian:13", "coturn", open)), 1);
    assert_eq!(found(&record("Debian:13", "coturn", r#"{"introduced": "0"}, {"fixed": "4.6.1-2"}"#)), 0);
    assert_eq!(found(&record("Debian:13", "coturn", r#"{"introduced": "0"}, {"fixed": "4.6.1-2+deb13u1"}"#)), 1);
    assert_eq!(found(&record("Debian:13", "coturn", r#"{"introduced": "0"}, {"last_affected": "4.6.0-1"}"#)), 0);
    assert_eq!(found(&record("crates.io", "fs-err", r#"{"introduced": "0.0.0-0"}, {"fixed": "3.4.0"}"#)), 1);
    assert_eq!(found(&record("crates.io", "fs-err", r#"{"introduced": "0.0.0-0"}, {"fixed": "3.3.2-rc.1"}"#)), 0);
    assert_eq!(found(&format!("[{}]", record("Debian:13", "coturn", open))), 1);
    assert_eq!(found(&format!(r#"{{"vulns": [{}]}}"#, record("Debian:13", "coturn", open))), 1);
    assert_eq!(
        found(&record("Debian:13", "coturn", open).replace("\"upstream\"", "\"withdrawn\": \"2026-01-01T00:00:00Z\", \"upstream\"")),
        0
    );
    let explained = held(&record("Debian:13", "coturn", open), &vex(&[STATEMENT]).unwrap()).unwrap();
    assert!(explained[0].1.is_settled(), "by the other name: {explained:?}");
}

#[test]
fn go_modules_of_the_release_are_held_against_osv_with_the_library_of_go_itself() {
    let within = |version: &str, at: &str| BTreeMap::from([(version.to_owned(), BTreeSet::from([at.to_owned()]))]);
    let modules = BTreeMap::from([
        ("golang.org/x/net".to_owned(), within("v0.30.1-0.20250101000000-abcdef012345", "chatops/mattermost:11.7.9")),
        ("stdlib".to_owned(), within("1.24.4", "com.mattermost.calls 1.11.4")),
    ]);
    let (lock, crates) = (lock(&PINNED), BTreeMap::new());
    let record = |name: &str, fixed: &str| {
        format!(
            r#"{{"id": "GO-2026-1", "aliases": ["CVE-2026-1"], "affected": [{{"package": {{"ecosystem": "Go", "name": "{name}"}},
            "ranges": [{{"type": "SEMVER", "events": [{{"introduced": "0"}}, {{"fixed": "{fixed}"}}]}}]}}]}}"#
        )
    };
    let held = |text: &str, vex: &Vex| {
        let advisories = Advisories::parse(text.as_bytes(), "file").unwrap();
        assert!(advisories.are_about_go());
        Pinned::of(&lock, &crates).with_modules(&modules).hold(&advisories, vex).unwrap()
    };
    let nothing = Vex::default();
    for (name, fixed, count) in
        [("golang.org/x/net", "0.33.0", 1), ("golang.org/x/net", "0.30.0", 0), ("golang.org/x/crypto", "9.0.0", 0), ("stdlib", "1.24.5", 1)]
    {
        assert_eq!(held(&record(name, fixed), &nothing).len(), count, "{name} {fixed}");
    }
    let found = held(&record("stdlib", "1.24.5"), &nothing);
    assert_eq!(found[0].within, BTreeSet::from(["com.mattermost.calls 1.11.4".to_owned()]));
    let statement = STATEMENT.replace("CVE-2026-27624", "CVE-2026-1").replace("pkg:deb/debian/coturn@4.6.1-2", "pkg:golang/stdlib@1.24.4");
    let statements = vex(&[&statement]).unwrap();
    assert!(held(&record("stdlib", "1.24.5"), &statements)[0].verdict.is_settled());
    let pinned = Pinned::of(&lock, &crates);
    assert_eq!(pinned.stale(&statements), [""; 0], "without an image nobody knows");
    let old = vex(&[&statement.replace("1.24.4", "1.23.0")]).unwrap();
    assert_eq!(pinned.with_modules(&modules).stale(&old), ["CVE-2026-1"]);
}

#[test]
fn files_that_would_find_nothing_are_refused() {
    let refused = |text: &str| {
        let error = held(text, &Vex::default()).unwrap_err();
        assert_eq!(error.class(), Class::Usage);
        error.to_string()
    };
    assert!(refused(&TRACKER[..200]).contains("it is no JSON: EOF"), "{}", refused(&TRACKER[..200]));
    assert!(refused("{}").contains("it names no package"));
    assert!(refused("[]").contains("it has no record"));
    assert!(refused("[1]").contains("as OSV"));
    assert!(refused(&TRACKER.replace("trixie", "bookworm")).contains("say nothing about trixie"));
    let other = r#"{"id": "X", "affected": [{"package": {"ecosystem": "Debian:12", "name": "coturn"}}]}"#;
    assert!(refused(other).contains("say nothing about Debian 13, crates or Go modules"));
    assert!(refused(&TRACKER.replace("\"open\"", "\"mystery\"")).contains("found    \"mystery\""));
}

#[test]
fn statements_that_say_too_little_are_all_told() {
    let broken = [
        STATEMENT.replace(", \"justification\": \"inline_mitigations_already_exist\"", ""),
        STATEMENT.replace("inline_mitigations_already_exist", "trust_me"),
        STATEMENT.replace("pkg:deb/debian/coturn", "coturn"),
        STATEMENT.replace("\"not_affected\"", "\"affected\""),
    ];
    let error = vex(&broken.each_ref().map(String::as_str)).unwrap_err().to_string();
    for wanted in [
        "statement 1 (CVE-2026-27624): not_affected needs",
        "statement 2 (CVE-2026-27624): \"trust_me\" is none of",
        "statement 3",
        "statement 4 (CVE-2026-27624): affected needs",
    ] {
        assert!(error.contains(wanted), "no \"{wanted}\" in {error}");
    }
    assert!(vex(&[&STATEMENT.replace("not_affected", "fine")]).unwrap_err().to_string().contains("unknown variant `fine`"));
}

#[test]
fn the_statements_of_this_repository_are_about_what_it_pins() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let lock = Lock::parse(&fs_err::read_to_string(root.join("images/lock.json")).unwrap(), "images/lock.json").unwrap();
    let vex = Vex::parse(&fs_err::read(root.join("images/vex.json")).unwrap(), "images/vex.json").unwrap();
    let crates = BTreeMap::new();
    let pinned = Pinned::of(&lock, &crates);
    assert_eq!(pinned.stale(&vex), [""; 0]);
    let found = pinned.hold(&Advisories::parse(TRACKER.as_bytes(), "tracker").unwrap(), &vex).unwrap();
    assert!(found.iter().any(|finding| finding.id == "CVE-2026-27624" && finding.verdict.is_settled()), "{found:?}");
}
