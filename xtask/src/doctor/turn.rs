//! `doctor turn`: how far a phone would get with Coturn, rung by rung and over each transport.
//!
//! challenge (401) → allocation → the relayed address is the site's, its port one of the relay ports → permission to the Calls
//! address → no permission to anybody else. What has no answer to its question ends the climb, and what follows is skipped.
//! Bytes through the relay, NATs and a credential that Mattermost made are the end-to-end test's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Check, list};
use crate::site::Site;
use crate::turn::{Client, Credential, Failure, Family, Said, Transport};

/// How long each answer may take: a phone waits about as long before it gives a server up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server, and what it is expected to do.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens for UDP and TCP.
    pub turn: SocketAddr,
    /// Where it listens for TLS.
    pub turns: SocketAddr,
    /// The address of every relayed address.
    pub relayed: IpAddr,
    /// First and last relay port.
    pub relay: (u16, u16),
    /// The one peer that it relays to.
    pub calls: SocketAddr,
}

impl Target {
    /// Coturn and Calls of a site, reached at `address`.
    pub fn of(site: &Site, address: IpAddr) -> Target {
        let at = |port| SocketAddr::new(address, port);
        let ports = &site.ports;
        Target { turn: at(ports.turn), turns: at(ports.turns), relayed: address, relay: ports.relay, calls: at(ports.calls) }
    }
}

/// What one transport gave. A rung that was not reached is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Climb {
    /// An allocation without a credential; 401 is the answer to hope for.
    pub challenge: Option<Said>,
    /// An allocation with one.
    pub allocation: Option<Said<SocketAddr>>,
    /// Permission to the Calls address.
    pub calls: Option<Said>,
    /// Permission to everybody else.
    pub others: Vec<(SocketAddr, Said)>,
}

/// Peers that nobody may reach through the relay: this machine's loopback and its disguise (CVE-2026-27624), a neighbour on the
/// LAN, Docker's bridge, the metadata service of clouds. Asking for a permission sends them nothing.
pub fn forbidden(calls: SocketAddr) -> Vec<SocketAddr> {
    let neighbour = match calls.ip() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            IpAddr::from([a, b, c, if d == 1 { 2 } else { 1 }])
        }
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[7] = if segments[7] == 1 { 2 } else { 1 };
            segments.into()
        }
    };
    let disguised = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let others: [IpAddr; 5] = [
        Ipv4Addr::LOCALHOST.into(),
        disguised.into(),
        neighbour,
        Ipv4Addr::new(172, 17, 0, 1).into(),
        Ipv4Addr::new(169, 254, 169, 254).into(),
    ];
    others.into_iter().filter(|address| *address != calls.ip()).map(|address| SocketAddr::new(address, calls.port())).collect()
}

/// Climbs as far as it goes, and gives the allocation back.
pub fn climb(target: &Target, transport: &Transport, credential: &Credential) -> Climb {
    let server = if matches!(transport, Transport::Tls(..)) { target.turns } else { target.turn };
    let mut climb = Climb::default();
    let mut client = match Client::connect(server, transport, credential.clone(), PATIENCE) {
        Ok(client) => client,
        Err(error) => return Climb { challenge: Some(Err(error)), ..climb },
    };
    let challenge = client.challenge();
    let goes_on = challenge == Err(Failure::Refused(401));
    climb.challenge = Some(challenge);
    if !goes_on {
        return climb;
    }
    let family = if target.relayed.is_ipv4() { Family::V4 } else { Family::V6 };
    let allocation = client.allocate(family);
    let goes_on = allocation.is_ok();
    climb.allocation = Some(allocation);
    if goes_on {
        climb.calls = Some(client.permit(target.calls));
        climb.others = forbidden(target.calls).into_iter().map(|peer| (peer, client.permit(peer))).collect();
        // Without it the allocation counts against the quota for ten minutes; that it fails is no news.
        let _ = client.release();
    }
    climb
}

const RUNGS: [(&str, &str); 5] = [
    ("challenge", "asks who it is"),
    ("allocation", "allocation"),
    ("address", "relayed address"),
    ("calls", "relays to Calls"),
    ("others", "and to nobody else"),
];

