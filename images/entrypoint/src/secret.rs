//! Secrets from files: one value a file, or `KEY=VALUE` lines. Modes are checked, values are never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{Error, Result};

/// A file of secrets is small; anything else is a mistake.
const LIMIT: u64 = 64 * 1024;

/// A secret value. Its `Debug` form says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a file that holds one secret: its first line, which has to be its only one, of printable ASCII without spaces and
/// at least `least` characters.
///
/// # Errors
/// [`crate::Class::Settings`] where the file is missing, open to others, or holds anything else. No error shows the value.
pub fn read_value(file: &Path, least: usize) -> Result<Secret> {
    let text = read(file)?;
    let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    let wrong = |found: String| {
        Error::settings(format!("{} does not hold a usable secret", file.display()))
            .detail(format!("expected one line of {least} or more printable ASCII characters without spaces and quotes"))
            .detail(format!("found {found}"))
    };
    if let Some(odd) = value.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '\'')) {
        return Err(wrong(match odd {
            '\n' | '\r' => "several lines".to_owned(),
            ' ' | '\t' => "a space".to_owned(),
            '"' | '\'' => "a quote; the value is taken as it stands, unquoted".to_owned(),
            _ => "another character".to_owned(),
        }));
    }
    match value.len() {
        length if length < least => Err(wrong(format!("{length} characters"))),
        _ => Ok(Secret::new(value)),
    }
}

/// Reads a file of `KEY=VALUE` lines. Values are taken verbatim to the end of the line; empty lines and lines that start with `#`
/// are skipped.
///
/// # Errors
/// [`crate::Class::Settings`] for a file that is missing or open to others, a line without `=`, a name that is no variable's,
/// a name that stands there twice, and a value in quotes. No error shows a value.
pub fn read_pairs(file: &Path) -> Result<BTreeMap<String, Secret>> {
    let text = read(file)?;
    let mut pairs = BTreeMap::new();
    let mut wrong = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let mut refuse = |what: String| {
            wrong.push(Error::settings(format!("{} line {}: {what}", file.display(), at + 1)).detail("expected NAME=value, unquoted"));
        };
        match line.split_once('=') {
            Some((name, value)) if is_name(name) => {
                if is_quoted(value) {
                    refuse(format!("the value of {name} is in quotes, which would be taken as part of it"));
                } else if pairs.insert(name.to_owned(), Secret::new(value)).is_some() {
                    refuse(format!("{name} stands there twice"));
                }
            }
            Some(_) => refuse("what stands before the = is not the name of a variable".to_owned()),
            None => refuse("there is no =".to_owned()),
        }
    }
    Error::all(wrong)?;
    Ok(pairs)
}

