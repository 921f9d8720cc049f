//! The connection: whom to trust, how long to wait, what may be asked twice.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use images::{Class, Error};
use reqwest::blocking::Response;
use reqwest::{Certificate, redirect};
use url::{Host, Url};

use super::call::Call;
use super::failure::{Failure, Result};
use super::pause;
use crate::site::secrets::Secret;
use crate::site::{Folder, Site};
use crate::uri::plain;

/// The largest answer is a list of 200 webhooks, or the settings: well below.
const LONGEST: u64 = 16 << 20;

/// Where a server is, and whom its certificate has to be from.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address, such as `https://mattermost.cicd.local:8065`. Plain HTTP only to this machine itself.
    pub url: Url,
    /// PEM file with the only roots that are trusted; none for plain HTTP.
    pub ca: Option<PathBuf>,
    /// Where the URL's name leads, in the place of DNS.
    pub address: Option<IpAddr>,
}

impl Endpoint {
    /// The own server of a site, under the name that its certificate holds, at an address of this machine, whatever DNS says.
    ///
    /// # Errors
    /// [`Class::Usage`] for a name that no URL takes.
    pub fn of_site(site: &Site, folder: &Folder, address: IpAddr) -> images::Result<Endpoint> {
        let url = site.own_url();
        let url = Url::parse(&url).map_err(|error| Error::new(Class::Usage, format!("{url}: {error}")))?;
        Ok(Endpoint { url, ca: Some(folder.ca()), address: Some(address) })
    }

    /// A client for it that trusts nobody else. It connects to nothing yet.
    ///
    /// # Errors
    /// [`Class::Usage`] for a CA file that is missing or holds no certificate, and for plain HTTP to another machine.
    pub fn http(&self, timeout: Duration) -> images::Result<reqwest::blocking::Client> {
        images::store::http::install_tls();
        let url = &self.url;
        let here = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            _ => false,
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err(Error::new(Class::Usage, format!("{url} is not used: a password would be readable on the way"))
                .detail("expected https://, or http:// with a loopback address"));
        }
        let mut roots = Vec::new();
        if let Some(ca) = &self.ca {
            let pem = fs_err::read(ca).map_err(|error| {
                Error::new(Class::Usage, error.to_string()).hint("`cargo xtask certs` makes the site's CA and certificates")
            })?;
            roots = Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|roots| !roots.is_empty())
                .ok_or_else(|| Error::new(Class::Usage, format!("{} holds no certificate", ca.display())).detail("expected PEM"))?;
        }
        let mut builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("chatops-xtask/", env!("CARGO_PKG_VERSION")))
            // A proxy of the environment is for the world outside; it must not see the administrator's password.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tls_certs_only(roots)
            .http1_only()
            // Each request on a connection of its own: one that was never opened has certainly not been used, so that what may have
            // happened on the server is known.
            .pool_max_idle_per_host(0)
            .connect_timeout(Duration::from_secs(10).min(timeout))
            .timeout(timeout);
        if let (Some(address), Some(name)) = (self.address, url.domain()) {
            // Port 0: the URL's.
            builder = builder.resolve(name, SocketAddr::new(address, 0));
        }
        builder.build().map_err(|error| Error::new(Class::Usage, "cannot set up an HTTPS client").detail(images::store::http::chain(error)))
    }
}

/// How hard to try.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Tries of one request.
    pub tries: u32,
    /// Pause after the first try; each further one is twice as long.
    pub pause: Duration,
    /// A server that asks for a longer pause is not waited for.
    pub longest: Duration,
    /// For one answer.
    pub timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { tries: 5, pause: Duration::from_millis(250), longest: Duration::from_secs(20), timeout: Duration::from_secs(30) }
    }
}

/// A server, and who asks it.
pub struct Client {
    http: reqwest::blocking::Client,
    base: String,
    token: Option<Secret>,
    patience: Patience,
}

