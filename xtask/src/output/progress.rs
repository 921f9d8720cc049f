//! Progress on stderr: a line for each step under way on a terminal; elsewhere a line for each large thing that is done, and for each
//! that takes long when it begins.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use images::progress::{Progress, Step, human};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Off a terminal, only what is at least so large gets a line: a log wants few.
const LARGE: u64 = 16 << 20;

/// The bars of one command.
pub struct Bars {
    bars: MultiProgress,
    terminal: bool,
}

impl Bars {
    pub(super) fn new() -> Self {
        Bars { bars: MultiProgress::new(), terminal: std::io::stderr().is_terminal() }
    }

    /// Runs `say` with the bars out of its way.
    pub(super) fn suspend(&self, say: impl FnOnce()) {
        if self.terminal { self.bars.suspend(say) } else { say() }
    }
}

impl Progress for Bars {
    fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Step> {
        if !self.terminal {
            return Box::new(Line { label: label.to_owned(), total, passed: AtomicU64::new(0) });
        }
        let bar = self.bars.add(match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        });
        bar.set_style(style(total.is_some()));
        bar.set_message(label.to_owned());
        Box::new(Bar(bar))
    }

    fn begin_long(&self, label: &str) -> Box<dyn Step> {
        if !self.terminal {
            eprintln!("{label}");
        }
        self.begin(label, None)
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "  {msg:45!} {bar:20} {binary_bytes:>10} of {binary_total_bytes:10} {binary_bytes_per_sec}"
    } else {
        "  {msg:45!} {spinner} {binary_bytes:>10}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|error| unreachable!("a template of this file: {error}"))
}

/// A step on a terminal.
struct Bar(ProgressBar);

impl Step for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn restart(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    fn done(self: Box<Self>) {}
}

impl Drop for Bar {
    /// A finished step leaves the screen, and so does a failed one: its error says more.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A step in a log.
struct Line {
    label: String,
    total: Option<u64>,
    passed: AtomicU64,
}

impl Step for Line {
    fn advance(&self, bytes: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    fn restart(&self, bytes: u64) {
        self.passed.store(bytes, Ordering::Relaxed);
    }

    fn done(self: Box<Self>) {
        let size = self.total.unwrap_or_else(|| self.passed.load(Ordering::Relaxed));
        if size >= LARGE {
            eprintln!("{}: {}", self.label, human(size));
        }
    }
}
