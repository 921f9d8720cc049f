//! The one way to start another program.
//!
//! A [`Process`] names its program, arguments, folder, environment and standard input; nothing is taken for granted but the
//! environment it inherits. Every error names the command, the folder, how it ended and the last lines of what it said,
//! because that is what a person would otherwise type again to see.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use images::{Class, Context, Error, Result};
use rustix::process::{Pid, Signal};

/// How many of a command's last lines an error repeats.
const TAIL_LINES: usize = 20;
/// How long a program may take to end after it was asked to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A command that has not been started yet.
#[derive(Clone, Debug)]
pub struct Process {
    program: OsString,
    args: Vec<OsString>,
    folder: PathBuf,
    env: Vec<(OsString, Option<OsString>)>,
    stdin: Option<Vec<u8>>,
    deadline: Option<Duration>,
    brought_by: Option<String>,
    class: Class,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status, as the system gave it.
    pub status: ExitStatus,
    /// Standard output; empty where it went to a log.
    pub stdout: Vec<u8>,
    /// Standard error; empty where it went to a log.
    pub stderr: Vec<u8>,
}

impl Outcome {
    /// Exit status 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

impl Process {
    /// `program` with no argument, to be run in `folder`, with an empty standard input.
    pub fn new(program: impl Into<OsString>, folder: impl Into<PathBuf>) -> Self {
        Process {
            program: program.into(),
            args: Vec::new(),
            folder: folder.into(),
            env: Vec::new(),
            stdin: None,
            deadline: None,
            brought_by: None,
            class: Class::Build,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments. Secrets never go here: every user of the machine can read them.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Runs it in another folder.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    /// What the program reads from its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Ends the program, and whatever it started, when it takes longer than this.
    ///
    /// The program then has a process group of its own, so Ctrl-C at the terminal does not reach it.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The command that brings the program to a machine without it, for the hint: `apt-get install skopeo`.
    #[must_use]
    pub fn brought_by(mut self, command: impl Into<String>) -> Self {
        self.brought_by = Some(command.into());
        self
    }

    /// The class of the error when the program fails; [`Class::Build`] where nothing is said.
    #[must_use]
    pub fn fails_as(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Runs it to the end and keeps both outputs; a non-zero exit status is an error.
    pub fn capture(&self) -> Result<Outcome> {
        let outcome = self.outcome()?;
        if outcome.success() {
            return Ok(outcome);
        }
        let said = if outcome.stderr.trim_ascii().is_empty() { &outcome.stdout } else { &outcome.stderr };
        Err(self.failure(outcome.status, said))
    }

    /// Standard output of a successful run as text, without white space around it.
    pub fn text(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.capture()?.stdout).trim().to_owned())
    }

    /// Runs it to the end and keeps both outputs, however it ended. Errors: it could not be started, or its deadline passed.
    pub fn outcome(&self) -> Result<Outcome> {
        let handle = self.spawn(self.expression()?.stdout_capture().stderr_capture(), self.deadline.is_some())?;
        self.finish(handle, |_| ())
    }

    /// Runs it with both outputs on this process's standard error: standard output is for results. A non-zero exit status is an error.
    pub fn inherit(&self) -> Result<()> {
        let handle = self.spawn(self.expression()?.stdout_to_stderr(), self.deadline.is_some())?;
        let outcome = self.finish(handle, |_| ())?;
        if outcome.success() { Ok(()) } else { Err(self.failure(outcome.status, b"")) }
    }

    /// Runs it with both outputs appended to `log`, after a line that names the command. `tick` is called about once a second
    /// with the time since the start. Errors: it could not be started, or its deadline passed.
    pub fn outcome_in_log(&self, log: &Path, tick: impl FnMut(Duration)) -> Result<Outcome> {
        let handle = self.spawn(self.to_log(log)?, self.deadline.is_some())?;
        self.finish(handle, tick)
            .map_err(|error| add_tail(error, &fs_err::read(log).unwrap_or_default()).detail(format!("log: {}", log.display())))
    }

    /// As [`Process::outcome_in_log`], and a non-zero exit status is an error that repeats the end of the log.
    pub fn log_to(&self, log: &Path) -> Result<()> {
        let before = fs_err::metadata(log).map(|log| log.len()).unwrap_or(0);
        let outcome = self.outcome_in_log(log, |_| ())?;
        if outcome.success() {
            return Ok(());
        }
        let all = fs_err::read(log)?;
        let said = all.get(usize::try_from(before).unwrap_or(0)..).unwrap_or(&all);
        Err(self.failure(outcome.status, said).detail(format!("log: {}", log.display())))
    }

    /// Starts it in a process group of its own with both outputs appended to `log`, and does not wait for it.
    pub fn start(&self, log: &Path) -> Result<Running> {
        let handle = self.spawn(self.to_log(log)?, true)?;
        Ok(Running { handle, name: self.to_string() })
    }

    /// Becomes the program: this process's input, outputs and terminal are its own, and its exit code is ours. Returns only what
    /// kept it from starting.
    pub fn replace(&self) -> Error {
        #[expect(clippy::disallowed_methods, reason = "this is the wrapper")]
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).current_dir(&self.folder);
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // Rust ignores SIGPIPE, and a program inherits that.
        self.cannot_start(&command.exec())
    }

