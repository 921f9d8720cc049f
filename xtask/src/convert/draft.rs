//! A site on its way: what a file sets, and which key of `site.toml` or name of `secrets.env` each becomes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use mattermost_settings::Form;

use super::names;
use super::report::{Outcome, Report, Row};
use crate::site::secrets::{Name, Secret};
use crate::site::{env_file, parse};

/// Sections of `site.toml` in the order of the commented one; the first are the keys without a section.
const SECTIONS: [&str; 12] =
    ["", "ports", "database", "network", "jenkins", "gitlab", "smtp", "proxy", "push", "calls", "mattermost", "accounts"];

/// A setting of the server's, as it was found.
#[derive(Debug)]
pub(super) struct Given {
    pub value: Secret,
    /// The rows that it comes from.
    pub rows: Vec<usize>,
}

impl Given {
    pub fn text(&self) -> &str {
        self.value.expose()
    }
}

/// How many names are compared with all that the server knows: people misspell a few.
const GUESSES: usize = 50;
const IGNORED: &str = "and would ignore it";

/// Three times what a server knows.
const MOST: usize = 2000;

/// Text of a file on its way to a terminal.
fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    clean.take(400).collect()
}

/// What a file comes to.
#[derive(Debug, Default)]
pub struct Draft {
    rows: Vec<Row>,
    /// Rows that have an answer.
    answered: Vec<bool>,
    /// Settings of the server, and variables of its environment, that wait for an answer.
    pub(super) server: BTreeMap<String, Given>,
    /// Section and key → the value as TOML.
    keys: BTreeMap<(&'static str, &'static str), String>,
    extra: BTreeMap<String, String>,
    /// Secrets of the site's own names.
    pub secrets: BTreeMap<Name, Secret>,
    /// Secrets of Mattermost that the site has no name for.
    pub others: BTreeMap<String, Secret>,
    pub(super) left_alone: usize,
    pub(super) next: Vec<String>,
    /// How often somebody looked for what was meant.
    guesses: usize,
}

/// A string as TOML writes it: what JSON escapes, TOML reads.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub(super) fn quoted_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", texts.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// Why a TOML value of ours, which is JSON too, cannot stand in an environment file.
fn uncarried(value: &str) -> Option<String> {
    match serde_json::from_str(value).ok()? {
        serde_json::Value::String(text) => env_file::wrong(&text),
        serde_json::Value::Array(texts) => texts.iter().filter_map(serde_json::Value::as_str).find_map(env_file::wrong),
        _ => None,
    }
}

/// As Go's `strconv.ParseBool` reads it.
pub(super) fn switch(text: &str) -> Option<bool> {
    match (Form::Bool.wrong(text), text.starts_with(['1', 't', 'T'])) {
        (None, on) => Some(on),
        (Some(_), _) => None,
    }
}

