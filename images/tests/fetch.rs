//! Downloads against servers that behave well and badly. All of it on the loopback interface.

mod common;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Answer, Request, Server};
use fs_err as fs;
use images::lock::{Artefact, Kind, Origin};
use images::mirror::{AptMirrors, Mirrors, Wishes};
use images::progress::Silent;
use images::store::Options;
use images::{Class, Digest, Error, Result, Store};

/// More than one read, and no repetition that a wrong offset could hide in.
fn body(seed: u32) -> Vec<u8> {
    (0..75_000u32).flat_map(|at| at.wrapping_mul(2_654_435_761).wrapping_add(seed).to_le_bytes()).collect()
}

fn artefact(kind: Kind, name: &str, from: Origin, bytes: &[u8]) -> Artefact {
    let (size, sha256) = (Some(bytes.len() as u64), Some(Digest::of(bytes)));
    let (version, architecture) = ("1.0-1".to_owned(), "amd64".to_owned());
    let (source, signature, scripts) = (None, None, Default::default());
    Artefact { name: name.to_owned(), version, architecture, kind, size, sha256, from, source, signature, scripts }
}

fn release(server: &Server, path: &str, bytes: &[u8]) -> Artefact {
    artefact(Kind::Release, path.trim_matches('/'), Origin::Url { url: server.url(path) }, bytes)
}

fn package(name: &str, repository: &str, bytes: &[u8]) -> Artefact {
    let path = format!("pool/{name}.deb");
    artefact(Kind::Deb, name, Origin::Debian { repository: repository.to_owned(), path }, bytes)
}

struct Folder {
    _temporary: tempfile::TempDir,
    root: PathBuf,
    store: Store,
}

fn folder() -> Folder {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let root = temporary.path().join("store");
    let store = Store::open(&root).expect("opens");
    Folder { _temporary: temporary, root, store }
}

impl Folder {
    fn partial(&self, artefact: &Artefact) -> PathBuf {
        self.root.join(format!("tmp/{}.partial", artefact.sha256.expect("pinned")))
    }

    fn left_over(&self) -> usize {
        fs::read_dir(self.root.join("tmp")).expect("readable").count()
    }

    fn blobs(&self) -> usize {
        fs::read_dir(self.root.join("blobs/sha256")).expect("readable").count()
    }

    fn fetch(&self, wants: &[&Artefact]) -> Result<()> {
        self.store.fetch(wants, &|| panic!("no mirror is needed"), &quick(), &Silent)
    }

    fn holds(&self, bytes: &[u8]) -> bool {
        fs::read(self.store.path(&Digest::of(bytes))).is_ok_and(|found| found == bytes)
    }
}

fn quick() -> Options {
    Options { pause: Duration::from_millis(1), ..Options::default() }
}

fn ranges(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(Request::range).collect()
}

/// The error without what differs from run to run.
fn stable(error: &Error, server: &Server) -> String {
    error.to_string().replace(&server.url(""), "http://SERVER")
}

#[test]
fn a_truncated_body_is_resumed_where_it_ended() {
    let bytes = body(1);
    let whole = bytes.clone();
    let server = Server::start(move |request| {
        let answer = Answer::ranged(request, &whole);
        if request.earlier < 2 { answer.cut(100_000) } else { answer }
    });
    let folder = folder();
    folder.fetch(&[&release(&server, "/a.tar.gz", &bytes)]).expect("fetched");
    assert!(folder.holds(&bytes));
    assert_eq!(ranges(&server), [None, Some(100_000), Some(200_000)]);
    assert_eq!(folder.left_over(), 0);
}

#[test]
fn a_partial_file_of_an_earlier_run_is_gone_on_with() {
    let bytes = body(2);
    let whole = bytes.clone();
    let server = Server::start(move |request| Answer::ranged(request, &whole));
    let (folder, wanted) = (folder(), release(&server, "/a.tar.gz", &bytes));
    fs::write(folder.partial(&wanted), &bytes[..123_456]).expect("written");
    folder.fetch(&[&wanted]).expect("fetched");
    assert!(folder.holds(&bytes));
    assert_eq!(ranges(&server), [Some(123_456)]);
}

