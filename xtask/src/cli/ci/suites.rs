//! The one list of checks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};

use super::lints::Files;
use super::relock;
use super::tally::{Tally, of_cargo_test, of_closing_line, words_of_failed_tests};
use crate::cli::e2e;
use crate::machine::{Machine, PARTS, missing_parts, require};
use crate::nix::{Nix, Nixpkgs};
use crate::output::Output;
use crate::process::{Process, tail};
use crate::workspace::Workspace;

/// A group of checks with one log and one closing line.
pub struct Suite {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it proves.
    pub proves: &'static str,
    /// Parts of the machine without which it is skipped.
    pub needs: &'static [&'static str],
    /// Whether containers are started.
    pub engine: bool,
    run: fn(&mut Run) -> Result<Tally>,
}

/// The images that need nothing but Debian's archive: those of README's first command.
const IMAGES: &[&str] = &["coturn", "postgres", "alert-gateway"];

/// Every suite, quick ones first.
pub const SUITES: &[Suite] = &[
    Suite { name: "machine", proves: "everything that the checks use is on this machine", needs: &[], engine: false, run: machine },
    Suite { name: "format", proves: "cargo fmt has nothing to change", needs: &[], engine: false, run: format },
    Suite { name: "lints", proves: "the repository's own rules hold for every file", needs: &["git"], engine: false, run: lints },
    Suite { name: "deny", proves: "dependencies: licences, bans, sources", needs: &["cargo-deny"], engine: false, run: deny },
    Suite { name: "clippy", proves: "no warning in any target", needs: &["cc"], engine: false, run: clippy },
    Suite { name: "lock", proves: "specs, ledger and lock agree", needs: &[], engine: false, run: lock },
    Suite { name: "images", proves: "real packages become images, twice the same", needs: &["cc", "git"], engine: false, run: images },
    Suite {
        name: "nix",
        proves: "through Nix: the same digests, twice, and every output of the flake",
        needs: &["cc", "git", "nix", "busybox"],
        engine: false,
        run: nix,
    },
    Suite { name: "tests", proves: "units, properties, snapshots, and the fuzzers' corpora", needs: &["cc"], engine: false, run: tests },
    Suite {
        name: "contract",
        proves: "the API double answers as a real server did",
        needs: &["cc", "initdb", "openssl"],
        engine: false,
        run: contract,
    },
    Suite {
        name: "acceptance",
        proves: "real packages, under the programs that people use",
        // Each test says itself what it needs, and is skipped with that reason.
        needs: &["cc"],
        engine: true,
        run: acceptance,
    },
    Suite {
        name: "e2e",
        proves: "the whole stack in a world of its own, with the API double",
        needs: &e2e::PARTS,
        engine: false,
        run: end_to_end,
    },
];

/// What a suite runs with.
pub struct Run<'a> {
    /// The checkout; a suite that has to renew the lock leaves a scratch copy of it here for later suites.
    pub workspace: &'a mut Workspace,
    /// The machine.
    pub machine: &'a Machine,
    /// Where what the suite's commands print goes.
    pub log: PathBuf,
    /// When every suite has to be done; nothing for a person, who has Ctrl-C.
    pub deadline: Option<Instant>,
    /// For progress.
    pub out: &'a mut Output,
    /// Why checks failed or were skipped: lines for the person who reads the end.
    pub notes: Vec<String>,
}

/// How a suite ended.
pub struct Ended {
    /// Its counts.
    pub tally: Tally,
    /// How long it took.
    pub took: Duration,
    /// Why checks failed or were skipped.
    pub notes: Vec<String>,
}

impl Suite {
    /// Whether this checkout has what the suite checks.
    pub fn is_there(&self, workspace: &Workspace) -> bool {
        self.name != "acceptance" || acceptance_crate(workspace).is_file()
    }

    /// Runs it. A part that is missing makes it one skipped check; an error makes it one failed check.
    pub fn run(&self, mut run: Run) -> Ended {
        let start = Instant::now();
        let tally = match require(run.machine, self.needs) {
            Err(error) => {
                run.notes.push(error.to_string());
                Tally { skipped: 1, ..Tally::default() }
            }
            Ok(()) => (self.run)(&mut run).unwrap_or_else(|error| {
                run.notes.push(error.to_string());
                Tally::one(false)
            }),
        };
        Ended { tally, took: start.elapsed(), notes: run.notes }
    }
}

