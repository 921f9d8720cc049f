//! A site and its images → the stack file of Docker Swarm, in JSON. Pure; no secret enters it.
//!
//! The same model as the Compose file, in another dialect: Swarm refuses start conditions, limits outside of `deploy`, `security_opt`
//! and ports of one address. What a service waits for, it asks for again until it is there; what has data runs where its volumes are;
//! Coturn runs where a node's label says.

use std::collections::BTreeMap;

use images::Digest;
use serde::Serialize;
use serde_json::{Value, json};

use super::compose::{self, BACKEND, FRONTEND, PROCESSES, Reach, SECRETS};
use super::model::{PerService, Service, Site};
use crate::engine::project::VOLUME_LABEL;

/// Label of the node that runs Coturn; its value is `true`.
pub const COTURN_LABEL: &str = "org.chatops.coturn";
/// Label of every container: the digest of what the file says of its service. So a container of what was there before is known.
pub const CONTENT_LABEL: &str = "org.chatops.content";
/// The network of the node itself, as the file names it.
const HOST: &str = "host";

/// What the file names besides the site: everything by its content, so that a change of content is a change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Of each service: its image's ID, or a reference by digest, which every node can pull.
    pub images: PerService<String>,
    /// Swarm's name of each secret, by the name of the file that a service finds.
    pub secrets: PerService<BTreeMap<String, String>>,
    /// Settings of each service, without secrets.
    pub settings: PerService<BTreeMap<String, String>>,
    /// ID of the node that has the volumes.
    pub node: String,
}

/// The stack file of a site, as it is written: two blanks, sorted, a newline at the end.
pub fn stack(site: &Site, content: &Content, reach: Reach) -> String {
    let services = compose::services(site).map(|service| (service.name(), container(site, content, service, reach)));
    let file = json!({
        // The newest that Docker's clients have had since 20.10.
        "version": "3.9",
        "services": services.collect::<BTreeMap<_, _>>(),
        "networks": networks(site, reach),
        "volumes": volumes(site),
        "secrets": compose::services(site).flat_map(|service| content.secrets.of(service).values()).map(external).collect::<BTreeMap<_, _>>(),
    });
    let text = serde_json::to_string_pretty(&file).unwrap_or_else(|error| unreachable!("plain data: {error}"));
    format!("{text}\n")
}

/// Of a stack file: what each service's container is labelled with.
pub fn contents(file: &str) -> BTreeMap<String, String> {
    let file: Value = serde_json::from_str(file).unwrap_or_default();
    let services = file["services"].as_object().into_iter().flatten();
    services.map(|(name, service)| (name.clone(), service["labels"][CONTENT_LABEL].as_str().unwrap_or_default().to_owned())).collect()
}

