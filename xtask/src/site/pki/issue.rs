//! Issuing: a site's root, leaves of its services, requests to somebody else's CA.

use images::{Class, Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::certificate::Certificate;
use super::names::{Constraint, Network};
use super::rules::LONGEST_COMMON_NAME;
use super::{Server, key};

/// Under the 398 days that browsers allow public CAs, so that no client ever minds.
pub const LEAF: Duration = Duration::days(397);

/// Ten years: replacing a root means a visit to every phone.
pub const ROOT: Duration = Duration::days(3652);

/// Clocks of a LAN without NTP differ.
pub const SKEW: Duration = Duration::HOUR;

/// A CA that can sign: its certificate, what leads from it to its root, and its key.
pub struct Authority {
    /// The issuing CA first, the root last. One certificate where the root itself issues.
    pub chain: Vec<Certificate>,
    key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("subject", &self.chain[0].subject).finish_non_exhaustive()
    }
}

impl Authority {
    /// Puts a chain and the key of its first certificate together. Refuses a key that is another's.
    pub fn new(chain: Vec<Certificate>, key: KeyPair) -> Result<Self> {
        let first = chain.first().ok_or_else(|| Error::new(Class::Usage, "there is no CA certificate"))?;
        if !key::fits(&key, first) {
            return Err(Error::new(Class::Usage, format!("the CA's key does not belong to its certificate, {}", first.subject)));
        }
        Ok(Authority { chain, key })
    }

    /// Makes a site's own root.
    pub fn make_root(site: &str, constraint: Option<&Constraint>, now: OffsetDateTime) -> Result<Self> {
        let key = key::generate()?;
        let mut params = params(&root_name(site), now, ROOT)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = constraint.map(name_constraints);
        let root = params.self_signed(&key).map_err(|error| not_made("the root", &error))?;
        Ok(Authority { chain: vec![Certificate::from_der(root.der(), "the new root")?], key })
    }

    /// The issuing certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.chain[0]
    }

    /// The root.
    pub fn root(&self) -> &Certificate {
        &self.chain[self.chain.len() - 1]
    }

    /// The private key in PEM.
    pub fn key_pem(&self) -> String {
        key::pem(&self.key)
    }

    /// Issues a service's certificate for `key`.
    pub fn issue(&self, service: &Server, key: &KeyPair, now: OffsetDateTime) -> Result<Certificate> {
        let mut params = leaf_params(service, now)?;
        params.use_authority_key_identifier_extension = true;
        params.not_before = params.not_before.max(self.certificate().not_before);
        params.not_after = end_of_leaf(&self.chain, now);
        let issuer = Issuer::from_ca_cert_der(&self.certificate().der.as_slice().into(), &self.key)
            .map_err(|error| name_not_written(self.certificate(), &error.to_string()))?;
        let leaf = params.signed_by(key, &issuer).map_err(|error| not_made(&service.name, &error))?;
        let leaf = Certificate::from_der(leaf.der(), &service.name)?;
        if !leaf.is_signed_by(self.certificate()) {
            return Err(name_not_written(self.certificate(), "an attribute stands in it twice"));
        }
        Ok(leaf)
    }
}

/// When a leaf that is issued now ends: never after any CA above it.
pub fn end_of_leaf(cas: &[Certificate], now: OffsetDateTime) -> OffsetDateTime {
    cas.iter().map(|ca| ca.not_after).fold(start(now) + LEAF, OffsetDateTime::min)
}

/// A request for a service's certificate, in PEM: what `certs --csr` hands to somebody else's CA.
pub fn request(service: &Server, key: &KeyPair, now: OffsetDateTime) -> Result<String> {
    // Serial number and times are the CA's to choose.
    let mut params = leaf_params(service, now)?;
    params.serial_number = None;
    let request = params.serialize_request(key).map_err(|error| not_made(&service.name, &error))?;
    request.pem().map_err(|error| not_made(&service.name, &error))
}

fn start(now: OffsetDateTime) -> OffsetDateTime {
    // Certificates count whole seconds.
    now.replace_nanosecond(0).unwrap_or(now) - SKEW
}

fn params(common_name: &str, now: OffsetDateTime, lasts: Duration) -> Result<CertificateParams> {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.not_before = start(now);
    params.not_after = start(now) + lasts;
    params.serial_number = Some(serial()?);
    params.distinguished_name = distinguished_name;
    Ok(params)
}

fn leaf_params(service: &Server, now: OffsetDateTime) -> Result<CertificateParams> {
    let common_name = service.dns.iter().find(|name| name.len() <= LONGEST_COMMON_NAME).unwrap_or(&service.name);
    let mut params = params(common_name, now, LEAF)?;
    // Says CA:FALSE, and brings the subject key identifier along.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in &service.dns {
        let name = name.as_str().try_into().map_err(|error| not_made(&service.name, &error))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(service.addresses.iter().map(|address| SanType::IpAddress(*address)));
    Ok(params)
}

/// 126 random bits: positive, and of the same length each time.
fn serial() -> Result<SerialNumber> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(Class::Build, format!("the system gives no random bytes: {error}")))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from(bytes.to_vec()))
}

/// "<site> Root CA": the name under which a phone lists it, cut where readers would refuse it.
fn root_name(site: &str) -> String {
    let kind = " Root CA";
    let site: String = site.chars().take(LONGEST_COMMON_NAME - kind.len()).collect();
    site + kind
}

fn name_constraints(constraint: &Constraint) -> NameConstraints {
    let trees = |dns: &[String], networks: &[Network]| {
        let dns = dns.iter().cloned().map(GeneralSubtree::DnsName);
        let block = |network: &Network| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network.address, network.prefix));
        dns.chain(networks.iter().map(block)).collect()
    };
    NameConstraints {
        permitted_subtrees: trees(&constraint.permitted.dns, &constraint.permitted.networks),
        excluded_subtrees: trees(&constraint.excluded.dns, &constraint.excluded.networks),
    }
}

fn not_made(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Class::Build, format!("no certificate could be made for {what}: {error}"))
}

fn name_not_written(ca: &Certificate, why: &str) -> Error {
    Error::new(Class::Usage, format!("the name of this CA cannot be written into certificates here: {}", ca.subject))
        .detail(why.to_owned())
        .hint("let the CA sign: cargo xtask certs --csr, then cargo xtask certs --chain FILE")
}
