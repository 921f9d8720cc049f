//! A tool's HTTP API: whom to trust, what may be asked twice, and what went wrong in words that name the tool.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use images::{Class, Error, Result};
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::provision::Tool;
use crate::server::{Distrust, Endpoint, Patience, distrust, pause};
use crate::site::Site;
use crate::site::secrets::Secret;
use crate::uri::plain;

/// The largest answer is a page of applications or webhooks: well below.
const LONGEST: u64 = 4 << 20;

/// How a tool wants to be shown a token.
pub enum Scheme {
    /// As the user name of HTTP Basic, without a password.
    BasicUser,
    /// `user:token`, as HTTP Basic.
    Basic,
    /// In `PRIVATE-TOKEN`.
    PrivateToken,
}

/// A tool's server, and who asks it.
pub struct Api {
    tool: Tool,
    http: reqwest::blocking::Client,
    base: String,
    header: (&'static str, Secret),
    patience: Patience,
    /// What no error repeats.
    hushed: Vec<Secret>,
}

/// An answer, whatever its status.
pub struct Reply<'a> {
    api: &'a Api,
    call: String,
    /// HTTP status.
    pub status: u16,
    body: Vec<u8>,
}

impl Api {
    /// Connects to nothing yet. `ca` are the only roots that are trusted; names that `site.toml` gives an address are not looked up.
    ///
    /// # Errors
    /// As [`Endpoint::http`].
    pub fn new(tool: Tool, url: &Url, ca: PathBuf, site: &Site, scheme: Scheme, token: &Secret, patience: Patience) -> Result<Api> {
        let address = url.host_str().and_then(|host| site.network.hosts.get(host)).copied();
        let endpoint = Endpoint { url: url.clone(), ca: Some(ca).filter(|_| url.scheme() == "https"), address };
        let http = endpoint.http(patience.timeout).map_err(|error| match url.scheme() {
            "http" => error.hint(format!("the files in integrations/{tool} are ready all the same, for the steps by hand")),
            _ => error,
        })?;
        let basic = |text: String| Secret::new(format!("Basic {}", STANDARD.encode(text)));
        let header = match scheme {
            Scheme::BasicUser => ("authorization", basic(format!("{}:", token.expose()))),
            Scheme::Basic => ("authorization", basic(token.expose().to_owned())),
            Scheme::PrivateToken => ("private-token", token.clone()),
        };
        Ok(Api { tool, http, base: plain(url), header, patience, hushed: vec![token.clone()] })
    }

    /// Keeps a value out of every error.
    pub fn hush(&mut self, value: &Secret) {
        self.hushed.push(value.clone());
    }

    /// The address, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Asks for something.
    pub fn get(&self, path: &str) -> Result<Reply<'_>> {
        self.ask(Method::GET, path, &|request| request)
    }

    /// Sends a form.
    pub fn form(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Result<Reply<'_>> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.ask(method, path, &|request| request.header("content-type", "application/x-www-form-urlencoded").body(body.clone()))
    }

    /// Sends a text of a type.
    pub fn send(&self, method: Method, path: &str, kind: &str, body: &str) -> Result<Reply<'_>> {
        self.ask(method, path, &|request| request.header("content-type", kind).body(body.to_owned()))
    }

    /// Asks, as often as it makes sense: what makes something is sent once, since nobody knows what became of it.
    fn ask(&self, method: Method, path: &str, with: &dyn Fn(RequestBuilder) -> RequestBuilder) -> Result<Reply<'_>> {
        let shown = path.split('?').next().unwrap_or_default();
        let call = format!("{method} {shown}");
        let mut pause = self.patience.pause;
        let mut left = if method == Method::POST { 1 } else { self.patience.tries.max(1) };
        loop {
            left -= 1;
            let request = self.http.request(method.clone(), format!("{}{path}", self.base));
            let asked = match once(with(request.header(self.header.0, self.header.1.expose()))) {
                Ok(answer) if left == 0 || !answer.may_pass(self.patience.longest) => {
                    return Ok(Reply { api: self, call, status: answer.status, body: answer.body });
                }
                Ok(answer) => answer.pause,
                Err(broken) if left == 0 || broken.certificate.is_some() => return Err(self.broken(&call, broken)),
                Err(_) => None,
            };
            std::thread::sleep(asked.unwrap_or(pause));
            pause = (pause * 2).min(self.patience.longest);
        }
    }

    fn hushed(&self, mut text: String) -> String {
        for secret in self.hushed.iter().filter(|secret| !secret.expose().is_empty()) {
            text = text.replace(secret.expose(), "…");
        }
        text
    }
}

/// No answer.
struct Broken {
    said: String,
    /// The server has seen nothing.
    never: bool,
    certificate: Option<Distrust>,
}

/// One answer.
struct Answer {
    status: u16,
    /// How long the tool asks to be left alone.
    pause: Option<Duration>,
    body: Vec<u8>,
}

impl Answer {
    /// Whether it may be another one later, and the tool does not ask for more time than there is.
    fn may_pass(&self, longest: Duration) -> bool {
        (self.status == 429 || self.status >= 500) && self.pause.is_none_or(|pause| pause <= longest)
    }
}

