//! Whom clients believe: the site's CA alone, for the right names and addresses, over a TLS that is not broken.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use images::{Class, Error, Result};
use lab::namespace::Namespace;
use xtask::doctor::tls::{Endpoint, Shown, Start, look};
use xtask::site::Service;

use crate::step::{Evidence, Need, Step, When};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[
    Step {
        name: "tls::every_chain_holds_by_name_and_address",
        claim: "Mattermost, the alert gateway, Coturn and PostgreSQL show chains that hold by name and by LAN address, with the site's CA as the only trust",
        deadline: Duration::from_secs(30),
        needs: &[],
        when: When::Shared,
        proves: holds,
    },
    Step {
        name: "tls::a_wrong_ca_name_or_address_is_refused",
        claim: "The same chains are refused with another CA, under another name and at another address",
        deadline: Duration::from_secs(60),
        needs: &[],
        when: When::Shared,
        proves: refused,
    },
    Step {
        name: "tls::nothing_older_than_tls_1_2_is_spoken",
        claim: "Every service speaks TLS 1.2, and refuses TLS 1.0 and 1.1",
        deadline: Duration::from_secs(60),
        needs: &[Need::Part("openssl")],
        when: When::Shared,
        proves: new_enough,
    },
    Step {
        name: "tls::the_database_is_asked_for_its_certificate",
        claim: "Mattermost connects to PostgreSQL with verify-full, every session there is encrypted, and a connection without TLS is refused",
        deadline: Duration::from_secs(30),
        needs: &[],
        when: When::Shared,
        proves: verify_full,
    },
];

/// The services, and what each is called by.
fn endpoints(world: &World) -> Result<Vec<Endpoint>> {
    let site = world.description()?;
    let names: Vec<String> = site.all_names().map(ToString::to_string).chain([world.server().to_string()]).collect();
    let on_the_lan =
        [(Service::Mattermost, world.mattermost_at()), (Service::AlertGateway, world.gateway_at()), (Service::Coturn, world.turns_at())];
    let mut all: Vec<Endpoint> = on_the_lan
        .into_iter()
        .map(|(service, at)| Endpoint { name: service.name().to_owned(), at, start: Start::Tls, called: names.clone() })
        .collect();
    all.push(Endpoint {
        name: Service::Postgres.name().to_owned(),
        at: postgres(world)?,
        start: Start::Postgres,
        called: vec![site.database_host()],
    });
    Ok(all)
}

/// PostgreSQL, on its internal network.
fn postgres(world: &World) -> Result<SocketAddr> {
    let containers = world.site.containers()?;
    let networks = world.site.inspect(&containers["postgres"])?["NetworkSettings"]["Networks"].take();
    let addresses =
        networks.as_object().into_iter().flatten().filter_map(|(_, network)| network["IPAddress"].as_str()?.parse::<IpAddr>().ok());
    let address = addresses.into_iter().next().ok_or_else(|| Error::new(Class::Check, "PostgreSQL has no address"))?;
    Ok(SocketAddr::new(address, 5432))
}

/// What an endpoint shows to somebody who trusts one CA: the database to programs on the server, the others to a machine on the LAN.
fn shown(world: &World, endpoint: &Endpoint, ca: &Path) -> Result<Shown> {
    let roots = Arc::new(xtask::tls::roots(ca)?);
    let looked = || look(endpoint, &roots);
    let shown = match endpoint.start {
        Start::Postgres => world.lab.server().inside(looked)?,
        Start::Tls => world.client()?.inside(looked)?,
    };
    shown.map_err(|why| Error::new(Class::Check, format!("TLS of {}", endpoint.name)).detail(format!("seen     {why}")))
}

fn holds(world: &World, evidence: &mut Evidence) -> Result<()> {
    for endpoint in endpoints(world)? {
        let shown = shown(world, &endpoint, &world.folder().ca())?;
        for (called, verdict) in &shown.verdicts {
            evidence.same(&format!("{} as {called}", endpoint.name), &Ok(()), verdict)?;
        }
        evidence.holds(&format!("names of {}", endpoint.name), "at least one", shown.verdicts.len(), !shown.verdicts.is_empty())?;
    }
    Ok(())
}

