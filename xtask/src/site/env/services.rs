//! Coturn, PostgreSQL and the alert gateway.

use images::{Class, Error};

use super::{ServiceEnv, secret};
use crate::provision::{Tool, webhook_url};
use crate::site::model::Site;
use crate::site::secrets::{Name, Secret, Secrets};

pub(super) fn coturn(site: &Site, secrets: &Secrets, problems: &mut Vec<Error>) -> ServiceEnv {
    let mut env = ServiceEnv::default();
    let Some(lan) = site.media_address().map(|lan| lan.to_string()) else {
        problems
            .push(Error::new(Class::Usage, "calls need an IPv4 address").detail("expected one among `addresses`, found IPv6 ones only"));
        return env;
    };
    let ports = &site.ports;
    env.section(
        "The machine's own address, never guessed; media is relayed to the Calls server there, and to nobody else",
        &[("COTURN_LISTENING_IP", &lan), ("COTURN_ALLOWED_PEER_IP", &lan), ("COTURN_REALM", site.name.as_str())],
    );
    env.section(
        "Ports",
        &[
            ("COTURN_LISTENING_PORT", &ports.turn.to_string()),
            ("COTURN_TLS", "on"),
            ("COTURN_TLS_LISTENING_PORT", &ports.turns.to_string()),
            ("COTURN_MIN_PORT", &ports.relay.0.to_string()),
            ("COTURN_MAX_PORT", &ports.relay.1.to_string()),
        ],
    );
    env.section(
        "Limits",
        &[("COTURN_USER_QUOTA", &site.coturn.user_quota.to_string()), ("COTURN_MAX_BPS", &site.coturn.max_bps.to_string())],
    );
    env.secret_files.insert("turn", Secret::new(secret(secrets, Name::TurnSecret, problems)));
    env
}

/// None where the database is another's.
pub(super) fn postgres(site: &Site, secrets: &Secrets, problems: &mut Vec<Error>) -> Option<ServiceEnv> {
    if site.database.external.is_some() {
        return None;
    }
    let mut env = ServiceEnv::default();
    let settings = [("POSTGRES_ROLE", site.database.role.as_str()), ("POSTGRES_DB", site.database.name.as_str())];
    env.section("The role, and the database that it owns", &settings);
    env.secret_files.insert("postgres", Secret::new(secret(secrets, Name::DatabasePassword, problems)));
    Some(env)
}

pub(super) fn alert_gateway(site: &Site, secrets: &Secrets, problems: &mut Vec<Error>) -> ServiceEnv {
    let mut env = ServiceEnv::default();
    env.section("Where SonarQube sends to", &[("ALERT_GATEWAY_LISTEN", &format!("0.0.0.0:{}", site.ports.alert_gateway))]);
    if site.ports.redirect_http.is_some() {
        let listen = format!("0.0.0.0:{}", site.ports.redirect_inside());
        env.section(
            "Browsers that come over HTTP are sent on",
            &[("ALERT_GATEWAY_REDIRECT_LISTEN", &listen), ("ALERT_GATEWAY_REDIRECT_TO", &site.url())],
        );
    }
    if let Some(sonarqube) = &site.sonarqube {
        env.section(
            "Asked for alerts that never arrived, with the token in secrets.env",
            &[
                ("ALERT_GATEWAY_SONARQUBE_URL", sonarqube.url.as_str()),
                ("ALERT_GATEWAY_SONARQUBE_PERIOD", &sonarqube.ask_every.to_string()),
            ],
        );
        let token = secrets.get(Name::SonarqubeToken);
        env.secret_files.extend(token.map(|token| ("sonarqube-token", Secret::new(token.expose()))));
        env.secret_files.insert("sonarqube", Secret::new(secret(secrets, Name::SonarqubeSecret, problems)));
        // Provisioning makes the webhook, after the first start: until then the gateway keeps what comes.
        let hook = webhook_url(secrets, Tool::Sonarqube, &sonarqube.channel);
        env.secret_files.extend(hook.and_then(|url| inside(site, url.expose())).map(|url| ("sonarqube-webhook", url)));
    }
    // Alertmanager has no part in site.toml: somebody makes its token and its webhook, and writes both into secrets.env.
    env.secret_files.extend(secrets.other("ALERTMANAGER_TOKEN").map(|token| ("alertmanager", token)));
    let hook = secrets.other("ALERTMANAGER_WEBHOOK_URL").and_then(|url| inside(site, url.expose()));
    env.secret_files.extend(hook.map(|url| ("alertmanager-webhook", url)));
    env
}

