//! The alert gateway without its check of signatures: somebody in front of it signs whatever comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use images::{Class, Error, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::lan::Lan;
use crate::world::World;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where clients on the LAN find it in the gateway's place, as long as this lives.
pub struct Signer {
    _alive: Arc<()>,
    world: &'static World,
}

impl Signer {
    /// On the server, with the gateway's own certificate.
    pub fn start(world: &'static World) -> Result<Signer> {
        let tls = Arc::new(tls(&world.folder().pki())?);
        let listener = world.lab.server().inside(|| TcpListener::bind((world.server(), 0)))??;
        listener.set_nonblocking(true)?;
        let (gateway, own) = (world.gateway_at(), listener.local_addr()?.port());
        let rules = format!("ip daddr {} tcp dport {} redirect to :{own}", gateway.ip(), gateway.port());
        world.lab.server().nft(&format!(
            "table inet signer {{\n chain in {{\n  type nat hook prerouting priority -110; policy accept;\n  {rules}\n }}\n}}\n"
        ))?;
        let alive = Arc::new(());
        let watched = Arc::downgrade(&alive);
        std::thread::spawn(move || world.lab.server().inside(|| serve(world, &listener, &tls, &watched)));
        Ok(Signer { _alive: alive, world })
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // Who is asked next shows whether it is gone.
        let _ = self.world.lab.server().nft("delete table inet signer\n");
    }
}

fn tls(pki: &Path) -> Result<ServerConfig> {
    let wrong = |error: &dyn std::fmt::Display| Error::new(Class::Check, format!("the alert gateway's certificate: {error}"));
    let chain = CertificateDer::pem_file_iter(pki.join("alert-gateway.pem")).and_then(Iterator::collect).map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_file(pki.join("alert-gateway-key.pem")).map_err(|error| wrong(&error))?;
    let versions = ServerConfig::builder_with_provider(xtask::tls::provider()).with_safe_default_protocol_versions();
    versions.and_then(|versions| versions.with_no_client_auth().with_single_cert(chain, key)).map_err(|error| wrong(&error))
}

fn serve(world: &World, listener: &TcpListener, tls: &Arc<ServerConfig>, watched: &Weak<()>) {
    while watched.strong_count() > 0 {
        match listener.accept() {
            // Who gets no answer says so.
            Ok((stream, _)) => _ = pass_on(world, stream, tls),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    }
}

/// One request, signed, and its answer.
fn pass_on(world: &World, stream: TcpStream, tls: &Arc<ServerConfig>) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(Arc::clone(tls)).map_err(|error| Error::new(Class::Check, error.to_string()))?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let body = loop {
        let mut part = [0; 16 << 10];
        let count = stream.read(&mut part)?;
        request.extend_from_slice(&part[..count]);
        if let Some(body) = body(&request) {
            break body.to_owned();
        }
        if count == 0 {
            return Err(Error::new(Class::Check, "half a request"));
        }
    };
    let lan = Lan::new(world)?;
    let (status, told) = lan.alert(&body, Some(&lan.signed(&body)?))?;
    write!(stream, "HTTP/1.1 {status} Signed\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{told}", told.len())?;
    stream.conn.send_close_notify();
    stream.flush().map_err(Error::from)
}

/// The body of a request that is there as a whole.
fn body(request: &[u8]) -> Option<&str> {
    let (head, body) = std::str::from_utf8(request).ok()?.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::trim)?.parse().ok())?;
    (body.len() >= length).then_some(body)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_request_is_waited_for_until_it_is_whole() {
        let head = "POST /sonarqube HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(super::body(format!("{head}{{}}").as_bytes()), None);
        assert_eq!(super::body(format!("{head}{{  }}").as_bytes()), Some("{  }"));
    }
}
