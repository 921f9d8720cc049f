//! Claims about the alert gateway under Docker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use images::Result;

use crate::claims::Claim;
use crate::docker::{Container, Network, loaded};
use crate::world::World;

/// The claims.
pub const CLAIMS: &[Claim] = &[Claim {
    name: "alert_gateway::it_serves_without_any_secret_as_an_account_without_rights_and_ends_at_once",
    needs: &[],
    root: true,
    engine: true,
    proves: serves,
}];

fn serves(world: &World) -> Result<()> {
    let image = loaded(world, "alert-gateway")?;
    let network = Network::new(world)?;
    let address = network.address(2).to_string();
    let gateway = Container::run(world, &image.name, &["--network", network.name(), "--ip", &address, "--env", "ALERT_GATEWAY_TLS=off"])?;
    gateway.wait_until_healthy()?;
    assert_eq!(gateway.user_and_capabilities()?, (2002, "0000000000000000".to_owned()));
    assert_eq!(gateway.listens_on()?, ["tcp/9443"]);

    let health = get(&address, "/health");
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
    for told in ["\"status\":\"ok\"", "\"sonarqube\":\"no secret\"", "\"alertmanager\":\"no secret\"", "\"waiting\":0"] {
        assert!(health.contains(told), "{told} is not in {health}");
    }
    for path in ["/", "/health/", "/sonarqube/"] {
        assert!(get(&address, path).starts_with("HTTP/1.1 404 "), "{path}");
    }

    let start = Instant::now();
    gateway.docker("stop --time 20").capture()?;
    assert!(start.elapsed() < Duration::from_secs(5), "SIGTERM took {:?}", start.elapsed());
    assert_eq!(gateway.inspect()?["State"]["ExitCode"], 0, "{}", gateway.logs());
    Ok(())
}

fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect((address, 9443)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}
