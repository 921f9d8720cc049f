//! Whether the site's ports are free, or held by the site itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Check, list};
use crate::site::{Service, Site};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A socket that something listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address; all zeros for every address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// A running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The project and the service that it belongs to, under Compose or on a Swarm.
    pub project: Option<(String, String)>,
    /// Ports of this machine that lead into it.
    pub published: Vec<(Protocol, u16)>,
    /// Its addresses in Docker's networks.
    pub addresses: Vec<IpAddr>,
}

/// Ports that belong together.
struct Wanted {
    /// What stands in the check's id.
    name: &'static str,
    title: String,
    owner: Service,
    protocols: &'static [Protocol],
    first: u16,
    last: u16,
    reach: Reach,
}

/// Where a port is open: as `site::compose` publishes it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Lan,
    Loopback,
    Both,
}

fn wanted(site: &Site) -> Vec<Wanted> {
    use Protocol::{Tcp, Udp};
    let ports = &site.ports;
    let one = |name, what: &str, owner, protocols, port: u16| Wanted {
        name,
        title: format!("Port {port} ({what})"),
        owner,
        protocols,
        first: port,
        last: port,
        reach: Reach::Lan,
    };
    let (first, last) = ports.relay;
    let mut all = vec![
        Wanted { reach: Reach::Both, ..one("mattermost", "Mattermost", Service::Mattermost, &[Tcp], ports.mattermost) },
        one("calls", "Calls", Service::Mattermost, &[Udp, Tcp], ports.calls),
        Wanted { reach: Reach::Loopback, ..one("metrics", "metrics", Service::Mattermost, &[Tcp], ports.metrics) },
        Wanted { reach: Reach::Both, ..one("alert-gateway", "alert gateway", Service::AlertGateway, &[Tcp], ports.alert_gateway) },
        one("turn", "TURN", Service::Coturn, &[Udp, Tcp], ports.turn),
        one("turns", "TURN over TLS", Service::Coturn, &[Tcp], ports.turns),
        Wanted { title: format!("Ports {first}–{last} (relay)"), last, ..one("relay", "", Service::Coturn, &[Udp], first) },
    ];
    all.extend(ports.redirect_http.map(|port| one("redirect-http", "redirect to HTTPS", Service::AlertGateway, &[Tcp], port)));
    all
}

/// One check for each port of the site.
pub fn judge(site: &Site, sockets: &[Socket], containers: &[Container]) -> Vec<Check> {
    wanted(site).iter().map(|wanted| judge_one(site, wanted, sockets, containers)).collect()
}

fn judge_one(site: &Site, wanted: &Wanted, sockets: &[Socket], containers: &[Container]) -> Check {
    let id = format!("port.{}", wanted.name);
    let lan = wanted.reach != Reach::Loopback;
    let loopback = wanted.reach != Reach::Lan;
    let is_wanted_at = |address: IpAddr| {
        address.is_unspecified() || (lan && site.addresses.contains(&address)) || (loopback && address == Ipv4Addr::LOCALHOST)
    };
    let is_held = |socket: &&Socket| {
        wanted.protocols.contains(&socket.protocol)
            && (wanted.first..=wanted.last).contains(&socket.port)
            && is_wanted_at(socket.address.to_canonical())
    };
    let mut held: Vec<(Protocol, u16)> = sockets.iter().filter(is_held).map(|socket| (socket.protocol, socket.port)).collect();
    // Where the Engine forwards ports without a proxy process, no socket shows.
    let published = containers.iter().flat_map(|container| &container.published);
    held.extend(published.filter(|(protocol, port)| wanted.protocols.contains(protocol) && (wanted.first..=wanted.last).contains(port)));
    held.sort_unstable();
    held.dedup();
    let Some((protocol, port)) = held.first().copied() else { return Check::ok(id, &wanted.title, "free") };
    let ours = |container: &&Container| {
        container.project.as_ref().is_some_and(|(project, service)| project == site.project.as_str() && service == wanted.owner.name())
    };
    let holder = containers.iter().find(|container| container.published.contains(&(protocol, port)));
    // A container on the host's network publishes nothing: that it runs has to do.
    if holder.map_or_else(|| containers.iter().any(|container| ours(&container)), |holder| ours(&holder)) {
        return Check::ok(id, &wanted.title, format!("held by this site's own {}", wanted.owner.name()));
    }
    let names: Vec<String> = held.iter().map(|(protocol, port)| format!("{port}/{}", protocol.name())).collect();
    let (who, mend) = match holder {
        Some(holder) => (format!("container {}", holder.name), format!("docker stop {}", holder.name)),
        None => ("another program".to_owned(), format!("ss --listening --processes --numeric --{} 'sport = :{port}'", protocol.name())),
    };
    let found = format!("{} held by {who}", list(&names, 4));
    Check::problem(id, &wanted.title, found, format!("{mend}   (or another port in site.toml, under [ports])"))
}