    fn to_log(&self, log: &Path) -> Result<duct::Expression> {
        if let Some(folder) = log.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(log)?;
        writeln!(file, "$ {self}")?;
        Ok(self.expression()?.stderr_to_stdout().stdout_file(file.into_parts().0))
    }

    fn expression(&self) -> Result<duct::Expression> {
        // A folder that is not there gives the same system error as a program that is not there.
        if !self.folder.is_dir() {
            return Err(Error::new(self.class, format!("cannot run {self}: {} is not a folder", self.folder.display())));
        }
        #[expect(clippy::disallowed_methods, reason = "this is the wrapper")]
        let mut expression = duct::cmd(&self.program, &self.args).dir(&self.folder).unchecked();
        // In duct the innermost word about a variable wins; here the last one does.
        for (name, value) in self.env.iter().rev() {
            expression = match value {
                Some(value) => expression.env(name, value),
                None => expression.env_remove(name),
            };
        }
        Ok(match &self.stdin {
            Some(bytes) => expression.stdin_bytes(bytes.clone()),
            None => expression.stdin_null(),
        })
    }

    fn spawn(&self, mut expression: duct::Expression, own_group: bool) -> Result<duct::Handle> {
        if own_group {
            expression = expression.before_spawn(|command| {
                command.process_group(0);
                Ok(())
            });
        }
        expression.start().map_err(|error| self.cannot_start(&error))
    }

    fn cannot_start(&self, error: &std::io::Error) -> Error {
        let program = self.program.to_string_lossy();
        if error.kind() != std::io::ErrorKind::NotFound {
            return Error::new(self.class, format!("cannot start {program}: {error}")).detail(format!("command: {self}"));
        }
        let missing = Error::new(Class::MissingTool, format!("{program} is not on this machine")).detail(format!("needed for: {self}"));
        match &self.brought_by {
            Some(command) => missing.hint(command),
            None => missing,
        }
    }

    fn finish(&self, handle: duct::Handle, mut tick: impl FnMut(Duration)) -> Result<Outcome> {
        let start = Instant::now();
        let output = loop {
            let step = Duration::from_secs(1);
            let wait = self.deadline.map_or(step, |deadline| step.min(deadline.saturating_sub(start.elapsed())));
            if let Some(output) = handle.wait_timeout(wait).context(|| format!("waiting for {self}"))? {
                break output.clone();
            }
            let passed = start.elapsed();
            if let Some(deadline) = self.deadline.filter(|deadline| passed >= *deadline) {
                end(&handle, PATIENCE);
                let message = format!("{} did not finish within {} s", self.program.to_string_lossy(), deadline.as_secs_f32());
                return Err(self.where_it_ran(Error::new(self.class, message)).detail("it was ended, with every process of its group"));
            }
            tick(passed);
        };
        Ok(Outcome { status: output.status, stdout: output.stdout, stderr: output.stderr })
    }

