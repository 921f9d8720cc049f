use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::alert::Verdict;
use crate::spool::tests::alert;
use crate::spool::{Accepted, Wanted};

/// How a server that is not well behaves at one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Answers(u16),
    AsksToWait,
    ClosesAtOnce,
    ClosesAfterTheRequest,
    CutsTheAnswer,
    SpeaksNoHttp,
    ShowsAPage,
}

/// A Mattermost that misbehaves in the given order, and then does what it should.
struct Fake {
    url: String,
    posted: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start(faults: Vec<Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hooks/the-secret-id", listener.local_addr().expect("bound"));
        let posted = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&posted);
        // Ends with the test's process; it holds nothing but a port of loopback.
        std::thread::spawn(move || {
            let mut faults = faults.into_iter();
            for connection in listener.incoming() {
                let _ = answer(connection.expect("a connection"), faults.next(), &kept);
            }
        });
        Fake { url, posted }
    }
}

fn answer(mut connection: TcpStream, fault: Option<Fault>, posted: &Mutex<Vec<String>>) -> std::io::Result<()> {
    if fault == Some(Fault::ClosesAtOnce) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let body = loop {
        let count = connection.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize = entrypoint::http::header(head, "Content-Length").and_then(|length| length.parse().ok()).unwrap_or_default();
        if body.len() >= length {
            break body.to_owned();
        }
    };
    let text = match fault {
        Some(Fault::Answers(status)) => format!("HTTP/1.1 {status} No\r\n\r\n{{\"id\":\"the-secret-id\"}}"),
        Some(Fault::AsksToWait) => "HTTP/1.1 429 No\r\nRetry-After: 1\r\n\r\n".to_owned(),
        Some(Fault::CutsTheAnswer) => "HTTP/1.1 20".to_owned(),
        Some(Fault::SpeaksNoHttp) => "220 smtp ready\r\n\r\n".to_owned(),
        Some(Fault::ShowsAPage) => "HTTP/1.1 200 OK\r\n\r\n<html>".to_owned(),
        Some(Fault::ClosesAtOnce | Fault::ClosesAfterTheRequest) => return Ok(()),
        None => {
            let message: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            posted.lock().expect("whole").push(message["text"].as_str().expect("a text").to_owned());
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nok".to_owned()
        }
    };
    connection.write_all(text.as_bytes())
}

fn mattermost(folder: &Path, url: &str) -> Mattermost {
    let file = folder.join("webhook");
    write_secret(&file, url);
    let roots = folder.join("roots");
    fs_err::write(&roots, "").expect("written");
    Mattermost { files: [(Source::Sonarqube, file)].into(), client: entrypoint::tls::client(&roots).expect("a client") }
}

fn write_secret(file: &Path, value: &str) {
    fs_err::write(file, value).expect("written");
    fs_err::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("set");
}

const QUICK: Pace = Pace { first: Duration::from_millis(2), longest: Duration::from_millis(10), look: Duration::from_millis(20) };

/// Delivers until `done`, at most a minute.
fn until(spool: &Spool, mattermost: &Mattermost, done: impl Fn() -> bool) -> Counts {
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(spool, mattermost, &QUICK, &counts, &stop));
        let start = Instant::now();
        while !done() && start.elapsed() < Duration::from_secs(60) {
            spool.wait(Duration::from_millis(5));
        }
        stop.store(true, Ordering::SeqCst);
        spool.wake();
        running.join().expect("it ends");
    });
    counts
}

