//! The settings; the table at the top of the program tells them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use entrypoint::address::Address;
use entrypoint::env::on_off;
use entrypoint::{Env, Error, Result};

use crate::redirect;
use crate::source::Source;
use crate::spool::Wanted;

/// All of them.
#[derive(Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub tls: bool,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
    pub spool: PathBuf,
    pub queue: usize,
    pub events: Wanted,
    /// Of each source the file with its secret, and that with the address of its webhook.
    pub secrets: BTreeMap<Source, PathBuf>,
    pub webhooks: BTreeMap<Source, PathBuf>,
    /// SonarQube's own address, the file with a token for it, and how often it is asked.
    pub sonarqube_url: Option<String>,
    pub sonarqube_token: PathBuf,
    pub sonarqube_period: Duration,
    /// Where browsers are sent on from, and where to.
    pub redirect: Option<(SocketAddr, String)>,
}

const KNOWN: [&str; 17] = [
    "ALERT_GATEWAY_LISTEN",
    "ALERT_GATEWAY_TLS",
    "ALERT_GATEWAY_TLS_CERT_FILE",
    "ALERT_GATEWAY_TLS_KEY_FILE",
    "ALERT_GATEWAY_CA_FILE",
    "ALERT_GATEWAY_SPOOL",
    "ALERT_GATEWAY_QUEUE",
    "ALERT_GATEWAY_EVENTS",
    "ALERT_GATEWAY_ALERTMANAGER_SECRET_FILE",
    "ALERT_GATEWAY_ALERTMANAGER_WEBHOOK_FILE",
    "ALERT_GATEWAY_SONARQUBE_SECRET_FILE",
    "ALERT_GATEWAY_SONARQUBE_WEBHOOK_FILE",
    "ALERT_GATEWAY_SONARQUBE_URL",
    "ALERT_GATEWAY_SONARQUBE_TOKEN_FILE",
    "ALERT_GATEWAY_SONARQUBE_PERIOD",
    "ALERT_GATEWAY_REDIRECT_LISTEN",
    "ALERT_GATEWAY_REDIRECT_TO",
];

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// Everything that is not usable, at once.
    pub fn read(env: &Env) -> Result<Self> {
        env.refuse_unknown("ALERT_GATEWAY_", &KNOWN);
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9443));
        let wanted = |word: &str| match word {
            "all" => Some(Wanted::All),
            "changes" => Some(Wanted::Changes),
            "failures" => Some(Wanted::Failures),
            _ => None,
        };
        let positive = |value: &str| value.parse().ok().filter(|count| *count > 0);
        // All are read before the verdict, so that every mistake is told at once.
        let address = "an address and a port, such as 0.0.0.0:9443";
        let listen = env.or("ALERT_GATEWAY_LISTEN", any, address, |value| value.parse().ok());
        let tls = env.or("ALERT_GATEWAY_TLS", true, "on or off", on_off);
        let cert = env.path("ALERT_GATEWAY_TLS_CERT_FILE", "/run/secrets/alert-gateway-cert.pem");
        let key = env.path("ALERT_GATEWAY_TLS_KEY_FILE", "/run/secrets/alert-gateway-key.pem");
        let ca = env.path("ALERT_GATEWAY_CA_FILE", "/etc/ssl/certs/ca-certificates.crt");
        let spool = env.path("ALERT_GATEWAY_SPOOL", "/var/lib/alert-gateway");
        let queue = env.or("ALERT_GATEWAY_QUEUE", 50_000, "a number above 0", positive);
        let events = env.or("ALERT_GATEWAY_EVENTS", Wanted::All, "all, changes or failures", wanted);
        let files = |what: &str, behind: &str| -> Option<BTreeMap<Source, PathBuf>> {
            let path = |source: Source| {
                let setting = format!("ALERT_GATEWAY_{}_{what}_FILE", source.name().to_uppercase());
                Some((source, env.path(&setting, &format!("/run/secrets/{}{behind}", source.name()))?))
            };
            Source::ALL.into_iter().map(path).collect()
        };
        let (secrets, webhooks) = (files("SECRET", ""), files("WEBHOOK", "-webhook"));
        let url = "an address such as https://sonarqube.cicd.local";
        let sonarqube_url = env.optional("ALERT_GATEWAY_SONARQUBE_URL", url, |value| {
            let value = value.trim_end_matches('/');
            Address::parse(&format!("{value}/")).map(|_| value.to_owned())
        });
        let sonarqube_token = env.path("ALERT_GATEWAY_SONARQUBE_TOKEN_FILE", "/run/secrets/sonarqube-token");
        let minute = |value: &str| value.parse().ok().filter(|seconds| *seconds >= 10).map(Duration::from_secs);
        let sonarqube_period = env.or("ALERT_GATEWAY_SONARQUBE_PERIOD", Duration::from_secs(300), "seconds, 10 or more", minute);
        let from = env.optional("ALERT_GATEWAY_REDIRECT_LISTEN", address, |value| value.parse().ok());
        let to = env.optional("ALERT_GATEWAY_REDIRECT_TO", "an address such as https://mattermost.cicd.local:8065", redirect::target);
        if from.is_some() != to.is_some() {
            env.refuse(Error::settings("ALERT_GATEWAY_REDIRECT_LISTEN and ALERT_GATEWAY_REDIRECT_TO are of use together only"));
        }
        env.verdict()?;
        let settings = (|| {
            Some(Settings {
                listen: listen?,
                tls: tls?,
                cert: cert?,
                key: key?,
                ca: ca?,
                spool: spool?,
                queue: queue?,
                events: events?,
                secrets: secrets?,
                webhooks: webhooks?,
                sonarqube_url,
                sonarqube_token: sonarqube_token?,
                sonarqube_period: sonarqube_period?,
                redirect: from.zip(to),
            })
        })();
        settings.ok_or_else(|| Error::settings("the settings are not usable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_setting_is_refused_by_name() {
        let listen = |address| Settings::read(&Env::from_iter([("ALERT_GATEWAY_LISTEN", address)])).map(|settings| settings.listen.port());
        assert_eq!(listen("[::1]:80"), Ok(80));
        for (name, bad) in [
            ("ALERT_GATEWAY_LISTEN", "9443"),
            ("ALERT_GATEWAY_LISTEN", "localhost:9443"),
            ("ALERT_GATEWAY_LISTEN", "0.0.0.0:99999"),
            ("ALERT_GATEWAY_TLS", "yes"),
            ("ALERT_GATEWAY_QUEUE", "0"),
            ("ALERT_GATEWAY_EVENTS", "some"),
            ("ALERT_GATEWAY_SPOOL", "var"),
            ("ALERT_GATEWAY_REDIRECT_TO", "http://chat.lan"),
            ("ALERT_GATEWAY_SONARQUBE_URL", "sonarqube.lan"),
            ("ALERT_GATEWAY_SONARQUBE_PERIOD", "1"),
        ] {
            let error = Settings::read(&Env::from_iter([(name, bad)])).expect_err(bad).to_string();
            assert!(error.contains(&format!("{name} is not usable")) && error.contains(bad), "{error}");
        }
        let error = Settings::read(&Env::from_iter([("ALERT_GATEWAY_TSL", "off")])).expect_err("misspelt").to_string();
        assert!(error.contains("did you mean ALERT_GATEWAY_TLS?"), "{error}");
    }

    #[test]
    fn a_redirect_has_two_ends() {
        let read = |list: &[(&str, &str)]| Settings::read(&Env::from_iter(list.iter().copied())).map(|settings| settings.redirect);
        let (from, to) = (("ALERT_GATEWAY_REDIRECT_LISTEN", "0.0.0.0:10080"), ("ALERT_GATEWAY_REDIRECT_TO", "https://chat.lan:8065"));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[from, to]), Ok(Some((SocketAddr::from((Ipv4Addr::UNSPECIFIED, 10080)), "https://chat.lan:8065".to_owned()))));
        for one in [from, to] {
            assert!(read(&[one]).expect_err("half a redirect").to_string().contains("of use together only"));
        }
    }

    /// The table is what people read, and what the site's settings are compared with.
    #[test]
    fn every_setting_is_in_the_table() {
        let told = include_str!("main.rs");
        for name in KNOWN {
            assert!(told.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
