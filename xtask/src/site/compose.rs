//! A site and its images → the Compose file, in JSON. Pure; no secret enters it.
//!
//! What a container may do is the least that its program needs: no capability, no new privilege, a read-only root with the
//! tmpfs it writes to, an account of its own, limits on memory and processes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use serde_json::{Value, json};

use super::model::{PerService, Service, Site};

/// The internal network, on which PostgreSQL is alone with Mattermost.
pub(super) const BACKEND: &str = "backend";
/// The network of services that publish ports: a container that is on internal networks only publishes none.
pub(super) const FRONTEND: &str = "frontend";
/// Where secrets stand in every container.
pub const SECRETS: &str = "/run/secrets";

/// How long a service may take to end: Mattermost takes up to 15 s during its first 15 s.
pub(super) const GRACE: &str = "30s";
/// How many processes a service may have.
pub(super) const PROCESSES: u32 = 512;

/// Who can reach Mattermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This machine alone. The first account of an empty server becomes its administrator, whoever makes it, so nobody else may
    /// come first.
    Loopback,
    /// Everybody on the LAN, and the Docker networks of the tool chain.
    Lan,
}

/// What the file names besides the site: everything by its content, so that a change of content is a change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Image ID of each service, `sha256:…`.
    pub images: PerService<String>,
    /// Name of the volume with each service's secrets.
    pub secrets: PerService<String>,
    /// Settings of each service, without secrets. They stand in the file itself, so that an earlier file is the whole way back.
    pub settings: PerService<BTreeMap<String, String>>,
}

/// A Compose file, in the words of the Compose specification.
#[derive(Clone, Debug, Serialize)]
pub struct ComposeFile {
    name: String,
    services: BTreeMap<&'static str, Container>,
    networks: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Serialize)]
struct Container {
    image: String,
    pull_policy: &'static str,
    user: String,
    read_only: bool,
    cap_drop: [&'static str; 1],
    security_opt: [&'static str; 1],
    mem_limit: u64,
    pids_limit: u32,
    restart: &'static str,
    stop_grace_period: &'static str,
    logging: Value,
    environment: BTreeMap<String, String>,
    healthcheck: Value,
    volumes: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tmpfs: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    depends_on: BTreeMap<&'static str, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra_hosts: BTreeMap<String, String>,
}

impl ComposeFile {
    /// The file as it is written: two blanks, sorted, a newline at the end.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_else(|error| unreachable!("plain data: {error}"));
        format!("{text}\n")
    }

    /// The services in it.
    pub fn services(&self) -> impl Iterator<Item = &'static str> {
        self.services.keys().copied()
    }
}

/// The services that a site runs: with an external database no own one.
pub fn services(site: &Site) -> impl Iterator<Item = Service> + '_ {
    Service::ALL.into_iter().filter(|service| *service != Service::Postgres || site.database.external.is_none())
}

/// The Compose file of a site.
pub fn compose(site: &Site, content: &Content, reach: Reach) -> ComposeFile {
    let containers = services(site).map(|service| (service.name(), container(site, content, service, reach)));
    ComposeFile {
        name: site.project.to_string(),
        services: containers.collect(),
        networks: networks(site, reach),
        volumes: volumes(site, content),
    }
}

fn networks(site: &Site, reach: Reach) -> BTreeMap<String, Value> {
    let mut networks = BTreeMap::from([(FRONTEND.to_owned(), json!({ "driver": "bridge" }))]);
    if site.database.external.is_none() {
        networks.insert(BACKEND.to_owned(), json!({ "driver": "bridge", "internal": true }));
    }
    if reach == Reach::Lan {
        networks.extend(site.network.join.iter().map(|name| (name.clone(), json!({ "external": true, "name": name }))));
    }
    networks
}

/// The Engine's names of the networks that Compose makes for a site.
pub fn own_networks(site: &Site) -> Vec<String> {
    let own = networks(site, Reach::Loopback);
    own.into_keys().map(|name| format!("{}_{name}", site.project)).collect()
}