impl Run<'_> {
    /// Runs a command of this suite into its log, with a sign of life now and then. True when it succeeded; what it said
    /// last is noted when it did not.
    fn succeeds(&mut self, process: Process) -> Result<bool> {
        let process = match self.deadline {
            Some(deadline) => process.deadline(deadline.saturating_duration_since(Instant::now())),
            None => process,
        };
        let mut said = Duration::ZERO;
        let (log, out) = (&self.log, &mut *self.out);
        let outcome = process.fails_as(Class::Check).outcome_in_log(log, |passed| {
            if passed >= said + Duration::from_secs(30) {
                said = passed;
                let last = tail(&fs_err::read(log).unwrap_or_default(), 1).concat();
                out.say(format!("  {} s: {}", passed.as_secs(), last.trim().chars().take(100).collect::<String>()));
            }
        })?;
        if !outcome.success() {
            let printed = fs_err::read(&self.log)?;
            // The end of a long run is seldom why it failed.
            let mut why = words_of_failed_tests(&String::from_utf8_lossy(&printed));
            if why.is_empty() {
                why = tail(&printed, 60);
            }
            self.notes.extend(why.into_iter().map(|line| format!("| {line}")));
        }
        Ok(outcome.success())
    }

    fn cargo(&mut self, args: &[&str]) -> Result<bool> {
        self.succeeds(self.machine.process("cargo").in_folder(self.workspace.root()).args(args).env("CARGO_TERM_COLOR", "never"))
    }

    /// This program, for the checkout.
    fn xtask(&mut self, args: &[&str]) -> Result<bool> {
        let process = self.own(args)?;
        self.succeeds(process)
    }

    fn own(&self, args: &[&str]) -> Result<Process> {
        let root = self.workspace.root();
        let process = Process::new(std::env::current_exe()?, root).args(args).env("PATH", self.machine.path());
        Ok(process.env("CARGO_MANIFEST_DIR", root.join("xtask")))
    }

    /// `cargo test` with `args`: its own counts.
    fn cargo_test(&mut self, args: &[&str]) -> Result<Tally> {
        let succeeded = self.cargo(&[&["test", "--no-fail-fast"], args].concat())?;
        let printed = String::from_utf8_lossy(&fs_err::read(&self.log)?).into_owned();
        let (tally, skipped) = of_cargo_test(&printed, succeeded);
        self.notes.extend(skipped.into_iter().map(|test| format!("skipped: {test}")));
        Ok(tally)
    }
}

fn machine(run: &mut Run) -> Result<Tally> {
    let missing = run.machine.missing();
    if !missing.is_empty() {
        run.notes.push(missing_parts(run.machine, &missing).to_string());
    }
    Ok(Tally { passed: PARTS.len() - missing.len(), failed: 0, skipped: missing.len() })
}

fn format(run: &mut Run) -> Result<Tally> {
    run.cargo(&["fmt", "--all", "--check"]).map(Tally::one)
}

fn lints(run: &mut Run) -> Result<Tally> {
    let mut tally = Tally::default();
    for (rule, complaints) in Files::read(run.workspace, run.machine)?.check() {
        tally += Tally::one(complaints.is_empty());
        run.notes.extend(complaints.iter().map(|complaint| format!("not so: {rule}: {complaint}")));
    }
    Ok(tally)
}

fn deny(run: &mut Run) -> Result<Tally> {
    // The fourth check, advisories, reads a database that is fetched from elsewhere: deny.toml says how to run it.
    let checks = ["bans", "licenses", "sources"];
    let all = run.succeeds(
        run.machine.process("cargo-deny").args(["--color", "never", "--all-features", "check", "--hide-inclusion-graph"]).args(checks),
    )?;
    Ok(Tally::one(all))
}

fn clippy(run: &mut Run) -> Result<Tally> {
    run.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).map(Tally::one)
}

fn lock(run: &mut Run) -> Result<Tally> {
    run.xtask(&["images", "lock", "--check"]).map(Tally::one)
}

/// Four checks: images are built, and built again the same; all of them with the API double; and without it, a release that cannot be
/// had ends as such.
fn images(run: &mut Run) -> Result<Tally> {
    let mut tally = Tally::one(build_images(run)?);
    if tally.failed == 0 {
        tally += Tally::one(run.xtask(&[&["images", "verify"], IMAGES].concat())?);
        tally += Tally::one(run.xtask(&["images", "--mattermost", "double"])?);
        tally += Tally::one(release_cannot_be_fetched(run)?);
    }
    Ok(tally)
}

/// The default is the vendor's release. Where nothing beyond this machine answers, that is the fetch that failed, and nothing else
/// takes its place. A store that somebody brought the release to has nothing to fetch.
fn release_cannot_be_fetched(run: &mut Run) -> Result<bool> {
    const NOBODY: &str = "http://127.0.0.1:9";
    let mut process = run.own(&["images", "mattermost", "--without-plugin", "jenkins"])?;
    for proxy in ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        process = process.env(proxy, NOBODY);
    }
    process = process.env("no_proxy", "").env("NO_PROXY", "").deadline(Duration::from_secs(600)).fails_as(Class::Check);
    let code = process.outcome_in_log(&run.log, |_| ())?.status.code();
    let wanted = i32::from(Class::Fetch.exit_code());
    if code != Some(wanted) && code != Some(0) {
        run.notes.push(format!("the release from a host that cannot be reached: exit code {code:?}, expected {wanted}"));
        return Ok(false);
    }
    Ok(true)
}