#[test]
fn a_partial_file_that_is_already_whole_needs_no_request() {
    let bytes = body(3);
    let server = Server::start(|_| Answer::status(500));
    let (folder, wanted) = (folder(), release(&server, "/a.tar.gz", &bytes));
    fs::write(folder.partial(&wanted), &bytes).expect("written");
    folder.fetch(&[&wanted]).expect("fetched");
    assert!(folder.holds(&bytes) && server.requests().is_empty());
}

#[test]
fn a_stale_partial_with_other_bytes_is_fetched_anew() {
    let bytes = body(4);
    let whole = bytes.clone();
    let server = Server::start(move |request| Answer::ranged(request, &whole));
    let folder = folder();
    for (path, stale) in [("/shorter", &body(5)[..9000]), ("/as-long", &body(5)), ("/longer", &[body(5), body(6)].concat())] {
        let wanted = release(&server, path, &bytes);
        fs::write(folder.partial(&wanted), stale).expect("written");
        folder.fetch(&[&wanted]).expect(path);
        assert!(folder.holds(&bytes), "{path}");
        fs::remove_file(folder.store.path(&Digest::of(&bytes))).expect("removed for the next round");
    }
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let bytes = body(7);
    let whole = bytes.clone();
    let server = Server::start(move |request| {
        let answer = Answer::whole(&whole);
        if request.earlier == 0 { answer.cut(50_000) } else { answer }
    });
    let folder = folder();
    folder.fetch(&[&release(&server, "/a.tar.gz", &bytes)]).expect("fetched");
    assert!(folder.holds(&bytes));
    assert_eq!(ranges(&server), [None, Some(50_000)]);
}

#[test]
fn a_body_without_a_length_that_ends_early_is_tried_again() {
    let bytes = body(8);
    let whole = bytes.clone();
    let server = Server::start(move |request| {
        let answer = Answer::ranged(request, &whole).unannounced();
        if request.earlier == 0 { answer.cut(60_000) } else { answer }
    });
    let folder = folder();
    folder.fetch(&[&release(&server, "/a.tar.gz", &bytes)]).expect("fetched");
    assert!(folder.holds(&bytes));
}

#[test]
fn a_busy_server_is_asked_again_and_a_missing_file_is_not() {
    let bytes = body(9);
    let whole = bytes.clone();
    let server = Server::start(move |request| match (request.target.as_str(), request.earlier) {
        ("/busy", 0) => Answer::status(503).header("Retry-After: 0"),
        ("/busy", 1) => Answer::status(429),
        ("/busy", _) => Answer::whole(&whole),
        _ => Answer::status(404),
    });
    let folder = folder();
    folder.fetch(&[&release(&server, "/busy", &bytes)]).expect("fetched");
    assert_eq!(server.requests().len(), 3);
    let error = folder.fetch(&[&release(&server, "/missing", &body(10))]).expect_err("not there");
    assert_eq!((error.class(), server.requests().len()), (Class::Fetch, 4));
}

#[test]
fn tries_are_bounded() {
    let server = Server::start(|request| match request.target.as_str() {
        "/busy" => Answer::status(503),
        "/later" => Answer::status(503).header("Retry-After: 3600"),
        _ => Answer::whole(&body(11)).cut(10),
    });
    for (path, requests, said) in [("/busy", 4, "HTTP 503"), ("/later", 1, "HTTP 503"), ("/broken", 4, "after 10 bytes")] {
        let (folder, before) = (folder(), server.requests().len());
        let error = folder.fetch(&[&release(&server, path, &body(11))]).expect_err(path);
        assert_eq!((error.class(), server.requests().len() - before), (Class::Fetch, requests), "{path}: {error}");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(folder.blobs(), 0);
    }
}