impl Draft {
    /// Whether there are more settings than any server has.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() > MOST
    }

    /// A setting that was found; what becomes of it comes later.
    pub(super) fn row(&mut self, line: Option<usize>, setting: impl Into<String>) -> usize {
        self.rows.push(Row { line, setting: shown(&setting.into()), outcome: Outcome::Applied, to: Vec::new(), remarks: Vec::new() });
        self.answered.push(false);
        self.rows.len() - 1
    }

    fn answer(&mut self, rows: &[usize], outcome: Outcome, to: &[&str], remark: Option<&str>) {
        for row in rows {
            let before = std::mem::replace(&mut self.answered[*row], true);
            let row = &mut self.rows[*row];
            // One line may have become several things: all the same, or, as a whole, something else.
            row.outcome = if before && row.outcome != outcome { Outcome::Mapped } else { outcome };
            row.to.extend(to.iter().map(|to| (*to).to_owned()).filter(|to| !row.to.contains(to)).collect::<Vec<_>>());
            row.remarks.extend(remark.map(shown).filter(|remark| !row.remarks.contains(remark)));
        }
    }

    pub(super) fn applied(&mut self, rows: &[usize], to: &str) {
        self.answer(rows, Outcome::Applied, &[to], None);
    }

    pub(super) fn mapped(&mut self, rows: &[usize], to: &[&str], remark: &str) {
        self.answer(rows, Outcome::Mapped, to, Some(remark));
    }

    pub(super) fn dropped(&mut self, rows: &[usize], why: &str) {
        self.answer(rows, Outcome::Dropped, &[], Some(why));
    }

    /// A setting of the server's. What the file says last counts.
    pub(super) fn give(&mut self, name: &str, value: &str, row: usize) {
        let renamed = names::renamed(name);
        if let Some((right, remark)) = renamed {
            self.answer(&[row], Outcome::Mapped, &[], Some(&format!("{remark}: {right} is meant")));
        }
        let name = renamed.map_or(name, |(right, _)| right);
        let given = Given { value: Secret::new(value), rows: vec![row] };
        if let Some(before) = self.server.insert(name.to_owned(), given) {
            let again = match self.rows[row].line {
                Some(line) => format!("{} in line {line} says it again, and the last one counts", self.rows[row].setting),
                None => format!("{} says it again, and the last one counts", self.rows[row].setting),
            };
            let rows: Vec<usize> = before.rows.into_iter().filter(|before| *before != row).collect();
            self.dropped(&rows, &again);
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Given> {
        self.server.remove(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.server.get(name).map(Given::text)
    }

    /// Whether a key has a value.
    pub(super) fn has(&self, section: &'static str, key: &'static str) -> bool {
        self.keys.contains_key(&(section, key))
    }

    /// Sets keys of `site.toml`, all of them or, where one does not fit, none: then why. Values are TOML.
    pub(super) fn keys(&mut self, keys: &[(&'static str, &'static str, String)]) -> Result<(), String> {
        // Most of them end in an environment file.
        if let Some(found) = keys.iter().find_map(|(.., value)| uncarried(value)) {
            return Err(format!("no environment file can carry it: found {found}"));
        }
        let before = self.keys.clone();
        self.keys.extend(keys.iter().map(|(section, key, value)| ((*section, *key), value.clone())));
        let fits = parse("site.toml", &self.toml("a file"), || Ok(vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))]));
        let Err(error) = fits else { return Ok(()) };
        self.keys = before;
        let text = error.to_string();
        // What was found may be a secret in the wrong place.
        let expected = |line: &'_ str| {
            let problem = line.trim().splitn(3, ": ").last().unwrap_or_default();
            let end = [", found \"", "; found \""].iter().find_map(|found| problem.find(found)).unwrap_or(problem.len());
            problem[..end].to_owned()
        };
        let problems = text.lines().skip(1).map(expected);
        Err(format!("site.toml takes no such value: {}", problems.collect::<Vec<_>>().join("; ")))
    }

    /// Sets one key, and answers the rows that it comes from.
    pub(super) fn key(&mut self, rows: &[usize], section: &'static str, key: &'static str, value: String) {
        let to = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        match self.keys(&[(section, key, value)]) {
            Ok(()) => self.applied(rows, &to),
            Err(why) => self.dropped(rows, &why),
        }
    }

    /// A secret that the site has a name for.
    pub(super) fn secret(&mut self, setting: &str, name: Name, without: &str) -> bool {
        let Some(given) = self.take(setting) else { return false };
        if given.text().is_empty() {
            self.dropped(&given.rows, "empty");
            return false;
        }
        match name.wrong(given.text()) {
            None => {
                self.applied(&given.rows, &format!("secrets.env {}", name.name()));
                self.secrets.insert(name, given.value);
                true
            }
            Some(problem) => {
                self.dropped(&given.rows, &format!("{problem}; {without}"));
                false
            }
        }
    }

    /// Everything that no key of `site.toml` stands for.
    pub(super) fn rest(&mut self) {
        for (name, given) in std::mem::take(&mut self.server) {
            match judge(&name, given.text()) {
                Err(why) if why.ends_with(IGNORED) && self.guesses < GUESSES => {
                    self.guesses += 1;
                    let meant = names::meant(&name).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    self.dropped(&given.rows, &format!("{why}{meant}"));
                }
                Err(why) => self.dropped(&given.rows, &why),
                Ok(Form::Secret) => {
                    self.applied(&given.rows, &format!("secrets.env {name}"));
                    self.others.insert(name, given.value);
                }
                Ok(form) => {
                    let text = match form {
                        Form::Object | Form::IceServers => serde_json::from_str(given.text()).map(|json| env_file::json(&json)).ok(),
                        _ => None,
                    };
                    self.applied(&given.rows, &format!("mattermost.extra.{name}"));
                    self.extra.insert(name, text.unwrap_or_else(|| given.text().to_owned()));
                }
            }
        }
    }

    /// The text of `site.toml`.
    pub fn toml(&self, source: &str) -> String {
        let mut text = format!(
            "# From {source}, by `cargo xtask convert`. Every other key has its default; docs/site.md tells about each.\nformat = 1\n"
        );
        for section in SECTIONS {
            let keys: Vec<_> = self.keys.iter().filter(|((found, _), _)| *found == section).collect();
            if !section.is_empty() && !keys.is_empty() {
                let _ = writeln!(text, "\n[{section}]");
            }
            keys.iter().for_each(|((_, key), value)| _ = writeln!(text, "{key} = {value}"));
        }
        if !self.extra.is_empty() {
            text.push_str("\n[mattermost.extra]\n");
            self.extra.iter().for_each(|(name, value)| _ = writeln!(text, "{name} = {}", quoted(value)));
        }
        text
    }

    /// What became of each setting.
    pub fn report(&self, source: &str) -> Report {
        debug_assert!(self.answered.iter().all(|answered| *answered), "a setting without an answer: {:?}", self.unanswered());
        Report {
            format: super::report::FORMAT,
            source: source.to_owned(),
            settings: self.rows.clone(),
            left_alone: self.left_alone,
            next: self.next.clone(),
        }
    }

    /// Settings that nobody has said anything about: a mistake of this program.
    pub fn unanswered(&self) -> Vec<&str> {
        self.rows.iter().zip(&self.answered).filter(|(_, answered)| !**answered).map(|(row, _)| row.setting.as_str()).collect()
    }
}

