//! The alert gateway: takes webhooks that Mattermost does not understand, SonarQube's and Alertmanager's, to a channel.
//!
//! What it has said 200 to is on disk and is posted at least once; twice only if it was killed, or the connection ended, between
//! Mattermost's acceptance and the note of it. The same event is posted once in 30 days. `docs/alerts.md` says more.
//!
//! # Commands
//! - none: serves until SIGTERM or SIGINT, then finishes the requests and the post that are under way.
//! - `healthcheck`: asks `/health` on this machine; at most 3 s.
//! - `dead-letters`: lists what Mattermost refused for good.
//! - `replay`: has all of those tried again.
//!
//! The two ask the gateway that runs, at the socket `control` in its folder; where none runs, they open the folder themselves.
//!
//! # Environment
//! | variable | default | meaning |
//! |---|---|---|
//! | `ALERT_GATEWAY_LISTEN` | `0.0.0.0:9443` | address and port of the server |
//! | `ALERT_GATEWAY_TLS` | `on` | `off`: plain HTTP, behind something that speaks TLS |
//! | `ALERT_GATEWAY_TLS_CERT_FILE` | `/run/secrets/alert-gateway-cert.pem` | its certificate and those above it, PEM |
//! | `ALERT_GATEWAY_TLS_KEY_FILE` | `/run/secrets/alert-gateway-key.pem` | its key, PEM, mode 0400 or 0600 |
//! | `ALERT_GATEWAY_CA_FILE` | `/etc/ssl/certs/ca-certificates.crt` | whom it believes: Mattermost's certificate, and its own in `healthcheck` |
//! | `ALERT_GATEWAY_SPOOL` | `/var/lib/alert-gateway` | the folder of alerts that wait, of dead letters, and of what was posted |
//! | `ALERT_GATEWAY_QUEUE` | `50000` | alerts that may wait; one more gets 503 |
//! | `ALERT_GATEWAY_EVENTS` | `all` | `changes`: failures and the first success after one; `failures`: these alone |
//! | `ALERT_GATEWAY_SONARQUBE_SECRET_FILE` | `/run/secrets/sonarqube` | what SonarQube signs with, at least 16 characters; without the file `/sonarqube` is 404 |
//! | `ALERT_GATEWAY_SONARQUBE_WEBHOOK_FILE` | `/run/secrets/sonarqube-webhook` | address of Mattermost's incoming webhook, read at each post; alerts are kept until the file is there |
//! | `ALERT_GATEWAY_ALERTMANAGER_SECRET_FILE` | `/run/secrets/alertmanager` | Alertmanager's token, at least 16 characters; without the file `/alertmanager` is 404 |
//! | `ALERT_GATEWAY_ALERTMANAGER_WEBHOOK_FILE` | `/run/secrets/alertmanager-webhook` | as SonarQube's |
//! | `ALERT_GATEWAY_SONARQUBE_URL` | none | SonarQube's address, to ask it for alerts that never arrived |
//! | `ALERT_GATEWAY_SONARQUBE_TOKEN_FILE` | `/run/secrets/sonarqube-token` | a token of an account that may browse the projects; without the file SonarQube is not asked |
//! | `ALERT_GATEWAY_SONARQUBE_PERIOD` | `300` | seconds between two rounds; a lost alert is made good after two |
//! | `ALERT_GATEWAY_REDIRECT_LISTEN` | none | address and port of a second server, plain HTTP, that sends browsers on |
//! | `ALERT_GATEWAY_REDIRECT_TO` | none | where to: `https://HOST[:PORT]`; the path is kept |
//!
//! # Paths
//! `POST /sonarqube` (signed), `POST /alertmanager` (with the token), `GET /health`, `GET /metrics` (Prometheus).
//!
//! # Exit codes
//! 0 ended by a signal, or healthy · 1 the address, the folder or a certificate cannot be used, or not healthy · 2 settings

mod alert;
mod alertmanager;
mod certificate;
mod delivery;
mod gateway;
mod markdown;
mod post;
mod reconcile;
mod redirect;
mod server;
mod settings;
mod sonarqube;
mod source;
mod spool;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use entrypoint::{Env, Error, Result, http, secret, tls};

use settings::Settings;
use source::Source;

const CHECK: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    entrypoint::main("alert-gateway", |arguments| {
        let settings = Settings::read(&Env::of_process())?;
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => serve(&settings),
            ["healthcheck"] => healthcheck(&settings),
            ["dead-letters"] => {
                spool::dead_letters(&settings.spool)?.iter().for_each(|(number, summary)| println!("{number} {summary}"));
                Ok(())
            }
            ["replay"] => {
                println!("{} dead letters are tried again", spool::replay(&settings.spool)?);
                Ok(())
            }
            _ => Err(Error::settings("the command line is not usable").detail("expected nothing, healthcheck, dead-letters or replay")),
        }
    })
}

