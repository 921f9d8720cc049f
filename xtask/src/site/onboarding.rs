//! How phones and desktops come to trust a site: one page that needs nothing else, the CA in each form that a device takes, and
//! a server that shows them to the LAN for a while.
//!
//! All of it is public: a CA's certificate, names and addresses.

mod page;
mod profile;

use std::net::IpAddr;
use std::path::Path;

use images::Result;
use qrcode::{EcLevel, QrCode};

use super::Site;
use super::journal::{Entry, Journal};
use super::pki::Certificate;

pub use page::Links;

/// What the page tells.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The site's name.
    pub name: String,
    /// Every host name of the server.
    pub names: Vec<String>,
    /// What a device opens that knows the name.
    pub url: String,
    /// What a phone opens, which takes no line for its hosts file: by address, unless a reverse proxy is in front.
    pub phone_url: String,
    /// The first LAN address.
    pub address: IpAddr,
    /// Whether a reverse proxy is in front.
    pub front: bool,
    /// The root.
    pub ca: Certificate,
    /// Whether notifications reach a phone while the app is closed.
    pub push: bool,
}

impl Facts {
    /// Those of a site with this root.
    pub fn of(site: &Site, ca: &Certificate) -> Self {
        let front = site.network.front.is_some();
        let by_address = std::net::SocketAddr::new(site.address(), site.ports.mattermost);
        Facts {
            name: site.name.to_string(),
            names: site.all_names().map(ToString::to_string).collect(),
            url: site.url(),
            phone_url: if front { site.url() } else { format!("https://{by_address}") },
            address: site.address(),
            front,
            ca: ca.clone(),
            push: site.push.is_some(),
        }
    }

    /// SHA-256 of the CA as devices show it: pairs of digits, eight to a line.
    pub fn fingerprint(&self) -> Vec<String> {
        let digits = self.ca.fingerprint().to_string().to_uppercase();
        let pairs: Vec<&str> = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default()).collect();
        pairs.chunks(8).map(|line| line.join(" ")).collect()
    }
}

/// The files that devices take: name, type, content.
pub fn files(facts: &Facts, links: &Links) -> Result<Vec<(&'static str, &'static str, Vec<u8>)>> {
    Ok(vec![
        ("index.html", "text/html; charset=utf-8", page::render(facts, links)?.into_bytes()),
        ("ca.crt", "application/x-x509-ca-cert", facts.ca.der.clone()),
        ("ca.pem", "application/x-pem-file", facts.ca.pem().into_bytes()),
        ("ca.mobileconfig", "application/x-apple-aspen-config", profile::render(facts)?),
    ])
}

/// Writes them into a folder, together: a page with one CA beside a profile with another helps nobody. Files that are as they should
/// be are left alone; true when one was not. The caller holds the site's folder.
pub fn write(facts: &Facts, folder: &Path) -> Result<bool> {
    let journal = Journal::of(folder, 0o755);
    let mut entries = Vec::new();
    for (name, _, bytes) in files(facts, &Links::Embedded)? {
        if journal.read(name)?.as_ref() != Some(&bytes) {
            entries.push(Entry::write(name, bytes, 0o644));
        }
    }
    journal.change(&entries)?;
    Ok(!entries.is_empty())
}

/// A QR code that a phone reads from a screen.
pub fn qr(text: &str) -> Result<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::M)
        .map_err(|error| images::Error::new(images::Class::Build, format!("no QR code could be made of {text}: {error}")))
}

#[cfg(test)]
mod tests;
