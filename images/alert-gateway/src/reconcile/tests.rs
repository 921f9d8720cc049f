//! Against a small double of SonarQube's web API on loopback; the shapes are those of its documentation for 9.9. The acceptance claim about
//! a real one (`tests/acceptance/src/sonarqube.rs`) asks the same of 9.9, and of 25.1 where it is given.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use super::*;
use crate::spool::{Wanted, tests};

/// Path → status and body; what is not there is 404.
type Answers = Arc<Mutex<HashMap<String, (u16, String)>>>;

struct Lab {
    folder: tempfile::TempDir,
    answers: Answers,
    sonarqube: Sonarqube,
    spool: Spool,
    seen: Seen,
}

const BRANCHES: &str = "/api/project_branches/list?project=a%26b";

impl Lab {
    fn new() -> Lab {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        fs_err::write(&token, "squ_0123456789\n").expect("written");
        fs_err::set_permissions(&token, std::fs::Permissions::from_mode(0o400)).expect("set");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        fs_err::write(folder.path().join("ca.pem"), made.cert.pem()).expect("written");
        let client = entrypoint::tls::client(&folder.path().join("ca.pem")).expect("roots");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}/sonar", listener.local_addr().expect("bound"));
        let answers = Answers::default();
        std::thread::spawn({
            let answers = Arc::clone(&answers);
            // It ends with the test's process.
            move || listener.incoming().for_each(|connection| answer(connection.expect("a connection"), &answers))
        });
        let spool = Spool::open(&folder.path().join("spool"), Wanted::All, 100).expect("opened");
        let lab = Lab { answers, sonarqube: Sonarqube { url, token, client }, spool, seen: Seen::new(), folder };
        lab.says(
            "/api/components/search?qualifiers=TRK&ps=100&p=1",
            200,
            r#"{"paging":{"total":1},"components":[{"key":"a&b","name":"A"}]}"#,
        );
        let conditions = r#"{"metricKey":"ncloc","comparator":"GT","status":"ERROR","actualValue":"7","errorThreshold":"1"}"#;
        let status = format!(r#"{{"projectStatus":{{"status":"ERROR","conditions":[{conditions}]}}}}"#);
        lab.says("/api/qualitygates/project_status?projectKey=a%26b&branch=main", 200, &status);
        lab
    }

    fn says(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().expect("a lock").insert(format!("/sonar{path}"), (status, body.to_owned()));
    }

