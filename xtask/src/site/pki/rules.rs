//! What Apple, Android, Chrome, Go, OpenSSL and rustls ask of certificates: one table, the strictest of them in each line.

use time::{Duration, OffsetDateTime};

use super::certificate::{Certificate, Key, Signature};
use super::names::name_fault;

/// Which certificates a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those of servers.
    Leaf,
    /// Those that sign others.
    Ca,
    /// All.
    Both,
}

/// One rule.
pub struct Rule {
    /// What it is called in `certs show --json`.
    pub name: &'static str,
    /// Whose rule it is.
    pub whose: &'static str,
    /// Which certificates it is about.
    pub of: Of,
    /// Whether clients refuse what breaks it; `openssl verify -x509_strict` alone does otherwise.
    pub refused: bool,
    /// How a certificate breaks it at a time; nothing where it keeps it.
    pub broken: fn(&Certificate, OffsetDateTime) -> Option<String>,
}

/// A rule that a certificate breaks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// The rule's name.
    pub rule: &'static str,
    /// Whether clients refuse such a certificate, not only `openssl verify -x509_strict`.
    pub refused: bool,
    /// In words, with whose rule it is.
    pub what: String,
}

/// RFC 5280 readers refuse a common name over 64 characters (ub-common-name).
pub const LONGEST_COMMON_NAME: usize = 64;

/// Apple refuses leaves that are valid for longer, below a root that the user added as well (support document 103769).
const LONGEST_LEAF: Duration = Duration::days(825);

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule { name: "version", whose: "everybody, RFC 5280 4.1.2.1", of: Of::Both, refused: true, broken: version },
    Rule { name: "serial", whose: "Go 1.23, RFC 5280 4.1.2.2", of: Of::Both, refused: true, broken: serial },
    Rule { name: "begun", whose: "everybody", of: Of::Both, refused: true, broken: begun },
    Rule { name: "not-ended", whose: "everybody", of: Of::Both, refused: true, broken: not_ended },
    Rule { name: "key", whose: "Apple, Chrome, rustls", of: Of::Both, refused: true, broken: key },
    Rule { name: "signature", whose: "Apple, Chrome, Go", of: Of::Both, refused: true, broken: signature },
    Rule { name: "common-name", whose: "iOS lists no root without one", of: Of::Ca, refused: true, broken: common_name },
    Rule { name: "ca", whose: "everybody", of: Of::Ca, refused: true, broken: ca },
    Rule { name: "ca-critical", whose: "openssl verify -x509_strict", of: Of::Ca, refused: false, broken: ca_critical },
    Rule { name: "ca-key-usage", whose: "everybody", of: Of::Ca, refused: true, broken: ca_key_usage },
    Rule { name: "ca-says-key-usage", whose: "openssl verify -x509_strict", of: Of::Ca, refused: false, broken: ca_says_key_usage },
    Rule { name: "ca-key-id", whose: "openssl verify -x509_strict", of: Of::Ca, refused: false, broken: key_id },
    Rule { name: "leaf-not-ca", whose: "rustls, Chrome", of: Of::Leaf, refused: true, broken: leaf_not_ca },
    Rule { name: "names", whose: "Apple, Chrome, Go: the common name does not count", of: Of::Leaf, refused: true, broken: names },
    Rule { name: "names-critical", whose: "openssl verify -x509_strict", of: Of::Leaf, refused: false, broken: names_critical },
    Rule { name: "host-names", whose: "Go, Chrome, rustls", of: Of::Leaf, refused: true, broken: host_names },
    Rule { name: "server-auth", whose: "Apple, Chrome", of: Of::Leaf, refused: true, broken: server_auth },
    Rule { name: "lifetime", whose: "Apple", of: Of::Leaf, refused: true, broken: lifetime },
    Rule { name: "key-usage", whose: "Chrome, Go", of: Of::Leaf, refused: true, broken: key_usage },
    Rule { name: "authority-key-id", whose: "openssl verify -x509_strict", of: Of::Leaf, refused: false, broken: authority_key_id },
];

/// The rules that a server's certificate breaks.
pub fn of_leaf(leaf: &Certificate, now: OffsetDateTime) -> Vec<Violation> {
    broken(leaf, Of::Leaf, now)
}

