//! The environment → [`Settings`] → `turnserver.conf`.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use entrypoint::env::on_off;
use entrypoint::{Env, Error, Result, Secret, secret};

const KNOWN: [&str; 17] = [
    "COTURN_ALLOWED_PEER_IP",
    "COTURN_CONF",
    "COTURN_EXTERNAL_IP",
    "COTURN_LISTENING_IP",
    "COTURN_LISTENING_PORT",
    "COTURN_MAX_BPS",
    "COTURN_MAX_PORT",
    "COTURN_MIN_PORT",
    "COTURN_REALM",
    "COTURN_RELAY_IP",
    "COTURN_SECRET_FILE",
    "COTURN_TLS",
    "COTURN_TLS_CERT_FILE",
    "COTURN_TLS_KEY_FILE",
    "COTURN_TLS_LISTENING_PORT",
    "COTURN_TOTAL_QUOTA",
    "COTURN_USER_QUOTA",
];

/// What coturn is started with, checked.
#[derive(Debug, PartialEq)]
pub struct Settings {
    listening: SocketAddrV4,
    relay_ip: Ipv4Addr,
    external_ip: Option<String>,
    allowed_peers: Vec<Ipv4Addr>,
    realm: String,
    tls: Option<Tls>,
    ports: (u16, u16),
    user_quota: u32,
    total_quota: u32,
    max_bps: u32,
    secret_file: PathBuf,
    /// Where the configuration is written.
    pub conf: PathBuf,
}

#[derive(Debug, PartialEq)]
struct Tls {
    port: u16,
    cert: PathBuf,
    key: PathBuf,
}

fn host_address(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().filter(|ip: &Ipv4Addr| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast())
}

/// coturn's hard rule comes before every list: no loopback peer. Allowing one would look as if it worked.
fn peer_address(text: &str) -> Option<Ipv4Addr> {
    host_address(text).filter(|ip| !ip.is_loopback())
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

fn whole(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != 0)
}

fn is_realm(text: &str) -> bool {
    text.len() <= 127 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}

fn external(text: &str) -> Option<(Ipv4Addr, Option<Ipv4Addr>)> {
    match text.split_once('/') {
        Some((public, private)) => Some((host_address(public)?, Some(host_address(private)?))),
        None => Some((host_address(text)?, None)),
    }
}

impl Settings {
    /// Where coturn listens: all that the health check needs.
    pub fn listening(env: &Env) -> Result<SocketAddrV4> {
        let address = Self::listening_parts(env);
        env.verdict()?;
        address.ok_or_else(|| Error::settings("COTURN_LISTENING_IP is not usable"))
    }

    fn listening_parts(env: &Env) -> Option<SocketAddrV4> {
        let ip = env.required("COTURN_LISTENING_IP", "one IPv4 address of this machine, such as 192.0.2.10", host_address);
        let port = env.or("COTURN_LISTENING_PORT", 3478, "a port", port);
        Some(SocketAddrV4::new(ip?, port?))
    }

    /// Reads and checks all settings; the error tells everything that is wrong.
    pub fn read(env: &Env) -> Result<Self> {
        env.refuse_unknown("COTURN_", &KNOWN);
        let settings = Self::parse(env);
        env.verdict()?;
        let settings = settings.ok_or_else(|| Error::settings("the settings are not complete"))?;
        settings.check(env);
        env.verdict()?;
        Ok(settings)
    }

    /// Every setting is read before any is missed, so that all mistakes are told.
    fn parse(env: &Env) -> Option<Self> {
        let listening = Self::listening_parts(env);
        let relay_ip = env.optional("COTURN_RELAY_IP", "one IPv4 address of this machine", host_address);
        env.optional("COTURN_EXTERNAL_IP", "an IPv4 address, or public/private", external);
        let peers = |text: &str| text.split(',').map(|ip| peer_address(ip.trim())).collect::<Option<Vec<_>>>();
        let expected = "the IPv4 addresses of the Calls server, separated by commas; loopback is never relayed to";
        let allowed_peers = env.required("COTURN_ALLOWED_PEER_IP", expected, peers);
        let realm = |text: &str| is_realm(text).then(|| text.to_owned());
        let realm = env.required("COTURN_REALM", "a name of letters, digits, dots and hyphens", realm);
        let tls = env.or("COTURN_TLS", false, "on or off", on_off);
        let tls_port = env.or("COTURN_TLS_LISTENING_PORT", 5349, "a port", port);
        let cert = env.path("COTURN_TLS_CERT_FILE", "/run/secrets/turn-cert.pem");
        let key = env.path("COTURN_TLS_KEY_FILE", "/run/secrets/turn-key.pem");
        let min = env.or("COTURN_MIN_PORT", 49160, "a port", port);
        let max = env.or("COTURN_MAX_PORT", 49200, "a port", port);
        let user_quota = env.or("COTURN_USER_QUOTA", 12, "a whole number from 1", whole);
        let total_quota = env.optional("COTURN_TOTAL_QUOTA", "a whole number from 1", whole);
        let max_bps = env.or("COTURN_MAX_BPS", 1_000_000, "bytes per second, a whole number from 1", whole);
        let secret_file = env.path("COTURN_SECRET_FILE", "/run/secrets/turn");
        let conf = env.path("COTURN_CONF", "/run/coturn/turnserver.conf");
        let (listening, min, max) = (listening?, min?, max?);
        Some(Settings {
            listening,
            relay_ip: relay_ip.unwrap_or(*listening.ip()),
            external_ip: env.text("COTURN_EXTERNAL_IP").map(str::to_owned),
            allowed_peers: allowed_peers?,
            realm: realm?,
            tls: if tls? { Some(Tls { port: tls_port?, cert: cert?, key: key? }) } else { None },
            ports: (min, max),
            user_quota: user_quota?,
            total_quota: total_quota.unwrap_or(u32::from(max.saturating_sub(min)) + 1),
            max_bps: max_bps?,
            secret_file: secret_file?,
            conf: conf?,
        })
    }

