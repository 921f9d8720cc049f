//! The Docker Engine: asking whether one answers, and starting one where none does.

pub mod api;
pub mod project;
pub mod survey;
pub mod swarm;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use images::{Class, Context, Error, Result};

use crate::machine::Machine;
use crate::output::Output;
use crate::process::{Process, Running, tail};

/// How long a started Engine may take to answer.
const START: Duration = Duration::from_secs(90);
/// How long a stopping Engine may take to end its containers.
const STOP: Duration = Duration::from_secs(30);

/// An Engine that this process started; it is stopped when this is dropped.
#[derive(Debug)]
pub struct Started {
    daemon: Option<Running>,
}

impl Started {
    /// Lets the Engine go on when this process ends: its process number.
    pub fn leave(mut self) -> u32 {
        self.daemon.take().map_or(0, Running::leave)
    }

    /// Ends the Engine and waits for it.
    pub fn stop(mut self, out: &mut Output) {
        if let Some(daemon) = self.daemon.take() {
            out.say(format!("stopping the Docker Engine (process {}) that this run started", daemon.pid()));
            daemon.stop(STOP);
        }
    }
}

/// The version of the Engine that answers. Errors with [`Class::Engine`] when none does, with the command that starts one.
pub fn version(machine: &Machine) -> Result<String> {
    let ask = machine.process("docker").args(["version", "--format", "{{.Server.Version}}"]).deadline(Duration::from_secs(20));
    let start = if machine.has_systemd() { "systemctl start docker" } else { "dockerd" };
    ask.fails_as(Class::Engine).text().map_err(|error| {
        let hint = format!("start one as root: {start}; or, as root on Debian and its kin: cargo xtask ci --install");
        if error.class() == Class::Engine { error.hint(hint) } else { error }
    })
}

/// Makes sure that an Engine answers, by starting one where none does. Says each step.
///
/// systemd starts it where systemd runs; it then stays. Else `dockerd` is started by hand, with its output in `log`, and
/// belongs to the caller.
pub fn ensure(machine: &Machine, log: &Path, out: &mut Output) -> Result<Option<Started>> {
    let error = match version(machine) {
        Ok(version) => {
            out.say(format!("Docker Engine {version} answers"));
            return Ok(None);
        }
        Err(error) => error,
    };
    // An Engine that was asked for by name is not replaced by another one.
    if std::env::var_os("DOCKER_HOST").is_some() || !machine.is_root() {
        return Err(error);
    }
    if machine.has_systemd() {
        out.say("systemctl start docker");
        machine.process("systemctl").args(["start", "docker"]).fails_as(Class::Engine).log_to(log)?;
        wait_until_it_answers(machine, log, None, out)?;
        return Ok(None);
    }
    let (process, how) = dockerd(machine)?;
    out.say(format!("{process}{how} (log: {})", log.display()));
    let daemon = process.start(log)?;
    wait_until_it_answers(machine, log, Some(&daemon), out)?;
    Ok(Some(Started { daemon: Some(daemon) }))
}

fn wait_until_it_answers(machine: &Machine, log: &Path, daemon: Option<&Running>, out: &mut Output) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < START {
        if let Ok(version) = version(machine) {
            out.say(format!("Docker Engine {version} answers after {:.1} s", start.elapsed().as_secs_f32()));
            return Ok(());
        }
        if let Some(status) = daemon.map(Running::ended).transpose()?.flatten() {
            return Err(with_log(Error::new(Class::Engine, format!("dockerd ended at once, with {status}")), log));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(with_log(Error::new(Class::Engine, format!("the Docker Engine does not answer {} s after its start", START.as_secs())), log))
}

fn with_log(error: Error, log: &Path) -> Error {
    let said = tail(&fs_err::read(log).unwrap_or_default(), 20);
    said.into_iter().fold(error, |error, line| error.detail(format!("| {line}"))).detail(format!("log: {}", log.display()))
}

/// The command that starts `dockerd` by hand, and what is special about it.
///
/// dockerd calls `iptables`. Debian's default speaks to nf_tables, which some kernels lack while they have the older
/// interface; then dockerd finds `iptables-legacy` under that name, in a folder before the others, and the machine's choice stays.
fn dockerd(machine: &Machine) -> Result<(Process, &'static str)> {
    let works = |program: &str| machine.process(program).args(["-t", "nat", "-L", "-n"]).outcome().is_ok_and(|outcome| outcome.success());
    let process = machine.process("dockerd");
    if works("iptables") {
        return Ok((process, ""));
    }
    match machine.find("iptables-legacy").filter(|_| works("iptables-legacy")) {
        Some(legacy) => {
            let folder = legacy_folder(machine, &legacy)?;
            let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(machine.path())));
            let path = path.map_err(|error| Error::new(Class::Engine, format!("cannot extend PATH: {error}")))?;
            Ok((process.env("PATH", path), ", with iptables-legacy as iptables"))
        }
        // Ports are still published, by docker-proxy.
        None => Ok((process.arg("--iptables=false"), ", as no iptables works here")),
    }
}

fn legacy_folder(machine: &Machine, legacy: &Path) -> Result<PathBuf> {
    let folder = machine.tools().join("iptables-legacy");
    fs_err::create_dir_all(&folder)?;
    for (name, target) in [("iptables", legacy.to_owned()), ("ip6tables", legacy.with_file_name("ip6tables-legacy"))] {
        let link = folder.join(name);
        if fs_err::symlink_metadata(&link).is_err() {
            fs_err::os::unix::fs::symlink(target, link).context(|| "choosing iptables-legacy")?;
        }
    }
    Ok(folder)
}
