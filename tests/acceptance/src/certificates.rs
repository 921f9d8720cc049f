//! The certificates of `cargo xtask certs` under the clients that people have: OpenSSL, rustls, Go, and a real browser. Each trusts
//! the site's CA alone, and each refuses what it should.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use images::Result;
use xtask::process::{Process, Running};
use xtask::site::pki::certificate::Certificate;
use xtask::site::pki::files::Files;
use xtask::site::pki::found::{CA, CA_KEY, Found, cert_file, key_file, pem_of};
use xtask::site::pki::plan::{Ask, Ca, plan};
use xtask::site::pki::{Authority, Server, Wanted, key};

use crate::claims::{Claim, wait_for};
use crate::world::World;

/// Claims about certificates and the page for phones.
pub const CLAIMS: &[Claim] = &[
    Claim {
        name: "certificates::openssl_verifies_every_chain_strictly_and_refuses_what_it_should",
        needs: &["openssl"],
        root: false,
        engine: false,
        proves: by_openssl,
    },
    Claim {
        name: "certificates::rustls_takes_name_and_address_and_refuses_wrong_ones",
        needs: &["openssl"],
        root: false,
        engine: false,
        proves: |world| each_case(world, rustls),
    },
    Claim {
        name: "certificates::go_takes_name_and_address_and_refuses_wrong_ones",
        needs: &["openssl", "go"],
        root: false,
        engine: false,
        proves: |world| each_case(world, go),
    },
    Claim {
        name: "certificates::chromium_takes_name_and_address_and_refuses_wrong_ones",
        needs: &["openssl", "chromium", "certutil"],
        root: false,
        engine: false,
        proves: |world| each_case(world, chromium),
    },
    Claim {
        name: "certificates::a_ca_and_a_key_that_openssl_made_sign_for_the_site",
        needs: &["openssl"],
        root: false,
        engine: false,
        proves: signed_by_openssls_ca,
    },
    Claim {
        name: "certificates::openssl_answers_a_request_and_certs_takes_the_answer",
        needs: &["openssl"],
        root: false,
        engine: false,
        proves: requested_from_openssl,
    },
    Claim {
        name: "certificates::the_page_fits_a_phone_and_a_desktop",
        needs: &["chromium"],
        root: false,
        engine: false,
        proves: page_fits,
    },
];

const NAME: &str = "mattermost.cicd.local";
const OTHER: &str = "other.cicd.local";
const STRANGER: &str = "mattermost.example.org";

/// A site's folder with certificates as `certs` makes them, for loopback.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new(world: &World) -> Result<Self> {
        let site = Site { folder: world.scratch() };
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let server = |name: &str, dns: &str| Server { name: name.to_owned(), dns: vec![dns.to_owned()], addresses: vec![local] };
        let services = vec![server("mattermost", NAME), server("coturn", "coturn.cicd.local")];
        let wanted = Wanted { site: NAME.to_owned(), domains: vec!["cicd.local".to_owned()], services, constrained: true };
        let now = time::OffsetDateTime::now_utc();
        let made = plan(&Found::default(), &wanted, Ask { ca: Ca::Keep, ..Ask::default() }, now, &mut open)?;
        Files::look(&site.path("")).change(&made.changes)?;
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate of the site's CA for a name that it may not speak for, as a thief of its key would make it.
    fn forge(&self) -> Result<(PathBuf, PathBuf)> {
        let root = Certificate::from_pem(&fs_err::read(self.path(CA))?, CA)?;
        let authority = Authority::new(root.clone(), open(&fs_err::read_to_string(self.path(CA_KEY))?)?)?;
        let stranger = Server { name: "stranger".into(), dns: vec![STRANGER.to_owned()], addresses: vec![Ipv4Addr::LOCALHOST.into()] };
        let key = key::generate()?;
        let leaf = authority.issue(&stranger, &key, time::OffsetDateTime::now_utc())?;
        fs_err::write(self.path("stranger.pem"), pem_of(&[vec![leaf], root].concat()))?;
        fs_err::write(self.path("stranger-key.pem"), key::pem(&key))?;
        Ok((self.path("stranger.pem"), self.path("stranger-key.pem")))
    }
}

