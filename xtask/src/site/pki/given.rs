//! Judging what comes from elsewhere: a CA that is to sign for the site, a certificate that somebody else issued.

use images::{Class, Error, Result};
use rcgen::KeyPair;
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::reason::{Pair, RENEW_BEFORE, wanted_names};
use super::{Server, Wanted, chain, key};

/// Refuses a CA below which no client would take the site's certificates: the issuing CA first, the root last.
pub fn judge_ca(cas: &[Certificate], wanted: &Wanted, now: OffsetDateTime) -> Result<()> {
    let subject = cas.first().map_or("", |ca| ca.subject.as_str());
    chain::refuse(&chain::of_cas(cas, now), &format!("certificates of the CA {subject}"))?;
    let mut outside = Vec::new();
    for constraint in cas.iter().filter_map(|ca| ca.constraint.as_ref()) {
        for service in &wanted.services {
            let names = service.dns.iter().filter(|name| !constraint.allows_name(name)).cloned();
            let addresses = service.addresses.iter().filter(|address| !constraint.allows_address(**address)).map(ToString::to_string);
            outside.extend(names.chain(addresses).map(|name| (name, constraint.permitted.to_string())));
        }
    }
    outside.sort();
    outside.dedup();
    let Some((_, permitted)) = outside.first() else { return Ok(()) };
    let names: Vec<&str> = outside.iter().map(|(name, _)| name.as_str()).collect();
    Err(Error::new(Class::Check, format!("outside of what the CA {subject} is constrained to: {}", names.join(", ")))
        .detail(format!("permitted: {permitted}"))
        .hint("cargo xtask certs renew --ca makes a root for today's names; phones have to enrol again"))
}

/// Refuses a certificate from elsewhere that clients would refuse, or that lacks the service's first name. Returns what else a
/// person should know.
pub fn judge(full: &[Certificate], key: &KeyPair, service: &Server, now: OffsetDateTime) -> Result<Vec<String>> {
    let leaf = &full[0];
    if !key::fits(key, leaf) {
        return Err(Error::new(Class::Check, format!("the key for {} does not belong to the certificate {}", service.name, leaf.subject)));
    }
    let found = chain::violations(full, now);
    chain::refuse(&found, &format!("the certificate for {}", service.name))?;
    let mut warnings: Vec<String> = found.iter().map(|violation| format!("{}: {}", service.name, violation.what)).collect();
    let lacking: Vec<String> = wanted_names(service).into_iter().filter(|name| !covers(leaf, name)).collect();
    if let Some(first) = service.dns.first().filter(|first| !covers(leaf, first)) {
        return Err(Error::new(Class::Check, format!("the certificate for {} is not for {first}", service.name))
            .detail(format!("it is for: {}", super::reason::names_of(leaf).into_iter().collect::<Vec<_>>().join(", "))));
    }
    if !lacking.is_empty() {
        warnings.push(format!("{}: clients that come by {} will refuse its certificate", service.name, lacking.join(", ")));
    }
    if leaf.not_after - now < RENEW_BEFORE {
        warnings.push(format!("{}: its certificate ends in {} days, and comes from elsewhere", service.name, leaf.days_left(now)));
    }
    Ok(warnings)
}

/// Judges a certificate that was brought earlier; its complete chain.
pub fn stays(
    pair: &Pair,
    service: &Server,
    roots: &[Certificate],
    now: OffsetDateTime,
    warnings: &mut Vec<String>,
) -> Result<Vec<Certificate>> {
    let file = super::found::cert_file(&service.name);
    let full = chain::complete(&pair.chain[0], &[&pair.chain[1..], roots].concat(), &file)?;
    let key =
        pair.key.as_ref().ok_or_else(|| Error::new(Class::Check, format!("pki/{} is missing", super::found::key_file(&service.name))))?;
    let judged = judge(&full, key, service, now).map_err(|error| {
        error.hint(format!("bring a new one: cargo xtask certs --cert FILE --key FILE --for {0}, or --csr; or remove pki/{file} for one of the site's own CA", service.name))
    })?;
    warnings.extend(judged);
    Ok(full)
}

/// Whether a certificate is for a name; a wildcard stands for one label (RFC 9525 section 6.3).
pub fn covers(leaf: &Certificate, name: &str) -> bool {
    let Some(names) = &leaf.names else { return false };
    if let Ok(address) = name.parse() {
        return names.addresses.contains(&address);
    }
    names.dns.iter().map(|pattern| pattern.to_ascii_lowercase()).any(|pattern| match pattern.strip_prefix("*.") {
        Some(rest) => name.split_once('.').is_some_and(|(label, below)| !label.is_empty() && below == rest),
        None => pattern == name,
    })
}