fn volumes(site: &Site, content: &Content) -> BTreeMap<String, Value> {
    let mut volumes = BTreeMap::new();
    for service in services(site) {
        let name = content.secrets.of(service);
        volumes.insert(name.clone(), json!({ "external": true, "name": name }));
        volumes.extend(data(service).iter().map(|(name, _)| ((*name).to_owned(), json!({ "external": true, "name": volume(site, name) }))));
    }
    volumes
}

/// The Engine's name of a volume of a site. `up` makes volumes itself, because it sets their owner.
pub fn volume(site: &Site, name: &str) -> String {
    format!("{}_{name}", site.project)
}

/// What a service keeps: name of the volume, and where it stands in the container.
pub fn data(service: Service) -> &'static [(&'static str, &'static str)] {
    match service {
        Service::Postgres => &[("postgres", "/var/lib/postgresql")],
        Service::Coturn => &[],
        Service::AlertGateway => &[("alert-gateway", "/var/lib/alert-gateway")],
        Service::Mattermost => &[
            ("mattermost-config", "/mattermost/config"),
            ("mattermost-data", "/mattermost/data"),
            ("mattermost-logs", "/mattermost/logs"),
            // Both are emptied and filled at each start; they are volumes because plugins are run from there.
            ("mattermost-plugins", "/mattermost/plugins"),
            ("mattermost-client-plugins", "/mattermost/client/plugins"),
        ],
    }
}

/// Where a service writes what nobody keeps.
pub(super) fn tmpfs(service: Service) -> &'static [(&'static str, &'static str)] {
    match service {
        // 0700 as in the image: the socket's folder decides who may connect as the superuser.
        Service::Postgres => &[("/run/postgresql", "16m"), ("/tmp", "64m")],
        Service::Coturn => &[("/run/coturn", "16m")],
        Service::AlertGateway => &[],
        // Plugin bundles are unpacked in /tmp, several at once; the local socket is in /var/tmp.
        Service::Mattermost => &[("/tmp", "1g"), ("/var/tmp", "16m")],
    }
}

fn container(site: &Site, content: &Content, service: Service, reach: Reach) -> Container {
    let account = site.accounts.of(service);
    // By its own name: Compose makes a container anew when its own lines change, and does not look at what a volume's key stands for.
    let secret = json!({ "type": "volume", "source": content.secrets.of(service), "target": SECRETS, "read_only": true });
    let kept =
        data(service).iter().map(|(name, at)| json!({ "type": "volume", "source": name, "target": at, "volume": { "nocopy": true } }));
    let mount =
        |(at, size): &(&str, &str)| format!("{at}:uid={},gid={},mode=0700,size={size},noexec,nosuid,nodev", account.uid, account.gid);
    let host = service == Service::Coturn;
    Container {
        image: content.images.of(service).clone(),
        pull_policy: "never",
        user: format!("{}:{}", account.uid, account.gid),
        read_only: true,
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
        mem_limit: site.memory.of(service).0,
        pids_limit: PROCESSES,
        restart: "unless-stopped",
        stop_grace_period: GRACE,
        logging: logging(),
        environment: environment(content.settings.of(service)),
        healthcheck: healthcheck(),
        volumes: std::iter::once(secret).chain(kept).collect(),
        tmpfs: tmpfs(service).iter().map(mount).collect(),
        networks: if host { BTreeMap::new() } else { joined(site, service, reach) },
        // Thousands of published ports would each be a process; and relayed media must leave from the address that clients are told.
        network_mode: host.then_some("host"),
        ports: if host { Vec::new() } else { ports(site, service, reach) },
        depends_on: depends_on(site, service),
        extra_hosts: extra_hosts(site, service),
    }
}

pub(super) fn logging() -> Value {
    json!({ "driver": "json-file", "options": { "max-size": "10m", "max-file": "5" } })
}

/// Compose and Swarm read `$NAME` as a variable of their own, and `$$` as a dollar sign.
pub(super) fn environment(settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    settings.iter().map(|(name, value)| (name.clone(), value.replace('$', "$$"))).collect()
}

