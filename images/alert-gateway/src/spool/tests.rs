use super::*;

/// An alert of `project`; `event` tells it from others.
pub fn alert(project: &str, event: &str, verdict: Verdict) -> Alert {
    let key = Key::of([project.as_bytes()]);
    let summary = format!("{project} {event}");
    Alert {
        source: Source::Sonarqube,
        event: Key::of([event.as_bytes()]),
        place: key,
        lane: key,
        verdict,
        gate: true,
        message: serde_json::json!({ "text": summary }),
        summary,
    }
}

fn bad(project: &str, event: &str) -> Alert {
    alert(project, event, Verdict::Bad)
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, Wanted::All, 100).expect("opened")
}

fn waiting(spool: &Spool) -> Vec<String> {
    spool.state().waiting.keys().map(|number| spool.read(*number).expect("on disk").summary).collect()
}

fn next(spool: &Spool, ready: impl Fn(Key) -> bool) -> Option<u64> {
    spool.first(|lane, _| ready(lane)).map(|(number, ..)| number)
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_in_its_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path());
    for event in ["1", "2", "3"] {
        assert!(matches!(spool.accept(&bad("a", event)), Ok(Accepted::Kept(_))));
    }
    assert_eq!(spool.accept(&bad("a", "2")).expect("acknowledged"), Accepted::Known);
    drop(spool);
    let spool = open(folder.path());
    assert_eq!(waiting(&spool), ["a 1", "a 2", "a 3"]);
    assert_eq!(spool.accept(&bad("a", "2")).expect("acknowledged"), Accepted::Known);
    assert_eq!(spool.status().waiting, 3);
}

#[test]
fn a_lane_keeps_its_order_and_does_not_hold_up_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path());
    for (project, event) in [("a", "1"), ("a", "2"), ("b", "3")] {
        spool.accept(&bad(project, event)).expect("kept");
    }
    let a = Key::of([b"a".as_slice()]);
    assert_eq!(next(&spool, |_| true), Some(1));
    assert_eq!(next(&spool, |lane| lane != a), Some(3), "2 is behind 1");
    spool.posted(1).expect("noted");
    assert_eq!(next(&spool, |_| true), Some(2));
    spool.posted(2).expect("noted");
    spool.posted(3).expect("noted");
    assert_eq!(next(&spool, |_| true), None);
}

#[test]
fn the_same_event_is_posted_once_in_30_days() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path());
    spool.accept(&bad("a", "1")).expect("kept");
    spool.posted(1).expect("noted");
    assert_eq!(spool.accept(&bad("a", "1")).expect("acknowledged"), Accepted::Known);
    drop(spool);
    assert_eq!(open(folder.path()).accept(&bad("a", "1")).expect("acknowledged"), Accepted::Known);
    let log = folder.path().join("done.log");
    let (_, rest) = fs_err::read_to_string(&log)
        .map(|text| text.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .expect("read")
        .expect("a line");
    fs_err::write(&log, format!("{} {rest}", seconds(SystemTime::now()) - REMEMBERED - 1)).expect("aged");
    assert!(matches!(open(folder.path()).accept(&bad("a", "1")), Ok(Accepted::Kept(_))));
}

/// What a gateway leaves behind that is killed after each step of keeping, posting and refusing.
#[test]
fn killed_at_any_step_nothing_is_lost_and_what_was_noted_is_not_posted_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |part, number| file(folder.path(), part, number);
    let bytes = serde_json::to_vec(&bad("a", "1")).expect("JSON");

    // Keeping: while writing beside, no yes was said, and nothing is left of it.
    drop(open(folder.path()));
    fs_err::write(folder.path().join("queue/.1"), &bytes[..20]).expect("cut");
    let spool = open(folder.path());
    assert_eq!(waiting(&spool), [""; 0]);
    assert!(!folder.path().join("queue/.1").exists());
    drop(spool);
    // After the rename it is there, whether or not the yes arrived.
    fs_err::write(path("queue", 1), &bytes).expect("written");
    let spool = open(folder.path());
    assert_eq!(waiting(&spool), ["a 1"]);

    // Posting: noted, and its file still there.
    spool.posted(1).expect("noted");
    drop(spool);
    fs_err::write(path("queue", 1), &bytes).expect("as before");
    let spool = open(folder.path());
    assert_eq!(waiting(&spool), [""; 0], "it would be posted twice");

    // Refusing: moved, and not noted.
    spool.accept(&bad("a", "2")).expect("kept");
    let number = next(&spool, |_| true).expect("one waits");
    drop(spool);
    fs_err::rename(path("queue", number), path("dead", number)).expect("moved");
    let spool = open(folder.path());
    assert_eq!((waiting(&spool).len(), spool.status().dead), (0, 1));
}

#[test]
fn a_dead_letter_is_kept_listed_and_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path());
    spool.accept(&bad("a", "1")).expect("kept");
    spool.refused(1).expect("moved");
    assert_eq!(spool.accept(&bad("a", "1")).expect("acknowledged"), Accepted::Known);
    assert_eq!((spool.status().waiting, spool.status().dead), (0, 1));
    assert_eq!(dead_letters(folder.path()).expect("listed"), [(1, "a 1".to_owned())]);
    assert_eq!(replay(folder.path()).expect("moved"), 1);
    assert_eq!(spool.take_replayed().expect("taken"), 1);
    assert_eq!((waiting(&spool), spool.status().dead), (vec!["a 1".to_owned()], 0));
    drop(spool);
    assert_eq!(waiting(&open(folder.path())), ["a 1"], "a refused event that is replayed survives a restart");
}

