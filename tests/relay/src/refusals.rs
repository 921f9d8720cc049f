//! What the relay refuses: each question with the code that it has to be answered with.
//!
//! Asked of the bare image and of the running stack alike.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use images::{Error, Result};
use lab::Lab;
use lab::namespace::Namespace;
use serde::Serialize;
use serde_json::Value;
use xtask::doctor::firewall::RelayRule;
use xtask::turn::ice::Agent;
use xtask::turn::{Client, Credential, Failure, Family, Said};

/// What coturn says of an option that it does not know, before it goes on without it.
pub const UNKNOWN_OPTION: &str = "Bad configuration format";

/// How long coturn may take to count an allocation no more that was given back.
const GIVEN_BACK: Duration = Duration::from_secs(5);

/// A question, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What was asked for.
    pub what: String,
    /// The STUN error code to hope for.
    pub expected: u16,
    /// The code that came; `granted`, or what broke.
    pub found: String,
}

impl Refusal {
    fn of<T>(what: impl Into<String>, expected: u16, said: Said<T>) -> Refusal {
        let found = match said {
            Ok(_) => "granted".to_owned(),
            Err(Failure::Refused(code)) => code.to_string(),
            Err(Failure::Broken(why)) => why,
        };
        Refusal { what: what.into(), expected, found }
    }

    /// Whether it was refused with that code.
    pub fn is_good(&self) -> bool {
        self.found == self.expected.to_string()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.what, self.expected, self.found)
    }
}

/// Those that are not as they should be, as text.
pub fn problems(refusals: &[Refusal]) -> Vec<String> {
    refusals.iter().filter(|refusal| !refusal.is_good()).map(Refusal::to_string).collect()
}

/// Peers that nobody may reach, for a relay whose one peer is `allowed`. `more` are addresses of this place: other machines of the LAN,
/// Docker's networks and containers.
pub fn peers(allowed: IpAddr, more: &[(&'static str, Ipv4Addr)]) -> Vec<(&'static str, IpAddr)> {
    let fixed = [
        ("loopback", [127, 0, 0, 1]),
        ("loopback", [127, 1, 2, 3]),
        ("any", [0, 0, 0, 0]),
        ("private", [10, 0, 0, 1]),
        ("private", [172, 16, 0, 1]),
        ("private", [192, 168, 1, 1]),
        ("Docker", [172, 17, 0, 1]),
        ("provider", [100, 64, 0, 1]),
        ("metadata", [169, 254, 169, 254]),
        ("public", [192, 0, 2, 1]),
        ("multicast", [224, 0, 0, 1]),
        ("multicast", [239, 255, 255, 250]),
        ("broadcast", [255, 255, 255, 255]),
    ];
    let fixed = fixed.map(|(what, octets)| (what, Ipv4Addr::from(octets)));
    let all = fixed.into_iter().chain(more.iter().copied()).filter(|(_, ip)| IpAddr::V4(*ip) != allowed);
    // The allowed one in disguise is no other's disguise, but relayed addresses are IPv4 alone.
    let disguised = match allowed {
        IpAddr::V4(ip) => Some(("allowed", ip)),
        IpAddr::V6(_) => None,
    };
    let all: Vec<_> = all.collect();
    let mapped = all.iter().copied().chain(disguised).map(|(what, ip)| (what, IpAddr::V6(ip.to_ipv6_mapped())));
    let own = ["::", "::1", "fd00::1", "fe80::1", "ff02::1", "64:ff9b::7f00:1", "2002:7f00:1::"];
    let own = own.into_iter().filter_map(|ip| Some(("IPv6", IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?))));
    all.iter().map(|(what, ip)| (*what, IpAddr::V4(*ip))).chain(mapped).chain(own).collect()
}

/// Addresses of the Engine's networks, and of each container on them.
pub fn networks(lab: &Lab) -> Result<Vec<(&'static str, Ipv4Addr)>> {
    let ids = lab.docker("network ls --quiet --no-trunc").text()?;
    let told = lab.docker("network inspect").args(ids.lines()).text()?;
    let networks: Value =
        serde_json::from_str(&told).map_err(|error| Error::new(images::Class::Engine, format!("docker network inspect: {error}")))?;
    let mut found = Vec::new();
    let mut take = |what, text: &Value| found.extend(address(text).map(|ip| (what, ip)));
    for network in networks.as_array().into_iter().flatten() {
        let ranges = network["IPAM"]["Config"].as_array().into_iter().flatten();
        ranges.for_each(|range| take("a network of Docker's", &range["Gateway"]));
        let containers = network["Containers"].as_object().into_iter().flatten();
        containers.for_each(|(_, container)| take("a container", &container["IPv4Address"]));
    }
    Ok(found)
}

/// An address, as it stands or with the length of its network.
fn address(text: &Value) -> Option<Ipv4Addr> {
    text.as_str()?.split('/').next()?.parse().ok()
}

/// Asks for a permission to each, and for a channel, which is another way to one. An address of the other family does not fit an
/// allocation of IPv4 (443), before any list is asked. CVE-2026-27624 is of that kind.
pub fn of_peers(client: &mut Client, peers: &[(&str, IpAddr)], port: u16) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (what, ip) in peers {
        let (peer, expected) = (SocketAddr::new(*ip, port), if ip.is_ipv4() { 403 } else { 443 });
        refusals.push(Refusal::of(format!("permission to {what} {ip}"), expected, client.permit(peer)));
        refusals.push(Refusal::of(format!("channel to {what} {ip}"), expected, client.bind(peer, 0x4001)));
    }
    refusals
}

