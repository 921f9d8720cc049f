//! Environment files that Compose's `env_file`, `docker run --env-file` and our entrypoints read alike.
//!
//! `docker run --env-file` takes a value as it stands, to the end of the line: quotes stay, nothing is escaped. Compose does the same
//! with a value that does not begin with a quote, except that it replaces `$`, cuts at ` #`, and trims. So a value is written as it
//! stands, and one that the two would read differently is refused: there is no third form that both understand.

use std::fmt::Write as _;

use images::{Class, Error, Result};
use serde_json::Value;

/// Docker's client reads lines of less than 64 KiB (Go's `bufio.MaxScanTokenSize`).
const LONGEST: usize = 60_000;

/// Why no line can carry `value` to every reader, in words that follow "found" and do not repeat it.
pub fn wrong(value: &str) -> Option<String> {
    let space = |c: char| c.is_whitespace();
    if let Some(found) = uncarried(value) {
        Some(found)
    } else if value.starts_with(space) || value.ends_with(space) {
        Some("a space at an end, which Compose would cut off".to_owned())
    } else if value.starts_with(['"', '\'']) {
        Some("a quote at the start, which Compose would remove and Docker keep".to_owned())
    } else if value.contains('$') {
        Some("a $, which Compose would replace".to_owned())
    } else if value.contains(" #") {
        Some("a space and #, where Compose would see a comment".to_owned())
    } else {
        None
    }
}

/// Why no line at all can carry it.
fn uncarried(value: &str) -> Option<String> {
    match value.chars().find(|c| c.is_control()) {
        Some('\n' | '\r') => Some("a line break".to_owned()),
        Some('\t') => Some("a tab".to_owned()),
        Some(odd) => Some(format!("the control character U+{:04X}", u32::from(odd))),
        None => (value.len() > LONGEST).then(|| format!("{} bytes, more than the {LONGEST} that fit a line", value.len())),
    }
}

/// Whether a shell that sources the file reads the value alike too. In an assignment it replaces a tilde at the beginning and behind a
/// colon (POSIX.1-2024, Shell, 2.6.1).
pub fn is_bare(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/:@%+,=~-".contains(&byte))
        && !value.starts_with('~')
        && !value.contains(":~")
}

/// `NAME=value`, without a line break.
///
/// # Errors
/// [`Class::Usage`] with the name, and never the value, where no line can carry the value to every reader.
pub fn line(name: &str, value: &str) -> Result<String> {
    let expected = "text that Compose and `docker run --env-file` read alike: one line without $, ` #`, outer quotes and spaces";
    checked(name, value, wrong(value), expected)
}

/// `NAME=value` for `docker run --env-file` alone, which takes every character but those that end lines.
///
/// # Errors
/// As [`line`].
pub fn docker_line(name: &str, value: &str) -> Result<String> {
    checked(name, value, uncarried(value), "one line of text")
}

fn checked(name: &str, value: &str, wrong: Option<String>, expected: &str) -> Result<String> {
    match wrong {
        None => Ok(format!("{name}={value}")),
        Some(found) => Err(Error::new(Class::Usage, format!("{name} cannot stand in an environment file"))
            .detail(format!("expected {expected}"))
            .detail(format!("found {found}"))),
    }
}

/// JSON as one line that every reader of an environment file leaves alone: `$` and the `#` of a ` #` stand as `\u` escapes, which
/// only strings can hold in them.
pub fn json(value: &Value) -> String {
    value.to_string().replace('$', "\\u0024").replace(" #", " \\u0023")
}

/// Names and values in the order of the lines, comments and empty lines left out.
///
/// # Errors
/// [`Class::Usage`] for each line that holds neither; `file` is how the errors call it. No error shows a value.
pub fn read(text: &str, file: &str) -> Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut wrong = String::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some((name, value)) if is_name(name) => settings.push((name.to_owned(), value.to_owned())),
            _ => _ = write!(wrong, " {}", at + 1),
        }
    }
    match wrong.as_str() {
        "" => Ok(settings),
        lines => Err(Error::new(Class::Usage, format!("{file}: no NAME=value in line{lines}"))),
    }
}

/// Whether `name` is a variable's, in every shell.
pub fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_would_take_differently_is_refused_by_name_and_never_shown() {
        for (value, wanted) in [
            ("hush\nMM_X=1", "a line break"),
            ("hush\r", "a line break"),
            ("a\tb", "a tab"),
            ("a\0b", "U+0000"),
            (" hush", "a space at an end"),
            ("hush ", "a space at an end"),
            ("hush\u{a0}", "a space at an end"),
            ("\"hush\"", "a quote at the start"),
            ("'tis hush", "a quote at the start"),
            ("hush$HOME", "a $"),
            ("a # hush", "a space and #"),
            (&"x".repeat(60_001), "60001 bytes"),
        ] {
            let error = line("MM_NAME", value).expect_err(value).to_string();
            assert!(error.starts_with("MM_NAME cannot stand") && error.contains(wanted), "{value:?}: expected {wanted:?} in {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn what_they_read_alike_is_written_as_it_stands() {
        for value in
            ["", "#20a83b", "a#b", "🚀 CI/CD City: up", "it's \"so\"", "{\"a\":{\"Enable\":true}}", "a\\n\\", "`id`;&|<>*?[]", "x=y"]
        {
            assert_eq!(line("A", value).expect("plain"), format!("A={value}"));
            assert_eq!(read(&format!("# c\n\nA={value}\n"), "f").expect("one"), [("A".to_owned(), value.to_owned())]);
        }
        let error = read("A=1\nnonsense hush\n1B=x\n=y\nC D=z\n", "f").expect_err("four bad lines").to_string();
        assert_eq!(error, "f: no NAME=value in line 2 3 4 5");
    }

    #[test]
    fn json_goes_through_whatever_its_strings_hold() {
        for text in ["plain", "$HOME ${X} $$", "a # b", "\\$", "\\ #", "line\nbreak\ttab", "\"quoted\"", "ü 🚀", " # "] {
            let value = serde_json::json!({ text: [text] });
            let written = json(&value);
            assert_eq!(wrong(&written), None, "{text:?} as {written}");
            assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), value);
        }
    }

    #[test]
    fn bare_is_what_a_shell_leaves_alone() {
        assert!(["", "A-z0.9_/:@%+,=x", "a~b"].iter().all(|value| is_bare(value)));
        assert!(["~", "~root", "a:~", ":~root:", "a b", "a#", "a;b", "ü", "a$", "a*", "{a,b}"].iter().all(|value| !is_bare(value)));
    }
}