#[test]
fn wrong_bytes_are_not_kept_and_are_the_locks_business() {
    let (wanted, page) = (body(12), vec![b'<'; 219_136]);
    let sent = page.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        "/page.tar.gz" => Answer::whole(&sent),
        "/swapped.tar.gz" => Answer::whole(&body(13)),
        _ => Answer::whole(&[body(12), body(12)].concat()),
    });
    let folder = folder();
    let mut said = Vec::new();
    for path in ["/page.tar.gz", "/swapped.tar.gz", "/longer.tar.gz"] {
        let error = folder.fetch(&[&release(&server, path, &wanted)]).expect_err(path);
        assert_eq!(error.class(), Class::HashMismatch, "{error}");
        said.push(stable(&error, &server));
    }
    insta::assert_snapshot!(said.join("\n\n"));
    assert_eq!((folder.blobs(), folder.left_over()), (0, 0));
}

#[test]
fn every_other_file_is_fetched_before_failures_are_reported_together() {
    let (good, gone) = (body(14), body(15));
    let whole = good.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        "/debian/pool/good.deb" | "/debian-security/pool/fixed.deb" => Answer::ranged(request, &whole),
        "/mattermost-11.tar.gz" => Answer::status(403),
        "/page.tar.gz" => Answer::whole(b"<html>"),
        "/moved.tar.gz" => Answer::status(302).header("Location: /elsewhere"),
        _ => Answer::status(404),
    });
    let mirrors = || {
        let wishes = Wishes { main: Some(server.url("/debian")), ..Wishes::default() };
        Mirrors::choose(&wishes, &AptMirrors::default())
    };
    let mut unpinned = release(&server, "/jenkins.tar.gz", b"");
    (unpinned.sha256, unpinned.size, unpinned.kind) = (None, None, Kind::Plugin);
    let wants = [
        release(&server, "/mattermost-11.tar.gz", &body(16)),
        package("gone", "main", &gone),
        release(&server, "/page.tar.gz", &body(17)),
        release(&server, "/moved.tar.gz", &body(18)),
        unpinned,
        package("fixed", "security", &good),
    ];
    let folder = folder();
    let error = folder.store.fetch(&wants.iter().collect::<Vec<_>>(), &mirrors, &quick(), &Silent).expect_err("most fail");
    assert!(folder.holds(&good));
    assert_eq!(error.class(), Class::Fetch);
    insta::assert_snapshot!(stable(&error, &server));
}

#[test]
fn a_host_that_takes_no_connection_is_given_up_for_all_its_files() {
    // A port that was free a moment ago, and is not listened on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let url = |name| Origin::Url { url: format!("http://127.0.0.1:{port}/{name}") };
    let wants: Vec<_> = (0..40).map(|at| artefact(Kind::Release, "a", url(at), &body(100 + at))).collect();
    let folder = folder();
    let options = Options { connections: 1, pause: Duration::from_millis(50), ..Options::default() };
    let before = std::time::Instant::now();
    let error = folder.store.fetch(&wants.iter().collect::<Vec<_>>(), &|| panic!("unused"), &options, &Silent).expect_err("nobody listens");
    assert!(error.to_string().contains("40 of 40 files could not be fetched"), "{error}");
    assert!(error.to_string().contains("refused") && error.to_string().contains("https_proxy name a proxy"), "{error}");
    // One file's pauses are 350 ms; forty files' would be 14 s.
    assert!(before.elapsed() < Duration::from_secs(7), "{:?}", before.elapsed());
}

#[test]
fn a_redirect_is_followed_and_keeps_the_range() {
    let bytes = body(19);
    let whole = bytes.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        "/a.tar.gz" => Answer::status(307).header("Location: /b.tar.gz"),
        _ => Answer::ranged(request, &whole),
    });
    let (folder, wanted) = (folder(), release(&server, "/a.tar.gz", &bytes));
    fs::write(folder.partial(&wanted), &bytes[..5]).expect("written");
    folder.fetch(&[&wanted]).expect("fetched");
    assert!(folder.holds(&bytes));
    assert_eq!(ranges(&server), [Some(5), Some(5)]);
}