/// Whether Mattermost 11 is to be told, and what form it has; or why not.
fn judge(name: &str, value: &str) -> Result<Form, String> {
    if let Some(why) = names::dropped(name) {
        return Err(why.to_owned());
    }
    if !name.starts_with("MM_") {
        return Err("the container's environment holds settings of Mattermost's alone".to_owned());
    }
    let form = match names::form(name) {
        Some(form) => form,
        None => return Err(format!("Mattermost 11 does not know {name}, {IGNORED}")),
    };
    if let Some(found) = form.wrong(value) {
        return Err(format!("Mattermost 11 would ignore it: expected {}, found {found}", form.expected()));
    }
    if let Some(expected) = names::refused(name, value) {
        return Err(format!("Mattermost 11 would not start with it: expected {expected}"));
    }
    let carried = match form {
        // They reach the container in a file of lines.
        Form::Secret => value.chars().any(char::is_control).then(|| "a line break or another control character".to_owned()),
        Form::Object | Form::IceServers | Form::Plugins | Form::PluginStates => None,
        _ => env_file::wrong(value)
            .or_else(|| (value.len() > 4096).then(|| format!("{} bytes, more than the 4096 of site.toml", value.len()))),
    };
    match carried {
        Some(found) => Err(format!("no environment file can carry it: found {found}; set it in the System Console")),
        None => Ok(form),
    }
}
