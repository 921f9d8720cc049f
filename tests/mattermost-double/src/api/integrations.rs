//! Outgoing webhooks and slash commands: kept and shown. The double sends nothing anywhere.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::channels;
use crate::clock::{new_id, now};
use crate::web::Shared;
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, done, ok};
use crate::web::session::Session;

/// Commands that the server has itself.
const BUILT_IN: [&str; 12] = ["away", "code", "dnd", "echo", "header", "help", "invite", "join", "leave", "me", "online", "shrug"];

/// Keeps an outgoing webhook.
pub async fn outgoing(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    session.must_be_admin()?;
    let (id, at) = (new_id(), now());
    let mut hook = json!({
        "id": id, "token": new_id(), "create_at": at, "update_at": at, "delete_at": 0, "creator_id": session.id(), "username": "",
        "icon_url": "", "trigger_when": body.0["trigger_when"].as_i64().unwrap_or(0), "trigger_words": body.0["trigger_words"],
        "callback_urls": body.0["callback_urls"]
    });
    for key in ["channel_id", "team_id", "display_name", "description", "content_type"] {
        hook[key] = body.text(key).into();
    }
    app.db.execute("INSERT INTO outgoingwebhooks (id, doc) VALUES ($1, $2)", &[&id, &hook]).await?;
    Ok(created(&hook))
}

/// Keeps a command whose word is still free.
pub async fn command(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    session.must_be_admin()?;
    let (team, word) = (body.text("team_id"), body.text("trigger"));
    let taken = app.db.count("SELECT count(*) FROM commands WHERE teamid = $1 AND trigger_word = $2", &[&team, &word]).await? > 0;
    if taken || BUILT_IN.contains(&word) {
        let message = "This trigger word is already in use. Please choose another word.";
        return Err(AppError::new(400, "api.command.duplicate_trigger.app_error", message));
    }
    let (id, at) = (new_id(), now());
    let mut command = json!({
        "id": id, "token": new_id(), "create_at": at, "update_at": at, "delete_at": 0, "creator_id": session.id(), "team_id": team,
        "trigger": word, "auto_complete": false, "plugin_id": ""
    });
    for key in ["method", "username", "icon_url", "auto_complete_desc", "auto_complete_hint", "display_name", "description", "url"] {
        command[key] = body.text(key).into();
    }
    let insert = "INSERT INTO commands (id, teamid, trigger_word, doc) VALUES ($1, $2, $3, $4)";
    app.db.execute(insert, &[&id, &team, &word, &command]).await?;
    Ok(created(&command))
}

/// Deletes a command.
pub async fn delete_command(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    session.must_be_admin()?;
    app.db.execute("DELETE FROM commands WHERE id = $1", &[&id]).await?;
    Ok(done())
}

/// What is built in says nothing; what would have to be sent fails, as it does where the address is not allowed.
pub async fn execute(State(app): State<Shared>, _session: Session, body: Body) -> Result<Response, AppError> {
    let channel = channels::find(&app, body.text("channel_id")).await?;
    let word = body.text("command").trim_start_matches('/').split(' ').next().unwrap_or_default();
    if BUILT_IN.contains(&word) {
        return Ok(ok(&json!({
            "response_type": "", "text": "", "username": "", "channel_id": "", "icon_url": "", "type": "", "props": null,
            "goto_location": "", "trigger_id": "", "skip_slack_parsing": false, "attachments": null, "extra_responses": null
        })));
    }
    let team = channel["team_id"].as_str().unwrap_or_default();
    if app.db.count("SELECT count(*) FROM commands WHERE teamid = $1 AND trigger_word = $2", &[&team, &word]).await? == 0 {
        let message = format!("Command with a trigger of '/{word}' not found.");
        return Err(AppError::new(404, "api.command.execute_command.not_found.app_error", message));
    }
    let message = format!("Command with a trigger of '{word}' failed.");
    Err(AppError::new(500, "api.command.execute_command.failed.app_error", message))
}
