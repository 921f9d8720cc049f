//! SonarQube's webhooks, as 9.9 and 25.1 keep them.

use serde_json::{Value, json};

use crate::{Answer, Asked, Plays};

/// Which version is played: they differ in what an update without a secret does, in what a list shows, and in the scheme of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 9.9: the list shows secrets, an update without one deletes it.
    V9_9,
    /// 25.1: the list says whether there is one, an update without one keeps it.
    V25_1,
}

/// A webhook.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Made by the server.
    pub key: String,
    /// The project; none for all.
    pub project: Option<String>,
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub url: String,
    /// What it signs with.
    pub secret: Option<String>,
    /// Status of its last delivery.
    pub delivered: Option<u16>,
}

/// The server.
pub struct SonarQube {
    /// Which one.
    pub version: Version,
    /// Its webhooks.
    pub hooks: Vec<Hook>,
    made: usize,
}

/// The token of an administrator.
pub const TOKEN: &str = "squ_0123456789abcdef0123456789abcdef01234567";
/// The token of somebody who is none.
pub const NOBODY: &str = "squ_fedcba9876543210fedcba9876543210fedcba98";
/// The only project.
pub const PROJECT: &str = "bad";
/// Addresses of the machine that it runs on.
const OWN: [&str; 4] = ["127.0.0.1", "localhost", "0.0.0.0", "10.99.0.1"];

impl SonarQube {
    /// Without webhooks.
    pub fn new(version: Version) -> SonarQube {
        SonarQube { version, hooks: Vec::new(), made: 0 }
    }

    fn shown(&self, hook: &Hook) -> Value {
        let mut shown = json!({ "key": hook.key, "name": hook.name, "url": hook.url });
        match (self.version, &hook.secret) {
            (Version::V25_1, secret) => shown["hasSecret"] = secret.is_some().into(),
            (Version::V9_9, Some(secret)) => shown["secret"] = secret.as_str().into(),
            (Version::V9_9, None) => {}
        }
        shown
    }

    fn refused(&self, asked: &Asked) -> Option<Answer> {
        let bearer = asked.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let user = match (asked.basic(), bearer) {
            (Some((user, _)), _) => user,
            (None, Some(token)) if self.version == Version::V25_1 => token.to_owned(),
            _ => return Some(Answer::empty(401)),
        };
        match user.as_str() {
            TOKEN => None,
            NOBODY => Some(error(403, "Insufficient privileges")),
            _ => Some(Answer::empty(401)),
        }
    }

    fn unfit(&self, asked: &Asked) -> Option<Answer> {
        if let Some(project) = asked.params.get("project").filter(|project| *project != PROJECT) {
            return Some(error(404, &format!("Project '{project}' not found")));
        }
        let host = url::Url::parse(asked.param("url")).ok()?.host_str()?.to_owned();
        if OWN.contains(&host.as_str()) {
            return Some(error(400, "Invalid URL: loopback and wildcard addresses are not allowed for webhooks."));
        }
        let length = asked.param("secret").len();
        (self.version == Version::V25_1 && (1..16).contains(&length))
            .then(|| error(400, &format!("'secret' length ({length}) is shorter than the minimum authorized (16)")))
    }

    fn create(&mut self, asked: &Asked) -> Answer {
        self.made += 1;
        let hook = Hook {
            key: format!("key-{}", self.made),
            project: asked.params.get("project").cloned(),
            name: asked.param("name").to_owned(),
            url: asked.param("url").to_owned(),
            secret: asked.params.get("secret").filter(|secret| !secret.is_empty()).cloned(),
            delivered: None,
        };
        let answer = Answer::json(200, json!({ "webhook": self.shown(&hook) }));
        self.hooks.push(hook);
        answer
    }

    fn update(&mut self, asked: &Asked) -> Answer {
        let version = self.version;
        let key = asked.param("webhook");
        let Some(hook) = self.hooks.iter_mut().find(|hook| hook.key == key) else {
            return error(404, &format!("No webhook with key '{key}'"));
        };
        hook.name = asked.param("name").to_owned();
        hook.url = asked.param("url").to_owned();
        match (asked.params.get("secret"), version) {
            (None, Version::V25_1) => {}
            (secret, _) => hook.secret = secret.filter(|secret| !secret.is_empty()).cloned(),
        }
        Answer::empty(204)
    }

    fn deliveries(&self, asked: &Asked) -> Answer {
        let hook = self.hooks.iter().find(|hook| hook.key == asked.param("webhook"));
        let delivery = |status: u16| json!({ "id": "1", "success": status < 300, "httpStatus": status, "durationMs": 1 });
        let deliveries: Vec<Value> = hook.and_then(|hook| hook.delivered).map(delivery).into_iter().collect();
        Answer::json(200, json!({ "paging": { "pageIndex": 1, "pageSize": 1, "total": deliveries.len() }, "deliveries": deliveries }))
    }
}

fn error(status: u16, message: &str) -> Answer {
    Answer::json(status, json!({ "errors": [{ "msg": message }] }))
}

impl Plays for SonarQube {
    fn name(&self) -> String {
        format!("SonarQube {}", if self.version == Version::V9_9 { "9.9" } else { "25.1" })
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        if let Some(refused) = self.refused(asked).or_else(|| self.unfit(asked)) {
            return refused;
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("POST", "/api/webhooks/create") => self.create(asked),
            ("POST", "/api/webhooks/update") => self.update(asked),
            ("POST", "/api/webhooks/delete") => {
                self.hooks.retain(|hook| hook.key != asked.param("webhook"));
                Answer::empty(204)
            }
            ("GET", "/api/webhooks/list") => {
                let project = asked.params.get("project");
                let hooks = self.hooks.iter().filter(|hook| hook.project.as_ref() == project);
                Answer::json(200, json!({ "webhooks": hooks.map(|hook| self.shown(hook)).collect::<Vec<_>>() }))
            }
            ("GET", "/api/webhooks/deliveries") => self.deliveries(asked),
            (_, path) => error(404, &format!("Unknown url : {path}")),
        }
    }
}
