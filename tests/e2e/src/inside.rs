//! The part of a run that stands inside: in namespaces of its own for processes, mounts and networks, which the kernel empties when this
//! process ends, however it ends. It makes the world and runs the steps; what it finds goes into the journal.

use std::path::Path;
use std::sync::OnceLock;

use images::{Class, Error, Result};
use lab::{Lab, SERVER, address};
use xtask::cli::e2e::Options;
use xtask::machine::Machine;
use xtask::process::Process;
use xtask::workspace::Workspace;

use crate::egress;
use crate::journal::{Ended, Event, Journal, Verdict, now};
use crate::mutations;
use crate::runner;
use crate::step::{Shown, Step, When, prepared};
use crate::steps;
use crate::world::{Folders, World};

/// Temporary files of everything inside: nobody outside sees them, and they go with the last process. Short, because sockets lie there.
pub const TEMPORARY: &str = "/run/tmp";

/// With so much memory the Engine's data, up to 3 GiB, lies there.
const PLENTY: u64 = 8 << 30;

/// Makes the world, runs the steps, tells the journal. An error is in the journal too.
pub fn run(run: &Path, xtask: &Path, options: &Options) -> Result<()> {
    let folders = Folders { run: run.to_owned() };
    // Who removes the run's folder asks for this lock alone.
    let held = fs_err::File::open(crate::run::lock_of(run))?;
    held.file().lock_shared()?;
    let journal = Journal::open(&folders.journal())?;
    let done = proved(&folders, xtask, options, &journal);
    match &done {
        Ok(()) => journal.tell(&Event::Done)?,
        Err(error) => journal.tell(&Event::Broke { error: error.to_string() })?,
    }
    while options.keep && done.is_ok() {
        // Until somebody ends this process: then everything ends.
        std::thread::park();
    }
    done
}

fn proved(folders: &Folders, xtask: &Path, options: &Options, journal: &Journal) -> Result<()> {
    let workspace = Workspace::find()?;
    let machine = Machine::of(&workspace);
    // Sockets of the machine's own daemons are out of reach from here on.
    Process::new("mount", "/").args(["-t", "tmpfs", "tmpfs", "/run"]).capture()?;
    fs_err::create_dir_all(TEMPORARY)?;
    in_memory(&folders.lab())?;
    let lab: &'static Lab = journal.phase("network and Docker Engine", || {
        let lab = Lab::start(&machine, &folders.lab())?;
        egress::count(&lab)?;
        // It lives as long as the process.
        Ok(&*Box::leak(Box::new(lab)))
    })?;
    let capture = options.capture.then(|| lab.capture(&folders.run.join("capture.pcap"))).transpose()?;
    let world: &'static World = Box::leak(Box::new(World::new(lab, folders, xtask, options.mattermost.clone())?));
    told(world, journal)?;
    let chosen = chosen(world, options, journal)?;
    let of = |when: When| chosen.iter().copied().filter(|step| step.when == when).collect::<Vec<_>>();
    runner::together(world, journal, &of(When::FirstStart))?;
    if world.is_up() == Some(true) {
        runner::together(world, journal, &of(When::Shared))?;
        runner::together(world, journal, &of(When::Apart))?;
        runner::run(world, journal, &of(When::Alone), 1)?;
        if steps::EGRESS.is_chosen(&options.filter) {
            runner::run(world, journal, &[&steps::EGRESS], 1)?;
        }
        if mutations::are_wanted(options) {
            mutations::run(world, journal, options)?;
        }
    } else {
        for step in chosen.iter().filter(|step| step.when != When::FirstStart) {
            skip(journal, step, Verdict::NotRun, "the stack did not come up")?;
        }
    }
    if let Some(capture) = capture {
        let held = journal.phase("packet capture", || capture.end())?;
        journal.tell(&Event::Said { what: "packets captured".to_owned(), value: format!("{}, {} of STUN", held.packets, held.stun) })?;
    }
    journal.phase("evidence", || collect(world, folders))
}

