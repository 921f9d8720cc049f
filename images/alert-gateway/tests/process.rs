//! The program as a container starts it, between a SonarQube and a Mattermost that the test plays: under load, killed, and on a full disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

const SECRET: &str = "the-secret-of-this-test";
/// Of anything that is waited for here; the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(300);

/// A Mattermost that keeps what it accepts: project, and number of the alert; and the numbers of what it never will.
struct Mattermost {
    url: String,
    posted: Arc<Mutex<Vec<(String, u64)>>>,
    refused: Arc<Mutex<BTreeSet<u64>>>,
}

impl Mattermost {
    /// Answers each post with what `status` says to its number, and to how many came before.
    fn start(status: fn(u64, usize) -> u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/hooks/an-id", listener.local_addr().expect("bound"));
        let posted = Arc::new(Mutex::new(Vec::new()));
        let refused = Arc::new(Mutex::new(BTreeSet::new()));
        let (kept, never) = (Arc::clone(&posted), Arc::clone(&refused));
        let count = Arc::new(AtomicUsize::new(0));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (kept, never, count) = (Arc::clone(&kept), Arc::clone(&never), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut connection = connection.expect("a connection");
                    // A gateway that is killed sends half a request.
                    let Some(body) = body_of(&mut connection) else { return };
                    let (project, number) = alert_of(&serde_json::from_slice(&body).expect("JSON"));
                    let status = status(number, count.fetch_add(1, Ordering::SeqCst));
                    match status {
                        200 => kept.lock().expect("whole").push((project, number)),
                        404 => _ = never.lock().expect("whole").insert(number),
                        _ => {}
                    }
                    let _ = write!(connection, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
                });
            }
        });
        Mattermost { url, posted, refused }
    }

    fn posted(&self) -> Vec<(String, u64)> {
        self.posted.lock().expect("whole").clone()
    }
}

fn body_of(connection: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length: usize = entrypoint::http::header(&head, "Content-Length")?.parse().ok()?;
            if bytes.len() >= end + 4 + length {
                return Some(bytes.split_off(end + 4));
            }
        }
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Project and number of a message: its title's end, and the revision.
fn alert_of(message: &Value) -> (String, u64) {
    let attachment = &message["attachments"][0];
    let project = attachment["title"].as_str().expect("a title").rsplit(' ').next().expect("a word").to_owned();
    let fields = attachment["fields"].as_array().expect("fields");
    let revision = fields.iter().find(|field| field["title"] == "Revision").expect("a revision");
    (project, revision["value"].as_str().expect("text").trim_matches('`').parse().expect("a number"))
}

/// The gateway's files, and its address.
struct Place {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Place {
    fn new(webhook: Option<&str>) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
        let place = Place { folder, address };
        place.secret("sonarqube", SECRET);
        fs_err::create_dir(place.path("spool")).expect("made");
        fs_err::write(place.path("roots"), "").expect("written");
        webhook.into_iter().for_each(|url| place.secret("webhook", url));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn secret(&self, name: &str, value: &str) {
        let beside = self.path("beside");
        fs_err::write(&beside, value).expect("written");
        fs_err::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).expect("set");
        fs_err::rename(beside, self.path(name)).expect("renamed");
    }