/// The image's own check, asked more often: Swarm and `docker ps` see sooner what is so. `up` and `status` ask by themselves.
pub(super) fn healthcheck() -> Value {
    json!({ "interval": "4s" })
}

/// PostgreSQL asks nobody.
pub(super) fn extra_hosts(site: &Site, service: Service) -> BTreeMap<String, String> {
    let asks = !matches!(service, Service::Coturn | Service::Postgres);
    site.network.hosts.iter().filter(|_| asks).map(|(name, at)| (name.clone(), at.to_string())).collect()
}

pub(super) fn joined(site: &Site, service: Service, reach: Reach) -> BTreeMap<String, Value> {
    let mut networks = BTreeMap::new();
    if service == Service::Postgres || (service == Service::Mattermost && site.database.external.is_none()) {
        networks.insert(BACKEND.to_owned(), json!({}));
    }
    if service == Service::Postgres {
        networks.insert(BACKEND.to_owned(), json!({ "aliases": [site.database_host()] }));
        return networks;
    }
    // Another container of a joined network may well be called `mattermost`; nobody else has the site's names.
    let aliases: Vec<&str> = match service {
        Service::Mattermost => site.all_names().map(super::names::DnsName::as_str).collect(),
        _ => vec![service.name()],
    };
    networks.insert(FRONTEND.to_owned(), json!({ "aliases": aliases }));
    if reach == Reach::Lan {
        networks.extend(site.network.join.iter().map(|name| (name.clone(), json!({ "aliases": aliases }))));
    }
    networks
}

fn ports(site: &Site, service: Service, reach: Reach) -> Vec<Value> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let lan: Vec<IpAddr> = match reach {
        Reach::Loopback => Vec::new(),
        Reach::Lan => site.addresses.clone(),
    };
    let lead = |address: &IpAddr, port: u16, target: u16, protocol: &str| json!({ "host_ip": address.to_string(), "published": port.to_string(), "target": target, "protocol": protocol });
    let publish = |address: &IpAddr, port: u16, protocol: &str| lead(address, port, port, protocol);
    let both = |port| std::iter::once(&loopback).chain(&lan).map(move |address| publish(address, port, "tcp"));
    match service {
        Service::Mattermost => {
            let calls = lan.iter().flat_map(|address| ["tcp", "udp"].map(|protocol| publish(address, site.ports.calls, protocol)));
            let metrics = publish(&loopback, site.ports.metrics, "tcp");
            both(site.ports.mattermost).chain(calls).chain([metrics]).collect()
        }
        // Whoever knows no secret gets nothing from it, so it may be reached from the first start on.
        Service::AlertGateway => {
            let alerts = std::iter::once(&loopback).chain(&site.addresses).map(|address| publish(address, site.ports.alert_gateway, "tcp"));
            let redirects = site
                .ports
                .redirect_http
                .into_iter()
                .flat_map(|port| site.addresses.iter().map(move |address| lead(address, port, site.ports.redirect_inside(), "tcp")));
            alerts.chain(redirects).collect()
        }
        Service::Postgres | Service::Coturn => Vec::new(),
    }
}

