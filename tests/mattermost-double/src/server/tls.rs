//! TLS for the network.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Settings;

/// Certificate and key, which belong together.
pub struct Keys(TlsAcceptor);

impl Keys {
    /// Those of the settings, where `ConnectionSecurity` says TLS.
    pub fn of(settings: &Settings) -> Result<Option<Self>, String> {
        if settings.text("ServiceSettings", "ConnectionSecurity") != "TLS" {
            return Ok(None);
        }
        let path = |key: &str| settings.text("ServiceSettings", key);
        let read = |path: &str, error: rustls::pki_types::pem::Error| format!("Error starting server, err:{path}: {error}");
        let (cert, key) = (path("TLSCertFile"), path("TLSKeyFile"));
        let chain = CertificateDer::pem_file_iter(&cert).and_then(Iterator::collect).map_err(|error| read(&cert, error))?;
        let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| read(&key, error))?;
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?.with_no_client_auth();
        let mut config = builder.with_single_cert(chain, secret).map_err(|error| format!("Error starting server, err:tls: {error}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Keys(TlsAcceptor::from(Arc::new(config)))))
    }

    /// Connections whose handshake is done. One that hangs in it holds up nobody else.
    pub fn over(self, listener: TcpListener) -> Secured {
        let (sender, connections) = mpsc::channel(64);
        let address = listener.local_addr();
        tokio::spawn(async move {
            while !sender.is_closed() {
                let Ok((stream, peer)) = listener.accept().await else {
                    // Out of descriptors, most likely: some will be free in a moment.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                };
                // As Go's server does: else the first answer waits 40 ms for the client's word that it has the session's tickets.
                let _ = stream.set_nodelay(true);
                let (acceptor, sender) = (self.0.clone(), sender.clone());
                tokio::spawn(async move {
                    let handshake = tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream));
                    if let Ok(Ok(stream)) = handshake.await {
                        // Nobody takes it when the server is ending.
                        let _ = sender.send((stream, peer)).await;
                    }
                });
            }
        });
        Secured { connections, address }
    }
}

/// What `axum::serve` takes connections from.
pub struct Secured {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: std::io::Result<SocketAddr>,
}

impl axum::serve::Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.address.as_ref().map(|address| *address).map_err(|error| error.kind().into())
    }
}