/// Of a stack file: the names of its secrets.
pub fn secrets(file: &str) -> Vec<String> {
    let file: Value = serde_json::from_str(file).unwrap_or_default();
    file["secrets"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

#[derive(Clone, Debug, Serialize)]
struct Container {
    image: String,
    user: String,
    read_only: bool,
    cap_drop: [&'static str; 1],
    stop_grace_period: &'static str,
    logging: Value,
    environment: BTreeMap<String, String>,
    healthcheck: Value,
    secrets: Vec<Value>,
    volumes: Vec<Value>,
    networks: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra_hosts: BTreeMap<String, String>,
    deploy: Value,
    labels: BTreeMap<&'static str, String>,
}

fn external(name: &String) -> (String, Value) {
    (name.clone(), json!({ "external": true, "name": name }))
}

fn networks(site: &Site, reach: Reach) -> BTreeMap<String, Value> {
    let mut networks = BTreeMap::from([
        (FRONTEND.to_owned(), json!({ "driver": "overlay" })),
        (HOST.to_owned(), json!({ "external": true, "name": "host" })),
    ]);
    if site.database.external.is_none() {
        // Between nodes, what is said to the database goes over TLS; the overlay's own encryption would be a second one.
        networks.insert(BACKEND.to_owned(), json!({ "driver": "overlay", "internal": true }));
    }
    if reach == Reach::Lan {
        networks.extend(site.network.join.iter().map(external));
    }
    networks
}

fn volumes(site: &Site) -> BTreeMap<String, Value> {
    let mut volumes = BTreeMap::new();
    for service in compose::services(site) {
        let name = |name: &str| json!({ "external": true, "name": compose::volume(site, name) });
        volumes.extend(compose::data(service).iter().map(|(kept, _)| ((*kept).to_owned(), name(kept))));
        let account = site.accounts.of(service);
        for (at, size) in compose::tmpfs(service) {
            let options = format!("uid={},gid={},mode=0700,size={size},noexec,nosuid,nodev", account.uid, account.gid);
            let passing = json!({
                "driver": "local",
                "driver_opts": { "type": "tmpfs", "device": "tmpfs", "o": options },
                "labels": { VOLUME_LABEL: site.project.as_str() },
            });
            volumes.insert(passing_name(service, at), passing);
        }
    }
    volumes
}

/// The dialect's own tmpfs has a size, and belongs to root with the mode of the image's folder. A volume that is a tmpfs has an owner
/// too, and what is in it is gone with the container all the same. Swarm makes it on the node that needs it.
fn passing_name(service: Service, at: &str) -> String {
    format!("{}{}", service.name(), at.replace('/', "-"))
}

fn container(site: &Site, content: &Content, service: Service, reach: Reach) -> Container {
    let account = site.accounts.of(service);
    let secret = |(file, name): (&String, &String)| {
        let (uid, gid) = (account.uid.to_string(), account.gid.to_string());
        json!({ "source": name, "target": format!("{SECRETS}/{file}"), "uid": uid, "gid": gid, "mode": 0o400 })
    };
    let mount = |name: &str, at: &str| json!({ "type": "volume", "source": name, "target": at, "volume": { "nocopy": true } });
    let kept = compose::data(service).iter().map(|(name, at)| mount(name, at));
    let passing = compose::tmpfs(service).iter().map(|(at, _)| mount(&passing_name(service, at), at));
    let host = service == Service::Coturn;
    let mut container = Container {
        image: content.images.of(service).clone(),
        user: format!("{}:{}", account.uid, account.gid),
        read_only: true,
        cap_drop: ["ALL"],
        stop_grace_period: compose::GRACE,
        logging: compose::logging(),
        environment: compose::environment(content.settings.of(service)),
        healthcheck: compose::healthcheck(),
        secrets: content.secrets.of(service).iter().map(secret).collect(),
        volumes: kept.chain(passing).collect(),
        networks: if host { BTreeMap::from([(HOST.to_owned(), json!({}))]) } else { compose::joined(site, service, reach) },
        ports: ports(site, service, reach),
        extra_hosts: compose::extra_hosts(site, service),
        deploy: deploy(site, content, service),
        labels: BTreeMap::new(),
    };
    let said = serde_json::to_vec(&container).unwrap_or_else(|error| unreachable!("plain data: {error}"));
    container.labels.insert(CONTENT_LABEL, Digest::of(said).short());
    container
}

fn deploy(site: &Site, content: &Content, service: Service) -> Value {
    let place = match service {
        Service::Coturn => format!("node.labels.{COTURN_LABEL} == true"),
        _ => format!("node.id == {}", content.node),
    };
    json!({
        "replicas": 1,
        // A name leads to the container itself: there is one of each, and no virtual address has to be in the kernel's hands.
        "endpoint_mode": "dnsrr",
        "placement": { "constraints": [place] },
        "resources": { "limits": { "memory": site.memory.of(service).0.to_string(), "pids": PROCESSES } },
        "restart_policy": { "condition": "any", "delay": "2s" },
        // Two at once would write to the same volumes. `up` itself takes back what does not become healthy.
        "update_config": { "order": "stop-first", "failure_action": "continue" },
    })
}

/// Swarm publishes on every address of a node, or on none: so a first start, which has to be private, publishes nothing, and what only
/// loopback may reach (the metrics) is not published at all.
fn ports(site: &Site, service: Service, reach: Reach) -> Vec<Value> {
    // By the node itself: an address that is told to clients must not be translated on the way.
    let lead = |published: u16, target: u16, protocol: &str| json!({ "target": target, "published": published, "protocol": protocol, "mode": "host" });
    let publish = |port: u16, protocol: &str| lead(port, port, protocol);
    match (service, reach) {
        (Service::Mattermost, Reach::Lan) => {
            vec![publish(site.ports.mattermost, "tcp"), publish(site.ports.calls, "tcp"), publish(site.ports.calls, "udp")]
        }
        (Service::AlertGateway, _) => {
            let redirect = site.ports.redirect_http.map(|port| lead(port, site.ports.redirect_inside(), "tcp"));
            std::iter::once(publish(site.ports.alert_gateway, "tcp")).chain(redirect).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::parse;

    fn site(text: &str) -> Site {
        parse("site.toml", &format!("format = 1\naddresses = [\"192.168.1.20\", \"fd00::20\"]\n{text}"), || unreachable!()).unwrap()
    }

    fn content() -> Content {
        let mut content = Content {
            images: PerService::default(),
            secrets: PerService::default(),
            settings: PerService::default(),
            node: "node1".to_owned(),
        };
        for service in Service::ALL {
            *content.images.of_mut(service) = format!("sha256:image-{}", service.name());
            content.secrets.of_mut(service).insert("key.pem".to_owned(), format!("{}-0123456789ab-00", service.name()));
        }
        content.settings.mattermost.insert("MM_TEAMSETTINGS_SITENAME".to_owned(), "Ours: $HOME".to_owned());
        content
    }

    fn file(text: &str, reach: Reach) -> Value {
        serde_json::from_str(&stack(&site(text), &content(), reach)).unwrap()
    }

    #[test]
    fn the_file_of_a_site_with_everything() {
        let text =
            "[network]\njoin = [\"cicd-net\"]\n[network.hosts]\n\"gitlab.cicd.local\" = \"192.168.1.10\"\n[ports]\nredirect-http = 80\n";
        insta::assert_snapshot!(stack(&site(text), &content(), Reach::Lan));
    }

    #[test]
    fn nothing_that_swarm_refuses_or_ignores_is_in_it() {
        let words = ["depends_on", "mem_limit", "pids_limit", "security_opt", "network_mode", "restart", "tmpfs", "pull_policy", "host_ip"];
        for (name, service) in file("", Reach::Lan)["services"].as_object().unwrap() {
            for word in words {
                assert!(service[word].is_null(), "{name}: {word}");
            }
            assert!(service["ports"].as_array().into_iter().flatten().all(|port| port["host_ip"].is_null() && port["mode"] == "host"));
        }
    }

    #[test]
    fn the_first_start_publishes_no_port_of_mattermost_and_joins_nobody() {
        let file = file("[network]\njoin = [\"cicd-net\"]\n", Reach::Loopback);
        let mattermost = &file["services"]["mattermost"];
        assert!(mattermost["ports"].is_null() && mattermost["networks"]["cicd-net"].is_null() && file["networks"]["cicd-net"].is_null());
    }

    #[test]
    fn every_container_is_locked_down_and_reads_its_secrets_alone() {
        for (name, service) in file("", Reach::Lan)["services"].as_object().unwrap() {
            assert_eq!((&service["cap_drop"], &service["read_only"]), (&json!(["ALL"]), &json!(true)), "{name}");
            let limits = &service["deploy"]["resources"]["limits"];
            assert!(limits["pids"] == 512 && limits["memory"].as_str().unwrap().parse::<u64>().unwrap() > 0, "{name}");
            let owner = service["user"].as_str().unwrap().split(':').next().unwrap();
            let secrets = service["secrets"].as_array().unwrap();
            assert!(secrets.iter().all(|secret| secret["mode"] == 0o400 && secret["uid"] == owner), "{name}: {secrets:?}");
            assert_eq!(secrets[0]["source"], format!("{name}-0123456789ab-00"));
        }
    }

    #[test]
    fn what_has_data_runs_where_the_volumes_are_and_coturn_where_the_label_is() {
        let file = file("", Reach::Lan);
        for service in Service::ALL {
            let constraint = file["services"][service.name()]["deploy"]["placement"]["constraints"][0].as_str().unwrap();
            let by_label = constraint == "node.labels.org.chatops.coturn == true";
            assert!(if service == Service::Coturn { by_label } else { constraint == "node.id == node1" }, "{constraint}");
            assert!(!by_label || compose::data(service).is_empty(), "a volume would be elsewhere");
        }
    }

    #[test]
    fn a_changed_service_alone_has_another_label() {
        let text = stack(&site(""), &content(), Reach::Lan);
        let mut other = content();
        other.secrets.coturn.insert("key.pem".to_owned(), "coturn-ba9876543210-00".to_owned());
        let (before, after) = (contents(&text), contents(&stack(&site(""), &other, Reach::Lan)));
        let changed: Vec<&String> = before.keys().filter(|name| before[*name] != after[*name]).collect();
        assert_eq!(changed, ["coturn"]);
        assert_eq!(secrets(&text).len(), 4);
        assert_ne!(contents(&stack(&site(""), &content(), Reach::Loopback))["mattermost"], before["mattermost"]);
    }

    #[test]
    fn with_an_external_database_there_is_no_own_one() {
        let file = file("[database]\nhost = \"db.cicd.local\"\n", Reach::Lan);
        assert!(file["services"]["postgres"].is_null() && file["networks"]["backend"].is_null() && file["volumes"]["postgres"].is_null());
        assert!(file["secrets"]["postgres-0123456789ab-00"].is_null());
    }
}
