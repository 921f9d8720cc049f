//! The part of a run that stands outside: it prepares, starts the inside, prints what that one finds, looks at what is left, and writes
//! the report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use images::{Class, Context, Error, Result};
use xtask::cli::e2e::Options;
use xtask::cli::images::recipe::Mattermost;
use xtask::machine::Machine;
use xtask::output::Output;
use xtask::process::{Process, Running, tail};
use xtask::workspace::Workspace;

use crate::hidden::Hidden;
use crate::journal::{Ended, Event, Journal, Reader, Verdict, now};
use crate::report::Report;
use crate::run::{Run, alone, earlier, remove_world};
use crate::runner;
use crate::step::{Evidence, is_chosen};
use crate::untouched::Untouched;
use crate::world::Folders;
use crate::{inside, mutations, preflight, steps};

/// How long images may take that have to be fetched and compiled first.
const IMAGES: Duration = Duration::from_secs(3600);
/// How long everything beside the steps may take.
const BESIDE: Duration = Duration::from_secs(180);
/// How long the kernel may take to end what was killed.
const GONE: Duration = Duration::from_secs(20);

/// What is proved from outside, when the inside has ended.
pub const CLAIMS: [(&str, &str); 3] = [
    ("world::nothing_of_the_run_is_left", "No process, namespace, mount, control group or file of the run is left but its report"),
    ("world::images_site_and_engine_are_unchanged", "target/images, site/ and the user's own Engine are as they were before"),
    ("world::no_secret_is_in_the_report", "No secret of the site stands in any file of the report"),
];

/// Removes what earlier runs have left; with `kept` also those that were left up on purpose.
pub fn clean(workspace: &Workspace, kept: bool, out: &mut Output) -> Result<()> {
    let _alone = alone(workspace)?;
    for run in earlier(workspace)? {
        if run.alive && !(kept && run.end_kept()?) {
            if kept {
                out.say(format!("{} is at work; it is left alone", run.name()));
            }
            continue;
        }
        if run.remove_rest()? {
            out.say(format!("removed what {} had left", run.name()));
        }
    }
    Ok(())
}

/// A whole run.
pub fn prove(workspace: &Workspace, machine: &Machine, xtask: &Path, options: &Options, out: &mut Output) -> Result<()> {
    preflight::check(machine, workspace, options)?;
    clean(workspace, false, out)?;
    let options = &Options { mattermost: absolute(&options.mattermost)?, ..options.clone() };
    let stop = interrupted()?;
    let run = Run::begin(workspace)?;
    let folders = &run.folders;
    let mut report = Report::new(folders, options);
    let journal = Journal::open(&folders.journal())?;
    let mut reader = Reader::new(folders.journal());
    let before = Untouched::look(workspace, machine)?;
    let prepared = journal.phase("images", || prepare(workspace, machine, xtask, options, folders));
    if let Err(error) = prepared {
        remove_world(folders)?;
        fs_err::remove_dir_all(&folders.run)?;
        return Err(error);
    }
    let mut inside = Inside::start(workspace, xtask, options, folders)?;
    let broke = inside.follow(&mut reader, &mut report, &stop, options, out)?;
    if options.keep && broke.is_none() {
        report.write(out)?;
        return kept(inside, folders, &report, out).and(report.verdict(options, out));
    }
    let namespace = inside.namespace.clone();
    inside.running.stop(Duration::ZERO);
    let hidden = Hidden::of_site(&folders.site());
    let project = report.said("project").unwrap_or_default().to_owned();
    let after = Untouched::look(workspace, machine)?;
    let mut left = Left { before, after, namespace, folders, project, hidden, patience: GONE };
    for ended in left.looked_at(folders) {
        report.take(Event::Ended(ended), out);
    }
    if mutations::are_wanted(options) {
        for mutation in MUTATIONS.iter().filter(|mutation| is_chosen(mutation.name, &options.filter)) {
            report.take(Event::Ended(step(folders, mutation.name, |evidence| mutation.prove(&mut left, machine, evidence))), out);
        }
    }
    if let Some(error) = broke {
        report.broke(error.to_string());
    }
    report.write(out)?;
    report.verdict(options, out)
}