/// A body that was read, with what the callers need of its head.
pub(super) struct Answer {
    pub status: u16,
    pub version: String,
    pub token: Option<Secret>,
    /// What the server asks to wait.
    pub pause: Option<Duration>,
    pub body: Vec<u8>,
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Class::Usage`] for a CA file that is missing or holds no certificate, and for plain HTTP to another machine.
    pub fn new(endpoint: &Endpoint, patience: Patience) -> images::Result<Client> {
        let http = endpoint.http(patience.timeout)?;
        let url = &endpoint.url;
        Ok(Client { http, base: plain(url), token: None, patience })
    }

    /// The same, of whoever is signed in, at another address.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn at(self, endpoint: &Endpoint) -> images::Result<Client> {
        Ok(Client { token: self.token, ..Client::new(endpoint, self.patience)? })
    }

    /// With which token to ask: of a session, or a personal access token.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    pub(super) fn set_token(&mut self, token: Option<Secret>) {
        self.token = token;
    }

    /// The address, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends, as often as it makes sense. What may have happened although no answer came is only asked again where the second time
    /// changes nothing.
    pub(super) fn send(&self, call: &Call) -> Result<Answer> {
        self.send_for(call, |status| matches!(status, 200..=299))
    }

    /// The same, for a call of which other answers are good as well.
    pub(super) fn send_for(&self, call: &Call, good: impl Fn(u16) -> bool) -> Result<Answer> {
        let mut pause = self.patience.pause;
        let mut left = self.patience.tries.max(1);
        loop {
            let (failure, asked) = match self.once(call, &good) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            left -= 1;
            let again = failure.may_pass() && (call.again || !failure.is_uncertain());
            if left == 0 || !again || asked.is_some_and(|asked| asked > self.patience.longest) {
                return Err(failure);
            }
            std::thread::sleep(asked.unwrap_or(pause));
            pause = (pause * 2).min(self.patience.longest);
        }
    }

    /// One request. With a failure comes the pause that the server asked for.
    fn once(&self, call: &Call, good: impl Fn(u16) -> bool) -> std::result::Result<Answer, (Failure, Option<Duration>)> {
        let answer = self.ask(call).map_err(|failure| (failure, None))?;
        match answer.status {
            status if good(status) => Ok(answer),
            status => Err((Failure::refused(call, status, &answer.body), answer.pause)),
        }
    }

    /// One request, whatever the status of its answer.
    fn ask(&self, call: &Call) -> Result<Answer> {
        let mut request = self.http.request(call.method.clone(), format!("{}/api/v4{}", self.base, call.path));
        if let Some(token) = self.token.as_ref().filter(|_| call.signed) {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = &call.body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().map_err(|error| Failure::of_transport(call, error))?;
        read(response).map_err(|error| Failure::cut(call, error.to_string()))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, call: &Call) -> Result<T> {
        let answer = self.send(call)?;
        parse(call, &answer.body)
    }

    /// The thing, or none where the server says 404 with Mattermost's own words: another server's 404 says nothing about a thing.
    pub(super) fn found<T: serde::de::DeserializeOwned>(&self, call: &Call) -> Result<Option<T>> {
        match self.json(call) {
            Ok(thing) => Ok(Some(thing)),
            Err(Failure::Refused { status: 404, id, .. }) if !id.is_empty() && id != "api.context.404.app_error" => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(call: &Call, body: &[u8]) -> Result<T> {
    // serde's own words would repeat a value, which may be a credential.
    serde_json::from_slice(body).map_err(|error| Failure::strange(call, format!("{:?} error in its JSON", error.classify())))
}

/// Reads to the end: an answer that was cut off is none.
fn read(response: Response) -> std::io::Result<Answer> {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    // `11.0.2.11.0.2.be6e….false`: the version, the build, a hash of the settings, the licence.
    let version = text("x-version-id").splitn(4, '.').take(3).collect::<Vec<_>>().join(".");
    let token = Some(text("token")).filter(|token| !token.is_empty()).map(Secret::new);
    let (status, pause) = (response.status().as_u16(), pause::asked(response.headers()));
    let mut body = Vec::new();
    response.take(LONGEST).read_to_end(&mut body)?;
    Ok(Answer { status, version, token, pause, body })
}
