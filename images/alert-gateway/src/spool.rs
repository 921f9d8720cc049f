//! The alerts that the gateway has said yes to, until Mattermost has them: on disk ([`store`]), and in memory what is looked up
//! all the time.
//!
//! An alert is on disk before it is acknowledged. When Mattermost has it, it leaves the queue and its event is noted in one step, so
//! that a gateway that is killed does not post again. One window is left, which no receiver can close: killed after Mattermost
//! accepted and before that is noted, the alert is posted twice.

mod control;
mod store;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use entrypoint::{Error, Result};

use crate::alert::{Alert, Key, Verdict};
use crate::source::Source;
pub use control::{Control, dead_letters, replay};
use store::{Change, Store};

/// An event that is sent again within this time is not posted again.
const REMEMBERED: u64 = 30 * 24 * 60 * 60;

/// Which verdicts are posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything.
    All,
    /// Failures, and the first success after one.
    Changes,
    /// Failures alone.
    Failures,
}

/// Why an alert is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is on disk now.
    Kept(u64),
    /// The same event is on disk, or was posted.
    Known,
    /// The settings say that it is not posted.
    Unwanted,
}

/// Why an alert is not acknowledged.
#[derive(Debug)]
pub enum Refused {
    /// As many alerts wait as may.
    Full,
    /// The disk says no.
    Disk(std::io::Error),
}

/// What is told about the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Alerts that wait.
    pub waiting: usize,
    /// Since when the oldest of them waits; zero where none does.
    pub oldest: Duration,
    /// Dead letters on disk.
    pub dead: usize,
}

/// What time it is; a clock may jump.
type Clock = fn() -> SystemTime;

/// The queue and what is known of it. One process has it at a time.
pub struct Spool {
    store: Store,
    wanted: Wanted,
    limit: usize,
    since: u64,
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Of each lane the numbers that wait, oldest first.
    lanes: HashMap<Key, VecDeque<u64>>,
    /// The first number of each lane: what may be posted now.
    heads: BTreeMap<u64, (Key, Source)>,
    queued: HashSet<Key>,
    /// Events that are being written by another thread.
    writing: HashSet<Key>,
    dead: usize,
}

struct Waiting {
    event: Key,
    lane: Key,
    source: Source,
    /// Seconds since 1970.
    since: u64,
}

impl Spool {
    /// Opens the folder, makes what is missing in it, and takes up what a former gateway left.
    ///
    /// # Errors
    /// Where the folder cannot be written, or another gateway has it.
    pub fn open(folder: &Path, wanted: Wanted, limit: usize) -> Result<Self> {
        Spool::open_at(folder, wanted, limit, SystemTime::now)
    }

    fn open_at(folder: &Path, wanted: Wanted, limit: usize, clock: Clock) -> Result<Self> {
        Spool::with(Store::open(folder, seconds(clock()), REMEMBERED)?, wanted, limit, clock)
    }

