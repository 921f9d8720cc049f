//! Mattermost, as a phone or a page asks it: a session, a WebSocket, a direct message, a credential for the relay.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use images::{Class, Error, Result};
use reqwest::Method;
use reqwest::blocking::Client;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{HandshakeError, WebSocket};
use xtask::server::Endpoint;
use xtask::site::secrets::Secret;
use xtask::turn::Credential;
use xtask::uri::plain;

use crate::{Site, random};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a frame may take.
const FRAME: Duration = Duration::from_secs(10);
const CREDENTIALS: &str = "/plugins/com.mattermost.calls/turn-credentials";

/// An open WebSocket.
pub type Socket = WebSocket<StreamOwned<ClientConnection, TcpStream>>;

/// A session. Its connections are opened where it was signed in: in that network namespace.
pub struct Chat {
    http: Client,
    base: String,
    token: Secret,
    id: String,
}

/// Somebody who may call the administrator.
pub struct Caller {
    /// User name.
    pub name: String,
    /// Password.
    pub password: Secret,
    /// The direct message with the administrator.
    pub channel: String,
}

impl Chat {
    /// Signs in.
    pub fn sign_in(server: &Endpoint, name: &str, password: &Secret) -> Result<Chat> {
        let http = server.http(PATIENCE)?;
        let base = plain(&server.url);
        let login = json!({ "login_id": name, "password": password.expose() });
        let request = http.post(format!("{base}/api/v4/users/login")).header("content-type", "application/json").body(login.to_string());
        let answer = request.send().map_err(|error| failed("/users/login", error))?;
        let status = answer.status();
        let token = answer.headers().get("token").and_then(|token| token.to_str().ok()).map(Secret::new);
        let body = answer.text().map_err(|error| failed("/users/login", error))?;
        let Some(token) = token.filter(|_| status.is_success()) else {
            return Err(refused("/users/login", status.as_u16(), &body));
        };
        let user: Value = serde_json::from_str(&body).unwrap_or_default();
        Ok(Chat { http, base, token, id: user["id"].as_str().unwrap_or_default().to_owned() })
    }

    /// Makes an account of somebody new, and the direct message between it and the one who asks, an administrator.
    pub fn caller(&self) -> Result<Caller> {
        let (name, password) = (format!("caller-{}", random(6)?), Secret::new(format!("Aa1-{}", random(16)?)));
        let account = json!({ "username": name, "password": password.expose(), "email": format!("{name}@example.org") });
        let user = self.ask(Method::POST, "/api/v4/users", Some(&account))?;
        let channel = self.ask(Method::POST, "/api/v4/channels/direct", Some(&json!([self.id, user["id"]])))?;
        match channel["id"].as_str() {
            Some(channel) => Ok(Caller { name, password, channel: channel.to_owned() }),
            None => Err(Error::new(Class::Check, "a direct message without an id")),
        }
    }

    /// What Mattermost hands out for the relay: the credential, and the addresses that it is for.
    pub fn turn_credential(&self) -> Result<(Credential, Vec<String>)> {
        let servers = self.ask(Method::GET, CREDENTIALS, None)?;
        let text = |name: &str| servers[0][name].as_str().map(str::to_owned);
        let urls = servers[0]["urls"].as_array().into_iter().flatten().filter_map(|url| url.as_str().map(str::to_owned)).collect();
        match (text("username"), text("credential")) {
            (Some(username), Some(password)) => Ok((Credential { username, password }, urls)),
            _ => Err(Error::new(Class::Check, format!("{CREDENTIALS} hands out no credential"))
                .detail("expected [{\"urls\": […], \"username\": …, \"credential\": …}]")),
        }
    }

    /// Opens a WebSocket, as a page of `origin` does; other clients name none. Status and body where the server does not open it.
    pub fn socket(&self, site: &Site, origin: Option<&str>) -> Result<std::result::Result<Socket, (u16, String)>> {
        let url = &site.chat.url;
        let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or(443));
        let address = site.chat.address.or_else(|| host.parse().ok());
        let address = address.ok_or_else(|| Error::new(Class::Usage, format!("no address of {host} is known")))?;
        let stream = xtask::turn::tcp(SocketAddr::new(address, port), FRAME)?;
        let name = ServerName::try_from(host).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
        let tls = ClientConnection::new(Arc::clone(&site.trust), name).map_err(|error| Error::new(Class::Check, error.to_string()))?;
        let unopened = |why: String| Error::new(Class::Check, "the WebSocket was not opened").detail(why);
        let request = format!("{}/api/v4/websocket", self.base.replacen("http", "ws", 1)).into_client_request();
        let mut request = request.map_err(|error| unopened(error.to_string()))?;
        let mut header = |name: &'static str, value: &str| -> Result<()> {
            let value = value.parse().map_err(|_| Error::new(Class::Check, format!("what was to be {name} fits no header")))?;
            request.headers_mut().insert(name, value);
            Ok(())
        };
        header("Authorization", &format!("Bearer {}", self.token.expose()))?;
        origin.map_or(Ok(()), |origin| header("Origin", origin))?;
        match tungstenite::client(request, StreamOwned::new(tls, stream)) {
            Ok((socket, _)) => Ok(Ok(socket)),
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                let body = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
                Ok(Err((answer.status().as_u16(), body)))
            }
            Err(error) => Err(unopened(error.to_string())),
        }
    }

    /// Gives a file to a channel: its id, or the status with which the server refuses it.
    pub fn upload(&self, channel: &str, text: &str) -> Result<std::result::Result<String, u16>> {
        let path = format!("/api/v4/files?channel_id={channel}&filename=text.txt");
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(self.token.expose()).body(text.to_owned());
        let answer = request.send().map_err(|error| failed("/files", error))?;
        let status = answer.status();
        let told: Value = serde_json::from_str(&answer.text().map_err(|error| failed("/files", error))?).unwrap_or_default();
        Ok(told["file_infos"][0]["id"].as_str().filter(|_| status.is_success()).map(str::to_owned).ok_or(status.as_u16()))
    }

    /// A file that was given; nothing where the server has none.
    pub fn file(&self, id: &str) -> Result<Option<String>> {
        let request = self.http.get(format!("{}/api/v4/files/{id}", self.base)).bearer_auth(self.token.expose());
        let answer = request.send().map_err(|error| failed("/files", error))?;
        let is_there = answer.status().is_success();
        Ok(answer.text().ok().filter(|_| is_there))
    }

    /// Calls the API: the answer, where it is a good one.
    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().map_err(|error| failed(path, error))?;
        let status = answer.status();
        let text = answer.text().map_err(|error| failed(path, error))?;
        match status.is_success() {
            true => {
                serde_json::from_str(&text).map_err(|error| Error::new(Class::Check, format!("{path}: the answer is no JSON: {error}")))
            }
            false => Err(refused(path, status.as_u16(), &text)),
        }
    }
}

fn failed(path: &str, error: reqwest::Error) -> Error {
    Error::new(Class::Server, format!("Mattermost does not answer {path}")).detail(images::store::http::chain(error.without_url()))
}

fn refused(path: &str, status: u16, body: &str) -> Error {
    let told: Value = serde_json::from_str(body).unwrap_or_default();
    Error::new(Class::Server, format!("Mattermost refuses {path}: {status}")).detail(told["message"].as_str().unwrap_or(body).to_owned())
}
