use rcgen::{BasicConstraints, IsCa, KeyPair, KeyUsagePurpose};
use time::Duration;

use super::certificate::{Basic, Certificate, Key, Signature, Usage};
use super::files::Change;
use super::found::{CA, CA_KEY, Found};
use super::plan::{Ask, Ca, Plan, State};
use super::reason::{Reason, names_of};
use super::rules::{Of, RULES};
use super::testing::{NOW, applied, company, company_authority, complete, decide, open, wanted};
use super::{Authority, chain, key, request, rules};

fn leaf_of(found: &Found) -> &Certificate {
    &found.pairs["mattermost"].chain[0]
}

#[test]
fn a_new_site_gets_a_constrained_root_and_a_certificate_for_each_service() {
    let site = complete();
    let root = &site.roots[0];
    assert_eq!(root.common_name.as_deref(), Some("mattermost.cicd.local Root CA"));
    assert_eq!((root.basic, root.key.clone()), (Some(Basic { critical: true, ca: true, path: Some(0) }), Key::P256));
    assert_eq!((root.not_after - root.not_before).whole_days(), 3652);
    assert_eq!(root.constraint, wanted().constraint());
    let leaf = leaf_of(&site);
    assert_eq!((leaf.not_before, leaf.not_after), (NOW - Duration::HOUR, NOW - Duration::HOUR + Duration::days(397)));
    assert_eq!(names_of(leaf).into_iter().collect::<Vec<_>>(), ["127.0.0.1", "192.168.1.5", "localhost", "mattermost.cicd.local"]);
    assert_eq!((leaf.server_auth, leaf.usage), (Some(true), Some(Usage { digital_signature: true, cert_sign: false })));
    assert_eq!(leaf.authority_id, root.key_id);
    assert!(leaf.key_id.is_some() && leaf.serial.len() == 16);
    assert_eq!(site.pairs["mattermost"].chain[1..], *std::slice::from_ref(root), "the chain follows the leaf");
    assert_eq!(site.pairs.len(), 2);
    for pair in site.pairs.values() {
        assert_eq!(chain::violations(&pair.chain, NOW), []);
    }
}

#[test]
fn two_certificates_have_nothing_in_common_but_their_names() {
    let (one, other) = (complete(), complete());
    assert_ne!(leaf_of(&one).serial, leaf_of(&other).serial);
    assert_ne!(leaf_of(&one).spki, leaf_of(&other).spki);
}

#[test]
fn a_root_without_a_constraint_has_none_when_it_is_switched_off() {
    let wanted = super::Wanted { constrained: false, ..wanted() };
    let plan = super::plan::plan(&Found::default(), &wanted, Ask::default(), NOW, &mut open).unwrap();
    assert_eq!(plan.done[0].certificate.constraint, None);
}

#[test]
fn long_names_are_cut_where_readers_would_refuse_them() {
    let mut wanted = wanted();
    let label = "a".repeat(60);
    wanted.site = format!("{label}.{label}.cicd.local");
    wanted.services[0].dns = vec![wanted.site.clone()];
    let plan = super::plan::plan(&Found::default(), &wanted, Ask::default(), NOW, &mut open).unwrap();
    let common_names: Vec<_> = plan.done.iter().filter_map(|done| done.certificate.common_name.as_deref()).collect();
    assert_eq!(common_names, [format!("{} Root CA", &wanted.site[..56]).as_str(), "mattermost", "postgres.cicd.local"]);
}

/// What spoils a certificate so that it breaks one rule.
type Spoil = fn(&mut Certificate);

