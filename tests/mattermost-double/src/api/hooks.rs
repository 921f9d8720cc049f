//! Incoming webhooks: their management. There is no uniqueness; 403 for the disabled feature is 501.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::channels;
use crate::clock::{is_id, new_id, now};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, done, ok};
use crate::web::session::Session;
use crate::web::{App, Shared};

fn enabled(app: &App) -> Result<(), AppError> {
    if app.settings.is("ServiceSettings", "EnableIncomingWebhooks") {
        return Ok(());
    }
    Err(AppError::new(501, "api.incoming_webhook.disabled.app_error", "Incoming webhooks have been disabled by the system admin."))
}

async fn find(app: &App, id: &str) -> Result<Value, AppError> {
    if !is_id(id) {
        return Err(AppError::url_param("hook_id"));
    }
    let missing = || AppError::new(404, "app.webhooks.get_incoming.app_error", "Unable to get the webhook.");
    app.db.doc("SELECT doc FROM incomingwebhooks WHERE id = $1 AND deleteat = 0", &[&id]).await?.ok_or_else(missing)
}

/// Name and icon, where the server allows them; else they are dropped without a word.
fn overrides(app: &App, body: &Body, hook: &mut Value) -> Result<(), AppError> {
    hook["username"] = "".into();
    hook["icon_url"] = "".into();
    if app.settings.is("ServiceSettings", "EnablePostUsernameOverride") {
        let name = body.text("username");
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
        if !name.chars().all(legal) || name.len() > 64 {
            return Err(AppError::new(400, "api.incoming_webhook.invalid_username.app_error", "Invalid username."));
        }
        hook["username"] = name.into();
    }
    if app.settings.is("ServiceSettings", "EnablePostIconOverride") {
        hook["icon_url"] = body.text("icon_url").into();
    }
    Ok(())
}

/// 201, also for one that looks like another.
pub async fn create(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    enabled(&app)?;
    let channel = channels::existing(&app, body.text("channel_id")).await?;
    channels::must_see(&app, &session, &channel).await?;
    session.must_be_admin()?;
    let owner = body.0["user_id"].as_str().filter(|user| !user.is_empty()).unwrap_or_else(|| session.id());
    let (id, at) = (new_id(), now());
    let mut hook = json!({
        "id": id, "create_at": at, "update_at": at, "delete_at": 0, "user_id": owner, "channel_id": channel["id"],
        "team_id": channel["team_id"], "display_name": body.text("display_name"), "description": body.text("description"),
        "channel_locked": body.0["channel_locked"].as_bool().unwrap_or(false)
    });
    overrides(&app, &body, &mut hook)?;
    let text = |name: &str| hook[name].as_str().unwrap_or_default().to_owned();
    let insert = "INSERT INTO incomingwebhooks (id, createat, userid, channelid, teamid, doc) VALUES ($1, $2, $3, $4, $5, $6)";
    app.db.execute(insert, &[&id, &at, &text("user_id"), &text("channel_id"), &text("team_id"), &hook]).await?;
    Ok(created(&hook))
}

/// By pages, in the order they were made.
pub async fn list(State(app): State<Shared>, session: Session, Query(query): Query<HashMap<String, String>>) -> Answer {
    enabled(&app)?;
    let number = |name: &str, default: i64| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page, size) = (number("page", 0), number("per_page", 60).clamp(0, 200));
    let team = query.get("team_id").cloned().unwrap_or_default();
    let owner = if session.admin { "" } else { session.id() };
    let sql = "SELECT doc FROM incomingwebhooks WHERE deleteat = 0 AND ($1 = '' OR teamid = $1) AND ($2 = '' OR userid = $2)
        ORDER BY createat, id LIMIT $3 OFFSET $4";
    Ok(ok(&app.db.docs(sql, &[&team, &owner, &size, &(page * size)]).await?.into()))
}

/// One.
pub async fn get(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    enabled(&app)?;
    let hook = find(&app, &id).await?;
    session.must_be_for(hook["user_id"].as_str().unwrap_or_default())?;
    Ok(ok(&hook))
}

/// 201.
pub async fn update(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    enabled(&app)?;
    let mut hook = find(&app, &id).await?;
    session.must_be_for(hook["user_id"].as_str().unwrap_or_default())?;
    let channel = channels::existing(&app, body.text("channel_id")).await?;
    for (key, value) in [
        ("channel_id", channel["id"].clone()),
        ("team_id", channel["team_id"].clone()),
        ("display_name", body.text("display_name").into()),
        ("description", body.text("description").into()),
        ("channel_locked", body.0["channel_locked"].as_bool().unwrap_or(false).into()),
        ("update_at", now().into()),
    ] {
        hook[key] = value;
    }
    overrides(&app, &body, &mut hook)?;
    let at = channel["id"].as_str().unwrap_or_default();
    app.db.execute("UPDATE incomingwebhooks SET doc = $2, channelid = $3 WHERE id = $1", &[&id, &hook, &at]).await?;
    Ok(created(&hook))
}

/// For good.
pub async fn delete(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    enabled(&app)?;
    let hook = find(&app, &id).await?;
    session.must_be_for(hook["user_id"].as_str().unwrap_or_default())?;
    let at = now();
    app.db.execute("UPDATE incomingwebhooks SET deleteat = $2 WHERE id = $1", &[&id, &at]).await?;
    Ok(done())
}
