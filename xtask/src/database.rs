//! A PostgreSQL server that is not ours: what is asked of it, and what `provision database` makes on it.
//!
//! Every connection is encrypted and its certificate checked, name and all, as Mattermost's own is.

mod connection;
pub mod found;
pub mod prepare;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use images::{Class, Error, Result};

use crate::site::secrets::{Name, Secrets};
use crate::site::{Folder, Site};
use crate::uri::authority;

pub use connection::{Login, Session, Stop};

/// Where an external server is, and whom its certificate has to be from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address that its certificate holds.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where `host` is, if the site says so: then nobody else is asked.
    pub address: Option<IpAddr>,
    /// PEM file with the root.
    pub ca: PathBuf,
}

impl Server {
    /// The site's, if it has one that is not ours.
    pub fn of(site: &Site, folder: &Folder) -> Option<Server> {
        let external = site.database.external.as_ref()?;
        Some(Server {
            host: external.host.clone(),
            port: external.port,
            address: site.network.hosts.get(&external.host).copied(),
            ca: external.ca.as_ref().map_or_else(|| folder.ca(), |file| folder.root().join(file)),
        })
    }

    /// Every address of the host. The words of an error are for people.
    fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Some(address) = self.address {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| format!("{}: {error}", self.host))?;
        Ok(found.collect())
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

impl Login {
    /// Mattermost's own.
    ///
    /// # Errors
    /// [`Class::Usage`] where `secrets.env` does not hold the password, which nobody makes up for another's server.
    pub fn of(site: &Site, secrets: &Secrets) -> Result<Login> {
        let password = secrets.get(Name::DatabasePassword).cloned().ok_or_else(no_password)?;
        Ok(Login { role: site.database.role.clone(), password, database: site.database.name.clone() })
    }
}

/// Says how the password of an external database's role comes into `secrets.env`.
pub fn no_password() -> Error {
    let name = Name::DatabasePassword.name();
    Error::new(Class::Usage, format!("secrets.env does not hold {name}: the password of Mattermost's role on the external server"))
        .hint(format!("`cargo xtask provision database --admin-url-file FILE` makes it, with the role; or add the line {name}=VALUE"))
}

/// A name in SQL, quoted.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