    fn gate(&self, status: &str, analysed: &str) {
        let branch = format!(
            r#"{{"name":"main","isMain":true,"type":"BRANCH","status":{{"qualityGateStatus":"{status}"}},"analysisDate":"{analysed}"}}"#
        );
        self.says(BRANCHES, 200, &format!(r#"{{"branches":[{branch}]}}"#));
    }

    fn round(&mut self) -> Result<u64, String> {
        round(&self.spool, &self.sonarqube, &mut self.seen)
    }

    fn waiting(&self) -> Vec<String> {
        tests::alerts(&self.spool).iter().map(|alert| alert.message.to_string()).collect()
    }
}

fn answer(mut connection: std::net::TcpStream, answers: &Answers) {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") && connection.read(&mut one).is_ok_and(|read| read == 1) {
        bytes.push(one[0]);
    }
    let head = String::from_utf8_lossy(&bytes);
    let path = head.split(' ').nth(1).unwrap_or_default();
    // squ_0123456789 and a colon.
    let known = head.contains("Authorization: Basic c3F1XzAxMjM0NTY3ODk6\r\n");
    let (status, body) = match answers.lock().expect("a lock").get(path) {
        _ if !known => (401, String::new()),
        Some((status, body)) => (*status, body.clone()),
        None => (404, "{}".to_owned()),
    };
    let _ = connection.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
}

/// After any gateway began.
const TOMORROW: &str = "2999-01-01T00:00:00+0000";
const LONG_AGO: &str = "2020-01-01T00:00:00+0000";

#[test]
fn a_failure_that_never_arrived_is_made_good_once_and_so_is_its_recovery() {
    let mut lab = Lab::new();
    lab.gate("ERROR", TOMORROW);
    assert_eq!(lab.round(), Ok(0), "its webhook may be on its way");
    assert_eq!(lab.round(), Ok(1));
    let alert = &lab.waiting()[0];
    for part in ["its webhook never came", "`ncloc`", "wanted at most 1", "id=a%26b&branch=main"] {
        assert!(alert.contains(part), "{part}: {alert}");
    }
    assert_eq!((lab.round(), lab.round()), (Ok(0), Ok(0)), "it is known now");
    lab.gate("OK", TOMORROW);
    assert_eq!((lab.round(), lab.round(), lab.round()), (Ok(0), Ok(1), Ok(0)));
    // A gate that fails again without analysis is another event, though project, branch and analysis are the same.
    lab.spool.posted(1).expect("noted");
    lab.spool.posted(2).expect("noted");
    lab.gate("ERROR", TOMORROW);
    assert_eq!((lab.round(), lab.round()), (Ok(0), Ok(1)));
}

#[test]
fn what_arrived_in_between_and_what_is_old_news_is_left_alone() {
    let mut lab = Lab::new();
    lab.gate("ERROR", LONG_AGO);
    assert_eq!((lab.round(), lab.round(), lab.round()), (Ok(0), Ok(0), Ok(0)), "it failed before there was a gateway");
    lab.gate("ERROR", TOMORROW);
    assert_eq!(lab.round(), Ok(0));
    let webhook = r#"{"taskId":"1","status":"SUCCESS","project":{"key":"a&b"},"branch":{"name":"main","type":"BRANCH"},"qualityGate":{"status":"ERROR"}}"#;
    lab.spool.accept(&sonarqube::read(webhook.as_bytes()).expect("a payload")).expect("kept");
    assert_eq!((lab.round(), lab.round()), (Ok(0), Ok(0)), "it came");
    // An analysis that breaks says nothing about the gate.
    let broken = r#"{"taskId":"2","status":"FAILED","project":{"key":"a&b"},"branch":{"name":"main","type":"BRANCH"}}"#;
    lab.spool.accept(&sonarqube::read(broken.as_bytes()).expect("a payload")).expect("kept");
    assert_eq!((lab.round(), lab.round()), (Ok(0), Ok(0)));
}

#[test]
fn what_is_known_of_a_gate_outlives_a_restart() {
    let mut lab = Lab::new();
    lab.gate("ERROR", TOMORROW);
    assert_eq!((lab.round(), lab.round()), (Ok(0), Ok(1)));
    lab.spool.posted(1).expect("noted");
    let folder = lab.folder.path().join("spool");
    let since = lab.spool.since();
    drop(std::mem::replace(&mut lab.spool, Spool::open(&lab.folder.path().join("other"), Wanted::All, 1).expect("opened")));
    lab.spool = Spool::open(&folder, Wanted::All, 100).expect("opened");
    assert_eq!((lab.spool.since(), lab.round(), lab.round()), (since, Ok(0), Ok(0)));
}

#[test]
fn a_server_that_does_not_answer_as_it_should_is_told_without_the_token() {
    let mut lab = Lab::new();
    for (status, body, word) in [
        (401, "", "401, so the token is not valid"),
        (403, "{}", "403"),
        (404, "{}", "status 404"),
        (500, "<html>", "status 500"),
        (200, "<html>", "not JSON"),
    ] {
        lab.says(BRANCHES, status, body);
        let why = lab.round().expect_err("no round");
        assert!(why.starts_with("/api/project_branches/list: ") && why.contains(word) && !why.contains("squ_"), "{why}");
    }
    fs_err::remove_file(&lab.sonarqube.token).expect("removed");
    assert!(lab.round().expect_err("no token").contains("token"));
    assert_eq!(lab.waiting(), [""; 0]);
}

#[test]
fn times_of_sonarqube_are_read() {
    for (time, expected) in [
        ("1970-01-01T00:00:00+0000", Some(0)),
        ("2000-02-29T12:00:00+0000", Some(951_825_600)),
        ("2026-11-22T16:44:12+0100", Some(1_795_362_252)),
        ("2026-11-22T16:44:12Z", None),
        ("yesterday", None),
        ("1969-12-31T23:59:59+0000", None),
    ] {
        assert_eq!(seconds(time), expected, "{time}");
    }
}