/// Reads `/proc/net/tcp`, `tcp6`, `udp` or `udp6`: what listens, and for UDP what is bound without being connected.
pub fn listening(table: &str, protocol: Protocol) -> Vec<Socket> {
    let wanted_state = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let socket = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        (words.nth(1)? == wanted_state).then_some(())?;
        Some(Socket { protocol, address: kernel_address(address)?, port: u16::from_str_radix(port, 16).ok()? })
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// An address as the kernel prints it: words of 32 bits in hexadecimal, each in the machine's order of bytes.
fn kernel_address(hex: &str) -> Option<IpAddr> {
    let bytes: Vec<u8> = (0..hex.len() / 8)
        .map(|word| u32::from_str_radix(hex.get(word * 8..word * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<Vec<[u8; 4]>>>()?
        .concat();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn site() -> Site {
        let text = "format = 1\naddresses = [\"192.168.1.20\"]\n[ports]\nredirect-http = 80\n";
        crate::site::parse("site.toml", text, || unreachable!("it has an address")).unwrap()
    }

    fn socket(protocol: Protocol, address: &str, port: u16) -> Socket {
        Socket { protocol, address: address.parse().unwrap(), port }
    }

    fn container(name: &str, project: &str, service: &str, published: &[(Protocol, u16)]) -> Container {
        Container {
            name: name.to_owned(),
            project: Some((project.to_owned(), service.to_owned())),
            published: published.to_vec(),
            addresses: Vec::new(),
        }
    }

    fn outcome(name: &str, sockets: &[Socket], containers: &[Container]) -> Outcome {
        let id = format!("port.{name}");
        judge(&site(), sockets, containers).into_iter().find(|check| check.id == id).unwrap().outcome
    }

    #[test]
    fn every_port_of_the_site_is_asked_for() {
        let ids: Vec<String> = judge(&site(), &[], &[]).into_iter().map(|check| check.id).collect();
        let names = ["mattermost", "calls", "metrics", "alert-gateway", "turn", "turns", "relay", "redirect-http"];
        assert_eq!(ids, names.map(|name| format!("port.{name}")));
        assert!(judge(&site(), &[], &[]).iter().all(|check| !check.is_problem()));
    }

    #[test]
    fn a_port_is_taken_on_its_address_and_on_all_of_them() {
        use Protocol::{Tcp, Udp};
        let cases = [
            ("turn", socket(Udp, "0.0.0.0", 3478), true),
            ("turn", socket(Udp, "::", 3478), true),
            ("turn", socket(Tcp, "192.168.1.20", 3478), true),
            ("turn", socket(Udp, "192.168.1.21", 3478), false),
            ("turn", socket(Udp, "127.0.0.1", 3478), false),
            ("turns", socket(Udp, "0.0.0.0", 5349), false),
            ("mattermost", socket(Tcp, "127.0.0.1", 8065), true),
            ("mattermost", socket(Tcp, "127.0.0.2", 8065), false),
            ("metrics", socket(Tcp, "127.0.0.1", 8067), true),
            ("metrics", socket(Tcp, "192.168.1.20", 8067), false),
            ("relay", socket(Udp, "192.168.1.20", 49160), true),
            ("relay", socket(Udp, "192.168.1.20", 49200), true),
            ("relay", socket(Udp, "192.168.1.20", 49201), false),
            ("redirect-http", socket(Tcp, "0.0.0.0", 80), true),
        ];
        for (name, socket, taken) in cases {
            assert_eq!(matches!(outcome(name, &[socket], &[]), Outcome::Problem { .. }), taken, "{name} {socket:?}");
        }
    }

    #[test]
    fn what_our_own_stack_holds_is_fine_and_who_else_does_is_named() {
        use Protocol::{Tcp, Udp};
        let sockets = [socket(Tcp, "0.0.0.0", 8065), socket(Udp, "192.168.1.20", 3478)];
        let ours = [
            container("chatops-mattermost-1", "chatops", "mattermost", &[(Tcp, 8065)]),
            // On the host's network.
            container("chatops-coturn-1", "chatops", "coturn", &[]),
        ];
        for name in ["mattermost", "turn"] {
            assert!(
                matches!(outcome(name, &sockets, &ours), Outcome::Ok { found } if found.starts_with("held by this site's own")),
                "{name}"
            );
        }
        let other = [container("old-mattermost", "article", "mattermost", &[(Tcp, 8065)])];
        let Outcome::Problem { found, mend } = outcome("mattermost", &sockets, &other) else { panic!("not told") };
        assert_eq!(found, "8065/tcp held by container old-mattermost");
        assert!(mend.starts_with("docker stop old-mattermost"), "{mend}");
        // Our Mattermost runs, but somebody else holds its port.
        let both = [container("chatops-mattermost-1", "chatops", "mattermost", &[]), other[0].clone()];
        assert!(matches!(outcome("mattermost", &sockets, &both), Outcome::Problem { .. }));
        // Forwarded without a socket.
        assert!(matches!(outcome("mattermost", &[], &other), Outcome::Problem { .. }));
        let Outcome::Problem { mend, .. } = outcome("turn", &sockets, &[]) else { panic!("not told") };
        assert!(mend.starts_with("ss --listening --processes --numeric --udp 'sport = :3478'"), "{mend}");
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:1F83 00000000:0000 0A 0\n   1: 0100007F:9000 0100007F:1F83 01 0\n";
        let listens = listening(tcp, Protocol::Tcp);
        assert_eq!(listens, [socket(Protocol::Tcp, "127.0.0.1", 8067)]);
        let udp6 = "  sl  local_address  remote_address  st\n  1: 00000000000000000000000001000000:0D96 00000000000000000000000000000000:0000 07\n";
        assert_eq!(listening(udp6, Protocol::Udp), [socket(Protocol::Udp, "::1", 3478)]);
        assert_eq!(listening("", Protocol::Udp), []);
    }

    #[test]
    fn a_socket_that_is_bound_here_shows_in_the_kernels_table() {
        let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let table = fs_err::read_to_string("/proc/net/tcp").unwrap();
        assert!(listening(&table, Protocol::Tcp).contains(&socket(Protocol::Tcp, "127.0.0.1", bound.local_addr().unwrap().port())));
    }
}
