//! NAT kind × transport: what an allocation takes, what is lost, how long a packet is under way, how much gets through.
//!
//! Each phone signs in at Mattermost, takes its credential from there, and joins a call. It asks the port of Calls itself first, which answers
//! a phone on the LAN and nobody behind a router that shuts that port. Then, over each transport: 401 → allocation → permission →
//! 200 authenticated Binding requests through the relay, the next when the one before is answered or 20 ms later, as packets
//! of voice are apart. Loss and round trips are theirs, and the same for the release and the API double. The throughput is that
//! of 400 packets of 1000 bytes with 32 of them under way, which the double sends back and a real server drops.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use images::{Class, Error, Result};
use lab::phone::{Nat, Phone};
use serde::Serialize;
use xtask::doctor::turn::Target;
use xtask::turn::ice::Transaction;
use xtask::turn::{Client, Credential, Failure, Family, Transport};

use crate::Site;
use crate::call::Call;
use crate::chat::{Caller, Chat};

/// Requests of each cell.
const REQUESTS: u32 = 200;
/// Packets of voice are so far apart.
const VOICE: Duration = Duration::from_millis(20);
/// How long the last answers may be under way.
const LATE: Duration = Duration::from_millis(500);
/// How long the port of Calls is asked directly.
const DIRECT: Duration = Duration::from_millis(400);
/// Packets and bytes of the throughput: below what one second of `coturn.max-bps` allows.
const PACKETS: u32 = 400;
const BYTES: usize = 1000;
const UNDER_WAY: u32 = 32;

/// What was measured. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The relay candidate.
    pub relayed: SocketAddr,
    /// From the first byte of the connection to the relayed address, with the challenge in between.
    pub allocation_ms: f64,
    /// Requests that were sent.
    pub sent: u32,
    /// Those that were not answered.
    pub lost: u32,
    /// Round trips.
    pub median_ms: f64,
    /// 95 of 100 round trips were no longer.
    pub p95_ms: f64,
    /// Megabits per second, each way; nothing where the server does not echo.
    pub throughput_mbit: Option<f64>,
}

/// One NAT kind and one transport.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// NAT kind.
    pub nat: &'static str,
    /// UDP, TCP, TLS.
    pub transport: &'static str,
    /// Whether there is a way.
    pub open: bool,
    /// What was measured, or why nothing was.
    pub measured: std::result::Result<Measured, String>,
}

/// Whether the port of Calls answers a phone without the relay, over UDP and TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Direct {
    /// NAT kind.
    pub nat: &'static str,
    /// Whether it should.
    pub open: bool,
    /// Whether it does, over UDP.
    pub udp: bool,
    /// Whether it takes a connection.
    pub tcp: bool,
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Matrix {
    /// The ways without the relay, which had to fail first.
    pub direct: Vec<Direct>,
    /// In the order of phones and transports.
    pub cells: Vec<Cell>,
}

/// Measures, all phones at once. `echoes` says that the server is the double. `administrator` makes the account that calls.
pub fn measure(site: &Site, administrator: &Chat, phones: &[Phone], echoes: bool) -> Result<Matrix> {
    let caller = &administrator.caller()?;
    let measured: Vec<Result<(Direct, Vec<Cell>)>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            phones.iter().map(|phone| scope.spawn(move || phone.namespace().inside(|| of(site, caller, phone.nat(), echoes))?)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut matrix = Matrix { direct: Vec::new(), cells: Vec::new() };
    for one in measured {
        let (direct, cells) = one?;
        matrix.direct.push(direct);
        matrix.cells.extend(cells);
    }
    Ok(matrix)
}

/// In the phone's own namespace.
fn of(site: &Site, caller: &Caller, nat: Nat, echoes: bool) -> Result<(Direct, Vec<Cell>)> {
    let chat = Chat::sign_in(&site.chat, &caller.name, &caller.password)?;
    let (credential, urls) = chat.turn_credential()?;
    is_for(site, caller, &credential, &urls)?;
    let direct = direct(site, &chat, caller, nat)?;
    let cells = site.transports().into_iter().map(|(name, server, transport)| {
        let measured = cell(site, &chat, caller, (server, &transport), &credential, echoes);
        Cell { nat: nat.name(), transport: name, open: nat != Nat::UdpBlocked || name != "UDP", measured }
    });
    Ok((direct, cells.collect()))
}

/// Whether Mattermost's credential is the caller's, good for now, and for this site's relay.
fn is_for(site: &Site, caller: &Caller, credential: &Credential, urls: &[String]) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (expiry, name) = credential.username.split_once(':').unwrap_or_default();
    let turn = site.target.turn;
    let wanted = [format!("turn:{turn}?transport=udp"), format!("turn:{turn}?transport=tcp")];
    let good = expiry.parse::<u64>().is_ok_and(|expiry| expiry > now) && name == caller.name && wanted.iter().all(|url| urls.contains(url));
    match good {
        true => Ok(()),
        false => Err(Error::new(Class::Check, "Mattermost's credential is not for this relay and this caller")
            .detail(format!("expected a user name EXPIRY:{}, EXPIRY after {now}, and {}", caller.name, wanted.join(", ")))
            .detail(format!("found {} and {}", credential.username, urls.join(", ")))),
    }
}