/// One check for each rung. `name` is `udp`, `tcp` or `tls`.
pub fn judge(name: &str, target: &Target, climb: &Climb) -> Vec<Check> {
    let mut stopped = None;
    let mut check = |rung: usize, judged: Option<Result<String, (String, String)>>| {
        let (id, title) = (format!("turn.{name}.{}", RUNGS[rung].0), format!("TURN over {}: {}", name.to_uppercase(), RUNGS[rung].1));
        match (judged, stopped) {
            (Some(Ok(found)), _) => Check::ok(id, title, found),
            (Some(Err((found, mend))), _) => {
                stopped.get_or_insert(RUNGS[rung].1);
                Check::problem(id, title, found, mend)
            }
            (None, before) => Check::skipped(id, title, format!("not tried: \"{}\" failed", before.unwrap_or("a step before"))),
        }
    };
    vec![
        check(0, climb.challenge.as_ref().map(|said| challenge(name, target, said))),
        check(1, climb.allocation.as_ref().map(allocation)),
        check(2, climb.allocation.as_ref().and_then(|said| said.as_ref().ok()).map(|relayed| address(target, *relayed))),
        check(3, climb.calls.as_ref().map(|said| calls(target, said))),
        check(4, (!climb.others.is_empty()).then(|| others(&climb.others))),
    ]
}

type Judged = Result<String, (String, String)>;

const AGAIN: &str = "cargo xtask env && cargo xtask up";

fn challenge(name: &str, target: &Target, said: &Said) -> Judged {
    match said {
        Err(failure @ Failure::Refused(401)) => Ok(failure.to_string().split(':').next().unwrap_or_default().to_owned()),
        Ok(()) => Err(("an allocation without a credential: it relays for everybody".to_owned(), AGAIN.to_owned())),
        Err(failure @ Failure::Refused(_)) => Err((failure.to_string(), "cargo xtask logs coturn".to_owned())),
        Err(Failure::Broken(why)) => {
            let (server, protocol) = if name == "tls" { (target.turns, "tcp") } else { (target.turn, name) };
            let mend = match why.contains("certificate") {
                true => "cargo xtask doctor tls says more; cargo xtask certs && cargo xtask up".to_owned(),
                false => format!("cargo xtask status; then let {protocol} port {} through every packet filter in between", server.port()),
            };
            Err((format!("{server}: {why}"), mend))
        }
    }
}

fn allocation(said: &Said<SocketAddr>) -> Judged {
    match said {
        Ok(relayed) => Ok(relayed.to_string()),
        Err(failure) => {
            let mend = match failure {
                Failure::Refused(401 | 441) => AGAIN,
                Failure::Refused(486) => "wait ten minutes, or raise coturn.user-quota in site.toml",
                Failure::Refused(508) => "wait ten minutes, or widen ports.relay in site.toml",
                Failure::Refused(440) => AGAIN,
                _ => "cargo xtask logs coturn",
            };
            Err((failure.to_string(), mend.to_owned()))
        }
    }
}

fn address(target: &Target, relayed: SocketAddr) -> Judged {
    let (first, last) = target.relay;
    let mut wrong = Vec::new();
    if relayed.ip() != target.relayed {
        wrong.push(format!("phones are told {}, which is not {}", relayed.ip(), target.relayed));
    }
    if !(first..=last).contains(&relayed.port()) {
        wrong.push(format!("port {} is not one of {first}–{last}", relayed.port()));
    }
    match wrong.is_empty() {
        true => Ok(format!("{} with a port of {first}–{last}", relayed.ip())),
        false => Err((wrong.join("; "), AGAIN.to_owned())),
    }
}

fn calls(target: &Target, said: &Said) -> Judged {
    match said {
        Ok(()) => Ok(target.calls.to_string()),
        Err(failure) => Err((format!("{}: {failure}", target.calls), AGAIN.to_owned())),
    }
}

