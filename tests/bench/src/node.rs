//! One node under load: the whole stack in a lab, with the API double as Mattermost. What it takes of webhooks and what Coturn relays, each
//! beside a limit of the same machine in the same run.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use lab::{Lab, SERVER, address, site::Site};
use serde::Serialize;
use xtask::machine::{self, Machine};
use xtask::server::Endpoint;
use xtask::site::{Folder, load};
use xtask::turn::{Client, Credential, Family, Transport};
use xtask::workspace::Workspace;

use crate::inputs::Bench;
use crate::report::seconds;

/// What `--only` calls it.
pub const NAME: &str = "node";

/// Of a machine.
const PARTS: [&str; 6] = ["ip", "unshare", "dockerd", "docker", "docker compose", "cc"];
/// For so long each.
const LOAD: Duration = Duration::from_secs(10);
/// Who sends webhooks at once, each waiting for its answer.
const SENDERS: usize = 8;
/// Allocations at once; each sends a packet when the one before is back.
const CALLERS: usize = 16;
/// Opus at 32 kbit/s in SRTP: 50 packets of some 100 bytes a second, each way.
const PACKET: [u8; 100] = [0x80; 100];
const PACKETS: f64 = 50.0;
const PATIENCE: Duration = Duration::from_secs(10);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// From nothing but images to a provisioned chat, seconds.
    pub up: f64,
    /// Webhooks that were answered with 200, a second.
    pub webhooks: f64,
    /// Of the same clients over TLS, questions that touch no database, a second.
    pub pings: f64,
    /// Packets that came back through the relay, a second.
    pub relayed: f64,
    /// Packets that came back without one, a second.
    pub echoed: f64,
    /// Part of the relayed packets that did not come back.
    pub lost: f64,
}

impl Node {
    /// For people.
    pub fn table(&self) -> String {
        let callers = (self.relayed / PACKETS).floor();
        format!(
            "\n{NAME}: the whole stack on this machine, Mattermost played by the API double, clients beside it; up in {}\n  \
             webhooks: {:.0} a second into PostgreSQL, each over a TLS connection of its own; {:.0} % of the {:.0} pings that it answers\n  \
             relay: {:.0} packets a second there and back through Coturn, {:.2} % lost; {:.0} % of the {:.0} without it\n  \
             enough for {callers:.0} voices, of {PACKETS:.0} packets a second each way\n",
            seconds(self.up),
            self.webhooks,
            self.webhooks / self.pings * 100.0,
            self.pings,
            self.relayed,
            self.lost * 100.0,
            self.relayed / self.echoed * 100.0,
            self.echoed,
        )
    }
}

/// Brings the stack up in a lab of its own, and loads it.
pub fn measure(bench: &Bench) -> Result<Node> {
    let workspace = Workspace::find()?;
    let machine = Machine::of(&workspace);
    machine::require(&machine, &PARTS)?;
    if !machine.is_root() {
        return Err(Error::new(Class::MissingTool, "a lab of network namespaces needs root"));
    }
    let lab = Lab::start(&machine, &bench.output.join("lab"))?;
    let folder = bench.empty("site")?;
    let up = ["--mattermost", "double"].map(Into::into).to_vec();
    let site = Site { lab: &lab, project: "bench".to_owned(), folder, first: 30_000, xtask: bench.xtask.clone(), up };
    site.describe("")?;
    // The first one builds images; the second has them.
    site.is_up()?;
    site.xtask("down --volumes --yes").capture()?;
    let begin = Instant::now();
    site.is_up()?;
    let up = begin.elapsed().as_secs_f64();
    let measured = loaded(&site, up);
    site.xtask("down --volumes --yes").capture()?;
    measured
}

