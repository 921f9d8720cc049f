//! Claims about Coturn under Docker, asked with a TURN client.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use images::Result;
use relay::refusals;
use xtask::turn::{Client, Credential, Failure, Family, Said, Transport};

use crate::claims::{Claim, wait_for};
use crate::docker::{Container, Network, Volume, loaded, said};
use crate::world::World;

const fn claim(name: &'static str, needs: &'static [&'static str], proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs, root: true, engine: true, proves }
}

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim("coturn::it_relays_to_the_one_allowed_peer_and_back_and_to_nobody_else", &[], relays),
    claim("coturn::it_refuses_wrong_and_expired_credentials_and_ipv6_relays", &[], refuses),
    claim("coturn::it_gives_an_allocation_for_each_relay_port_and_no_more", &[], fills_up),
    claim("coturn::its_secret_shows_nowhere_and_every_option_is_understood", &[], keeps_its_secret),
    claim("coturn::its_own_client_gets_back_what_it_sends", &["turnutils_uclient"], its_own_client),
    claim("coturn::it_stops_at_once", &[], stops),
    claim("coturn::a_secret_that_others_can_read_is_refused", &[], refuses_an_open_secret),
];

const SECRET: &str = "an-acceptance-secret-of-40-characters-ab";
const REALM: &str = "acceptance.test";
const UID: u32 = 2001;
const PORTS: std::ops::RangeInclusive<u16> = 49160..=49163;
const PATIENCE: Duration = Duration::from_secs(10);

/// A running Coturn on a bridge; the host is the one allowed peer.
struct Relay<'a> {
    container: Container<'a>,
    address: Ipv4Addr,
    peer: Ipv4Addr,
    // Dropped after the container, which uses them.
    network: Network<'a>,
    _secrets: Volume<'a>,
}

impl<'a> Relay<'a> {
    fn start(world: &'a World) -> Result<Relay<'a>> {
        let image = &loaded(world, "coturn")?.name;
        let network = Network::new(world)?;
        let secrets = Volume::of_secrets(world, image, UID, &[("turn", SECRET.as_bytes())])?;
        let (peer, address) = (network.address(1), network.address(2));
        let container = Self::container(world, image, &network, &secrets)?;
        container.start()?;
        container.wait_until_healthy()?;
        Ok(Relay { container, address, peer, network, _secrets: secrets })
    }

    fn container(world: &'a World, image: &str, network: &Network, secrets: &Volume) -> Result<Container<'a>> {
        let (peer, address) = (network.address(1).to_string(), network.address(2).to_string());
        let settings = [
            format!("COTURN_LISTENING_IP={address}"),
            format!("COTURN_ALLOWED_PEER_IP={peer}"),
            format!("COTURN_REALM={REALM}"),
            format!("COTURN_MIN_PORT={}", PORTS.start()),
            format!("COTURN_MAX_PORT={}", PORTS.end()),
        ];
        let secrets = secrets.at("/run/secrets:ro");
        let mut options = vec!["--network", network.name(), "--ip", &address, "--volume", &secrets];
        options.extend(["--tmpfs", "/run/coturn:uid=2001,gid=2001,mode=0700"]);
        options.extend(settings.iter().flat_map(|setting| ["--env", setting]));
        Container::create(world, image, &options)
    }

    fn client(&self, credential: Credential) -> Client {
        let server = SocketAddrV4::new(self.address, 3478).into();
        Client::connect(server, &Transport::Udp, credential, PATIENCE).expect("a socket")
    }
}

fn good() -> Credential {
    credential(SECRET, 600)
}

fn credential(secret: &str, seconds: i64) -> Credential {
    Credential::for_seconds(secret, "somebody", seconds)
}

const fn refused<T>(code: u16) -> Said<T> {
    Err(Failure::Refused(code))
}

fn relays(world: &World) -> Result<()> {
    let relay = Relay::start(world)?;
    let mut client = relay.client(good());
    let relayed = client.allocate(Family::V4).expect("an allocation");
    assert_eq!(relayed.ip(), relay.address);
    assert!(PORTS.contains(&relayed.port()), "{relayed}");

    // Before the permission nothing passes, in either direction.
    let peer = UdpSocket::bind((relay.peer, 0))?;
    let allowed = peer.local_addr()?;
    let before = relay.container.datagrams_read()?;
    peer.send_to(b"too early", relayed)?;
    // On a busy machine the kernel may hand it over after what is sent later.
    wait_for("Coturn to read it", PATIENCE, || (relay.container.datagrams_read().ok()? > before).then_some(()), String::new);
    assert_eq!(client.permit(SocketAddr::from(([127, 0, 0, 1], 3478))), refused(403));
    assert_eq!(client.permit(allowed), Ok(()));
    client.send(allowed, b"to the Calls server").expect("sent");
    peer.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 64];
    let (length, from) = peer.recv_from(&mut buffer).expect("what the client sent");
    assert_eq!((&buffer[..length], from), (&b"to the Calls server"[..], relayed));
    peer.send_to(b"and back", from)?;
    assert_eq!(client.receive(PATIENCE), Some((allowed, b"and back".to_vec())));

    let neighbour = SocketAddr::from((relay.network.address(3), 80));
    let here = [("neighbour", relay.network.address(3)), ("Coturn's own address", relay.address)];
    let peers = refusals::peers(relay.peer.into(), &here);
    let refused = refusals::of_peers(&mut client, &peers, 80);
    assert!(refused.len() > 60, "{}", refused.len());
    assert_eq!(refusals::problems(&refused), [] as [&str; 0]);
    // What was refused stays so when it is tried without asking.
    client.send(neighbour, b"never").expect("sent");
    client.send(allowed, b"last").expect("sent");
    let (length, _) = peer.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..length], b"last");
    Ok(())
}

