//! Runs steps: side by side where they may be, each with its own deadline.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};

use crate::journal::{Ended, Event, Journal, Verdict, now};
use crate::step::{Evidence, Shown, Step};
use crate::world::World;

/// How many run side by side: they wait more than they work.
const TOGETHER: usize = 8;

/// A step at work.
struct Working {
    step: &'static Step,
    since: Instant,
    at: f64,
}

/// Runs `steps`, `together` side by side, and tells how each ended. A step that is late is told as such, and not waited for any longer: its
/// thread ends with the process.
pub fn run(world: &'static World, journal: &Journal, steps: &[&'static Step], together: usize) -> Result<()> {
    let mut waiting: VecDeque<&'static Step> = steps.iter().copied().collect();
    let mut working: Vec<Working> = Vec::new();
    let (send, receive) = mpsc::channel::<(&'static str, Ended)>();
    loop {
        while working.len() < together
            && let Some(step) = waiting.pop_front()
        {
            journal.tell(&Event::Began { step: step.name.to_owned() })?;
            working.push(Working { step, since: Instant::now(), at: now() });
            start(world, step, send.clone());
        }
        let Some(next) = working.iter().map(|one| one.step.deadline.saturating_sub(one.since.elapsed())).min() else { return Ok(()) };
        match receive.recv_timeout(next) {
            Ok((name, ended)) => {
                // One that was late already has been told.
                if let Some(place) = working.iter().position(|one| one.step.name == name) {
                    working.swap_remove(place);
                    journal.tell(&Event::Ended(ended))?;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                for late in working.extract_if(.., |one| one.since.elapsed() >= one.step.deadline) {
                    journal.tell(&Event::Ended(overdue(&late)))?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Error::new(Class::Build, "the steps' threads are gone")),
        }
    }
}

/// As many side by side as there may be.
pub fn together(world: &'static World, journal: &Journal, steps: &[&'static Step]) -> Result<()> {
    run(world, journal, steps, TOGETHER)
}

fn overdue(late: &Working) -> Ended {
    let limit = late.step.deadline.as_secs();
    Ended {
        step: late.step.name.to_owned(),
        at: late.at,
        took: late.since.elapsed().as_secs_f64(),
        verdict: Verdict::Failed,
        failure: Some(format!("it took too long\n  expected an end within {limit} s\n  seen     none")),
        shown: Shown::default(),
    }
}

fn start(world: &'static World, step: &'static Step, send: Sender<(&'static str, Ended)>) {
    std::thread::spawn(move || {
        let (at, since) = (now(), Instant::now());
        let again = || once(world, step, Evidence::new(&world.run, step.name, &world.site.folder));
        let (first, shown) = again();
        let (verdict, failure, shown) = match first {
            Ok(()) => (Verdict::Passed, None, shown),
            // Whether it fails always or sometimes is worth knowing; it fails the run either way. What breaks things is not done twice.
            Err(why) if step.when == crate::step::When::Shared && since.elapsed() < step.deadline / 2 => match again() {
                (Ok(()), shown) => (Verdict::Flaky, Some(format!("{why}\n  the second time it passed")), shown),
                (Err(why), shown) => (Verdict::Failed, Some(why), shown),
            },
            Err(why) => (Verdict::Failed, Some(why), shown),
        };
        let failure = failure.map(|why| world.hidden().redact(&why));
        let ended = Ended { step: step.name.to_owned(), at, took: since.elapsed().as_secs_f64(), verdict, failure, shown };
        // Nobody listens any more when the run is over.
        let _ = send.send((step.name, ended));
    });
}

/// Runs a step, whatever becomes of it.
pub fn once(world: &World, step: &Step, mut evidence: Evidence) -> (Result<(), String>, Shown) {
    let proved = catch_unwind(AssertUnwindSafe(|| (step.proves)(world, &mut evidence)));
    let result = match proved {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(words(panic.as_ref())),
    };
    (result, evidence.shown)
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// How long the whole of `steps` may take at most.
pub fn limit(steps: &[&'static Step]) -> Duration {
    steps.iter().map(|step| step.deadline).sum()
}
