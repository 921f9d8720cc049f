//! What every answer has in common: state, headers, the page that stands behind all other paths.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::calls::Calls;
use crate::clock;
use crate::config::Settings;
use crate::db::Db;
use crate::plugins::Plugins;
use crate::release::Release;
use crate::ws::Hub;

pub mod error;
pub mod json;
pub mod session;

/// The running server.
pub struct App {
    /// Which release it plays.
    pub release: Release,
    /// Its settings.
    pub settings: Settings,
    /// Its state.
    pub db: Db,
    /// Its WebSockets.
    pub hub: Hub,
    /// What became of each plugin.
    pub plugins: Plugins,
    /// The Calls plugin, where it runs.
    pub calls: Option<Arc<Calls>>,
    /// Held while it is decided whether a user is the first one.
    pub first_user: tokio::sync::Mutex<()>,
}

/// The server, as handlers get it.
pub type Shared = Arc<App>;

/// Marks requests that came over the local socket: they may do everything.
#[derive(Clone, Copy)]
pub struct Local;

/// Marks an answer that has its own headers only: those of plugins, of Go's router, and to an unknown call.
#[derive(Clone, Copy)]
struct Bare;

/// The routes of the network.
pub fn public(app: &Shared) -> Router {
    let routes = crate::api::routes(false)
        .merge(crate::ws::routes())
        .merge(crate::plugins::routes())
        .fallback(page)
        .method_not_allowed_fallback(page);
    finished(routes, app)
}

/// The routes of the local socket.
pub fn local(app: &Shared) -> Router {
    finished(crate::api::routes(true).fallback(not_found), app).layer(axum::Extension(Local))
}

fn finished(routes: Router<Shared>, app: &Shared) -> Router {
    routes.layer(middleware::from_fn_with_state(app.clone(), headers)).with_state(app.clone())
}

async fn headers(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let upgrade = path == "/api/v4/websocket";
    let mut response = next.run(request).await;
    let status = response.status();
    if path.starts_with("/plugins/") || response.extensions().get::<Bare>().is_some() {
        return response;
    }
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.entry(HeaderName::from_static(name)).or_insert(value);
        }
    };
    put("permissions-policy", "");
    put("referrer-policy", "no-referrer");
    put("x-content-type-options", "nosniff");
    put("x-request-id", &clock::new_id());
    put("x-version-id", &version_id(&app));
    let expires = method == Method::GET && path.starts_with("/api/") && status != axum::http::StatusCode::SWITCHING_PROTOCOLS;
    if expires {
        put("expires", "0");
    }
    // The page is never compressed on the way.
    if headers.get(header::CONTENT_TYPE).is_none_or(|media| media != "text/html") {
        cross_origin(&app, headers, origin.filter(|_| !upgrade));
    }
    response
}

/// What `X-Version-Id` and `hello` say.
pub fn version_id(app: &App) -> String {
    let version = &app.release.version;
    format!("{version}.{version}.{:0>64}.false", "d0b1e")
}

fn cross_origin(app: &App, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    let allowed = app.settings.text("ServiceSettings", "AllowCorsFrom");
    if !allowed.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            if allowed == "*" {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            } else if allowed.split(' ').any(|one| origin == one) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            }
        }
    }
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// Unknown paths of the API are an error, a hook's path with a slash behind it is Go's own, all else is the web page.
async fn page(request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        return no_such_call(path);
    }
    if path.starts_with("/static/") {
        let mut missing = go_error(404, "404 page not found");
        missing.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, public"));
        return missing;
    }
    if path.starts_with("/hooks/") && request.method() != Method::GET || path.starts_with("/plugins/") {
        return go_not_found();
    }
    let page = crate::release::find_folder("client").and_then(|folder| fs_err::read_to_string(folder.join("root.html")).ok());
    let headers = [
        ("cache-control", "no-cache, max-age=31556926, public"),
        ("content-security-policy", "frame-ancestors 'self' ; script-src 'self'"),
        ("content-type", "text/html"),
        ("x-frame-options", "SAMEORIGIN"),
    ];
    (headers, page.unwrap_or_default()).into_response()
}

/// What Go's router says.
pub fn go_not_found() -> Response {
    let mut response = go_error(404, "404 page not found");
    response.extensions_mut().insert(Bare);
    response
}

/// What Go's `http.Error` writes.
pub fn go_error(status: u16, message: &str) -> Response {
    let headers = [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")];
    let status = axum::http::StatusCode::from_u16(status).unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    (status, headers, format!("{message}\n")).into_response()
}

async fn not_found(request: Request) -> Response {
    no_such_call(request.uri().path())
}

/// The API's own 404, which has no request id.
fn no_such_call(path: &str) -> Response {
    let detail = format!(
        "There doesn't appear to be an api call for the url='{path}'.  Typo? are you missing a team_id or user_id as part of the url?"
    );
    let body = json!({
        "id": "api.context.404.app_error", "message": "Sorry, we could not find the page.", "detailed_error": detail, "status_code": 404
    });
    let headers = [("content-type", "application/json")];
    let mut response = (axum::http::StatusCode::NOT_FOUND, headers, Body::from(body.to_string())).into_response();
    response.extensions_mut().insert(Bare);
    response
}
