//! Whom the client believes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use images::Error;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use xtask::server::{Client, Endpoint};

use super::patience;

/// A CA, and what it says of a server.
struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// A server on loopback that is well, with a certificate for `name` that ended with `year`; its port.
    fn server(&self, name: &str, year: i32) -> u16 {
        images::store::http::install_tls();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let leaf: CertificateDer = params.signed_by(&key, &self.issuer).unwrap().into();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
                let mut line = String::new();
                let mut reader = BufReader::new(&mut stream);
                // A client that does not believe the certificate goes away.
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let body = r#"{"status":"OK"}"#;
                let head =
                    format!("HTTP/1.1 200 OK\r\nX-Version-Id: 11.7.9.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).and_then(|()| stream.flush());
            }
        });
        port
    }
}

fn ping(folder: &Path, trusted: &Ca, port: u16) -> Result<String, Error> {
    let ca = folder.join("ca.pem");
    fs_err::write(&ca, &trusted.pem).unwrap();
    // Nobody resolves this name: the address is given.
    let url = format!("https://mattermost.cicd.local:{port}").parse().unwrap();
    let endpoint = Endpoint { url, ca: Some(ca), address: Some([127, 0, 0, 1].into()) };
    Client::new(&endpoint, patience())?.ping().map(|health| health.version).map_err(Error::from)
}

#[test]
fn only_the_sites_ca_is_believed_for_the_sites_name_while_its_certificate_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Ca::new(), Ca::new());
    let name = "mattermost.cicd.local";
    assert_eq!(ping(folder.path(), &ours, ours.server(name, 2100)).unwrap(), "11.7.9");
    for (port, wanted) in [
        (other.server(name, 2100), "another CA than the site's"),
        (ours.server(name, 2021), "`cargo xtask certs renew`"),
        (ours.server("gitlab.cicd.local", 2100), "names and addresses in site.toml have changed"),
    ] {
        let error = ping(folder.path(), &ours, port).unwrap_err();
        assert_eq!(error.message(), "Mattermost's certificate is not believed");
        assert!(error.hint_text().is_some_and(|hint| hint.contains(wanted)), "{error}");
    }
}

#[test]
fn a_ca_file_that_is_missing_or_holds_no_certificate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |ca: &Path| {
        let endpoint = Endpoint { url: "https://chat.test".parse().unwrap(), ca: Some(ca.to_owned()), address: None };
        Client::new(&endpoint, patience()).err().unwrap().to_string()
    };
    assert!(ask(&folder.path().join("none.pem")).contains("`cargo xtask certs` makes"));
    let empty = folder.path().join("empty.pem");
    fs_err::write(&empty, "").unwrap();
    assert!(ask(&empty).contains("empty.pem holds no certificate"));
}
