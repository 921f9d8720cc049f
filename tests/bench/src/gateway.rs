//! The alert gateway under load: the image's own program on one core, over TLS, between a SonarQube and a Mattermost that are played here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use entrypoint::{http, tls};
use hmac::{Hmac, KeyInit, Mac};
use images::{Class, Context, Error, Result};
use serde::Serialize;
use sha2::Sha256;
use xtask::process::{Process, Running};

use crate::inputs::{Bench, built};
use crate::measure::{Sample, high_water, settle};
use crate::report::{judge, seconds};

/// What `--only` calls it.
pub const NAME: &str = "alert-gateway";

/// Alerts that come each second, whether or not those before are answered.
const RATE: u64 = 1000;
/// For so long.
const LOAD: Duration = Duration::from_secs(20);
/// Senders that wait for their turn. More alerts than this are never under way; the gateway takes 64 connections.
const SENDERS: usize = 48;
const PROJECTS: u64 = 20;
const SECRET: &str = "the-secret-of-the-benchmark";

/// From when an alert should be sent to its answer, seconds: 99 of 100.
const P99_BAR: f64 = 0.050;
/// From the command to the first connection, seconds.
const START_BAR: f64 = 0.050;
/// KiB.
const MEMORY_BAR: u64 = 20 << 10;
/// Bytes of all layers.
const IMAGE_BAR: u64 = 10 << 20;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Gateway {
    /// Bytes of the image's layers.
    pub image: u64,
    /// How long until it takes connections.
    pub start: Sample,
    /// Alerts that were sent.
    pub sent: u64,
    /// Those that were answered with 200.
    pub acknowledged: u64,
    /// Those that Mattermost had by then.
    pub posted: u64,
    /// From the first to the last answer, seconds.
    pub took: f64,
    /// Seconds from when an alert should have been sent to its answer: half of them, 99 of 100, the slowest.
    pub latency: [f64; 3],
    /// The most that was resident, KiB.
    pub peak_kib: u64,
}

impl Gateway {
    /// For people.
    pub fn table(&self) -> String {
        let [half, p99, slowest] = self.latency.map(seconds);
        let rate = self.acknowledged as f64 / self.took;
        let acknowledged = judge(self.acknowledged == self.sent && self.latency[1] < P99_BAR, "all of them, p99 50 ms");
        let mib = |kib: u64| kib as f64 / 1024.0;
        format!(
            "\n{NAME}: {:.1} MiB of layers ({}); takes connections after {} ({}); held at most {:.1} MiB ({})\n  \
             {} alerts over TLS on one core, {RATE} a second: {} acknowledged, {rate:.0} a second, half within {half}, p99 {p99}, \
             slowest {slowest} ({acknowledged}); {} posted by then\n",
            mib(self.image / 1024),
            judge(self.image < IMAGE_BAR, "10 MiB"),
            seconds(self.start.median),
            judge(self.start.median < START_BAR, "50 ms"),
            mib(self.peak_kib),
            judge(self.peak_kib < MEMORY_BAR, "20 MiB"),
            self.sent,
            self.acknowledged,
            self.posted,
        )
    }
}

/// Measures the program that the image holds.
pub fn measure(bench: &Bench) -> Result<Gateway> {
    let place = Place::new(bench)?;
    let start = Sample::take(10, || place.empty(), |()| place.start().map(drop))?;
    place.empty()?;
    settle()?;
    let cores = std::thread::available_parallelism()?.get();
    // The gateway has the first core; this process leaves it alone where there is another.
    let ours = |cores: &str| Process::new("taskset", "/").args(["-a", "-p", "-c", cores, &std::process::id().to_string()]).capture();
    if cores > 1 {
        ours(&format!("1-{}", cores - 1))?;
    }
    let loaded = place.load();
    if cores > 1 {
        ours(&format!("0-{}", cores - 1))?;
    }
    Ok(Gateway { start, ..loaded? })
}