/// Credentials that are not good: `good` is one, made with `secret`. `ask` connects with one and asks for an allocation.
pub fn of_credentials(good: &Credential, secret: &str, ask: impl Fn(Credential) -> Said<SocketAddr>) -> Vec<Refusal> {
    let (expiry, name) = good.username.split_once(':').unwrap_or((good.username.as_str(), "somebody"));
    let later = expiry.parse::<i64>().unwrap_or_default() + 3600;
    let with = |username: &str, password: &str| Credential { username: username.to_owned(), password: password.to_owned() };
    let mut changed = good.password.clone().into_bytes();
    changed[0] = if changed[0] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8_lossy(&changed).into_owned();
    let all = [
        ("a credential made with another secret", Credential::of_secret("another-secret-of-many-characters", name, later)),
        ("a credential that expired a minute ago", Credential::for_seconds(secret, name, -60)),
        ("a credential whose expiry was put off", with(&format!("{later}:{name}"), &good.password)),
        ("a credential of somebody else", with(&format!("{expiry}:{name}x"), &good.password)),
        ("a credential without an expiry", with(name, &good.password)),
        ("a password with one character changed", with(&good.username, &changed)),
        ("no password", with(&good.username, "")),
        ("the secret itself as the password", with(&good.username, secret)),
    ];
    all.into_iter().map(|(what, credential)| Refusal::of(what, 401, ask(credential))).collect()
}

/// What a good credential does not get either. `connect` opens a new connection with it. Coturn counts the two allocations that it refuses
/// against the quotas until it forgets their connections, a minute later.
pub fn of_kinds(connect: impl Fn() -> Said<Client>) -> Vec<Refusal> {
    vec![
        Refusal::of("an allocation without a credential", 401, connect().and_then(|mut client| client.challenge())),
        Refusal::of("a relayed address of IPv6", 440, connect().and_then(|mut client| client.allocate(Family::V6))),
        Refusal::of("a relay of TCP", 442, connect().and_then(|mut client| client.allocate_tcp())),
        // RFC 8656 would have it 437.
        Refusal::of("a permission without an allocation", 400, connect().and_then(|mut client| client.permit(([192, 0, 2, 1], 9).into()))),
    ]
}

/// Allocations until `most` are there, and the one that is too many (486). `connect` is told how many there are. All are given back, and
/// at the end there is room again.
pub fn of_quota(what: &str, most: u32, connect: impl Fn(u32) -> Said<Client>) -> Result<Vec<Refusal>, String> {
    let named = |number: u32, failure: Failure| format!("{what}, allocation {} of {most}: {failure}", number + 1);
    let clients: Result<Vec<Client>, String> =
        (0..most).map(|number| patiently(|| connect(number)).map_err(|failure| named(number, failure))).collect();
    let one_more = connect(most).and_then(|mut client| client.allocate(Family::V4));
    let one_more = Refusal::of(format!("{what}, allocation {}", most + 1), 486, one_more);
    for client in &mut clients? {
        client.release().map_err(|failure| format!("{what}, giving back: {failure}"))?;
    }
    let mut room = patiently(|| connect(0)).map_err(|failure| format!("{what}, after all were given back: {failure}"))?;
    room.release().map_err(|failure| failure.to_string())?;
    Ok(vec![one_more])
}

/// An allocation; coturn takes a moment to count one no more that was given back.
fn patiently(connect: impl Fn() -> Said<Client>) -> Said<Client> {
    let begin = Instant::now();
    loop {
        let mut client = connect()?;
        match client.allocate(Family::V4) {
            Ok(_) => return Ok(client),
            Err(Failure::Refused(437 | 486 | 508)) if begin.elapsed() < GIVEN_BACK => std::thread::sleep(Duration::from_millis(50)),
            Err(failure) => return Err(failure),
        }
    }
}

/// Asks `count` times for an allocation, each time from another port, takes the 401, and never comes back. Then somebody with a
/// credential asks: how long that took. `connect` opens a new connection.
pub fn half_open(count: u32, connect: impl Fn() -> Said<Client>) -> Result<Duration, String> {
    let mut open = 0;
    while open < count {
        match connect().and_then(|mut client| client.challenge()) {
            Err(Failure::Refused(401)) => open += 1,
            // The port was that of an allocation before, which coturn forgets after a moment.
            Err(Failure::Refused(437)) => {}
            Err(other) => return Err(format!("half-open allocation {open} of {count}: {other}")),
            Ok(()) => return Err("an allocation without a credential".to_owned()),
        }
    }
    let begin = Instant::now();
    let mut client = patiently(&connect).map_err(|failure| format!("after {count} half-open allocations: {failure}"))?;
    let took = begin.elapsed();
    client.release().map_err(|failure| failure.to_string())?;
    Ok(took)
}

