//! The Calls plugin, as far as a relay can be proven with it: credentials for TURN, joining a call in a direct message, and on its
//! port an ICE-lite agent that echoes what is no STUN.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::config::Settings;
use crate::plugins::CALLS;
use crate::web::error::AppError;
use crate::web::json::{Body, ok};
use crate::web::session::{Maybe, Session};
use crate::web::{Shared, go_error, go_not_found};

mod ice;
mod options;
mod rooms;
mod signal;
mod stun;
mod turn;

pub use signal::unpack;

/// What actions and events of the plugin begin with.
pub const PREFIX: &str = "custom_com.mattermost.calls_";

/// The running plugin.
pub struct Calls {
    options: Value,
    environment: Value,
    agents: ice::Agents,
    rooms: Mutex<rooms::Rooms>,
    enabled: Mutex<BTreeMap<String, bool>>,
    /// The user that the plugin speaks as. No account stands behind it here.
    bot: String,
}

impl Calls {
    /// Opens its port, over UDP and TCP.
    pub async fn start(settings: &Settings) -> Result<Self, String> {
        let (options, environment) = options::read(&settings.get()["PluginSettings"]["Plugins"][CALLS], std::env::vars());
        let agents = ice::Agents::default();
        ice::serve(&options, &agents).await?;
        Ok(Calls { options, environment, agents, rooms: Mutex::default(), enabled: Mutex::default(), bot: crate::clock::new_id() })
    }

    fn rooms(&self) -> MutexGuard<'_, rooms::Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where no administrator has said anything.
    fn is_enabled_in(&self, channel: &str) -> Option<bool> {
        self.enabled.lock().unwrap_or_else(PoisonError::into_inner).get(channel).copied()
    }
}

/// Below `/plugins/com.mattermost.calls/`.
pub fn routes() -> Router<Shared> {
    let at = |path: &str| format!("/plugins/{CALLS}/{path}");
    Router::new()
        .route(&at("version"), get(version))
        .route(&at("config"), get(config))
        .route(&at("env"), get(env))
        .route(&at("turn-credentials"), get(turn_credentials))
        .route(&at("stats"), get(stats))
        .route(&at("calls/{channel}/active"), get(active))
        .route(&at("{channel}"), get(channel_state).post(enable))
}

fn plain(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [("content-type", "text/plain; charset=utf-8")], body).into_response()
}

fn refused(status: u16, message: &str) -> Response {
    plain(status, json!({ "message": message, "status_code": status }).to_string())
}

fn unauthorized() -> Response {
    go_error(401, "Unauthorized")
}

async fn version(State(app): State<Shared>) -> Response {
    match &app.calls {
        Some(_) => ok(&json!({ "version": "1.11.6", "build": "API double" })),
        None => go_not_found(),
    }
}

/// An administrator sees the TURN secret, as in the real plugin.
async fn config(State(app): State<Shared>, Maybe(session): Maybe) -> Response {
    let Some(calls) = &app.calls else { return go_not_found() };
    let Some(session) = session else { return unauthorized() };
    let mut shown = calls.options.clone();
    shown["NeedsTURNCredentials"] = turn::is_needed(&calls.options).into();
    // The browser gets only servers that need no credentials of their own.
    shown["ICEServersConfigs"] = turn::open_servers(&calls.options);
    if !session.admin {
        shown["TURNStaticAuthSecret"] = "".into();
    }
    ok(&shown)
}

async fn env(State(app): State<Shared>, Maybe(session): Maybe) -> Response {
    let Some(calls) = &app.calls else { return go_not_found() };
    match session {
        None => unauthorized(),
        Some(session) if !session.admin => refused(403, "Forbidden"),
        Some(_) => ok(&calls.environment),
    }
}

async fn turn_credentials(State(app): State<Shared>, Maybe(session): Maybe) -> Response {
    let Some(calls) = &app.calls else { return go_not_found() };
    let Some(session) = session else { return unauthorized() };
    match turn::credentials(&calls.options, session.user["username"].as_str().unwrap_or_default(), crate::clock::now() / 1000) {
        Ok(servers) => ok(&servers),
        Err(why) => refused(403, why),
    }
}

async fn stats(State(app): State<Shared>, Maybe(session): Maybe) -> Response {
    let Some(calls) = &app.calls else { return go_not_found() };
    let Some(_) = session.filter(|session| session.admin) else { return unauthorized() };
    let (calls, sessions) = calls.rooms().count();
    ok(&json!({
        "total_calls": calls, "total_active_calls": calls, "total_active_sessions": sessions, "calls_by_day": {}, "calls_by_month": {},
        "calls_by_channel_type": {}, "avg_duration": 0, "avg_participants": 0
    }))
}

async fn active(State(app): State<Shared>, Maybe(session): Maybe, Path(channel): Path<String>) -> Response {
    let Some(calls) = &app.calls else { return go_not_found() };
    if session.is_none() {
        return unauthorized();
    }
    ok(&json!({ "active": calls.rooms().state(&channel).is_some() }))
}

async fn channel_state(State(app): State<Shared>, Maybe(session): Maybe, Path(channel): Path<String>) -> Response {
    let Some(calls) = &app.calls else { return go_not_found() };
    if !crate::clock::is_id(&channel) {
        return go_not_found();
    }
    if session.is_none() {
        return unauthorized();
    }
    let state = calls.rooms().state(&channel);
    let enabled = calls.is_enabled_in(&channel).unwrap_or(calls.options["DefaultEnabled"] == true);
    let mut shown = json!({ "channel_id": channel, "enabled": enabled || state.is_some() });
    if let Some(state) = state {
        shown["call"] = state;
    }
    ok(&shown)
}

async fn enable(State(app): State<Shared>, session: Session, Path(channel): Path<String>, body: Body) -> Result<Response, AppError> {
    let Some(calls) = &app.calls else { return Ok(go_not_found()) };
    session.must_be_admin()?;
    let enabled = body.0["enabled"].as_bool().unwrap_or(false);
    calls.enabled.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.clone(), enabled);
    Ok(plain(200, json!({ "channel_id": channel, "enabled": enabled }).to_string()))
}
