//! Users.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::clock::{new_id, now};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, done, ok};
use crate::web::session::{Maybe, Session};
use crate::web::{App, Shared};

mod password;

pub use password::{matches, rehash};

const SELECT: &str = "SELECT doc FROM users";

/// A user as everybody sees them.
pub fn public(mut user: Value) -> Value {
    if let Some(user) = user.as_object_mut() {
        user.remove("last_password_update");
        user.remove("failed_attempts");
        user.remove("email_verified");
    }
    user
}

/// `@name`, as messages call a user.
pub async fn display_name(app: &App, id: &str) -> String {
    let name = app.db.row("SELECT username FROM users WHERE id = $1", &[&id]).await.ok().flatten();
    name.map_or_else(|| "@someone".to_owned(), |row| format!("@{}", row.get::<_, String>(0)))
}

async fn find(app: &App, id: &str) -> Result<Value, AppError> {
    let missing = || AppError::new(404, "app.user.missing_account.const", "Unable to find the user.");
    app.db.doc(&format!("{SELECT} WHERE id = $1"), &[&id]).await?.ok_or_else(missing)
}

/// The first user becomes administrator, whoever it is; afterwards only an administrator makes users, unless sign-up is open.
pub async fn create(State(app): State<Shared>, Maybe(session): Maybe, body: Body) -> Answer {
    let admin = session.as_ref().is_some_and(|session| session.admin);
    let _alone = app.first_user.lock().await;
    let first = app.db.count("SELECT count(*) FROM users", &[]).await? == 0;
    if !first && !admin && !app.settings.is("TeamSettings", "EnableOpenServer") {
        let message = "This server does not allow open signups.  Please speak with your Administrator to receive an invitation.";
        return Err(AppError::new(403, "api.user.create_user.no_open_server", message));
    }
    let user = new_user(&body, first)?;
    let hash = password::hash(&app, body.text("password"));
    insert(&app, &user, &hash).await?;
    if first {
        super::bots::make_system_bot(&app, &user).await?;
    }
    Ok(created(&user))
}

fn new_user(body: &Body, first: bool) -> Result<Value, AppError> {
    let (name, email) = (body.text("username").to_lowercase(), body.text("email").to_lowercase());
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(legal) {
        let message = "Username must begin with a letter, and contain between 3 to 22 lowercase characters made up of numbers, letters, and the symbols \".\", \"-\", and \"_\".";
        return Err(AppError::new(400, "model.user.is_valid.username.app_error", message));
    }
    if !email.contains('@') {
        return Err(AppError::new(400, "model.user.is_valid.email.app_error", "Invalid email."));
    }
    password::check(body.text("password"))?;
    let mut user = blank(&name, &email, if first { "system_admin system_user" } else { "system_user" });
    for key in ["nickname", "first_name", "last_name", "position"] {
        user[key] = body.text(key).into();
    }
    user["last_password_update"] = user["create_at"].clone();
    user["remote_id"] = "".into();
    Ok(user)
}

/// A user with the defaults of everything.
pub fn blank(name: &str, email: &str, roles: &str) -> Value {
    let at = now();
    json!({
        "id": new_id(), "create_at": at, "update_at": at, "delete_at": 0, "username": name, "auth_service": "", "email": email,
        "nickname": "", "first_name": "", "last_name": "", "position": "", "roles": roles, "locale": "en",
        "notify_props": {
            "channel": "true", "comments": "never", "desktop": "mention", "desktop_sound": "true", "desktop_threads": "all",
            "email": "true", "email_threads": "all", "first_name": "false", "mention_keys": "", "push": "mention",
            "push_status": "online", "push_threads": "all"
        },
        "timezone": { "automaticTimezone": "", "manualTimezone": "", "useAutomaticTimezone": "true" },
        "disable_welcome_email": false
    })
}

