//! Takes alerts from the spool to Mattermost, one after the other, until each is posted or refused.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use entrypoint::Result;

use crate::alert::Key;
use crate::post::{Mattermost, Outcome};
use crate::source::Source;
use crate::spool::Spool;

/// How long to wait after a failure: doubled each time, up to a limit, give or take a quarter.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After the first failure.
    pub first: Duration,
    /// At most, unless the server asks for more.
    pub longest: Duration,
    /// How often to look for an address.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { first: Duration::from_secs(1), longest: Duration::from_secs(60), look: Duration::from_secs(5) }
    }
}

impl Pace {
    fn after(&self, failures: u32) -> Duration {
        let pause = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest);
        // The hasher's keys are random: enough to keep several gateways from asking in step.
        let jitter = RandomState::new().hash_one(failures) % 51;
        pause.mul_f64(0.75 + jitter as f64 / 100.0)
    }
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Posts that Mattermost accepted.
    pub posted: AtomicU64,
    /// Posts that it refused for good.
    pub refused: AtomicU64,
    /// Posts that have to be tried again.
    pub failed: AtomicU64,
}

/// A failure's memory.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    until: Option<Instant>,
}

impl Failures {
    fn ready(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn again(&mut self, pace: &Pace, asked: Option<Duration>) -> Duration {
        self.count = self.count.saturating_add(1);
        let pause = asked.unwrap_or_default().max(pace.after(self.count));
        self.until = Some(Instant::now() + pause);
        pause
    }
}

/// Delivers until `stop` is set and the spool is woken; the post under way is finished.
pub fn run(spool: &Spool, mattermost: &Mattermost, pace: &Pace, counts: &Counts, stop: &AtomicBool) {
    let mut sources: HashMap<Source, Failures> = HashMap::new();
    let mut lanes: HashMap<Key, Failures> = HashMap::new();
    while !stop.load(Ordering::SeqCst) {
        let known: Vec<Source> = Source::ALL.into_iter().filter(|source| mattermost.is_known(*source)).collect();
        let now = Instant::now();
        let next = spool.first(|lane, source| {
            let ready = |failures: Option<&Failures>| failures.is_none_or(|failures| failures.ready(now));
            known.contains(&source) && ready(sources.get(&source)) && ready(lanes.get(&lane))
        });
        let Some((number, lane, source)) = next else {
            let failures = lanes.values().chain(sources.values());
            let until = failures.filter_map(|failures| failures.until).filter(|until| *until > now).min();
            spool.wait(until.map_or(pace.look, |until| (until - now).min(pace.look)));
            continue;
        };
        let outcome = match spool.read(number) {
            Ok(alert) => mattermost.post(source, alert.message.to_string().as_bytes()),
            Err(error) => Outcome::Retry { why: error.to_string(), after: None, all: false },
        };
        match outcome {
            Outcome::Posted => {
                counts.posted.fetch_add(1, Ordering::Relaxed);
                println!("alert-gateway: alert {number} is posted");
                note(spool, pace, stop, number, || spool.posted(number));
            }
            Outcome::Refused(status) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                eprintln!("alert-gateway: alert {number} is a dead letter: Mattermost says {status}, and would again");
                note(spool, pace, stop, number, || spool.refused(number));
            }
            Outcome::Retry { why, after, all: everybody } => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                let failures = if everybody { sources.entry(source).or_default() } else { lanes.entry(lane).or_default() };
                let pause = failures.again(pace, after);
                eprintln!("alert-gateway: alert {number} is tried again in {:.1} s: {why}", pause.as_secs_f32());
                continue;
            }
        }
        sources.remove(&source);
        lanes.remove(&lane);
    }
}

/// Writes down how a post ended. Where the disk says no, that is tried again, and not the post: nothing else is posted until then.
fn note(spool: &Spool, pace: &Pace, stop: &AtomicBool, number: u64, write: impl Fn() -> Result<()>) {
    let mut failures = Failures::default();
    while let Err(error) = write() {
        let pause = failures.again(pace, None);
        eprintln!("alert-gateway: alert {number}: how it ended is written down again in {:.1} s: {error}", pause.as_secs_f32());
        while let Some(left) = failures.until.and_then(|until| until.checked_duration_since(Instant::now())) {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            spool.wait(left);
        }
    }
}

#[cfg(test)]
mod tests;
