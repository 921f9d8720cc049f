//! Bot accounts.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::users;
use crate::clock::{is_id, now};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, ok};
use crate::web::session::Session;
use crate::web::{App, Shared};

async fn find(app: &App, id: &str) -> Result<Value, AppError> {
    if !is_id(id) {
        return Err(AppError::url_param("bot_user_id"));
    }
    let missing = || AppError::new(404, "store.sql_bot.get.missing.app_error", "Bot does not exist.");
    app.db.doc("SELECT doc FROM bots WHERE userid = $1", &[&id]).await?.ok_or_else(missing)
}

/// The user behind a bot, and the bot.
async fn make(app: &App, name: &str, display: &str, description: &str, owner: &str) -> Result<Value, AppError> {
    let mut user = users::blank(name, &format!("{name}@localhost"), "system_user");
    user["first_name"] = display.into();
    user["is_bot"] = true.into();
    if !description.is_empty() {
        user["bot_description"] = description.into();
    }
    users::insert(app, &user, "").await?;
    let mut bot = json!({
        "user_id": user["id"], "username": name, "display_name": display, "owner_id": owner, "create_at": user["create_at"],
        "update_at": user["create_at"], "delete_at": 0
    });
    if !description.is_empty() {
        bot["description"] = description.into();
    }
    insert(app, &bot).await?;
    Ok(bot)
}

async fn insert(app: &App, bot: &Value) -> Result<(), AppError> {
    let id = bot["user_id"].as_str().unwrap_or_default();
    app.db.execute("INSERT INTO bots (userid, createat, doc) VALUES ($1, $2, $3)", &[&id, &now(), bot]).await.map(drop)
}

/// The bot that the server speaks through; it belongs to the first user.
pub async fn make_system_bot(app: &App, owner: &Value) -> Result<(), AppError> {
    make(app, "system-bot", "System", "", owner["id"].as_str().unwrap_or_default()).await.map(drop)
}

/// 403 unless bots may be made.
pub async fn create(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    session.must_be_admin()?;
    if !app.settings.is("ServiceSettings", "EnableBotAccountCreation") {
        return Err(AppError::new(403, "api.bot.create_disabled", "Bot creation has been disabled."));
    }
    let name = body.text("username").to_lowercase();
    if name.is_empty() {
        return Err(AppError::new(400, "model.bot.is_valid.username.app_error", "Invalid username."));
    }
    Ok(created(&make(&app, &name, body.text("display_name"), body.text("description"), session.id()).await?))
}

/// By pages; `include_deleted` adds those that are disabled.
pub async fn list(State(app): State<Shared>, session: Session, Query(query): Query<HashMap<String, String>>) -> Answer {
    session.must_be_admin()?;
    let number = |name: &str, default: i64| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page, size) = (number("page", 0), number("per_page", 60).clamp(0, 200));
    let deleted = query.get("include_deleted").is_some_and(|value| value == "true");
    let sql = "SELECT doc FROM bots WHERE deleteat = 0 OR $1 ORDER BY createat, userid LIMIT $2 OFFSET $3";
    Ok(ok(&app.db.docs(sql, &[&deleted, &size, &(page * size)]).await?.into()))
}

/// One; a disabled one only with `include_deleted`.
pub async fn get(
    State(app): State<Shared>,
    _session: Session,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let bot = find(&app, &id).await?;
    if bot["delete_at"] != 0 && query.get("include_deleted").is_none_or(|value| value != "true") {
        return Err(AppError::new(404, "store.sql_bot.get.missing.app_error", "Bot does not exist."));
    }
    Ok(ok(&bot))
}

/// Changes names.
pub async fn patch(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    session.must_be_admin()?;
    find(&app, &id).await?;
    let known = ["username", "display_name", "description"];
    let mut change: Value =
        known.iter().filter(|key| body.0[**key].is_string()).map(|key| ((*key).to_owned(), body.0[*key].clone())).collect();
    change["update_at"] = now().into();
    let sql = "UPDATE bots SET doc = doc || $2 WHERE userid = $1 RETURNING doc";
    let bot = app.db.doc(sql, &[&id, &change]).await?.unwrap_or_default();
    let name = bot["username"].as_str().unwrap_or_default();
    app.db.execute("UPDATE users SET username = $2 WHERE id = $1", &[&id, &name]).await?;
    users::update(&app, &id, &json!({ "username": name, "first_name": bot["display_name"] })).await?;
    Ok(ok(&bot))
}

async fn set_deleted(app: &App, session: &Session, id: &str, at: i64) -> Answer {
    session.must_be_admin()?;
    find(app, id).await?;
    let change = json!({ "delete_at": at, "update_at": now() });
    let bot = app.db.doc("UPDATE bots SET deleteat = $2, doc = doc || $3 WHERE userid = $1 RETURNING doc", &[&id, &at, &change]).await?;
    app.db.execute("UPDATE users SET deleteat = $2, doc = doc || $3 WHERE id = $1", &[&id, &at, &change]).await?;
    Ok(ok(&bot.unwrap_or_default()))
}

/// Disables.
pub async fn disable(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    set_deleted(&app, &session, &id, now()).await
}

/// Enables.
pub async fn enable(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    set_deleted(&app, &session, &id, 0).await
}

/// Makes a bot of a user, also where bot creation is off; a second time fails with the store's words.
pub async fn convert(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    session.must_be_admin()?;
    let missing = || AppError::new(404, "app.user.missing_account.const", "Unable to find the user.");
    let user = app.db.doc("SELECT doc FROM users WHERE id = $1", &[&id]).await?.ok_or_else(missing)?;
    if app.db.count("SELECT count(*) FROM bots WHERE userid = $1", &[&id]).await? > 0 {
        return Err(AppError::new(500, "app.bot.createbot.internal_error", "Unable to save the bot."));
    }
    let at = now();
    let mut bot = json!({
        "user_id": id, "username": user["username"], "display_name": user["username"], "owner_id": id, "create_at": at, "update_at": at,
        "delete_at": 0
    });
    let answer = ok(&bot);
    // The real server shows the name once and does not keep it.
    bot.as_object_mut().map(|bot| bot.remove("display_name"));
    insert(&app, &bot).await?;
    users::update(&app, &id, &json!({ "is_bot": true })).await?;
    app.db.execute("DELETE FROM sessions WHERE userid = $1", &[&id]).await?;
    Ok(answer)
}
