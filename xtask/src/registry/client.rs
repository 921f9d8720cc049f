//! A registry's API: who asks, blobs in pieces, manifests read back.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use images::store::http::{chain, http_client_with};
use images::{Class, Digest, Error, Result};
use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Certificate, Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::{Address, Login};
use crate::server::{Distrust, distrust};

/// Bytes of a blob in one request: what is lost when a connection breaks.
const PIECE: usize = 8 << 20;
/// A manifest or a list is smaller by far; a registry that sends more is not read to its end.
const LARGEST_DOCUMENT: u64 = 16 << 20;
/// What manifests are.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries without any progress.
    pub tries: u32,
    /// Pause after the first; each further one is twice as long.
    pub pause: Duration,
    /// A registry that says nothing for so long is stuck.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { tries: 5, pause: Duration::from_millis(500), silence: Duration::from_secs(60) }
    }
}

/// What a registry wants to know before it answers (RFC 9110, 11.6.1; distribution-spec, "token authentication").
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Nothing,
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// A registry.
pub struct Client {
    http: Http,
    /// Where it is.
    pub address: Address,
    login: Option<Login>,
    challenge: Challenge,
    /// Scope → token.
    tokens: Mutex<BTreeMap<String, String>>,
    patience: Patience,
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was there.
    There,
    /// From another repository of the same registry.
    Mounted,
    /// It was sent.
    Sent,
}

/// Why one request brought nothing.
enum Trouble {
    /// Another try may do better.
    Passing(String),
    /// None will.
    Lasting(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Lasting(error)
    }
}

impl Client {
    /// The registry at `address` with what Docker's settings say: credentials, and the private CA, unless `ca` is another.
    pub fn by_docker(address: Address, ca: Option<&Path>) -> Result<Self> {
        let login = Login::folder().map(|folder| Login::find(&address.host, &folder)).transpose()?.flatten();
        let own = Path::new("/etc/docker/certs.d").join(&address.host).join("ca.crt");
        let ca = ca.map(Path::to_owned).or_else(|| Some(own).filter(|file| file.is_file()));
        Client::connect(address, ca.as_deref(), login, Patience::default())
    }

    /// Finds the registry and what it wants to know. `ca` is trusted besides what this machine trusts.
    ///
    /// # Errors
    /// [`Class::Server`] where nothing answers, or something that is no registry; [`Class::Usage`] for a CA that cannot be read.
    pub fn connect(address: Address, ca: Option<&Path>, login: Option<Login>, patience: Patience) -> Result<Self> {
        let mut roots = Vec::new();
        if let Some(ca) = ca {
            let found = Certificate::from_pem_bundle(&fs_err::read(ca)?).ok().filter(|found| !found.is_empty());
            roots =
                found.ok_or_else(|| Error::new(Class::Usage, format!("{} holds no certificate", ca.display())).detail("expected PEM"))?;
        }
        let http = http_client_with(|builder| builder.tls_certs_merge(roots.clone()).timeout(patience.silence))?;
        let mut client = Client { http, address, login, challenge: Challenge::Nothing, tokens: Mutex::default(), patience };
        let url = client.url("v2/")?;
        let answer = client.patiently("finding it", || {
            let answer = client.http.get(url.clone()).send().map_err(|error| client.passing(error))?;
            worth_another_try(answer)
        })?;
        client.challenge = match answer.status() {
            StatusCode::UNAUTHORIZED => client.challenge_of(answer.headers())?,
            status if status.is_success() => Challenge::Nothing,
            status => {
                return Err(client
                    .error("it is no registry that speaks version 2 of the API")
                    .detail(format!("GET /v2/ answered {status}")));
            }
        };
        Ok(client)
    }

    fn error(&self, what: &str) -> Error {
        Error::new(Class::Server, format!("registry {}: {what}", self.address.host))
    }

