use super::*;

/// `name version; field: value; …` a line.
fn index(text: &str) -> BTreeMap<String, Stanza<'static>> {
    let stanza = |line: &str| {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().and_then(|head| head.split_once(' ')).expect("name and version");
        let mut text = format!("Package: {name}\nVersion: {version}\n");
        parts.for_each(|field| text.push_str(&format!("{field}\n")));
        Stanza::parse(Box::leak(text.into_boxed_str())).expect("valid")
    };
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(stanza)
        .map(|stanza| (stanza.name.clone().into_owned(), stanza))
        .collect()
}

fn request<'a>(packages: &[&'a str], without: &[&'a str]) -> Request<'a> {
    Request { group: "image", packages: packages.to_vec(), without: without.to_vec(), closed: true, before: Vec::new() }
}

fn run(main: &str, request: Request<'_>) -> Result<Vec<String>> {
    let resolution = resolve(&[("main", index(main))], &BTreeMap::new(), &[request])?;
    Ok(resolution.groups["image"].iter().cloned().collect())
}

fn pins(text: &str) -> BTreeMap<String, Candidate<'static>> {
    index(text).into_iter().map(|(name, stanza)| (name, Candidate { repository: "main", stanza })).collect()
}

#[test]
fn the_closure_follows_depends_and_pre_depends() {
    let main = "aa 1; Depends: bb (>= 1), cc\nbb 1; Pre-Depends: dd\ncc 1; Depends: aa\ndd 1\nee 1";
    assert_eq!(run(main, request(&["aa"], &[])).expect("closes"), ["aa", "bb", "cc", "dd"]);
}

#[test]
fn the_first_alternative_that_can_be_had_is_taken_but_a_chosen_one_wins() {
    let main = "aa 1; Depends: none | bb (>= 2) | cc | dd\nbb 1\ncc 1\ndd 1";
    assert_eq!(run(main, request(&["aa"], &[])).expect("closes"), ["aa", "cc"]);
    assert_eq!(run(main, request(&["aa", "dd"], &[])).expect("closes"), ["aa", "dd"]);
    let before = Request { before: vec!["dd"], ..request(&["aa"], &[]) };
    assert_eq!(run(main, before).expect("closes"), ["aa", "dd"]);
}

#[test]
fn what_is_provided_satisfies_and_versions_of_it_count() {
    let main = "aa 1; Depends: awk\nbb 1; Depends: editor (>= 2)\ngawk 1; Provides: awk; Priority: optional\nmawk 1; Provides: awk; Priority: required\n\
                ed 1; Provides: editor\nnano 1; Provides: editor (= 2.1)";
    assert_eq!(run(main, request(&["aa"], &[])).expect("closes"), ["aa", "mawk"]);
    assert_eq!(run(main, request(&["aa", "gawk"], &[])).expect("closes"), ["aa", "gawk"]);
    assert_eq!(run(main, request(&["bb"], &[])).expect("closes"), ["bb", "nano"]);
    assert_eq!(run(main, request(&["aa"], &["mawk"])).expect("closes"), ["aa"]);
}

#[test]
fn what_is_left_out_takes_its_own_dependencies_along() {
    let main = "aa 1; Depends: debconf (>= 0.5) | debconf-2.0, bb\ndebconf 1; Depends: perl; Provides: debconf-2.0\nperl 5\ncdebconf 1; Provides: debconf-2.0\nbb 1";
    assert_eq!(run(main, request(&["aa"], &["debconf"])).expect("closes"), ["aa", "bb"]);
}

#[test]
fn the_newest_of_both_repositories_is_taken_and_a_pin_wins() {
    let repositories = [("main", index("aa 1; Depends: bb\nbb 1-1\ncc 3")), ("security", index("bb 1-1+deb13u1\ncc 2"))];
    let newest = resolve(&repositories, &BTreeMap::new(), &[request(&["aa", "cc"], &[])]).expect("closes");
    let shown = |resolution: &Resolution<'_>, name: &str| {
        format!("{} {}", resolution.chosen[name].repository, resolution.chosen[name].stanza.version)
    };
    assert_eq!((shown(&newest, "bb").as_str(), shown(&newest, "cc").as_str()), ("security 1-1+deb13u1", "main 3"));
    let kept = resolve(&repositories, &pins("bb 1-1~old"), &[request(&["aa"], &[])]).expect("closes");
    assert_eq!(shown(&kept, "bb"), "main 1-1~old");
    assert!(kept.moved.is_empty());
}

