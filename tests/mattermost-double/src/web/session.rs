//! Who asks: by bearer token, session cookie, or the local socket.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::error::AppError;
use super::{App, Local, Shared};
use crate::clock;

/// A session that is valid.
#[derive(Clone)]
pub struct Session {
    /// The user as the API shows them; without an id on the local socket.
    pub user: Value,
    /// Whether it may do everything.
    pub admin: bool,
    /// Its token; empty on the local socket.
    pub token: String,
}

impl Session {
    /// The user's id; empty on the local socket.
    pub fn id(&self) -> &str {
        self.user["id"].as_str().unwrap_or_default()
    }

    /// Whether it came over the local socket.
    pub fn is_local(&self) -> bool {
        self.id().is_empty()
    }

    /// Fails where it may not do everything.
    pub fn must_be_admin(&self) -> Result<(), AppError> {
        if self.admin { Ok(()) } else { Err(AppError::permissions()) }
    }

    /// The user whom a path names: an id, or `me`.
    pub fn resolve<'a>(&'a self, named: &'a str) -> Result<&'a str, AppError> {
        match named {
            "me" => Ok(self.id()),
            id if clock::is_id(id) => Ok(id),
            _ => Err(AppError::url_param("user_id")),
        }
    }

    /// Fails where it is neither the user's own nor an administrator's.
    pub fn must_be_for(&self, user: &str) -> Result<(), AppError> {
        if self.admin || self.id() == user { Ok(()) } else { Err(AppError::permissions()) }
    }

    /// Of a token: a session's or a personal one.
    pub async fn of_token(app: &App, token: &str) -> Result<Self, AppError> {
        const USER: &str = "SELECT u.doc FROM users u WHERE u.deleteat = 0 AND u.id IN (
            SELECT userid FROM sessions WHERE token = $1 AND expiresat > $2
            UNION SELECT userid FROM useraccesstokens WHERE token = $1 AND isactive)";
        if !clock::is_id(token) {
            return Err(AppError::session());
        }
        let user = app.db.doc(USER, &[&token, &clock::now()]).await?.ok_or_else(AppError::session)?;
        let admin = user["roles"].as_str().unwrap_or_default().split(' ').any(|role| role == "system_admin");
        Ok(Session { user, admin, token: token.to_owned() })
    }
}

impl FromRequestParts<Shared> for Session {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, AppError> {
        if parts.extensions.get::<Local>().is_some() {
            return Ok(Session { user: json!({}), admin: true, token: String::new() });
        }
        let token = token_of(&parts.headers).ok_or_else(AppError::session)?;
        Session::of_token(app, &token).await
    }
}

/// A session where there is one.
pub struct Maybe(pub Option<Session>);

impl FromRequestParts<Shared> for Maybe {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Self::Rejection> {
        Ok(Maybe(Session::from_request_parts(parts, app).await.ok()))
    }
}

/// `Authorization: Bearer …`, `Authorization: token …`, or the cookie.
pub fn token_of(headers: &HeaderMap) -> Option<String> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some((scheme, token)) = text(header::AUTHORIZATION).and_then(|value| value.split_once(' ')) {
        let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
        return known.then(|| token.trim().to_owned());
    }
    cookie(headers, "MMAUTHTOKEN")
}

/// A cookie's value.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v.to_owned())
}