/// The rules that a CA's certificate breaks.
pub fn of_ca(ca: &Certificate, now: OffsetDateTime) -> Vec<Violation> {
    broken(ca, Of::Ca, now)
}

fn broken(certificate: &Certificate, of: Of, now: OffsetDateTime) -> Vec<Violation> {
    let rules = RULES.iter().filter(|rule| rule.of == of || rule.of == Of::Both);
    let violation = |rule: &Rule| {
        let what = (rule.broken)(certificate, now)?;
        Some(Violation { rule: rule.name, refused: rule.refused, what: format!("{what} ({})", rule.whose) })
    };
    rules.filter_map(violation).collect()
}

fn when(wrong: bool, what: impl Into<String>) -> Option<String> {
    wrong.then(|| what.into())
}

fn version(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.version != 3, format!("it is of version {}, not 3", found.version))
}

fn serial(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    let negative = found.serial.first().is_some_and(|first| first & 0x80 != 0);
    let zero = found.serial.iter().all(|byte| *byte == 0);
    let long = found.serial.iter().skip_while(|byte| **byte == 0).count() > 20;
    when(negative || zero || long, "its serial number is not positive, or over 20 bytes")
}

fn begun(found: &Certificate, now: OffsetDateTime) -> Option<String> {
    when(now < found.not_before, format!("it is valid from {} on only", found.not_before.date()))
}

fn not_ended(found: &Certificate, now: OffsetDateTime) -> Option<String> {
    when(now > found.not_after, format!("it expired on {}", found.not_after.date()))
}

fn key(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    match &found.key {
        Key::P256 | Key::P384 => None,
        Key::Rsa(bits) => when(*bits < 2048, format!("its RSA key has {bits} bits, less than 2048")),
        Key::Other(kind) => Some(format!("its key is neither RSA nor on P-256 or P-384 but {kind}")),
    }
}

fn signature(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    match &found.signature {
        // Whoever trusts a root trusts its key; nobody reads its signature of itself.
        Signature::Other(how) if !(found.is_root() && found.is_ca()) => Some(format!("it is signed with {how}, not with SHA-2")),
        _ => None,
    }
}

fn common_name(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    match &found.common_name {
        None => Some("its subject has no common name".to_owned()),
        Some(name) => when(name.chars().count() > LONGEST_COMMON_NAME, "its common name has over 64 characters"),
    }
}

fn ca(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(!found.is_ca(), "it is no CA: basic constraints lack CA:TRUE")
}

fn ca_critical(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.basic.is_some_and(|basic| basic.ca && !basic.critical), "its basic constraints are not critical")
}

fn ca_key_usage(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.usage.is_some_and(|usage| !usage.cert_sign), "its key usage lacks keyCertSign")
}

fn ca_says_key_usage(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.usage.is_none(), "it has no key usage")
}

fn key_id(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.key_id.is_none(), "it has no subject key identifier")
}

fn leaf_not_ca(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.is_ca(), "it is a CA's certificate, not a server's")
}

fn names(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    let none = found.names.as_ref().is_none_or(|names| names.dns.is_empty() && names.addresses.is_empty());
    when(none, "it has no subject alternative name that is a host name or an address")
}

fn names_critical(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    // An empty name is the empty sequence.
    let empty = found.raw_subject.len() <= 2;
    when(empty && found.names.as_ref().is_some_and(|names| !names.critical), "its subject is empty, but its names are not critical")
}

fn host_names(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    found.names.iter().flat_map(|names| &names.dns).find_map(|name| name_fault(name))
}

fn server_auth(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.server_auth != Some(true), "its extended key usage lacks serverAuth")
}

fn lifetime(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    let days = (found.not_after - found.not_before).whole_days();
    when(found.not_after - found.not_before > LONGEST_LEAF, format!("it is valid for {days} days, more than 825"))
}

fn key_usage(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.usage.is_some_and(|usage| !usage.digital_signature), "its key usage lacks digitalSignature")
}

fn authority_key_id(found: &Certificate, _: OffsetDateTime) -> Option<String> {
    when(found.authority_id.is_none() && !found.is_root(), "it has no authority key identifier")
}
