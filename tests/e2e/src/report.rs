//! What a run found: collected from the journal, printed line by line, and written as a page for people, and as JUnit and JSON for programs.

mod html;
mod json;
mod junit;

use std::collections::BTreeMap;
use std::path::PathBuf;

use images::{Class, Error, Result};
use serde::Serialize;
use xtask::cli::e2e::Options;
use xtask::cli::images::recipe::Mattermost;
use xtask::double;
use xtask::output::Output;
use xtask::process::both_ends;

use crate::journal::{Ended, Event, Phase, Verdict, now};
use crate::step::Absent;
use crate::world::Folders;
use crate::{mutations, outside, steps};

/// Everything that a run found. `run.json` is this; docs/e2e.md describes it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// 1, until a field changes its meaning.
    format: u32,
    /// The folder's name.
    run: String,
    /// Which server it was.
    server: String,
    /// When it began, in seconds since 1970.
    began: f64,
    /// How long it took, in seconds.
    took: f64,
    /// Counts of verdicts.
    passed: usize,
    failed: usize,
    not_run: usize,
    /// What kept the run from its end.
    broke: Option<String>,
    /// What is said of the world: word → value.
    world: BTreeMap<String, String>,
    /// Parts of the run that are no steps.
    phases: Vec<Phase>,
    /// The steps, in the order of their ends.
    steps: Vec<Proved>,
    #[serde(skip)]
    folder: PathBuf,
}

/// A step, and how it ended.
#[derive(Debug, Serialize)]
struct Proved {
    claim: String,
    #[serde(flatten)]
    ended: Ended,
}

/// What a step that is not run counts as.
pub fn verdict_of(absent: &Absent) -> Verdict {
    match absent {
        Absent::Release => Verdict::NeedsRelease,
        Absent::Full => Verdict::NeedsFull,
        Absent::Lacks(_) => Verdict::NotRun,
    }
}

fn claim_of(name: &str) -> &'static str {
    let inside = steps::every().map(|step| (step.name, step.claim));
    inside.chain(outside::CLAIMS).chain(mutations::claims()).find(|(known, _)| *known == name).map_or("", |(_, claim)| claim)
}

impl Report {
    /// Of a run that begins now.
    pub fn new(folders: &Folders, options: &Options) -> Self {
        let server = match &options.mattermost {
            Mattermost::Release => "Mattermost, the release of images/lock.json".to_owned(),
            Mattermost::Double => format!("the API double of Mattermost {}: not the server itself", double::VERSIONS[0]),
            Mattermost::File(file) => format!("Mattermost from the file {}", file.display()),
        };
        Report {
            format: 1,
            run: folders.name(),
            server,
            began: now(),
            took: 0.0,
            passed: 0,
            failed: 0,
            not_run: 0,
            broke: None,
            world: BTreeMap::new(),
            phases: Vec::new(),
            steps: Vec::new(),
            folder: folders.run.clone(),
        }
    }

    /// What is said of the world.
    pub fn said(&self, what: &str) -> Option<&str> {
        self.world.get(what).map(String::as_str)
    }

    /// Takes what happened, and prints a line for a step that ended.
    pub fn take(&mut self, event: Event, out: &mut Output) {
        match event {
            Event::Phase(phase) => {
                out.say(format!("  {:6.1} s  {}", phase.took, phase.name));
                self.phases.push(phase);
            }
            Event::Said { what, value } => _ = self.world.insert(what, value),
            Event::Ended(ended) => {
                self.tell(&ended, out);
                match ended.verdict {
                    Verdict::Passed => self.passed += 1,
                    Verdict::Failed | Verdict::Flaky => self.failed += 1,
                    Verdict::NotRun => self.not_run += 1,
                    Verdict::NeedsRelease | Verdict::NeedsFull => {}
                }
                self.steps.push(Proved { claim: claim_of(&ended.step).to_owned(), ended });
            }
            Event::Began { .. } | Event::Broke { .. } | Event::Done => {}
        }
    }

    fn tell(&self, ended: &Ended, out: &mut Output) {
        let mark = ended.verdict.mark();
        match &ended.failure {
            Some(why) if ended.verdict.is_failure() => {
                out.say(format!("{mark} {:6.1} s  {}  {}", ended.took, ended.step, ended.verdict.words()));
                out.say(format!("    claim: {}", claim_of(&ended.step)));
                both_ends(why).iter().for_each(|line| out.say(format!("    {line}")));
                out.say(format!("    evidence: {}", self.folder.join("evidence").join(ended.step.replace("::", "-")).display()));
                out.say(format!("    logs: {}", self.folder.join("logs").display()));
            }
            Some(why) => out.say(format!("{mark}           {}  {why}", ended.step)),
            None => out.say(format!("{mark} {:6.1} s  {}", ended.took, ended.step)),
        }
    }

