//! Typed settings from the environment, with errors that name variable, expectation and finding.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::{Error, Result};

/// The environment, or a part of it. What is wrong is collected, so that a person sees every mistake at once: read all
/// settings, then call [`Env::verdict`].
pub struct Env {
    variables: BTreeMap<String, String>,
    wrong: RefCell<Vec<Error>>,
}

impl Env {
    /// The process's own environment. Variables that are not UTF-8 are left out; nothing here has such a name or value.
    pub fn of_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// The value as it stands; an empty one counts as absent, because Compose passes `${UNSET}` as empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Name and value of every variable that is set, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A setting that need not be there. `expected` finishes the sentence "expected …".
    pub fn optional<T>(&self, name: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.text(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            let error = Error::settings(format!("{name} is not usable")).detail(format!("expected {expected}"));
            self.refuse(error.detail(format!("found \"{}\"", value.escape_debug())));
        }
        parsed
    }

    /// A setting that has to be there.
    pub fn required<T>(&self, name: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if self.text(name).is_none() {
            self.refuse(Error::settings(format!("{name} is not set")).detail(format!("expected {expected}")));
        }
        self.optional(name, expected, parse)
    }

    /// A setting with a default.
    pub fn or<T>(&self, name: &str, default: T, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if self.text(name).is_none() { Some(default) } else { self.optional(name, expected, parse) }
    }

    /// An absolute path with a default.
    pub fn path(&self, name: &str, default: &str) -> Option<std::path::PathBuf> {
        self.or(name, default.into(), "an absolute path", |value| value.starts_with('/').then(|| value.into()))
    }

    /// Refuses every variable that begins with `prefix` and is not one of `known`: a misspelt setting would otherwise leave
    /// its default in force without a word.
    pub fn refuse_unknown(&self, prefix: &str, known: &[&str]) {
        for (name, _) in self.iter().filter(|(name, _)| name.starts_with(prefix) && !known.contains(name)) {
            let error = Error::settings(format!("{name} is not a setting"));
            self.refuse(match nearest(name, known.iter().copied()) {
                Some(near) => error.detail(format!("did you mean {near}?")),
                None => error.detail(format!("expected one of: {}", known.join(", "))),
            });
        }
    }

    /// Notes that something is wrong.
    pub fn refuse(&self, error: Error) {
        self.wrong.borrow_mut().push(error);
    }

    /// Everything that was refused so far, or nothing.
    pub fn verdict(&self) -> Result<()> {
        Error::all(self.wrong.take())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Env { variables, wrong: RefCell::default() }
    }
}

/// The one of `known` that `name` was most likely meant to be: the fewest edits (Levenshtein), and not more than a third of it.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in name.bytes().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in other.bytes().enumerate() {
                let edited = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], edited);
            }
        }
        row[other.len()]
    };
    known.map(|other| (distance(other), other)).min().filter(|(edits, _)| *edits <= name.len() / 3).map(|(_, other)| other)
}

/// `on` or `off`.
pub fn on_off(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_names_variable_expectation_and_finding() {
        let env = Env::from_iter([("PORT", "80a"), ("EMPTY", ""), ("GOOD", "7")]);
        let number = |value: &str| value.parse::<u16>().ok();
        assert_eq!(env.required("GOOD", "a number", number), Some(7));
        assert_eq!(env.or("EMPTY", 5, "a number", number), Some(5));
        assert_eq!(env.optional("ABSENT", "a number", number), None);
        env.verdict().expect("nothing wrong so far");
        assert_eq!(env.or("PORT", 5, "a number", number), None);
        assert_eq!(env.required("EMPTY", "a word", |word| Some(word.to_owned())), None);
        assert_eq!(env.path("GOOD", "/x"), None);
        let told = env.verdict().expect_err("three are wrong").to_string();
        let expected = "PORT is not usable\n  expected a number\n  found \"80a\"\n  EMPTY is not set\n    expected a word\n  \
                        GOOD is not usable\n    expected an absolute path\n    found \"7\"";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_misspelt_setting_is_refused_with_the_nearest_one() {
        let known = ["COTURN_MIN_PORT", "COTURN_MAX_PORT", "COTURN_REALM"];
        assert_eq!(nearest("COTURN_MAXPORT", known.into_iter()), Some("COTURN_MAX_PORT"));
        assert_eq!(nearest("X", known.into_iter()), None);
        let env = Env::from_iter([("COTURN_REALM", "x"), ("COTURN_MINPORT", "1"), ("PATH", "/bin")]);
        env.refuse_unknown("COTURN_", &known);
        let told = env.verdict().expect_err("one is unknown").to_string();
        assert_eq!(told, "COTURN_MINPORT is not a setting\n  did you mean COTURN_MIN_PORT?");
    }
}