/// Lays the Engine's data into memory, where there is plenty: it goes with the namespace, and nobody waits for a disk. Else it lies on the
/// disk, and is removed from there.
fn in_memory(folder: &Path) -> Result<()> {
    fs_err::create_dir_all(folder)?;
    if is_plenty() {
        Process::new("mount", "/").args(["-t", "tmpfs", "-o", "size=3g", "tmpfs"]).arg(folder).capture()?;
    }
    Ok(())
}

/// Whether there was memory for the Engine's data when this was asked first.
pub fn is_plenty() -> bool {
    static PLENTIFUL: OnceLock<bool> = OnceLock::new();
    *PLENTIFUL.get_or_init(|| fs_err::read_to_string("/proc/meminfo").is_ok_and(|told| available(&told) >= PLENTY))
}

/// Bytes that programs can still have, as `/proc/meminfo` tells.
fn available(told: &str) -> u64 {
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// The steps of this run. Others are told as not run, with the reason.
fn chosen(world: &World, options: &Options, journal: &Journal) -> Result<Vec<&'static Step>> {
    let mut chosen = Vec::new();
    for step in steps::all() {
        // The stack is started whoever wants it.
        if !step.is_chosen(&options.filter) && step.name != steps::UP {
            continue;
        }
        match step.absent(world.machine(), options) {
            None => chosen.push(step),
            Some(absent) => skip(journal, step, crate::report::verdict_of(&absent), &absent.to_string())?,
        }
    }
    Ok(chosen)
}

fn skip(journal: &Journal, step: &Step, verdict: Verdict, why: &str) -> Result<()> {
    let ended = Ended { step: step.name.to_owned(), at: now(), took: 0.0, verdict, failure: Some(why.to_owned()), shown: Shown::default() };
    journal.tell(&Event::Ended(ended))
}

/// What the report draws, and what somebody needs who wants to get in.
fn told(world: &World, journal: &Journal) -> Result<()> {
    let say = |what: &str, value: String| journal.tell(&Event::Said { what: what.to_owned(), value });
    say("project", world.site.project.clone())?;
    say("server", address(SERVER).to_string())?;
    say("holder", world.lab.server().pid().to_string())?;
    say("engine", world.lab.host())?;
    for (what, offset) in
        [("mattermost", 0), ("calls", 1), ("metrics", 2), ("alert gateway", 3), ("turn", 4), ("turns", 5), ("redirect", 6)]
    {
        say(&format!("port of {what}"), world.site.port(offset).to_string())?;
    }
    say("relay ports", format!("{}-{}", world.relay_ports().start(), world.relay_ports().end()))
}

/// What an auditor wants to see of the stack, without secrets.
fn collect(world: &World, folders: &Folders) -> Result<()> {
    let hidden = world.hidden();
    let keep = |name: &str, text: &str| -> Result<()> {
        images::file::write_beside(&prepared(&folders.run.join(name))?, hidden.redact(text).as_bytes(), 0o644)
    };
    for (service, id) in world.site.containers()? {
        let logs = world.lab.docker("logs --timestamps").arg(&id).outcome()?;
        keep(&format!("logs/{service}.log"), &lab::said(&logs))?;
        keep(&format!("inspect/{service}.json"), &world.lab.docker("inspect").arg(&id).text()?)?;
    }
    keep("compose.json", &fs_err::read_to_string(world.folder().compose()).unwrap_or_default())?;
    keep("site.toml", &fs_err::read_to_string(world.folder().toml())?)?;
    let said = fs_err::read(folders.lab().join("dockerd.log")).unwrap_or_default();
    keep("logs/dockerd.log", &String::from_utf8_lossy(&said))?;
    keep("packet-filter.txt", &world.lab.process("nft").args(["list", "ruleset"]).text()?)?;
    for entry in fs_err::read_dir(world.folder().pki())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".pem") && !name.ends_with("-key.pem") {
            keep(&format!("certificates/{name}"), &fs_err::read_to_string(entry.path())?)?;
        }
    }
    if world.is_up().is_none() {
        return Err(Error::new(Class::Build, "no step has started the stack"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_kernel_does_not_tell_is_no_plenty() {
        assert_eq!(super::available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), 2 << 20);
        assert_eq!(super::available("MemTotal: 9 kB\n"), 0);
    }
}
