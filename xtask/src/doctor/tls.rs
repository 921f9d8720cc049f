//! `doctor tls`: the chains that the running services show, as a phone sees them that trusts the site's CA and nobody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use images::{Class, Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use time::OffsetDateTime;

use super::certificates::{ending, refused, until};
use super::{Check, list};
use crate::site::pki::certificate::Certificate;
use crate::site::pki::{chain, given};
use crate::tls;

/// How long each answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a conversation comes to its TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Tls,
    /// After PostgreSQL's SSLRequest.
    Postgres,
}

/// A service to look at.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What stands in the checks' ids: a service's name.
    pub name: String,
    /// Where it listens.
    pub at: SocketAddr,
    /// How it starts.
    pub start: Start,
    /// Names and addresses by which it is called; the first goes into the handshake.
    pub called: Vec<String>,
}

/// What it showed.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The agreed version.
    pub version: Option<ProtocolVersion>,
    /// Its own certificate, then what it sent along.
    pub chain: Vec<Certificate>,
    /// What rustls says of the chain for each name that it is called by, trusting the site's CA alone.
    pub verdicts: Vec<(String, Result<(), String>)>,
}

/// Keeps what the server shows and lets it pass: the chain is judged afterwards, so that all that is wrong with it is told. Its
/// signature of the handshake is checked all the same.
#[derive(Debug)]
struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    shown: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let shown = std::iter::once(leaf).chain(others).map(|one| one.clone().into_owned()).collect();
        *self.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = shown;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Looks at one service. The words of an error are for people.
pub fn look(endpoint: &Endpoint, roots: &Arc<rustls::RootCertStore>) -> Result<Shown, String> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), tls::provider()).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let witness = Arc::new(Witness { verifier, shown: Mutex::default() });
    let versions = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let config = versions
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = endpoint.called.first().map_or_else(|| endpoint.at.ip().to_string(), Clone::clone);
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut stream = crate::turn::tcp(endpoint.at, PATIENCE).map_err(|error| tls::words(&error))?;
    if endpoint.start == Start::Postgres {
        ask_postgres(&mut stream)?;
    }
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| tls::words(&error))?;
    }
    let version = connection.protocol_version();
    connection.send_close_notify();
    // The handshake is what was asked for; how the server takes its end is no news.
    let _ = connection.complete_io(&mut stream);
    let shown = std::mem::take(&mut *witness.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let verdicts = endpoint.called.iter().map(|called| (called.clone(), verdict(&witness.verifier, &shown, called))).collect();
    let read =
        |(number, der): (usize, &CertificateDer<'_>)| Certificate::from_der(der, &format!("certificate {} of the chain", number + 1));
    let chain = shown.iter().enumerate().map(read).collect::<Result<Vec<_>>>().map_err(|error| error.to_string())?;
    Ok(Shown { version, chain, verdicts })
}

/// SSLRequest, and `S` for yes (PostgreSQL's documentation, "Message Formats").
fn ask_postgres(stream: &mut TcpStream) -> Result<(), String> {
    let mut answer = [0];
    let asked = stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).and_then(|()| stream.read_exact(&mut answer));
    asked.map_err(|error| tls::words(&error))?;
    match answer {
        [b'S'] => Ok(()),
        _ => Err("PostgreSQL speaks no TLS here".to_owned()),
    }
}

fn verdict(verifier: &WebPkiServerVerifier, shown: &[CertificateDer<'_>], called: &str) -> Result<(), String> {
    let [leaf, others @ ..] = shown else { return Err("it showed no certificate".to_owned()) };
    let name = ServerName::try_from(called.to_owned()).map_err(|error| error.to_string())?;
    match verifier.verify_server_cert(leaf, others, &name, &[], UnixTime::now()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(refused)) => Err(tls::certificate_words(&refused)),
        Err(other) => Err(other.to_string()),
    }
}

/// Checks of one service: protocol, names, days, rules, and whether the chain leads to `roots` by itself.
pub fn judge(endpoint: &Endpoint, shown: &Result<Shown, String>, roots: &[Certificate], now: OffsetDateTime) -> Vec<Check> {
    let id = |part: &str| format!("tls.{}.{part}", endpoint.name);
    let title = |part: &str| format!("TLS of {}: {part}", endpoint.name);
    let mend = "cargo xtask certs && cargo xtask up";
    let shown = match shown {
        Ok(shown) => shown,
        Err(why) => {
            let found = format!("{}: {why}", endpoint.at);
            return vec![Check::problem(id("protocol"), title("protocol"), found, "cargo xtask status, then cargo xtask logs")];
        }
    };
    let mut checks = Vec::new();
    let mut check = |part: &str, found: Result<String, String>| {
        checks.push(match found {
            Ok(found) => Check::ok(id(part), title(part), found),
            Err(found) => Check::problem(id(part), title(part), found, mend),
        });
    };
    check("protocol", protocol(shown.version));
    let Some(leaf) = shown.chain.first() else {
        check("chain", Err("it shows no certificate".to_owned()));
        return checks;
    };
    let full = leads_to(&shown.chain, roots);
    check(
        "chain",
        full.as_ref()
            .map(|full| format!("leads to {} over {} certificates", full[full.len() - 1].subject, full.len()))
            .map_err(Clone::clone),
    );
    check("names", names(leaf, shown));
    check("days", ending(leaf, now).map_or_else(|| Ok(until(leaf, now)), Err));
    let violations = chain::violations(full.as_deref().unwrap_or(&shown.chain[..1]), now);
    check("rules", refused(&violations).map_or_else(|| Ok("Apple, Android, Chrome, Go, OpenSSL and rustls take it".to_owned()), Err));
    checks
}

