//! `/api/v4/websocket`: events as they happen.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock::{new_id, now};
use crate::web::error::AppError;
use crate::web::session::{Session, token_of};
use crate::web::{App, Shared, version_id};

mod hub;

pub use hub::{Broadcast, Event, Hub};

/// A client that has not signed in by then is let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// The real server reads no larger frame.
const LARGEST_FRAME: usize = 8192;

/// The route.
pub fn routes() -> Router<Shared> {
    Router::new().route("/api/v4/websocket", get(upgrade))
}

/// 403 for a page of another site; anybody else gets in and has to sign in there.
async fn upgrade(State(app): State<Shared>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    if let Some(origin) = origin.filter(|origin| !is_allowed(&app, origin)) {
        return foreign(origin);
    }
    let token = token_of(&headers);
    upgrade.max_message_size(LARGEST_FRAME).on_upgrade(move |socket| async move {
        Connection::new(app, socket).serve(token).await;
    })
}

/// The site's own address or one of a list: compared as text, so that a slash at the end breaks it.
fn is_allowed(app: &App, origin: &str) -> bool {
    let allowed = app.settings.text("ServiceSettings", "AllowCorsFrom");
    if allowed == "*" || allowed.split(' ').any(|one| one == origin) {
        return true;
    }
    let site = app.settings.text("ServiceSettings", "SiteURL");
    let mut parts = site.splitn(4, '/');
    let site: Vec<&str> = parts.by_ref().take(3).collect();
    site.len() == 3 && site.join("/") == origin
}

/// The status is 403, the body says 400: as the real server does.
fn foreign(origin: &str) -> Response {
    let message = format!("URL Blocked because of CORS. Url: {origin}");
    let error = AppError::new(400, "api.web_socket.connect.upgrade.app_error", message);
    let request = new_id();
    let headers = [("content-type", "text/plain; charset=utf-8"), ("sec-websocket-version", "13"), ("x-request-id", request.as_str())];
    (StatusCode::FORBIDDEN, headers, format!("Forbidden\n{}", error.body(&request))).into_response()
}

/// One client.
struct Connection {
    app: Shared,
    socket: WebSocket,
    id: String,
    seq: i64,
}

impl Connection {
    fn new(app: Shared, socket: WebSocket) -> Self {
        Connection { app, socket, id: new_id(), seq: 0 }
    }

    async fn serve(mut self, token: Option<String>) {
        // A bad token does not end it here: it stays silent until its patience is over.
        let given = match token {
            Some(token) => Session::of_token(&self.app, &token).await.ok(),
            None => None,
        };
        let (session, challenge) = match given {
            Some(session) => (session, None),
            None => match tokio::time::timeout(PATIENCE, self.challenge()).await {
                Ok(Some((session, seq))) => (session, Some(seq)),
                _ => return,
            },
        };
        let (sender, events) = mpsc::unbounded_channel();
        self.app.hub.join(&self.id, session.id(), &session.token, sender);
        let id = self.id.clone();
        let app = self.app.clone();
        self.talk(session, challenge, events).await;
        app.hub.leave(&id);
        if let Some(calls) = &app.calls {
            calls.leave(&app, &id).await;
        }
    }

    /// The first `authentication_challenge`, and its number. A bad token ends the connection.
    async fn challenge(&mut self) -> Option<(Session, i64)> {
        while let Some(Ok(message)) = self.socket.recv().await {
            let Message::Text(text) = message else { continue };
            let action: Value = serde_json::from_str(&text).ok()?;
            if action["action"] == "authentication_challenge" {
                let token = action["data"]["token"].as_str().unwrap_or_default();
                return Some((Session::of_token(&self.app, token).await.ok()?, action["seq"].as_i64().unwrap_or(0)));
            }
        }
        None
    }

    async fn talk(&mut self, session: Session, challenge: Option<i64>, mut events: mpsc::UnboundedReceiver<Event>) {
        let user = session.id().to_owned();
        let to_user = Broadcast { user: user.clone(), ..Broadcast::default() };
        let hello = json!({ "connection_id": self.id, "server_hostname": "double", "server_version": version_id(&self.app) });
        let online = json!({ "status": "online", "user_id": user });
        if !self.event(&Event::new("hello", hello, to_user.clone())).await {
            return;
        }
        if let Some(seq) = challenge
            && !self.send(&json!({ "status": "OK", "seq_reply": seq })).await
        {
            return;
        }
        if !self.event(&Event::new("status_change", online, to_user)).await {
            return;
        }
        loop {
            let open = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(&event).await,
                    None => false,
                },
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => self.action(&session, &serde_json::from_str(&text).unwrap_or_default()).await,
                    Some(Ok(Message::Binary(bytes))) => self.binary(&session, &bytes).await,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => false,
                    Some(Ok(_)) => true,
                },
            };
            if !open {
                return;
            }
        }
    }

    async fn action(&mut self, session: &Session, action: &Value) -> bool {
        let (name, seq) = (action["action"].as_str().unwrap_or_default(), &action["seq"]);
        if let Some(custom) = name.strip_prefix(crate::calls::PREFIX) {
            // A plugin's actions get no reply of their own.
            if let Some(calls) = self.app.calls.clone() {
                calls.action(&self.app, session, &self.id, custom, &action["data"]).await;
            }
            return true;
        }
        let reply = match name {
            "ping" => json!({
                "status": "OK", "seq_reply": seq,
                "data": { "node_id": "", "server_time": now(), "text": "pong", "version": self.app.release.version }
            }),
            "authentication_challenge" | "user_typing" | "user_update_active_status" | "presence" => {
                json!({ "status": "OK", "seq_reply": seq })
            }
            "get_statuses" => json!({ "status": "OK", "seq_reply": seq, "data": {} }),
            _ => json!({
                "status": "FAIL", "seq_reply": seq, "error": {
                    "id": "api.web_socket_router.bad_action.app_error", "message": "Unknown WebSocket action.", "detailed_error": "",
                    "status_code": 500
                }
            }),
        };
        self.send(&reply).await
    }

    /// Session descriptions of calls are msgpack.
    async fn binary(&mut self, session: &Session, bytes: &[u8]) -> bool {
        if let (Some(calls), Some((name, data))) = (self.app.calls.clone(), crate::calls::unpack(bytes)) {
            calls.action(&self.app, session, &self.id, &name, &data).await;
        }
        true
    }

    async fn event(&mut self, event: &Event) -> bool {
        let message = event.numbered(self.seq);
        self.seq += 1;
        self.send(&message).await
    }

    async fn send(&mut self, message: &Value) -> bool {
        self.socket.send(Message::Text(format!("{message}\n").into())).await.is_ok()
    }
}
