//! Sign-in with GitLab: there, back with a code, and the exchange of that code for a person.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use entrypoint::address::Address;
use entrypoint::{Secret, http, tls};
use serde_json::{Value, json};

use super::{login, users};
use crate::clock::new_id;
use crate::log;
use crate::web::{App, Shared};

/// What GitLab may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
const NO_CACHE: (&str, &str) = ("expires", "0");

/// `/oauth/gitlab/{signup,login}`: to GitLab where it is set up, else 501 and a page that says so. The real server leads both to `signup`.
pub async fn begin(State(app): State<Shared>, Path(action): Path<String>) -> Response {
    if !matches!(action.as_str(), "signup" | "login") {
        return crate::web::go_not_found();
    }
    if !app.settings.is("GitLabSettings", "Enable") {
        return page(StatusCode::NOT_IMPLEMENTED, "SSO through OAuth 2.0 not available on this server.");
    }
    let back = escaped(&complete_at(&app.settings.text("ServiceSettings", "SiteURL")));
    let (endpoint, client) = (app.settings.text("GitLabSettings", "AuthEndpoint"), app.settings.text("GitLabSettings", "Id"));
    let state = new_id();
    let mut location = format!("{endpoint}?response_type=code&client_id={client}&redirect_uri={back}&state={state}");
    let scope = app.settings.text("GitLabSettings", "Scope");
    if !scope.is_empty() {
        location += &format!("&scope={}", escaped(&scope));
    }
    let cookie = format!("MMOAUTH={state}; Path=/; Max-Age=1800; HttpOnly; Secure");
    let headers = [("location", location), ("set-cookie", cookie), ("content-type", "application/json".to_owned())];
    (StatusCode::FOUND, headers, [NO_CACHE]).into_response()
}

/// `/{signup,login}/gitlab/complete`: the code becomes a person, who has an account from then on, open sign-up or not, and a session.
pub async fn complete(State(app): State<Shared>, headers: HeaderMap, Query(query): Query<HashMap<String, String>>) -> Response {
    let given = |name: &str| query.get(name).cloned().unwrap_or_default();
    let state = given("state");
    if state.is_empty() || cookie(&headers, "MMOAUTH") != Some(&state) {
        return page(StatusCode::BAD_REQUEST, "Invalid state token.");
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = if app.settings.text("ServiceSettings", "ConnectionSecurity") == "TLS" { "https" } else { "http" };
    let site = format!("{scheme}://{host}");
    let exchange = Exchange::of(&app, &site, given("code"));
    let person = tokio::task::spawn_blocking(move || exchange.person()).await.unwrap_or_else(|error| Err(error.to_string()));
    let signed_in = match person {
        Ok(person) => sign_in(&app, &person).await,
        Err(why) => Err(why),
    };
    match signed_in {
        Ok((id, token)) => back(&site, &id, &token),
        Err(why) => {
            log::error("sign-in with GitLab", &json!({ "error": why }));
            page(StatusCode::INTERNAL_SERVER_ERROR, "Token request failed.")
        }
    }
}

/// Whoever asks GitLab, with what.
struct Exchange {
    token_endpoint: String,
    user_endpoint: String,
    form: Vec<(&'static str, String)>,
}

impl Exchange {
    fn of(app: &App, site: &str, code: String) -> Self {
        let setting = |name: &str| app.settings.text("GitLabSettings", name);
        let form = vec![
            ("client_id", setting("Id")),
            ("client_secret", setting("Secret")),
            ("code", code),
            ("grant_type", "authorization_code".to_owned()),
            // Of the request, where the beginning took that of SiteURL: the two have to be equal.
            ("redirect_uri", complete_at(site)),
        ];
        Exchange { token_endpoint: setting("TokenEndpoint"), user_endpoint: setting("UserAPIEndpoint"), form }
    }

    fn person(&self) -> Result<Value, String> {
        let roots = std::env::var_os("SSL_CERT_FILE").map_or_else(|| PathBuf::from("/etc/ssl/certs/ca-certificates.crt"), PathBuf::from);
        let client = tls::client(&roots)?;
        let address = |url: &str| Address::parse(url).ok_or_else(|| format!("{url} is no web address"));
        let answered = |what: &str, answer: http::Answer| match answer.status {
            200 => serde_json::from_str::<Value>(&answer.body).map_err(|error| format!("{what}: {error}")),
            status => Err(format!("{what}: status {status}")),
        };
        let form: Vec<String> = self.form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let (to, form) = (address(&self.token_endpoint)?, form.join("&"));
        let ask = to.ask(&client, Instant::now() + PATIENCE, |connection, host| http::post_form(connection, host, &to.path, &form));
        let token = answered("the token", ask?)?["access_token"].as_str().map(str::to_owned).ok_or("the answer has no token")?;
        let (to, bearer) = (address(&self.user_endpoint)?, Secret::new(format!("Bearer {token}")));
        let ask = to.ask(&client, Instant::now() + PATIENCE, |connection, host| http::get_as(connection, host, &to.path, &bearer));
        answered("the account", ask?)
    }
}

/// The account of that person, made where there is none; and a session.
async fn sign_in(app: &App, person: &Value) -> Result<(String, String), String> {
    let text = |name: &str| person[name].as_str().unwrap_or_default().to_lowercase();
    let number = person["id"].as_u64().ok_or("the account has no id")?.to_string();
    let sql = "SELECT doc FROM users WHERE doc->>'auth_service' = 'gitlab' AND doc->>'auth_data' = $1";
    let user = match app.db.doc(sql, &[&number]).await.map_err(|error| error.message)? {
        Some(user) => user,
        None => {
            let mut user = users::blank(&text("username"), &text("email"), "system_user");
            let (first, last) = person["name"].as_str().and_then(|name| name.split_once(' ')).unwrap_or_default();
            for (key, value) in [("auth_service", "gitlab"), ("auth_data", &number), ("first_name", first), ("last_name", last)] {
                user[key] = value.into();
            }
            users::insert(app, &user, "").await.map_err(|error| error.message)?;
            user
        }
    };
    let id = user["id"].as_str().unwrap_or_default().to_owned();
    let token = login::start(app, &id).await.map_err(|error| error.message)?;
    Ok((id, token))
}

fn back(site: &str, id: &str, token: &str) -> Response {
    let headers = [("location", site), ("content-type", "text/html; charset=utf-8"), ("token", token), NO_CACHE];
    let mut response = (StatusCode::TEMPORARY_REDIRECT, headers).into_response();
    let cookies = ["MMOAUTH=; Path=/; Max-Age=0; HttpOnly".to_owned()].into_iter().chain(login::cookies(id, token));
    let cookies = cookies.filter_map(|cookie| Some((header::SET_COOKIE, HeaderValue::from_str(&cookie).ok()?)));
    cookies.for_each(|(name, value)| _ = response.headers_mut().append(name, value));
    response
}

fn complete_at(site: &str) -> String {
    format!("{site}/signup/gitlab/complete")
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split("; ")).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn page(status: StatusCode, what: &str) -> Response {
    let page = format!("<!DOCTYPE html><html><head></head>\n<body>{what}</body></html>\n");
    (status, [("content-type", "text/html"), NO_CACHE, ("vary", "Accept-Encoding")], page).into_response()
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
