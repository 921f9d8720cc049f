//! From what a site has and wants to the files that change, with the reason of each.

use std::collections::BTreeMap;

use images::{Class, Error, Result};
use rcgen::KeyPair;
use time::OffsetDateTime;

use super::certificate::Certificate;
use super::files::Change;
use super::found::{CA, CA_KEY, Found, GIVEN, cert_file, key_file, pem_of, request_file, request_key_file};
use super::issue::LEAF;
use super::reason::{Issuing, Pair, Reason, why_reissue};
use super::{Authority, Server, Wanted, chain, given, key};

/// Which CA signs.
#[derive(Debug, Default)]
pub enum Ca {
    /// The one that the site has; a root of its own where it has none.
    #[default]
    Keep,
    /// One that exists, with its key.
    Existing(Box<Authority>),
    /// A new root of the site's own.
    Renew,
}

/// What somebody asks for, beyond "what is needed".
#[derive(Debug, Default)]
pub struct Ask {
    /// Which CA signs.
    pub ca: Ca,
    /// Certificates from elsewhere: service → complete chain and key.
    pub given: BTreeMap<String, (Vec<Certificate>, KeyPair)>,
    /// Issue anew though nothing asks for it.
    pub renew: bool,
}

/// What became of a certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It was issued.
    Issued(Reason),
    /// It was brought from elsewhere.
    Brought,
    /// It is as it was.
    Unchanged,
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// `ca`, or a service.
    pub what: String,
    /// What became of it.
    pub state: State,
    /// The certificate.
    pub certificate: Certificate,
}

/// What is to be written, and what to tell.
#[derive(Debug, Default)]
pub struct Plan {
    /// The files; none when nothing changes.
    pub changes: Vec<Change>,
    /// Every certificate, the CA first.
    pub done: Vec<Done>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Whether phones have to enrol again.
    pub enrol_again: bool,
}

/// Opens the key of the site's own root, asking for its passphrase where it is encrypted.
pub type OpenKey<'a> = &'a mut dyn FnMut(&str) -> Result<KeyPair>;

/// Decides. Refuses what clients would refuse; then nothing changes.
pub fn plan(found: &Found, wanted: &Wanted, mut ask: Ask, now: OffsetDateTime, open_key: OpenKey<'_>) -> Result<Plan> {
    let is_given = |service: &Server| ask.given.contains_key(&service.name) || pair_given(found, service).is_some();
    let needed = !wanted.services.iter().all(is_given);
    let renew = ask.renew || matches!(ask.ca, Ca::Renew);
    let mut issuer = Issuer::choose(found, wanted, std::mem::take(&mut ask.ca), needed, now)?;
    let mut plan = Plan::default();
    let mut roots: Vec<Certificate> = issuer.chain().and_then(|chain| chain.last()).cloned().into_iter().collect();
    let mut lacking = Vec::new();
    for service in &wanted.services {
        if let Some((chain, key)) = ask.given.get(&service.name) {
            plan.warnings.extend(given::judge(chain, key, service, now)?);
            plan.bring(service, chain, key, found);
            roots.extend(chain.last().cloned());
        } else if let Some(pair) = pair_given(found, service) {
            let chain = given::stays(pair, service, &found.roots, now, &mut plan.warnings)?;
            plan.keep(service, &chain[0]);
            roots.extend(chain.last().cloned());
        } else {
            let existing = found.pairs.get(&service.name);
            match renew.then_some(Reason::Asked).or_else(|| issuer.why(existing, service, found, now)) {
                None => existing.into_iter().for_each(|pair| plan.keep(service, &pair.chain[0])),
                Some(reason) => match issuer.open(found, open_key)? {
                    Some(authority) => plan.issue(authority, service, reason, now)?,
                    None => lacking.push((service, reason)),
                },
            }
        }
    }
    refuse_without_key(&lacking, found)?;
    if issuer.chain().is_none() {
        roots.splice(0..0, found.roots.iter().cloned());
    }
    plan.put_ca(&issuer, roots, found, now);
    Ok(plan)
}

fn pair_given<'a>(found: &'a Found, service: &Server) -> Option<&'a Pair> {
    found.pairs.get(&service.name).filter(|pair| pair.given)
}

fn refuse_without_key(lacking: &[(&Server, Reason)], found: &Found) -> Result<()> {
    if lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = lacking.iter().map(|(service, _)| service.name.as_str()).collect();
    let ca = found.roots.first().map_or("the site's CA", |root| root.subject.as_str());
    let error = Error::new(Class::Check, format!("to be issued: {}; but the key of {ca} is not in pki/", names.join(", ")));
    let error = lacking.iter().fold(error, |error, (service, reason)| error.detail(format!("{}: {reason}", service.name)));
    Err(error.hint("cargo xtask certs --ca FILE --ca-key FILE signs with it; --csr asks somebody who has it"))
}

/// Who signs.
enum Issuer {
    /// The site's own root, its key unread.
    Own(Vec<Certificate>),
    /// A CA whose key is open, and whether it was made just now.
    Open { authority: Box<Authority>, made: Option<Reason> },
    /// Nobody here.
    Nobody,
}