fn once(request: RequestBuilder) -> std::result::Result<Answer, Broken> {
    let response = request.send().map_err(|error| {
        let (never, certificate) = (error.is_connect() || error.is_builder(), distrust(&error));
        Broken { said: images::store::http::chain(error), never, certificate }
    })?;
    let (status, pause) = (response.status().as_u16(), pause::asked(response.headers()));
    let mut body = Vec::new();
    // An answer that was cut off is none.
    let read = response.take(LONGEST).read_to_end(&mut body);
    read.map_err(|error| Broken { said: error.to_string(), never: false, certificate: None })?;
    Ok(Answer { status, pause, body })
}

impl Api {
    fn broken(&self, call: &str, broken: Broken) -> Error {
        let (tool, name) = (self.tool, self.tool.display_name());
        let error = |what: String| Error::new(Class::Server, what).detail(format!("asked {call} of {}", self.base)).detail(&broken.said);
        match broken.certificate {
            Some(why) => error(format!("{name}'s certificate is not believed")).hint(match why {
                Distrust::Issuer => "the site's CA did not issue it: `--ca FILE` names the one that did".to_owned(),
                Distrust::Time => format!("renew it at {name}, or this machine's clock is wrong"),
                Distrust::Name => format!("it holds other names than [{tool}] url in site.toml"),
                Distrust::Other => "openssl s_client shows it".to_owned(),
            }),
            None if broken.never => {
                error(format!("{name} is not reached")).hint(format!("does it run, and is [{tool}] url in site.toml its address?"))
            }
            None => error(format!("the connection to {name} was cut")).hint(format!("the same command again goes on from what {name} has")),
        }
    }
}

impl Reply<'_> {
    /// Whether the tool did it.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The tool's own words about a refusal; empty where they are nobody's.
    pub fn message(&self) -> String {
        let told: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let own = [&told["errors"][0]["msg"], &told["message"], &told["error_description"], &told["error"]];
        let text = own.into_iter().find_map(|said| match said {
            Value::String(text) => Some(text.clone()),
            Value::Object(_) | Value::Array(_) => Some(said.to_string()),
            _ => None,
        });
        self.api.hushed(text.unwrap_or_default()).chars().take(300).collect()
    }

    /// The answer, if the tool did it.
    ///
    /// # Errors
    /// [`Class::Server`], with the tool's words and the next step.
    pub fn good(self) -> Result<Self> {
        if self.is_good() {
            return Ok(self);
        }
        let (tool, status, message) = (self.api.tool, self.status, self.message());
        let name = tool.display_name();
        let what = match status {
            401 => format!("{name} does not know the token"),
            403 => format!("{name} does not let the token do this"),
            _ => format!("{name} answered {status}"),
        };
        let mut error = Error::new(Class::Server, what).detail(format!("asked {} of {}", self.call, self.api.base));
        if !message.is_empty() {
            error = error.detail(message);
        }
        Err(match next_step(tool, status) {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    /// Its JSON, if the tool did it.
    ///
    /// # Errors
    /// As [`Reply::good`]; [`Class::Server`] for what is not JSON of this shape, which is never repeated.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let good = self.good()?;
        serde_json::from_slice(&good.body).map_err(|_| {
            let name = good.api.tool.display_name();
            Error::new(Class::Server, format!("the answer is not {name}'s"))
                .detail(format!("asked {} of {}", good.call, good.api.base))
                .detail(if good.body.trim_ascii_start().starts_with(b"<") { "found a page" } else { "found something else than its JSON" })
                .hint(format!(
                    "a sign-in page or a proxy may be in between: is [{}] url in site.toml the address of {name} itself?",
                    good.api.tool
                ))
        })
    }

    /// Its text, if the tool did it.
    ///
    /// # Errors
    /// As [`Reply::good`].
    pub fn text(self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.good()?.body).into_owned())
    }
}

/// What the reader does about a refusal.
fn next_step(tool: Tool, status: u16) -> Option<String> {
    let url = format!("is [{tool}] url in site.toml right, path and all?");
    Some(match (tool, status) {
        (Tool::Sonarqube, 401) => "make a user token: My Account, Security; one that has expired is refused like a wrong one".to_owned(),
        (Tool::Sonarqube, 403) => "the token has to be that of an account with Administer System".to_owned(),
        (Tool::Jenkins, 401) => "the file holds USER:TOKEN; make an API token: the user's page, Security".to_owned(),
        (Tool::Jenkins, 403) => "the account needs Overall/Administer".to_owned(),
        (Tool::Gitlab, 401) => {
            "make a personal access token with the scope api; one that has expired is refused like a wrong one".to_owned()
        }
        (Tool::Gitlab, 403) => "projects need the role Maintainer, groups Owner, applications and settings an administrator".to_owned(),
        (_, 300..=399) => format!("it answers with another address: {url}"),
        (_, 404) => format!("does it exist, may the token see it, and {url}"),
        (_, 409) => "somebody else is changing it: the same command again".to_owned(),
        (_, 429) => "it limits how often it is asked: try again later".to_owned(),
        (_, 500..) => format!("the log of {} may say why; the same command again goes on", tool.display_name()),
        _ => return None,
    })
}
