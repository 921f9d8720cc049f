//! A site's certificates: which it wants, which it has, and what has to change.
//!
//! What decides is pure: [`plan::plan`] takes what was found, what is wanted and the time, and gives the files to write. [`files`] alone
//! touches the disk, and puts all files of a plan in place at once.

pub mod certificate;
pub mod chain;
pub mod files;
pub mod found;
pub mod given;
pub mod issue;
pub mod key;
pub mod names;
pub mod plan;
pub mod reason;
pub mod request;
pub mod rules;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use certificate::Certificate;
pub use issue::Authority;
pub use names::Constraint;

use super::model::{self, Site};

/// A service as a TLS server: what clients call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name among the site's files: `mattermost` for `pki/mattermost.pem`.
    pub name: String,
    /// Host names; the first is the one without which nothing works.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

impl Server {
    fn without_repetition(mut self) -> Self {
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        self.dns.retain(|name| names.insert(name.clone()));
        self.addresses.retain(|address| addresses.insert(*address));
        self
    }
}

/// The certificates that a site wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The site's name: the root is called after it.
    pub site: String,
    /// The domains that a constrained root may speak for, besides the servers' own names.
    pub domains: Vec<String>,
    /// Every service with a certificate.
    pub services: Vec<Server>,
    /// Whether the site's own root is constrained to its names and private addresses.
    pub constrained: bool,
}

impl Wanted {
    /// What `site.toml` asks for. Each service has its name in the site's domain and the one by which other containers reach
    /// it, every LAN address, and loopback for whoever asks on this machine.
    pub fn of(site: &Site) -> Self {
        let domain = site.name.suffix();
        let server = |service: model::Service| {
            let name = service.name();
            let mut server = Server { name: name.to_owned(), dns: Vec::new(), addresses: site.addresses.clone() };
            if service == model::Service::Mattermost {
                server.dns.extend(site.all_names().map(ToString::to_string));
                // A reverse proxy that speaks TLS to Mattermost asks for the name that people open, and so does the health check.
                match site.network.front.as_ref().and_then(|front| front.host()) {
                    Some(url::Host::Domain(front)) => server.dns.push(front.to_owned()),
                    Some(url::Host::Ipv4(front)) => server.addresses.push(front.into()),
                    Some(url::Host::Ipv6(front)) => server.addresses.push(front.into()),
                    None => {}
                }
            }
            if service == model::Service::Postgres && site.database.external.is_none() {
                server.dns.push(site.database_host());
            }
            server.dns.extend([format!("{name}.{domain}"), name.to_owned(), "localhost".to_owned()]);
            if matches!(service, model::Service::Coturn | model::Service::AlertGateway) {
                // They are published on the same machine, and many a LAN knows it by one name only.
                server.dns.extend(site.all_names().map(ToString::to_string));
            }
            server.addresses.extend([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
            server.without_repetition()
        };
        Wanted {
            site: site.name.to_string(),
            domains: std::iter::once(domain.to_owned()).chain(site.pki.permit.iter().map(ToString::to_string)).collect(),
            services: model::Service::ALL.map(server).into(),
            constrained: site.pki.constrain,
        }
    }

    /// What a root of this site is constrained to.
    pub fn constraint(&self) -> Option<Constraint> {
        let names: Vec<String> = self.services.iter().flat_map(|service| service.dns.iter().cloned()).collect();
        let addresses: Vec<IpAddr> = self.services.iter().flat_map(|service| service.addresses.iter().copied()).collect();
        self.constrained.then(|| Constraint::of_site(&self.domains, &names, &addresses))
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
