//! The alerts on disk: what the gateway has said yes to, until Mattermost has it.
//!
//! | in the folder | what it is |
//! |---|---|
//! | `queue/NUMBER.json` | an alert that waits; numbers grow |
//! | `dead/NUMBER.json` | an alert that Mattermost refused for good |
//! | `replay/NUMBER.json` | a dead letter that somebody wants to be tried again |
//! | `since` | when a gateway first opened the folder, in seconds since 1970 |
//! | `done.log` | what was posted or refused in the last 30 days, see [`log`] |
//! | `lock` | held by the one gateway that runs |
//!
//! An alert is on disk before it is acknowledged: written beside, synced, renamed, and the folder synced. After a post, `done.log`
//! is synced before the alert's file goes, so that a gateway that is killed between the two does not post again. One window is
//! left, which no receiver can close: killed after Mattermost accepted and before `done.log` says so, the alert is posted twice.

mod log;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use entrypoint::{Error, Result};

use crate::alert::{Alert, Key, Verdict};
use crate::source::Source;
use log::{End, Line, Log};

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

/// The folder and what is known of it. One process has it at a time.
pub struct Spool {
    folder: PathBuf,
    wanted: Wanted,
    limit: usize,
    since: u64,
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
    _lock: fs_err::File,
}

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
    /// When an event was posted or refused, in seconds since 1970.
    done: HashMap<Key, u64>,
    /// The last verdict of each place that was kept.
    last: HashMap<Key, Verdict>,
    /// The last verdict of each place that was a quality gate's.
    gates: HashMap<Key, Verdict>,
    dead: usize,
    log: Log,
}

