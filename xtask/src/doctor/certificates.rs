//! Judges of certificates: those that lie in the site's folder, and the rules that both they and those of the running stack keep.

use time::OffsetDateTime;

use super::{Check, list};
use crate::site::pki::certificate::Certificate;
use crate::site::pki::found::Found;
use crate::site::pki::reason::{Pair, RENEW_BEFORE, wanted_names};
use crate::site::pki::rules::{Violation, of_ca};
use crate::site::pki::{Server, Wanted};

const MAKE: &str = "cargo xtask certs && cargo xtask up";

/// One check for the CA and one for each service.
pub fn judge(wanted: &Wanted, found: &Found, now: OffsetDateTime) -> Vec<Check> {
    if found.roots.is_empty() && found.pairs.is_empty() {
        return vec![Check::problem("certificates", "Certificates", "there are none yet", "cargo xtask certs")];
    }
    let services = wanted.services.iter().map(|server| of_service(server, found.pairs.get(&server.name), &found.roots, now));
    std::iter::once(root(&found.roots, now)).chain(services).collect()
}

fn root(roots: &[Certificate], now: OffsetDateTime) -> Check {
    let (id, title) = ("certificate.ca", "Certificate of the CA");
    let Some(root) = roots.first() else { return Check::problem(id, title, "pki/ca.pem is not there", MAKE) };
    match refused(&of_ca(root, now)) {
        None => Check::ok(id, title, until(root, now)),
        Some(broken) => Check::problem(id, title, broken, "cargo xtask certs renew --ca; every phone has to enrol again"),
    }
}

fn of_service(server: &Server, pair: Option<&Pair>, roots: &[Certificate], now: OffsetDateTime) -> Check {
    let (id, title) = (format!("certificate.{}", server.name), format!("Certificate of {}", server.name));
    let Some(pair) = pair else { return Check::problem(id, title, "there is none", MAKE) };
    let leaf = &pair.chain[0];
    let mend = match pair.given {
        true => "cargo xtask certs --cert FILE --key FILE, with a new one from where this came",
        false => MAKE,
    };
    let broken = refused(&crate::cli::certs::show::violations_of(pair, roots, now));
    let lacking: Vec<String> = wanted_names(server).into_iter().filter(|name| !crate::site::pki::given::covers(leaf, name)).collect();
    match (broken, ending(leaf, now)) {
        (Some(broken), _) => Check::problem(id, title, broken, mend),
        // Somebody else's certificate need not have every name that only containers use.
        (None, _) if !lacking.is_empty() && !pair.given => Check::problem(id, title, format!("it is not for {}", list(&lacking, 4)), mend),
        (None, Some(ending)) => Check::problem(id, title, ending, mend),
        (None, None) => Check::ok(id, title, until(leaf, now)),
    }
}

/// When a certificate ends, for people.
pub fn until(certificate: &Certificate, now: OffsetDateTime) -> String {
    format!("until {} ({} days)", certificate.not_after.date(), certificate.days_left(now))
}

/// That a certificate ends soon, for people.
pub fn ending(certificate: &Certificate, now: OffsetDateTime) -> Option<String> {
    let days = certificate.days_left(now);
    (certificate.not_after - now < RENEW_BEFORE).then(|| format!("it ends in {days} days, on {}", certificate.not_after.date()))
}

/// The rules whose breach makes clients refuse, each by name and in words, one a line.
pub fn refused(violations: &[Violation]) -> Option<String> {
    let mut lines: Vec<String> = violations
        .iter()
        .filter(|violation| violation.refused)
        .map(|violation| format!("{}: {}", violation.rule, violation.what))
        .collect();
    lines.dedup();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::Outcome;
    use super::*;
    use crate::site::pki::testing::{NOW, complete, wanted};

    fn problems(found: &Found, wanted: &Wanted, now: OffsetDateTime) -> Vec<String> {
        let words = |check: Check| match check.outcome {
            Outcome::Problem { found, .. } => Some(format!("{}: {found}", check.id)),
            _ => None,
        };
        judge(wanted, found, now).into_iter().filter_map(words).collect()
    }

    #[test]
    fn fresh_certificates_are_fine_and_say_how_long() {
        let checks = judge(&wanted(), &complete(), NOW);
        assert!(checks.len() == 3 && !checks.iter().any(Check::is_problem), "{checks:?}");
        assert!(matches!(&checks[1].outcome, Outcome::Ok { found } if found == "until 2027-04-02 (396 days)"), "{checks:?}");
    }

    #[test]
    fn what_is_missing_ending_expired_or_for_other_names_is_told() {
        assert_eq!(problems(&Found::default(), &wanted(), NOW), ["certificates: there are none yet"]);
        let mut gone = complete();
        gone.pairs.remove("postgres");
        assert_eq!(problems(&gone, &wanted(), NOW), ["certificate.postgres: there is none"]);
        let soon = problems(&complete(), &wanted(), NOW + Duration::days(370));
        assert!(soon.len() == 2 && soon[0].starts_with("certificate.mattermost: it ends in 26 days"), "{soon:?}");
        let late = problems(&complete(), &wanted(), NOW + Duration::days(400));
        assert!(late[0].starts_with("certificate.mattermost: not-ended: it expired on"), "{late:?}");
        let early = problems(&complete(), &wanted(), NOW - Duration::days(1));
        assert!(early.len() == 3 && early[0].starts_with("certificate.ca: begun:"), "{early:?}");
        let mut moved = wanted();
        moved.services[0].addresses.push("192.168.1.6".parse().unwrap());
        assert_eq!(problems(&complete(), &moved, NOW), ["certificate.mattermost: it is not for 192.168.1.6"]);
        let mut keyless = complete();
        keyless.pairs.get_mut("mattermost").unwrap().key = None;
        assert!(problems(&keyless, &wanted(), NOW)[0].contains("private-key"));
    }
}