fn absolute(mattermost: &Mattermost) -> Result<Mattermost> {
    Ok(match mattermost {
        Mattermost::File(file) => Mattermost::File(std::path::absolute(file)?),
        other => other.clone(),
    })
}

/// Set by Ctrl-C and its kin.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context(|| "listening for Ctrl-C")?;
    }
    Ok(stop)
}

/// What `unshare` is told: the kernel ends every process of the namespace with the first one.
const OWN: [&str; 5] = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"];

/// The beginning of a command that ends when this process ends, however that comes about, and everything that it has started with it.
/// The kernel looks at the thread that starts it, which has to be the main one.
fn contained(workspace: &Workspace, more: &[&str]) -> Process {
    Process::new("setpriv", workspace.root()).args(["--pdeathsig", "KILL", "unshare"]).args(OWN).args(more)
}

/// What is missing is fetched and built here, because nothing leads out of the inside. The images are built without the site's CA,
/// whose layer comes on top of them there.
fn prepare(workspace: &Workspace, machine: &Machine, xtask: &Path, options: &Options, folders: &Folders) -> Result<()> {
    // What it starts in its turn, compilers among them, ends with this process too.
    let build = contained(workspace, &[]).arg(xtask).args(["images", "--no-ca", "--mattermost", &options.mattermost.to_string()]);
    let build = build.arg("--layout").arg(folders.layout()).env("PATH", machine.path()).deadline(IMAGES);
    build.env("CARGO_MANIFEST_DIR", workspace.root().join("xtask")).log_to(&folders.logs().join("images.log"))?;
    link(&workspace.target().join("store"), &folders.store())
}

