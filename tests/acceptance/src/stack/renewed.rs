//! Certificates and secrets that were made anew reach what runs with the next `up`.

use std::time::Instant;

use images::Result;

use super::{Site, said};
use crate::world::World;

/// Each by one `up`: the secret that one service has, those that two share, and every certificate.
pub fn reaches_what_runs(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    site.is_up()?;

    rotated(&site, "MATTERMOST_AT_REST_KEY", &["mattermost"])?;

    let old = site.path().join("old-turn-secret");
    images::file::write_beside(&old, site.secret("MATTERMOST_TURN_SECRET").as_bytes(), 0o600)?;
    let allocated = |options: &str| site.xtask(&format!("doctor turn {options}")).outcome();
    assert!(allocated("")?.success(), "{}", said(&allocated("")?));
    rotated(&site, "MATTERMOST_TURN_SECRET", &["coturn", "mattermost"])?;
    assert!(allocated("")?.success(), "the new secret: {}", said(&allocated("")?));
    let refused = allocated(&format!("--secret-file {}", old.display()))?;
    assert!(!refused.success() && said(&refused).contains("401"), "the old secret: {}", said(&refused));

    let verifier = || site.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'mattermost'");
    let before = verifier()?;
    rotated(&site, "MATTERMOST_DB_PASSWORD", &["mattermost", "postgres"])?;
    assert_ne!(verifier()?, before);

    let served = [("mattermost", 0), ("alert-gateway", 3), ("coturn", 5)];
    let serves_its_own = || -> Result<Vec<String>> { served.iter().map(|(service, port)| leaf(&site, service, *port)).collect() };
    let before = serves_its_own()?;
    site.xtask("certs renew").capture()?;
    replaces(&site, &["alert-gateway", "coturn", "mattermost", "postgres"])?;
    let after = serves_its_own()?;
    assert!(before.iter().zip(&after).all(|(before, after)| before != after));
    assert!(site.xtask("doctor tls").outcome()?.success(), "PostgreSQL's among them: {}", said(&site.xtask("doctor tls").outcome()?));
    Ok(())
}

/// Makes a secret anew; the next `up` replaces these services alone, and people sign in as before.
fn rotated(site: &Site, name: &str, services: &[&str]) -> Result<()> {
    let before = site.secret(name);
    site.xtask(&format!("env --rotate {name}")).capture()?;
    assert_ne!(site.secret(name), before);
    replaces(site, services)
}

/// Whether the next `up` replaces these services and no others, and people sign in as before.
pub fn replaces(site: &Site, services: &[&str]) -> Result<()> {
    let (before, begin) = (site.containers()?, Instant::now());
    let text = site.is_up()?;
    eprintln!("         an up for {} took {:.1} s", services.join(", "), begin.elapsed().as_secs_f32());
    let after = site.containers()?;
    let changed: Vec<&str> = before.keys().filter(|service| before[*service] != after[*service]).map(String::as_str).collect();
    assert_eq!(changed, services, "{text}");
    sign_in(site)
}

/// The administrator's password, with the site's CA alone as trust.
fn sign_in(site: &Site) -> Result<()> {
    let password = site.path().join("password");
    fs_err::write(&password, site.secret("MATTERMOST_ADMIN_PASSWORD")).unwrap();
    let script = "import json, ssl, sys, urllib.request\n\
        body = json.dumps({'login_id': 'admin', 'password': open(sys.argv[1]).read()}).encode()\n\
        trust = ssl.create_default_context(cafile=sys.argv[2])\n\
        answer = urllib.request.urlopen(urllib.request.Request(sys.argv[3], body), timeout=20, context=trust)\n\
        print(answer.status, bool(answer.getheader('Token')))";
    let url = format!("https://{}:{}/api/v4/users/login", lab::address(lab::SERVER), site.port(0));
    let process = site.lab.process("python3").args(["-c", script]).arg(&password).arg(site.path().join("pki/ca.pem")).arg(url);
    assert_eq!(process.text()?, "200 True");
    Ok(())
}

/// The certificate that is served, which is the one in `pki/`.
fn leaf(site: &Site, service: &str, port: u16) -> Result<String> {
    let script = "import ssl, sys\nprint(ssl.get_server_certificate((sys.argv[1], int(sys.argv[2])), timeout=20))";
    let address = lab::address(lab::SERVER).to_string();
    let served = site.lab.process("python3").args(["-c", script, &address, &site.port(port).to_string()]).text()?;
    let chain = fs_err::read_to_string(site.path().join("pki").join(format!("{service}.pem")))?;
    let one_line = |text: &str| text.split_whitespace().collect::<String>();
    assert!(one_line(&chain).starts_with(&one_line(&served)), "{service} serves another certificate than pki/{service}.pem");
    Ok(served)
}