struct Waiting {
    event: Key,
    place: Key,
    lane: Key,
    source: Source,
    verdict: Verdict,
    gate: bool,
    since: SystemTime,
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
        for part in ["queue", "dead", "replay"] {
            fs_err::create_dir_all(folder.join(part))?;
        }
        let lock = fs_err::File::create(folder.join("lock"))?;
        lock.file().try_lock().map_err(|_| Error::failed(format!("{} is in use by another gateway", folder.display())))?;
        let now = seconds(clock());
        let since = since(&folder.join("since"), now)?;
        let (log, lines) = Log::open(&folder.join("done.log"), now, REMEMBERED)?;
        let mut state = State {
            next: 1,
            waiting: BTreeMap::new(),
            lanes: HashMap::new(),
            heads: BTreeMap::new(),
            queued: HashSet::new(),
            writing: HashSet::new(),
            done: HashMap::new(),
            last: HashMap::new(),
            gates: HashMap::new(),
            dead: 0,
            log,
        };
        let mut posted = HashSet::new();
        for line in lines {
            state.last.insert(line.place, line.verdict);
            if line.gate {
                state.gates.insert(line.place, line.verdict);
            }
            state.done.insert(line.event, line.at);
            if line.end == End::Posted {
                posted.insert(line.event);
            }
        }
        let dead = numbers(&folder.join("dead"))?;
        state.dead = dead.len();
        let queue = numbers(&folder.join("queue"))?;
        let replay = numbers(&folder.join("replay"))?;
        state.next = dead.iter().chain(&queue).chain(&replay).max().map_or(1, |last| last + 1);
        for number in queue {
            let path = file(folder, "queue", number);
            match read(&path) {
                // Killed between the line in `done.log` and this.
                Ok(alert) if posted.contains(&alert.event) => fs_err::remove_file(&path)?,
                Ok(alert) => {
                    let since = fs_err::metadata(&path)?.modified().unwrap_or_else(|_| clock());
                    state.push(number, &alert, since);
                }
                Err(error) => {
                    eprintln!("alert-gateway: alert {number} cannot be read and becomes a dead letter: {error}");
                    fs_err::rename(&path, file(folder, "dead", number))?;
                    state.dead += 1;
                }
            }
        }
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Spool { folder: folder.to_owned(), wanted, limit, since, clock, state, changed, _lock: lock })
    }

    /// Takes an alert. After `Ok` it survives a crash of the machine.
    pub fn accept(&self, alert: &Alert) -> Result<Accepted, Refused> {
        let mut state = self.state();
        // Whoever sends an event twice at once is told yes when the first of them is on disk.
        while state.writing.contains(&alert.event) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let done = state.done.get(&alert.event);
        if state.queued.contains(&alert.event) || done.is_some_and(|at| self.now().saturating_sub(*at) < REMEMBERED) {
            return Ok(Accepted::Known);
        }
        let recovery = state.last.get(&alert.place) == Some(&Verdict::Bad);
        match (self.wanted, alert.verdict) {
            (Wanted::All, _) | (_, Verdict::Bad) => {}
            (Wanted::Changes, Verdict::Good) if recovery => {}
            (_, Verdict::Good) => return Ok(Accepted::Unwanted),
        }
        if state.waiting.len() + state.writing.len() >= self.limit {
            return Err(Refused::Full);
        }
        let number = state.next;
        state.next += 1;
        state.writing.insert(alert.event);
        drop(state);
        // Outside the lock, so that several alerts share one flush of the disk.
        let written = self.write(number, alert);
        let mut state = self.state();
        state.writing.remove(&alert.event);
        if written.is_ok() {
            state.push(number, alert, (self.clock)());
        }
        drop(state);
        self.changed.notify_all();
        written.map(|()| Accepted::Kept(number)).map_err(Refused::Disk)
    }

    /// The last verdict of a quality gate about `place` that came, posted or waiting.
    pub fn gate(&self, place: Key) -> Option<Verdict> {
        self.state().gates.get(&place).copied()
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
    /// Where the file is gone or not readable.
    pub fn read(&self, number: u64) -> Result<Alert> {
        read(&file(&self.folder, "queue", number))
    }

    /// Mattermost has it.
    ///
    /// # Errors
    /// Where the disk says no. The alert is not posted again by this process; the next one might.
    pub fn posted(&self, number: u64) -> Result<()> {
        let mut state = self.state();
        let Some(waiting) = state.pop(number) else { return Ok(()) };
        let noted = state.note(&waiting, End::Posted, self.now());
        drop(state);
        // Also where the disk is full and the line could not be written: this makes room, and an alert that stays is posted again.
        fs_err::remove_file(file(&self.folder, "queue", number))?;
        Ok(noted?)
    }

    /// Mattermost never will: kept as a dead letter.
    ///
    /// # Errors
    /// Where the disk says no; then it stays in the queue.
    pub fn refused(&self, number: u64) -> Result<()> {
        // The file first: killed in between, the letter is there and only its event is not remembered.
        fs_err::rename(file(&self.folder, "queue", number), file(&self.folder, "dead", number))?;
        sync(&self.folder.join("dead"))?;
        sync(&self.folder.join("queue"))?;
        let mut state = self.state();
        state.dead += 1;
        let Some(waiting) = state.pop(number) else { return Ok(()) };
        Ok(state.note(&waiting, End::Refused, self.now())?)
    }

    /// Takes what `alert-gateway replay` put aside back into the queue, behind all others.
    ///
    /// # Errors
    /// Where the disk says no.
    pub fn take_replayed(&self) -> Result<usize> {
        let numbers = numbers(&self.folder.join("replay"))?;
        for number in &numbers {
            let from = file(&self.folder, "replay", *number);
            let alert = read(&from)?;
            let mut state = self.state();
            let new = state.next;
            state.next += 1;
            fs_err::rename(from, file(&self.folder, "queue", new))?;
            state.push(new, &alert, (self.clock)());
            state.dead = state.dead.saturating_sub(1);
        }
        if !numbers.is_empty() {
            sync(&self.folder.join("queue"))?;
        }
        Ok(numbers.len())
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
        let since = state.waiting.values().next().map(|first| first.since);
        // A clock that was set back makes no age.
        let oldest = since.and_then(|since| (self.clock)().duration_since(since).ok()).unwrap_or_default();
        Status { waiting: state.waiting.len(), oldest, dead: state.dead }
    }

    fn now(&self) -> u64 {
        seconds((self.clock)())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, number: u64, alert: &Alert) -> std::io::Result<()> {
        let path = file(&self.folder, "queue", number);
        let written = replace(&path, &serde_json::to_vec(alert)?);
        if written.is_err() {
            // What is not acknowledged must not be posted either: SonarQube's record says that it failed.
            let _ = fs_err::remove_file(&path);
        }
        written
    }
}