/// The same tree, whose files are the same files.
fn link(from: &Path, to: &Path) -> Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link(&entry.path(), &place)?;
        } else if let Err(error) = fs_err::hard_link(entry.path(), &place) {
            // Another run may have fetched something meanwhile, under a name for the time being.
            if error.kind() != std::io::ErrorKind::NotFound {
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// The process inside.
struct Inside {
    running: Running,
    begin: Instant,
    log: PathBuf,
    /// Its process namespace, as `/proc` calls it.
    namespace: Option<String>,
}

impl Inside {
    fn start(workspace: &Workspace, xtask: &Path, options: &Options, folders: &Folders) -> Result<Inside> {
        let process = match options.keep {
            true => Process::new("unshare", workspace.root()).args(OWN).arg("--net"),
            false => contained(workspace, &["--net"]),
        };
        let process = process.arg(std::env::current_exe()?).arg("--xtask").arg(xtask).arg("--inside").arg(&folders.run);
        let process = process
            .args(["--mattermost", &options.mattermost.to_string()])
            .args(options.keep.then_some("--keep"))
            .args(options.full.then_some("--full"));
        let process = process.args(options.mutate.then_some("--mutate")).args(options.capture.then_some("--capture"));
        let process = options.filter.iter().fold(process, |process, text| process.args(["--filter", text]));
        let process = ["DOCKER_HOST", "DOCKER_CONTEXT", "CI"].iter().fold(process, Process::env_remove);
        let process = process.env("TMPDIR", inside::TEMPORARY).env("CARGO_MANIFEST_DIR", workspace.root().join("xtask"));
        let log = folders.logs().join("inside.log");
        Ok(Inside { running: process.start(&log)?, begin: Instant::now(), log, namespace: None })
    }

    /// Prints what is found until everything is done. What keeps it from that is returned.
    fn follow(
        &mut self,
        reader: &mut Reader,
        report: &mut Report,
        stop: &AtomicBool,
        options: &Options,
        out: &mut Output,
    ) -> Result<Option<Error>> {
        let chosen: Vec<_> = steps::all().filter(|step| step.is_chosen(&options.filter) || step.name == steps::UP).collect();
        let limit = BESIDE + runner::limit(&chosen) + mutations::limit(options);
        loop {
            let ended = self.running.ended()?;
            self.namespace = self.namespace.take().or_else(|| self.pid().and_then(namespace_of));
            for event in reader.news() {
                match event {
                    Event::Done => return Ok(None),
                    Event::Broke { error } => return Ok(Some(Error::new(Class::Check, error))),
                    other => report.take(other, out),
                }
            }
            if let Some(status) = ended {
                let error = Error::new(Class::Check, format!("the inside of the run ended with {status}"));
                let said = tail(&fs_err::read(&self.log).unwrap_or_default(), 20);
                return Ok(Some(said.into_iter().fold(error, |error, line| error.detail(format!("| {line}")))));
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(Some(Error::new(Class::Check, "interrupted")));
            }
            if self.begin.elapsed() > limit {
                return Ok(Some(Error::new(Class::Check, format!("the run did not end within {} s", limit.as_secs()))));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first process inside, as this side numbers it.
    fn pid(&self) -> Option<u32> {
        let unshare = self.running.pid();
        let children = fs_err::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

fn namespace_of(pid: u32) -> Option<String> {
    let of = |pid: &str| fs_err::read_link(format!("/proc/{pid}/ns/pid")).ok().map(|link| link.display().to_string());
    of(&pid.to_string()).filter(|own| Some(own) != of("self").as_ref())
}

/// Leaves everything up, and says how to get in.
fn kept(inside: Inside, folders: &Folders, report: &Report, out: &mut Output) -> Result<()> {
    let pid = inside.pid().ok_or_else(|| Error::new(Class::Check, "the kept run has no process"))?;
    fs_err::write(folders.run.join("kept.pid"), pid.to_string())?;
    inside.running.leave();
    let of = |what: &str| report.said(what).unwrap_or_default().to_owned();
    out.say("\nthe stack is left up. On its server:");
    out.say(format!("    nsenter --target {pid} --mount --pid --net=/proc/{pid}/root/proc/{}/ns/net", of("holder")));
    out.say("and there:");
    out.say(format!("    export DOCKER_HOST={}", of("engine")));
    out.say("    docker ps");
    out.say(format!("    cargo xtask status --site {}", folders.site().display()));
    out.say("to end it: cargo xtask e2e --clean");
    Ok(())
}

fn step(folders: &Folders, name: &'static str, proves: impl FnOnce(&mut Evidence) -> Result<()>) -> Ended {
    let (at, mut evidence) = (now(), Evidence::new(&folders.run, name, &folders.site()));
    let failure = proves(&mut evidence).err().map(|error| error.to_string());
    let verdict = if failure.is_some() { Verdict::Failed } else { Verdict::Passed };
    Ended { step: name.to_owned(), at, took: now() - at, verdict, failure, shown: std::mem::take(&mut evidence.shown) }
}

/// What there is when the inside has ended.
struct Left<'a> {
    before: Untouched,
    after: Untouched,
    namespace: Option<String>,
    folders: &'a Folders,
    project: String,
    hidden: Hidden,
    /// How long the kernel may take to end what was killed.
    patience: Duration,
}

impl Left<'_> {
    /// Each of [`CLAIMS`]; what they keep lies in a folder.
    fn looked_at(&self, evidence: &Folders) -> [Ended; 3] {
        [
            step(evidence, CLAIMS[0].0, |evidence| self.is_gone(evidence)),
            step(evidence, CLAIMS[1].0, |evidence| self.is_unchanged(evidence)),
            step(evidence, CLAIMS[2].0, |evidence| self.has_no_secret(evidence)),
        ]
    }

    fn is_unchanged(&self, evidence: &mut Evidence) -> Result<()> {
        let found = self.before.compare(&self.after, self.folders, &self.project);
        if !found.others.is_empty() {
            evidence.fact("changed meanwhile, by others", found.others.join("; "));
        }
        evidence.same("changed by this run", Vec::<String>::new(), found.ours)
    }

    /// Waits until the kernel has ended what was killed, and removes the world.
    fn is_gone(&self, evidence: &mut Evidence) -> Result<()> {
        let begin = Instant::now();
        let processes = || processes(self.namespace.as_deref(), self.folders);
        let mut left = processes();
        while !left.is_empty() && begin.elapsed() < self.patience {
            std::thread::sleep(Duration::from_millis(20));
            left = processes();
        }
        evidence.same("processes", Vec::<String>::new(), left)?;
        let mounts = fs_err::read_to_string("/proc/self/mountinfo")?;
        let ours: Vec<String> =
            mounts.lines().filter(|line| line.contains(&*self.folders.run.to_string_lossy())).map(str::to_owned).collect();
        evidence.same("mounts", Vec::<String>::new(), ours)?;
        remove_world(self.folders)?;
        evidence.same("its folder and control groups", false, self.folders.world().exists())
    }

    fn has_no_secret(&self, evidence: &mut Evidence) -> Result<()> {
        let (run, world) = (&self.folders.run, self.folders.world());
        evidence.holds("secrets that are looked for", "at least 6", self.hidden.count(), self.hidden.count() >= 6)?;
        evidence.same("found", Vec::<String>::new(), self.hidden.found_below(run, &world)?)
    }
}

/// Something that a run must not leave, and how it comes to be there.
pub struct Mutation {
    /// `mutations::what_is_left`.
    pub name: &'static str,
    /// The same in words.
    pub claim: &'static str,
    /// Which of [`CLAIMS`] has to see it.
    pub red: &'static str,
    made: fn(&mut Left, &Machine) -> Result<Back>,
}

/// Takes away what was put there.
type Back = Box<dyn FnOnce() -> Result<()>>;

/// One for each claim.
pub const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "mutations::a_process_is_left",
        claim: "A program is still at work in the folder of the run",
        red: CLAIMS[0].0,
        made: |left, machine| {
            let program = machine.process("tail").args(["--follow", "/dev/null"]).arg(left.folders.world());
            let running = program.start(&left.folders.logs().join("mutations.log"))?;
            Ok(Box::new(|| {
                running.stop(Duration::ZERO);
                Ok(())
            }))
        },
    },
    Mutation {
        name: "mutations::a_file_of_the_images_is_other_than_before",
        claim: "A file of target/images is other than before",
        red: CLAIMS[1].0,
        made: |left, machine| {
            // Not in the user's own.
            let folder = tempfile::tempdir()?;
            let workspace = Workspace::at(folder.path());
            fs_err::create_dir_all(workspace.target().join("images"))?;
            left.before = Untouched::look(&workspace, machine)?;
            fs_err::write(workspace.target().join("images/index.json"), "{}")?;
            left.after = Untouched::look(&workspace, machine)?;
            Ok(Box::new(|| folder.close().map_err(Error::from)))
        },
    },
    Mutation {
        name: "mutations::a_secret_is_in_the_report",
        claim: "A secret of the site stands in a file of the report",
        red: CLAIMS[2].0,
        made: |left, _| {
            let folder = tempfile::tempdir_in(&left.folders.run)?;
            fs_err::write(folder.path().join("trap.txt"), left.hidden.sample().unwrap_or_default())?;
            Ok(Box::new(|| folder.close().map_err(Error::from)))
        },
    },
];

impl Mutation {
    fn prove(&self, left: &mut Left, machine: &Machine, evidence: &mut Evidence) -> Result<()> {
        left.patience = Duration::ZERO;
        let untouched = (left.before.clone(), left.after.clone());
        let back = (self.made)(left, machine)?;
        let own = tempfile::tempdir()?;
        let seen = left.looked_at(&Folders { run: own.path().to_owned() });
        back()?;
        (left.before, left.after) = untouched;
        let names = CLAIMS.map(|(name, _)| name);
        let seen = names.into_iter().zip(seen).map(|(name, ended)| (name, ended.failure.map_or(Ok(()), Err))).collect();
        mutations::verdict(self.claim, &[self.red], seen, &left.hidden, evidence)
    }
}

/// Processes in the run's namespace, or at work in its folder.
fn processes(namespace: Option<&str>, folders: &Folders) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) || pid == std::process::id().to_string() {
            continue;
        }
        let own = fs_err::read_link(entry.path().join("ns/pid")).map(|link| link.display().to_string()).unwrap_or_default();
        let command = String::from_utf8_lossy(&fs_err::read(entry.path().join("cmdline")).unwrap_or_default()).replace('\0', " ");
        if Some(own.as_str()) == namespace || command.contains(&*folders.world().to_string_lossy()) {
            found.push(format!("{pid} {command}"));
        }
    }
    found
}
