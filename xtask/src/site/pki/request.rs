//! Certificates by request: keys and requests go out, certificates come in.

use std::collections::BTreeMap;

use images::{Class, Error, Result};
use rcgen::KeyPair;
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, Pem, X509CertificationRequest};

use super::certificate::Certificate;
use super::files::Change;
use super::found::{Found, request_file, request_key_file};
use super::reason::{names_of, wanted_names};
use super::{Server, chain, issue, key};

/// The files for requests of these services, and the services whose request is made anew. One that already asks for the same
/// names stays, with its key: somebody may be signing it.
pub fn requests(found: &Found, services: &[&Server], now: OffsetDateTime) -> Result<(Vec<Change>, Vec<String>)> {
    let (mut changes, mut made) = (Vec::new(), Vec::new());
    for service in services {
        let wants: Vec<String> = wanted_names(service).into_iter().collect();
        if found.requests.get(&service.name).is_some_and(|(request, _)| names_in(request).as_ref() == Some(&wants)) {
            continue;
        }
        let key = key::generate()?;
        changes.push(Change::write(request_key_file(&service.name), key::pem(&key)));
        changes.push(Change::write(request_file(&service.name), issue::request(service, &key, now)?));
        made.push(service.name.clone());
    }
    Ok((changes, made))
}

/// The names that a request asks for, sorted; nothing where it is not a readable request.
fn names_in(request: &str) -> Option<Vec<String>> {
    let block = Pem::iter_from_buffer(request.as_bytes()).next()?.ok()?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).ok()?;
    let mut names = Vec::new();
    for extension in request.requested_extensions()? {
        if let ParsedExtension::SubjectAlternativeName(found) = extension {
            names.extend(found.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => super::names::address_of(bytes).map(|address| address.to_string()),
                _ => None,
            }));
        }
    }
    names.sort();
    Some(names)
}

/// Which service each certificate is for, by the keys of the requests; each with its complete chain. `pool` is everything
/// that came in, and the roots that are known.
pub fn answers(mut found: Found, pool: &[Certificate]) -> Result<BTreeMap<String, (Vec<Certificate>, KeyPair)>> {
    let mut given = BTreeMap::new();
    let waiting = std::mem::take(&mut found.requests);
    for (service, (_, key)) in waiting {
        if let Some(leaf) = pool.iter().find(|certificate| key::fits(&key, certificate)) {
            let full = chain::complete(leaf, &[pool, &found.roots].concat(), &format!("the certificate for {service}"))?;
            given.insert(service, (full, key));
        }
    }
    if given.is_empty() {
        let leaves: Vec<String> = pool
            .iter()
            .filter(|certificate| !certificate.is_ca())
            .map(|leaf| names_of(leaf).into_iter().collect::<Vec<_>>().join(", "))
            .collect();
        return Err(Error::new(Class::Usage, "none of these certificates was made from a request of this site")
            .detail(format!("found certificates for: {}", leaves.join("; ")))
            .hint("cargo xtask certs --csr writes requests to pki/NAME.csr; a new request has a new key"));
    }
    Ok(given)
}