/// The table of faults. Each is met by alerts of three projects; then the server is well.
#[test]
fn acknowledged_is_posted_or_a_dead_letter_and_only_400_403_and_404_make_dead_letters() {
    let dead = [400, 403, 404].map(Fault::Answers);
    let mut table: Vec<Fault> = [301, 401, 408, 413, 429, 500, 501, 502, 503, 504].map(Fault::Answers).to_vec();
    table.extend(dead);
    table.extend([Fault::AsksToWait, Fault::ClosesAtOnce, Fault::ClosesAfterTheRequest]);
    table.extend([Fault::CutsTheAnswer, Fault::SpeaksNoHttp, Fault::ShowsAPage]);
    println!("{:<22} acknowledged posted dead retried", "fault, three times");
    for fault in table {
        let folder = tempfile::tempdir().expect("a folder");
        let fake = Fake::start(vec![fault; 3]);
        let spool = Spool::open(&folder.path().join("spool"), Wanted::All, 1000).expect("opened");
        let mut acknowledged = 0;
        for number in 0..30 {
            let accepted = spool.accept(&alert(["a", "b", "c"][number % 3], &format!("{number:02}"), Verdict::Bad));
            acknowledged += u64::from(matches!(accepted, Ok(Accepted::Kept(_))));
        }
        let counts = until(&spool, &mattermost(folder.path(), &fake.url), || spool.status().waiting == 0);
        let posted = fake.posted.lock().expect("whole").clone();
        let retried = counts.failed.load(Ordering::Relaxed);
        println!("{:<22} {acknowledged:>12} {:>6} {:>4} {retried:>7}", format!("{fault:?}"), posted.len(), spool.status().dead);
        assert_eq!(acknowledged, 30);
        assert_eq!(acknowledged, posted.len() as u64 + spool.status().dead as u64, "{fault:?}");
        assert_eq!(spool.status().dead, if dead.contains(&fault) { 3 } else { 0 }, "{fault:?}");
        assert_eq!(retried, if dead.contains(&fault) { 0 } else { 3 }, "{fault:?}");
        let mut by_project: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for text in &posted {
            let (project, event) = text.split_once(' ').expect("two words");
            by_project.entry(project).or_default().push(event);
        }
        for (project, events) in by_project {
            assert!(events.is_sorted_by(|a, b| a < b), "{fault:?}, {project}: {events:?}");
        }
    }
}

#[test]
fn a_server_that_is_away_gets_everything_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Spool::open(&folder.path().join("spool"), Wanted::All, 1000).expect("opened");
    for number in 0..20 {
        spool.accept(&alert("a", &format!("{number:02}"), Verdict::Bad)).expect("kept");
    }
    // Nobody listens there: the port was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let mattermost = mattermost(folder.path(), &format!("http://{nobody}/hooks/x"));
    let counts = Counts::default();
    let stop = AtomicBool::new(false);
    let fake = Fake::start(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| run(&spool, &mattermost, &QUICK, &counts, &stop));
        while counts.failed.load(Ordering::Relaxed) < 3 {
            spool.wait(Duration::from_millis(5));
        }
        assert_eq!(spool.status().waiting, 20);
        // The address comes from the file at each post.
        write_secret(&mattermost.files[&Source::Sonarqube], &fake.url);
        let start = Instant::now();
        while spool.status().waiting > 0 && start.elapsed() < Duration::from_secs(60) {
            spool.wait(Duration::from_millis(5));
        }
        stop.store(true, Ordering::SeqCst);
        spool.wake();
    });
    assert_eq!(fake.posted.lock().expect("whole").len(), 20);
    assert_eq!(spool.status().dead, 0);
}

#[test]
fn without_an_address_alerts_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Spool::open(&folder.path().join("spool"), Wanted::All, 10).expect("opened");
    spool.accept(&alert("a", "1", Verdict::Bad)).expect("kept");
    let mattermost = mattermost(folder.path(), "http://127.0.0.1:1/x");
    fs_err::remove_file(&mattermost.files[&Source::Sonarqube]).expect("gone");
    let start = Instant::now();
    let counts = until(&spool, &mattermost, || start.elapsed() > Duration::from_millis(100));
    assert_eq!((spool.status().waiting, counts.failed.load(Ordering::Relaxed)), (1, 0));
}

#[test]
fn pauses_grow_to_their_limit() {
    let pace = Pace::default();
    for (failures, wanted) in [(1, 1.0), (2, 2.0), (6, 32.0), (7, 60.0), (u32::MAX, 60.0)] {
        let pause = pace.after(failures).as_secs_f64();
        assert!((wanted * 0.74..wanted * 1.26).contains(&pause), "{failures}: {pause}");
    }
}