/// Whether a value starts and ends with the same quote: the mark of an environment file that was written for a shell.
pub fn is_quoted(value: &str) -> bool {
    ['"', '\''].iter().any(|quote| value.len() >= 2 && value.starts_with(*quote) && value.ends_with(*quote))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Checks that the files which the settings `cert` and `key` name hold a certificate and an unencrypted private key in PEM, and that
/// nobody else can read the key. Services find out late or, as coturn, do without TLS.
///
/// # Errors
/// [`crate::Class::Settings`] with the setting's name.
pub fn check_tls_pair((cert, cert_file): (&str, &Path), (key, key_file): (&str, &Path)) -> Result<()> {
    let named = |setting: &str, error: Error| Error::settings(format!("{setting} is not usable")).detail(error.to_string());
    let holds = |setting: &str, path: &Path, ends: &str| {
        let text = fs_err::read_to_string(path).map_err(|error| named(setting, error.into()))?;
        match text.lines().any(|line| line.starts_with("-----BEGIN ") && line.ends_with(ends) && !line.contains("ENCRYPTED")) {
            true => Ok(()),
            false => Err(Error::settings(format!("{setting} is not usable"))
                .detail(format!("expected PEM with \"{ends}\", not encrypted"))
                .detail(format!("found {} without it", path.display()))),
        }
    };
    holds(cert, cert_file, "CERTIFICATE-----")?;
    open(key_file).map_err(|error| named(key, error))?;
    holds(key, key_file, "PRIVATE KEY-----")
}

fn read(path: &Path) -> Result<String> {
    let file = open(path)?;
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(|error| Error::settings(error.to_string()))?;
    if text.len() as u64 > LIMIT {
        return Err(Error::settings(format!("{} is larger than {LIMIT} bytes", path.display())));
    }
    Ok(text)
}

fn open(path: &Path) -> Result<fs_err::File> {
    let usable = |error: std::io::Error| Error::settings(error.to_string());
    // The open file is asked, not the path, so that what is checked is what is read.
    let file = fs_err::File::open(path).map_err(usable)?;
    let metadata = file.metadata().map_err(usable)?;
    if !metadata.is_file() {
        return Err(Error::settings(format!("{} is not a file", path.display())));
    }
    if !closed_to_others(metadata.mode(), metadata.uid()) {
        return Err(Error::settings(format!("{} is open to others", path.display()))
            .detail("expected mode 0400 or 0600, or 0440 or 0640 where root owns it")
            .detail(format!("found mode {:04o}, owner {}", metadata.mode() & 0o7777, metadata.uid())));
    }
    Ok(file)
}

/// Nobody but the owner may read; a group may where root gave the file to it, as PostgreSQL has it for its key.
pub fn closed_to_others(mode: u32, owner: u32) -> bool {
    mode & 0o077 == 0 || (owner == 0 && mode & 0o037 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::Class;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs_err::write(file.path(), text).expect("written");
        fs_err::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("set");
        file
    }

    #[test]
    fn a_secret_is_one_line_taken_as_it_stands() {
        for text in ["abc=/+#$x", "abc=/+#$x\n", "abc=/+#$x\r\n"] {
            assert_eq!(read_value(file(text, 0o400).path(), 9).map(|secret| secret.expose().to_owned()), Ok("abc=/+#$x".to_owned()));
        }
        for (text, wanted) in [
            ("", "found 0 characters"),
            ("short\n", "found 5 characters"),
            ("two words and more", "found a space"),
            ("two\nlines\n", "found several lines"),
            ("\"quoted-value\"", "found a quote"),
            ("umlaut-ü-and-more", "found another character"),
        ] {
            let error = read_value(file(text, 0o400).path(), 9).expect_err(text);
            assert!(error.to_string().ends_with(wanted) || error.to_string().contains(wanted), "expected {wanted:?} in {error}");
            assert_eq!(error.class(), Class::Settings);
            assert!(text.is_empty() || !error.to_string().contains(text.trim_end()), "the secret stands in {error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for (mode, owner, expected) in [
            (0o400, 7, true),
            (0o600, 0, true),
            (0o440, 7, false),
            (0o640, 0, true),
            (0o660, 0, false),
            (0o444, 0, false),
            (0o604, 7, false),
        ] {
            assert_eq!(closed_to_others(mode, owner), expected, "{mode:o} {owner}");
        }
        let error = read_value(file("a-good-long-secret", 0o644).path(), 9).expect_err("world readable").to_string();
        assert!(error.contains("is open to others") && error.contains("found mode 0644"), "{error}");
        assert!(read_pairs(file("A=b", 0o644).path()).is_err());
        let folder = tempfile::tempdir().expect("a folder");
        assert!(read_value(folder.path(), 9).expect_err("a folder").to_string().contains("is not a file"));
        let error = read_value(&folder.path().join("none"), 9).expect_err("missing");
        assert!(error.class() == Class::Settings && error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn pairs_are_verbatim_and_every_bad_line_is_told() {
        let pairs = read_pairs(file("# c\n\nA=x y=z \nB=\n", 0o600).path()).expect("good");
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(pairs, [("A", "x y=z "), ("B", "")]);
        let error = read_pairs(file("A=1\nA=2\nnonsense\n1B=x\nC=\"q\"\n", 0o600).path()).expect_err("four bad lines").to_string();
        for wanted in
            ["line 2: A stands there twice", "line 3: there is no =", "line 4: what stands", "line 5: the value of C is in quotes"]
        {
            assert!(error.contains(wanted), "expected {wanted:?} in {error}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "Secret(…)");
    }
}