    fn failure(&self, status: ExitStatus, said: &[u8]) -> Error {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("failed with exit status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "failed".to_owned(),
        };
        let error = Error::new(self.class, format!("{} {how}", self.program.to_string_lossy()));
        add_tail(self.where_it_ran(error), said)
    }

    fn where_it_ran(&self, error: Error) -> Error {
        error.detail(format!("command: {self}")).detail(format!("folder: {}", self.folder.display()))
    }
}

/// The command as a shell would take it. The environment is left out: it may hold what must not be shown.
impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=@+,%".contains(c));
        for (index, word) in std::iter::once(&self.program).chain(&self.args).enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            let word = word.to_string_lossy();
            if plain(&word) {
                f.write_str(&word)?;
            } else {
                write!(f, "'{}'", word.replace('\'', "'\\''"))?;
            }
        }
        Ok(())
    }
}

/// A program in the background. It is ended when this is dropped.
#[derive(Debug)]
pub struct Running {
    handle: duct::Handle,
    name: String,
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.handle.pids().first().copied().unwrap_or(0)
    }

    /// How it ended, or nothing while it runs.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(self.handle.try_wait().context(|| format!("waiting for {}", self.name))?.map(|output| output.status))
    }

    /// Lets it go on when this process ends: its process number.
    pub fn leave(self) -> u32 {
        let pid = self.pid();
        // What `drop` would do is to end it.
        std::mem::forget(self);
        pid
    }

    /// Asks it to end, waits up to `patience`, then kills its whole process group.
    pub fn stop(self, patience: Duration) {
        end(&self.handle, patience);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&self.handle, PATIENCE);
    }
}

/// Ends a process that leads a group: SIGTERM to it, SIGKILL to what is left of the group.
fn end(handle: &duct::Handle, patience: Duration) {
    let leader = handle.pids().first().and_then(|pid| Pid::from_raw((*pid).cast_signed()));
    // A process that was waited for has given its id back to the system: it must not be signalled any more.
    let (Some(leader), Ok(None)) = (leader, handle.try_wait()) else { return };
    // Errors mean that it is gone, which is the aim.
    let _ = rustix::process::kill_process_group(leader, Signal::TERM);
    let group_is_gone = || rustix::process::test_kill_process_group(leader).is_err();
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && !group_is_gone() {
        let _ = handle.wait_timeout(Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    let _ = handle.wait_timeout(PATIENCE);
}

fn add_tail(error: Error, said: &[u8]) -> Error {
    tail(said, TAIL_LINES).into_iter().fold(error, |error, line| error.detail(format!("| {line}")))
}

/// The last `lines` lines that are not empty, of bytes that are mostly text.
pub fn tail(said: &[u8], lines: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all.iter().skip(all.len().saturating_sub(lines)).map(|line| line.trim_end().to_owned()).collect()
}

/// The lines of what went wrong; of a long one its begin, which says what it is, and its end, which says why.
pub fn both_ends(text: &str) -> Vec<&str> {
    const BEGIN: usize = 6;
    const END: usize = 24;
    let lines: Vec<&str> = text.lines().collect();
    match lines.len() {
        long if long > BEGIN + END + 1 => [&lines[..BEGIN], &["…"], &lines[long - END..]].concat(),
        _ => lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_failure_keeps_its_begin_and_its_end() {
        let long: Vec<String> = (1..=100).map(|line| line.to_string()).collect();
        let long = long.join("\n");
        let shown = both_ends(&long);
        assert_eq!((shown[0], shown[6], shown[shown.len() - 1], shown.len()), ("1", "…", "100", 31));
        assert_eq!(both_ends("one\ntwo"), ["one", "two"]);
    }
}
