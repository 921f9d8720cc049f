//! From a server's certificate to its root: order, signatures, path length, name constraints.

use images::{Class, Error, Result};
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::rules::{self, Violation};

/// The longest chain that is followed: two intermediate CAs are many for a LAN.
const LONGEST: usize = 6;

/// Puts `first` and its issuers in order, up to the root. `pool` may hold them in any order, and others.
pub fn complete(first: &Certificate, pool: &[Certificate], name: &str) -> Result<Vec<Certificate>> {
    let mut chain = vec![first.clone()];
    for _ in 0..LONGEST {
        let last = &chain[chain.len() - 1];
        if last.is_root() {
            return Ok(chain);
        }
        let issuer = pool.iter().find(|candidate| last.is_signed_by(candidate)).cloned().ok_or_else(|| {
            Error::new(Class::Usage, format!("{name} does not lead to a root"))
                .detail(format!("expected the certificate of: {}", last.issuer))
                .hint("append the certificates of the CAs above it to the file, up to the root: phones trust roots")
        })?;
        chain.push(issuer);
    }
    Err(Error::new(Class::Usage, format!("{name} leads over more than {LONGEST} CAs to no root")))
}

/// What clients say to a server's chain: its own certificate first, the root last.
pub fn violations(chain: &[Certificate], now: OffsetDateTime) -> Vec<Violation> {
    let Some((leaf, cas)) = chain.split_first() else { return Vec::new() };
    let mut found = rules::of_leaf(leaf, now);
    found.extend(of_cas(cas, now));
    found.extend(cas.iter().flat_map(|ca| outside(ca, leaf)));
    found.extend(unsigned(chain));
    found
}

/// What clients say to the CAs of a chain: the issuing one first, the root last.
pub fn of_cas(cas: &[Certificate], now: OffsetDateTime) -> Vec<Violation> {
    let mut found = Vec::new();
    for (below, ca) in cas.iter().enumerate() {
        let named = |violation: Violation| Violation { what: format!("the CA {}: {}", ca.subject, violation.what), ..violation };
        found.extend(rules::of_ca(ca, now).into_iter().map(named));
        if let Some(path) = ca.basic.and_then(|basic| basic.path).filter(|path| (*path as usize) < below) {
            found.push(refused("path-length", format!("the CA {} allows {path} CAs below it, and {below} are there", ca.subject)));
        }
    }
    found.extend(unsigned(cas));
    found
}

/// The names of `leaf` that `ca` may not speak for.
pub fn outside(ca: &Certificate, leaf: &Certificate) -> Vec<Violation> {
    let (Some(constraint), Some(names)) = (&ca.constraint, &leaf.names) else { return Vec::new() };
    let dns = names.dns.iter().filter(|name| !constraint.allows_name(name)).cloned();
    let addresses = names.addresses.iter().filter(|address| !constraint.allows_address(**address)).map(ToString::to_string);
    let say = |name: String| refused("constraint", format!("{name} lies outside of what the CA {} is constrained to", ca.subject));
    dns.chain(addresses).map(say).collect()
}

fn unsigned(chain: &[Certificate]) -> Vec<Violation> {
    let pairs = chain.windows(2).filter(|pair| !pair[0].is_signed_by(&pair[1]));
    pairs.map(|pair| refused("signed", format!("{} is not signed by {}", pair[0].subject, pair[1].subject))).collect()
}

fn refused(rule: &'static str, what: String) -> Violation {
    Violation { rule, refused: true, what }
}

/// One error that lists what clients refuse; nothing where they refuse nothing.
pub fn refuse(found: &[Violation], what: &str) -> Result<()> {
    let refused: Vec<&Violation> = found.iter().filter(|violation| violation.refused).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let error = Error::new(Class::Check, format!("clients would refuse {what}"));
    Err(refused.iter().fold(error, |error, violation| error.detail(violation.what.clone())))
}