/// The program, its files, and a Mattermost.
struct Place {
    folder: PathBuf,
    program: PathBuf,
    image: u64,
    address: SocketAddr,
    posted: Arc<AtomicU64>,
    client: Arc<rustls::ClientConfig>,
}

impl Place {
    fn new(bench: &Bench) -> Result<Place> {
        let folder = bench.empty("gateway")?;
        let layout = folder.join("layout");
        let image = built(&bench.image(NAME, &layout))?;
        let program = folder.join(NAME);
        let blobs = layout.join("blobs/sha256");
        let layers = image.layers.iter().map(|layer| blobs.join(layer.digest.to_string()));
        let unpacked = layers.map(|layer| unpack(&layer, &program)).collect::<Result<Vec<bool>>>()?;
        if !unpacked.contains(&true) {
            return Err(Error::new(Class::Check, "the image holds no usr/local/bin/alert-gateway"));
        }
        let failed = |error: String| Error::new(Class::Build, error);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|error| failed(error.to_string()))?;
        let posted = Arc::new(AtomicU64::new(0));
        let url = mattermost(&posted)?;
        for (name, text) in
            [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem()), ("secret", SECRET.into()), ("webhook", url)]
        {
            fs_err::write(folder.join(name), text)?;
            fs_err::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o600))?;
        }
        let mut client = rustls::ClientConfig::clone(&*tls::client(&folder.join("cert.pem")).map_err(failed)?);
        // Every alert pays for a whole handshake.
        client.resumption = rustls::client::Resumption::disabled();
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let size = image.layers.iter().map(|layer| layer.size).sum();
        Ok(Place { folder, program, image: size, address, posted, client: Arc::new(client) })
    }

    fn empty(&self) -> Result<()> {
        let spool = self.folder.join("spool");
        if spool.exists() {
            fs_err::remove_dir_all(&spool)?;
        }
        Ok(())
    }

    /// Starts it on the first core, and waits until it takes connections.
    fn start(&self) -> Result<Running> {
        let path = |name: &str| self.folder.join(name);
        let running = Process::new("taskset", &self.folder)
            .args(["-c", "0"])
            .arg(&self.program)
            .env("ALERT_GATEWAY_LISTEN", self.address.to_string())
            .env("ALERT_GATEWAY_TLS_CERT_FILE", path("cert.pem"))
            .env("ALERT_GATEWAY_TLS_KEY_FILE", path("key.pem"))
            .env("ALERT_GATEWAY_CA_FILE", path("cert.pem"))
            .env("ALERT_GATEWAY_SPOOL", path("spool"))
            .env("ALERT_GATEWAY_SONARQUBE_SECRET_FILE", path("secret"))
            .env("ALERT_GATEWAY_SONARQUBE_WEBHOOK_FILE", path("webhook"))
            .brought_by("apt-get install util-linux")
            .start(&path("gateway.log"))?;
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(self.address).is_err() {
            if Instant::now() > end || running.ended()?.is_some() {
                return Err(
                    Error::new(Class::Check, "the gateway does not start").detail(format!("log: {}", path("gateway.log").display()))
                );
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(running)
    }

    /// Alerts at their times, from as many senders as it takes.
    fn load(&self) -> Result<Gateway> {
        let running = self.start()?;
        let sent = RATE * LOAD.as_secs();
        let next = AtomicU64::new(0);
        let answered = Mutex::new(Vec::new());
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= sent {
                            break;
                        }
                        // Who waits for the answers before would not see that they were slow.
                        let due = begin + Duration::from_micros(number * 1_000_000 / RATE);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        if self.send(number).is_ok_and(|status| status == 200) {
                            answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(due.elapsed().as_secs_f64());
                        }
                    }
                });
            }
        });
        let took = begin.elapsed().as_secs_f64();
        let posted = self.posted.load(Ordering::Relaxed);
        let status = fs_err::read_to_string(format!("/proc/{}/status", running.pid()))?;
        let mut latencies = answered.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        latencies.sort_by(f64::total_cmp);
        let at = |hundredths: usize| latencies.get((latencies.len() * hundredths / 100).min(latencies.len().saturating_sub(1)));
        let latency = [at(50), at(99), latencies.last()].map(|value| value.copied().unwrap_or(f64::INFINITY));
        let peak_kib = high_water(&status).unwrap_or(u64::MAX);
        let acknowledged = latencies.len() as u64;
        Ok(Gateway { image: self.image, start: Sample::of(vec![0.0]), sent, acknowledged, posted, took, latency, peak_kib })
    }

    /// A signed webhook; the answer's status.
    fn send(&self, number: u64) -> std::io::Result<u16> {
        let project = number % PROJECTS;
        let condition = r#"{"metric":"new_coverage","operator":"LESS_THAN","value":"12.5","status":"ERROR","errorThreshold":"80"}"#;
        let body = format!(
            r#"{{"taskId":"task-{number}","status":"SUCCESS","project":{{"key":"p{project}"}},"branch":{{"name":"main","type":"BRANCH"}},"qualityGate":{{"status":"ERROR","conditions":[{condition}]}}}}"#
        );
        let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).map_err(std::io::Error::other)?.chain_update(&body).finalize();
        let signature: String = mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let connection = TcpStream::connect(self.address)?;
        connection.set_nodelay(true)?;
        let connection = http::Until::new(connection, Instant::now() + Duration::from_secs(10));
        let mut connection = tls::connect(&self.client, "localhost", connection).map_err(std::io::Error::other)?;
        let head = format!(
            "POST /sonarqube HTTP/1.1\r\nHost: localhost\r\nX-Sonar-Webhook-HMAC-SHA256: {signature}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all((head + &body).as_bytes())?;
        connection.flush()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        answer.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| std::io::Error::other("no HTTP"))
    }
}

