//! Claims about `doctor turn`, against Debian's own coturn on a loopback address of each claim's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use images::Result;
use tempfile::TempDir;
use xtask::doctor::turn::{Target, climb, judge};
use xtask::doctor::{Check, Outcome, page};
use xtask::process::Running;
use xtask::serve;
use xtask::tls;
use xtask::turn::{Client, Credential, Failure, Transport};

use crate::claims::{Claim, wait_for};
use crate::pki::Ca;
use crate::world::World;

const fn claim(name: &'static str, proves: fn(&World) -> Result<()>) -> Claim {
    Claim { name, needs: &["turnutils_uclient", "openssl"], root: false, engine: false, proves }
}

/// The claims.
pub const CLAIMS: &[Claim] = &[
    claim("doctor::turn_reaches_the_last_rung_over_udp_tcp_and_tls", climbs),
    claim("doctor::turn_names_the_rung_that_a_bad_credential_ends_at", bad_credentials),
    claim("doctor::turn_notices_a_relay_that_is_open_or_leads_nowhere", bad_lists),
    claim("doctor::turn_trusts_the_sites_ca_alone_and_checks_the_address", bad_certificates),
    claim("doctor::turn_gives_its_allocations_back", gives_back),
    claim("doctor::turn_says_that_nobody_listens", nobody),
    Claim {
        needs: &["turnutils_uclient", "openssl", "chromium"],
        ..claim("doctor::a_browser_finds_a_relay_candidate_on_our_page", browser)
    },
];

const SECRET: &str = "a-secret-of-the-doctor-of-40-characters-a";
const PORTS: (u16, u16) = (49160, 49163);
/// For documentation (RFC 5737): a permission sends nothing, and nobody has the address.
const CALLS: &str = "192.0.2.7:8444";
const CLOSED: &[&str] = &["denied-peer-ip=0.0.0.0-255.255.255.255", "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"];
const ALLOWED: &str = "allowed-peer-ip=192.0.2.7";

struct Server {
    address: Ipv4Addr,
    folder: TempDir,
    _running: Running,
}

/// A loopback address that no other claim, and hardly another run, uses.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let [.., a, b] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, a | 1, b, NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    fn start(world: &World, lines: &[&str]) -> Result<Server> {
        let (address, folder) = (own_address(), tempfile::tempdir()?);
        let (cert, key) = Ca::new(&world.machine, folder.path(), "site")?.leaf(&address.to_string())?;
        let place = folder.path().display();
        let mut conf = format!(
            "listening-ip={address}\nrelay-ip={address}\nmin-port={}\nmax-port={}\nrealm=doctor.test\nuse-auth-secret\n\
             static-auth-secret={SECRET}\ncert={}\npkey={}\nno-dtls\nno-cli\nfingerprint\nuserdb={place}/db\npidfile={place}/pid\nlog-file=stdout\n",
            PORTS.0,
            PORTS.1,
            cert.display(),
            key.display()
        );
        lines.iter().for_each(|line| conf.push_str(&format!("{line}\n")));
        fs_err::write(folder.path().join("turnserver.conf"), conf)?;
        let log = folder.path().join("log");
        let process = world.machine.process("turnserver").arg("-c").arg(folder.path().join("turnserver.conf"));
        let server = Server { address, _running: process.start(&log)?, folder };
        wait_for(
            "turnserver",
            Duration::from_secs(30),
            || {
                let asked = |transport| Client::connect(server.target().turn, transport, good(), Duration::from_secs(1));
                let answers = asked(&Transport::Udp).ok()?.challenge() == Err(Failure::Refused(401));
                (answers && std::net::TcpStream::connect(server.target().turns).is_ok()).then_some(())
            },
            || fs_err::read_to_string(&log).unwrap_or_default(),
        );
        Ok(server)
    }

    fn target(&self) -> Target {
        let at = |port| SocketAddr::new(self.address.into(), port);
        Target { turn: at(3478), turns: at(5349), relayed: self.address.into(), relay: PORTS, calls: CALLS.parse().unwrap() }
    }

    fn tls(&self, ca: &str) -> Transport {
        let config = tls::trusting(&self.folder.path().join(ca)).expect("a CA");
        Transport::Tls(IpAddr::from(self.address).into(), config)
    }
}

fn good() -> Credential {
    Credential::for_seconds(SECRET, "doctor", 60)
}

fn ask(server: &Server, name: &str, transport: &Transport, credential: &Credential) -> Vec<Check> {
    judge(name, &server.target(), &climb(&server.target(), transport, credential))
}

/// The first problem: its id and what was found.
fn problem(checks: &[Check]) -> (&str, &str) {
    let found = |check: &Check| matches!(check.outcome, Outcome::Problem { .. });
    let check = checks.iter().find(|check| found(check)).unwrap_or_else(|| panic!("no problem: {checks:?}"));
    match &check.outcome {
        Outcome::Problem { found, .. } => (&check.id, found),
        _ => unreachable!("it was found by being one"),
    }
}

fn climbs(world: &World) -> Result<()> {
    let server = Server::start(world, &[CLOSED, &[ALLOWED]].concat())?;
    for (name, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", server.tls("site.ca.pem"))] {
        let checks = ask(&server, name, &transport, &good());
        let all_ok = checks.iter().all(|check| matches!(check.outcome, Outcome::Ok { .. }));
        assert!(checks.len() == 5 && all_ok, "{checks:#?}");
    }
    Ok(())
}