#[test]
fn only_what_is_wanted_is_kept() {
    for (wanted, expected) in [(Wanted::All, "1234"), (Wanted::Changes, "23"), (Wanted::Failures, "2")] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut kept = String::new();
        for (event, verdict) in [("1", Verdict::Good), ("2", Verdict::Bad), ("3", Verdict::Good), ("4", Verdict::Good)] {
            // Each by a gateway of its own: what it has to know is on disk.
            let spool = Spool::open(folder.path(), wanted, 100).expect("opened");
            if let Accepted::Kept(number) = spool.accept(&alert("a", event, verdict)).expect("acknowledged") {
                kept.push_str(event);
                if event == "2" {
                    spool.posted(number).expect("noted");
                }
            }
        }
        assert_eq!(kept, expected, "{wanted:?}");
    }
}

#[test]
fn a_full_spool_and_a_broken_disk_say_no() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Spool::open(folder.path(), Wanted::All, 1).expect("opened");
    spool.accept(&bad("a", "1")).expect("kept");
    assert!(matches!(spool.accept(&bad("a", "2")), Err(Refused::Full)));
    assert_eq!(spool.accept(&bad("a", "1")).expect("known, not refused"), Accepted::Known);
    spool.posted(1).expect("noted");
    fs_err::remove_dir(folder.path().join("queue")).expect("gone");
    assert!(matches!(spool.accept(&bad("a", "2")), Err(Refused::Disk(_))));
    fs_err::create_dir(folder.path().join("queue")).expect("back");
    assert!(matches!(spool.accept(&bad("a", "2")), Ok(Accepted::Kept(_))), "a refused event is not known");
}

#[test]
fn one_gateway_has_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(folder.path());
    let error = Spool::open(folder.path(), Wanted::All, 1).map(|_| ()).expect_err("in use").to_string();
    assert!(error.ends_with("is in use by another gateway"), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn the_same_event_from_many_at_once_is_kept_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path());
    let kept: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|_| scope.spawn(|| spool.accept(&bad("a", "1")))).collect();
        all.into_iter().map(|one| usize::from(matches!(one.join().expect("ran"), Ok(Accepted::Kept(_))))).sum()
    });
    assert_eq!((kept, spool.status().waiting), (1, 1));
}

/// The time of the test below, in seconds since 1970.
static CLOCK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

#[test]
fn a_clock_that_jumps_loses_nothing_keeps_the_order_and_repeats_nothing_within_30_days() {
    const DAY: u64 = 24 * 60 * 60;
    const BEGIN: u64 = 20_000 * DAY;
    let set = |time| CLOCK.store(time, std::sync::atomic::Ordering::SeqCst);
    let clock = || UNIX_EPOCH + Duration::from_secs(CLOCK.load(std::sync::atomic::Ordering::SeqCst));
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Spool::open_at(folder.path(), Wanted::All, 100, clock).expect("opened");
    set(BEGIN);
    let spool = open();
    let all = ["1", "2", "3", "4", "5"];
    // A year ahead, back to 1970, and to where it was.
    for (event, time) in all.into_iter().zip([BEGIN, BEGIN + 365 * DAY, 0, BEGIN - DAY, BEGIN]) {
        set(time);
        assert!(matches!(spool.accept(&bad("a", event)), Ok(Accepted::Kept(_))), "{event}");
        assert!(all.iter().take_while(|other| **other <= event).all(|known| matches!(spool.accept(&bad("a", known)), Ok(Accepted::Known))));
    }
    assert_eq!(waiting(&spool), ["a 1", "a 2", "a 3", "a 4", "a 5"]);
    set(BEGIN - DAY);
    assert_eq!(spool.status().oldest, Duration::ZERO, "a clock that was set back makes no age");
    drop(spool);
    set(0);
    let spool = open();
    assert_eq!(waiting(&spool), ["a 1", "a 2", "a 3", "a 4", "a 5"]);
    set(BEGIN);
    spool.posted(1).expect("noted");
    // Set back behind the note, and up to 30 days after it, it is the same event; and so it is after a start then.
    for time in [0, BEGIN - 365 * DAY, BEGIN, BEGIN + 30 * DAY - 1] {
        set(time);
        assert!(matches!(spool.accept(&bad("a", "1")), Ok(Accepted::Known)), "{time}");
    }
    drop(spool);
    set(0);
    let spool = open();
    assert!(matches!(spool.accept(&bad("a", "1")), Ok(Accepted::Known)));
    set(BEGIN + 30 * DAY);
    assert!(matches!(spool.accept(&bad("a", "1")), Ok(Accepted::Kept(6))), "forgotten, as is said");
    assert_eq!(waiting(&spool), ["a 2", "a 3", "a 4", "a 5", "a 1"]);
}
