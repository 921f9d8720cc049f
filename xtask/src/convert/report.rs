//! What became of each line: applied, mapped with a remark, or dropped with the reason. No value stands in it.

use std::fmt::Write as _;

use serde::Serialize;

/// The `format` of [`Report`] as JSON.
pub const FORMAT: u32 = 1;

/// What became of one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It stands in the site with the same meaning.
    Applied,
    /// It became something else, and the remark says what.
    Mapped,
    /// It is nowhere, and the remark says why.
    Dropped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Mapped => "mapped",
            Outcome::Dropped => "dropped",
        }
    }
}

/// One setting of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its line; JSON has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// As the file names it.
    pub setting: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Where it stands now: keys of `site.toml`, names of `secrets.env`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Why, or what else there is to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Every setting that matters, in the order of the file.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// The file that was read.
    pub source: String,
    /// What became of each.
    pub settings: Vec<Row>,
    /// What was left alone: settings of other parts of GitLab, or those at Mattermost's defaults.
    pub left_alone: usize,
    /// What there is to do, beside the remarks.
    pub next: Vec<String>,
}

impl Row {
    fn place(&self) -> String {
        self.line.map(|line| format!("line {line}, ")).unwrap_or_default()
    }

    /// A line for the person who converts; none where there is nothing to know.
    pub fn said(&self) -> Option<String> {
        let remarks = self.remarks.join("; ");
        (!remarks.is_empty()).then(|| format!("{}{}: {}: {remarks}", self.place(), self.setting, self.outcome.word()))
    }
}

impl Report {
    /// How many settings came to this.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.settings.iter().filter(|row| row.outcome == outcome).count()
    }

    /// How many of each, in one line.
    pub fn summary(&self) -> String {
        let count = |outcome| self.count(outcome);
        format!(
            "{}: {} applied, {} mapped, {} dropped; {} that say nothing about this site left alone",
            self.source,
            count(Outcome::Applied),
            count(Outcome::Mapped),
            count(Outcome::Dropped),
            self.left_alone
        )
    }

    /// A table for people.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}.\n", self.source, self.summary());
        let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        if !self.settings.is_empty() {
            text.push_str("\n| line | setting | outcome | now | remark |\n|---|---|---|---|---|\n");
        }
        for row in &self.settings {
            let line = row.line.map(|line| line.to_string()).unwrap_or_default();
            let to = row.to.iter().map(|to| format!("`{to}`")).collect::<Vec<_>>().join(", ");
            let (setting, remarks) = (cell(&row.setting), cell(&row.remarks.join("; ")));
            let _ = writeln!(text, "| {line} | `{setting}` | {} | {to} | {remarks} |", row.outcome.word());
        }
        if !self.next.is_empty() {
            text.push_str("\n## What is left to do\n\n");
            self.next.iter().for_each(|step| _ = writeln!(text, "- {step}"));
        }
        text
    }

    /// The same for scripts: `format`, `source`, `settings` (`line`, `setting`, `outcome`, `to`, `remarks`), `left_alone`, `next`.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("plain data: {error}"))
    }
}