    /// A connection that fails may be made again; a certificate that is not believed stays so.
    fn passing(&self, error: reqwest::Error) -> Trouble {
        let Some(why) = distrust(&error) else { return Trouble::Passing(chain(error)) };
        let told = self.error("its certificate is not believed").detail(chain(error));
        Trouble::Lasting(match why {
            Distrust::Issuer => told.hint("--ca FILE names the CA that issued it"),
            _ => told,
        })
    }

    fn url(&self, path: &str) -> Result<Url> {
        self.address.base.join(path).map_err(|error| self.error(&error.to_string()))
    }

    /// The strongest that is offered; a token's realm may not be asked over a line that anybody reads.
    fn challenge_of(&self, headers: &HeaderMap) -> Result<Challenge> {
        let offered: Vec<&str> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let scheme = |offer: &&&str, name: &str| offer.split(' ').next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
        if let Some(bearer) = offered.iter().find(|offer| scheme(offer, "bearer")) {
            let realm = parameter(bearer, "realm").and_then(|realm| Url::parse(&realm).ok());
            let realm = realm.ok_or_else(|| self.error("it names no realm that gives tokens"))?;
            if realm.scheme() != "https" && self.address.base.scheme() == "https" {
                return Err(self
                    .error("its realm is not asked: a password would be readable on the way")
                    .detail(format!("found    {realm}")));
            }
            return Ok(Challenge::Bearer { realm, service: parameter(bearer, "service") });
        }
        if offered.iter().any(|offer| scheme(&offer, "basic")) {
            return Ok(Challenge::Basic);
        }
        Err(self.error("it wants to know who asks, in no way that is known here").detail(format!("offered  {}", offered.join(", "))))
    }

    /// A request about `repository`, with what the registry wants to know. Only the registry itself gets that.
    fn request(&self, method: Method, url: &Url, scope: &str) -> Result<RequestBuilder, Trouble> {
        let request = self.http.request(method, url.clone());
        if url.origin() != self.address.base.origin() {
            return Ok(request);
        }
        Ok(match (&self.challenge, &self.login) {
            (Challenge::Nothing, _) => request,
            (Challenge::Basic, Some(Login::Password { name, password })) => request.basic_auth(name, Some(password)),
            (Challenge::Basic, _) => request,
            (Challenge::Bearer { realm, service }, _) => request.bearer_auth(self.token(realm, service.as_deref(), scope)?),
        })
    }