fn refused(world: &World, evidence: &mut Evidence) -> Result<()> {
    // Another site's CA: a company has several.
    let other = world.run.join("world/other");
    fs_err::create_dir_all(&other)?;
    fs_err::write(other.join("site.toml"), fs_err::read(world.folder().toml())?)?;
    world.site.xtask_for(&other, "certs").capture()?;
    let other = other.join("pki/ca.pem");
    for endpoint in endpoints(world)? {
        for (called, verdict) in shown(world, &endpoint, &other)?.verdicts {
            evidence.holds(
                &format!("{} as {called}, with another CA", endpoint.name),
                "refused",
                format!("{verdict:?}"),
                verdict.is_err(),
            )?;
        }
        let wrong = Endpoint { called: ["mattermost.example.org", "192.168.77.21"].map(str::to_owned).to_vec(), ..endpoint.clone() };
        for (called, verdict) in shown(world, &wrong, &world.folder().ca())?.verdicts {
            evidence.holds(&format!("{} as {called}", endpoint.name), "refused", format!("{verdict:?}"), verdict.is_err())?;
        }
    }
    Ok(())
}

fn new_enough(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    const VERSIONS: [(&str, bool); 3] = [("-tls1_2", true), ("-tls1", false), ("-tls1_1", false)];
    for endpoint in endpoints(world)? {
        let from = if endpoint.start == Start::Postgres { world.lab.server() } else { &client };
        // Side by side: Coturn lets a client wait.
        let said = std::thread::scope(|scope| {
            let asked = VERSIONS.map(|(version, _)| scope.spawn(|| handshake(from, &endpoint, version)));
            asked.map(|asked| asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        for ((version, spoken), said) in VERSIONS.into_iter().zip(said) {
            let (expected, seen) = (format!("spoken: {spoken}"), format!("spoken: {}", agreed(&said)));
            evidence.holds(&format!("{} {version}", endpoint.name), expected, seen, agreed(&said) == spoken)?;
            let sent = !said.contains("no protocols available");
            evidence.holds(&format!("{} {version}: the client tried", endpoint.name), "a handshake", sent, sent)?;
        }
        let again = || agreed(&handshake(from, &endpoint, "-tls1_2")).then_some(());
        lab::wait_for(&format!("{} after that", endpoint.name), Duration::from_secs(20), again, || "no handshake".to_owned());
    }
    Ok(())
}

/// What openssl says of a handshake in one version of TLS.
fn handshake(from: &Namespace, endpoint: &Endpoint, version: &str) -> String {
    let start: &[&str] = if endpoint.start == Start::Postgres { &["-starttls", "postgres"] } else { &[] };
    // The client itself would not speak the old ones otherwise.
    let ask = from.process("openssl").args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", &endpoint.at.to_string()]);
    // Coturn does not end a connection whose handshake it does not like.
    let outcome = ask.args(start).deadline(Duration::from_secs(3)).outcome();
    outcome.map_or_else(|_| "no handshake in time".to_owned(), |outcome| lab::said(&outcome))
}

/// Whether it came to a cipher.
fn agreed(said: &str) -> bool {
    said.contains("Cipher is ") && !said.contains("Cipher is (NONE)")
}

fn verify_full(world: &World, evidence: &mut Evidence) -> Result<()> {
    let secrets = world.inside("mattermost", "/run/secrets")?;
    let mut modes = Vec::new();
    for entry in fs_err::read_dir(secrets)?.flatten() {
        let text = fs_err::read_to_string(entry.path()).unwrap_or_default();
        let mode = text.split(['?', '&', '\n']).find_map(|word| word.strip_prefix("sslmode="));
        modes.extend(mode.filter(|_| text.contains("postgres://")).map(str::to_owned));
    }
    evidence.same("sslmode of Mattermost's connection", vec!["verify-full".to_owned()], modes)?;
    let sessions =
        "SELECT count(*) FILTER (WHERE NOT ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'mattermost'";
    let counted = world.site.sql(sessions)?;
    let (plain, all) = counted.split_once('|').unwrap_or_default();
    evidence.same("sessions without TLS", "0", plain)?;
    evidence.holds("sessions of Mattermost's role", "at least 1", all, all.parse::<u32>().is_ok_and(|all| all > 0))?;
    let at = postgres(world)?;
    let answer = world.lab.server().inside(|| plainly(at))??;
    // 28000, invalid_authorization_specification: no line of pg_hba.conf lets it in (PostgreSQL's documentation, "Message Formats").
    evidence.holds("a connection without TLS", "an error with code 28000", &answer, answer.starts_with('E') && answer.contains("C28000"))
}

/// A start-up message without an SSLRequest before it, and the answer.
fn plainly(at: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let body = b"\x00\x03\x00\x00user\0mattermost\0database\0mattermost\0\0";
    let length = u32::try_from(body.len() + 4).unwrap_or_default().to_be_bytes();
    stream.write_all(&[&length[..], body].concat())?;
    let mut answer = [0; 512];
    let count = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..count]).replace('\0', " "))
}