/// In which order containers are started, and ended the other way round. Mattermost's entrypoint waits for the database by itself, so that
/// both start at once, here, after a boot, and where nobody knows conditions.
fn depends_on(site: &Site, service: Service) -> BTreeMap<&'static str, Value> {
    let own = service == Service::Mattermost && site.database.external.is_none();
    own.then(|| (Service::Postgres.name(), json!({ "condition": "service_started" }))).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::parse;

    fn site(text: &str) -> Site {
        parse("site.toml", &format!("format = 1\naddresses = [\"192.168.1.20\", \"fd00::20\"]\n{text}"), || unreachable!()).unwrap()
    }

    fn of(word: &str) -> PerService<String> {
        let name = |service: Service| format!("{word}-{}", service.name());
        PerService {
            postgres: name(Service::Postgres),
            coturn: name(Service::Coturn),
            alert_gateway: name(Service::AlertGateway),
            mattermost: name(Service::Mattermost),
        }
    }

    fn content() -> Content {
        let mut settings = PerService::<BTreeMap<String, String>>::default();
        settings.mattermost.insert("MM_TEAMSETTINGS_SITENAME".to_owned(), "Ours: $HOME".to_owned());
        Content { images: of("sha256:image"), secrets: of("volume"), settings }
    }

    fn file(text: &str, reach: Reach) -> Value {
        serde_json::from_str(&compose(&site(text), &content(), reach).text()).unwrap()
    }

    #[test]
    fn the_file_of_a_site_with_everything() {
        let text = "[network]\njoin = [\"cicd-net\"]\n[network.hosts]\n\"gitlab.cicd.local\" = \"192.168.1.10\"\n";
        insta::assert_snapshot!(compose(&site(text), &content(), Reach::Lan).text());
    }

    #[test]
    fn the_first_start_is_reached_from_this_machine_alone() {
        let file = file("[network]\njoin = [\"cicd-net\"]\n", Reach::Loopback);
        let ports = file["services"]["mattermost"]["ports"].as_array().unwrap();
        assert!(!ports.is_empty() && ports.iter().all(|port| port["host_ip"] == "127.0.0.1"), "{ports:?}");
        assert!(file["services"]["mattermost"]["networks"]["cicd-net"].is_null());
    }

    #[test]
    fn the_database_is_on_the_internal_network_alone_and_publishes_nothing() {
        let file = file("", Reach::Lan);
        let postgres = &file["services"]["postgres"];
        assert_eq!(
            (&postgres["networks"], &postgres["ports"]),
            (&json!({ "backend": { "aliases": ["postgres.mattermost.cicd.local"] } }), &Value::Null)
        );
        assert_eq!(file["networks"]["backend"]["internal"], true);
    }

    #[test]
    fn every_container_is_locked_down() {
        let file = file("", Reach::Lan);
        for (name, service) in file["services"].as_object().unwrap() {
            assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
            assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
            assert_eq!((&service["read_only"], &service["pull_policy"]), (&json!(true), &json!("never")), "{name}");
            assert!(service["mem_limit"].as_u64().unwrap() > 0 && service["pids_limit"].as_u64().unwrap() > 0, "{name}");
            assert!(!service["user"].as_str().unwrap().starts_with("0:"), "{name}");
        }
    }

    #[test]
    fn browsers_that_come_over_http_reach_the_gateway_that_sends_them_on() {
        let file = file("[ports]\nredirect-http = 80\n", Reach::Lan);
        let ports = file["services"]["alert-gateway"]["ports"].as_array().unwrap();
        let redirect: Vec<&Value> = ports.iter().filter(|port| port["published"] == "80").collect();
        assert!(redirect.len() == 2 && redirect.iter().all(|port| port["target"] == 10_080), "{ports:?}");
    }

    #[test]
    fn another_volume_of_secrets_is_another_service_to_compose() {
        let mut other = content();
        other.secrets.coturn = "another".to_owned();
        let file = |content: &Content| serde_json::to_value(compose(&site(""), content, Reach::Lan)).unwrap()["services"].clone();
        let (before, after) = (file(&content()), file(&other));
        assert_ne!(before["coturn"], after["coturn"]);
        assert_eq!(before["mattermost"], after["mattermost"]);
    }

    #[test]
    fn a_dollar_sign_is_not_read_as_a_variable() {
        assert_eq!(file("", Reach::Lan)["services"]["mattermost"]["environment"]["MM_TEAMSETTINGS_SITENAME"], "Ours: $$HOME");
    }

    #[test]
    fn with_an_external_database_there_is_no_own_one() {
        let file = file("[database]\nhost = \"db.cicd.local\"\n", Reach::Lan);
        assert!(file["services"]["postgres"].is_null() && file["networks"]["backend"].is_null() && file["volumes"]["postgres"].is_null());
        assert!(file["services"]["mattermost"]["depends_on"].is_null());
    }
}
