use std::sync::Condvar;

use redb::StorageBackend;

use super::*;
use crate::spool::tests::alert;
use crate::spool::{REMEMBERED, Spool, Wanted};

impl Store {
    /// How many changes wait for whoever writes.
    pub fn pending(&self) -> usize {
        lock(&self.pending).len()
    }

    /// How many bytes of the disk are not for alerts.
    pub fn keep_free(&mut self, bytes: u64) {
        self.room = bytes;
    }
}

/// What was done to a disk, in its order.
#[derive(Clone, Debug)]
enum Did {
    Write(u64, Vec<u8>),
    Length(u64),
    Flush,
    /// A step of the test came to its end.
    Mark,
}

/// A disk in memory, which may fail, and remembers what it did.
#[derive(Clone, Debug)]
pub struct Disk {
    state: Arc<(Mutex<State>, Condvar)>,
    /// Where room is asked for, and the reserve lies.
    folder: Arc<tempfile::TempDir>,
}

impl Default for Disk {
    fn default() -> Self {
        Disk { state: Arc::default(), folder: Arc::new(tempfile::tempdir().expect("a folder")) }
    }
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    did: Vec<Did>,
    fails: Option<io::ErrorKind>,
    held: bool,
}

impl Disk {
    /// A gateway's spool on it.
    pub fn spool(&self) -> Result<Spool> {
        let disk = self.clone();
        let open = move || Database::builder().create_with_backend(disk.clone());
        Spool::with(Store::open_with(self.folder.path(), Box::new(open), 0, REMEMBERED)?, Wanted::All, 100, std::time::SystemTime::now)
    }

    /// From now on, writes and flushes fail like this.
    pub fn fail(&self, kind: Option<io::ErrorKind>) {
        lock(&self.state.0).fails = kind;
    }

    /// Holds flushes back, or lets them go.
    pub fn hold(&self, held: bool) {
        lock(&self.state.0).held = held;
        self.state.1.notify_all();
    }

    /// How many flushes there were.
    pub fn flushes(&self) -> usize {
        lock(&self.state.0).did.iter().filter(|did| matches!(did, Did::Flush)).count()
    }

    /// A step of the test came to its end.
    pub fn mark(&self) {
        lock(&self.state.0).did.push(Did::Mark);
    }

    /// What may be on the disk after a loss of power since the first mark, with the number of the last one by then: what was flushed, and
    /// of what was written since nothing, everything, and some.
    pub fn images(&self) -> Vec<(usize, Disk)> {
        let mut images = Vec::new();
        let (mut flushed, mut since, mut marks) = (Vec::new(), Vec::new(), 0);
        let mut random: u32 = 1;
        for did in lock(&self.state.0).did.clone() {
            match did {
                Did::Flush => since.drain(..).for_each(|did| apply(&mut flushed, &did)),
                Did::Mark => marks += 1,
                did => since.push(did),
            }
            for share in if marks == 0 { 0..0 } else { 0..3 } {
                let mut bytes = flushed.clone();
                for did in &since {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if share == 2 || share == 1 && random >> 31 == 1 {
                        apply(&mut bytes, did);
                    }
                }
                let disk = Disk::default();
                lock(&disk.state.0).bytes = bytes;
                images.push((marks - 1, disk));
            }
        }
        images
    }

    fn change(&self, did: Did) -> io::Result<()> {
        let mut state = self.state.1.wait_while(lock(&self.state.0), |state| state.held && matches!(did, Did::Flush)).expect("whole");
        if let Some(kind) = state.fails {
            return Err(kind.into());
        }
        apply(&mut state.bytes, &did);
        state.did.push(did);
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, did: &Did) {
    match did {
        Did::Write(at, written) => {
            let at = usize::try_from(*at).expect("small");
            if bytes.len() < at + written.len() {
                bytes.resize(at + written.len(), 0);
            }
            bytes[at..at + written.len()].copy_from_slice(written);
        }
        Did::Length(length) => bytes.resize(usize::try_from(*length).expect("small"), 0),
        Did::Flush | Did::Mark => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.state.0).bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        let state = lock(&self.state.0);
        out.copy_from_slice(state.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Did::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Did::Flush)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Did::Write(offset, data.to_vec()))
    }
}

#[test]
fn what_is_old_is_forgotten_but_a_failure_without_its_recovery() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), 0, 100).expect("opened");
    let key = |word: &str| Key::of([word.as_bytes()]);
    let all = [
        (1, "a", "red", Verdict::Bad),
        (2, "b", "green", Verdict::Bad),
        (3, "c", "green", Verdict::Good),
        (950, "d", "young", Verdict::Good),
        // A clock that was ahead.
        (5000, "e", "future", Verdict::Good),
        (1000, "f", "young", Verdict::Good),
    ];
    for (at, event, place, verdict) in all {
        let alert = alert(place, event, verdict);
        if event == "f" {
            lock(&store.writing).many = 1;
        }
        store.change(Change::Keep { number: at, at, alert }).expect("kept");
        store.change(Change::Posted { number: at, at, event: key(event) }).expect("noted");
    }
    let known = |event: &str| store.done(key(event)).expect("read").is_some();
    assert_eq!(["a", "b", "c", "d", "e", "f"].map(known), [false, false, false, true, true, true]);
    let last = |place: &str| store.place(key(place)).expect("read").map(|place| place.last);
    let bad = Some(Verdict::Bad);
    let good = Some(Verdict::Good);
    assert_eq!(["red", "green", "young", "future"].map(last), [bad, None, good, good]);
    assert_eq!(lock(&store.writing).many, MANY, "not again at the next one");
}

#[test]
fn an_alert_that_cannot_be_read_becomes_a_dead_letter_and_holds_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Spool::open(folder.path(), Wanted::All, 100).expect("opened");
    let spool = open();
    spool.accept(&alert("a", "1", Verdict::Bad)).expect("kept");
    let spoil = |database: &Database| {
        let writing = database.begin_write()?;
        writing.open_table(QUEUE)?.insert(1, (0, b"{\"of\":\"another version\"}".as_slice()))?;
        Ok(writing.commit()?)
    };
    spool.store.use_it(spoil).expect("written");
    spool.accept(&alert("a", "2", Verdict::Bad)).expect("kept");
    drop(spool);
    let spool = open();
    assert_eq!((spool.status().waiting, spool.status().dead), (1, 1));
    let letters = spool.dead_letters().expect("listed");
    assert!(matches!(&letters[..], [(1, why)] if why.starts_with("it cannot be read: ")), "{letters:?}");
    assert_eq!(spool.replay().expect("asked"), 0, "it stays where it is");
    drop(spool);
    assert_eq!(open().status().dead, 1);
}
