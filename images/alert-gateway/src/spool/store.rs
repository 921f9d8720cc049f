//! What of the spool is on disk: a file of redb's, `alerts.redb`.
//!
//! | table | key | value |
//! |---|---|---|
//! | `queue` | number | since when, and the alert as JSON: it waits |
//! | `dead` | number | the same: Mattermost refused it for good |
//! | `done` | event | when it was posted or refused |
//! | `places` | place | the last verdicts about it, as JSON ([`Place`]) |
//! | `about` | `since` | when a gateway first opened the file |
//!
//! Times are seconds since 1970. A [`Change`] is whole or not there at all, and is on disk when [`Store::change`] returns; what comes
//! while another is being written goes to disk with one flush, together. redb gives up a file that could not be written once, so
//! it is opened anew then.
//!
//! A full disk takes no more alerts, and what becomes of those that are there has to be written down nevertheless: for that there
//! is `reserve` beside the file, which goes when the disk is full, and comes back when there is room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use entrypoint::{Error, Result};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Key, Verdict};

type Letters<'a> = TableDefinition<'a, u64, (u64, &'static [u8])>;
const QUEUE: Letters = TableDefinition::new("queue");
const DEAD: Letters = TableDefinition::new("dead");
const DONE: TableDefinition<&[u8; 16], u64> = TableDefinition::new("done");
const PLACES: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("places");
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");

/// Of redb's own cache; the kernel has the file in its own.
const CACHE: usize = 1 << 20;
/// Bytes of `reserve`, and of what has to be free beside it for another alert.
const RESERVE: u64 = 1 << 20;
/// Events that are remembered before the old ones among them are forgotten.
const MANY: u64 = 100_000;

/// What is known of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// When the last alert about it was kept.
    pub at: u64,
    /// Its verdict.
    pub last: Verdict,
    /// The last verdict of a quality gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Verdict>,
}

/// A step of an alert's way.
#[derive(Clone, Debug)]
pub enum Change {
    /// It came, and waits.
    Keep { number: u64, at: u64, alert: Alert },
    /// Mattermost has it.
    Posted { number: u64, at: u64, event: Key },
    /// It never will, or nobody can read the alert: then its event is not known.
    Refused { number: u64, at: u64, event: Option<Key> },
    /// Dead letters wait again, under new numbers.
    Replay { numbers: Vec<(u64, u64)>, at: u64 },
}

/// An alert on disk: since when, and what it says.
pub type Letter = (u64, Result<Alert>);

type Outcome = Result<(), (io::ErrorKind, String)>;
type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The open file.
pub struct Store {
    folder: PathBuf,
    open: Opener,
    /// None after a failure, until the next use.
    database: RwLock<Option<Database>>,
    /// What waits for the disk.
    pending: Mutex<Vec<(Change, Arc<OnceLock<Outcome>>)>>,
    writing: Mutex<Writing>,
    /// How many bytes have to be free for another alert.
    room: u64,
    /// The reserve is gone.
    spent: AtomicBool,
    /// Something left the queue since the file was made as short as it can be.
    emptied: AtomicBool,
}

/// Held by the one who writes.
struct Writing {
    /// Alerts that were refused because the disk failed, and may be there nevertheless.
    doubtful: Vec<u64>,
    /// How many events make it time to forget.
    many: u64,
    /// For how long an event is remembered.
    remembered: u64,
}