/// Writes the program of a layer to `to`; whether the layer has it.
fn unpack(layer: &Path, to: &Path) -> Result<bool> {
    let mut archive = tar::Archive::new(fs_err::File::open(layer)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.ends_with(Path::new("usr/local/bin").join(NAME)) {
            entry.unpack(to).context(|| to.display().to_string())?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// A Mattermost that takes everything at once: the address of its webhook.
fn mattermost(posted: &Arc<AtomicU64>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/hooks/an-id", listener.local_addr()?);
    let posted = Arc::clone(posted);
    // It ends with this process.
    std::thread::spawn(move || {
        for connection in listener.incoming().filter_map(std::result::Result::ok) {
            if answer(connection).is_ok() {
                posted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok(url)
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = http::header(head, "Content-Length").and_then(|length| length.parse().ok()).unwrap_or_default();
            if body.len() >= length {
                return connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
        match connection.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_that_is_missed_is_said() {
        let good = Gateway {
            image: 7 << 20,
            start: Sample::of(vec![0.01]),
            sent: 20_000,
            acknowledged: 20_000,
            posted: 100,
            took: 20.0,
            latency: [0.004, 0.049, 0.1],
            peak_kib: 12 << 10,
        };
        let table = good.table();
        assert!(!table.contains("OVER") && table.contains("20000 acknowledged, 1000 a second, half within 4 ms, p99 49 ms"), "{table}");
        for bad in [
            Gateway { image: 10 << 20, ..good.clone() },
            Gateway { start: Sample::of(vec![0.05]), ..good.clone() },
            Gateway { acknowledged: 19_999, ..good.clone() },
            Gateway { latency: [0.004, 0.05, 0.1], ..good.clone() },
            Gateway { peak_kib: 20 << 10, ..good.clone() },
        ] {
            assert_eq!(bad.table().matches("OVER THE BAR").count(), 1, "{}", bad.table());
        }
    }
}
