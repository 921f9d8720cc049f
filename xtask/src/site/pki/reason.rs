//! Why a service's certificate is issued anew. Nothing else makes it so.

use std::collections::BTreeSet;
use std::fmt;

use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};

use super::Server;
use super::certificate::Certificate;
use super::key;

/// A certificate that ends sooner than this is renewed.
pub const RENEW_BEFORE: Duration = Duration::days(30);

/// A service's certificate and key, as they lie in the site's folder.
#[derive(Debug)]
pub struct Pair {
    /// The certificate, then those of the CAs above it.
    pub chain: Vec<Certificate>,
    /// The private key, if it is there.
    pub key: Option<KeyPair>,
    /// Somebody else issued it: it is judged, and never replaced.
    pub given: bool,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    Missing,
    /// Its private key is not there.
    KeyMissing,
    /// The private key there belongs to another certificate.
    KeyOfAnother,
    /// The site has another CA now.
    CaChanged,
    /// Names or addresses came or went.
    NamesChanged {
        /// Those that the certificate lacks.
        added: Vec<String>,
        /// Those that the site does not have any more.
        gone: Vec<String>,
    },
    /// It ends in this many days, or ended as many days ago.
    Ending(i64),
    /// Somebody said so.
    Asked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Missing => f.write_str("there was none"),
            Reason::KeyMissing => f.write_str("its private key is missing"),
            Reason::KeyOfAnother => f.write_str("the private key belongs to another certificate"),
            Reason::CaChanged => f.write_str("the site's CA changed"),
            Reason::NamesChanged { added, gone } => {
                let part = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
                let parts: Vec<String> = [part("it lacks", added), part("it still names", gone)].into_iter().flatten().collect();
                f.write_str(&parts.join("; "))
            }
            Reason::Ending(days) if *days < 0 => write!(f, "it expired {} days ago", -days),
            Reason::Ending(days) => write!(f, "it ends in {days} days"),
            Reason::Asked => f.write_str("asked for"),
        }
    }
}

/// What a certificate that is issued now would have above it, and when it would end.
#[derive(Clone, Copy, Debug)]
pub struct Issuing<'a> {
    /// The issuing CA first, the root last.
    pub chain: &'a [Certificate],
    /// When it would end.
    pub end: OffsetDateTime,
}

/// Why the certificate there has to be issued anew; nothing where it need not.
pub fn why_reissue(existing: Option<&Pair>, service: &Server, issuing: Issuing<'_>, now: OffsetDateTime) -> Option<Reason> {
    let Some((leaf, above)) = existing.and_then(|pair| pair.chain.split_first()) else { return Some(Reason::Missing) };
    match existing.and_then(|pair| pair.key.as_ref()) {
        None => return Some(Reason::KeyMissing),
        Some(key) if !key::fits(key, leaf) => return Some(Reason::KeyOfAnother),
        Some(_) => {}
    }
    if above != issuing.chain || !issuing.chain.first().is_some_and(|ca| leaf.is_signed_by(ca)) {
        return Some(Reason::CaChanged);
    }
    let (has, wants) = (names_of(leaf), wanted_names(service));
    if has != wants {
        let list = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect();
        return Some(Reason::NamesChanged { added: list(&wants, &has), gone: list(&has, &wants) });
    }
    // A CA in its last days gives leaves that end with it: another one would not last longer.
    let gains = issuing.end - leaf.not_after > Duration::DAY;
    (leaf.not_after - now < RENEW_BEFORE && gains).then(|| Reason::Ending(leaf.days_left(now)))
}

/// Names and addresses of a certificate, for comparing.
pub fn names_of(leaf: &Certificate) -> BTreeSet<String> {
    let names = leaf.names.iter().flat_map(|names| {
        let dns = names.dns.iter().map(|name| name.to_ascii_lowercase());
        dns.chain(names.addresses.iter().map(ToString::to_string))
    });
    names.collect()
}

/// Names and addresses of a service, for comparing.
pub fn wanted_names(service: &Server) -> BTreeSet<String> {
    let dns = service.dns.iter().map(|name| name.to_ascii_lowercase());
    dns.chain(service.addresses.iter().map(ToString::to_string)).collect()
}