fn protocol(version: Option<ProtocolVersion>) -> Result<String, String> {
    match version {
        Some(ProtocolVersion::TLSv1_3) => Ok("TLS 1.3".to_owned()),
        Some(ProtocolVersion::TLSv1_2) => Ok("TLS 1.2".to_owned()),
        other => Err(format!("{other:?}, which is not TLS 1.2 or 1.3")),
    }
}

/// From what the server shows to the site's CA: phones have the CA alone, and fetch nothing that is missing in between.
fn leads_to(shown: &[Certificate], roots: &[Certificate]) -> Result<Vec<Certificate>, String> {
    let own: Vec<Certificate> = roots.iter().chain(&shown[1..]).cloned().collect();
    let full = chain::complete(&shown[0], &own, "the chain").map_err(|error| {
        let text = error.to_string();
        text.split("\nhint: ").next().unwrap_or(&text).to_owned()
    })?;
    match full.last() {
        Some(last) if roots.contains(last) => Ok(full),
        last => Err(format!("it leads to {}, which is not this site's CA", last.map_or("nothing", |last| last.subject.as_str()))),
    }
}

fn names(leaf: &Certificate, shown: &Shown) -> Result<String, String> {
    let lacking: Vec<String> = shown.verdicts.iter().map(|(name, _)| name).filter(|name| !given::covers(leaf, name)).cloned().collect();
    let odd = shown.verdicts.iter().find_map(|(name, verdict)| verdict.as_ref().err().map(|why| format!("{name}: {why}")));
    let all: Vec<String> = shown.verdicts.iter().map(|(name, _)| name.clone()).collect();
    match odd {
        _ if !lacking.is_empty() => Err(format!("it is not for {}", list(&lacking, 4))),
        Some(odd) => Err(odd),
        None => Ok(list(&all, 6)),
    }
}