/// Keeps a new user.
pub async fn insert(app: &App, user: &Value, hash: &str) -> Result<(), AppError> {
    let text = |name: &str| user[name].as_str().unwrap_or_default().to_owned();
    let (name, email) = (text("username"), text("email"));
    if app.db.count("SELECT count(*) FROM users WHERE username = $1", &[&name]).await? > 0 {
        return Err(AppError::new(400, "app.user.save.username_exists.app_error", "An account with that username already exists."));
    }
    if app.db.count("SELECT count(*) FROM users WHERE email = $1", &[&email]).await? > 0 {
        return Err(AppError::new(400, "app.user.save.email_exists.app_error", "An account with that email already exists."));
    }
    let insert = "INSERT INTO users (id, createat, username, email, password, doc) VALUES ($1, $2, $3, $4, $5, $6)";
    app.db.execute(insert, &[&text("id"), &now(), &name, &email, &hash, user]).await.map(drop)
}

/// By pages; `role`, `in_team`, `in_channel` and `active` choose.
pub async fn list(State(app): State<Shared>, _session: Session, Query(query): Query<HashMap<String, String>>) -> Answer {
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    let page: i64 = text("page").parse().unwrap_or(0);
    let size: i64 = text("per_page").parse().unwrap_or(60).clamp(0, 200);
    let sql = format!(
        "{SELECT} u WHERE ($1 = '' OR $1 = ANY (string_to_array(doc->>'roles', ' ')))
         AND ($2 = '' OR EXISTS (SELECT 1 FROM teammembers m WHERE m.userid = u.id AND m.teamid = $2 AND m.deleteat = 0))
         AND ($3 = '' OR EXISTS (SELECT 1 FROM channelmembers m WHERE m.userid = u.id AND m.channelid = $3))
         AND ($4 = '' OR u.deleteat = 0) AND ($5 = '' OR u.deleteat <> 0) ORDER BY username LIMIT $6 OFFSET $7"
    );
    let users = app
        .db
        .docs(&sql, &[&text("role"), &text("in_team"), &text("in_channel"), &text("active"), &text("inactive"), &size, &(page * size)])
        .await?;
    Ok(ok(&users.into_iter().map(public).collect()))
}

/// By the beginning of a name or an address.
pub async fn search(State(app): State<Shared>, _session: Session, body: Body) -> Answer {
    let term = body.text("term").to_lowercase();
    let sql = format!("{SELECT} WHERE deleteat = 0 AND (starts_with(username, $1) OR starts_with(email, $1)) ORDER BY username LIMIT 100");
    Ok(ok(&app.db.docs(&sql, &[&term]).await?.into_iter().map(public).collect()))
}

