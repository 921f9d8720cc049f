//! `cargo xtask certs show`: what is there, read by the independent reader, and what clients say to it.

use std::os::unix::fs::PermissionsExt;

use images::{Class, Error, Result};
use serde::Serialize;
use time::OffsetDateTime;

use super::make::look;
use crate::output::Output;
use crate::site::SiteArgs;
use crate::site::pki::certificate::Certificate;
use crate::site::pki::files::{Files, mode_of};
use crate::site::pki::found::{CA, CA_KEY, Found, cert_file, key_file};
use crate::site::pki::reason::Pair;
use crate::site::pki::rules::{Violation, of_ca};
use crate::site::pki::{Wanted, chain, key};

/// Show the site's certificates: names, days left, fingerprints, and the rules of clients that they break
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Print JSON: `format` 1 and one object for each certificate
    #[arg(long)]
    json: bool,
}

/// What is shown; `format` changes when a field's meaning does.
#[derive(Serialize)]
struct Report {
    format: u32,
    certificates: Vec<Shown>,
}

/// One certificate.
#[derive(Debug, PartialEq, Serialize)]
struct Shown {
    /// `ca`, or the service.
    name: String,
    /// Below the site's folder.
    file: String,
    subject: String,
    issuer: String,
    /// Host names and addresses that it is for.
    names: Vec<String>,
    /// What a CA is constrained to; empty where it is not.
    permitted: String,
    not_before: String,
    not_after: String,
    days_left: i64,
    /// SHA-256 of the DER form, in hexadecimal.
    sha256: String,
    /// Whether somebody else issued it.
    given: bool,
    violations: Vec<Violation>,
}

/// Shows them. Exit code 1 where clients would refuse one.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let (folder, site) = args.site.load()?;
    let wanted = Wanted::of(&site);
    let (files, found) = (Files::look(&folder.pki()), look(&folder.pki(), &wanted)?);
    if found.roots.is_empty() && found.pairs.is_empty() {
        return Err(Error::new(Class::Check, format!("{} has no certificates", folder.root().display())).hint("cargo xtask certs"));
    }
    let certificates = shown(&files, &found, OffsetDateTime::now_utc());
    let refused: Vec<String> =
        certificates.iter().filter(|one| one.violations.iter().any(|violation| violation.refused)).map(|one| one.name.clone()).collect();
    if args.json {
        let report = Report { format: 1, certificates };
        out.result(serde_json::to_string_pretty(&report).unwrap_or_else(|error| unreachable!("plain data: {error}")));
    } else {
        certificates.iter().for_each(|one| out.result(table(one)));
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::new(Class::Check, format!("clients would refuse: {}", refused.join(", "))).hint("cargo xtask certs")),
    }
}

fn shown(files: &Files, found: &Found, now: OffsetDateTime) -> Vec<Shown> {
    let roots = found.roots.iter().enumerate().map(|(number, root)| {
        let mut violations = of_ca(root, now);
        if number == 0 {
            violations.extend(readable_by_others(files, CA_KEY));
        }
        one("ca", CA.to_owned(), root, false, violations, now)
    });
    let pairs = found.pairs.iter().map(|(name, pair)| {
        let mut violations = violations_of(pair, &found.roots, now);
        violations.extend(readable_by_others(files, &key_file(name)));
        one(name, cert_file(name), &pair.chain[0], pair.given, violations, now)
    });
    roots.chain(pairs).collect()
}

/// What clients say to a service's certificate, and what is wrong with its key.
pub fn violations_of(pair: &Pair, roots: &[Certificate], now: OffsetDateTime) -> Vec<Violation> {
    let mut found = chain::violations(&pair.chain, now);
    let refused = |rule, what: &str| Violation { rule, refused: true, what: what.to_owned() };
    if !pair.chain.last().is_some_and(|last| roots.contains(last) || roots.iter().any(|root| last.is_signed_by(root))) {
        found.push(refused("root", "it does not lead to the site's CA in pki/ca.pem"));
    }
    match &pair.key {
        None => found.push(refused("private-key", "its private key is missing")),
        Some(key) if !key::fits(key, &pair.chain[0]) => {
            found.push(refused("private-key", "the private key belongs to another certificate"))
        }
        Some(_) => {}
    }
    found
}

/// Keys are for their owner alone; somebody may have copied them about.
fn readable_by_others(files: &Files, name: &str) -> Option<Violation> {
    let mode = fs_err::metadata(files.path(name)).ok()?.permissions().mode() & 0o777;
    (mode & !mode_of(name) != 0).then(|| Violation {
        rule: "mode",
        refused: false,
        what: format!("pki/{name} has mode {mode:04o}, so others can read it: chmod 600"),
    })
}

fn one(name: &str, file: String, certificate: &Certificate, given: bool, violations: Vec<Violation>, now: OffsetDateTime) -> Shown {
    let names = certificate.names.iter().flat_map(|names| names.dns.iter().cloned().chain(names.addresses.iter().map(ToString::to_string)));
    Shown {
        name: name.to_owned(),
        file: format!("pki/{file}"),
        subject: certificate.subject.clone(),
        issuer: certificate.issuer.clone(),
        names: names.collect(),
        permitted: certificate.constraint.as_ref().map(|constraint| constraint.permitted.to_string()).unwrap_or_default(),
        not_before: instant(certificate.not_before),
        not_after: instant(certificate.not_after),
        days_left: certificate.days_left(now),
        sha256: certificate.fingerprint().to_string(),
        given,
        violations,
    }
}

/// RFC 3339, in UTC.
fn instant(time: OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|error| unreachable!("a year with four digits: {error}"))
}

fn table(one: &Shown) -> String {
    let mut lines = vec![format!("{}  {}", one.name, one.subject)];
    let mut row = |what: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {what:<10} {value}"));
        }
    };
    row("file", format!("{}{}", one.file, if one.given { ", issued elsewhere" } else { "" }));
    row("names", one.names.join(", "));
    row("permitted", one.permitted.clone());
    row("until", format!("{}, {} days left", &one.not_after[..10], one.days_left));
    row("sha256", one.sha256.clone());
    for violation in &one.violations {
        row(if violation.refused { "✘ refused" } else { "✘ strict" }, violation.what.clone());
    }
    lines.join("\n")
}