/// The CA's certificates as rustls trusts them.
pub fn roots(roots: &[Certificate]) -> Result<Arc<rustls::RootCertStore>> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        let der = CertificateDer::from(root.der.clone());
        store.add(der).map_err(|error| Error::new(Class::Usage, format!("{} is no CA", root.subject)).detail(error.to_string()))?;
    }
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection};
    use time::Duration as Span;

    use super::super::Outcome;
    use super::*;
    use crate::site::pki::testing::{NOW, company_authority, complete, wanted};
    use crate::site::pki::{Authority, key};

    fn endpoint(at: SocketAddr, start: Start, called: &[&str]) -> Endpoint {
        Endpoint { name: "mattermost".to_owned(), at, start, called: called.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn nowhere() -> Endpoint {
        endpoint("192.0.2.1:8065".parse().unwrap(), Start::Tls, &["mattermost.cicd.local", "192.168.1.5"])
    }

    fn shown(chain: &[Certificate]) -> Shown {
        let verdicts = nowhere().called.into_iter().map(|name| (name, Ok(()))).collect();
        Shown { version: Some(ProtocolVersion::TLSv1_3), chain: chain.to_vec(), verdicts }
    }

    fn problems(shown: Result<Shown, String>, roots: &[Certificate], now: OffsetDateTime) -> Vec<String> {
        let words = |check: Check| match check.outcome {
            Outcome::Problem { found, .. } => Some(format!("{}: {found}", check.id)),
            _ => None,
        };
        judge(&nowhere(), &shown, roots, now).into_iter().filter_map(words).collect()
    }

    #[test]
    fn every_check_can_say_no() {
        let found = complete();
        let (chain, roots) = (&found.pairs["mattermost"].chain, &found.roots);
        assert_eq!(problems(Ok(shown(chain)), roots, NOW), [""; 0]);
        // A phone has the root: the server need not send it.
        assert_eq!(problems(Ok(shown(&chain[..1])), roots, NOW), [""; 0]);
        let old = Shown { version: Some(ProtocolVersion::TLSv1_1), ..shown(chain) };
        let elsewhere = Shown { verdicts: vec![("chat.example".to_owned(), Ok(()))], ..shown(chain) };
        let refused = Shown { verdicts: vec![("192.168.1.5".to_owned(), Err("the certificate is refused".to_owned()))], ..shown(chain) };
        for (shown, now, expected) in [
            (Err("connection refused".to_owned()), NOW, "tls.mattermost.protocol: 192.0.2.1:8065: connection refused"),
            (Ok(old), NOW, "tls.mattermost.protocol: Some(TLSv1_1), which is not"),
            (Ok(shown(&[])), NOW, "tls.mattermost.chain: it shows no certificate"),
            (Ok(elsewhere), NOW, "tls.mattermost.names: it is not for chat.example"),
            (Ok(refused), NOW, "tls.mattermost.names: 192.168.1.5: the certificate is refused"),
            (Ok(shown(chain)), NOW + Span::days(380), "tls.mattermost.days: it ends in 16 days"),
            (Ok(shown(chain)), NOW - Span::days(2), "tls.mattermost.rules: begun: it is valid from"),
        ] {
            let found = problems(shown, roots, now);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
        let other = company_authority();
        let found = problems(Ok(shown(chain)), std::slice::from_ref(other.root()), NOW);
        assert!(
            found[0].starts_with("tls.mattermost.chain: it leads to") && found[0].ends_with("which is not this site's CA"),
            "{found:?}"
        );
    }

    #[test]
    fn a_chain_without_its_middle_is_not_complete() {
        let company = company_authority();
        let key = key::generate().unwrap();
        let leaf = company.issue(&wanted().services[0], &key, NOW).unwrap();
        let roots = std::slice::from_ref(company.root());
        let found = problems(Ok(shown(std::slice::from_ref(&leaf))), roots, NOW);
        assert!(found[0].contains("tls.mattermost.chain: the chain does not lead to a root"), "{found:?}");
        let full = [leaf, company.certificate().clone()];
        assert!(!problems(Ok(shown(&full)), roots, NOW).iter().any(|words| words.contains(".chain")));
    }

    /// A TLS server for one conversation.
    fn served(start: Start, chain: &[Certificate], key_pem: &rcgen::KeyPair) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let chain = chain.iter().map(|one| CertificateDer::from(one.der.clone())).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key_pem.serialize_der()));
        let config = ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            if start == Start::Postgres {
                let mut asked = [0; 8];
                stream.read_exact(&mut asked).unwrap();
                assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47]);
                stream.write_all(b"S").unwrap();
            }
            let mut connection = ServerConnection::new(config).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        });
        address
    }

    #[test]
    fn real_handshakes_are_looked_at_for_each_name() {
        let now = OffsetDateTime::now_utc();
        let wanted = wanted();
        let authority = Authority::make_root(&wanted.site, wanted.constraint().as_ref(), now).unwrap();
        let key = key::generate().unwrap();
        let leaf = authority.issue(&wanted.services[0], &key, now).unwrap();
        let trusted = roots(std::slice::from_ref(authority.root())).unwrap();
        for start in [Start::Tls, Start::Postgres] {
            let at = served(start, std::slice::from_ref(&leaf), &key);
            let shown = look(&endpoint(at, start, &["mattermost.cicd.local", "192.168.1.5", "192.168.1.6"]), &trusted).unwrap();
            assert_eq!((shown.version, shown.chain.as_slice()), (Some(ProtocolVersion::TLSv1_3), std::slice::from_ref(&leaf)));
            let refused: Vec<&str> = shown.verdicts.iter().filter(|(_, said)| said.is_err()).map(|(name, _)| name.as_str()).collect();
            assert_eq!(refused, ["192.168.1.6"]);
        }
        let other = roots(std::slice::from_ref(company_authority().root())).unwrap();
        let at = served(Start::Tls, std::slice::from_ref(&leaf), &key);
        let shown = look(&endpoint(at, Start::Tls, &["mattermost.cicd.local"]), &other).unwrap();
        assert!(shown.verdicts[0].1.as_ref().unwrap_err().contains("not from this CA"), "{:?}", shown.verdicts);
    }

    #[test]
    fn who_speaks_no_tls_is_told_so() {
        let trusted = roots(&complete().roots).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let answers = std::thread::spawn(move || {
            for answer in [&b"N"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 8];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        let postgres = look(&endpoint(at, Start::Postgres, &["postgres"]), &trusted).unwrap_err();
        assert_eq!(postgres, "PostgreSQL speaks no TLS here");
        assert!(look(&endpoint(at, Start::Tls, &["mattermost.cicd.local"]), &trusted).is_err());
        answers.join().unwrap();
        assert!(look(&endpoint(at, Start::Tls, &["mattermost.cicd.local"]), &trusted).unwrap_err().contains("refused"));
    }
}