#[test]
fn two_stores_in_one_folder_fetch_the_same_blobs_and_both_end_well() {
    let bodies: Vec<_> = (30..38).map(body).collect();
    let served = bodies.clone();
    let server = Server::start(move |request| Answer::ranged(request, &served[request.target[1..].parse::<usize>().expect("a number")]));
    let wants: Vec<_> = bodies.iter().enumerate().map(|(at, bytes)| release(&server, &format!("/{at}"), bytes)).collect();
    let folder = folder();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(&folder.root).expect("opens");
                store.fetch(&wants.iter().collect::<Vec<_>>(), &|| panic!("unused"), &quick(), &Silent).expect("fetched");
            });
        }
    });
    assert!(bodies.iter().all(|bytes| folder.holds(bytes)));
    assert_eq!((folder.left_over(), server.requests().len()), (0, 8), "each file is fetched once");
}

#[test]
fn what_is_there_is_not_asked_for() {
    let server = Server::start(|_| Answer::status(500));
    let folder = folder();
    folder.store.insert(&b"here"[..], None, None).expect("kept");
    folder.fetch(&[&release(&server, "/a", b"here")]).expect("nothing to do");
    assert!(server.requests().is_empty());
}

#[test]
fn a_blob_that_was_cut_short_is_fetched_again() {
    let bytes = body(41);
    let whole = bytes.clone();
    let server = Server::start(move |request| Answer::ranged(request, &whole));
    let (folder, wanted) = (folder(), release(&server, "/a.tar.gz", &bytes));
    fs::write(folder.store.path(&Digest::of(&bytes)), &bytes[..10]).expect("written");
    let error = folder.store.require(&wanted).expect_err("damaged").to_string();
    assert!(error.contains("a.tar.gz 1.0-1 is not in the store") && error.contains("`cargo xtask images fetch` brings it"), "{error}");
    folder.fetch(&[&wanted]).expect("fetched");
    assert!(folder.holds(&bytes));
    assert_eq!(folder.store.require(&wanted).expect("there"), folder.store.path(&Digest::of(&bytes)));
}

#[test]
fn progress_counts_every_byte_once_and_begins_anew_with_the_file() {
    use images::progress::{Progress, Step};
    #[derive(Default)]
    struct Counts(Arc<Mutex<Vec<String>>>);
    struct Count(String, Mutex<u64>, Arc<Mutex<Vec<String>>>);
    impl Progress for Counts {
        fn begin(&self, label: &str, total: Option<u64>) -> Box<dyn Step> {
            Box::new(Count(format!("{label} {total:?}"), Mutex::default(), Arc::clone(&self.0)))
        }
    }
    impl Step for Count {
        fn advance(&self, bytes: u64) {
            *self.1.lock().expect("free") += bytes;
        }
        fn restart(&self, bytes: u64) {
            *self.1.lock().expect("free") = bytes;
        }
        fn done(self: Box<Self>) {
            self.2.lock().expect("free").push(format!("{} {}", self.0, self.1.lock().expect("free")));
        }
    }
    let bytes = body(40);
    let whole = bytes.clone();
    let server = Server::start(move |request| {
        let answer = Answer::whole(&whole);
        if request.earlier == 0 { answer.cut(50_000) } else { answer }
    });
    let (folder, counts) = (folder(), Counts::default());
    let wants = [&release(&server, "/a.tar.gz", &bytes)];
    folder.store.fetch(&wants, &|| panic!("unused"), &quick(), &counts).expect("fetched");
    assert_eq!(*counts.0.lock().expect("free"), ["a.tar.gz Some(300000) 300000", "1 file Some(300000) 300000"]);
}
