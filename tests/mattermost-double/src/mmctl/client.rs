//! The local socket.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use serde_json::Value;

const SOCKET: &str = "/var/tmp/mattermost_local.socket";

/// A server on this machine.
pub struct Client {
    socket: String,
}

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
        Ok(Client { socket })
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
        let unreached = |error: std::io::Error| {
            let why =
                if error.kind() == std::io::ErrorKind::ConnectionRefused { "connection refused".to_owned() } else { error.to_string() };
            let title: String = method.chars().take(1).chain(method.to_lowercase().chars().skip(1)).collect();
            Refusal { status: 0, message: format!("{title} \"http://_/api/v4{path}\": dial unix {}: connect: {why}", self.socket) }
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{method} /api/v4{path} HTTP/1.0\r\nHost: _\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut connection = UnixStream::connect(&self.socket).map_err(unreached)?;
        connection.write_all((head + &body).as_bytes()).map_err(unreached)?;
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).map_err(unreached)?;
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
}
