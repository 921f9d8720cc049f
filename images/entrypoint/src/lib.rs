//! What the programs inside the images share: typed settings from the environment, secrets from files, waiting by asking,
//! exec, a small HTTP request, and one form of errors and exit codes.
//!
//! Few dependencies and no C: the bytes of these programs must not depend on the host that builds them.
//!
//! # Exit codes
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `healthcheck`: healthy |
//! | 1 | failed; for `healthcheck`: not healthy |
//! | 2 | a setting, a secret file or the command line is not usable: starting again will not help |
//! | 3 | something that is waited for did not come in time |
//!
//! A service that was started by exec ends with its own code.

#[cfg(feature = "tls")]
pub mod address;
pub mod env;
pub mod http;
pub mod resolve;
pub mod secret;
#[cfg(feature = "tls")]
pub mod tls;

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub use env::Env;
pub use secret::Secret;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is: each has its own exit code, see the crate's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 1.
    Failed,
    /// 2.
    Settings,
    /// 3.
    Deadline,
}

/// A failure that a person can act on. It never carries a secret.
#[derive(Debug, PartialEq)]
pub struct Error {
    class: Class,
    message: String,
    details: Vec<String>,
}

impl Error {
    /// Something did not work; `message` is a lowercase fragment that names the thing.
    pub fn failed(message: impl Into<String>) -> Self {
        Error { class: Class::Failed, message: message.into(), details: Vec::new() }
    }

    /// Something that a person wrote is not usable.
    pub fn settings(message: impl Into<String>) -> Self {
        Error { class: Class::Settings, ..Self::failed(message) }
    }

    /// Adds a line below the message: what was expected, what was found.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Several failures as one, so that a person mends all of them at once.
    pub fn all(errors: Vec<Error>) -> Result<()> {
        let mut errors = errors.into_iter();
        let Some(mut first) = errors.next() else { return Ok(()) };
        for error in errors {
            first.details.push(error.message);
            first.details.extend(error.details.into_iter().map(|line| format!("  {line}")));
        }
        Err(first)
    }

    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        self.class
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.details.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Error {}

/// File errors come from fs-err and name the file already.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::failed(error.to_string())
    }
}

/// The `main` of a program: runs it with its arguments and prints its error as the last thing. Every program knows `resolve NAME…`.
pub fn main(program: &str, run: impl FnOnce(&[String]) -> Result<()>) -> ExitCode {
    let arguments: Result<Vec<String>> = std::env::args_os()
        .skip(1)
        .map(|word| word.into_string().map_err(|word| Error::settings(format!("the argument {} is not UTF-8", word.display()))))
        .collect();
    let done = arguments.and_then(|arguments| match arguments.as_slice() {
        // Every program's: whoever looks at the stack asks what names mean inside each container.
        [verb, names @ ..] if verb == "resolve" => {
            names.iter().for_each(|name| println!("{}", resolve::line(name)));
            Ok(())
        }
        arguments => run(arguments),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: error: {error}");
            ExitCode::from(match error.class {
                Class::Failed => 1,
                Class::Settings => 2,
                Class::Deadline => 3,
            })
        }
    }
}

/// Becomes `command`: same process number, so that signals reach the service itself. Comes back only with an error.
pub fn exec(command: &mut std::process::Command) -> Error {
    let error = std::os::unix::process::CommandExt::exec(command);
    Error::failed(format!("{} cannot be started: {error}", command.get_program().display()))
}

/// Asks `ready` until it says so; its error says what is still missing.
///
/// # Errors
/// [`Class::Deadline`] with the last answer once `deadline` has passed.
pub fn wait(what: &str, deadline: Duration, mut ready: impl FnMut() -> Result<(), String>) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    const WORD: Duration = Duration::from_secs(5);
    let start = Instant::now();
    let mut spoken = Duration::ZERO;
    loop {
        let Err(answer) = ready() else { return Ok(()) };
        let waited = start.elapsed();
        if waited >= deadline {
            let error = Error::failed(format!("waited {} s for {what}", deadline.as_secs())).detail(format!("last answer: {answer}"));
            return Err(Error { class: Class::Deadline, ..error });
        }
        if waited >= spoken {
            eprintln!("waiting for {what}: {answer}");
            spoken = waited + WORD;
        }
        std::thread::sleep(PAUSE.min(deadline - waited));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_it_is_ready_or_with_the_last_answer() {
        let mut asked = 0;
        wait("it", Duration::from_secs(60), || {
            asked += 1;
            if asked == 2 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .expect("ready at the second question");
        let error = wait("it", Duration::ZERO, || Err("never".to_owned())).expect_err("it never is");
        assert_eq!((error.class(), error.to_string().as_str()), (Class::Deadline, "waited 0 s for it\n  last answer: never"));
    }

    #[test]
    fn every_failure_is_told_at_once() {
        assert_eq!(Error::all(Vec::new()), Ok(()));
        let errors = vec![Error::settings("a is wrong").detail("found 1"), Error::settings("b is wrong").detail("found 2")];
        let error = Error::all(errors).expect_err("two");
        assert_eq!(error.to_string(), "a is wrong\n  found 1\n  b is wrong\n    found 2");
        assert_eq!(error.class(), Class::Settings);
    }
}