    /// The run did not come to its end.
    pub fn broke(&mut self, why: String) {
        self.broke = Some(why);
        self.failed += 1;
    }

    /// Writes `report.html`, `junit.xml` and `run.json`, and prints where the time went.
    pub fn write(&mut self, out: &mut Output) -> Result<()> {
        self.took = now() - self.began;
        let write = |name: &str, text: String| images::file::write_beside(&self.folder.join(name), text.as_bytes(), 0o644);
        write("report.html", html::page(self))?;
        write("junit.xml", junit::document(self))?;
        // The last: a folder with it is a finished run.
        write("run.json", json::document(self)?)?;
        out.say(format!("\n{:<64} {:>8}", "where the time went", "seconds"));
        let mut all: Vec<(&str, f64)> = self.phases.iter().map(|phase| (phase.name.as_str(), phase.took)).collect();
        all.extend(self.steps.iter().map(|step| (step.ended.step.as_str(), step.ended.took)));
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        for (name, took) in all.iter().filter(|(_, took)| *took >= 0.5) {
            out.say(format!("{name:<64} {took:>8.1}"));
        }
        out.say(format!("{:<64} {:>8.1}", "all, side by side", self.took));
        out.say(format!("report: {}", self.folder.join("report.html").display()));
        Ok(())
    }

    /// The closing line, and the error where something failed.
    pub fn verdict(&self, options: &Options, out: &mut Output) -> Result<()> {
        if options.json {
            out.result(json::document(self)?);
        } else {
            out.result(self.counts());
        }
        let failed: Vec<&str> =
            self.steps.iter().filter(|step| step.ended.verdict.is_failure()).map(|step| step.ended.step.as_str()).collect();
        match (&self.broke, failed.is_empty()) {
            (None, true) => Ok(()),
            (Some(why), _) => Err(Error::new(Class::Check, "the run broke off").detail(why.clone())),
            (None, false) => {
                let again = failed.iter().map(|name| format!(" --filter {name}")).collect::<String>();
                Err(Error::new(Class::Check, format!("not so: {}", failed.join(", "))).hint(format!("again: cargo xtask e2e{again}")))
            }
        }
    }

    /// `12 passed, 0 failed, 0 skipped`, as the checks of this repository count.
    fn counts(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.not_run)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::step::{Cell, Shown, Table};

    fn options() -> Options {
        Options {
            mattermost: Mattermost::Double,
            list: false,
            filter: Vec::new(),
            full: false,
            capture: false,
            mutate: false,
            json: false,
            keep: false,
            clean: false,
        }
    }

    /// A report with a step of each verdict.
    pub fn sample() -> Report {
        let folders = Folders { run: PathBuf::from("/nowhere/20200101-000000-1") };
        let options = options();
        let mut report = Report { began: 1000.0, took: 12.0, ..Report::new(&folders, &options) };
        let mut out = Output::new();
        let cell = |text: &str, good| Cell { text: text.to_owned(), good };
        let table = Table {
            title: "TURN".into(),
            columns: vec!["".into(), "UDP".into(), "TLS".into()],
            rows: vec![("symmetric".into(), vec![cell("0.4 ms", Some(true)), cell("blocked", Some(false))])],
        };
        let failure = "a <wrong> image\n  expected one\n  seen     other\u{1b}[1m";
        for (verdict, failure) in [
            (Verdict::Passed, None),
            (Verdict::Failed, Some(failure)),
            (Verdict::Flaky, Some("sometimes")),
            (Verdict::NotRun, Some("not run: nft")),
            (Verdict::NeedsRelease, Some("needs the release")),
        ] {
            let shown =
                Shown { facts: vec![("a & b".into(), "<c>".into())], files: vec!["evidence/one".into()], tables: vec![table.clone()] };
            let step = "egress::nothing_leaves".to_owned();
            report.take(Event::Ended(Ended { step, at: 1002.0, took: 3.0, verdict, failure: failure.map(str::to_owned), shown }), &mut out);
        }
        report.take(Event::Phase(Phase { name: "images".into(), at: 1000.0, took: 2.0 }), &mut out);
        for (what, value) in [("server", "192.168.77.20"), ("port of mattermost", "20000"), ("relay ports", "20010-20030")] {
            report.take(Event::Said { what: what.into(), value: value.into() }, &mut out);
        }
        report
    }

    #[test]
    fn flaky_is_failed_and_what_needs_the_release_is_no_part_of_the_run() {
        assert_eq!(sample().counts(), "1 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_run_that_broke_off_is_no_success() {
        let folders = Folders { run: PathBuf::from("/nowhere/1") };
        let options = options();
        let mut report = Report::new(&folders, &options);
        assert!(report.verdict(&options, &mut Output::new()).is_ok());
        report.broke("interrupted".into());
        assert!(report.verdict(&options, &mut Output::new()).unwrap_err().to_string().contains("interrupted"));
    }
}