fn open(pem: &str) -> Result<rcgen::KeyPair> {
    key::read(pem, "a key", &mut || unreachable!("it is not encrypted"))
}

/// A web server with one certificate; OpenSSL's, so that each client meets another's TLS.
struct Web {
    at: SocketAddr,
    _running: Running,
}

impl Web {
    fn start(world: &World, site: &Site, cert: &Path, key: &Path, address: Ipv4Addr) -> Result<Web> {
        let at = TcpListener::bind((address, 0))?.local_addr()?;
        let server = world.machine.process("openssl").args(["s_server", "-www", "-quiet", "-accept", &at.to_string()]);
        let server = server.arg("-cert").arg(cert).arg("-cert_chain").arg(cert).arg("-key").arg(key);
        let log = site.path(&format!("{}.log", at.port()));
        let running = server.start(&log)?;
        let said = || fs_err::read_to_string(&log).unwrap_or_default();
        wait_for("openssl s_server", Duration::from_secs(20), || TcpStream::connect(at).ok(), said);
        Ok(Web { at, _running: running })
    }
}

/// How a client comes to a server: by a name or by its address, trusting the CAs of a file.
struct Visit<'a> {
    at: SocketAddr,
    name: Option<&'a str>,
    ca: &'a Path,
}

/// One client; an error says why it would not talk to the server.
type Client = fn(&World, &Site, &Visit<'_>) -> Result<std::result::Result<(), String>>;

fn each_case(world: &World, client: Client) -> Result<()> {
    let (site, other) = (Site::new(world)?, Site::new(world)?);
    let (cert, key) = (site.path(&cert_file("mattermost")), site.path(&key_file("mattermost")));
    let web = Web::start(world, &site, &cert, &key, Ipv4Addr::LOCALHOST)?;
    let elsewhere = Web::start(world, &site, &cert, &key, Ipv4Addr::new(127, 0, 0, 2))?;
    let (forged, forged_key) = site.forge()?;
    let stranger = Web::start(world, &site, &forged, &forged_key, Ipv4Addr::LOCALHOST)?;
    let (ours, theirs) = (site.path(CA), other.path(CA));
    for (what, at, name, ca, taken) in [
        ("by name", web.at, Some(NAME), &ours, true),
        ("by address", web.at, None, &ours, true),
        ("by a wrong name", web.at, Some(OTHER), &ours, false),
        ("by a wrong address", elsewhere.at, None, &ours, false),
        ("with another site's CA", web.at, Some(NAME), &theirs, false),
        ("outside of the constraint", stranger.at, Some(STRANGER), &ours, false),
    ] {
        let verdict = client(world, &site, &Visit { at, name, ca })?;
        assert_eq!(verdict.is_ok(), taken, "{what}: {verdict:?}");
    }
    Ok(())
}

fn rustls(_: &World, _: &Site, visit: &Visit<'_>) -> Result<std::result::Result<(), String>> {
    let config = xtask::tls::trusting(visit.ca)?;
    let name = visit.name.map_or_else(|| visit.at.ip().to_string(), str::to_owned);
    let talk = || -> std::result::Result<(), String> {
        let name = rustls::pki_types::ServerName::try_from(name).map_err(|error| error.to_string())?;
        let mut client = rustls::ClientConnection::new(Arc::clone(&config), name).map_err(|error| error.to_string())?;
        let mut tcp = TcpStream::connect(visit.at).map_err(|error| error.to_string())?;
        let mut stream = rustls::Stream::new(&mut client, &mut tcp);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
        let mut first = [0; 4];
        stream.read_exact(&mut first).map_err(|error| error.to_string())
    };
    Ok(talk())
}

const GO: &str = r#"package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func main() {
	pem, err := os.ReadFile(os.Args[3])
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	_, err = tls.Dial("tcp", os.Args[1], &tls.Config{RootCAs: roots, ServerName: os.Args[2]})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
"#;

fn go(world: &World, site: &Site, visit: &Visit<'_>) -> Result<std::result::Result<(), String>> {
    let program = site.path("visit");
    if !program.exists() {
        fs_err::write(site.path("visit.go"), GO)?;
        // What a person's settings say of modules and caches is not this test's.
        let build = world.machine.process("go").args(["build", "-o"]).arg(&program).arg(site.path("visit.go"));
        build
            .env("GOCACHE", world.folder().join("go-cache"))
            .env("GOFLAGS", "")
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0")
            .capture()?;
    }
    let name = visit.name.map_or_else(|| visit.at.ip().to_string(), str::to_owned);
    let outcome = Process::new(&program, site.folder.path()).args([visit.at.to_string(), name]).arg(visit.ca).outcome()?;
    Ok(if outcome.success() { Ok(()) } else { Err(String::from_utf8_lossy(&outcome.stdout).into_owned()) })
}

fn chromium(world: &World, site: &Site, visit: &Visit<'_>) -> Result<std::result::Result<(), String>> {
    let home = tempfile::tempdir_in(site.folder.path())?;
    let store = home.path().join(".pki/nssdb");
    fs_err::create_dir_all(&store)?;
    let store = format!("sql:{}", store.display());
    world.machine.process("certutil").args(["-N", "--empty-password", "-d", &store]).capture()?;
    world.machine.process("certutil").args(["-A", "-t", "C,,", "-n", "site", "-d", &store, "-i"]).arg(visit.ca).capture()?;
    let host = visit.name.map_or_else(|| visit.at.ip().to_string(), str::to_owned);
    let outcome = browser(world, home.path())
        .arg(format!("--host-resolver-rules=MAP *.cicd.local {0}, MAP *.example.org {0}", visit.at.ip()))
        .args(["--dump-dom", &format!("https://{host}:{}/", visit.at.port())])
        .outcome()?;
    // Without a window it dumps no page about a connection that is not private, and says the code instead.
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let code = said.find("net::ERR_CERT").map(|at| said[at..].split_whitespace().next().unwrap_or_default().to_owned());
    match (String::from_utf8_lossy(&outcome.stdout).contains("s_server"), code) {
        (true, None) => Ok(Ok(())),
        (false, Some(code)) => Ok(Err(code)),
        (page, code) => panic!("page {page}, code {code:?}\n{said}"),
    }
}

fn browser(world: &World, home: &Path) -> Process {
    let flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-component-update", "--hide-scrollbars"];
    let browser = world.machine.process("chromium").args(flags).arg(format!("--user-data-dir={}", home.join("profile").display()));
    browser.env("HOME", home).env_remove("XDG_DATA_HOME").deadline(Duration::from_secs(90))
}

fn by_openssl(world: &World) -> Result<()> {
    let (site, other) = (Site::new(world)?, Site::new(world)?);
    site.forge()?;
    let verify = |options: &[&str], ca: PathBuf, cert: &str| -> Result<bool> {
        let openssl =
            world.machine.process("openssl").args(["verify", "-x509_strict", "-no-CAfile", "-no-CApath", "-purpose", "sslserver"]);
        Ok(openssl.args(options).arg("-CAfile").arg(ca).arg(site.path(cert)).outcome()?.success())
    };
    for cert in ["mattermost.pem", "coturn.pem"] {
        assert!(verify(&[], site.path(CA), cert)?, "{cert}");
    }
    for (what, options, ca, cert, taken) in [
        ("by name", ["-verify_hostname", NAME], &site, "mattermost.pem", true),
        ("by address", ["-verify_ip", "127.0.0.1"], &site, "mattermost.pem", true),
        ("by a wrong name", ["-verify_hostname", OTHER], &site, "mattermost.pem", false),
        ("by a wrong address", ["-verify_ip", "127.0.0.2"], &site, "mattermost.pem", false),
        ("with another site's CA", ["-verify_hostname", NAME], &other, "mattermost.pem", false),
        ("outside of the constraint", ["-verify_hostname", STRANGER], &site, "stranger.pem", false),
    ] {
        assert_eq!(verify(&options, ca.path(CA), cert)?, taken, "{what}");
    }
    each_case(world, |world, _, visit| {
        let client = world.machine.process("openssl").args(["s_client", "-quiet", "-verify_return_error", "-no-CApath", "-no-CAstore"]);
        let client = client.arg("-CAfile").arg(visit.ca).args(["-connect", &visit.at.to_string()]).stdin("GET / HTTP/1.0\r\n\r\n");
        let address = visit.at.ip().to_string();
        let client = match visit.name {
            Some(name) => client.args(["-servername", name, "-verify_hostname", name]),
            None => client.args(["-noservername", "-verify_ip", &address]),
        };
        let outcome = client.deadline(Duration::from_secs(20)).outcome()?;
        Ok(if outcome.success() { Ok(()) } else { Err(String::from_utf8_lossy(&outcome.stderr).into_owned()) })
    })
}

/// `cargo xtask certs` for a site in `folder`.
fn certs(world: &World, folder: &Path, args: &[&str]) -> Result<(Option<i32>, String)> {
    let toml = folder.join("site.toml");
    fs_err::write(&toml, "format = 1\naddresses = [\"192.168.1.20\"]\n")?;
    let outcome = Process::new(world.xtask()?, folder).arg("certs").args(args).env("CHATOPS_SITE", folder).outcome()?;
    let text = [outcome.stdout, outcome.stderr].concat();
    Ok((outcome.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

fn openssl(world: &World, folder: &Path, words: &str) -> Result<()> {
    world.machine.process("openssl").in_folder(folder).args(words.split(' ')).capture().map(drop)
}

/// A CA whose name `subject` is, made by OpenSSL, with its key encrypted under `passphrase`.
fn foreign_ca(world: &World, folder: &Path, subject: &str) -> Result<()> {
    fs_err::write(folder.join("passphrase"), "correct horse\n")?;
    openssl(world, folder, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -aes256 -pass file:passphrase -out foreign-key.pem")?;
    let request = "req -x509 -new -key foreign-key.pem -passin file:passphrase -days 3000 -addext keyUsage=critical,keyCertSign -out foreign.pem -subj";
    openssl(world, folder, &format!("{request} {subject}"))
}

fn signed_by_openssls_ca(world: &World) -> Result<()> {
    let scratch = world.scratch();
    let folder = scratch.path();
    foreign_ca(world, folder, "/O=Company/CN=Company-CA")?;
    let sign = ["--ca", "foreign.pem", "--ca-key", "foreign-key.pem", "--ca-passphrase-file"];
    fs_err::write(folder.join("wrong"), "battery staple\n")?;
    let (code, said) = certs(world, folder, &[&sign[..], &["wrong"]].concat())?;
    assert_eq!((code, said.contains("the passphrase does not open foreign-key.pem")), (Some(2), true), "{said}");
    let (code, said) = certs(world, folder, &sign[..4])?;
    assert_eq!((code, said.contains("--ca-passphrase-file FILE")), (Some(2), true), "{said}");
    assert!(!folder.join("pki/ca.pem").exists(), "a refusal changes nothing");
    let (code, said) = certs(world, folder, &[&sign[..], &["passphrase"]].concat())?;
    assert_eq!(code, Some(0), "{said}");
    assert!(!folder.join("pki/ca-key.pem").exists(), "the key stays where it is");
    openssl(world, folder, "verify -x509_strict -no-CAfile -no-CApath -verify_ip 192.168.1.20 -CAfile pki/ca.pem pki/mattermost.pem")?;
    let (code, said) = certs(world, folder, &[])?;
    assert_eq!((code, said.matches("unchanged").count()), (Some(0), 5), "{said}");

    // Active Directory calls its CAs so; an attribute that stands twice cannot be written, and the way out is a request.
    foreign_ca(world, folder, "/DC=local/DC=company/CN=Company-CA")?;
    let (code, said) = certs(world, folder, &[&sign[..], &["passphrase"]].concat())?;
    assert_eq!((code, said.contains("hint: let the CA sign: cargo xtask certs --csr")), (Some(2), true), "{said}");
    Ok(())
}

fn requested_from_openssl(world: &World) -> Result<()> {
    let scratch = world.scratch();
    let folder = scratch.path();
    foreign_ca(world, folder, "/DC=local/DC=company/CN=Company-CA")?;
    let (code, said) = certs(world, folder, &["--csr", "--for", "mattermost"])?;
    assert_eq!(code, Some(0), "{said}");
    let sign =
        "x509 -req -in pki/mattermost.csr -CA foreign.pem -CAkey foreign-key.pem -passin file:passphrase -days 90 -copy_extensions copyall";
    fs_err::write(folder.join("extensions"), "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")?;
    openssl(world, folder, &format!("{sign} -extfile extensions -out signed.pem"))?;
    let (code, said) = certs(world, folder, &["--chain", "signed.pem"])?;
    assert_eq!((code, said.contains("does not lead to a root")), (Some(2), true), "{said}");
    let (code, said) = certs(world, folder, &["--chain", "signed.pem", "--chain", "foreign.pem"])?;
    assert_eq!(code, Some(0), "{said}");
    for line in ["ca             issued", "postgres       issued", "mattermost     taken from elsewhere"] {
        assert!(said.lines().any(|found| found.starts_with(line)), "expected {line:?} in {said}");
    }
    assert!(!folder.join("pki/mattermost.csr").exists());
    openssl(world, folder, "verify -x509_strict -no-CAfile -no-CApath -CAfile pki/ca.pem pki/mattermost.pem pki/postgres.pem")?;
    let (code, said) = certs(world, folder, &["show"])?;
    assert_eq!((code, said.contains("issued elsewhere")), (Some(0), true), "{said}");
    Ok(())
}

/// In a frame of a phone's width and one of a desktop's, nothing is wider than the frame, and a picture of it can be looked at.
fn page_fits(world: &World) -> Result<()> {
    let scratch = world.scratch();
    let folder = scratch.path();
    let (code, said) = certs(world, folder, &[])?;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = certs(world, folder, &["phone"])?;
    assert_eq!(code, Some(0), "{said}");
    let page = folder.join("onboarding/index.html");
    let inner = fs_err::read_to_string(&page)?.replace('&', "&amp;").replace('"', "&quot;");
    for width in [320, 390, 1100] {
        let outer = folder.join("outer.html");
        let script = "onload = () => { const d = frames[0].document; document.body.textContent = [frames[0].innerWidth, d.documentElement.scrollWidth, \
                      d.querySelectorAll('svg').length, d.querySelector('.fingerprint').innerText.replace(/\\s/g, '')].join(' ') }";
        fs_err::write(
            &outer,
            format!("<body><iframe width={width} height=900 frameborder=0 srcdoc=\"{inner}\"></iframe><script>{script}</script>"),
        )?;
        let dom = browser(world, folder).args(["--dump-dom", &format!("file://{}", outer.display())]).text()?;
        let body = dom.split("<body>").nth(1).unwrap_or_default().split("</body>").next().unwrap_or_default().trim().to_owned();
        let words: Vec<&str> = body.split(' ').collect();
        assert_eq!(words[..3], [width.to_string().as_str(), &width.to_string(), "1"], "{dom}");
        assert!(said.replace(char::is_whitespace, "").contains(words[3]), "another fingerprint than the terminal's: {dom}");
    }
    let picture = folder.join("phone.png");
    let shot = browser(world, folder).args(["--window-size=390,1480", &format!("--screenshot={}", picture.display())]);
    shot.arg(format!("file://{}", page.display())).capture()?;
    assert!(fs_err::metadata(&picture)?.len() > 20_000, "an empty picture");
    Ok(())
}
