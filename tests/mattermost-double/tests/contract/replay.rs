//! Replaying: a recorded request is sent again, with what this server gave instead of the recorded ids, and the answer is compared.

use std::collections::BTreeMap;

use reqwest::blocking::Client;
use reqwest::{Method, redirect};
use serde_json::{Value, json};

use crate::place::Installed;
use crate::recorded::{self, differences, is_id};

/// What stands where something was taken out.
const REDACTED: &str = "<REDACTED>";
/// What every user that the replay makes has.
pub const PASSWORD: &str = "correct-horse-battery";
/// Headers that have to be there again, with the same value.
const HEADERS: [&str; 11] = [
    "access-control-allow-origin",
    "cache-control",
    "content-type",
    "database_status",
    "expires",
    "filestore_status",
    "referrer-policy",
    "status",
    "vary",
    "x-content-type-options",
    "x-frame-options",
];

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Admin,
    Dev,
    Bot,
}

/// What differed, by file.
pub type Results = BTreeMap<String, Vec<String>>;

/// One run against one server.
pub struct Replay {
    base: String,
    client: Client,
    /// Recorded ids and what stands for them here.
    pub ids: BTreeMap<String, String>,
    /// Hooks by what the replay calls them.
    pub hooks: BTreeMap<String, String>,
    /// Tokens by who they belong to.
    pub tokens: BTreeMap<Who, String>,
    /// What came of it.
    pub results: Results,
}

/// What is added to the next request.
#[derive(Clone, Default)]
pub struct With<'a> {
    /// Whose token, where the recorded request had one; the administrator's otherwise.
    pub who: Option<Who>,
    /// Which hook, where the request names one.
    pub hook: &'a str,
    /// What the answer's `id` is to be remembered as.
    pub keep: &'a str,
    /// A body instead of the recorded one, which was cut.
    pub body: Option<Value>,
    /// The value of a header that was taken out.
    pub secret: &'a str,
    /// A query instead of the recorded one.
    pub query: &'a str,
}

