//! What happens inside, told to the outside: a file of JSON lines in the run's folder. It outlives whoever writes it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use images::{Class, Error, Result};
use serde::{Deserialize, Serialize};

use crate::step::Shown;

/// One thing that happened. Times are seconds since 1970, durations seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A part of the run that is no step has ended.
    Phase(Phase),
    /// A step has begun.
    Began {
        /// Its name.
        step: String,
    },
    /// A step has ended.
    Ended(Ended),
    /// What the report says of the world: word, value.
    Said {
        /// The word.
        what: String,
        /// The value.
        value: String,
    },
    /// The world could not be made, or broke down.
    Broke {
        /// What happened.
        error: String,
    },
    /// Every step had its turn.
    Done,
}

/// A part of the run that is no step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// When it began.
    pub at: f64,
    /// How long it took.
    pub took: f64,
}

/// How a step ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Its name.
    pub step: String,
    /// When it began.
    pub at: f64,
    /// How long it took.
    pub took: f64,
    /// What it says.
    pub verdict: Verdict,
    /// Why it is not so: message, expected, seen.
    pub failure: Option<String>,
    /// What it saw.
    pub shown: Shown,
}

/// What a step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is so.
    Passed,
    /// It is not so.
    Failed,
    /// It was not so, and the second time it was. That is a failure.
    Flaky,
    /// Nobody could tell.
    NotRun,
    /// It is about the real server, and not part of a run with the double.
    NeedsRelease,
    /// It takes long, so it is part of `--full`.
    NeedsFull,
}

impl Verdict {
    /// Whether it makes the run fail.
    pub const fn is_failure(self) -> bool {
        matches!(self, Verdict::Failed | Verdict::Flaky)
    }

    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Flaky => "flaky",
            Verdict::NotRun => "not run",
            Verdict::NeedsRelease => "needs the release",
            Verdict::NeedsFull => "needs --full",
        }
    }

    /// For a line of a terminal.
    pub const fn mark(self) -> &'static str {
        match self {
            Verdict::Passed => "✔",
            Verdict::Failed | Verdict::Flaky => "✘",
            Verdict::NotRun | Verdict::NeedsRelease | Verdict::NeedsFull => "–",
        }
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The writing end.
pub struct Journal(Mutex<fs_err::File>);

impl Journal {
    /// At the end of the file.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Journal(Mutex::new(fs_err::OpenOptions::new().create(true).append(true).open(path)?)))
    }

    /// Writes one line.
    pub fn tell(&self, event: &Event) -> Result<()> {
        let line = serde_json::to_string(event).map_err(|error| Error::new(Class::Build, error.to_string()))?;
        let mut file = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.write_all(format!("{line}\n").as_bytes()).map_err(Error::from)
    }

    /// Does a part of the run, and tells how long it took.
    pub fn phase<T>(&self, name: &str, does: impl FnOnce() -> Result<T>) -> Result<T> {
        let at = now();
        let done = does();
        self.tell(&Event::Phase(Phase { name: name.to_owned(), at, took: now() - at }))?;
        done
    }
}

/// The reading end: what is new since the last time.
pub struct Reader {
    path: PathBuf,
    seen: usize,
}

impl Reader {
    /// From the beginning; the file may not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Reader { path, seen: 0 }
    }

    /// Whole lines alone: the writer may be in the middle of one.
    pub fn news(&mut self) -> Vec<Event> {
        let all = fs_err::read(&self.path).unwrap_or_default();
        let fresh = all.get(self.seen..).unwrap_or_default();
        let whole = fresh.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.seen += whole;
        fresh[..whole].split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_takes_whole_lines_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut reader = Reader::new(path.clone());
        assert!(reader.news().is_empty());
        Journal::open(&path).unwrap().tell(&Event::Began { step: "one".into() }).unwrap();
        let mut file = fs_err::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"event\":\"do").unwrap();
        assert!(matches!(&reader.news()[..], [Event::Began { step }] if step == "one"));
        file.write_all(b"ne\"}\n").unwrap();
        assert!(matches!(&reader.news()[..], [Event::Done]));
        assert!(reader.news().is_empty());
    }
}