fn serve(settings: &Settings) -> Result<()> {
    let server_tls = settings.tls.then(|| {
        secret::check_tls_pair(("ALERT_GATEWAY_TLS_CERT_FILE", &settings.cert), ("ALERT_GATEWAY_TLS_KEY_FILE", &settings.key))?;
        tls::server(&settings.cert, &settings.key).map_err(Error::failed)
    });
    let server_tls = server_tls.transpose()?;
    let certificate = settings.tls.then(|| certificate::end(&settings.cert)).flatten();
    let mut secrets = BTreeMap::new();
    for (source, file) in &settings.secrets {
        match file.exists() {
            true => _ = secrets.insert(*source, secret::read_value(file, 16)?),
            false => println!("alert-gateway: {} is not there: nothing is taken from {}", file.display(), source.name()),
        }
    }
    let client = tls::client(&settings.ca).map_err(Error::failed)?;
    let mattermost = Arc::new(post::Mattermost { files: settings.webhooks.clone(), client });
    for (source, file) in settings.webhooks.iter().filter(|(source, _)| secrets.contains_key(source) && !mattermost.is_known(**source)) {
        println!("alert-gateway: {} is not there: alerts of {} are kept until it is", file.display(), source.name());
    }
    let spool = Arc::new(spool::Spool::open(&settings.spool, settings.events, settings.queue)?);
    let control = spool::Control::open(&settings.spool)?;
    let delivered = Arc::new(delivery::Counts::default());
    let reconciled = Arc::new(reconcile::Counts::default());
    let asked = settings.sonarqube_url.clone().filter(|_| settings.sonarqube_token.exists());
    let asked =
        asked.map(|url| reconcile::Sonarqube { url, token: settings.sonarqube_token.clone(), client: Arc::clone(&mattermost.client) });
    match &asked {
        Some(sonarqube) => println!("alert-gateway: {} is asked for what never arrived", sonarqube.url),
        None if secrets.contains_key(&Source::Sonarqube) => {
            println!("alert-gateway: no token for SonarQube: what it never sends is not made good")
        }
        None => {}
    }
    let gateway = gateway::Gateway {
        secrets,
        certificate,
        spool: Arc::clone(&spool),
        mattermost: Arc::clone(&mattermost),
        delivered: Arc::clone(&delivered),
        reconciled: asked.is_some().then(|| Arc::clone(&reconciled)),
        taken: gateway::Taken::default(),
    };
    let listener =
        TcpListener::bind(settings.listen).map_err(|error| Error::failed(format!("listening on {}: {error}", settings.listen)))?;
    let server = server::Server::new(listener, server_tls, Arc::new(gateway))?;
    let redirect = settings.redirect.as_ref().map(|(from, to)| redirect_server(*from, to)).transpose()?;
    stop_at_signal(std::iter::once(server.stop()).chain(redirect.as_ref().map(server::Server::stop)).collect())?;
    println!("alert-gateway: listening on {}, {} alerts wait", settings.listen, spool.status().waiting);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        redirect.map(|redirect| scope.spawn(move || redirect.run()));
        asked.map(|sonarqube| {
            let (spool, counts, stop) = (&spool, &reconciled, &stop);
            scope.spawn(move || reconcile::run(spool, &sonarqube, settings.sonarqube_period, counts, stop))
        });
        scope.spawn(|| control.run(&spool, &stop));
        scope.spawn(|| delivery::run(&spool, &mattermost, &delivery::Pace::default(), &delivered, &stop));
        server.run();
        stop.store(true, Ordering::SeqCst);
        spool.wake();
        control.wake();
    });
    Ok(())
}

fn redirect_server(from: SocketAddr, to: &str) -> Result<server::Server> {
    let listener = TcpListener::bind(from).map_err(|error| Error::failed(format!("listening on {from}: {error}")))?;
    println!("alert-gateway: browsers that come to {from} are sent on to {to}");
    Ok(server::Server::new(listener, None, Arc::new(redirect::Redirect { to: to.to_owned() }))?)
}

/// Process 1 of a container has no default handlers: without this, SIGTERM would do nothing.
fn stop_at_signal(servers: Vec<server::Stop>) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            servers.iter().for_each(server::Stop::now);
        }
    });
    Ok(())
}

fn healthcheck(settings: &Settings) -> Result<()> {
    let local = match settings.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(local, settings.listen.port());
    let unhealthy = |what: String| Error::failed(format!("/health at {address}: {what}"));
    let end = Instant::now() + CHECK;
    let connection = TcpStream::connect_timeout(&address, CHECK).map_err(|error| unhealthy(error.to_string()))?;
    let connection = http::Until::new(connection, end);
    let answer = match settings.tls {
        false => http::get(connection, &address.to_string(), "/health"),
        // The site's certificates name loopback and localhost for whoever asks on the same machine.
        true => tls::client(&settings.ca)
            .and_then(|client| tls::connect(&client, &local.to_string(), connection))
            .and_then(|secured| http::get(secured, &address.to_string(), "/health")),
    };
    match answer.map_err(unhealthy)? {
        answer if answer.status == 200 => Ok(()),
        answer => Err(unhealthy(format!("expected 200, found {} and {:.200}", answer.status, answer.body))),
    }
}

#[cfg(test)]
mod tests;
