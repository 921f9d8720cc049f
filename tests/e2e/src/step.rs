//! What a step of the proof is, and what it leaves as evidence.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use images::{Class, Error, Result};
use serde::{Deserialize, Serialize};
use xtask::cli::e2e::Options;
use xtask::cli::images::recipe::Mattermost;
use xtask::machine::{self, Machine};

use crate::hidden::Hidden;
use crate::inside;
use crate::world::World;

/// One thing that is proved.
pub struct Step {
    /// `group::what_it_proves`.
    pub name: &'static str,
    /// What it proves, as a sentence for an auditor.
    pub claim: &'static str,
    /// How long it may take.
    pub deadline: Duration,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// When its turn is.
    pub when: When,
    /// Proves it; an error or a panic says that it is not so.
    pub proves: fn(&World, &mut Evidence) -> Result<()>,
}

/// What a step cannot do without.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "for steps to come")]
pub enum Need {
    /// The real server: the API double does not play it.
    Release,
    /// Time: it is part of `--full`.
    Full,
    /// Memory for the Engine's data.
    Memory,
    /// A part of the machine (`xtask::machine::PARTS`).
    Part(&'static str),
}

/// When a step's turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Beside the first start of the stack: it begins before anything runs.
    FirstStart,
    /// Side by side with others, on the stack that all share: it changes nothing that others look at.
    Shared,
    /// After these, beside the others of this kind: each changes, or counts, something that none of the others touches.
    Apart,
    /// After all others, with nobody beside it: it breaks things, and leaves the stack healthy.
    Alone,
}

/// Why a step is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It is about the real server, so with the double it is not part of the run.
    Release,
    /// It takes long, and `--full` was not asked for.
    Full,
    /// The machine lacks something.
    Lacks(String),
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Absent::Release => f.write_str("needs the release"),
            Absent::Full => f.write_str("needs --full"),
            Absent::Lacks(what) => write!(f, "not run: {what}"),
        }
    }
}

impl Step {
    /// Whether it is part of every run.
    pub fn is_quick(&self) -> bool {
        !self.needs.iter().any(|need| matches!(need, Need::Full))
    }

    /// Whether a filter names it.
    pub fn is_chosen(&self, filter: &[String]) -> bool {
        is_chosen(self.name, filter)
    }

    /// Why it cannot be run here, if it cannot.
    pub fn absent(&self, machine: &Machine, options: &Options) -> Option<Absent> {
        self.needs.iter().find_map(|need| match need {
            Need::Release => matches!(options.mattermost, Mattermost::Double).then_some(Absent::Release),
            Need::Full => (!options.full).then_some(Absent::Full),
            Need::Memory => (!inside::is_plenty()).then(|| Absent::Lacks("8 GiB of memory that is free".to_owned())),
            Need::Part(name) => {
                machine::lacking(machine, &[name]).first().map(|part| Absent::Lacks(format!("{} ({})", part.name, part.command(machine))))
            }
        })
    }
}

/// Whether a filter names it; an empty one names everything.
pub fn is_chosen(name: &str, filter: &[String]) -> bool {
    filter.is_empty() || filter.iter().any(|text| name.contains(text.as_str()))
}

/// What a step saw: its lines, files and tables in the report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shown {
    /// What was looked at, and what was seen there.
    pub facts: Vec<(String, String)>,
    /// Files in the folder of the run.
    pub files: Vec<String>,
    /// Tables.
    pub tables: Vec<Table>,
}

/// A table of the report; its cells may be good or bad.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Heads of the columns; the first is that of the rows' heads.
    pub columns: Vec<String>,
    /// Head and cells of each row.
    pub rows: Vec<(String, Vec<Cell>)>,
}

/// A cell.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// What stands in it.
    pub text: String,
    /// Whether it is as it should be; nothing where that is no question.
    pub good: Option<bool>,
}

/// Where a step puts what it saw. Secrets of the site are taken out of everything.
pub struct Evidence {
    run: PathBuf,
    step: &'static str,
    hidden: Hidden,
    pub(crate) shown: Shown,
}

impl Evidence {
    /// Of a step, below the run's folder.
    pub fn new(run: &Path, step: &'static str, site: &Path) -> Self {
        Evidence { run: run.to_owned(), step, hidden: Hidden::of_site(site), shown: Shown::default() }
    }

    /// What was looked at, and what was seen there.
    pub fn fact(&mut self, what: impl Into<String>, seen: impl ToString) {
        self.shown.facts.push((what.into(), self.hidden.redact(&seen.to_string())));
    }

    /// A file beside the report.
    pub fn file(&mut self, name: &str, text: &str) -> Result<()> {
        let path = format!("evidence/{}/{name}", self.step.replace("::", "-"));
        images::file::write_beside(&prepared(&self.run.join(&path))?, self.hidden.redact(text).as_bytes(), 0o644)?;
        self.shown.files.push(path);
        Ok(())
    }

    /// A table of the report.
    ///
    /// # Panics
    /// Where a row has more or fewer cells than the table has columns.
    pub fn table(&mut self, table: Table) {
        assert!(table.rows.iter().all(|(_, cells)| cells.len() + 1 == table.columns.len()), "{}: rows and columns differ", table.title);
        self.shown.tables.push(table);
    }

    /// The same where it was expected: a fact; else an error that says both.
    pub fn same<T: PartialEq + Debug>(&mut self, what: &str, expected: T, seen: T) -> Result<()> {
        self.fact(what, format!("{seen:?}"));
        if expected == seen { Ok(()) } else { Err(unlike(what, format!("{expected:?}"), format!("{seen:?}"))) }
    }

    /// Whether it holds: a fact of what was seen; else an error that says what was expected.
    pub fn holds(&mut self, what: &str, expected: impl ToString, seen: impl ToString, holds: bool) -> Result<()> {
        self.fact(what, seen.to_string());
        if holds { Ok(()) } else { Err(unlike(what, expected.to_string(), seen.to_string())) }
    }
}

fn unlike(what: &str, expected: String, seen: String) -> Error {
    Error::new(Class::Check, what.to_owned()).detail(format!("expected {expected}")).detail(format!("seen     {seen}"))
}

/// The path, with its folder made.
pub fn prepared(path: &Path) -> Result<PathBuf> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "rows and columns differ")]
    fn a_table_without_a_head_for_its_rows_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let rows = vec![("symmetric NAT".to_owned(), vec![Cell::default(); 2])];
        let columns = ["expected", "answered"].map(str::to_owned).to_vec();
        Evidence::new(folder.path(), "a::step", folder.path()).table(Table { title: "Refusals".to_owned(), columns, rows });
    }
}
