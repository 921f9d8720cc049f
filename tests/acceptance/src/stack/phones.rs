//! Phones on the LAN and behind routers, and how far they come.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use images::Result;
use lab::phone::{Nat, Phone};
use lab::{SERVER, address};
use relay::chat::Chat;
use relay::{matrix, refusals};
use xtask::site::Folder;
use xtask::site::secrets::Secret;
use xtask::turn::{Credential, Family};

use super::{Site, said};
use crate::world::World;

/// How long something takes within one machine; longer, it does not come.
const SOON: Duration = Duration::from_millis(300);

/// Numbers on the LAN that no other claim's machines have.
const PHONES: std::ops::Range<u8> = 90..94;
const TESTED: std::ops::Range<u8> = 100..104;
const ATTACKER: u8 = 110;

/// The sender of the next datagram.
fn sender(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.recv_from(&mut [0; 16]).ok().map(|(_, from)| from)
}

/// What a phone's socket is seen as by two ports of the server and one of another machine, and whose answers come back.
pub fn routers(world: &World) -> Result<()> {
    let (lab, shut) = (world.lab()?, 7003);
    let listen = |port| lab.server().inside(|| UdpSocket::bind((address(SERVER), port)).unwrap());
    let (first, second, closed) = (listen(7001)?, listen(7002)?, listen(shut)?);
    let tcp = lab.server().inside(|| TcpListener::bind((address(SERVER), 7001)).unwrap())?;
    let other = lab.client(TESTED.start - 1)?;
    let third = other.inside(|| UdpSocket::bind((address(TESTED.start - 1), 7001)).unwrap())?;
    for (number, nat) in TESTED.zip(Nat::ALL) {
        let phone = lab.phone(number, nat, shut)?;
        let socket = phone.namespace().inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap())?;
        let own = socket.local_addr()?.port();
        let listeners = [&first, &second, &third];
        let seen = listeners.map(|listener| {
            socket.send_to(b"hello", listener.local_addr().unwrap()).unwrap();
            sender(listener)
        });
        assert!(seen.iter().flatten().all(|from| from.ip() == address(number)), "{nat:?}: {seen:?}");
        let mut ports: Vec<u16> = seen.iter().flatten().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        match nat {
            Nat::None => assert_eq!(ports, [own], "{nat:?}"),
            Nat::UdpBlocked => assert_eq!(ports, [] as [u16; 0], "{nat:?}"),
            // Another port for each destination, also for two of the same machine.
            Nat::Symmetric | Nat::Double => assert!(ports.len() == 3 && !ports.contains(&own), "{nat:?}: {own} is seen as {seen:?}"),
        }
        if let [Some(mapped), ..] = seen {
            // Who was not spoken to from there is not let in, neither from another port nor from another machine.
            for stranger in [&second, &third] {
                stranger.send_to(b"unasked", mapped)?;
                assert_eq!(sender(&socket).is_some(), nat == Nat::None, "{nat:?}");
            }
            first.send_to(b"asked", mapped)?;
            assert_eq!(sender(&socket), Some(first.local_addr()?), "{nat:?}");
        }
        socket.send_to(b"hello", closed.local_addr()?)?;
        assert_eq!(sender(&closed).is_some(), nat == Nat::None, "{nat:?}: the port that is shut");
        let server = tcp.local_addr()?;
        let connected = phone.namespace().inside(|| xtask::turn::tcp(server, SOON).is_ok())?;
        assert!(connected, "{nat:?}: TCP");
        assert_eq!(phone.namespace().process("ip").args(["route", "show", "default"]).text()?, "", "{nat:?} leads out");
    }
    lossy(world, &first)
}

/// Half of what is sent is lost, more or less; and a delay is one, or it is said what the kernel lacks.
fn lossy(world: &World, listener: &UdpSocket) -> Result<()> {
    let phone = world.lab()?.phone(TESTED.end, Nat::Symmetric, 7003)?;
    phone.loses(50)?;
    let socket = phone.namespace().inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap())?;
    socket.send_to(b"hello", listener.local_addr()?)?;
    let mapped = sender(listener).expect("the phone's address");
    for _ in 0..200 {
        listener.send_to(b"hello", mapped)?;
    }
    let arrived = std::iter::from_fn(|| sender(&socket)).count();
    assert!((50..150).contains(&arrived), "{arrived} of 200 arrived");
    let late = world.lab()?.phone(TESTED.end, Nat::None, 7003);
    assert!(late.is_err(), "two machines of one number");
    let phone = world.lab()?.phone(TESTED.end + 1, Nat::None, 7003)?;
    match phone.delays(Duration::from_millis(50)) {
        Ok(()) => {
            let begin = Instant::now();
            let socket = phone.namespace().inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap())?;
            socket.send_to(b"hello", listener.local_addr()?)?;
            assert!(sender(listener).is_some() && begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains("CONFIG_NET_SCH_NETEM"), "{told}");
            eprintln!("         no delay is tried here: the kernel has no netem");
        }
    }
    Ok(())
}

fn opened(site: &Site) -> Result<(relay::Site, Chat)> {
    let opened = relay::Site::open(&Folder::new(&site.path()))?;
    let password = Secret::new(site.secret("MATTERMOST_ADMIN_PASSWORD"));
    // The administrator sits on the server.
    let admin = site.lab.server().inside(|| Chat::sign_in(&opened.chat, "admin", &password))??;
    Ok((opened, admin))
}

