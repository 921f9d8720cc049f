//! The server: over the local socket, or over the network with a token.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use serde_json::Value;

const SOCKET: &str = "/var/tmp/mattermost_local.socket";

/// A server.
pub struct Client(Way);

enum Way {
    Socket(String),
    Network { url: String, token: String },
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// What the server said no with.
pub struct Refusal {
    /// The HTTP status; 0 where there was no answer.
    pub status: u16,
    /// For a person.
    pub message: String,
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> String {
        refusal.message
    }
}

impl Client {
    /// The socket has to be there and to belong to the account that runs this; root may use any.
    pub fn local() -> Result<Self, String> {
        let socket = std::env::var("MMCTL_LOCAL_SOCKET_PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| SOCKET.to_owned());
        let Ok(found) = fs_err::metadata(&socket) else {
            let why = format!("socket file \"{socket}\" doesn't exist, please check the server configuration for local mode");
            return Err(format!("failed to create client: {why}"));
        };
        let own = fs_err::metadata("/proc/self").map_or(0, |own| own.uid());
        if own != 0 && own != found.uid() {
            return Err(format!("failed to create client: owner of the file \"{socket}\" must be the same user running mmctl"));
        }
        Ok(Client(Way::Socket(socket)))
    }

    /// A server's address, and a personal access token.
    pub fn remote(url: &str, token: &str) -> Self {
        Client(Way::Network { url: url.trim_end_matches('/').to_owned(), token: token.to_owned() })
    }

    /// A document.
    pub fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.ask("GET", path, &Value::Null)
    }

    /// Sends one, and gets one.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.ask(method, path, body)
    }

    /// HTTP/1.0 (RFC 1945), to which no server answers in chunks: the body ends with the connection.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
        let unreached = |why: String| {
            let title: String = method.chars().take(1).chain(method.to_lowercase().chars().skip(1)).collect();
            let (base, dial) = match &self.0 {
                Way::Socket(socket) => ("http://_", format!("dial unix {socket}: connect: ")),
                Way::Network { url, .. } => (url.as_str(), String::new()),
            };
            Refusal { status: 0, message: format!("{title} \"{base}/api/v4{path}\": {dial}{why}") }
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (host, authorization) = match &self.0 {
            Way::Socket(_) => ("_", String::new()),
            Way::Network { url, token } => {
                (url.split_once("://").map_or(url.as_str(), |(_, host)| host), format!("Authorization: Bearer {token}\r\n"))
            }
        };
        let length = body.len();
        let head = format!("{method} /api/v4{path} HTTP/1.0\r\nHost: {host}\r\n{authorization}Content-Length: {length}\r\n\r\n");
        let mut bytes = Vec::new();
        let mut talk = || {
            let mut connection = self.connect()?;
            connection.write_all((head.clone() + &body).as_bytes())?;
            match connection.read_to_end(&mut bytes) {
                // A server that just lets go has said all the same how long its body is.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && !bytes.is_empty() => Ok(0),
                read => read,
            }
        };
        talk().map_err(|error| unreached(words(&error)))?;
        let answer = String::from_utf8_lossy(&bytes);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let document: Value = serde_json::from_str(body).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(document);
        }
        let (message, detail) =
            (document["message"].as_str().unwrap_or("no answer"), document["detailed_error"].as_str().unwrap_or_default());
        let message = if detail.is_empty() { message.to_owned() } else { format!("{message}, {detail}") };
        Err(Refusal { status, message })
    }

    fn connect(&self) -> std::io::Result<Box<dyn Connection>> {
        let url = match &self.0 {
            Way::Socket(socket) => return Ok(Box::new(UnixStream::connect(socket)?)),
            Way::Network { url, .. } => url,
        };
        let other = |why: &str| std::io::Error::other(why.to_owned());
        let (is_tls, host) = match url.split_once("://") {
            Some(("https", host)) => (true, host),
            Some(("http", host)) => (false, host),
            _ => return Err(other("unsupported protocol scheme")),
        };
        let (name, port) = host.rsplit_once(':').unwrap_or((host, if is_tls { "443" } else { "80" }));
        let stream = TcpStream::connect((name.trim_matches(['[', ']']), port.parse::<u16>().map_err(|_| other("invalid port"))?))?;
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).map_err(|_| other("invalid host"))?;
        let config = crate::db::verifying(None).map_err(|why| other(&why))?;
        let session = rustls::ClientConnection::new(std::sync::Arc::new(config), name).map_err(std::io::Error::other)?;
        Ok(Box::new(rustls::StreamOwned::new(session, stream)))
    }
}

/// As Go says it.
fn words(error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Some(other) => format!("tls: {other}"),
        None if error.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        None => error.to_string(),
    }
}
