//! Secrets of a `cicd.env` that scripts sourced into a shell: read as the assignments that it holds, never run.

use std::collections::BTreeMap;

use images::Result;

use super::{Name, Secret, refused};
use crate::site::env_file::is_name;

/// What such a file holds.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// Ours.
    pub secrets: BTreeMap<Name, Secret>,
    /// Names of others, sorted.
    pub foreign: Vec<String>,
    /// Secret settings of Mattermost's that have no name of ours.
    pub settings: BTreeMap<String, Secret>,
}

/// Reads `text`: `NAME=value` lines, `export` before them, single or double quotes around the value. `file` is how errors call it.
///
/// # Errors
/// Everything that is wrong with the lines of our names: a value that a shell would have had to compute, one that is not in its form, two
/// different values. What concerns other names is not looked at.
pub fn import(text: &str, file: &str) -> Result<Found> {
    let mut seen: BTreeMap<Name, (usize, Secret)> = BTreeMap::new();
    let mut foreign = std::collections::BTreeSet::new();
    let mut problems = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let assignment = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((written, value)) = assignment.split_once('=').filter(|(name, _)| is_name(name)) else { continue };
        let Some(name) = Name::of(written) else {
            foreign.insert(written.to_owned());
            continue;
        };
        let mut refuse = |problem: String| problems.push(format!("line {at}, {written}: {problem}"));
        let value = match literal(value) {
            Ok(value) => value,
            Err(problem) => {
                refuse(problem.to_owned());
                continue;
            }
        };
        if let Some(problem) = name.wrong(&value) {
            refuse(problem);
        }
        match seen.get(&name) {
            Some((before, other)) if other.expose() != value => refuse(format!("line {before} says otherwise")),
            _ => _ = seen.insert(name, (at, Secret::new(value))),
        }
    }
    match problems.is_empty() {
        true => {
            let secrets = seen.into_iter().map(|(name, (_, value))| (name, value)).collect();
            Ok(Found { secrets, foreign: foreign.into_iter().collect(), settings: BTreeMap::new() })
        }
        false => Err(refused(&format!("nothing was taken from {file}"), &problems)),
    }
}

/// The value of a POSIX shell's assignment (2.2 Quoting), as long as it is a literal one.
fn literal(text: &str) -> Result<String, &'static str> {
    const COMPUTED: &str = "expected the value itself, found something that a shell has to compute";
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' => loop {
                match rest.next().ok_or("expected a closing quote")? {
                    '\'' => break,
                    c => value.push(c),
                }
            },
            '"' => loop {
                match rest.next().ok_or("expected a closing quote")? {
                    '"' => break,
                    '$' | '`' => return Err(COMPUTED),
                    '\\' => match rest.next().ok_or("expected a closing quote")? {
                        c @ ('$' | '`' | '"' | '\\') => value.push(c),
                        c => value.extend(['\\', c]),
                    },
                    c => value.push(c),
                }
            },
            '\\' => value.push(rest.next().ok_or("expected the value on one line")?),
            '$' | '`' => return Err(COMPUTED),
            '~' if value.is_empty() || value.ends_with(':') => return Err(COMPUTED),
            c if c.is_whitespace() => {
                let after = rest.as_str().trim_start();
                return match after.is_empty() || after.starts_with('#') {
                    true => Ok(value),
                    false => Err("expected quotes around a value with spaces"),
                };
            }
            ';' | '&' | '|' | '<' | '>' | '(' | ')' => return Err("expected one assignment and nothing else"),
            c => value.push(c),
        }
    }
    Ok(value)
}