#[test]
fn a_pin_moves_only_where_a_relation_needs_it() {
    let repositories = [("main", index("aa 2; Depends: bb (>= 2), cc (>= 1)\nbb 2\ncc 2"))];
    let resolution = resolve(&repositories, &pins("bb 1\ncc 1"), &[request(&["aa"], &[])]).expect("closes");
    assert_eq!(resolution.chosen["bb"].stanza.version, "2");
    assert_eq!(resolution.chosen["cc"].stanza.version, "1");
    assert_eq!(resolution.moved.into_iter().collect::<Vec<_>>(), [("bb".to_owned(), "bb (>= 2)".to_owned())]);
}

#[test]
fn a_group_that_is_not_closed_still_has_to_fit_together() {
    let repositories = [("main", index("libc6 2; Depends: libgcc\nlibc6-dev 2; Depends: libc6 (= 2), linux-libc-dev"))];
    let toolchain = Request { closed: false, ..request(&["libc6", "libc6-dev"], &[]) };
    let resolution = resolve(&repositories, &pins("libc6 1"), &[toolchain]).expect("fits");
    assert_eq!(resolution.groups["image"].iter().collect::<Vec<_>>(), ["libc6", "libc6-dev"]);
    assert_eq!(resolution.chosen["libc6"].stanza.version, "2");
}

#[test]
fn what_cannot_be_had_is_named_with_the_way_there() {
    let error = |main: &str, request: Request<'_>| run(main, request).expect_err("refused").to_string();
    insta::assert_snapshot!(error("aa 1; Depends: bb\nbb 1; Depends: cc (>= 2) | dd\ncc 1", request(&["aa"], &[])), @r"
    image: bb needs cc (>= 2) | dd
      found cc 1, no dd
      on the way aa → bb
    hint: debian.without in image.toml cuts a package off; --update moves a pin that is in the way
    ");
    insta::assert_snapshot!(error("aa 1", request(&["aaa"], &[])), @r#"
    image: no package is called "aaa"
      expected a package of trixie, component main, for amd64
    hint: apt-cache search finds names
    "#);
    insta::assert_snapshot!(error("aa 1; Depends: bb\nbb 1", request(&["aa"], &["bb", "cc", "dd"])), @r"
    debian.without names packages that nothing would bring
      images/image/image.toml: cc, dd
    hint: take them out of debian.without
    ");
    insta::assert_snapshot!(error("aa 1", request(&["aa"], &["aa"])), @r"
    image: aa is asked for and left out at once
    hint: take it from debian.packages or from debian.without of image.toml
    ");
}

proptest::proptest! {
    /// Whatever a mirror sends, the answer is a value or an error.
    #[test]
    fn no_text_makes_a_parser_panic(text in "(Package: |Version: |Depends: |Provides: |SHA256:|[ -~\\n]|[é])*") {
        let _ = packages::parse(&text).map(|all| all.values().for_each(|one| drop((one.clauses(), one.file()))));
        let _ = release::Release::parse(&text).map(|release| release.check("trixie", Some(&text), 0).is_ok());
        let _ = (depends::parse(&text).is_ok(), depends::parse_provides(&text).is_ok(), crate::mirror::parse_date(&text).is_ok());
        let _ = (crate::mirror::parse_sources(&text), crate::mirror::parse_list(&text));
    }

    /// An order that contradicts itself would make the newest version depend on the index's order.
    #[test]
    fn versions_are_in_one_order(a in "[0-9a-z.+~:-]{0,8}", b in "[0-9a-z.+~:-]{0,8}", c in "[0-9a-z.+~:-]{0,8}") {
        proptest::prop_assert_eq!(version::compare(&a, &b), version::compare(&b, &a).reverse());
        if version::compare(&a, &b).is_le() && version::compare(&b, &c).is_le() {
            proptest::prop_assert!(version::compare(&a, &c).is_le());
        }
    }
}