fn refuses(world: &World) -> Result<()> {
    let relay = Relay::start(world)?;
    let mut client = relay.client(good());
    assert_eq!((client.challenge(), client.realm()), (refused(401), REALM));
    let mut refused = refusals::of_credentials(&good(), SECRET, |credential| relay.client(credential).allocate(Family::V4));
    refused.extend(refusals::of_kinds(|| Ok(relay.client(good()))));
    assert_eq!(refusals::problems(&refused), [] as [&str; 0]);
    Ok(())
}

fn fills_up(world: &World) -> Result<()> {
    let relay = Relay::start(world)?;
    let refused = refusals::of_quota("every relay port", PORTS.len() as u32, |_| Ok(relay.client(good()))).unwrap();
    assert_eq!(refusals::problems(&refused), [] as [&str; 0]);
    Ok(())
}

fn keeps_its_secret(world: &World) -> Result<()> {
    let relay = Relay::start(world)?;
    let mut client = relay.client(good());
    client.allocate(Family::V4).expect("an allocation");
    let container = &relay.container;
    assert_eq!(container.user_and_capabilities()?, (UID, "0000000000000000".to_owned()));
    let mut listens = container.listens_on()?;
    listens.retain(|port| !PORTS.contains(&port[4..].parse().unwrap()));
    assert_eq!(listens, ["tcp/3478", "udp/3478"]);

    let environment = fs_err::read(format!("/proc/{}/environ", container.pid()?))?;
    let shown = [
        ("inspect", container.inspect()?.to_string()),
        ("top", container.docker("top").text()?),
        ("logs", container.logs()),
        ("environment", String::from_utf8_lossy(&environment).into_owned()),
        ("history", crate::docker::docker(world, "history --no-trunc").arg(&world.image("coturn")?.name).text()?),
    ];
    for (place, text) in &shown {
        assert!(!text.is_empty() && !text.contains(SECRET), "the secret stands in {place}: {text}");
    }
    let logs = &shown[2].1;
    for bad in [refusals::UNKNOWN_OPTION, "ERROR", "Unknown", "WARNING: cannot"] {
        assert!(!logs.contains(bad), "{bad}: {logs}");
    }
    Ok(())
}

fn its_own_client(world: &World) -> Result<()> {
    let relay = Relay::start(world)?;
    // An echo on the allowed peer, as turnutils_peer is one.
    let peer = UdpSocket::bind((relay.peer, 0))?;
    let port = peer.local_addr()?.port().to_string();
    peer.set_read_timeout(Some(Duration::from_secs(20)))?;
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = peer.recv_from(&mut buffer) {
            if peer.send_to(&buffer[..length], from).is_err() || &buffer[..length] == b"stop" {
                break;
            }
        }
    });
    let (server, allowed) = (relay.address.to_string(), relay.peer.to_string());
    let uclient = world.machine.process("turnutils_uclient").args(["-W", SECRET, "-u", "somebody", "-n", "20", "-m", "1", "-c"]);
    let outcome = uclient.args(["-e", &allowed, "-r", &port, &server]).deadline(Duration::from_secs(60)).outcome();
    UdpSocket::bind((relay.peer, 0))?.send_to(b"stop", (relay.peer, port.parse().unwrap()))?;
    echo.join().unwrap();
    let outcome = outcome?;
    let told = said(&outcome);
    assert!(outcome.success() && told.contains("tot_send_msgs=20, tot_recv_msgs=20"), "{told}");
    Ok(())
}

fn stops(world: &World) -> Result<()> {
    let relay = Relay::start(world)?;
    relay.client(good()).allocate(Family::V4).expect("an allocation");
    let start = Instant::now();
    relay.container.docker("stop --time 20").capture()?;
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    Ok(())
}

fn refuses_an_open_secret(world: &World) -> Result<()> {
    let image = &loaded(world, "coturn")?.name;
    let network = Network::new(world)?;
    for (uid, secret, wanted) in [(0, SECRET, "ermission denied"), (UID, "short", "found 5 characters")] {
        let secrets = Volume::of_secrets(world, image, uid, &[("turn", secret.as_bytes())])?;
        let container = Relay::container(world, image, &network, &secrets)?;
        container.start()?;
        assert_eq!(container.wait_until_ended()?, 2, "{}", container.logs());
        let said = container.logs();
        assert!(said.contains("coturn-entrypoint: ") && said.contains(wanted), "expected {wanted:?} in {said}");
        drop(container);
    }
    Ok(())
}
