//! Where words go: results to stdout, talk and progress to stderr.

mod progress;

use std::borrow::Cow;
use std::io::Write;
use std::process::ExitCode;

use images::Error;

use crate::workspace::Workspace;

pub use progress::Bars;

/// The two streams of a command.
pub struct Output {
    color: bool,
    bars: Bars,
    /// Where a bundle was applied there is no cargo: what is to be typed is the program itself.
    applied: bool,
}

impl Output {
    /// Colour only on a terminal, and not where `NO_COLOR` is set.
    #[expect(clippy::new_without_default, reason = "it reads the environment")]
    pub fn new() -> Self {
        let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
        Output { color, bars: Bars::new(), applied: Workspace::home().is_ok_and(|home| home.applied().is_some()) }
    }

    /// A line of the result, to stdout. A closed pipe ends the process quietly, as for any filter.
    pub fn result(&mut self, line: impl AsRef<str>) {
        if writeln!(std::io::stdout(), "{}", self.typed(line.as_ref())).is_err() {
            std::process::exit(0);
        }
    }

    /// A line for the person who waits, to stderr.
    pub fn say(&mut self, line: impl AsRef<str>) {
        let line = self.typed(line.as_ref());
        self.bars.suspend(|| eprintln!("{line}"));
    }

    /// Where long steps are reported.
    pub fn progress(&self) -> &Bars {
        &self.bars
    }

    /// A failure, to stderr.
    pub fn error(&mut self, error: &Error) {
        let (red, off) = if self.color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        eprintln!("{red}error{off}: {}", self.typed(&error.to_string()));
    }

    /// A text with commands as they are typed here.
    fn typed<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.applied {
            true => text.replace("cargo xtask", "./xtask").into(),
            false => text.into(),
        }
    }

    /// How a program ends: an error is told, and its class is the exit code.
    pub fn end(&mut self, result: images::Result<()>) -> ExitCode {
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                self.error(&error);
                ExitCode::from(error.class().exit_code())
            }
        }
    }
}
