//! `cargo xtask ci`: the one list of checks of this repository.

use std::time::{Duration, Instant};

use images::{Class, Error, Result};

use crate::engine;
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::workspace::Workspace;

mod lints;
mod relock;
mod suites;
mod tally;

use suites::{Ended, Run, SUITES, Suite, chosen, log_of};
use tally::Tally;

/// How long a run that nobody watches may take before what still runs is ended and reported.
const UNWATCHED: Duration = Duration::from_secs(80 * 60);

/// Run every check of this repository
///
/// Each suite's output is kept in target/ci/SUITE.log; its closing line stands alone on standard output. The exit code is 1
/// when a check failed. With --install, or with CI=true in the environment, nothing may be skipped.
#[derive(clap::Args)]
pub struct Args {
    /// Bring what this machine lacks, and start a Docker Engine where none runs; as root on Debian and its kin
    #[arg(long)]
    install: bool,
    /// Run these suites only
    #[arg(long, value_name = "SUITE", num_args = 1..)]
    only: Vec<String>,
    /// Print the suites, what each proves and which are skipped on this machine; run nothing
    #[arg(long, conflicts_with_all = ["install", "only"])]
    list: bool,
}

/// Runs the checks.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let mut workspace = Workspace::find()?;
    let mut machine = Machine::of(&workspace);
    if args.list {
        list(&machine, out);
        return Ok(());
    }
    let suites = chosen(&args.only, &workspace)?;
    let unwatched = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let deadline = unwatched.then(|| Instant::now() + UNWATCHED);
    let strict = unwatched || args.install;
    let logs = workspace.target().join("ci");
    fs_err::create_dir_all(&logs)?;

    let start = Instant::now();
    let mut installed = None;
    if args.install {
        installed = Some(bring(&machine, &log_of(&logs, "install"), out));
        // PostgreSQL's server lies in a folder that was not there before.
        machine = Machine::of(&workspace);
    }
    let engine = match suites.iter().any(|suite| suite.engine) && args.install {
        true => engine::ensure(&machine, &log_of(&logs, "dockerd"), out).unwrap_or_else(|error| {
            out.error(&error);
            None
        }),
        false => None,
    };

    let mut ended = Vec::new();
    for suite in suites {
        let log = log_of(&logs, suite.name);
        fs_err::write(&log, "")?;
        out.say(format!("\n{}: {}", suite.name, suite.proves));
        let run = Run { workspace: &mut workspace, machine: &machine, log, deadline, out: &mut *out, notes: Vec::new() };
        let mut end = suite.run(run);
        if strict && end.tally.skipped > 0 {
            end.notes.push(format!("{} skipped: a failure here, where everything has to be checked", end.tally.skipped));
            end.tally = end.tally.strict();
        }
        for note in &end.notes {
            out.say(note);
        }
        out.result(format!("{}: {}", suite.name, end.tally));
        ended.push((suite, end));
    }
    if let Some(engine) = engine {
        engine.stop(out);
    }
    summary(&ended, installed, start.elapsed(), out)
}

fn bring(machine: &Machine, log: &std::path::Path, out: &mut Output) -> Duration {
    let start = Instant::now();
    // What could not be brought is missing below, and counted there.
    if let Err(error) = fs_err::write(log, "").map_err(Error::from).and_then(|()| machine::install(machine, &machine.missing(), log, out)) {
        out.error(&error);
    }
    start.elapsed()
}

fn list(machine: &Machine, out: &mut Output) {
    for Suite { name, proves, needs, .. } in SUITES {
        out.result(format!("{name:<11} {proves}"));
        if let Err(error) = machine::require(machine, needs) {
            out.result(format!("            skipped here: {}", error.message()));
        }
    }
}

/// A table of the suites and one line over all.
fn summary(ended: &[(&Suite, Ended)], installed: Option<Duration>, all: Duration, out: &mut Output) -> Result<()> {
    let share = |took: Duration| 100.0 * took.as_secs_f64() / all.as_secs_f64().max(0.001);
    let mut total = Tally::default();
    out.say(format!("\n{:<11} {:>7} {:>7} {:>8} {:>9} {:>6}", "suite", "passed", "failed", "skipped", "seconds", "share"));
    if let Some(took) = installed {
        out.say(format!("{:<11} {:>7} {:>7} {:>8} {:>9.1} {:>4.0} %", "install", "", "", "", took.as_secs_f64(), share(took)));
    }
    for (suite, Ended { tally, took, .. }) in ended {
        let Tally { passed, failed, skipped } = tally;
        out.say(format!("{:<11} {passed:>7} {failed:>7} {skipped:>8} {:>9.1} {:>4.0} %", suite.name, took.as_secs_f64(), share(*took)));
        total += *tally;
    }
    out.say(format!("{:<11} {:>7} {:>7} {:>8} {:>9.1}\n", "all", total.passed, total.failed, total.skipped, all.as_secs_f64()));
    out.result(total.to_string());
    if total.failed == 0 {
        return Ok(());
    }
    let failed: Vec<&str> = ended.iter().filter(|(_, end)| end.tally.failed > 0).map(|(suite, _)| suite.name).collect();
    Err(Error::new(Class::Check, format!("checks failed: {}", failed.join(", ")))
        .hint(format!("again: cargo xtask ci --only {}", failed.join(" "))))
}