    fn with(store: Store, wanted: Wanted, limit: usize, clock: Clock) -> Result<Self> {
        let mut state = State::default();
        let mut unreadable = Vec::new();
        store.each_dead(|number, _| {
            state.dead += 1;
            state.next = state.next.max(number);
        })?;
        store.each_waiting(|number, (since, alert)| {
            state.next = state.next.max(number);
            match alert {
                Ok(alert) => state.push(number, &alert, since),
                Err(error) => unreadable.push((number, error)),
            }
        })?;
        state.next += 1;
        for (number, error) in unreadable {
            eprintln!("alert-gateway: alert {number} becomes a dead letter: {error}");
            store.change(Change::Refused { number, at: 0, event: None })?;
            state.dead += 1;
        }
        let since = store.since()?;
        Ok(Spool { store, wanted, limit, since, clock, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Takes an alert. After `Ok` it survives a crash of the machine.
    pub fn accept(&self, alert: &Alert) -> Result<Accepted, Refused> {
        let mut state = self.state();
        // Whoever sends an event twice at once is told yes when the first of them is on disk.
        while state.writing.contains(&alert.event) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.queued.contains(&alert.event) {
            return Ok(Accepted::Known);
        }
        let done = self.store.done(alert.event).map_err(Refused::Disk)?;
        if done.is_some_and(|at| self.now().saturating_sub(at) < REMEMBERED) {
            return Ok(Accepted::Known);
        }
        if self.wanted != Wanted::All && alert.verdict == Verdict::Good {
            let last = self.store.place(alert.place).map_err(Refused::Disk)?.map(|place| place.last);
            if self.wanted == Wanted::Failures || last != Some(Verdict::Bad) {
                return Ok(Accepted::Unwanted);
            }
        }
        let waiting = state.waiting.len() + state.writing.len();
        if waiting >= self.limit {
            return Err(Refused::Full);
        }
        self.store.room(waiting == 0).map_err(Refused::Disk)?;
        let number = state.number();
        state.writing.insert(alert.event);
        drop(state);
        // Outside the lock, so that several alerts share one flush of the disk.
        let at = self.now();
        let written = self.store.change(Change::Keep { number, at, alert: alert.clone() });
        let mut state = self.state();
        state.writing.remove(&alert.event);
        if written.is_ok() {
            state.push(number, alert, at);
        }
        drop(state);
        self.changed.notify_all();
        written.map(|()| Accepted::Kept(number)).map_err(Refused::Disk)
    }

    /// The last verdict of a quality gate about `place` that came, posted or waiting.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn gate(&self, place: Key) -> Result<Option<Verdict>> {
        Ok(self.store.place(place)?.and_then(|place| place.gate))
    }

    /// When a gateway first opened the folder, in seconds since 1970: what was before, nobody was to be told.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// The oldest alert whose lane and source are ready, and is not behind another of its lane.
    pub fn first(&self, mut ready: impl FnMut(Key, Source) -> bool) -> Option<(u64, Key, Source)> {
        let state = self.state();
        let found = state.heads.iter().find(|(_, (lane, source))| ready(*lane, *source));
        found.map(|(number, (lane, source))| (*number, *lane, *source))
    }

    /// What waits under this number.
    ///
    /// # Errors
    /// Where it is not there, or the disk says no.
    pub fn read(&self, number: u64) -> Result<Alert> {
        let (_, alert) = self.store.waiting(number)?.ok_or_else(|| Error::failed("it is not in the queue any more"))?;
        alert
    }

    /// Mattermost has it.
    ///
    /// # Errors
    /// Where the disk says no. Then it stays in the queue, and this has to be said again, or it is posted twice.
    pub fn posted(&self, number: u64) -> Result<()> {
        let Some(event) = self.event(number) else { return Ok(()) };
        self.store.change(Change::Posted { number, at: self.now(), event })?;
        self.state().pop(number);
        Ok(())
    }

    /// Mattermost never will: kept as a dead letter.
    ///
    /// # Errors
    /// Where the disk says no; then it stays in the queue.
    pub fn refused(&self, number: u64) -> Result<()> {
        let event = self.event(number);
        self.store.change(Change::Refused { number, at: self.now(), event })?;
        let mut state = self.state();
        state.pop(number);
        state.dead += 1;
        Ok(())
    }

    /// Takes the dead letters back into the queue, behind all others, and says how many there were.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn replay(&self) -> Result<usize> {
        let at = self.now();
        let (mut numbers, mut alerts) = (Vec::new(), Vec::new());
        let mut state = self.state();
        self.store.each_dead(|former, (_, alert)| {
            // What cannot be read stays where it is.
            let Ok(alert) = alert else { return };
            let number = state.number();
            numbers.push((former, number));
            alerts.push((number, alert));
        })?;
        self.store.change(Change::Replay { numbers, at })?;
        alerts.iter().for_each(|(number, alert)| state.push(*number, alert, at));
        state.dead -= alerts.len();
        drop(state);
        self.changed.notify_all();
        Ok(alerts.len())
    }

    /// The dead letters: number, and the line that tells what it is.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn dead_letters(&self) -> Result<Vec<(u64, String)>> {
        let mut letters = Vec::new();
        self.store.each_dead(|number, (_, alert)| {
            letters.push((number, alert.map_or_else(|error| error.to_string(), |alert| alert.summary)));
        })?;
        Ok(letters)
    }

    /// Waits until something changes, at most this long.
    pub fn wait(&self, at_most: Duration) {
        let state = self.state();
        drop(self.changed.wait_timeout(state, at_most));
    }

    /// Ends a [`Spool::wait`].
    pub fn wake(&self) {
        drop(self.state());
        self.changed.notify_all();
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let state = self.state();
        // A clock that was set back makes no age.
        let oldest = state.waiting.values().next().map_or(0, |first| self.now().saturating_sub(first.since));
        let oldest = Duration::from_secs(oldest);
        Status { waiting: state.waiting.len(), oldest, dead: state.dead }
    }

    fn now(&self) -> u64 {
        seconds((self.clock)())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, number: u64) -> Option<Key> {
        self.state().waiting.get(&number).map(|waiting| waiting.event)
    }
}

impl State {
    /// A number that nobody had.
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn push(&mut self, number: u64, alert: &Alert, since: u64) {
        let Alert { source, event, lane, .. } = *alert;
        self.waiting.insert(number, Waiting { event, lane, source, since });
        self.queued.insert(event);
        let numbers = self.lanes.entry(lane).or_default();
        // Two that are written at once may come in the other order.
        let at = numbers.partition_point(|other| *other < number);
        numbers.insert(at, number);
        if at == 0 {
            if let Some(former) = numbers.get(1) {
                self.heads.remove(former);
            }
            self.heads.insert(number, (lane, source));
        }
    }

    fn pop(&mut self, number: u64) {
        let Some(waiting) = self.waiting.remove(&number) else { return };
        self.queued.remove(&waiting.event);
        self.heads.remove(&number);
        if let Some(numbers) = self.lanes.get_mut(&waiting.lane) {
            numbers.retain(|other| *other != number);
            match numbers.front() {
                Some(first) => _ = self.heads.insert(*first, (waiting.lane, waiting.source)),
                None => _ = self.lanes.remove(&waiting.lane),
            }
        }
    }
}

/// Since 1970; a clock before that says 0.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub mod tests;
