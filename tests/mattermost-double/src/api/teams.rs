//! Teams.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::members;
use crate::clock::{is_id, new_id, now};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, done, ok};
use crate::web::session::Session;
use crate::web::{App, Shared};

const SELECT: &str = "SELECT doc FROM teams WHERE deleteat = 0";
/// Names that are paths of the web client.
const RESERVED: [&str; 14] =
    ["admin", "api", "boards", "channel", "claim", "error", "files", "help", "landing", "login", "oauth", "playbooks", "plugins", "signup"];

/// The team of that id, also an archived one.
pub async fn find(app: &App, id: &str) -> Result<Value, AppError> {
    if !is_id(id) {
        return Err(AppError::url_param("team_id"));
    }
    let missing = || AppError::new(404, "app.team.get.find.app_error", "Unable to find the existing team.");
    app.db.doc("SELECT doc FROM teams WHERE id = $1", &[&id]).await?.ok_or_else(missing)
}

/// The team of that name, also an archived one: its name is taken.
pub async fn named(app: &App, name: &str) -> Result<Value, AppError> {
    let missing = || AppError::new(404, "app.team.get_by_name.missing.app_error", "Unable to find the existing team.");
    app.db.doc("SELECT doc FROM teams WHERE name = $1", &[&name]).await?.ok_or_else(missing)
}

fn check(name: &str) -> Result<(), AppError> {
    if RESERVED.contains(&name) {
        return Err(AppError::new(400, "model.team.is_valid.reserved.app_error", "This URL is unavailable. Please try another."));
    }
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() < 2 || name.len() > 64 || !name.chars().all(legal) || name.starts_with('-') || name.ends_with('-') {
        let message = "Name must be 2 or more lowercase alphanumeric characters.";
        return Err(AppError::new(400, "model.team.is_valid.characters.app_error", message));
    }
    Ok(())
}

/// Over the network the creator becomes its administrator; over the local socket it is open to all and nobody's.
pub async fn create(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    let name = body.text("name");
    check(name)?;
    let (id, at) = (new_id(), now());
    let team = json!({
        "id": id, "create_at": at, "update_at": at, "delete_at": 0, "display_name": body.text("display_name"), "name": name,
        "description": body.text("description"), "email": session.user["email"].as_str().unwrap_or_default(),
        "type": if body.text("type") == "I" { "I" } else { "O" }, "company_name": "", "allowed_domains": "", "invite_id": new_id(),
        "allow_open_invite": session.is_local(), "scheme_id": null, "group_constrained": null, "policy_id": null,
        "cloud_limits_archived": false
    });
    let insert = "INSERT INTO teams (id, name, displayname, doc) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    if app.db.execute(insert, &[&id, &name, &body.text("display_name"), &team]).await? == 0 {
        return Err(AppError::new(400, "store.sql_team.save_team.existing.app_error", "A team with this URL already exists."));
    }
    for (channel, display) in [("town-square", "Town Square"), ("off-topic", "Off-Topic")] {
        let wanted = json!({ "team_id": id, "name": channel, "display_name": display, "type": "O" });
        super::channels::insert(&app, &wanted, "").await?;
    }
    if !session.is_local() {
        members::join_team(&app, &id, session.id(), true).await?;
    }
    Ok(created(&team))
}

/// By pages, in the order of display names.
pub async fn list(State(app): State<Shared>, _session: Session, Query(query): Query<HashMap<String, String>>) -> Answer {
    let number = |name: &str, default: i64| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page, size) = (number("page", 0), number("per_page", 60).clamp(0, 200));
    let sql = format!("{SELECT} ORDER BY displayname, name LIMIT $1 OFFSET $2");
    Ok(ok(&app.db.docs(&sql, &[&size, &(page * size)]).await?.into()))
}

/// By a part of either name.
pub async fn search(State(app): State<Shared>, _session: Session, body: Body) -> Answer {
    let sql = format!("{SELECT} AND (strpos(name, $1) > 0 OR strpos(lower(displayname), $1) > 0) ORDER BY displayname");
    Ok(ok(&app.db.docs(&sql, &[&body.text("term").to_lowercase()]).await?.into()))
}

/// By id.
pub async fn get(State(app): State<Shared>, _session: Session, Path(id): Path<String>) -> Answer {
    Ok(ok(&find(&app, &id).await?))
}

/// By name.
pub async fn by_name(State(app): State<Shared>, _session: Session, Path(name): Path<String>) -> Answer {
    Ok(ok(&named(&app, &name).await?))
}

/// 200 either way.
pub async fn exists(State(app): State<Shared>, _session: Session, Path(name): Path<String>) -> Answer {
    let found = app.db.count("SELECT count(*) FROM teams WHERE name = $1", &[&name]).await?;
    Ok(ok(&json!({ "exists": found > 0 })))
}

/// Those that a user is in.
pub async fn of_user(State(app): State<Shared>, session: Session, Path(user): Path<String>) -> Answer {
    let user = session.resolve(&user)?;
    let sql = format!("{SELECT} AND id IN (SELECT teamid FROM teammembers WHERE userid = $1 AND deleteat = 0) ORDER BY displayname");
    Ok(ok(&app.db.docs(&sql, &[&user]).await?.into()))
}

/// Changes what people read.
pub async fn patch(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    session.must_be_admin()?;
    let team = find(&app, &id).await?;
    let known = ["display_name", "description", "company_name", "allowed_domains", "allow_open_invite"];
    let mut change: Value =
        known.iter().filter(|key| !body.0[**key].is_null()).map(|key| ((*key).to_owned(), body.0[*key].clone())).collect();
    change["update_at"] = now().into();
    let display = change["display_name"].as_str().or(team["display_name"].as_str()).unwrap_or_default();
    app.db.execute("UPDATE teams SET doc = doc || $2, displayname = $3 WHERE id = $1", &[&id, &change, &display]).await?;
    Ok(ok(&find(&app, &id).await?))
}

/// Archives.
pub async fn archive(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    session.must_be_admin()?;
    set_deleted(&app, &id, now()).await?;
    Ok(done())
}

/// Brings back the team, with everything that is in it.
pub async fn restore(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    session.must_be_admin()?;
    set_deleted(&app, &id, 0).await?;
    Ok(ok(&find(&app, &id).await?))
}

async fn set_deleted(app: &App, id: &str, at: i64) -> Result<(), AppError> {
    find(app, id).await?;
    let change = json!({ "delete_at": at, "update_at": now() });
    app.db.execute("UPDATE teams SET deleteat = $2, doc = doc || $3 WHERE id = $1", &[&id, &at, &change]).await.map(drop)
}
