//! `POST /hooks/<id>`: what other tools send.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::{channels, posts};
use crate::web::error::AppError;
use crate::web::{App, Shared};

mod payload;

pub use payload::attachment;

/// What the server reads of a body: its setting of 300,000 bytes, and half a KiB that the real one adds.
const MARGIN: usize = 512;
/// The real server drains what it does not want before it answers; beyond this it cuts the connection.
const DRAINED: usize = 16 << 20;
/// The longest message, in characters; more becomes further posts.
const LONGEST: usize = 16_383;

/// Both errors name the hook, which is a credential: as the real server does.
fn failed(status: u16, verb: &str, media: &str, id: &str) -> AppError {
    let (error, what) = match verb {
        "decode" => ("web.incoming_webhook.decode.app_error", "decode"),
        _ => ("web.incoming_webhook.general.app_error", "handle"),
    };
    AppError::new(status, error, format!("Failed to {what} the payload of media type {media} for incoming webhook {id}."))
}

/// Takes a message, as JSON or as a form, and posts it.
pub async fn take(State(app): State<Shared>, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Result<Response, AppError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_lowercase();
    let general = |status| failed(status, "general", &media, &id);
    if !app.settings.is("ServiceSettings", "EnableIncomingWebhooks") {
        return Err(general(501));
    }
    let limit = usize::try_from(app.settings.number("ServiceSettings", "MaximumPayloadSizeBytes")).unwrap_or(0) + MARGIN;
    let bytes = axum::body::to_bytes(body, DRAINED).await.unwrap_or_default();
    if bytes.len() > limit {
        return Err(AppError { close: true, ..failed(400, "decode", &media, &id) });
    }
    let message = payload::parse(&media, &bytes).ok_or_else(|| failed(400, "decode", &media, &id))?;
    post(&app, &id, &message).await.map_err(general)?;
    Ok(([("content-type", "text/plain")], "ok").into_response())
}

/// Posts it, or says with which status it fails.
async fn post(app: &App, id: &str, message: &Map<String, Value>) -> Result<(), u16> {
    let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
    let attachments = message.get("attachments").filter(|list| list.as_array().is_some_and(|list| !list.is_empty()));
    if text("text").is_empty() && attachments.is_none() {
        return Err(400);
    }
    let hook = app.db.doc("SELECT doc FROM incomingwebhooks WHERE id = $1 AND deleteat = 0", &[&id]).await.ok().flatten().ok_or(400u16)?;
    let channel = target(app, &hook, text("channel")).await?;
    if !text("type").is_empty() && !text("type").starts_with("custom_") {
        return Err(400);
    }
    let mut post = json!({
        "channel_id": channel["id"], "user_id": hook["user_id"], "type": text("type"), "props": props(app, &hook, message)
    });
    if let Some(attachments) = attachments {
        post["props"]["attachments"] = attachments.as_array().into_iter().flatten().map(attachment).collect();
        post["type"] = "slack_attachment".into();
    }
    let parts = payload::split(&payload::links(text("text")), LONGEST);
    let last = parts.len() - 1;
    for (number, part) in parts.into_iter().enumerate() {
        let mut one = post.clone();
        one["message"] = part.into();
        if number != last && attachments.is_some() {
            one["type"] = text("type").into();
            one["props"].as_object_mut().map(|props| props.remove("attachments"));
        }
        // That it is not kept is nobody's mistake (`CreateWebhookPost` in the real server's app/webhook.go).
        posts::publish(app, one, false).await.map_err(|_| 500u16)?;
    }
    Ok(())
}

/// The hook's channel, or the one that the message names: `name`, `#name`, `@user`.
async fn target(app: &App, hook: &Value, named: &str) -> Result<Value, u16> {
    let text = |name: &str| hook[name].as_str().unwrap_or_default();
    let own = channels::existing(app, text("channel_id")).await.map_err(|_| 400u16)?;
    if named.is_empty() {
        return if own["delete_at"] == 0 { Ok(own) } else { Err(400) };
    }
    let locked = hook["channel_locked"].as_bool().unwrap_or(false);
    let channel = match named.strip_prefix('@') {
        Some(user) => {
            let user = app.db.row("SELECT id FROM users WHERE username = $1", &[&user]).await.ok().flatten().ok_or(400u16)?;
            channels::direct_of(app, text("user_id"), &user.get::<_, String>(0)).await.map_err(|_| 400u16)?
        }
        None => {
            let name = named.trim_start_matches('#');
            channels::named(app, text("team_id"), name, false).await.map_err(|_| 400u16)?.ok_or(404u16)?
        }
    };
    if locked && channel["id"] != own["id"] { Err(403) } else { Ok(channel) }
}

/// The sender's own props, but for those that say who it is.
fn props(app: &App, hook: &Value, message: &Map<String, Value>) -> Value {
    let mut props = message.get("props").and_then(Value::as_object).cloned().unwrap_or_default();
    for reserved in ["from_webhook", "override_username", "override_icon_url", "override_icon_emoji", "webhook_display_name", "from_bot"] {
        props.remove(reserved);
    }
    props.insert("from_webhook".into(), "true".into());
    props.insert("webhook_display_name".into(), hook["display_name"].clone());
    let text = |name: &str| message.get(name).or(hook.get(name)).and_then(Value::as_str).filter(|text| !text.is_empty());
    if app.settings.is("ServiceSettings", "EnablePostUsernameOverride") {
        props.extend(text("username").map(|name| ("override_username".to_owned(), name.into())));
    }
    if app.settings.is("ServiceSettings", "EnablePostIconOverride") {
        props.extend(text("icon_url").map(|icon| ("override_icon_url".to_owned(), icon.into())));
        if let Some(emoji) = text("icon_emoji") {
            props.insert("override_icon_emoji".into(), emoji.into());
            // The real server resolves the name; the double knows no emoji but shows where one would lie.
            props.insert("override_icon_url".into(), format!("/static/emoji/{emoji}.png").into());
        }
    }
    Value::Object(props)
}