fn texts(body: &Body) -> Vec<String> {
    body.0.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Of a list of ids.
pub async fn by_ids(State(app): State<Shared>, _session: Session, body: Body) -> Answer {
    let users = app.db.docs(&format!("{SELECT} WHERE id = ANY ($1)"), &[&texts(&body)]).await?;
    Ok(ok(&users.into_iter().map(public).collect()))
}

/// Of a list of names.
pub async fn by_usernames(State(app): State<Shared>, _session: Session, body: Body) -> Answer {
    let users = app.db.docs(&format!("{SELECT} WHERE username = ANY ($1)"), &[&texts(&body)]).await?;
    Ok(ok(&users.into_iter().map(public).collect()))
}

fn shown(app: &App, user: &Value) -> Response {
    let mut response = ok(user);
    let etag = format!("{}.{}.{}..0.true.true.0", app.release.version, user["id"].as_str().unwrap_or_default(), user["update_at"]);
    response.headers_mut().extend(etag.parse().ok().map(|etag| (axum::http::header::ETAG, etag)));
    response
}

/// By name.
pub async fn by_username(State(app): State<Shared>, _session: Session, Path(name): Path<String>) -> Answer {
    let message = "Unable to find an existing account matching your username for this team. This team may require an invite from the team owner to join.";
    let missing = || AppError::new(404, "app.user.get_by_username.app_error", message);
    let user = app.db.doc(&format!("{SELECT} WHERE username = $1"), &[&name.to_lowercase()]).await?.ok_or_else(missing)?;
    Ok(shown(&app, &public(user)))
}

/// By address.
pub async fn by_email(State(app): State<Shared>, _session: Session, Path(email): Path<String>) -> Answer {
    let missing = || AppError::new(404, "app.user.missing_account.const", "Unable to find the user.");
    let user = app.db.doc(&format!("{SELECT} WHERE email = $1"), &[&email.to_lowercase()]).await?.ok_or_else(missing)?;
    Ok(shown(&app, &public(user)))
}

/// By id, or `me`, who sees more of themselves.
pub async fn get(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    let id = session.resolve(&id)?;
    let user = find(&app, id).await?;
    Ok(shown(&app, &if id == session.id() { user } else { public(user) }))
}

/// Changes names and the like.
pub async fn patch(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    let id = session.resolve(&id)?;
    session.must_be_for(id)?;
    let known = ["nickname", "first_name", "last_name", "position", "locale", "notify_props", "timezone", "props"];
    let mut change: Value =
        known.iter().filter(|key| !body.0[**key].is_null()).map(|key| ((*key).to_owned(), body.0[*key].clone())).collect();
    change["update_at"] = now().into();
    update(&app, id, &change).await?;
    Ok(ok(&find(&app, id).await?))
}

/// Changes the document of a user.
pub async fn update(app: &App, id: &str, change: &Value) -> Result<(), AppError> {
    app.db.execute("UPDATE users SET doc = doc || $2 WHERE id = $1", &[&id, change]).await.map(drop)
}

/// As roles are given: `system_user system_admin`.
pub async fn roles(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    session.must_be_admin()?;
    let id = session.resolve(&id)?;
    update(&app, id, &json!({ "roles": body.text("roles"), "update_at": now() })).await?;
    Ok(done())
}

/// Switches MFA. The double takes any code, but a login then needs one.
pub async fn mfa(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    let id = session.resolve(&id)?;
    session.must_be_for(id)?;
    let active = body.0["activate"].as_bool().unwrap_or(false);
    app.db.execute("UPDATE users SET mfaactive = $2 WHERE id = $1", &[&id, &active]).await?;
    update(&app, id, &json!({ "mfa_active": active })).await?;
    Ok(done())
}

/// Sets a password; one's own needs the old one.
pub async fn password(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    let id = session.resolve(&id)?;
    session.must_be_for(id)?;
    let row = app.db.row("SELECT password FROM users WHERE id = $1", &[&id]).await?;
    if !session.admin && !row.is_some_and(|row| matches(body.text("current_password"), row.get(0))) {
        let message = "The \"Current Password\" you entered is incorrect. Please check that Caps Lock is off and try again.";
        return Err(AppError::new(400, "api.user.update_password.incorrect.app_error", message));
    }
    password::check(body.text("new_password"))?;
    let hash = password::hash(&app, body.text("new_password"));
    app.db.execute("UPDATE users SET password = $2, failedattempts = 0 WHERE id = $1", &[&id, &hash]).await?;
    Ok(done())
}

/// Takes an address for verified.
pub async fn verify(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    session.must_be_admin()?;
    let id = session.resolve(&id)?;
    update(&app, id, &json!({ "email_verified": true, "update_at": now() })).await?;
    Ok(ok(&find(&app, id).await?))
}

/// Deactivates.
pub async fn deactivate(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    set_active(&app, &session, &id, false).await
}

/// Deactivates or activates.
pub async fn active(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    set_active(&app, &session, &id, body.0["active"].as_bool().unwrap_or(false)).await
}

async fn set_active(app: &App, session: &Session, id: &str, active: bool) -> Answer {
    let id = session.resolve(id)?;
    session.must_be_for(id)?;
    find(app, id).await?;
    let at = if active { 0 } else { now() };
    app.db.execute("UPDATE users SET deleteat = $2 WHERE id = $1", &[&id, &at]).await?;
    update(app, id, &json!({ "delete_at": at, "update_at": now() })).await?;
    if !active {
        app.db.execute("DELETE FROM sessions WHERE userid = $1", &[&id]).await?;
    }
    Ok(done())
}