fn build_images(run: &mut Run) -> Result<bool> {
    let build = [&["images"], IMAGES].concat();
    if run.xtask(&build)? {
        return Ok(true);
    }
    let gone = relock::gone(&String::from_utf8_lossy(&fs_err::read(&run.log)?));
    if gone.is_empty() {
        return Ok(false);
    }
    let update: Vec<&str> = ["images", "lock", "--update"].into_iter().chain(gone.iter().map(String::as_str)).collect();
    run.notes.clear();
    let scratch = run.workspace.target().join("ci/relocked");
    *run.workspace = relock::scratch(run.workspace, run.machine, &scratch)?;
    run.notes.push(format!(
        "{} left Debian's archive; from here on the checks use a lock renewed in {}",
        gone.join(", "),
        scratch.display()
    ));
    run.notes.push(format!("the checkout wants: cargo xtask {}", update.join(" ")));
    Ok(run.xtask(&update)? && run.xtask(&build)?)
}

/// Three checks: both doors agree on every image and program and Nix with itself; on an image with a site's CA; `nix flake check`. Parts of
/// this machine stand in for nixpkgs: docs/nix.md says what that leaves unproved.
fn nix(run: &mut Run) -> Result<Tally> {
    tracked_by_git(run)?;
    let through = ["--nix", "--nixpkgs", "shim"];
    let mut tally = Tally::one(run.xtask(&[&["images", "--mattermost", "double", "--no-ca", "--rebuild"], &through[..]].concat())?);
    if tally.failed == 0 {
        tally += Tally::one(run.xtask(&[&["images", "coturn", "--ca", "images/tests/data/root.pem"], &through[..]].concat())?);
        let nix = Nix::find(run.workspace, Nixpkgs::Shim)?;
        for checked in [nix.flake_check(), outputs(&nix), apps(&nix)] {
            if let Err(error) = &checked {
                run.notes.push(error.to_string());
            }
            tally += Tally::one(checked.is_ok());
        }
    }
    Ok(tally)
}

/// What docs/nix.md names is there.
fn outputs(nix: &Nix) -> Result<()> {
    let packages = ["default", "images", "image-coturn", "image-postgres", "image-mattermost", "image-alert-gateway", "xtask"];
    for (output, wanted) in [("packages", &packages[..]), ("apps", &["default", "e2e"]), ("devShells", &["default"])] {
        let found = nix.names(output)?;
        let missing: Vec<&str> = wanted.iter().filter(|name| !found.iter().any(|one| one == *name)).copied().collect();
        if !missing.is_empty() {
            return Err(Error::new(Class::Check, format!("the flake has no {output}: {}", missing.join(", "))));
        }
    }
    Ok(())
}

/// Each app is the verb that it says.
fn apps(nix: &Nix) -> Result<()> {
    for (app, args, word) in [("default", &["images", "--help"][..], "images"), ("e2e", &["--help"], "e2e")] {
        let told = nix.run(app, args)?;
        if !told.contains(&format!("xtask {word}")) {
            let error = Error::new(Class::Check, format!("nix run .#{app} is another program than it says"));
            return Err(told.lines().take(5).fold(error, |error, line| error.detail(format!("| {line}"))));
        }
    }
    Ok(())
}

/// Nix takes what git tracks. The scratch copy with a renewed lock is not a repository yet.
fn tracked_by_git(run: &mut Run) -> Result<()> {
    if run.workspace.root().join(".git").exists() {
        return Ok(());
    }
    for args in [&["init", "--quiet"][..], &["add", "--all"]] {
        run.machine.process("git").in_folder(run.workspace.root()).args(args).capture()?;
    }
    Ok(())
}

fn tests(run: &mut Run) -> Result<Tally> {
    // Each of these is a suite of its own; the acceptance crate is not in every checkout.
    let mut exclude = vec!["--exclude", crate::double::PROGRAM];
    if acceptance_crate(run.workspace).is_file() {
        exclude.extend(["--exclude", "acceptance"]);
    }
    run.cargo_test(&[&["--workspace"], exclude.as_slice()].concat())
}

fn contract(run: &mut Run) -> Result<Tally> {
    run.cargo_test(&["--package", crate::double::PROGRAM])
}

fn acceptance(run: &mut Run) -> Result<Tally> {
    run.cargo_test(&["--package", "acceptance"])
}

fn end_to_end(run: &mut Run) -> Result<Tally> {
    let succeeded = run.xtask(&["e2e", "--mattermost", "double", "--full"])?;
    Ok(of_closing_line(&String::from_utf8_lossy(&fs_err::read(&run.log)?), succeeded))
}

fn acceptance_crate(workspace: &Workspace) -> PathBuf {
    workspace.root().join("tests/acceptance/Cargo.toml")
}

/// The suites that `only` names, all where it names none.
pub fn chosen(only: &[String], workspace: &Workspace) -> Result<Vec<&'static Suite>> {
    if let Some(unknown) = only.iter().find(|name| !SUITES.iter().any(|suite| suite.name == name.as_str())) {
        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        return Err(Error::new(Class::Usage, format!("there is no suite {unknown}")).detail(format!("known: {}", names.join(", "))));
    }
    let asked = |suite: &&Suite| only.is_empty() || only.iter().any(|name| name == suite.name);
    Ok(SUITES.iter().filter(asked).filter(|suite| suite.is_there(workspace)).collect())
}

/// The log of a suite.
pub fn log_of(folder: &Path, suite: &str) -> PathBuf {
    folder.join(format!("{suite}.log"))
}