#[test]
fn every_rule_is_broken_by_a_certificate_that_keeps_all_others() {
    let site = complete();
    let leaf: &[(&str, Spoil)] = &[
        ("version", |c| c.version = 1),
        ("serial", |c| c.serial = vec![0x80, 1]),
        ("serial", |c| c.serial = vec![0]),
        ("serial", |c| c.serial = vec![1; 21]),
        ("begun", |c| c.not_before = NOW + Duration::SECOND),
        ("not-ended", |c| c.not_after = NOW - Duration::SECOND),
        ("key", |c| c.key = Key::Rsa(2047)),
        ("key", |c| c.key = Key::Other("1.3.101.112".into())),
        ("signature", |c| c.signature = Signature::Other("SHA-1 with RSA".into())),
        ("leaf-not-ca", |c| c.basic = Some(Basic { critical: true, ca: true, path: None })),
        ("names", |c| c.names = None),
        ("names-critical", |c| c.raw_subject = vec![0x30, 0]),
        ("host-names", |c| c.names.as_mut().unwrap().dns.push("192.168.1.5".into())),
        ("server-auth", |c| c.server_auth = None),
        ("server-auth", |c| c.server_auth = Some(false)),
        ("lifetime", |c| c.not_after = c.not_before + Duration::days(825) + Duration::SECOND),
        ("key-usage", |c| c.usage = Some(Usage { digital_signature: false, cert_sign: false })),
        ("authority-key-id", |c| c.authority_id = None),
    ];
    let ca: &[(&str, Spoil)] = &[
        ("common-name", |c| c.common_name = None),
        ("common-name", |c| c.common_name = Some("x".repeat(65))),
        ("ca", |c| c.basic = Some(Basic { critical: true, ca: false, path: None })),
        ("ca-critical", |c| c.basic = Some(Basic { critical: false, ca: true, path: None })),
        ("ca-key-usage", |c| c.usage = Some(Usage { digital_signature: true, cert_sign: false })),
        ("ca-says-key-usage", |c| c.usage = None),
        ("ca-key-id", |c| c.key_id = None),
    ];
    let good = |c: &Certificate| (rules::of_leaf(c, NOW), rules::of_ca(c, NOW));
    assert_eq!(good(leaf_of(&site)).0, []);
    assert_eq!(good(&site.roots[0]).1, []);
    for (rule, spoil) in leaf {
        let mut spoilt = leaf_of(&site).clone();
        spoil(&mut spoilt);
        assert_eq!(good(&spoilt).0.iter().map(|found| found.rule).collect::<Vec<_>>(), [*rule]);
    }
    for (rule, spoil) in ca {
        let mut spoilt = site.roots[0].clone();
        spoil(&mut spoilt);
        assert_eq!(good(&spoilt).1.iter().map(|found| found.rule).collect::<Vec<_>>(), [*rule]);
    }
    let tripped: Vec<&str> = leaf.iter().chain(ca).map(|(rule, _)| *rule).collect();
    for rule in RULES {
        assert!(tripped.contains(&rule.name), "nothing trips {}", rule.name);
        assert_eq!(rule.of == Of::Ca, ca.iter().any(|(name, _)| *name == rule.name), "{}", rule.name);
    }
}

#[test]
fn nothing_is_written_the_second_time() {
    let site = complete();
    for days in [0, 1, 300, 366] {
        let plan = decide(&site, Ask::default(), NOW + Duration::days(days)).unwrap();
        assert_eq!(plan.changes, [], "after {days} days");
        assert!(plan.done.iter().all(|done| done.state == State::Unchanged) && plan.done.len() == 3);
    }
}

/// What was issued anew, and why.
fn issued(plan: &Plan) -> Vec<(&str, Reason)> {
    let all = plan.done.iter();
    all.filter_map(|done| match &done.state {
        State::Issued(reason) => Some((done.what.as_str(), reason.clone())),
        _ => None,
    })
    .collect()
}

