//! Which address is this machine's on the LAN, where nobody wrote it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use images::{Class, Error, Result};

/// An address of one of this machine's network interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the interface.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
}

/// Why `address` can be nobody's LAN address.
pub fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = |address: Ipv6Addr| address.segments()[0] & 0xffc0 == 0xfe80;
    match address {
        _ if address.is_loopback() => Some("this machine's alone"),
        _ if address.is_unspecified() => Some("no address of a machine"),
        _ if address.is_multicast() => Some("a group's"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("everybody's"),
        IpAddr::V4(address) if address.is_link_local() => Some("good on one cable only"),
        IpAddr::V6(address) if link_local(address) => Some("good on one cable only"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4 address in disguise"),
        _ => None,
    }
}

/// The address to take: `source` is the source address of the default route. Without a route, the only private address of an
/// interface that is not a container engine's or a virtual machine's.
pub fn choose(source: Option<IpAddr>, candidates: &[Candidate]) -> Result<IpAddr> {
    let good = |address: &IpAddr| unusable(*address).is_none();
    if let Some(address) = source.filter(good) {
        return Ok(address);
    }
    let lan: Vec<&Candidate> = candidates.iter().filter(|candidate| private(candidate.address) && !inner(&candidate.interface)).collect();
    match lan[..] {
        [only] => Ok(only.address),
        _ => Err(undecided(&lan, candidates)),
    }
}

fn undecided(lan: &[&Candidate], all: &[Candidate]) -> Error {
    let usable: Vec<&Candidate> = all.iter().filter(|candidate| unusable(candidate.address).is_none()).collect();
    let shown = if lan.is_empty() { &usable } else { lan };
    let found = if shown.is_empty() { "no network interface has an address of a LAN".to_owned() } else { "candidates:".to_owned() };
    let error = Error::new(Class::Usage, "there is no default route that would tell this machine's address on the LAN").detail(found);
    shown
        .iter()
        .fold(error, |error, candidate| error.detail(format!("{}  {}", candidate.address, candidate.interface)))
        .hint("write it into site.toml: addresses = [\"192.168.1.20\"]")
}

/// RFC 1918 and RFC 4193.
pub fn private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.segments()[0] & 0xfe00 == 0xfc00,
    }
}

/// Interfaces that lead to containers or virtual machines on this machine, not to the LAN.
fn inner(interface: &str) -> bool {
    ["docker", "br-", "veth", "virbr", "cni", "podman", "lxc", "lxdbr", "vnet", "cali", "flannel"]
        .iter()
        .any(|prefix| interface.starts_with(prefix))
}

/// Asks this machine. No packet is sent: connecting a UDP socket only looks the route up.
pub fn of_this_machine() -> Result<IpAddr> {
    choose(route_source(), &interfaces()?)
}

fn route_source() -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): no LAN has a route to them but the default one.
    let far: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    far.into_iter().find_map(|(any, far)| {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(SocketAddr::new(far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// Every address of every interface.
pub fn interfaces() -> Result<Vec<Candidate>> {
    let all = if_addrs::get_if_addrs().map_err(|error| Error::from(error).context("reading the network interfaces"))?;
    Ok(all.into_iter().map(|interface| Candidate { address: interface.ip(), interface: interface.name }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(list: &[(&str, &str)]) -> Vec<Candidate> {
        let candidate =
            |(interface, address): &(&str, &str)| Candidate { interface: (*interface).to_owned(), address: address.parse().unwrap() };
        list.iter().map(candidate).collect()
    }

    #[test]
    fn the_default_routes_source_wins() {
        let found = choose("203.0.113.7".parse().ok(), &candidates(&[("eth0", "192.168.1.20")]));
        assert_eq!(found.unwrap().to_string(), "203.0.113.7");
    }

    #[test]
    fn without_a_route_it_is_the_only_private_address_that_is_not_dockers() {
        let list = candidates(&[
            ("lo", "127.0.0.1"),
            ("docker0", "172.17.0.1"),
            ("br-1f", "172.18.0.1"),
            ("eth0", "192.168.1.20"),
            ("eth0", "fe80::1"),
        ]);
        assert_eq!(choose(None, &list).unwrap().to_string(), "192.168.1.20");
    }

    #[test]
    fn several_are_listed_and_none_is_guessed() {
        let error = choose(None, &candidates(&[("eth0", "192.168.1.20"), ("eth1", "10.0.0.7")])).unwrap_err();
        insta::assert_snapshot!(error, @r#"
        there is no default route that would tell this machine's address on the LAN
          candidates:
          192.168.1.20  eth0
          10.0.0.7  eth1
        hint: write it into site.toml: addresses = ["192.168.1.20"]
        "#);
        let error = choose(None, &candidates(&[("lo", "127.0.0.1")])).unwrap_err();
        assert!(error.to_string().contains("no network interface has an address of a LAN"), "{error}");
    }

    #[test]
    fn addresses_that_are_nobodys_on_a_lan_are_refused() {
        for bad in
            ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.1.1", "::1", "::", "fe80::1", "::ffff:10.0.0.1", "ff02::1"]
        {
            assert!(unusable(bad.parse().unwrap()).is_some(), "{bad}");
        }
        for good in ["192.168.1.20", "10.1.2.3", "fd00::1", "2001:db8::1", "203.0.113.7"] {
            assert!(unusable(good.parse().unwrap()).is_none(), "{good}");
        }
    }
}