fn others(said: &[(SocketAddr, Said)]) -> Judged {
    // An address of the other family does not fit the allocation (443), before any list is asked.
    let refused = |said: &Said| matches!(said, Err(Failure::Refused(403 | 443)));
    let reached: Vec<String> = said.iter().filter(|(_, said)| said.is_ok()).map(|(peer, _)| peer.ip().to_string()).collect();
    if !reached.is_empty() {
        let found = format!("it relays to {}: whoever has a credential is inside the LAN", list(&reached, 6));
        return Err((found, format!("cargo xtask down, then {AGAIN}")));
    }
    match said.iter().find(|(_, said)| !refused(said)) {
        Some((peer, Err(failure))) => Err((format!("{}: {failure}", peer.ip()), "cargo xtask logs coturn".to_owned())),
        _ => {
            let peers: Vec<String> = said.iter().map(|(peer, _)| peer.ip().to_string()).collect();
            Ok(format!("refused: {}", peers.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, Report};
    use super::*;

    fn target() -> Target {
        Target {
            turn: "192.168.1.20:3478".parse().unwrap(),
            turns: "192.168.1.20:5349".parse().unwrap(),
            relayed: "192.168.1.20".parse().unwrap(),
            relay: (49160, 49200),
            calls: "192.168.1.20:8444".parse().unwrap(),
        }
    }

    fn good() -> Climb {
        Climb {
            challenge: Some(Err(Failure::Refused(401))),
            allocation: Some(Ok("192.168.1.20:49163".parse().unwrap())),
            calls: Some(Ok(())),
            others: forbidden(target().calls).into_iter().map(|peer| (peer, Err(Failure::Refused(403)))).collect(),
        }
    }

    fn problems(climb: &Climb) -> Vec<String> {
        let problem = |check: Check| match check.outcome {
            Outcome::Problem { found, mend } => Some(format!("{}: {found} → {mend}", check.id)),
            _ => None,
        };
        judge("udp", &target(), climb).into_iter().filter_map(problem).collect()
    }

    #[test]
    fn the_whole_ladder_and_one_that_breaks_off() {
        let broken = Climb { challenge: Some(Err(Failure::Broken("connection refused".to_owned()))), ..Climb::default() };
        let wrong = Climb { challenge: good().challenge, allocation: Some(Err(Failure::Refused(401))), ..Climb::default() };
        let checks = [("udp", good()), ("tcp", wrong), ("tls", broken)];
        let checks = checks.iter().flat_map(|(name, climb)| judge(name, &target(), climb)).collect();
        insta::assert_snapshot!(Report::of(checks).lines().join("\n"));
    }

    #[test]
    fn every_rung_can_say_no() {
        assert!(problems(&good()).is_empty());
        let cases: [(Climb, &str); 9] = [
            (Climb { challenge: Some(Ok(())), ..Climb::default() }, "turn.udp.challenge: an allocation without a credential"),
            (Climb { challenge: Some(Err(Failure::Refused(500))), ..Climb::default() }, "turn.udp.challenge: 500 Server Error"),
            (Climb { allocation: Some(Err(Failure::Refused(486))), ..good() }, "turn.udp.allocation: 486 Allocation Quota Reached"),
            (Climb { allocation: Some(Err(Failure::Refused(508))), ..good() }, "turn.udp.allocation: 508 Insufficient Capacity"),
            (Climb { allocation: Some(Ok("172.17.0.2:49163".parse().unwrap())), ..good() }, "turn.udp.address: phones are told 172.17.0.2"),
            (Climb { allocation: Some(Ok("192.168.1.20:49159".parse().unwrap())), ..good() }, "turn.udp.address: port 49159 is not one of"),
            (Climb { calls: Some(Err(Failure::Refused(403))), ..good() }, "turn.udp.calls: 192.168.1.20:8444: 403 Forbidden"),
            (Climb { others: vec![(target().calls, Ok(()))], ..good() }, "turn.udp.others: it relays to 192.168.1.20"),
            (Climb { others: vec![(target().calls, Err(Failure::Refused(437)))], ..good() }, "turn.udp.others: 192.168.1.20: 437"),
        ];
        for (climb, expected) in cases {
            let found = problems(&climb);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
        // Of the other family: it does not fit the allocation, and that is a no as well.
        let mapped = Climb { others: vec![("[::ffff:127.0.0.1]:8444".parse().unwrap(), Err(Failure::Refused(443)))], ..good() };
        assert!(problems(&mapped).is_empty());
    }

    #[test]
    fn the_neighbour_is_never_the_calls_address_itself() {
        for calls in ["192.168.1.1:8444", "192.168.1.2:8444", "172.17.0.1:8444", "[fd00::1]:8444"] {
            let calls: SocketAddr = calls.parse().unwrap();
            assert!(forbidden(calls).iter().all(|peer| peer.ip() != calls.ip()), "{calls}");
        }
    }
}
