//! `done.log`: a line for each alert that was posted or refused, so that the same event is not posted again.
//!
//! `SECONDS EVENT PLACE posted|refused bad|good|broken`, the last where a failure is not that of a quality gate. A line that was cut by
//! a crash, or by a full disk, is skipped.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::alert::{Key, Verdict};

/// Lines at which the file is shortened; each has about 90 bytes.
const LONG: usize = 100_000;

/// How an alert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Posted,
    Refused,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Seconds since 1970.
    pub at: u64,
    pub event: Key,
    pub place: Key,
    pub end: End,
    pub verdict: Verdict,
    /// As in [`crate::alert::Alert`].
    pub gate: bool,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let &[at, event, place, end, verdict] = &words[..] else { return None };
        let end = match end {
            "posted" => End::Posted,
            "refused" => End::Refused,
            _ => return None,
        };
        let (verdict, gate) = match verdict {
            "good" => (Verdict::Good, true),
            "bad" => (Verdict::Bad, true),
            "broken" => (Verdict::Bad, false),
            _ => return None,
        };
        let key = |word: &str| Key::try_from(word.to_owned()).ok();
        Some(Line { at: at.parse().ok()?, event: key(event)?, place: key(place)?, end, verdict, gate })
    }

    fn text(&self) -> String {
        let end = if self.end == End::Posted { "posted" } else { "refused" };
        let verdict = match (self.verdict, self.gate) {
            (Verdict::Good, _) => "good",
            (Verdict::Bad, true) => "bad",
            (Verdict::Bad, false) => "broken",
        };
        format!("{} {} {} {end} {verdict}\n", self.at, self.event, self.place)
    }
}

/// The open file.
pub struct Log {
    path: PathBuf,
    file: fs_err::File,
    lines: usize,
    longest: usize,
    /// Its last line may have been cut: the next one begins with an end of line, so that only that one is lost.
    cut: bool,
}

impl Log {
    /// Opens the file, forgets what is too old, and gives what is left.
    pub fn open(path: &Path, now: u64, remembered: u64) -> std::io::Result<(Self, Vec<Line>)> {
        let file = append(path)?;
        let mut log = Log { path: path.to_owned(), file, lines: 0, longest: LONG, cut: true };
        let lines = log.young(now, remembered)?;
        if let Err(error) = log.rewrite(&lines) {
            // A full disk: what is posted makes room, so the gateway has to start.
            eprintln!("alert-gateway: {} stays as it is: {error}", path.display());
        }
        Ok((log, lines))
    }

    /// Adds a line and waits until it is on disk.
    pub fn append(&mut self, line: &Line) -> std::io::Result<()> {
        self.lines += 1;
        let text = if self.cut { format!("\n{}", line.text()) } else { line.text() };
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        self.cut = written.is_err();
        written
    }

    /// Whether it is time to shorten.
    pub fn is_long(&self) -> bool {
        self.lines > self.longest
    }

    /// Writes the file anew without what is too old.
    pub fn shorten(&mut self, now: u64, remembered: u64) -> std::io::Result<()> {
        let lines = self.young(now, remembered)?;
        self.rewrite(&lines)
    }

    /// The lines that are not too old. The last word on a place stays if it was bad: the recovery is to come.
    fn young(&self, now: u64, remembered: u64) -> std::io::Result<Vec<Line>> {
        let text = String::from_utf8_lossy(&fs_err::read(&self.path)?).into_owned();
        let mut lines: Vec<Line> = text.lines().filter_map(Line::parse).collect();
        let last: HashMap<Key, usize> = lines.iter().enumerate().map(|(at, line)| (line.place, at)).collect();
        let mut at = 0;
        lines.retain(|line| {
            let red = line.verdict == Verdict::Bad && last.get(&line.place) == Some(&at);
            at += 1;
            red || now.saturating_sub(line.at) < remembered
        });
        Ok(lines)
    }

    fn rewrite(&mut self, lines: &[Line]) -> std::io::Result<()> {
        super::replace(&self.path, lines.iter().map(Line::text).collect::<String>().as_bytes())?;
        self.file = append(&self.path)?;
        self.lines = lines.len();
        // Where nothing is old yet, not at every line.
        self.longest = LONG.max(2 * lines.len());
        self.cut = false;
        Ok(())
    }
}

fn append(path: &Path) -> std::io::Result<fs_err::File> {
    fs_err::OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, event: &str, place: &str, verdict: Verdict) -> Line {
        Line { at, event: Key::of([event.as_bytes()]), place: Key::of([place.as_bytes()]), end: End::Posted, verdict, gate: true }
    }

    #[test]
    fn lines_read_back_and_what_was_cut_is_skipped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("done.log");
        let (mut log, lines) = Log::open(&path, 1000, 100).expect("opened");
        assert_eq!(lines, []);
        let all = [line(950, "a", "p", Verdict::Good), Line { end: End::Refused, gate: false, ..line(960, "b", "p", Verdict::Bad) }];
        for line in &all {
            log.append(line).expect("written");
        }
        let whole = fs_err::read(&path).expect("read");
        for cut in 0..whole.len() {
            fs_err::write(&path, &whole[..cut]).expect("cut");
            let (mut log, lines) = Log::open(&path, 1000, 100).expect("opened");
            assert_eq!(lines, all[..lines.len()], "cut at {cut}");
            log.append(&all[1]).expect("written");
            assert_eq!(Log::open(&path, 1000, 100).expect("opened").1.last(), Some(&all[1]), "appended after a cut at {cut}");
        }
    }

    #[test]
    fn what_is_old_is_forgotten_but_a_failure_without_its_recovery() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("done.log");
        let (mut log, _) = Log::open(&path, 0, 100).expect("opened");
        let all = [
            line(1, "a", "red", Verdict::Bad),
            line(2, "b", "green", Verdict::Bad),
            line(3, "c", "green", Verdict::Good),
            line(950, "d", "young", Verdict::Good),
            // A clock that was ahead.
            line(5000, "e", "future", Verdict::Good),
        ];
        for line in &all {
            log.append(line).expect("written");
        }
        let left = Log::open(&path, 1000, 100).expect("opened").1;
        assert_eq!(left, [all[0].clone(), all[3].clone(), all[4].clone()]);
    }
}