impl Store {
    /// Opens the file in `folder`, or makes it.
    ///
    /// # Errors
    /// Where the folder cannot be written, another process has the file, or it is not whole.
    pub fn open(folder: &Path, now: u64, remembered: u64) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        let path = folder.join("alerts.redb");
        if !path.exists() {
            // Beside: a machine that loses its power while redb makes a file leaves one that it cannot open.
            let beside = folder.join(".alerts.redb");
            fs_err::File::create(&beside)?;
            drop(Database::create(&beside).map_err(|error| Error::failed(format!("{}: {error}", beside.display())))?);
            fs_err::rename(&beside, &path)?;
            fs_err::File::open(folder)?.sync_all()?;
        }
        let open = move || Database::builder().set_cache_size(CACHE).open(&path);
        Store::open_with(folder, Box::new(open), now, remembered)
    }

    fn open_with(folder: &Path, open: Opener, now: u64, remembered: u64) -> Result<Self> {
        let database = open().map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::failed(format!("{} is in use by another gateway", folder.display())),
            error => Error::failed(format!("{}: {error}", folder.join("alerts.redb").display()))
                .detail("move the file aside, and the gateway begins a new one; what is in it was not posted yet"),
        })?;
        let store = Store {
            folder: folder.to_owned(),
            open,
            database: RwLock::new(Some(database)),
            pending: Mutex::default(),
            writing: Mutex::new(Writing { doubtful: Vec::new(), many: MANY, remembered }),
            room: RESERVE,
            spent: AtomicBool::new(!folder.join("reserve").exists()),
            emptied: AtomicBool::new(true),
        };
        // Only a new file is written to: it has to open on a full disk, too.
        if store.since().is_err() {
            store.use_it(|database| {
                let begin = database.begin_write()?;
                begin.open_table(QUEUE)?;
                begin.open_table(DEAD)?;
                begin.open_table(PLACES)?;
                begin.open_table(DONE)?;
                begin.open_table(ABOUT)?.insert("since", now)?;
                Ok(begin.commit()?)
            })?;
        }
        Ok(store)
    }

    /// Whether there is room on the disk for another alert. The file keeps the length that it had when it held the most, until `nothing`
    /// waits any more and the disk is full.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where there is none.
    pub fn room(&self, nothing: bool) -> io::Result<()> {
        let spent = self.spent.load(Ordering::SeqCst);
        let needed = if spent { self.room.saturating_add(RESERVE) } else { self.room };
        if self.free()? < needed
            && nothing
            && self.emptied.swap(false, Ordering::SeqCst)
            && let Some(database) = self.database.write().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            database.compact().map_err(io_error)?;
        }
        if self.free()? < needed {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("less than {needed} bytes are free in {}", self.folder.display()),
            ));
        }
        if spent {
            fs_err::write(self.folder.join("reserve"), vec![0; RESERVE as usize])?;
            self.spent.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Makes the change. After `Ok` it survives a crash of the machine.
    ///
    /// # Errors
    /// Where the disk says no: then it is as it was before.
    pub fn change(&self, change: Change) -> io::Result<()> {
        let outcome = Arc::new(OnceLock::new());
        lock(&self.pending).push((change, Arc::clone(&outcome)));
        // Whoever comes to write takes along all that wait; the others find it done.
        let mut writing = lock(&self.writing);
        if outcome.get().is_none() {
            let (changes, outcomes): (Vec<_>, Vec<_>) = std::mem::take(&mut *lock(&self.pending)).into_iter().unzip();
            let written = self.write(&changes, &mut writing).map_err(|error| (error.kind(), error.to_string()));
            outcomes.into_iter().for_each(|outcome| _ = outcome.set(written.clone()));
        }
        drop(writing);
        outcome.get().cloned().unwrap_or(Ok(())).map_err(|(kind, what)| io::Error::new(kind, what))
    }

    fn write(&self, changes: &[Change], writing: &mut Writing) -> io::Result<()> {
        let written = self.use_it(|database| {
            let transaction = database.begin_write()?;
            for number in &writing.doubtful {
                transaction.open_table(QUEUE)?.remove(number)?;
            }
            changes.iter().try_for_each(|change| change.write(&transaction))?;
            let many = forget(&transaction, changes, writing)?;
            transaction.commit()?;
            Ok(many)
        });
        match written {
            Ok(many) => {
                if changes.iter().any(|change| matches!(change, Change::Posted { .. } | Change::Refused { .. })) {
                    self.emptied.store(true, Ordering::SeqCst);
                }
                writing.doubtful.clear();
                writing.many = many;
                Ok(())
            }
            Err(error) => {
                let kept = changes.iter().filter_map(|change| if let Change::Keep { number, .. } = change { Some(*number) } else { None });
                writing.doubtful.extend(kept);
                *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
                if error.kind() == io::ErrorKind::StorageFull && !self.spent.swap(true, Ordering::SeqCst) {
                    fs_err::remove_file(self.folder.join("reserve"))?;
                }
                Err(error)
            }
        }
    }

    /// When this event was posted or refused.
    pub fn done(&self, event: Key) -> io::Result<Option<u64>> {
        self.use_it(|database| Ok(database.begin_read()?.open_table(DONE)?.get(event.bytes())?.map(|at| at.value())))
    }

    /// What is known of this place.
    pub fn place(&self, place: Key) -> io::Result<Option<Place>> {
        self.use_it(|database| {
            let places = database.begin_read()?.open_table(PLACES)?;
            Ok(places.get(place.bytes())?.and_then(|place| serde_json::from_slice(place.value()).ok()))
        })
    }

    /// When a gateway first opened the file.
    pub fn since(&self) -> io::Result<u64> {
        self.use_it(|database| Ok(database.begin_read()?.open_table(ABOUT)?.get("since")?.map_or(0, |since| since.value())))
    }

    /// The alert that waits under this number.
    pub fn waiting(&self, number: u64) -> io::Result<Option<Letter>> {
        self.use_it(|database| Ok(database.begin_read()?.open_table(QUEUE)?.get(number)?.map(|letter| read(letter.value()))))
    }

    /// Shows each alert that waits, in the order of their numbers.
    pub fn each_waiting(&self, see: impl FnMut(u64, Letter)) -> io::Result<()> {
        self.each(QUEUE, see)
    }

    /// Shows each dead letter.
    pub fn each_dead(&self, see: impl FnMut(u64, Letter)) -> io::Result<()> {
        self.each(DEAD, see)
    }

    fn each(&self, table: Letters, mut see: impl FnMut(u64, Letter)) -> io::Result<()> {
        self.use_it(|database| {
            for letter in database.begin_read()?.open_table(table)?.iter()? {
                let (number, letter) = letter?;
                see(number.value(), read(letter.value()));
            }
            Ok(())
        })
    }

    fn use_it<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> io::Result<T> {
        let database = self.database().map_err(io_error)?;
        let database = database.as_ref().ok_or_else(|| io::Error::other("it was closed by a failure just now"))?;
        work(database).map_err(io_error)
    }

    fn database(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, redb::Error> {
        let found = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if found.is_some() {
            return Ok(found);
        }
        drop(found);
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some((self.open)()?);
        }
        drop(slot);
        Ok(self.database.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Change {
    fn write(&self, to: &WriteTransaction) -> Result<(), redb::Error> {
        let mut queue = to.open_table(QUEUE)?;
        let mut dead = to.open_table(DEAD)?;
        match self {
            Change::Keep { number, at, alert } => {
                let json = serde_json::to_vec(alert).map_err(io::Error::from)?;
                queue.insert(number, (*at, &json[..]))?;
                let mut places = to.open_table(PLACES)?;
                let former: Option<Place> = places.get(alert.place.bytes())?.and_then(|place| serde_json::from_slice(place.value()).ok());
                let gate = if alert.gate { Some(alert.verdict) } else { former.and_then(|former| former.gate) };
                let place = serde_json::to_vec(&Place { at: *at, last: alert.verdict, gate }).map_err(io::Error::from)?;
                places.insert(alert.place.bytes(), &place[..])?;
            }
            Change::Posted { number, at, event } => {
                queue.remove(number)?;
                to.open_table(DONE)?.insert(event.bytes(), at)?;
            }
            Change::Refused { number, at, event } => {
                if let Some(letter) = queue.remove(number)? {
                    dead.insert(number, letter.value())?;
                }
                if let Some(event) = event {
                    to.open_table(DONE)?.insert(event.bytes(), at)?;
                }
            }
            Change::Replay { numbers, at } => {
                for (former, number) in numbers {
                    if let Some(letter) = dead.remove(former)? {
                        queue.insert(number, (*at, letter.value().1))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Forgets what is too old, once in a while; says how many events make it time again. What was last known of a place stays
/// if it was bad: the recovery is to come.
fn forget(from: &WriteTransaction, changes: &[Change], writing: &Writing) -> Result<u64, redb::Error> {
    let mut done = from.open_table(DONE)?;
    let latest = changes.iter().filter_map(|change| match change {
        Change::Posted { at, .. } | Change::Refused { at, .. } => Some(*at),
        _ => None,
    });
    let Some(now) = latest.max().filter(|_| done.len().is_ok_and(|many| many > writing.many)) else { return Ok(writing.many) };
    let young = |at: u64| now.saturating_sub(at) < writing.remembered;
    done.retain(|_, at| young(at))?;
    let stays = |place: &[u8]| serde_json::from_slice(place).is_ok_and(|place: Place| place.last == Verdict::Bad || young(place.at));
    from.open_table(PLACES)?.retain(|_, place| stays(place))?;
    // Where nothing is old yet, not at every change.
    Ok(MANY.max(2 * done.len()?))
}

fn read((since, json): (u64, &[u8])) -> Letter {
    (since, serde_json::from_slice(json).map_err(|error| Error::failed(format!("it cannot be read: {error}"))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kind is kept: a full disk has an answer of its own.
fn io_error(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
pub mod tests;