impl State {
    fn push(&mut self, number: u64, alert: &Alert, since: SystemTime) {
        let Alert { source, event, place, lane, verdict, gate, .. } = *alert;
        self.waiting.insert(number, Waiting { event, place, lane, source, verdict, gate, since });
        self.queued.insert(event);
        self.last.insert(place, verdict);
        if gate {
            self.gates.insert(place, verdict);
        }
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

    fn pop(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.queued.remove(&waiting.event);
        self.heads.remove(&number);
        if let Some(numbers) = self.lanes.get_mut(&waiting.lane) {
            numbers.retain(|other| *other != number);
            match numbers.front() {
                Some(first) => _ = self.heads.insert(*first, (waiting.lane, waiting.source)),
                None => _ = self.lanes.remove(&waiting.lane),
            }
        }
        Some(waiting)
    }

    fn note(&mut self, waiting: &Waiting, end: End, at: u64) -> std::io::Result<()> {
        let line = Line { at, event: waiting.event, place: waiting.place, end, verdict: waiting.verdict, gate: waiting.gate };
        self.done.insert(line.event, line.at);
        self.log.append(&line)?;
        if self.log.is_long() {
            self.log.shorten(at, REMEMBERED)?;
            self.done.retain(|_, done| at.saturating_sub(*done) < REMEMBERED);
        }
        Ok(())
    }
}

/// Moves dead letters aside for the gateway that runs; it looks for them every few seconds. Says how many there were.
///
/// # Errors
/// Where the folder cannot be changed.
pub fn replay(folder: &Path) -> Result<usize> {
    let dead = numbers(&folder.join("dead"))?;
    for number in &dead {
        fs_err::rename(file(folder, "dead", *number), file(folder, "replay", *number))?;
    }
    Ok(dead.len())
}

/// The dead letters: number, and the line that tells what it is.
///
/// # Errors
/// Where the folder cannot be read.
pub fn dead_letters(folder: &Path) -> Result<Vec<(u64, String)>> {
    let told = |number| read(&file(folder, "dead", number)).map_or_else(|error| error.to_string(), |alert| alert.summary);
    Ok(numbers(&folder.join("dead"))?.into_iter().map(|number| (number, told(number))).collect())
}

fn file(folder: &Path, part: &str, number: u64) -> PathBuf {
    folder.join(part).join(format!("{number:020}.json"))
}

fn read(path: &Path) -> Result<Alert> {
    let bytes = fs_err::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::failed(format!("{}: {error}", path.display())))
}

/// The numbers in a folder, in order. What was being written when a gateway was killed is removed.
fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            fs_err::remove_file(entry.path())?;
        }
        numbers.extend(name.strip_suffix(".json").and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Writes a file so that a crash of the machine leaves the old one or the whole new one: beside, under the same name behind a dot.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = folder.join(format!(".{}", path.file_name().unwrap_or_default().display()));
    let written = (|| {
        let mut out = fs_err::File::create(&beside)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs_err::rename(&beside, path)?;
        sync(folder)
    })();
    if written.is_err() {
        let _ = fs_err::remove_file(&beside);
    }
    written
}

/// A rename survives a crash of the machine once its folder is synced.
fn sync(folder: &Path) -> std::io::Result<()> {
    fs_err::File::open(folder)?.sync_all()
}

/// Reads the time, or writes `now` where there is none yet.
fn since(path: &Path, now: u64) -> Result<u64> {
    if let Some(since) = fs_err::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(since);
    }
    replace(path, format!("{now}\n").as_bytes())?;
    Ok(now)
}

/// Since 1970; a clock before that says 0.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub mod tests;