fn direct(site: &Site, chat: &Chat, caller: &Caller, nat: Nat) -> Result<Direct> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let call = Call::join(site, chat, &caller.channel, socket.local_addr()?)?;
    socket.connect(call.address)?;
    let end = Instant::now() + DIRECT;
    let mut udp = false;
    while !udp && Instant::now() < end {
        let (transaction, request) = call.agent.request(call.own()).map_err(broken)?;
        // A port that is closed is told by ICMP at the next call: it is no answer.
        let _ = socket.send(&request);
        socket.set_read_timeout(Some(VOICE))?;
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).unwrap_or(0);
        udp = call.agent.success(&buffer[..length]).is_some_and(|(answered, _)| answered == transaction);
    }
    let tcp = xtask::turn::tcp(site.target.calls, DIRECT).is_ok();
    Ok(Direct { nat: nat.name(), open: nat == Nat::None, udp, tcp })
}

fn broken(why: impl ToString) -> Error {
    Error::new(Class::Build, why.to_string())
}

fn cell(
    site: &Site,
    chat: &Chat,
    caller: &Caller,
    (server, transport): (SocketAddr, &Transport),
    credential: &Credential,
    echoes: bool,
) -> std::result::Result<Measured, String> {
    let said = |what: &str, failure: Failure| format!("{what}: {failure}");
    let begin = Instant::now();
    let mut client =
        Client::connect(server, transport, credential.clone(), site.patience).map_err(|failure| said("connection", failure))?;
    match client.challenge() {
        Err(Failure::Refused(401)) => {}
        Err(other) => return Err(said("challenge", other)),
        Ok(()) => return Err("an allocation without a credential".to_owned()),
    }
    let relayed = client.allocate(Family::V4).map_err(|failure| said("allocation", failure))?;
    let allocation = begin.elapsed();
    let call = Call::join(site, chat, &caller.channel, relayed).map_err(|error| error.to_string())?;
    client.permit(call.address).map_err(|failure| said("permission", failure))?;
    let mut trips = round_trips(&mut client, &call, relayed)?;
    let throughput = if echoes { Some(throughput(&mut client, call.address)?) } else { None };
    // Without it the allocation counts against the quota for ten minutes.
    client.release().map_err(|failure| said("release", failure))?;
    trips.sort();
    let milliseconds = |duration: Duration| (duration.as_secs_f64() * 100_000.0).round() / 100.0;
    let at = |share: usize| trips.get((trips.len() * share / 100).min(trips.len().saturating_sub(1))).copied().unwrap_or_default();
    Ok(Measured {
        relayed,
        allocation_ms: milliseconds(allocation),
        sent: REQUESTS,
        lost: REQUESTS - trips.len() as u32,
        median_ms: milliseconds(at(50)),
        p95_ms: milliseconds(at(95)),
        throughput_mbit: throughput.map(|bits| (bits / 10_000.0).round() / 100.0),
    })
}

/// How long each answered request was under way.
fn round_trips(client: &mut Client, call: &Call, relayed: SocketAddr) -> std::result::Result<Vec<Duration>, String> {
    let mut open: BTreeMap<Transaction, Instant> = BTreeMap::new();
    let mut trips = Vec::new();
    for number in 1..=REQUESTS {
        let (transaction, request) = call.agent.request(call.own())?;
        client.send(call.address, &request).map_err(|failure| failure.to_string())?;
        open.insert(transaction, Instant::now());
        // An answer that is late makes nobody wait, but for the last ones.
        let end = Instant::now() + if number == REQUESTS { LATE } else { VOICE };
        while Instant::now() < end && !open.is_empty() && (number == REQUESTS || open.contains_key(&transaction)) {
            let left = end.saturating_duration_since(Instant::now());
            let Some((from, data)) = client.receive(left) else { continue };
            let Some((answered, mapped)) = call.agent.success(&data).filter(|_| from == call.address) else { continue };
            if mapped != relayed {
                return Err(format!("Calls saw {mapped} instead of the relayed address {relayed}"));
            }
            trips.extend(open.remove(&answered).map(|sent| sent.elapsed()));
        }
    }
    Ok(trips)
}

/// Bits per second that came back.
fn throughput(client: &mut Client, peer: SocketAddr) -> std::result::Result<f64, String> {
    let begin = Instant::now();
    let (mut sent, mut back, mut last) = (0, 0, begin);
    let mut packet = vec![0x80; BYTES];
    while back < PACKETS {
        while sent < PACKETS && sent - back < UNDER_WAY {
            packet[4..8].copy_from_slice(&u32::to_be_bytes(sent));
            client.send(peer, &packet).map_err(|failure| failure.to_string())?;
            sent += 1;
        }
        match client.receive(LATE) {
            Some((from, data)) if from == peer && data.len() == BYTES => (back, last) = (back + 1, Instant::now()),
            Some(_) => {}
            // Lost ones do not come any more.
            None => break,
        }
    }
    match back {
        0 => Err("no packet comes back".to_owned()),
        _ => Ok(f64::from(back) * BYTES as f64 * 8.0 / (last - begin).as_secs_f64()),
    }
}