/// A webhook's address as another container of the stack reaches it: under the site's name, an alias there, whatever the LAN's name
/// server knows and whether or not a reverse proxy stands before it.
fn inside(site: &Site, url: &str) -> Option<Secret> {
    let (_, rest) = url.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    Some(Secret::new(format!("{}/{path}", site.own_url())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::parse;

    #[test]
    fn the_gateway_sends_browsers_on_where_the_site_has_a_port_for_them() {
        let read = |ports: &str| {
            let text = format!("format = 1\naddresses = [\"192.168.1.20\"]\n[ports]\n{ports}");
            let site = parse("site.toml", &text, || unreachable!()).expect("a site");
            let env = alert_gateway(&site, &Secrets::default(), &mut Vec::new());
            env.settings().filter(|(name, _)| name.contains("REDIRECT")).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(read("redirect-http = 80"), ["0.0.0.0:10080", "https://mattermost.cicd.local:8065"]);
        assert_eq!(read("redirect-http = 80\nalert-gateway = 10080")[0], "0.0.0.0:10081");
        assert!(read("").is_empty());
    }

    #[test]
    fn the_gateway_gets_its_webhook_once_it_was_made() {
        let text = "format = 1\naddresses = [\"192.168.1.20\"]\n[ports]\nmattermost = 8443\n[network]\nfront = \"https://chat.example.lan/\"\n\
                    [sonarqube]\nurl = \"http://192.168.1.9:9000\"\n";
        let site = parse("site.toml", text, || unreachable!()).expect("a site");
        let name =
            crate::provision::Desired::of(&site).webhooks.iter().map(crate::provision::Webhook::secret_name).next().expect("a webhook");
        let mut problems = Vec::new();
        let secrets = Secrets::parse("SONARQUBE_WEBHOOK_SECRET=sonarqube-secret-of-the-test\n", "secrets.env").expect("good");
        assert!(!alert_gateway(&site, &secrets, &mut problems).secret_files().contains_key("sonarqube-webhook"));
        let made = format!("SONARQUBE_WEBHOOK_SECRET=sonarqube-secret-of-the-test\n{name}=https://chat.example.lan/hooks/the-id\n");
        let secrets = Secrets::parse(&format!("{made}SONARQUBE_TOKEN=squ_0123456789\n"), "secrets.env").expect("good");
        let files = alert_gateway(&site, &secrets, &mut problems).secret_files();
        assert_eq!(files["sonarqube-webhook"].expose(), "https://mattermost.cicd.local:8443/hooks/the-id");
        assert_eq!(files["sonarqube-token"].expose(), "squ_0123456789");
        assert!(!files.contains_key("alertmanager"));
        let other = "ALERTMANAGER_TOKEN=token-of-alertmanager\nALERTMANAGER_WEBHOOK_URL=https://chat.example.lan/hooks/another-id\n";
        let files = alert_gateway(&site, &Secrets::parse(&(made + other), "secrets.env").expect("good"), &mut problems).secret_files();
        assert_eq!(files["alertmanager"].expose(), "token-of-alertmanager");
        assert_eq!(files["alertmanager-webhook"].expose(), "https://mattermost.cicd.local:8443/hooks/another-id");
        assert!(problems.is_empty());
    }
}
