//! Checks of a site and of the machine that it runs on: each says yes, no with the command that mends it, or why it was not asked.
//!
//! Judges are pure functions of what was found and make one [`Check`] each; what looks stands in [`gather`] and beside the
//! judges of the running stack ([`turn`], [`tls`]).

pub mod certificates;
pub mod database;
pub mod firewall;
pub mod gather;
pub mod machine;
pub mod names;
pub mod page;
pub mod ports;
pub mod site;
pub mod tls;
pub mod turn;

use images::{Class, Error, Result};
use serde::Serialize;

/// The `format` of [`Report`] as JSON.
pub const FORMAT: u32 = 1;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What scripts call it: `engine`, `turn.udp.allocation`. It stays the same.
    pub id: String,
    /// What it is about, for people.
    pub title: String,
    /// The answer.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// An answer; in JSON the field `outcome` is `ok`, `problem` or `skipped`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok {
        /// What was found.
        found: String,
    },
    /// Not as it should be.
    Problem {
        /// What was found.
        found: String,
        /// The command, or else the step, that mends it.
        mend: String,
    },
    /// Nobody could tell.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Check {
    /// As it should be.
    pub fn ok(id: impl Into<String>, title: impl Into<String>, found: impl Into<String>) -> Check {
        Check { id: id.into(), title: title.into(), outcome: Outcome::Ok { found: found.into() } }
    }

    /// Not as it should be.
    pub fn problem(id: impl Into<String>, title: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Check {
        Check { id: id.into(), title: title.into(), outcome: Outcome::Problem { found: found.into(), mend: mend.into() } }
    }

    /// Nobody could tell.
    pub fn skipped(id: impl Into<String>, title: impl Into<String>, reason: impl Into<String>) -> Check {
        Check { id: id.into(), title: title.into(), outcome: Outcome::Skipped { reason: reason.into() } }
    }

    /// A problem that an error tells: its hint is what mends it, else `mend`.
    pub fn of_error(id: impl Into<String>, title: impl Into<String>, error: &Error, mend: impl Into<String>) -> Check {
        let text = error.to_string();
        let found = text.split("\nhint: ").next().unwrap_or(&text).to_owned();
        Check::problem(id, title, found, error.hint_text().map_or_else(|| mend.into(), str::to_owned))
    }

    /// Whether it says no.
    pub fn is_problem(&self) -> bool {
        matches!(self.outcome, Outcome::Problem { .. })
    }
}

/// Every check of one run. As JSON: `{"format":1,"ok":…,"checks":[{"id":…,"title":…,"outcome":…,…}]}`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// No check says no.
    pub ok: bool,
    /// In the order in which they were asked.
    pub checks: Vec<Check>,
}

impl Report {
    /// What these checks say together.
    pub fn of(checks: Vec<Check>) -> Report {
        Report { format: FORMAT, ok: !checks.iter().any(Check::is_problem), checks }
    }

    /// One line a check, and below a problem what mends it.
    pub fn lines(&self) -> Vec<String> {
        let width = self.checks.iter().map(|check| check.title.chars().count()).max().unwrap_or(0);
        self.checks.iter().flat_map(|check| check.lines(width)).collect()
    }

    /// An error of [`Class::Check`] where a check says no.
    pub fn verdict(&self) -> Result<()> {
        let no = self.checks.iter().filter(|check| check.is_problem()).count();
        match no {
            0 => Ok(()),
            1 => Err(Error::new(Class::Check, format!("one of {} checks says no", self.checks.len()))),
            _ => Err(Error::new(Class::Check, format!("{no} of {} checks say no", self.checks.len()))),
        }
    }
}

impl Check {
    fn lines(&self, width: usize) -> Vec<String> {
        let (sign, said, mend) = match &self.outcome {
            Outcome::Ok { found } => ("✔", found, None),
            Outcome::Problem { found, mend } => ("✘", found, Some(mend)),
            Outcome::Skipped { reason } => ("–", reason, None),
        };
        let mut said = said.lines();
        let first = format!("{sign} {:<width$}  {}", self.title, said.next().unwrap_or_default());
        let indent = " ".repeat(width + 4);
        let more = said.map(|line| format!("{indent}{}", line.trim_start()));
        let mend = mend.map(|mend| format!("{indent}→ {mend}"));
        std::iter::once(first.trim_end().to_owned()).chain(more).chain(mend).collect()
    }
}

/// A list in words, with at most `most` of its items.
pub fn list(items: &[String], most: usize) -> String {
    match items.len() {
        count if count > most => format!("{} and {} more", items[..most].join(", "), count - most),
        _ => items.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::of(vec![
            Check::ok("engine", "Docker Engine", "29.1.0"),
            Check::problem("port.turn", "Port 3478 (TURN)", "held by container other-coturn\nsince yesterday", "docker stop other-coturn"),
            Check::skipped("time", "Time is synchronised", "systemd does not run here"),
        ])
    }

    #[test]
    fn a_report_has_a_line_a_check_and_the_command_that_mends_a_problem() {
        insta::assert_snapshot!(report().lines().join("\n"));
    }

    #[test]
    fn the_json_has_a_format_and_stable_ids() {
        insta::assert_json_snapshot!(report());
    }

    #[test]
    fn one_no_makes_the_exit_code_1() {
        let error = report().verdict().unwrap_err();
        assert_eq!((error.class().exit_code(), error.message()), (1, "one of 3 checks says no"));
        // What was skipped is no problem.
        let others = report().checks.into_iter().filter(|check| !check.is_problem()).collect();
        assert!(Report::of(others).verdict().is_ok());
    }

    #[test]
    fn an_errors_hint_is_what_mends_it() {
        let error = Error::new(Class::Usage, "site.toml is wrong").detail("line 3").hint("see the commented one");
        let check = Check::of_error("site", "site.toml", &error, "other");
        assert_eq!(check, Check::problem("site", "site.toml", "site.toml is wrong\n  line 3", "see the commented one"));
    }
}