    fn token(&self, realm: &Url, service: Option<&str>, scope: &str) -> Result<String, Trouble> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(alias = "access_token")]
            token: String,
        }
        let mut tokens = self.tokens.lock().map_err(|_| self.error("a thread ended"))?;
        if let Some(token) = tokens.get(scope) {
            return Ok(token.clone());
        }
        let mut fields: Vec<(&str, &str)> = service.iter().map(|service| ("service", *service)).collect();
        fields.extend(scope.split(' ').map(|scope| ("scope", scope)));
        let request = match &self.login {
            Some(Login::Identity(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("client_id", "chatops-xtask"), ("refresh_token", token)]);
                let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
                self.http.post(realm.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
            }
            login => {
                let mut url = realm.clone();
                url.query_pairs_mut().extend_pairs(fields);
                let request = self.http.get(url);
                match login {
                    Some(Login::Password { name, password }) => request.basic_auth(name, Some(password)),
                    _ => request,
                }
            }
        };
        let answer = worth_another_try(request.send().map_err(|error| self.passing(error))?)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self
                .error("no token is given")
                .detail(format!("{} answered {status}", realm.host_str().unwrap_or_default()))
                .hint(self.login_hint())
                .into());
        }
        let answer: Answer = serde_json::from_slice(&read(answer)?).map_err(|_| self.error("what should be a token is not one"))?;
        tokens.insert(scope.to_owned(), answer.token.clone());
        Ok(answer.token)
    }

    fn login_hint(&self) -> String {
        let host = &self.address.host;
        match &self.login {
            Some(_) => format!("the credentials for {host} in Docker's settings are refused; `docker login {host}` writes others"),
            None => format!("Docker's settings have no credentials for {host}; `docker login {host}` writes them"),
        }
    }

    /// Tries, with pauses, as long as the trouble may pass.
    fn patiently<T>(&self, doing: &str, mut once: impl FnMut() -> Result<T, Trouble>) -> Result<T> {
        let mut tried = 0;
        loop {
            match once() {
                Ok(done) => return Ok(done),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(why)) => {
                    tried += 1;
                    if tried >= self.patience.tries {
                        return Err(self
                            .error(doing)
                            .detail(why)
                            .detail(format!("{tried} tries"))
                            .hint("what has arrived stays: the same command goes on"));
                    }
                    std::thread::sleep(self.patience.pause * 2_u32.pow(tried - 1));
                }
            }
        }
    }

    /// Sends, and refuses every answer that is not one of `expected`.
    fn send(&self, request: RequestBuilder, scope: &str, what: &str, expected: &[StatusCode]) -> Result<Response, Trouble> {
        let answer = worth_another_try(request.send().map_err(|error| self.passing(error))?)?;
        let status = answer.status();
        if expected.contains(&status) {
            return Ok(answer);
        }
        if status == StatusCode::UNAUTHORIZED && matches!(self.challenge, Challenge::Bearer { .. }) && self.forget(scope) {
            return Err(Trouble::Passing("its token was refused".to_owned()));
        }
        let error = self.error(&format!("{what} is refused")).detail(format!("answered {status}{}", reasons(answer)));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => error.hint(self.login_hint()),
            _ => error,
        }
        .into())
    }

    /// Whether there was a token that may have become too old.
    fn forget(&self, scope: &str) -> bool {
        self.tokens.lock().is_ok_and(|mut tokens| tokens.remove(scope).is_some())
    }

    /// Whether a repository has a blob, with that length.
    pub fn has_blob(&self, repository: &str, digest: &Digest, size: u64) -> Result<bool> {
        let url = self.url(&format!("v2/{repository}/blobs/{}", digest.oci()))?;
        let (scope, what) = (scope(repository, None), format!("blob {}", digest.oci()));
        self.patiently(&format!("{what} is not looked up"), || {
            let request = self.request(Method::HEAD, &url, &scope)?;
            let answer = self.send(request, &scope, &what, &[StatusCode::OK, StatusCode::NOT_FOUND])?;
            if answer.status() == StatusCode::NOT_FOUND {
                return Ok(false);
            }
            self.must_be(answer.headers(), digest, &what)?;
            let length =
                answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse::<u64>().ok());
            match length {
                Some(found) if found != size => {
                    Err(self.lie(&what).detail(format!("expected {size} bytes")).detail(format!("it says  {found} bytes")).into())
                }
                _ => Ok(true),
            }
        })
    }

    fn lie(&self, what: &str) -> Error {
        Error::new(Class::HashMismatch, format!("registry {}: {what} is another there than here", self.address.host))
    }

    /// What a registry says of a digest is optional, but where it says something it has to be true.
    fn must_be(&self, headers: &HeaderMap, digest: &Digest, what: &str) -> Result<(), Error> {
        match headers.get("docker-content-digest").and_then(|value| value.to_str().ok()) {
            Some(said) if said != digest.oci() => {
                Err(self.lie(what).detail(format!("expected {}", digest.oci())).detail(format!("it says  {said}")))
            }
            _ => Ok(()),
        }
    }

    /// Brings a blob into a repository: what is there is not sent, what `from` has is mounted, and what a broken connection left
    /// there is gone on from.
    pub fn put_blob(
        &self,
        repository: &str,
        (digest, size): (&Digest, u64),
        from: Option<&str>,
        mut content: impl Read + Seek,
        sent: &dyn Fn(u64),
    ) -> Result<Arrival> {
        if self.has_blob(repository, digest, size)? {
            return Ok(Arrival::There);
        }
        let scope = scope(repository, from);
        let what = format!("blob {}", digest.oci());
        let mut begin = self.url(&format!("v2/{repository}/blobs/uploads/"))?;
        if let Some(from) = from {
            begin.query_pairs_mut().append_pair("mount", &digest.oci()).append_pair("from", from);
        }
        let mut at = 0_u64;
        let mut upload: Option<Url> = None;
        let mut progress = 0_u64;
        // Each round of tries is without progress: a large blob over a bad line comes through piece by piece.
        loop {
            let before = progress;
            let round = self.patiently(&format!("{what} does not arrive"), || {
                let place = match &upload {
                    Some(place) => place.clone(),
                    None => {
                        let request = self.request(Method::POST, &begin, &scope)?.header(CONTENT_LENGTH, 0);
                        let answer = self.send(request, &scope, &what, &[StatusCode::CREATED, StatusCode::ACCEPTED])?;
                        if answer.status() == StatusCode::CREATED {
                            return Ok(Some(Arrival::Mounted));
                        }
                        at = 0;
                        upload.insert(self.location(&begin, &answer)?).clone()
                    }
                };
                content.seek(SeekFrom::Start(at)).map_err(Error::from)?;
                let mut piece = Vec::new();
                (&mut content).take(PIECE as u64).read_to_end(&mut piece).map_err(Error::from)?;
                if piece.is_empty() {
                    let mut end = place;
                    end.query_pairs_mut().append_pair("digest", &digest.oci());
                    let request = self.request(Method::PUT, &end, &scope)?.header(CONTENT_LENGTH, 0);
                    let answer = self.send(request, &scope, &what, &[StatusCode::CREATED, StatusCode::NO_CONTENT]);
                    // Whatever happens to the answer, the next try begins with whether it is there.
                    if matches!(answer, Err(Trouble::Passing(_))) {
                        upload = None;
                        if self.has_blob(repository, digest, size)? {
                            return Ok(Some(Arrival::Sent));
                        }
                    }
                    self.must_be(answer?.headers(), digest, &what)?;
                    return Ok(Some(Arrival::Sent));
                }
                let length = piece.len() as u64;
                let request = self
                    .request(Method::PATCH, &place, &scope)?
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_RANGE, format!("{at}-{}", at + length - 1))
                    .body(piece);
                match self.send(request, &scope, &what, &[StatusCode::ACCEPTED, StatusCode::NO_CONTENT]) {
                    Ok(answer) => {
                        upload = Some(self.location(&place, &answer)?);
                        at += length;
                        progress += length;
                        sent(length);
                        Ok(None)
                    }
                    Err(Trouble::Passing(why)) => {
                        // How much of it arrived, and where to go on: the registry knows.
                        match self.state(&place, &scope) {
                            Some((next, arrived)) if arrived <= size && arrived >= at => {
                                progress += arrived - at;
                                sent(arrived - at);
                                let moved = arrived > at;
                                (at, upload) = (arrived, Some(next));
                                if moved { Ok(None) } else { Err(Trouble::Passing(why)) }
                            }
                            _ => {
                                upload = None;
                                Err(Trouble::Passing(why))
                            }
                        }
                    }
                    Err(lasting) => Err(lasting),
                }
            })?;
            match round {
                Some(Arrival::Sent) if !self.has_blob(repository, digest, size)? => {
                    return Err(self.lie(&what).detail("it was taken, and is not there"));
                }
                Some(arrival) => return Ok(arrival),
                None if progress > before => {}
                None => return Err(self.error(&format!("{what} does not arrive"))),
            }
        }
    }

    /// Where an upload goes on, and how many bytes of it are there.
    fn state(&self, place: &Url, scope: &str) -> Option<(Url, u64)> {
        let answer =
            self.request(Method::GET, place, scope).ok()?.send().ok().filter(|answer| answer.status() == StatusCode::NO_CONTENT)?;
        let (_, last) = answer.headers().get(RANGE)?.to_str().ok()?.trim_start_matches("bytes=").split_once('-')?;
        let last: u64 = last.parse().ok()?;
        // `0-0` is said of nothing, and of one byte: a piece is longer.
        Some((self.location(place, &answer).ok()?, if last == 0 { 0 } else { last + 1 }))
    }

    fn location(&self, asked: &Url, answer: &Response) -> Result<Url, Trouble> {
        let told = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let place = told.and_then(|told| asked.join(told).ok());
        let place = place.ok_or_else(|| self.error("it does not say where an upload goes on"))?;
        if self.address.base.scheme() == "https" && place.scheme() != "https" {
            return Err(self
                .error("an upload would go on where anybody can read it")
                .detail(format!("found    {}", place.origin().ascii_serialization()))
                .into());
        }
        Ok(place)
    }

    /// Puts a manifest under a tag or its digest, reads it back, and says whether the registry keeps referrers by itself.
    pub fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Result<bool> {
        let url = self.url(&format!("v2/{repository}/manifests/{reference}"))?;
        let (scope, what, digest) = (scope(repository, None), format!("manifest {repository}:{reference}"), Digest::of(bytes));
        let knows_subjects = self.patiently(&format!("{what} does not arrive"), || {
            let request = self.request(Method::PUT, &url, &scope)?.header(CONTENT_TYPE, media_type).body(bytes.to_vec());
            let answer = self.send(request, &scope, &what, &[StatusCode::CREATED, StatusCode::ACCEPTED, StatusCode::OK])?;
            self.must_be(answer.headers(), &digest, &what)?;
            Ok(answer.headers().contains_key("oci-subject"))
        })?;
        for reference in [reference, &digest.oci()] {
            let found = self.get(&format!("v2/{repository}/manifests/{reference}"), repository, &what)?;
            let found = found.map(|bytes| Digest::of(bytes).oci());
            if found.as_ref() != Some(&digest.oci()) {
                let found = found.unwrap_or_else(|| "nothing".to_owned());
                return Err(self
                    .lie(&what)
                    .detail(format!("expected {}", digest.oci()))
                    .detail(format!("read     {found} as {reference}")));
            }
        }
        Ok(knows_subjects)
    }

    /// A manifest or a list of them; `None` where there is none.
    pub fn get(&self, path: &str, repository: &str, what: &str) -> Result<Option<Vec<u8>>> {
        let (url, scope) = (self.url(path)?, scope(repository, None));
        self.patiently(&format!("{what} is not read"), || {
            let request = self.request(Method::GET, &url, &scope)?.header(ACCEPT, MANIFESTS);
            let answer = self.send(request, &scope, what, &[StatusCode::OK, StatusCode::NOT_FOUND])?;
            if answer.status() == StatusCode::NOT_FOUND { Ok(None) } else { read(answer).map(Some) }
        })
    }
}