#[test]
fn a_certificate_is_issued_anew_for_each_reason_and_for_that_service_alone() {
    let later = NOW + Duration::days(368);
    assert_eq!(
        issued(&decide(&complete(), Ask::default(), later).unwrap()),
        [("mattermost", Reason::Ending(28)), ("postgres", Reason::Ending(28))]
    );
    let mut site = complete();
    site.pairs.get_mut("postgres").unwrap().key = None;
    assert_eq!(issued(&decide(&site, Ask::default(), NOW).unwrap()), [("postgres", Reason::KeyMissing)]);
    site.pairs.get_mut("postgres").unwrap().key = Some(key::generate().unwrap());
    assert_eq!(issued(&decide(&site, Ask::default(), NOW).unwrap()), [("postgres", Reason::KeyOfAnother)]);
    site.pairs.remove("postgres");
    assert_eq!(issued(&decide(&site, Ask::default(), NOW).unwrap()), [("postgres", Reason::Missing)]);

    let mut moved = wanted();
    moved.services[0].addresses[0] = "10.0.0.9".parse().unwrap();
    moved.services[0].dns.push("chat.cicd.local".to_owned());
    let plan = super::plan::plan(&complete(), &moved, Ask::default(), NOW, &mut open).unwrap();
    let changed = Reason::NamesChanged { added: vec!["10.0.0.9".into(), "chat.cicd.local".into()], gone: vec!["192.168.1.5".into()] };
    assert_eq!(changed.to_string(), "it lacks 10.0.0.9, chat.cicd.local; it still names 192.168.1.5");
    assert_eq!(issued(&plan), [("mattermost", changed)]);
    assert_eq!(plan.changes.iter().map(|change| change.name.as_str()).collect::<Vec<_>>(), ["mattermost-key.pem", "mattermost.pem"]);
    assert!(!plan.enrol_again);
}

#[test]
fn another_ca_in_the_folder_makes_every_certificate_new() {
    let mut site = complete();
    let other = complete();
    (site.roots, site.ca_key) = (other.roots, other.ca_key);
    assert_eq!(issued(&decide(&site, Ask::default(), NOW).unwrap()), [("mattermost", Reason::CaChanged), ("postgres", Reason::CaChanged)]);
}

#[test]
fn renewing_leaves_keeps_the_root_and_renewing_the_root_makes_phones_enrol_again() {
    let site = complete();
    let leaves = decide(&site, Ask { renew: true, ..Ask::default() }, NOW).unwrap();
    assert_eq!(issued(&leaves), [("mattermost", Reason::Asked), ("postgres", Reason::Asked)]);
    assert!(!leaves.enrol_again && !leaves.changes.iter().any(|change| change.name == CA));

    let all = decide(&site, Ask { ca: Ca::Renew, ..Ask::default() }, NOW).unwrap();
    assert_eq!(issued(&all).len(), 3);
    assert!(all.enrol_again);
    let old = format!("old-ca-{}", site.roots[0].fingerprint().short());
    let kept = all.changes.iter().find(|change| change.name == format!("{old}-key.pem")).unwrap();
    assert_eq!(kept.content, site.ca_key);
    assert!(all.changes.iter().any(|change| change.name == format!("{old}.pem")));
    let next = applied(&all.changes, complete());
    assert_ne!(next.roots, site.roots);
    assert_eq!(decide(&next, Ask::default(), NOW).unwrap().changes, []);
}

#[test]
fn a_root_in_its_last_days_does_not_make_new_certificates_each_time() {
    let late = NOW + Duration::days(3640);
    let mut site = complete();
    let plan = decide(&site, Ask::default(), late).unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains("the CA ends on 2036-02-29")), "{:?}", plan.warnings);
    assert_eq!(plan.done[1].certificate.not_after, site.roots[0].not_after, "no certificate outlives its CA");
    site = applied(&plan.changes, site);
    assert_eq!(decide(&site, Ask::default(), late + Duration::DAY).unwrap().changes, []);
}