impl Matrix {
    /// What is not as it should be. `relayed` is the address of every relay candidate, with the first and last port.
    pub fn problems(&self, target: &Target) -> Vec<String> {
        let way = |open| if open { "answers" } else { "does not answer" };
        let direct = self.direct.iter().flat_map(|direct| {
            [("UDP", direct.udp), ("TCP", direct.tcp)].into_iter().filter(|(_, found)| *found != direct.open).map(|(name, found)| {
                format!(
                    "{}, without the relay, over {name}: expected that Calls {}, found that it {}",
                    direct.nat,
                    way(direct.open),
                    way(found)
                )
            })
        });
        let cells = self.cells.iter().filter_map(|cell| Some(format!("{} over {}: {}", cell.nat, cell.transport, cell.problem(target)?)));
        direct.chain(cells).collect()
    }

    /// As lines of text.
    pub fn lines(&self) -> Vec<String> {
        let direct = self.direct.iter().map(|direct| {
            let word = |open| if open { "open" } else { "shut" };
            format!("{:<17} Calls itself: UDP {}, TCP {}", direct.nat, word(direct.udp), word(direct.tcp))
        });
        let cells = self.cells.iter().map(|cell| match &cell.measured {
            Ok(Measured { relayed, allocation_ms, sent, lost, median_ms, p95_ms, throughput_mbit }) => format!(
                "{:<17} {}: relay {relayed}, allocation {allocation_ms:.2} ms, lost {lost} of {sent}, round trip {median_ms:.2} ms, \
                 95 % {p95_ms:.2} ms, {}",
                cell.nat,
                cell.transport,
                throughput_mbit.map_or("throughput not measured".to_owned(), |mbit| format!("{mbit:.1} Mbit/s"))
            ),
            Err(why) => format!("{:<17} {}: {why}", cell.nat, cell.transport),
        });
        direct.chain(cells).collect()
    }
}

impl Cell {
    /// What is not as it should be.
    pub fn problem(&self, target: &Target) -> Option<String> {
        let (first, last) = target.relay;
        match (&self.measured, self.open) {
            (Ok(_), false) => Some("expected no way, found one".to_owned()),
            // There is no way because nothing comes back, and for no other reason.
            (Err(why), false) => (!why.contains("no answer")).then(|| format!("expected no answer, found: {why}")),
            (Err(why), true) => Some(why.clone()),
            (Ok(found), true) if found.relayed.ip() != target.relayed || !(first..=last).contains(&found.relayed.port()) => {
                Some(format!("expected a relay candidate {} with a port of {first}–{last}, found {}", target.relayed, found.relayed))
            }
            (Ok(found), true) if found.lost > 0 => Some(format!("{} of {} requests were not answered", found.lost, found.sent)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        let at = |port| SocketAddr::from(([192, 168, 77, 20], port));
        Target { turn: at(3478), turns: at(5349), relayed: at(0).ip(), relay: (49160, 49200), calls: at(8444) }
    }

    fn measured() -> Measured {
        let relayed = SocketAddr::from(([192, 168, 77, 20], 49160));
        Measured { relayed, allocation_ms: 1.0, sent: 200, lost: 0, median_ms: 0.5, p95_ms: 1.0, throughput_mbit: None }
    }

    #[test]
    fn each_cell_can_be_wrong() {
        let cell = |open, measured| Cell { nat: "double NAT", transport: "UDP", open, measured }.problem(&target());
        assert_eq!(cell(true, Ok(measured())), None);
        assert_eq!(cell(false, Err("challenge: no answer within 1 s".to_owned())), None);
        let other = |change: fn(&mut Measured)| {
            let mut measured = measured();
            change(&mut measured);
            cell(true, Ok(measured)).unwrap()
        };
        assert!(other(|found| found.relayed.set_port(49159)).contains("a port of 49160–49200"));
        assert!(other(|found| found.relayed.set_ip([172, 17, 0, 2].into())).contains("found 172.17.0.2"));
        assert!(other(|found| found.lost = 1).contains("1 of 200"));
        assert!(cell(true, Err("permission: 403".to_owned())).is_some());
        assert!(cell(false, Ok(measured())).unwrap().contains("expected no way"));
        assert!(cell(false, Err("challenge: connection refused".to_owned())).unwrap().contains("refused"));
    }

    #[test]
    fn a_way_around_the_relay_is_a_problem_and_so_is_a_probe_that_finds_none() {
        let direct = |open, udp, tcp| Matrix { direct: vec![Direct { nat: "symmetric NAT", open, udp, tcp }], cells: Vec::new() };
        assert!(direct(true, true, true).problems(&target()).is_empty() && direct(false, false, false).problems(&target()).is_empty());
        assert_eq!(direct(false, true, true).problems(&target()).len(), 2);
        assert_eq!(direct(true, false, true).problems(&target()).len(), 1);
    }
}
