//! The lab's phones and routers are what they are said to be.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use images::Result;
use lab::phone::Nat;
use lab::{SERVER, address};

use crate::world::World;

/// How long something takes within one machine; longer, it does not come.
const SOON: Duration = Duration::from_millis(300);

/// Numbers on the LAN that no other claim's machines have.
const TESTED: std::ops::Range<u8> = 100..104;

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

/// A question of STUN and something else, which the server gets from another machine of the LAN, and which are in the capture then.
pub fn captured(world: &World) -> Result<()> {
    const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let (lab, folder) = (world.lab()?, world.scratch());
    let capture = lab.capture(&folder.path().join("capture.pcap"))?;
    let server = lab.server().inside(|| UdpSocket::bind((address(SERVER), 7004)).unwrap())?;
    let client = lab.client(TESTED.end)?;
    let socket = client.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap())?;
    for content in [&BINDING[..], b"no question"] {
        socket.send_to(content, server.local_addr()?)?;
        assert!(sender(&server).is_some());
    }
    let told = || format!("{:?}", capture.counted());
    let held = || capture.counted().ok().filter(|held| held.stun >= 1 && held.packets > held.stun);
    lab::wait_for("the question is in the capture", Duration::from_secs(10), held, told);
    // Others may be at work on the LAN.
    let held = capture.end()?;
    assert!(held.stun >= 1 && held.packets > held.stun, "{held:?}");
    // Where nothing can be written, its words are told.
    let taken = folder.path().join("taken.pcap");
    fs_err::create_dir(&taken)?;
    let error = lab.capture(&taken).err().unwrap().to_string();
    assert!(error.contains("tcpdump ended with") && error.contains("| tcpdump: "), "{error}");
    Ok(())
}
