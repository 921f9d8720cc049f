use std::io::ErrorKind;

use super::*;
use store::tests::Disk;

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

/// What waits, in its order.
pub fn alerts(spool: &Spool) -> Vec<Alert> {
    spool.state().waiting.keys().map(|number| spool.read(*number).expect("on disk")).collect()
}

fn waiting(spool: &Spool) -> Vec<String> {
    alerts(spool).into_iter().map(|alert| alert.summary).collect()
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
}

/// What a gateway leaves behind whose machine loses its power at any moment: any part of what was written since the last flush.
#[test]
fn power_may_go_at_any_write_and_every_step_is_whole_or_not_there() {
    let disk = Disk::default();
    let spool = disk.spool().expect("opened");
    let mut states = vec![standing(&spool)];
    disk.mark();
    let mut step = |did: &dyn Fn()| {
        did();
        states.push(standing(&spool));
        disk.mark();
    };
    let keep = |event: &str| assert!(matches!(spool.accept(&bad("a", event)), Ok(Accepted::Kept(_))));
    step(&|| keep("1"));
    step(&|| keep("2"));
    step(&|| spool.posted(1).expect("noted"));
    step(&|| keep("3"));
    step(&|| spool.refused(2).expect("moved"));
    step(&|| assert_eq!(spool.replay().expect("moved"), 1));
    step(&|| spool.posted(3).expect("noted"));
    let images = disk.images();
    assert!(images.len() > 100, "{} images are few", images.len());
    for (done, image) in images {
        let spool = image.spool().expect("opened");
        let found = standing(&spool);
        let may = &states[done..(done + 2).min(states.len())];
        assert!(may.contains(&found), "after step {done}: {found:?}, expected one of {may:?}");
        // It goes on from there.
        assert!(matches!(spool.accept(&bad("a", "9")), Ok(Accepted::Kept(_))));
    }
}

/// What waits, what is dead, and which of the events 1 to 3 are known.
fn standing(spool: &Spool) -> (Vec<String>, Vec<String>, Vec<&'static str>) {
    let dead = spool.dead_letters().expect("listed").into_iter().map(|(_, summary)| summary).collect();
    let done = |event: &&str| spool.store.done(bad("a", event).event).expect("read").is_some();
    (waiting(spool), dead, ["1", "2", "3"].into_iter().filter(done).collect())
}

#[test]
fn alerts_that_come_at_once_share_a_flush() {
    let disk = Disk::default();
    let spool = disk.spool().expect("opened");
    // The first one is held at its flush until all the others wait.
    disk.hold(true);
    let before = disk.flushes();
    std::thread::scope(|scope| {
        (0..16).for_each(|number| {
            _ = scope.spawn({
                let spool = &spool;
                move || spool.accept(&bad("a", &number.to_string())).expect("kept")
            })
        });
        let start = std::time::Instant::now();
        while spool.store.pending() < 15 {
            assert!(start.elapsed() < Duration::from_secs(60), "the others wait");
            std::thread::yield_now();
        }
        disk.hold(false);
    });
    let one = disk.flushes();
    spool.accept(&bad("a", "alone")).expect("kept");
    let alone = disk.flushes() - one;
    assert_eq!((spool.status().waiting, one - before), (17, 2 * alone), "two transactions for sixteen");
}

#[test]
fn a_disk_that_fails_is_told_and_used_again_when_it_works() {
    let disk = Disk::default();
    let spool = disk.spool().expect("opened");
    spool.accept(&bad("a", "1")).expect("kept");
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        disk.fail(Some(kind));
        for _ in 0..2 {
            let refused = spool.accept(&bad("a", "2"));
            assert!(matches!(&refused, Err(Refused::Disk(error)) if error.kind() == kind), "{refused:?}");
        }
        assert!(spool.posted(1).is_err());
        assert_eq!(spool.status().waiting, 1);
        disk.fail(None);
        assert_eq!(waiting(&spool), ["a 1"]);
    }
    assert!(matches!(spool.accept(&bad("a", "3")), Ok(Accepted::Kept(_))));
    spool.posted(1).expect("noted");
    drop(spool);
    let spool = disk.spool().expect("opened");
    assert_eq!(waiting(&spool), ["a 3"], "what was refused is not there");
    assert!(matches!(spool.accept(&bad("a", "2")), Ok(Accepted::Kept(_))), "a refused event is not known");
}

#[test]
fn a_disk_that_is_nearly_full_takes_no_more_but_notes_what_becomes_of_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut spool = open(folder.path());
    spool.accept(&bad("a", "1")).expect("kept");
    spool.store.keep_free(u64::MAX);
    let refused = spool.accept(&bad("a", "2"));
    assert!(matches!(&refused, Err(Refused::Disk(error)) if error.kind() == ErrorKind::StorageFull), "{refused:?}");
    assert_eq!(spool.accept(&bad("a", "1")).expect("acknowledged"), Accepted::Known);
    spool.posted(1).expect("noted");
    assert_eq!(spool.status().waiting, 0);
}

#[test]
fn a_file_that_is_not_whole_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    let path = folder.path().join("alerts.redb");
    fs_err::write(&path, vec![7; 100_000]).expect("spoilt");
    let error = Spool::open(folder.path(), Wanted::All, 1).map(|_| ()).expect_err("spoilt").to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn a_dead_letter_is_kept_listed_and_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path());
    spool.accept(&bad("a", "1")).expect("kept");
    spool.refused(1).expect("moved");
    assert_eq!(spool.accept(&bad("a", "1")).expect("acknowledged"), Accepted::Known);
    assert_eq!((spool.status().waiting, spool.status().dead), (0, 1));
    assert_eq!(spool.dead_letters().expect("listed"), [(1, "a 1".to_owned())]);
    assert_eq!(spool.replay().expect("moved"), 1);
    assert_eq!((waiting(&spool), spool.status().dead, spool.dead_letters().expect("listed")), (vec!["a 1".to_owned()], 0, vec![]));
    drop(spool);
    assert_eq!(waiting(&open(folder.path())), ["a 1"], "a refused event that is replayed survives a restart");
}

#[test]
fn the_commands_ask_the_gateway_that_runs_or_else_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = open(folder.path());
    for event in ["1", "2"] {
        let Ok(Accepted::Kept(number)) = spool.accept(&bad("a", event)) else { panic!("{event} is not kept") };
        spool.refused(number).expect("moved");
    }
    let letters = [(1, "a 1".to_owned()), (2, "a 2".to_owned())];
    // A killed gateway's socket is in the way.
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("control")).expect("bound"));
    let control = Control::open(folder.path()).expect("opened");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| control.run(&spool, &stop));
        assert_eq!(dead_letters(folder.path()).expect("listed"), letters);
        assert_eq!(replay(folder.path()).expect("moved"), 2);
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        control.wake();
    });
    assert_eq!(waiting(&spool), ["a 1", "a 2"], "the gateway has them at once");
    spool.refused(3).expect("moved");
    drop((spool, control));
    assert_eq!(dead_letters(folder.path()).expect("listed"), [(3, "a 1".to_owned())]);
    assert_eq!(replay(folder.path()).expect("moved"), 1);
    assert_eq!(waiting(&open(folder.path())), ["a 2", "a 1"]);
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
fn a_full_spool_says_no() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Spool::open(folder.path(), Wanted::All, 1).expect("opened");
    spool.accept(&bad("a", "1")).expect("kept");
    assert!(matches!(spool.accept(&bad("a", "2")), Err(Refused::Full)));
    assert_eq!(spool.accept(&bad("a", "1")).expect("known, not refused"), Accepted::Known);
    spool.posted(1).expect("noted");
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