/// What a token is asked for: to read and write one repository, and to read another one.
fn scope(repository: &str, from: Option<&str>) -> String {
    let own = format!("repository:{repository}:pull,push");
    from.map_or(own.clone(), |from| format!("{own} repository:{from}:pull"))
}

/// Servers that are overloaded or being restarted say so.
fn worth_another_try(answer: Response) -> Result<Response, Trouble> {
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT {
        return Err(Trouble::Passing(format!("answered {status}{}", reasons(answer))));
    }
    Ok(answer)
}

fn read(answer: Response) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    answer.take(LARGEST_DOCUMENT).read_to_end(&mut bytes).map_err(|error| Trouble::Passing(error.to_string()))?;
    Ok(bytes)
}

/// The registry's own words: `{"errors":[{"code":…,"message":…}]}`.
fn reasons(answer: Response) -> String {
    #[derive(Deserialize)]
    struct Reasons {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let told = read(answer).ok().and_then(|bytes| serde_json::from_slice::<Reasons>(&bytes).ok());
    let all = told.into_iter().flat_map(|told| told.errors);
    // Words of somebody else's, on one line and in plain characters.
    let plain = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    all.map(|reason| format!("; {}: {}", plain(reason.code), plain(reason.message))).collect()
}

/// A parameter of a challenge: `Bearer realm="…",service="…"`.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let (_, mut rest) = challenge.split_once(' ')?;
    loop {
        let (found, after) = rest.trim_start_matches([' ', ',']).split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if found.trim().eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests;