impl Issuer {
    fn choose(found: &Found, wanted: &Wanted, ca: Ca, needed: bool, now: OffsetDateTime) -> Result<Issuer> {
        let make = |reason| {
            let authority = Box::new(Authority::make_root(&wanted.site, wanted.constraint().as_ref(), now)?);
            Ok(Issuer::Open { authority, made: Some(reason) })
        };
        match (ca, found.roots.first(), &found.ca_key) {
            (Ca::Renew, ..) => make(Reason::Asked),
            (Ca::Existing(authority), ..) => {
                given::judge_ca(&authority.chain, wanted, now)?;
                Ok(Issuer::Open { authority, made: None })
            }
            (Ca::Keep, Some(root), Some(_)) => {
                given::judge_ca(std::slice::from_ref(root), wanted, now)?;
                Ok(Issuer::Own(vec![root.clone()]))
            }
            (Ca::Keep, None, Some(_)) => Err(Error::new(Class::Check, format!("pki/{CA_KEY} is there, but pki/{CA} is not"))
                .hint(format!("bring pki/{CA} back from a backup, or move pki/{CA_KEY} away for a new CA"))),
            (Ca::Keep, None, None) if needed => make(Reason::Missing),
            (Ca::Keep, _, None) => Ok(Issuer::Nobody),
        }
    }

    fn chain(&self) -> Option<&[Certificate]> {
        match self {
            Issuer::Own(chain) => Some(chain),
            Issuer::Open { authority, .. } => Some(&authority.chain),
            Issuer::Nobody => None,
        }
    }

    fn why(&self, existing: Option<&Pair>, service: &Server, found: &Found, now: OffsetDateTime) -> Option<Reason> {
        // Without a CA here, what lies above the certificate has to lead to a root that the site trusts.
        let above = existing.map(|pair| &pair.chain[1..]).filter(|above| above.last().is_some_and(|root| found.roots.contains(root)));
        let chain = self.chain().or(above).unwrap_or_default();
        let end = super::issue::end_of_leaf(chain, now);
        why_reissue(existing, service, Issuing { chain, end }, now)
    }

    fn open(&mut self, found: &Found, open_key: OpenKey<'_>) -> Result<Option<&Authority>> {
        if let (Issuer::Own(chain), Some(pem)) = (&self, &found.ca_key) {
            let authority = Box::new(Authority::new(chain.clone(), open_key(pem)?)?);
            *self = Issuer::Open { authority, made: None };
        }
        Ok(match self {
            Issuer::Open { authority, .. } => Some(authority),
            _ => None,
        })
    }
}

impl Plan {
    fn keep(&mut self, service: &Server, certificate: &Certificate) {
        self.done.push(Done { what: service.name.clone(), state: State::Unchanged, certificate: certificate.clone() });
    }

    fn bring(&mut self, service: &Server, chain: &[Certificate], key: &KeyPair, found: &Found) {
        let same = found
            .pairs
            .get(&service.name)
            .is_some_and(|pair| pair.given && pair.chain == chain && pair.key.as_ref().is_some_and(|key| key::fits(key, &chain[0])));
        if same {
            return self.keep(service, &chain[0]);
        }
        self.changes.push(Change::write(key_file(&service.name), key::pem(key)));
        self.changes.push(Change::write(cert_file(&service.name), format!("{GIVEN}{}", pem_of(chain))));
        if found.requests.contains_key(&service.name) {
            self.changes.push(Change::remove(request_file(&service.name)));
            self.changes.push(Change::remove(request_key_file(&service.name)));
        }
        self.done.push(Done { what: service.name.clone(), state: State::Brought, certificate: chain[0].clone() });
    }

    fn issue(&mut self, authority: &Authority, service: &Server, reason: Reason, now: OffsetDateTime) -> Result<()> {
        let key = key::generate()?;
        let leaf = authority.issue(service, &key, now)?;
        let full: Vec<Certificate> = std::iter::once(leaf.clone()).chain(authority.chain.iter().cloned()).collect();
        chain::refuse(&chain::violations(&full, now), &format!("the new certificate of {}", service.name))?;
        self.changes.push(Change::write(key_file(&service.name), key::pem(&key)));
        self.changes.push(Change::write(cert_file(&service.name), pem_of(&full)));
        self.done.push(Done { what: service.name.clone(), state: State::Issued(reason), certificate: leaf });
        Ok(())
    }

    /// The site's CA: `ca.pem` holds every root that one of the site's certificates leads to.
    fn put_ca(&mut self, issuer: &Issuer, mut roots: Vec<Certificate>, found: &Found, now: OffsetDateTime) {
        let mut seen = Vec::new();
        roots.retain(|root| {
            !seen.contains(&root.der) && {
                seen.push(root.der.clone());
                true
            }
        });
        let Some(first) = roots.first().cloned() else { return };
        let made = match issuer {
            Issuer::Open { authority, made: Some(reason) } => Some((authority, reason.clone())),
            _ => None,
        };
        let changed = roots != found.roots;
        let replaced = found.roots.first().filter(|old| !roots.contains(old));
        if changed {
            self.changes.push(Change::write(CA, pem_of(&roots)));
        }
        if let Some(old) = replaced {
            self.enrol_again = true;
            self.put_aside(old, found);
        }
        let state = match made {
            Some((authority, reason)) => {
                self.changes.retain(|change| change.name != CA_KEY);
                self.changes.push(Change::write(CA_KEY, authority.key_pem()));
                State::Issued(reason)
            }
            None if changed => State::Brought,
            None => State::Unchanged,
        };
        if first.not_after - now < LEAF {
            self.warnings.push(format!(
                "the CA ends on {}, and every certificate with it: cargo xtask certs renew --ca makes another, and phones enrol again",
                first.not_after.date()
            ));
        }
        self.done.insert(0, Done { what: "ca".to_owned(), state, certificate: first });
    }

    /// Keeps a CA that is replaced under another name, with its key: until the last phone has the new one it may be wanted.
    fn put_aside(&mut self, old: &Certificate, found: &Found) {
        let name = format!("old-ca-{}", old.fingerprint().short());
        self.changes.push(Change::write(format!("{name}.pem"), old.pem()));
        if let Some(key) = &found.ca_key {
            self.changes.push(Change::write(format!("{name}-key.pem"), key.clone()));
            self.changes.push(Change::remove(CA_KEY));
        }
    }
}