#[test]
fn an_existing_ca_signs_and_its_key_stays_away() {
    let ask = Ask { ca: Ca::Existing(Box::new(company_authority())), ..Ask::default() };
    let plan = decide(&Found::default(), ask, NOW).unwrap();
    assert!(!plan.changes.iter().any(|change| change.name == CA_KEY), "the key stays where it is");
    let site = applied(&plan.changes, Found::default());
    assert_eq!(site.roots[0].common_name.as_deref(), Some("Company Root"), "phones trust the root");
    assert_eq!(site.pairs["mattermost"].chain.len(), 3, "leaf, issuing CA, root");
    assert_eq!(chain::violations(&site.pairs["mattermost"].chain, NOW), []);
    assert_eq!(decide(&site, Ask::default(), NOW).unwrap().changes, [], "later runs need no key while nothing is due");

    let error = decide(&site, Ask::default(), NOW + Duration::days(390)).unwrap_err();
    insta::assert_snapshot!(error, @"
    to be issued: mattermost, postgres; but the key of CN=Company Root, O=Company is not in pki/
      mattermost: it ends in 6 days
      postgres: it ends in 6 days
    hint: cargo xtask certs --ca FILE --ca-key FILE signs with it; --csr asks somebody who has it
    ");
}

#[test]
fn taking_an_existing_ca_puts_the_sites_own_aside() {
    let site = complete();
    let plan = decide(&site, Ask { ca: Ca::Existing(Box::new(company_authority())), ..Ask::default() }, NOW).unwrap();
    assert!(plan.enrol_again);
    assert!(plan.changes.contains(&Change::remove(CA_KEY)));
    assert_eq!(issued(&plan), [("mattermost", Reason::CaChanged), ("postgres", Reason::CaChanged)]);
}

#[test]
fn a_ca_that_no_client_would_take_is_refused() {
    let soon = NOW - Duration::DAY;
    let judge = |(chain, _): (Vec<Certificate>, KeyPair)| super::given::judge_ca(&chain, &wanted(), NOW).unwrap_err().to_string();
    insta::assert_snapshot!(judge(company(|ca| ca.not_after = soon)), @"
    clients would refuse certificates of the CA CN=Company Issuing, O=Company
      the CA CN=Company Issuing, O=Company: it expired on 2026-02-28 (everybody)
    ");
    insta::assert_snapshot!(judge(company(|ca| ca.is_ca = IsCa::ExplicitNoCa)), @"
    clients would refuse certificates of the CA CN=Company Issuing, O=Company
      the CA CN=Company Issuing, O=Company: it is no CA: basic constraints lack CA:TRUE (everybody)
    ");
    insta::assert_snapshot!(judge(company(|ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign])), @"
    clients would refuse certificates of the CA CN=Company Issuing, O=Company
      the CA CN=Company Issuing, O=Company: its key usage lacks keyCertSign (everybody)
    ");
    let (chain, _) = company(|_| {});
    let mut long = vec![chain[0].clone()];
    long.extend(chain.clone());
    long[2].basic = Some(Basic { critical: true, ca: true, path: Some(0) });
    assert!(super::given::judge_ca(&long, &wanted(), NOW).unwrap_err().to_string().contains("allows 0 CAs below it, and 2 are there"));
    let (_, other) = company(|_| {});
    insta::assert_snapshot!(Authority::new(chain, other).unwrap_err(), @"the CA's key does not belong to its certificate, CN=Company Issuing, O=Company");
}

#[test]
fn what_lies_outside_of_the_constraint_is_refused_with_the_way_out() {
    let mut moved = wanted();
    moved.services[0].addresses.push("203.0.113.7".parse().unwrap());
    moved.services[1].dns.push("db.example.org".to_owned());
    let error = super::plan::plan(&complete(), &moved, Ask::default(), NOW, &mut open).unwrap_err();
    insta::assert_snapshot!(error, @"
    outside of what the CA CN=mattermost.cicd.local Root CA is constrained to: 203.0.113.7, db.example.org
      permitted: cicd.local, localhost, postgres, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16, 127.0.0.0/8, fc00::/7, fe80::/10, ::1/128
    hint: cargo xtask certs renew --ca makes a root for today's names; phones have to enrol again
    ");
    let renewed = super::plan::plan(&complete(), &moved, Ask { ca: Ca::Renew, ..Ask::default() }, NOW, &mut open).unwrap();
    assert!(renewed.enrol_again);
}

#[test]
fn a_given_certificate_is_judged_and_never_replaced() {
    let authority = company_authority();
    let service = &wanted().services[0];
    let give = |service: &super::Server| {
        let key = key::generate().unwrap();
        let mut chain = vec![authority.issue(service, &key, NOW).unwrap()];
        chain.extend(authority.chain.clone());
        Ask { given: [("mattermost".to_owned(), (chain, key))].into(), ..Ask::default() }
    };
    let plan = decide(&Found::default(), give(service), NOW).unwrap();
    assert_eq!(issued(&plan), [("ca", Reason::Missing), ("postgres", Reason::Missing)], "the site's own CA signs the rest");
    let site = applied(&plan.changes, Found::default());
    assert!(site.pairs["mattermost"].given);
    assert_eq!(site.roots.len(), 2, "clients need both roots");
    assert_eq!(decide(&site, Ask::default(), NOW).unwrap().changes, []);

    let soon = decide(&site, Ask::default(), NOW + Duration::days(380)).unwrap();
    assert_eq!(issued(&soon), [("postgres", Reason::Ending(16))], "it is not ours to renew");
    assert!(soon.warnings.iter().any(|warning| warning.contains("mattermost: its certificate ends in 16 days")), "{:?}", soon.warnings);
    let ended = decide(&site, Ask::default(), NOW + Duration::days(400)).unwrap_err().to_string();
    assert!(ended.contains("it expired on 2027-04-02") && ended.contains("hint: bring a new one"), "{ended}");

    let partly = super::Server { addresses: Vec::new(), ..service.clone() };
    let plan = decide(&Found::default(), give(&partly), NOW).unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains("come by 127.0.0.1, 192.168.1.5 will refuse")), "{:?}", plan.warnings);
    let other = super::Server { dns: vec!["other.cicd.local".into()], ..service.clone() };
    let error = decide(&Found::default(), give(&other), NOW).unwrap_err().to_string();
    assert!(error.starts_with("the certificate for mattermost is not for mattermost.cicd.local"), "{error}");
    let wild = super::Server { dns: vec!["*.cicd.local".into()], ..service.clone() };
    assert!(decide(&Found::default(), give(&wild), NOW).is_ok(), "a wildcard stands for one label");
}

#[test]
fn a_request_goes_out_and_its_certificate_comes_in() {
    let services = wanted().services;
    let (changes, made) = request::requests(&Found::default(), &services.iter().collect::<Vec<_>>(), NOW).unwrap();
    assert_eq!(made, ["mattermost", "postgres"]);
    let site = applied(&changes, Found::default());
    let (again, none) = request::requests(&site, &services.iter().collect::<Vec<_>>(), NOW).unwrap();
    assert!(again.is_empty() && none.is_empty(), "somebody may be signing the request that is out");

    let authority = company_authority();
    let sign =
        |name: &str| authority.issue(services.iter().find(|service| service.name == name).unwrap(), &site.requests[name].1, NOW).unwrap();
    let mut pool = vec![authority.chain[1].clone(), sign("postgres"), authority.chain[0].clone(), sign("mattermost")];
    let given = request::answers(applied(&changes, Found::default()), &pool).unwrap();
    let plan = decide(&site, Ask { given, ..Ask::default() }, NOW).unwrap();
    assert!(plan.changes.contains(&Change::remove("postgres.csr")) && plan.changes.contains(&Change::remove("postgres-request-key.pem")));
    let site = applied(&plan.changes, site);
    assert_eq!((site.requests.len(), site.roots.len(), site.ca_key.is_some()), (0, 1, false), "no CA of our own was made");
    assert_eq!(decide(&site, Ask::default(), NOW).unwrap().changes, []);

    let waiting = || applied(&changes, Found::default());
    pool.remove(0);
    let error = request::answers(waiting(), &pool).unwrap_err().to_string();
    assert!(error.contains("does not lead to a root\n  expected the certificate of: CN=Company Root"), "{error}");
    let strangers = vec![leaf_of(&complete()).clone()];
    let error = request::answers(waiting(), &strangers).unwrap_err().to_string();
    assert!(error.starts_with("none of these certificates was made from a request of this site"), "{error}");
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_alone() {
    let made = key::generate().unwrap();
    let plain = pkcs8::PrivateKeyInfo::try_from(made.serialized_der()).unwrap();
    let how = pkcs8::pkcs5::pbes2::Parameters::pbkdf2_sha256_aes256cbc(1000, b"salted", &[7; 16]).unwrap();
    let locked = plain.encrypt_with_params(how, "p ä$\"s").unwrap();
    let pem = locked.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
    let read = |pem: &str, passphrase: &str| key::read(pem, "ca-key.pem", &mut || Ok(passphrase.to_owned()));
    assert_eq!(read(&format!("Bag Attributes\n{}", *pem), "p ä$\"s").unwrap().serialized_der(), made.serialized_der());
    for wrong in ["", "p", "other"] {
        assert_eq!(read(&pem, wrong).unwrap_err().to_string(), "the passphrase does not open ca-key.pem");
    }
    let error = |pem: &str| read(pem, "").unwrap_err().to_string();
    assert!(error("").starts_with("ca-key.pem holds no private key in PEM"));
    assert!(error(&complete().roots[0].pem()).starts_with("ca-key.pem holds a CERTIFICATE, not a private key"));
    insta::assert_snapshot!(error("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), @"
    ca-key.pem is in an old form: EC PRIVATE KEY
      expected PKCS#8: PRIVATE KEY, or ENCRYPTED PRIVATE KEY
    hint: openssl pkcs8 -topk8 -v2 aes-256-cbc -in ca-key.pem -out key.pem
    ");
    assert!(error("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").starts_with("ca-key.pem is not readable PEM"));
    assert!(!format!("{:?}", company_authority()).contains("key"), "a key stands in no Debug");
}

#[test]
fn path_length_counts_the_cas_below() {
    let (chain, _) = company(|ca| ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    assert_eq!(chain::of_cas(&chain, NOW), []);
}

fn site(toml: &str) -> super::Wanted {
    super::Wanted::of(
        &crate::site::parse("site.toml", &format!("format = 1\n{toml}"), || Ok(vec!["192.168.1.5".parse().unwrap()])).unwrap(),
    )
}

#[test]
fn servers_are_named_as_their_clients_name_them() {
    let wanted =
        site("names = [\"chat.example.org\"]\naddresses = [\"10.0.0.2\", \"fd00::2\"]\n[network]\nfront = \"https://talk.example.org\"\n");
    let names = |name: &str| wanted.services.iter().find(|server| server.name == name).unwrap();
    let mattermost = names("mattermost");
    assert_eq!(mattermost.dns, ["mattermost.cicd.local", "chat.example.org", "talk.example.org", "mattermost", "localhost"]);
    assert_eq!(mattermost.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2", "fd00::2", "127.0.0.1", "::1"]);
    assert_eq!(names("postgres").dns, ["postgres.mattermost.cicd.local", "postgres.cicd.local", "postgres", "localhost"]);
    assert_eq!(names("coturn").dns, ["coturn.cicd.local", "coturn", "localhost", "mattermost.cicd.local", "chat.example.org"]);
    let constraint = wanted.constraint().unwrap();
    for server in &wanted.services {
        assert!(server.dns.iter().all(|name| constraint.allows_name(name)), "{}", server.name);
        assert!(server.addresses.iter().all(|address| constraint.allows_address(*address)), "{}", server.name);
    }
}

#[test]
fn the_constraint_can_be_widened_and_switched_off() {
    assert_eq!(site("[pki]\nconstrain = false\n").constraint(), None);
    assert!(site("[pki]\npermit = [\"example.net\"]\n").constraint().unwrap().allows_name("a.example.net"));
    assert!(!site("").constraint().unwrap().allows_name("a.example.net"));
}
