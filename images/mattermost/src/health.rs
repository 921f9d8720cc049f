//! The health check. `ping` alone is 200 with the database down; with `get_server_status` it is not.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use entrypoint::{Env, Error, Result, http, tls};

use crate::settings::{ca_file, lookup};

const CHECK: Duration = Duration::from_secs(5);
const PATH: &str = "/api/v4/system/ping?get_server_status=true";

/// Healthy is a server that says so of itself, its database and its file store.
pub fn check(env: &Env) -> Result<()> {
    let listen = lookup(env, "MM_SERVICESETTINGS_LISTENADDRESS");
    let address = address(&listen).ok_or_else(|| Error::settings(format!("MM_SERVICESETTINGS_LISTENADDRESS is not usable: {listen}")))?;
    let secured = match lookup(env, "MM_SERVICESETTINGS_CONNECTIONSECURITY").as_str() {
        "" => false,
        "TLS" => true,
        other => {
            return Err(
                Error::settings(format!("MM_SERVICESETTINGS_CONNECTIONSECURITY is not usable: {other}")).detail("expected TLS or nothing")
            );
        }
    };
    let site = lookup(env, "MM_SERVICESETTINGS_SITEURL");
    let host = host(&site).unwrap_or("localhost").to_owned();
    let roots = ca_file(env);
    env.verdict()?;
    let unhealthy = |what: String| Error::failed(format!("{}://{address}{PATH}: {what}", if secured { "https" } else { "http" }));
    let connection = TcpStream::connect_timeout(&address, CHECK).map_err(|error| unhealthy(error.to_string()))?;
    connection.set_read_timeout(Some(CHECK))?;
    connection.set_write_timeout(Some(CHECK))?;
    let answer = match roots.filter(|_| secured) {
        None => http::get(connection, &host, PATH),
        Some(roots) => tls::client(&roots)
            .and_then(|client| tls::connect(&client, &host, connection))
            .and_then(|secured| http::get(secured, &host, PATH)),
    };
    verdict(&answer.map_err(unhealthy)?).map_err(unhealthy)
}

fn verdict(answer: &http::Answer) -> Result<(), String> {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status == 200 && body["status"] == "OK" {
        return Ok(());
    }
    let states = ["status", "database_status", "filestore_status"].map(|name| format!("{name} {}", body[name]));
    Err(format!("expected 200 and status OK, found {}, {}", answer.status, states.join(", ")))
}

/// The server's own address, seen from inside the container.
fn address(listen: &str) -> Option<SocketAddr> {
    let listen = if listen.is_empty() { ":8065" } else { listen };
    let (host, port) = listen.rsplit_once(':')?;
    let port = port.parse().ok()?;
    match host {
        "" | "0.0.0.0" => Some((Ipv4Addr::LOCALHOST, port).into()),
        "[::]" => Some((Ipv6Addr::LOCALHOST, port).into()),
        host => (host.trim_matches(['[', ']']), port).to_socket_addrs().ok()?.next(),
    }
}

/// The host of a site's address: the name that its certificate has to carry.
fn host(site: &str) -> Option<&str> {
    let rest = site.strip_prefix("https://").or_else(|| site.strip_prefix("http://"))?;
    let authority = rest.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => authority.split(':').next().filter(|host| !host.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_asked_where_it_listens() {
        for (listen, expected) in [
            ("", "127.0.0.1:8065"),
            (":8066", "127.0.0.1:8066"),
            ("0.0.0.0:443", "127.0.0.1:443"),
            ("[::]:8065", "[::1]:8065"),
            ("192.0.2.10:8065", "192.0.2.10:8065"),
            ("[2001:db8::1]:8065", "[2001:db8::1]:8065"),
        ] {
            assert_eq!(address(listen).map(|address| address.to_string()).as_deref(), Some(expected), "{listen}");
        }
        assert_eq!(address("8065"), None);
        assert_eq!(address(":http"), None);
    }

    #[test]
    fn the_certificate_is_asked_for_the_sites_name() {
        for (site, expected) in [
            ("https://chat.example.lan", Some("chat.example.lan")),
            ("https://192.0.2.10:8065/", Some("192.0.2.10")),
            ("https://[2001:db8::1]:8065/sub", Some("2001:db8::1")),
            ("chat.example.lan", None),
            ("", None),
        ] {
            assert_eq!(host(site), expected, "{site}");
        }
    }

    #[test]
    fn an_unhealthy_database_is_told() {
        let answer = |status, body: &str| verdict(&http::Answer { status, body: body.to_owned(), ..http::Answer::default() });
        assert_eq!(answer(200, r#"{"status":"OK","database_status":"OK"}"#), Ok(()));
        let told = answer(500, r#"{"database_status":"UNHEALTHY","filestore_status":"OK","status":"UNHEALTHY"}"#).expect_err("unhealthy");
        assert!(told.contains("found 500") && told.contains("database_status \"UNHEALTHY\""), "{told}");
        for (status, body) in [(200, ""), (200, "<html>"), (200, r#"{"status":"UNHEALTHY"}"#), (500, r#"{"status":"OK"}"#)] {
            assert!(answer(status, body).is_err(), "{status} {body}");
        }
    }
}
