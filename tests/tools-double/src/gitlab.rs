//! GitLab's integrations, applications and settings, and its OAuth 2.0, as its documentation tells them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{Answer, Asked, Plays};

/// The token of an administrator.
pub const TOKEN: &str = "glpat-0123456789abcdefghij";
/// The token of somebody who maintains the project and the group, and administers nothing.
pub const MAINTAINER: &str = "glpat-jihgfedcba9876543210";
/// The only project and the only group, as they stand in a URL.
pub const PLACES: [&str; 2] = ["projects/group%2Fsub%2Fproject", "groups/group"];

/// An OAuth application.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its number.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// What is shown for good.
    pub application_id: String,
    /// What is shown once.
    pub secret: String,
    /// Lines.
    pub redirects: String,
}

/// The server.
#[derive(Default)]
pub struct Gitlab {
    /// `projects/PATH/SLUG` → what it was told.
    pub integrations: BTreeMap<String, Map<String, Value>>,
    /// Of the whole instance.
    pub applications: Vec<Application>,
    /// Whether integrations may ask every private address.
    pub allow_local: bool,
    /// Which they may ask.
    pub allow_list: Vec<String>,
    /// Who is signed in there; nobody signs in at a double.
    pub person: Value,
    /// Whether it takes a code for another redirect URI than it was asked for with. The real one does not (RFC 6749, 4.1.3).
    pub lenient: bool,
    made: usize,
    /// Code → application, and redirect URI.
    codes: BTreeMap<String, (String, String)>,
    tokens: Vec<String>,
}

impl Gitlab {
    /// One that has an application, and where this person is signed in.
    pub fn with(application: Application, person: Value) -> Gitlab {
        Gitlab { applications: vec![application], person, ..Gitlab::default() }
    }

    fn integration(&mut self, place: &str, slug: &str, asked: &Asked) -> Answer {
        if !PLACES.contains(&place) {
            return Answer::json(404, json!({ "message": "404 Project Not Found" }));
        }
        let key = format!("{place}/{slug}");
        if asked.method == "PUT" {
            let told: Map<String, Value> = match serde_json::from_str(&asked.body) {
                Ok(Value::Object(told)) => told,
                _ => return Answer::json(400, json!({ "error": "body is invalid" })),
            };
            self.integrations.entry(key.clone()).or_default().extend(told);
        }
        match self.integrations.get(&key) {
            None => Answer::json(404, json!({ "message": "404 Not found" })),
            Some(told) => Answer::json(200, shown(slug, told)),
        }
    }

    /// The authorization request: somebody who is signed in says yes.
    fn authorize(&mut self, asked: &Asked) -> Answer {
        let (id, uri) = (asked.param("client_id"), asked.param("redirect_uri"));
        let known = self.applications.iter().any(|known| known.application_id == id && known.redirects.lines().any(|known| known == uri));
        if !known || asked.param("response_type") != "code" {
            return Answer::page(401, "text/html", "<p>The redirect URI included is not valid.</p>");
        }
        self.made += 1;
        let code = format!("code-{}", self.made);
        self.codes.insert(code.clone(), (id.to_owned(), uri.to_owned()));
        Answer::redirect(format!("{uri}?code={code}&state={}", asked.param("state")))
    }

    /// The access token request.
    fn token(&mut self, asked: &Asked) -> Answer {
        let error = |status, error: &str| Answer::json(status, json!({ "error": error }));
        let (id, secret) = (asked.param("client_id"), asked.param("client_secret"));
        if !self.applications.iter().any(|known| known.application_id == id && known.secret == secret) {
            return error(401, "invalid_client");
        }
        let code = self.codes.remove(asked.param("code"));
        let good = code.is_some_and(|(of, uri)| of == id && (self.lenient || uri == asked.param("redirect_uri")));
        if !good || asked.param("grant_type") != "authorization_code" {
            return error(400, "invalid_grant");
        }
        self.made += 1;
        let token = format!("token-{}", self.made);
        self.tokens.push(token.clone());
        Answer::json(200, json!({ "access_token": token, "token_type": "Bearer", "expires_in": 7200, "scope": "read_user" }))
    }

    fn user(&self, asked: &Asked) -> Answer {
        let token = asked.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        match self.tokens.iter().any(|known| known == token) {
            true => Answer::json(200, &self.person),
            false => Answer::json(401, json!({ "message": "401 Unauthorized" })),
        }
    }

    fn application(&mut self, asked: &Asked) -> Answer {
        self.made += 1;
        let application = Application {
            id: self.made,
            name: asked.param("name").to_owned(),
            application_id: format!("id-{}", self.made),
            secret: format!("gloas-{}", self.made),
            redirects: asked.param("redirect_uri").to_owned(),
        };
        let mut answer = listed(&application);
        answer["secret"] = application.secret.as_str().into();
        self.applications.push(application);
        Answer::json(201, answer)
    }
}

fn listed(application: &Application) -> Value {
    json!({
        "id": application.id, "application_id": application.application_id, "application_name": application.name,
        "callback_url": application.redirects, "confidential": true
    })
}

/// Switches at the top, the rest below `properties`, and neither the webhook nor the token.
fn shown(slug: &str, told: &Map<String, Value>) -> Value {
    let mut answer = json!({ "id": 1, "slug": slug, "active": true, "properties": {} });
    for (key, value) in told {
        match key.as_str() {
            "webhook" | "token" => {}
            switch if switch.ends_with("_events") => answer[switch] = value.clone(),
            other => answer["properties"][other] = value.clone(),
        }
    }
    answer
}

impl Plays for Gitlab {
    fn name(&self) -> String {
        "GitLab".to_owned()
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        match asked.path.as_str() {
            "/oauth/authorize" => return self.authorize(asked),
            "/oauth/token" if asked.method == "POST" => return self.token(asked),
            "/api/v4/user" => return self.user(asked),
            _ => {}
        }
        let token = asked.headers.get("private-token").map(String::as_str).unwrap_or_default();
        if ![TOKEN, MAINTAINER].contains(&token) {
            return Answer::json(401, json!({ "message": "401 Unauthorized" }));
        }
        let Some(path) = asked.path.strip_prefix("/api/v4/") else { return Answer::json(404, json!({ "error": "404 Not Found" })) };
        if let Some((place, slug)) = path.split_once("/integrations/") {
            return self.integration(place, slug, asked);
        }
        if token != TOKEN {
            return Answer::json(403, json!({ "message": "403 Forbidden" }));
        }
        match (asked.method.as_str(), path, path.strip_prefix("applications/")) {
            ("GET", "application/settings", _) => Answer::json(
                200,
                json!({
                    "allow_local_requests_from_web_hooks_and_services": self.allow_local,
                    "outbound_local_requests_whitelist": self.allow_list
                }),
            ),
            ("GET", "applications", _) => {
                let number = |name: &str| asked.param(name).parse::<usize>().unwrap_or(1);
                let page = self.applications.iter().skip((number("page") - 1) * number("per_page")).take(number("per_page"));
                Answer::json(200, Value::Array(page.map(listed).collect()))
            }
            ("POST", "applications", _) => self.application(asked),
            ("DELETE", _, Some(id)) => {
                self.applications.retain(|application| application.id.to_string() != id);
                Answer::empty(204)
            }
            _ => Answer::json(404, json!({ "error": "404 Not Found" })),
        }
    }
}