fn loaded(site: &Site, up: f64) -> Result<Node> {
    let folder = Folder::new(&site.folder);
    let endpoint = Endpoint::of_site(&load(&folder)?, &folder, IpAddr::V4(address(SERVER)))?;
    let base = endpoint.url.as_str().trim_end_matches('/').to_owned();
    let hook = site.secret("WEBHOOK_JENKINS_BUILDS");
    let path = hook.find("/hooks/").map_or("", |at| &hook[at..]).to_owned();
    let body = r#"{"text": "Build #1234 of project: SUCCESS after 4 min 3 s"}"#;
    let lab = site.lab.server();
    let (webhooks, pings) = lab.inside(|| -> Result<_> {
        // Made in there: a client has a thread of its own, which opens its sockets.
        let http = endpoint.http(PATIENCE)?;
        let post = || {
            let answer = http.post(format!("{base}{path}")).header("content-type", "application/json").body(body).send();
            answer.is_ok_and(|answer| answer.status().as_u16() == 200)
        };
        let ping = || http.get(format!("{base}/api/v4/system/ping")).send().is_ok_and(|answer| answer.status().as_u16() == 200);
        Ok((rate(SENDERS, |_| Ok(&post))?.0, rate(SENDERS, |_| Ok(&ping))?.0))
    })??;
    let secret = site.secret("MATTERMOST_TURN_SECRET");
    let server = SocketAddr::new(IpAddr::V4(address(SERVER)), site.port(4));
    let (relayed, echoed) = lab.inside(|| -> Result<_> {
        let echo = Echo::start()?;
        let relayed = rate(CALLERS, |number| caller(server, &secret, number, echo.address))?;
        let echoed = rate(CALLERS, |_| direct(echo.address))?;
        Ok((relayed, echoed))
    })??;
    Ok(Node { up, webhooks, pings, relayed: relayed.0, echoed: echoed.0, lost: relayed.1 })
}

/// How often what `make` makes for each of several threads succeeds in a second, and which part of all tries fails.
fn rate<W: FnMut() -> bool + Send>(threads: usize, make: impl Fn(usize) -> Result<W>) -> Result<(f64, f64)> {
    let workers: Vec<W> = (0..threads).map(make).collect::<Result<_>>()?;
    let begin = Instant::now();
    let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let running: Vec<_> = workers
            .into_iter()
            .map(|mut work| {
                scope.spawn(move || {
                    let (mut good, mut all) = (0, 0);
                    while begin.elapsed() < LOAD {
                        good += u64::from(work());
                        all += 1;
                    }
                    (good, all)
                })
            })
            .collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let took = begin.elapsed().as_secs_f64();
    let (good, all) = counts.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if good == 0 {
        return Err(Error::new(Class::Check, "nothing was answered under load"));
    }
    Ok((good as f64 / took, (all - good) as f64 / all as f64))
}

/// An allocation, and a packet through it to the echo and back.
fn caller(server: SocketAddr, secret: &str, number: usize, echo: SocketAddr) -> Result<impl FnMut() -> bool + Send> {
    let refused = |failure: xtask::turn::Failure| Error::new(Class::Check, format!("no relay for the load: {failure}"));
    let credential = Credential::for_seconds(secret, &format!("caller{number}"), 600);
    let mut client = Client::connect(server, &Transport::Udp, credential, PATIENCE).map_err(refused)?;
    client.allocate(Family::V4).map_err(refused)?;
    client.permit(echo).map_err(refused)?;
    Ok(move || client.send(echo, &PACKET).is_ok() && client.receive(Duration::from_millis(500)).is_some_and(|(_, data)| data == PACKET))
}

/// The same packet without a relay.
fn direct(echo: SocketAddr) -> Result<impl FnMut() -> bool + Send> {
    let socket = UdpSocket::bind((address(SERVER), 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut buffer = [0; 200];
    Ok(move || socket.send_to(&PACKET, echo).is_ok() && socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == PACKET))
}

/// Sends back what comes, on the address that Coturn may relay to, until it is dropped.
struct Echo {
    address: SocketAddr,
    end: std::sync::Arc<AtomicBool>,
}

impl Echo {
    fn start() -> Result<Echo> {
        let socket = UdpSocket::bind((address(SERVER), 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let echo = Echo { address: socket.local_addr()?, end: std::sync::Arc::default() };
        let end = std::sync::Arc::clone(&echo.end);
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // A packet that is lost is counted by whoever waits for it.
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_stands_beside_its_limit_and_names_the_double() {
        let node = Node { up: 31.0, webhooks: 300.0, pings: 600.0, relayed: 5_049.0, echoed: 50_490.0, lost: 0.0 };
        let table = node.table();
        for words in ["API double", "300 a second", "50 % of the 600 pings", "10 % of the 50490", "enough for 100 voices"] {
            assert!(table.contains(words), "no \"{words}\" in {table}");
        }
    }
}
