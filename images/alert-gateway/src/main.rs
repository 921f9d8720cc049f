//! The alert gateway, as far as it goes: an HTTP server with a health endpoint. It delivers nothing yet, and every path but
//! `/health` says 404, so that nobody takes it for one that does.
//!
//! # Commands
//! - none: serves until SIGTERM or SIGINT, then finishes the requests that are under way.
//! - `healthcheck`: asks `/health` on this machine; at most 3 s.
//!
//! # Environment
//! | variable | default | meaning |
//! |---|---|---|
//! | `ALERT_GATEWAY_LISTEN` | `0.0.0.0:9443` | address and port of the server |
//!
//! # Exit codes
//! 0 ended by a signal, or healthy · 1 the address cannot be used, or not healthy · 2 settings

mod server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use entrypoint::{Env, Error, Result, http};

const CHECK: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    entrypoint::main("alert-gateway", |arguments| {
        let address = address(&Env::of_process())?;
        match arguments {
            [] => serve(address),
            [verb] if verb == "healthcheck" => healthcheck(address),
            _ => Err(Error::settings("the command line is not usable").detail("expected no argument, or healthcheck")),
        }
    })
}

fn address(env: &Env) -> Result<SocketAddr> {
    let default = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9443));
    let address = env.or("ALERT_GATEWAY_LISTEN", default, "an address and a port, such as 0.0.0.0:9443", |value| value.parse().ok());
    env.verdict()?;
    Ok(address.unwrap_or(default))
}

fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).map_err(|error| Error::failed(format!("listening on {address}: {error}")))?;
    let server = server::Server::new(listener)?;
    // Process 1 of a container has no default handlers: without this, SIGTERM would do nothing.
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    let stop = server.stop();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            stop.now();
        }
    });
    println!("alert-gateway: listening on {address}");
    server.run();
    Ok(())
}

fn healthcheck(address: SocketAddr) -> Result<()> {
    let local = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(local, address.port());
    let unhealthy = |what: String| Error::failed(format!("http://{address}/health: {what}"));
    let connection = TcpStream::connect_timeout(&address, CHECK).map_err(|error| unhealthy(error.to_string()))?;
    connection.set_read_timeout(Some(CHECK))?;
    let answer = http::get(connection, &address.to_string(), "/health").map_err(unhealthy)?;
    if answer.status == 200 && answer.body == server::HEALTHY {
        return Ok(());
    }
    Err(unhealthy(format!("expected 200 and {}, found {} and {:.200}", server::HEALTHY, answer.status, answer.body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_is_refused() {
        assert_eq!(address(&Env::from_iter([("ALERT_GATEWAY_LISTEN", "[::1]:80")])).map(|address| address.port()), Ok(80));
        for bad in ["9443", "localhost:9443", "0.0.0.0:99999"] {
            let error = address(&Env::from_iter([("ALERT_GATEWAY_LISTEN", bad)])).expect_err(bad).to_string();
            assert!(error.contains("ALERT_GATEWAY_LISTEN is not usable") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_running_server_is_healthy_and_a_stopped_one_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = server::Server::new(listener).expect("bound");
        let stop = server.stop();
        let running = std::thread::spawn(move || server.run());
        healthcheck(address).expect("it runs");
        stop.now();
        running.join().expect("it ends");
        assert!(healthcheck(address).is_err());
    }
}