/// Every cell of the matrix; and Coturn's own client, which is not ours, from behind a router with a credential of Mattermost's.
pub fn come_through(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let (relay, admin) = opened(&site)?;
    let begin = Instant::now();
    let phones: Vec<Phone> = PHONES.zip(Nat::ALL).map(|(number, nat)| site.lab.phone(number, nat, site.port(1))).collect::<Result<_>>()?;
    let made = begin.elapsed();
    let matrix = site.lab.server().inside(|| matrix::measure(&relay, &admin, &phones, true))??;
    eprintln!("         phones {:.1} s, matrix {:.1} s", made.as_secs_f32(), (begin.elapsed() - made).as_secs_f32());
    matrix.lines().iter().for_each(|line| eprintln!("         {line}"));
    assert_eq!(matrix.problems(&relay.target), [] as [&str; 0]);
    assert_eq!((matrix.direct.len(), matrix.cells.len()), (4, 12));

    // A probe that loses nothing where a third is lost measures nothing.
    phones[1].loses(30)?;
    let lossy = site.lab.server().inside(|| matrix::measure(&relay, &admin, &phones[1..2], true))??;
    let lost = lossy.problems(&relay.target);
    assert!(lost.iter().any(|line| line.contains("over UDP") && line.contains("were not answered")), "{:?}", lossy.lines());

    let caller = site.lab.server().inside(|| admin.caller())??;
    let (credential, _) = phones[3]
        .namespace()
        .inside(|| Chat::sign_in(&relay.chat, &caller.name, &caller.password).and_then(|chat| chat.turn_credential()))??;
    for (options, port) in [("-c", 4), ("-c -t", 4)] {
        let process = phones[3].namespace().process("turnutils_uclient").args(options.split(' ')).args(["-n", "20", "-m", "1"]);
        // Its only way to a credential; this one ends with the site.
        let process = process.args(["-u", &credential.username, "-w", &credential.password]);
        let process =
            process.args(["-e", &address(SERVER).to_string(), "-r", &site.port(1).to_string(), "-p", &site.port(port).to_string()]);
        let outcome = process.arg(address(SERVER).to_string()).deadline(Duration::from_secs(60)).outcome()?;
        let told = said(&outcome);
        assert!(outcome.success() && told.contains("tot_send_msgs=20, tot_recv_msgs=20"), "{options}: {told}");
    }
    Ok(())
}

/// Everything that somebody with a good credential must not get, and somebody without one.
pub fn are_refused(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;
    let (relay, admin) = opened(&site)?;
    let caller = site.lab.server().inside(|| admin.caller())??;
    let phone = site.lab.phone(ATTACKER, Nat::None, 0)?;
    let networks = refusals::networks(site.lab)?;
    assert!(networks.len() >= 5, "{networks:?}");
    let secret = site.secret("MATTERMOST_TURN_SECRET");
    let filter = relay.filter(site.lab.server());
    let attacker = phone.namespace();

    let (refused, took) = attacker.inside(|| -> Result<_> {
        let chat = Chat::sign_in(&relay.chat, &caller.name, &caller.password)?;
        let (good, _) = chat.turn_credential()?;
        let connect = || relay.connect(good.clone());
        let many = |number: u32| relay.connect(Credential::for_seconds(&secret, &format!("user{}", number / 10), 600));
        let (first, last) = relay.site.ports.relay;
        // The quotas first: what is refused later counts for a while.
        let mut refused = refusals::of_quota("one user", relay.site.coturn.user_quota, |_| connect()).unwrap();
        refused.extend(refusals::of_quota("all users", u32::from(last - first) + 1, many).unwrap());
        refused.extend(refusals::of_credentials(&good, &secret, |credential| relay.connect(credential)?.allocate(Family::V4)));
        refused.extend(refusals::of_kinds(connect));
        let mut client = connect().expect("a connection");
        client.allocate(Family::V4).expect("an allocation");
        let peers = refusals::peers(relay.target.calls.ip(), &networks);
        refused.extend(refusals::of_peers(&mut client, &peers, relay.target.calls.port()));
        assert_eq!(client.permit(relay.target.calls), Ok(()));
        client.release().expect("given back");
        Ok((refused, refusals::half_open(1000, connect).unwrap()))
    })??;
    eprintln!("         {} questions; after 1000 half-open allocations one takes {took:?}", refused.len());
    assert_eq!(refusals::problems(&refused), [] as [&str; 0]);
    assert!(took < Duration::from_secs(1), "{took:?}");

    let reached = || {
        let secret = &secret;
        let connect = || relay.connect(Credential::for_seconds(secret, "reacher", 600));
        attacker.inside(|| filter.reached(relay.target.turn, connect))?
    };
    filter.off()?;
    let open = reached()?;
    assert!(open.coturn && open.allocation && open.ports.len() > 60_000, "the probe reaches nothing anyway: {open:?}");
    filter.on()?;
    assert_eq!(reached()?, refusals::Reached { coturn: false, allocation: false, ports: vec![relay.target.calls.port()] });

    let log = said(&site.lab.docker("logs").arg(&site.containers()?["coturn"]).outcome()?);
    assert!(log.contains("denied in the range") && !log.contains(refusals::UNKNOWN_OPTION), "{log}");
    Ok(())
}
