//! Coturn, PostgreSQL and the alert gateway.

use images::{Class, Error};

use super::{ServiceEnv, secret};
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
    if site.sonarqube.is_some() {
        env.secret_files.insert("sonarqube", Secret::new(secret(secrets, Name::SonarqubeSecret, problems)));
    }
    env
}
