//! A small site for tests, at a fixed time.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::certificate::Certificate;
use super::files::Change;
use super::found::{CA, CA_KEY, Found, GIVEN, cert_file, key_file, request_file, request_key_file};
use super::plan::{Ask, Plan, plan};
use super::reason::Pair;
use super::{Authority, Server, Wanted, key};

pub const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

pub fn wanted() -> Wanted {
    let service = |name: &str, dns: &[&str]| Server {
        name: name.to_owned(),
        dns: dns.iter().chain(&["localhost"]).map(|name| (*name).to_owned()).collect(),
        addresses: vec!["192.168.1.5".parse().unwrap(), "127.0.0.1".parse().unwrap()],
    };
    Wanted {
        site: "mattermost.cicd.local".to_owned(),
        domains: vec!["cicd.local".to_owned()],
        services: vec![service("mattermost", &["mattermost.cicd.local"]), service("postgres", &["postgres.cicd.local", "postgres"])],
        constrained: true,
    }
}

/// What lies in the folder once the plan's files are written.
pub fn applied(changes: &[Change], found: Found) -> Found {
    let text = |name: &str| changes.iter().rev().find(|change| change.name == name).and_then(|change| change.content.clone());
    let mut next = found;
    if let Some(pem) = text(CA) {
        next.roots = Certificate::from_pem(pem.as_bytes(), CA).unwrap();
    }
    if changes.iter().any(|change| change.name == CA_KEY) {
        next.ca_key = text(CA_KEY);
    }
    for service in wanted().services {
        let name = service.name;
        if let (Some(pem), Some(key)) = (text(&cert_file(&name)), text(&key_file(&name))) {
            let pair = Pair {
                chain: Certificate::from_pem(pem.as_bytes(), &name).unwrap(),
                key: Some(open(&key).unwrap()),
                given: pem.starts_with(GIVEN),
            };
            next.pairs.insert(name.clone(), pair);
        }
        if let (Some(request), Some(key)) = (text(&request_file(&name)), text(&request_key_file(&name))) {
            next.requests.insert(name.clone(), (request, open(&key).unwrap()));
        } else if changes.contains(&Change::remove(request_file(&name))) {
            next.requests.remove(&name);
        }
    }
    next
}

pub fn open(pem: &str) -> images::Result<KeyPair> {
    key::read(pem, "a key", &mut || unreachable!("it is not encrypted"))
}

pub fn decide(found: &Found, ask: Ask, now: OffsetDateTime) -> images::Result<Plan> {
    plan(found, &wanted(), ask, now, &mut open)
}

/// A site with everything, as it was made at `NOW`.
pub fn complete() -> Found {
    applied(&decide(&Found::default(), Ask::default(), NOW).unwrap().changes, Found::default())
}

/// A company's CA: a root, and an intermediate CA that signs. `tweak` may spoil the intermediate.
pub fn company(tweak: impl FnOnce(&mut CertificateParams)) -> (Vec<Certificate>, KeyPair) {
    let params = |name: &str, path| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Company");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (NOW - Duration::days(10), NOW + Duration::days(3000));
        params
    };
    let (root_key, key) = (key::generate().unwrap(), key::generate().unwrap());
    let root_params = params("Company Root", 1);
    let root = root_params.self_signed(&root_key).unwrap();
    let mut between = params("Company Issuing", 0);
    tweak(&mut between);
    let between = between.signed_by(&key, &Issuer::from_params(&root_params, &root_key)).unwrap();
    let read = |certificate: &rcgen::Certificate| Certificate::from_der(certificate.der(), "company").unwrap();
    (vec![read(&between), read(&root)], key)
}

/// The company's CA, ready to sign.
pub fn company_authority() -> Authority {
    let (chain, key) = company(|_| {});
    Authority::new(chain, key).unwrap()
}
