//! Other people's text inside a Mattermost message: shown as it is, and without effect.

/// The longest that one name or value may be; a message beyond 16,383 characters is split by the server.
const LONGEST: usize = 200;

/// `text` on one line, so that it formats nothing, links nowhere, and notifies nobody.
///
/// `<`, `>` and `&` become entities, as the Slack format that Mattermost reads has them (`<!channel>`, `<url|text>`). A mention is
/// broken by a zero-width space: the server finds mentions in the plain text, where a backslash does not help.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in cut(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("@\u{200b}"),
            // A colon starts an emoji or ends a URL's scheme, which would become a link.
            ':' => out.push_str(":\u{200b}"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '!' | '|' | '~' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            // Marks that turn the direction of what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    out
}

/// `text` as a code span, in which nothing has an effect but its end. Mentions inside code are none.
pub fn code(text: &str) -> String {
    let inner: String = cut(text).chars().map(|c| if c == '`' || c.is_control() { ' ' } else { c }).collect();
    if inner.trim().is_empty() { "` `".to_owned() } else { format!("`{inner}`") }
}

/// An address as a link's target; none where it is no web address, so that `javascript:` and the like go nowhere.
pub fn link(url: &str) -> Option<&str> {
    let web = url.starts_with("https://") || url.starts_with("http://");
    (web && url.len() <= 2048 && !url.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | '"'))).then_some(url)
}

/// At most [`LONGEST`] characters, with an ellipsis where something is missing.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_has_no_effect() {
        for (text, expected) in [
            ("Proj Bad é <b>", "Proj Bad é &lt;b&gt;"),
            ("@channel <!channel>", "@\u{200b}channel &lt;\\!channel&gt;"),
            ("[x](https://a)", "\\[x\\]\\(https:\u{200b}//a\\)"),
            ("a\nb\t`*_~", "a b \\`\\*\\_\\~"),
            ("\u{202e}x", "x"),
        ] {
            assert_eq!(plain(text), expected);
        }
        assert_eq!(code("a`b\nc"), "`a b c`");
        assert_eq!(code("`"), "` `");
        assert_eq!(plain(&"x".repeat(500)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn only_web_addresses_become_links() {
        assert_eq!(link("https://s/dashboard?id=a&b=c"), Some("https://s/dashboard?id=a&b=c"));
        for bad in ["javascript:alert(1)", "", "https://a b", "ftp://x", "https://a\nb", "https://a>b"] {
            assert_eq!(link(bad), None, "{bad}");
        }
    }
}
