//! One error type for the whole workspace: what happened, what was expected and found, and what to do next.
//!
//! The message is a lowercase fragment that reads well after "error: "; details are further lines; the hint is the
//! next step. The [`Class`] decides the exit code and nothing else.

use std::fmt;

/// `Result` with the workspace's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is, as far as a calling script cares: each has its own exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A check says no: something is out of date, refused or not as declared.
    Check,
    /// The command line, a spec or a lock is not usable as written.
    Usage,
    /// A tool that the step needs is not on this machine.
    MissingTool,
    /// The Docker Engine does not answer.
    Engine,
    /// Something could not be fetched.
    Fetch,
    /// Bytes are not those that the lock names.
    HashMismatch,
    /// The input does not make an image.
    Build,
    /// Two builds of one lock differ.
    NotReproducible,
    /// A server that is to be set up does not answer, or refuses.
    Server,
}

impl Class {
    /// The process exit code of this class.
    pub const fn exit_code(self) -> u8 {
        match self {
            Class::Check => 1,
            Class::Usage => 2,
            Class::MissingTool => 3,
            Class::Engine => 4,
            Class::Fetch => 5,
            Class::HashMismatch => 6,
            Class::Build => 7,
            Class::NotReproducible => 8,
            Class::Server => 9,
        }
    }
}

/// A failure that a person can act on.
#[derive(Debug)]
pub struct Error {
    class: Class,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
}

impl Error {
    /// An error of `class`; `message` is a lowercase fragment without a full stop.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Error { class, message: message.into(), details: Vec::new(), hint: None }
    }

    /// Adds a line below the message: what was expected, what was found, where.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Sets the next step for the reader.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done in front of the message: `while`: "reading libc6".
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// The class, hence the exit code.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The first line, without details and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for line in &self.details {
            write!(f, "\n  {line}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// File errors come from fs-err and name the file already.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        // An error of ours that travelled through a reader comes out as it went in.
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(foreign) if matches!(foreign.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
                Error::new(Class::Build, foreign.to_string()).hint("the disk is full; nothing half-written was kept")
            }
            Err(foreign) => Error::new(Class::Build, foreign.to_string()),
        }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::other(error)
    }
}

/// Adds what was being done to any error.
pub trait Context<T> {
    /// Puts `doing` in front of the message.
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context<D: fmt::Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().context(doing()))
    }
}
