//! What names mean inside the site's containers: another container of a joined network may have one of them as well, and then some
//! answers lead there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Check;
use crate::engine::project::Container;
use crate::site::{Service, Site};

/// A name, and every address that it may mean.
pub type Meant = (String, BTreeSet<IpAddr>);

/// The names that a service asks for. Coturn is on the machine's own network, and asks for none.
pub fn asked(site: &Site, service: Service, containers: &[Container]) -> Vec<Meant> {
    let of = |service: Service| {
        containers
            .iter()
            .filter(|container| container.service == service.name())
            .flat_map(|container| container.addresses.clone())
            .collect()
    };
    let database = || (site.database_host(), of(Service::Postgres));
    let mut names: Vec<Meant> = match service {
        Service::Coturn => return Vec::new(),
        Service::Postgres => return vec![database()],
        Service::Mattermost if site.database.external.is_none() => vec![database()],
        Service::Mattermost | Service::AlertGateway => Vec::new(),
    };
    names.extend(site.all_names().map(|name| (name.to_string(), of(Service::Mattermost))));
    names.push((Service::AlertGateway.name().to_owned(), of(Service::AlertGateway)));
    names.extend(site.network.hosts.iter().map(|(name, at)| (name.to_string(), BTreeSet::from([*at]))));
    names
}

/// What the container of a service said, a line for each name with its addresses, against what the names should mean.
pub fn judge(service: Service, names: &[Meant], said: Result<&str, &str>) -> Check {
    let (id, title) = (format!("names.{}", service.name()), format!("Names inside {}", service.name()));
    let said = match said {
        Ok(said) => said,
        Err(why) => return Check::problem(id, title, why, "cargo xtask up"),
    };
    let found = |name: &str| -> BTreeSet<IpAddr> {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.into_iter().flat_map(str::split_whitespace).filter_map(|address| address.parse().ok()).collect()
    };
    let list = |addresses: &BTreeSet<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let wrong = |(name, meant): &Meant| {
        let found = found(name);
        match found.is_empty() {
            true => Some(format!("{name} leads nowhere instead of to {}", list(meant))),
            false if found.is_subset(meant) => None,
            false => Some(format!("{name} leads to {} instead of {}", list(&found), list(meant))),
        }
    };
    let wrong: Vec<String> = names.iter().filter_map(wrong).collect();
    match wrong.is_empty() {
        true => {
            let right: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
            Check::ok(id, title, format!("{} lead where they should", right.join(", ")))
        }
        false => Check::problem(id, title, wrong.join("\n"), "cargo xtask up; docker network inspect NAME shows who else is on a network"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn container(service: Service, addresses: &[&str]) -> Container {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Container { service: service.name().to_owned(), addresses, ..Container::default() }
    }

    fn names(service: Service) -> Vec<Meant> {
        let text = "format = 1\naddresses = [\"192.168.1.20\"]\n[network]\njoin = [\"cicd-net\"]\n\
                    [network.hosts]\n\"gitlab.cicd.local\" = \"192.168.1.10\"\n";
        let site = crate::site::parse("site.toml", text, || unreachable!("it has an address")).unwrap();
        let containers = [
            container(Service::Mattermost, &["172.18.0.2", "172.19.0.2"]),
            container(Service::AlertGateway, &["172.19.0.3"]),
            container(Service::Postgres, &["172.18.0.3"]),
        ];
        asked(&site, service, &containers)
    }

    #[test]
    fn each_service_asks_for_what_it_needs() {
        let of = |service| names(service).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let both = ["mattermost.cicd.local", "alert-gateway", "gitlab.cicd.local"];
        assert_eq!(of(Service::AlertGateway), both);
        assert_eq!(of(Service::Mattermost), [&["postgres.mattermost.cicd.local"][..], &both].concat());
        assert_eq!(of(Service::Postgres), ["postgres.mattermost.cicd.local"]);
        assert_eq!(of(Service::Coturn), Vec::<String>::new());
    }

    #[test]
    fn a_name_that_leads_elsewhere_or_nowhere_is_told() {
        let good = "mattermost.cicd.local 172.18.0.2 172.19.0.2\nalert-gateway 172.19.0.3\ngitlab.cicd.local 192.168.1.10\n";
        let check = |said: &str| judge(Service::AlertGateway, &names(Service::AlertGateway), Ok(said)).outcome;
        assert!(matches!(check(good), Outcome::Ok { .. }));
        for (part, other, wanted) in [
            ("172.19.0.2", "172.19.0.9", "mattermost.cicd.local leads to 172.18.0.2, 172.19.0.9 instead of 172.18.0.2, 172.19.0.2"),
            ("alert-gateway 172.19.0.3", "alert-gateway", "alert-gateway leads nowhere instead of to 172.19.0.3"),
            ("gitlab.cicd.local", "gitlab.cicd.localhost", "gitlab.cicd.local leads nowhere instead of to 192.168.1.10"),
        ] {
            let Outcome::Problem { found, .. } = check(&good.replace(part, other)) else { panic!("{other} is right") };
            assert_eq!(found, wanted);
        }
    }
}