/// The packet filter of relayed media on the server, as a test puts it in and takes it out.
pub struct Filter<'a> {
    /// The server's namespace.
    pub server: &'a Namespace,
    /// The rule.
    pub rule: RelayRule,
    /// The table that holds it.
    pub table: String,
}

/// What relayed media reaches of the server itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// Coturn's own port.
    pub coturn: bool,
    /// Another allocation.
    pub allocation: bool,
    /// Ports that a datagram of Coturn's account from a relay port reaches.
    pub ports: Vec<u16>,
}

impl Filter<'_> {
    /// Puts it into the kernel, or anew.
    pub fn on(&self) -> Result<()> {
        self.server.nft(&self.rule.nft(&self.table))
    }

    /// Takes it out, if it is there.
    pub fn off(&self) -> Result<()> {
        self.server.nft(&format!("table inet {0}\ndelete table inet {0}\n", self.table))
    }

    /// Tries everything. `connect` opens a new connection of a phone's with a good credential to the server that listens at `turn`.
    pub fn reached(&self, turn: SocketAddr, connect: impl Fn() -> Said<Client>) -> Result<Reached> {
        let failed = |failure: Failure| Error::new(images::Class::Check, format!("the relay: {failure}"));
        let allocated = || {
            let mut client = connect()?;
            let relayed = client.allocate(Family::V4)?;
            client.permit(turn)?;
            Ok((client, relayed))
        };
        let ports = self.ports()?;
        let (mut first, _) = allocated().map_err(failed)?;
        let coturn = answers(&mut first, turn)?;
        // Of what the filter drops the sender is told, and Coturn may close the allocation for it.
        let _ = first.release();
        let ((mut first, from), (mut second, to)) = (allocated().map_err(failed)?, allocated().map_err(failed)?);
        let _ = first.send(to, b"from one allocation to another");
        let allocation = second.receive(SILENCE).is_some_and(|(peer, _)| peer == from);
        let _ = (first.release(), second.release());
        Ok(Reached { coturn, allocation, ports })
    }

    /// A socket like those of Coturn's relay, its account's and on one of its ports, sends to each port of the address once.
    fn ports(&self) -> Result<Vec<u16>> {
        let RelayRule { address, relay: (first, last), account, .. } = self.rule;
        self.server.inside(|| {
            // Of this thread alone, which ends with it.
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(account)).map_err(std::io::Error::from)?;
            let free = (first..=last).rev().find_map(|port| UdpSocket::bind((address, port)).ok());
            let socket = free.ok_or_else(|| Error::new(images::Class::Check, format!("no port of {first}-{last} is free")))?;
            Ok((1..=u16::MAX).filter(|port| socket.send_to(b"media", (address, *port)).is_ok()).collect())
        })?
    }
}

/// How long nothing says that nothing comes: all of it stays within one machine.
const SILENCE: Duration = Duration::from_millis(300);

/// Whether a STUN server at `peer` says anything through the relay.
fn answers(client: &mut Client, peer: SocketAddr) -> Result<bool> {
    let agent = Agent { fragment: "nobody".to_owned(), password: "none".to_owned() };
    let (_, request) = agent.request("phone").map_err(|why| Error::new(images::Class::Build, why))?;
    let _ = client.send(peer, &request);
    Ok(client.receive(SILENCE).is_some_and(|(from, _)| from == peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowed_peer_is_forbidden_in_disguise_alone() {
        let all = peers(Ipv4Addr::new(192, 168, 1, 1).into(), &[("neighbour", Ipv4Addr::new(192, 168, 77, 3))]);
        assert!(all.iter().all(|(_, ip)| *ip != IpAddr::from([192, 168, 1, 1])));
        assert!(all.contains(&("allowed", "::ffff:192.168.1.1".parse().unwrap())));
        assert!(all.contains(&("neighbour", [192, 168, 77, 3].into())));
        assert!(all.contains(&("metadata", "::ffff:169.254.169.254".parse().unwrap())));
    }

    #[test]
    fn only_the_exact_code_is_good() {
        let refusal = |said: Said| Refusal::of("a peer", 403, said);
        assert!(refusal(Err(Failure::Refused(403))).is_good());
        for other in [Ok(()), Err(Failure::Refused(401)), Err(Failure::Broken("no answer within 1 s".to_owned()))] {
            assert!(!refusal(other).is_good());
        }
        assert_eq!(problems(&[refusal(Ok(()))]), ["a peer: expected 403, found granted"]);
    }
}
