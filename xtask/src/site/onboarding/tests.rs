use super::*;
use crate::site::parse;

/// A root that stands still, so that what is made of it does.
const ROOT: &[u8] = include_bytes!("../../../../images/tests/data/root.pem");

fn facts(toml: &str) -> Facts {
    let site = parse("site.toml", &format!("format = 1\n{toml}"), || Ok(vec!["192.168.1.20".parse().unwrap()])).unwrap();
    Facts::of(&site, &Certificate::from_pem(ROOT, "root.pem").unwrap()[0])
}

fn page(facts: &Facts, links: &Links) -> String {
    page::render(facts, links).unwrap()
}

fn served() -> Links {
    Links::Served { page: "http://192.168.1.20:4711/secret/".to_owned() }
}

#[test]
fn the_page_and_the_profile_are_these() {
    // A line for each tag, and no pictures, so that a person can read what changed.
    let lines = page(&facts(""), &served()).replace(page::STYLE, "").replace("><", ">\n<");
    let readable: Vec<&str> = lines.lines().filter(|line| !line.starts_with("<path ")).collect();
    insta::assert_snapshot!("page", readable.join("\n"));
    insta::assert_snapshot!("profile", String::from_utf8(profile::render(&facts("")).unwrap()).unwrap());
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for links in [Links::Embedded, served()] {
        let page = page(&facts(""), &links);
        for needle in ["src=", "@import", "url(", "<script", "<link", "<iframe"] {
            assert!(!page.contains(needle), "{needle}");
        }
        // Addresses that a person may follow; the other is the name of SVG's vocabulary.
        let mut addresses: Vec<&str> =
            page.match_indices("://").map(|(at, _)| page[..at].rsplit(['"', '>', ' ']).next().unwrap()).collect();
        addresses.dedup();
        assert!(addresses.iter().all(|scheme| ["https", "http", "chrome"].contains(scheme)), "{addresses:?}");
    }
}

#[test]
fn a_file_carries_the_ca_and_a_server_gives_it() {
    let facts = facts("");
    let embedded = page(&facts, &Links::Embedded);
    assert_eq!(embedded.matches("href=\"data:").count(), 4);
    let at = embedded.find("data:application/x-x509-ca-cert;base64,").unwrap() + "data:application/x-x509-ca-cert;base64,".len();
    let coded = embedded[at..].split('"').next().unwrap();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, coded).unwrap();
    assert_eq!(der, facts.ca.der);
    let served = page(&facts, &served());
    assert!(!served.contains("data:") && served.contains("href=\"ca.crt\"") && served.contains("href=\"ca.mobileconfig\""));
}

#[test]
fn the_fingerprint_is_the_one_that_openssl_prints() {
    // openssl x509 -in root.pem -noout -fingerprint -sha256
    let facts = facts("");
    assert_eq!(facts.fingerprint().len(), 4);
    assert_eq!(facts.fingerprint().join(" ").replace(' ', ":"), include_str!("../../../../images/tests/data/root.sha256").trim());
}

#[test]
fn the_profile_holds_the_root_and_is_the_same_each_time() {
    let facts = facts("");
    let made = profile::render(&facts).unwrap();
    assert_eq!(made, profile::render(&facts).unwrap());
    let read = plist::Value::from_reader_xml(&made[..]).unwrap();
    let payload = &read.as_dictionary().unwrap()["PayloadContent"].as_array().unwrap()[0];
    let payload = payload.as_dictionary().unwrap();
    assert_eq!(payload["PayloadType"].as_string(), Some("com.apple.security.root"));
    assert_eq!(payload["PayloadContent"].as_data(), Some(&facts.ca.der[..]));
}

#[test]
fn what_a_site_is_shows_on_its_page() {
    let plain = page(&facts(""), &Links::Embedded);
    assert!(plain.contains("https://192.168.1.20:8065") && plain.contains("192.168.1.20 mattermost.cicd.local"));
    assert!(plain.contains("alerts come while the app is open"));
    let push = page(&facts("[push]\nurl = \"https://push.cicd.local\"\n"), &Links::Embedded);
    assert!(push.contains("push proxy") && !push.contains("alerts come while the app is open"));
    let front = facts("[network]\nfront = \"https://chat.example.org\"\n");
    assert_eq!(front.phone_url, "https://chat.example.org");
    assert!(!page(&front, &Links::Embedded).contains("/etc/hosts"), "the proxy's name is not ours to give an address to");
    let six = facts("addresses = [\"fd00::20\"]\n");
    assert_eq!(six.phone_url, "https://[fd00::20]:8065");
}

#[test]
fn nothing_is_written_the_second_time() {
    let folder = tempfile::tempdir().unwrap();
    assert!(write(&facts(""), folder.path()).unwrap());
    assert!(!write(&facts(""), folder.path()).unwrap());
    fs_err::remove_file(folder.path().join("ca.crt")).unwrap();
    assert!(write(&facts(""), folder.path()).unwrap());
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 4);
}