fn bad_credentials(world: &World) -> Result<()> {
    let server = Server::start(world, &[CLOSED, &[ALLOWED]].concat())?;
    let wrong = Credential::for_seconds("another-secret-of-many-characters", "doctor", 60);
    let expired = Credential::for_seconds(SECRET, "doctor", -60);
    let tampered = Credential { username: good().username.replace("doctor", "director"), ..good() };
    for (name, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", server.tls("site.ca.pem"))] {
        for credential in [&wrong, &expired, &tampered] {
            let checks = ask(&server, name, &transport, credential);
            let (id, found) = problem(&checks);
            assert_eq!(id, format!("turn.{name}.allocation"));
            assert!(found.starts_with("401 Unauthenticated"), "{found}");
        }
    }
    Ok(())
}

fn bad_lists(world: &World) -> Result<()> {
    let closed = Server::start(world, CLOSED)?;
    let checks = ask(&closed, "udp", &Transport::Udp, &good());
    assert_eq!(problem(&checks).0, "turn.udp.calls");
    assert!(problem(&checks).1.contains("403 Forbidden"), "{checks:?}");
    let open = Server::start(world, &[])?;
    let checks = ask(&open, "tcp", &Transport::Tcp, &good());
    assert_eq!(problem(&checks).0, "turn.tcp.others");
    assert!(problem(&checks).1.contains("169.254.169.254"), "{checks:?}");
    // Another address than phones can reach, and ports that no packet filter lets through.
    let mut elsewhere = open.target();
    elsewhere.relayed = "192.0.2.8".parse().unwrap();
    elsewhere.relay = (50000, 50001);
    let checks = judge("udp", &elsewhere, &climb(&elsewhere, &Transport::Udp, &good()));
    let (id, found) = problem(&checks);
    assert!(id == "turn.udp.address" && found.contains("192.0.2.8") && found.contains("50000–50001"), "{id}: {found}");
    Ok(())
}

fn bad_certificates(world: &World) -> Result<()> {
    let server = Server::start(world, &[CLOSED, &[ALLOWED]].concat())?;
    Ca::new(&world.machine, server.folder.path(), "other")?;
    let checks = ask(&server, "tls", &server.tls("other.ca.pem"), &good());
    assert_eq!(problem(&checks).0, "turn.tls.challenge");
    assert!(problem(&checks).1.contains("the certificate is not from this CA"), "{checks:?}");
    let Transport::Tls(_, config) = server.tls("site.ca.pem") else { unreachable!("it is TLS") };
    let other: IpAddr = "192.0.2.9".parse().unwrap();
    let checks = ask(&server, "tls", &Transport::Tls(other.into(), config), &good());
    assert!(problem(&checks).1.contains("the certificate is not for 192.0.2.9"), "{checks:?}");
    Ok(())
}

fn gives_back(world: &World) -> Result<()> {
    // One allocation in all, for ten minutes: the second climb gets it only if the first gave it back. The server takes a moment.
    let server = Server::start(world, &[CLOSED, &[ALLOWED, "total-quota=1", "user-quota=1"]].concat())?;
    let climbs = || !ask(&server, "udp", &Transport::Udp, &good()).iter().any(Check::is_problem);
    assert!(climbs());
    wait_for("an allocation that was given back", Duration::from_secs(30), || climbs().then_some(()), String::new);
    Ok(())
}

/// What Chromium reports of the page for this credential.
fn browsed(world: &World, server: &Server, credential: &Credential) -> Result<Vec<Check>> {
    let page = page::page(&server.target(), credential).into_bytes();
    let offered = serve::Server::bind(server.address.into(), 0)?.with_scripts();
    let profile = world.scratch();
    let flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"];
    let chromium = world.machine.process("chromium").args(flags).arg(format!("--user-data-dir={}", profile.path().display()));
    // Without it WebRTC passes loopback over; a phone's LAN address needs no flag.
    let chromium = chromium.args(["--allow-loopback-in-peer-connection", &offered.url()?]).start(&profile.path().join("log"))?;
    let reported = Mutex::new(None);
    let files = vec![("index.html", "text/html; charset=utf-8", page), (page::REPORT, "text/plain", Vec::new())];
    offered.run(files, Duration::from_secs(90), |fetched| {
        let checks = page::judge(fetched.query);
        let enough = checks.is_some();
        *reported.lock().unwrap() = checks;
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    chromium.stop(Duration::from_secs(10));
    let log = || fs_err::read_to_string(profile.path().join("log")).unwrap_or_default();
    Ok(reported.into_inner().unwrap().unwrap_or_else(|| panic!("the page reported nothing\n{}", log())))
}

fn browser(world: &World) -> Result<()> {
    let server = Server::start(world, &[CLOSED, &[ALLOWED]].concat())?;
    let checks = browsed(world, &server, &good())?;
    assert_eq!(checks.len(), 2);
    for check in &checks {
        let Outcome::Ok { found } = &check.outcome else { panic!("{checks:?}") };
        assert!(found.starts_with(&format!("relay candidate found: {} port 4916", server.address)), "{found}");
    }
    let wrong = Credential::for_seconds("another-secret-of-many-characters", "doctor", 60);
    let checks = browsed(world, &server, &wrong)?;
    assert!(checks.iter().all(Check::is_problem), "{checks:?}");
    Ok(())
}

fn nobody(_: &World) -> Result<()> {
    let at = |port| SocketAddr::new(own_address().into(), port);
    let target = Target { turn: at(3478), turns: at(5349), relayed: at(0).ip(), relay: PORTS, calls: CALLS.parse().unwrap() };
    for (name, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp)] {
        let checks = judge(name, &target, &climb(&target, &transport, &good()));
        assert!(problem(&checks).1.contains("refused"), "{checks:?}");
        assert_eq!(checks.iter().filter(|check| matches!(check.outcome, Outcome::Skipped { .. })).count(), 4);
    }
    Ok(())
}
