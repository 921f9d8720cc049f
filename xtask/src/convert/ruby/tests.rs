use super::*;

fn one(text: &str) -> Value {
    let statements = parse(text).unwrap_or_else(|broken| panic!("{text}: {broken:?}"));
    assert_eq!(statements.len(), 1, "{text}: {statements:?}");
    statements.into_iter().next().unwrap().value
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn values_are_what_ruby_makes_of_them() {
    for (written, wanted) in [
        ("'plain'", text("plain")),
        (r"'it\'s \\ \n'", text(r"it's \ \n")),
        (r#""tab\t nl\n quote\" back\\ dollar$ hash# é""#, text("tab\t nl\n quote\" back\\ dollar$ hash# é")),
        (r#""\x41\101\u0042\u{43 44}\s\e""#, text("AABCD \u{1b}")),
        ("\"two \\\nlines\"", text("two lines")),
        ("'two\nlines'", text("two\nlines")),
        (r#"'a' "b""#, text("ab")),
        ("'a' \\\n  'b'", text("ab")),
        ("%q(a (nested) 'quote')", text("a (nested) 'quote'")),
        ("%w[a b\n c]", Value::List(vec![text("a"), text("b"), text("c")])),
        (":symbol", text("symbol")),
        (":'a symbol'", text("a symbol")),
        ("true", Value::Bool(true)),
        ("nil # none", Value::Nil),
        ("1_000", Value::Number("1000".to_owned())),
        ("-5", Value::Number("-5".to_owned())),
        ("0x1F", Value::Number("31".to_owned())),
        ("0600", Value::Number("384".to_owned())),
        ("0", Value::Number("0".to_owned())),
        ("1.50", Value::Number("1.5".to_owned())),
        ("-1.0", Value::Number("-1.0".to_owned())),
        ("[1, 'a', ]", Value::List(vec![Value::Number("1".to_owned()), text("a")])),
        ("[]", Value::List(vec![])),
        ("<<EOS\none\n  two\nEOS\n", text("one\n  two\n")),
        ("<<-EOS\n  one\n  EOS\n", text("  one\n")),
        ("<<~EOS\n    one\n      two\n\n    EOS\n", text("one\n  two\n\n")),
        ("<<~'EOS'\n  one \\n #{x}\n  EOS\n", text("one \\n #{x}\n")),
        ("<<~EOS\n  a\\tb\n  EOS\n", text("a\tb\n")),
    ] {
        assert_eq!(one(&format!("a['x'] = {written}")), wanted, "{written}");
    }
}

#[test]
fn a_hash_may_be_written_in_each_way_and_over_many_lines() {
    let hash = one("a['env'] = {\n  'A' => '1', # one\n  :b => 2,\n\n  c: true,\n  'd': nil\n}");
    let Value::Hash(pairs) = hash else { panic!("{hash:?}") };
    let found: Vec<_> = pairs.into_iter().map(|pair| (pair.line, pair.key, pair.value)).collect();
    assert_eq!(
        found,
        [
            (2, text("A"), text("1")),
            (3, text("b"), Value::Number("2".to_owned())),
            (5, text("c"), Value::Bool(true)),
            (6, text("d"), Value::Nil),
        ]
    );
}

#[test]
fn two_heredocs_in_a_line_follow_each_other_and_lines_are_counted() {
    let statements = parse("a['x'] = [<<A, <<B]\none\nA\ntwo\nB\nb['y'] = 1\n").unwrap();
    assert_eq!(statements[0].value, Value::List(vec![text("one\n"), text("two\n")]));
    assert_eq!((statements[1].line, statements[1].name.as_str()), (6, "b"));
}

#[test]
fn each_way_to_set_something_is_known() {
    for (written, name, keys) in [
        ("url 'x'", "url", &[][..]),
        ("url('x')", "url", &[]),
        ("url(\n  'x'\n)", "url", &[]),
        ("a['b'] = 'x'", "a", &["b"]),
        ("a[:b] = 'x'", "a", &["b"]),
        ("a['b']['c'] = 'x';", "a", &["b", "c"]),
        ("a['b'] =\n  'x'", "a", &["b"]),
    ] {
        let statements = parse(written).unwrap();
        assert_eq!(statements.len(), 1, "{written}");
        let Statement { name: found, keys: found_keys, value, .. } = &statements[0];
        assert_eq!((found.as_str(), found_keys.iter().map(String::as_str).collect::<Vec<_>>()), (name, keys.to_vec()), "{written}");
        assert_eq!(*value, text("x"), "{written}");
    }
}

#[test]
fn what_is_not_evaluated_says_why_and_the_next_line_is_read() {
    for (written, why) in [
        (r##"a['x'] = "#{`id`}""##, INTERPOLATION),
        (r##"a['x'] = "#{h["}"]} #{"a#{b}c"}""##, INTERPOLATION),
        ("a['x'] = <<~EOS\n  #{x}\n  EOS", INTERPOLATION),
        ("a['x'] = ENV['HOME']", CALL),
        ("a['x'] = File.read('/etc/shadow').strip", CALL),
        ("a['x'] = 'y'.upcase", CALL),
        ("a['x'] = `id`", COMMAND),
        ("a['x'] = 1 + 2", COMPUTED),
        ("a['x'] = 'a' +\n 'b'", COMPUTED),
        ("a['x'] = 1 if y", CONDITION),
        ("a['x'] = if y then 1 else 2 end", CONDITION),
        ("a['x'] = y ? 1 : 2", CALL),
        ("a['x'] ||= 1", CALL),
        ("a['x'] << 1", CALL),
        ("a[b] = 1", COMPUTED),
        ("a[\"#{b}\"] = 1", COMPUTED),
        ("a['x'].merge!({ 'b' => 1 })", CALL),
        ("foo if bar", CALL),
        ("system('rm -rf /')", "a call, and nothing is run"),
        ("x.each { |y| puts y }", CALL),
        ("x = /if'/", "an assignment to a variable, which sets nothing in GitLab: there is no = in this setting"),
    ] {
        let statements = parse(&format!("{written}\nlast['one'] = 1\n")).unwrap_or_else(|broken| panic!("{written}: {broken:?}"));
        let last = statements.last().unwrap();
        assert_eq!((last.name.as_str(), last.inside, &last.value), ("last", None, &Value::Number("1".to_owned())), "{written}");
        if written != "system('rm -rf /')" {
            assert_eq!(statements[0].value, Value::Unread(why), "{written}");
        }
    }
}

#[test]
fn one_entry_that_is_not_evaluated_leaves_the_others() {
    let hash = one("a['x'] = { 'A' => ENV['B'], 'C' => [1, foo(2, 3)], 'D' => 'd' + 'e', 'F' => 'f' }");
    let Value::Hash(pairs) = hash else { panic!("{hash:?}") };
    let values: Vec<_> = pairs.into_iter().map(|pair| pair.value).collect();
    let list = Value::List(vec![Value::Number("1".to_owned()), Value::Unread(CALL)]);
    assert_eq!(values, [Value::Unread(CALL), list, Value::Unread(COMPUTED), text("f")]);
}

#[test]
fn what_stands_in_a_conditional_or_a_block_knows_its_line() {
    let statements = parse(
        "if node['x'] == 1\n  a['in'] = 1\nelse\n  a['in'] = 2\nend\n\
         x.each do |y|\n  while y do\n    a['in'] = 3\n  end\nend\n\
         case z\nwhen 1 then a['hidden'] = 1\nwhen 2\n  a['in'] = 4\nend\n\
         a['out'] = 5\ny = 1 unless z\na['out'] = 6\nfoo if bar\na['out'] = 7\n",
    )
    .unwrap();
    let found: Vec<_> = statements.iter().filter(|one| one.name == "a").map(|one| (one.keys[0].as_str(), one.inside)).collect();
    assert_eq!(found, [("in", Some(1)), ("in", Some(1)), ("in", Some(7)), ("in", Some(11)), ("out", None), ("out", None), ("out", None)]);
}

#[test]
fn what_has_no_end_is_named_with_the_line_where_it_begins() {
    for (written, line, wanted) in [
        ("\na['x'] = 'y", 2, "expected the ' that ends"),
        ("a['x'] = \"y\\", 1, "expected the \" that ends"),
        ("a['x'] = [1,\n2", 1, "expected , or the ] that ends"),
        ("a['x'] = {\n'a' => 1,\n", 1, "expected the } that ends what begins here, found the end of the file"),
        ("a['x'] = {\n'a' =", 2, "expected => behind a key, found ="),
        ("a['x'] =", 1, "expected a value"),
        ("a['x'", 1, "expected the ] that ends"),
        ("a['x'] = <<EOS\none\n", 1, "expected a line EOS"),
        ("if x\na['y'] = 1\n", 1, "expected the `end`"),
        ("end\n", 1, "expected what `end` ends"),
        ("=begin\nfoo", 1, "expected =end"),
        ("a['x'] = foo(1, [2)", 1, "expected the ] that ends what begins here, found ) in line 1"),
        ("a['x'] = \"#{foo", 1, "expected the } that ends an interpolation"),
        (&format!("a['x'] = {}", "[".repeat(100_000)), 1, "expected at most 64 brackets"),
        (&format!("a['x'] = {}", "{[".repeat(100_000)), 1, "expected"),
    ] {
        let broken = parse(written).expect_err(&written[..written.len().min(40)]);
        assert!(broken.line == line && broken.problem.contains(wanted), "{:.40}: {broken:?}", written);
    }
}

#[test]
fn comments_and_what_stands_behind_the_end_are_not_read() {
    let statements = parse("# a['x'] = 1\n=begin\na['x'] = 2\n=end\na['x'] = '#3' # 4\n__END__\na['x'] = 5 '").unwrap();
    assert_eq!(statements.len(), 1);
    assert_eq!((statements[0].line, &statements[0].value), (5, &text("#3")));
    assert_eq!(parse("\u{feff}a['x'] = 1\r\nb['y'] = 'z'\r\n").unwrap()[1].value, text("z"));
}

#[test]
fn the_time_grows_with_the_file_and_no_faster() {
    // What grows with the square of it would take minutes.
    const SIZE: usize = 300_000;
    let many = |piece: &str| piece.repeat(SIZE / piece.len());
    let start = std::time::Instant::now();
    assert_eq!(parse(&many("mattermost['a'] = 'b'\n")).unwrap().len(), SIZE / 22);
    for (hostile, fine) in [
        (many("# comment\n"), true),
        (many("a['x'] = [<<A]\nA\n"), true),
        (format!("a['x'] = [{}]\n{}", "<<A,".repeat(SIZE / 4), "A\n".repeat(SIZE / 4)), true),
        (many("foo(\"#{"), false),
        (many("["), false),
        (many("foo ("), false),
        (many("'"), true),
        (many("a['x'] = /a "), true),
        (many("if x\n"), false),
        (many("%w"), true),
        (many("\\"), true),
    ] {
        assert_eq!(parse(&hostile).is_ok(), fine, "{:.20}", hostile);
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z'\"\\[\\]{}()#=<~A\n ,:%/?.\\\\|]{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_string_is_read_as_it_was_quoted(text in "\\PC{0,20}") {
        let quoted = format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        proptest::prop_assert_eq!(one(&format!("a['x'] = {quoted}")), Value::Text(text));
    }
}