impl Replay {
    /// The server's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn new(base: &str, roots: Option<&[u8]>) -> Self {
        let mut builder = Client::builder().redirect(redirect::Policy::none()).no_proxy();
        if let Some(pem) = roots {
            builder = builder.tls_certs_only([reqwest::Certificate::from_pem(pem).expect("PEM")]);
        }
        Replay {
            base: base.to_owned(),
            client: builder.build().expect("a client"),
            ids: BTreeMap::new(),
            hooks: BTreeMap::new(),
            tokens: BTreeMap::new(),
            results: Results::new(),
        }
    }

    /// Sends something that was not recorded.
    pub fn send(&self, method: &str, path: &str, who: Option<Who>, body: &Value) -> (u16, Value, reqwest::header::HeaderMap) {
        let mut request = self.client.request(Method::from_bytes(method.as_bytes()).expect("a method"), format!("{}{path}", self.base));
        if let Some(token) = who.and_then(|who| self.tokens.get(&who)) {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = request.send().unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, serde_json::from_str(&answer.text().unwrap_or_default()).unwrap_or_default(), headers)
    }

    /// Replays a recorded request as it is.
    pub fn rest(&mut self, name: &str) -> Value {
        self.rest_with(name, &With::default())
    }

    /// Replays recorded requests in their order.
    pub fn all(&mut self, names: &[&str]) {
        names.iter().for_each(|name| drop(self.rest(name)));
    }

    /// Replays a request of a hook.
    pub fn hook(&mut self, hook: &str, names: &[&str]) {
        names.iter().for_each(|name| drop(self.rest_with(name, &With { hook, ..With::default() })));
    }

    /// Replays a recorded request.
    pub fn rest_with(&mut self, name: &str, with: &With) -> Value {
        let recorded = recorded::read(name);
        let (answer, mut wrong) = match self.ask(&recorded, with) {
            Ok(answer) => answer,
            Err(error) => (Value::Null, vec![error]),
        };
        if !with.keep.is_empty() {
            match answer["id"].as_str() {
                Some(id) => _ = self.hooks.insert(with.keep.to_owned(), id.to_owned()),
                None => wrong.push("there is no id to remember".to_owned()),
            }
        }
        self.results.insert(name.to_owned(), wrong);
        answer
    }

    /// The status of a recorded request's answer, which is not compared.
    pub fn rest_answer(&self, name: &str, with: &With) -> u16 {
        let recorded = recorded::read(name);
        self.request(&recorded, with)
            .and_then(|request| request.send().map_err(|error| error.to_string()))
            .map_or(0, |answer| answer.status().as_u16())
    }

    fn request(&self, recorded: &Value, with: &With) -> Result<reqwest::blocking::RequestBuilder, String> {
        let text = |name: &str| recorded[name].as_str().unwrap_or_default();
        let hook = self.hooks.get(with.hook).cloned().unwrap_or_default();
        let path = self.here(text("path")).replace(REDACTED, &hook);
        let path = match path.split_once('?') {
            Some((path, _)) if !with.query.is_empty() => format!("{path}?{}", with.query),
            _ => path,
        };
        let method = Method::from_bytes(text("method").as_bytes()).map_err(|error| error.to_string())?;
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        for header in recorded["request_headers"].as_array().into_iter().flatten() {
            let (name, value) = (header[0].as_str().unwrap_or_default(), header[1].as_str().unwrap_or_default());
            let value = match (name, value) {
                ("Authorization", _) => format!("Bearer {}", self.tokens.get(&with.who.unwrap_or(Who::Admin)).map_or("", String::as_str)),
                (_, value) => value.replace(REDACTED, with.secret),
            };
            request = request.header(name, value);
        }
        if method != Method::GET && method != Method::DELETE {
            request = request.body(match with.body.as_ref().unwrap_or(&recorded["request_body"]) {
                Value::String(raw) => raw.clone(),
                body => self.here(&body.to_string()).replace(REDACTED, if hook.is_empty() { PASSWORD } else { &hook }),
            });
        }
        Ok(request)
    }

    fn ask(&mut self, recorded: &Value, with: &With) -> Result<(Value, Vec<String>), String> {
        let hook = self.hooks.get(with.hook).cloned().unwrap_or_default();
        let answer = self.request(recorded, with)?.send().map_err(|error| format!("no answer: {error}"))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().map_err(|error| format!("half an answer: {error}"))?;
        let mut wrong = Vec::new();
        if recorded["status"] != status {
            wrong.push(format!("status {status} instead of {}: {body:.300}", recorded["status"]));
        }
        wrong.extend(differing_headers(&recorded["response_headers"], &headers));
        let found = self.compare_bodies(&recorded["response_body"], &body, &hook, &mut wrong);
        Ok((found, wrong))
    }

    fn compare_bodies(&mut self, wanted: &Value, body: &str, hook: &str, wrong: &mut Vec<String>) -> Value {
        let found: Value = serde_json::from_str(body).unwrap_or_else(|_| body.into());
        if let (Some(wanted), Some(found)) = (wanted.as_str(), found.as_str()) {
            if wanted != found && !wanted.starts_with("<!DOCTYPE") {
                wrong.push(format!("{found:?} instead of {wanted:?}"));
            }
            return found.into();
        }
        if wanted.get("status_code").is_some() && wanted.get("id").is_some() {
            for key in ["id", "message"] {
                let said = found[key].as_str().unwrap_or_default();
                let said = if hook.is_empty() { said.to_owned() } else { said.replace(hook, REDACTED) };
                if wanted[key] != *said {
                    wrong.push(format!("{key} {said:?} instead of {}", wanted[key]));
                }
            }
        }
        let mut wanted_without_error_id = wanted.clone();
        if wanted.get("status_code").is_some() && wanted.get("id").is_some() {
            wanted_without_error_id["id"] = found["id"].clone();
        }
        wrong.extend(differences(&wanted_without_error_id, &found));
        self.learn(wanted, &found);
        found
    }

    /// Remembers which id of this server stands where a recorded one stood.
    pub fn learn(&mut self, wanted: &Value, found: &Value) {
        match (wanted, found) {
            (Value::Object(wanted), Value::Object(found)) => {
                for (key, value) in wanted {
                    if let Some(found) = found.get(key) {
                        self.learn(value, found);
                    }
                }
            }
            (Value::String(wanted), Value::String(found)) if is_id(wanted) && is_id(found) => {
                self.ids.entry(wanted.clone()).or_insert_with(|| found.clone());
            }
            _ => {}
        }
    }

    /// A text with this server's ids.
    pub fn here(&self, text: &str) -> String {
        self.ids.iter().fold(text.to_owned(), |text, (recorded, here)| text.replace(recorded, here))
    }

    /// Runs a recorded `mmctl`, with other arguments where what was recorded cannot be used.
    pub fn mmctl(&mut self, installed: &Installed, name: &str) {
        self.mmctl_with(installed, name, "");
    }

    /// The same, with `hook` for what was taken out of its arguments.
    pub fn mmctl_with(&mut self, installed: &Installed, name: &str, hook: &str) {
        self.mmctl_as(installed.mmctl(), installed, name, hook);
    }

    /// The same, started in another way.
    pub fn mmctl_as(&mut self, mut program: std::process::Command, installed: &Installed, name: &str, hook: &str) {
        let recorded = recorded::read(name);
        let words = recorded["argv"].as_array().expect("arguments").iter().skip(1).map(|word| word.as_str().expect("text"));
        let patch = installed.root().join("patch.json").display().to_string();
        let secret = self.hooks.get(hook).map_or(PASSWORD, String::as_str).to_owned();
        let words: Vec<String> = words.map(|word| word.replace(REDACTED, &secret).replace("/mattermost/patch.json", &patch)).collect();
        let output = program.args(&words).output().expect("mmctl starts");
        let socket = installed.socket().display().to_string();
        let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&socket, "/mattermost/local.socket").replace(&secret, REDACTED);
        let (stdout, stderr) = (plain(&output.stdout), plain(&output.stderr));
        let mut wrong = Vec::new();
        if recorded["exit"] != output.status.code().unwrap_or(-1) {
            wrong.push(format!("exit code {:?} instead of {}: {stdout}{stderr}", output.status.code(), recorded["exit"]));
        }
        if stderr != recorded["stderr"] {
            wrong.push(format!("says {stderr:?} instead of {}", recorded["stderr"]));
        }
        let wanted = recorded["stdout"].as_str().unwrap_or_default();
        match (serde_json::from_str::<Value>(wanted), serde_json::from_str::<Value>(&stdout)) {
            (Ok(wanted), Ok(found)) => {
                wrong.extend(differences(&wanted, &found));
                self.learn(&wanted, &found);
                if let (Some(id), Some(name)) = (found["id"].as_str(), found["display_name"].as_str()) {
                    self.hooks.entry(name.to_owned()).or_insert_with(|| id.to_owned());
                }
            }
            // What was cut ends with its length: the beginning has to be JSON like it.
            _ if wanted.ends_with("characters]") && stdout.starts_with("{\n  \"AccessControlSettings\": {") => {}
            _ if without_versions(wanted) == without_versions(&stdout) => {}
            _ => wrong.push(format!("prints {stdout:?} instead of {wanted:?}")),
        }
        self.results.insert(name.to_owned(), wrong);
    }

    /// Logs in, and remembers the token.
    pub fn log_in(&mut self, who: Who, name: &str) {
        let (status, _, headers) = self.send("POST", "/api/v4/users/login", None, &json!({ "login_id": name, "password": PASSWORD }));
        assert_eq!(status, 200, "{name} cannot log in");
        let token = headers.get("token").and_then(|token| token.to_str().ok()).expect("a token").to_owned();
        self.tokens.insert(who, token);
    }
}

/// The double's bundles have the versions of its own release.
fn without_versions(text: &str) -> String {
    let line = |line: &str| line.split_once(", Version: ").map_or(line, |(before, _)| before).to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn differing_headers(wanted: &Value, found: &reqwest::header::HeaderMap) -> Vec<String> {
    let recorded = |name: &str| -> Vec<String> {
        let all = wanted
            .as_array()
            .into_iter()
            .flatten()
            .filter(|header| header[0].as_str().is_some_and(|given| given.eq_ignore_ascii_case(name)));
        all.filter_map(|header| header[1].as_str().map(str::to_owned)).collect()
    };
    let mut wrong = Vec::new();
    for name in HEADERS {
        let here: Vec<String> = found.get_all(name).iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
        if recorded(name) != here {
            wrong.push(format!("header {name} {here:?} instead of {:?}", recorded(name)));
        }
    }
    for name in ["x-request-id", "x-version-id", "token", "etag"] {
        if !recorded(name).is_empty() && !found.contains_key(name) {
            wrong.push(format!("header {name} is missing"));
        }
    }
    wrong
}