    /// The program, behind the words of `before`.
    #[expect(clippy::disallowed_methods, reason = "the test plays the container engine")]
    fn command(&self, before: &[String]) -> Command {
        let words: Vec<String> = before.iter().cloned().chain([env!("CARGO_BIN_EXE_alert-gateway").to_owned()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("ALERT_GATEWAY_LISTEN", self.address.to_string()).env("ALERT_GATEWAY_TLS", "off");
        command.env("ALERT_GATEWAY_CA_FILE", self.path("roots")).env("ALERT_GATEWAY_SPOOL", self.path("spool"));
        command.env("ALERT_GATEWAY_SONARQUBE_SECRET_FILE", self.path("sonarqube"));
        command.env("ALERT_GATEWAY_SONARQUBE_WEBHOOK_FILE", self.path("webhook"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts it, and waits until it answers.
    fn start(&self, before: &[String]) -> Gateway {
        let log = fs_err::File::create(self.path("log")).expect("a log").into_parts().0;
        let mut gateway = Gateway(self.command(before).stderr(log).spawn().expect("it starts"));
        wait("it answers", || {
            let ended = gateway.0.try_wait().expect("asked");
            assert!(ended.is_none(), "it ended: {}", fs_err::read_to_string(self.path("log")).unwrap_or_default());
            self.health().is_some()
        });
        gateway
    }

    /// Status and body.
    fn ask(&self, request: &[u8]) -> Option<(u16, String)> {
        let mut connection = TcpStream::connect_timeout(&self.address, Duration::from_secs(10)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        connection.write_all(request).ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
    }

    fn health(&self) -> Option<Value> {
        serde_json::from_str(&self.ask(b"GET /health HTTP/1.1\r\n\r\n")?.1).ok()
    }

    /// A signed webhook about `project`; the answer's status, or none where the connection broke.
    fn send(&self, project: &str, number: u64) -> Option<u16> {
        let body = json!({ "taskId": format!("task-{number}"), "status": "SUCCESS", "revision": format!("{number:012}"),
                           "project": { "key": project }, "branch": { "name": "main", "type": "BRANCH" },
                           "qualityGate": { "status": "ERROR" } })
        .to_string();
        let mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length").chain_update(&body).finalize();
        let signature: String = mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let head = format!("POST /sonarqube HTTP/1.1\r\nX-Sonar-Webhook-HMAC-SHA256: {signature}\r\nContent-Length: {}", body.len());
        self.ask(format!("{head}\r\n\r\n{body}").as_bytes()).map(|(status, _)| status)
    }

    fn is_empty(&self) -> bool {
        self.health().is_some_and(|health| health["waiting"] == 0)
    }

    /// What a command says, each line of it.
    fn says(&self, command: &str) -> Vec<String> {
        let output = self.command(&[]).arg(command).stdout(Stdio::piped()).output().expect("it runs");
        assert!(output.status.success(), "{command}: {}", output.status);
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }
}

/// A gateway that runs; it is killed with this.
struct Gateway(Child);

impl Gateway {
    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }

    /// The most that was resident, in KiB (proc(5)).
    fn peak(&self) -> u64 {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak.expect("a peak")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < DEADLINE, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn ten_thousand_alerts_in_a_burst_are_all_posted_in_their_order() {
    const CLIENTS: u64 = 40;
    const EACH: u64 = 250;
    let mattermost = Mattermost::start(|_, _| 200);
    let place = Place::new(None);
    let gateway = place.start(&[]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let place = &place;
            // One project each, so that there is an order.
            scope.spawn(move || {
                for number in client * EACH..(client + 1) * EACH {
                    assert_eq!(place.send(&format!("p{client}"), number), Some(200));
                }
            });
        }
    });
    let burst = start.elapsed();
    assert_eq!(place.health().expect("it answers")["waiting"], CLIENTS * EACH);
    place.secret("webhook", &mattermost.url);
    wait("an empty queue", || place.is_empty());
    let (all, posted, dead) = (CLIENTS * EACH, mattermost.posted(), place.says("dead-letters").len());
    println!(
        "acknowledged {all} in {:.1} s = posted {} + dead letters {dead}; posted within {:.1} s, at most {} KiB resident",
        burst.as_secs_f32(),
        posted.len(),
        (start.elapsed() - burst).as_secs_f32(),
        gateway.peak()
    );
    assert_eq!((posted.len() as u64, dead), (all, 0));
    assert!(gateway.peak() < 20 * 1024, "a container of it may have 20 MiB");
    let mut by_project: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    posted.iter().for_each(|(project, number)| by_project.entry(project).or_default().push(*number));
    assert!(by_project.values().all(|numbers| numbers.is_sorted_by(|a, b| a < b)));
}

/// Every tenth post is refused for now, and what ends in 99 for good.
#[test]
fn killed_at_any_moment_under_load_nothing_acknowledged_is_lost() {
    const KILLS: u32 = 25;
    const CLIENTS: u64 = 6;
    fn status(number: u64, before: usize) -> u16 {
        match (number % 100, before % 10) {
            (99, _) => 404,
            (_, 9) => 500,
            _ => 200,
        }
    }
    let mattermost = Mattermost::start(status);
    let place = Place::new(Some(&mattermost.url));
    let acknowledged = Mutex::new(BTreeSet::new());
    let broken = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let mut gateway = place.start(&[]);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (place, stop, acknowledged, broken) = (&place, &stop, &acknowledged, &broken);
            scope.spawn(move || {
                for number in (client * 1_000_000..).take_while(|_| !stop.load(Ordering::SeqCst)) {
                    match place.send(&format!("p{client}"), number) {
                        Some(200) => _ = acknowledged.lock().expect("whole").insert(number),
                        _ => {
                            broken.fetch_add(1, Ordering::SeqCst);
                            // Nobody listens for a moment.
                            std::thread::sleep(Duration::from_millis(2));
                        }
                    }
                }
            });
        }
        for kill in 0..KILLS {
            let before = acknowledged.lock().expect("whole").len();
            wait("some more", || acknowledged.lock().expect("whole").len() > before + 20);
            // Not always after the same step.
            std::thread::sleep(Duration::from_micros(u64::from(kill) * 731 % 5000));
            gateway.kill();
            gateway = place.start(&[]);
        }
        stop.store(true, Ordering::SeqCst);
    });
    wait("an empty queue", || place.is_empty());
    let acknowledged = acknowledged.into_inner().expect("whole");
    let posted: Vec<u64> = mattermost.posted().into_iter().map(|(_, number)| number).collect();
    let unique: BTreeSet<u64> = posted.iter().copied().collect();
    let dead = mattermost.refused.lock().expect("whole").clone();
    assert_eq!(place.says("dead-letters").len(), dead.len());
    let twice = posted.len() - unique.len();
    let lost: Vec<_> = acknowledged.iter().filter(|number| !unique.contains(number) && !dead.contains(number)).collect();
    println!(
        "{KILLS} kills: acknowledged {} = posted {} + dead letters {}; {} more were on disk and their answer was cut ({} requests broke), {twice} were posted twice",
        acknowledged.len(),
        acknowledged.intersection(&unique).count(),
        acknowledged.intersection(&dead).count(),
        unique.union(&dead).filter(|number| !acknowledged.contains(number)).count(),
        broken.load(Ordering::SeqCst),
    );
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(unique.is_disjoint(&dead) && dead.iter().all(|number| number % 100 == 99), "dead: {dead:?}");
    assert!(twice <= KILLS as usize, "one post is under way at a kill, and {twice} came twice");
}

/// A file system of 4 MiB at the spool's place, in namespaces that need no rights; it is there as long as this is.
struct Small(Child);

impl Small {
    #[expect(clippy::disallowed_methods, reason = "the test plays the container engine")]
    fn mount(at: &Path) -> Option<Small> {
        let script = "mount -t tmpfs -o size=4m,mode=700 spool \"$1\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(at);
        let mut small = Small(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?);
        let mut said = [0; 8];
        small.0.stdout.as_mut()?.read_exact(&mut said).is_ok().then_some(small)
    }

    /// The words that run a program there.
    fn inside(&self) -> Vec<String> {
        let target = self.0.id().to_string();
        ["nsenter", "--preserve-credentials", "--user", "--mount", "--target", &target].map(str::to_owned).to_vec()
    }

    /// Does something there, with the folder as `$1`.
    #[expect(clippy::disallowed_methods, reason = "the test plays the container engine")]
    fn sh(&self, script: &str, at: &Path) {
        let words = [self.inside(), ["sh", "-c", script, "sh"].map(str::to_owned).to_vec()].concat();
        let status = Command::new(&words[0]).args(&words[1..]).arg(at).stderr(Stdio::null()).status().expect("it runs");
        assert!(status.success(), "{script}: {status}");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_is_answered_with_507_and_nothing_acknowledged_is_lost() {
    let mattermost = Mattermost::start(|_, _| 200);
    let place = Place::new(None);
    let Some(small) = Small::mount(&place.path("spool")) else {
        assert!(std::env::var_os("CI").is_none(), "in CI nothing may be skipped: unshare gives no mount namespace");
        println!("skipped: this machine gives nobody a mount namespace of his own");
        return;
    };
    let mut gateway = place.start(&small.inside());
    let mut acknowledged = BTreeSet::new();
    let mut refused = 0;
    for number in 0..10_000 {
        match place.send("p", number) {
            Some(200) => _ = acknowledged.insert(number),
            Some(507) => refused += 1,
            other => panic!("{other:?}"),
        }
        if refused == 20 {
            break;
        }
    }
    assert!(refused == 20 && !acknowledged.is_empty(), "{refused} refused");
    // Somebody else takes what is left, down to the last block.
    small.sh("cat /dev/zero > \"$1/other\"; test \"$(df --output=avail \"$1\" | tail -1)\" -eq 0", &place.path("spool"));
    assert_eq!(place.health().expect("it answers")["waiting"], acknowledged.len());
    // It starts on the full disk, too: only what is posted makes room.
    gateway.kill();
    gateway = place.start(&small.inside());
    assert_eq!(place.health().expect("it answers")["waiting"], acknowledged.len());
    place.secret("webhook", &mattermost.url);
    wait("an empty queue", || place.is_empty());
    let posted: Vec<u64> = mattermost.posted().into_iter().map(|(_, number)| number).collect();
    println!("acknowledged {} = posted {}; {refused} answered with 507", acknowledged.len(), posted.len());
    assert_eq!(posted, acknowledged.iter().copied().collect::<Vec<_>>());
    small.sh("rm \"$1/other\"", &place.path("spool"));
    assert_eq!(place.send("p", 20_000), Some(200), "there is room again");
    gateway.kill();
}