    /// What is wrong only together.
    fn check(&self, env: &Env) {
        let (min, max) = self.ports;
        let refuse = |name: &str, expected: &str, found: String| {
            env.refuse(
                Error::settings(format!("{name} is not usable")).detail(format!("expected {expected}")).detail(format!("found {found}")),
            );
        };
        if min > max {
            refuse("COTURN_MAX_PORT", "at least COTURN_MIN_PORT", format!("{min}-{max}"));
        }
        let tls_port = self.tls.as_ref().map(|tls| tls.port);
        for own in [Some(self.listening.port()), tls_port].into_iter().flatten().filter(|own| (min..=max).contains(own)) {
            refuse("COTURN_MIN_PORT", "relay ports that hold no listening port", format!("{own} within {min}-{max}"));
        }
        if tls_port == Some(self.listening.port()) {
            refuse("COTURN_TLS_LISTENING_PORT", "another port than COTURN_LISTENING_PORT", self.listening.port().to_string());
        }
        let private = self.external_ip.as_deref().and_then(external).and_then(|(_, private)| private);
        if let Some(private) = private.filter(|ip| ip != self.listening.ip() && *ip != self.relay_ip) {
            refuse("COTURN_EXTERNAL_IP", "the listening or the relay address after the slash", private.to_string());
        }
    }

    /// The shared secret. coturn reads it from a line of its configuration, so only characters without meaning there are taken.
    pub fn secret(&self) -> Result<Secret> {
        let value = secret::read_value(&self.secret_file, 16)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '+' | '/' | '=' | '-');
        if !value.expose().chars().all(plain) {
            return Err(Error::settings(format!("{} does not hold a usable secret", self.secret_file.display()))
                .detail("expected 16 or more of A-Z a-z 0-9 . _ ~ + / = -")
                .detail("found another character"));
        }
        Ok(value)
    }

    /// coturn starts without TLS where it cannot use the files, so they are looked at before.
    pub fn check_tls_files(&self) -> Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        secret::check_tls_pair(("COTURN_TLS_CERT_FILE", &tls.cert), ("COTURN_TLS_KEY_FILE", &tls.key))
    }

    /// `turnserver.conf` in the words of coturn 4.6.1. It skips an option that it does not know, says "Bad configuration format"
    /// and keeps running, so a test hands this to the real program.
    pub fn render(&self, secret: &Secret) -> String {
        let mut conf = String::new();
        let mut line = |text: &str| _ = writeln!(conf, "{text}");
        line(&format!("listening-ip={}", self.listening.ip()));
        line(&format!("listening-port={}", self.listening.port()));
        line(&format!("relay-ip={}", self.relay_ip));
        self.external_ip.iter().for_each(|ip| line(&format!("external-ip={ip}")));
        line(&format!("min-port={}\nmax-port={}", self.ports.0, self.ports.1));
        line("allocation-default-address-family=ipv4");
        match &self.tls {
            Some(tls) => {
                line(&format!("tls-listening-port={}\ncert={}\npkey={}", tls.port, tls.cert.display(), tls.key.display()));
                line("no-tlsv1\nno-tlsv1_1");
            }
            None => line("no-tls"),
        }
        line("no-dtls");
        line(&format!("realm={}", self.realm));
        // Time-limited credentials (REST API, draft-uberti-behave-turn-rest-00). It implies lt-cred-mech; both are not to be set.
        line(&format!("use-auth-secret\nstatic-auth-secret={}", secret.expose()));
        line("stale-nonce=600\nfingerprint");
        // Deny everything, then allow. All of ::/0 as well: 4.6.1 takes ::ffff:127.0.0.1 for a peer that no IPv4 rule covers.
        line("denied-peer-ip=0.0.0.0-255.255.255.255");
        line("denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        self.allowed_peers.iter().for_each(|ip| line(&format!("allowed-peer-ip={ip}")));
        line("no-multicast-peers\nno-tcp-relay");
        line(&format!("user-quota={}\ntotal-quota={}\nmax-bps={}", self.user_quota, self.total_quota, self.max_bps));
        // The database could add secrets, realms and peers: it lies in a tmpfs and is not asked for the latter two.
        let folder = self.conf.parent().unwrap_or(Path::new("/run/coturn")).display();
        line(&format!("userdb={folder}/turndb\npidfile={folder}/turnserver.pid"));
        line("no-dynamic-ip-list\nno-dynamic-realms");
        // Nothing but STUN Binding and TURN: no second address, no answers to old clients that are larger than their questions.
        line("no-cli\nno-rfc5780\nno-stun-backward-compatibility\nresponse-origin-only-with-rfc5780\nno-software-attribute");
        line("log-file=stdout\nsimple-log\nnew-log-timestamp");
        conf
    }
}

#[cfg(test)]
mod tests;
