//! Channels.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::{members, posts, teams};
use crate::clock::{is_id, new_id, now};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, done, ok};
use crate::web::session::Session;
use crate::web::{App, Shared};

type Asked = Query<HashMap<String, String>>;

/// The channel of that id, archived or not.
pub async fn find(app: &App, id: &str) -> Result<Value, AppError> {
    if !is_id(id) {
        return Err(AppError::url_param("channel_id"));
    }
    existing(app, id).await
}

/// The same, for an id that came in a body.
pub async fn existing(app: &App, id: &str) -> Result<Value, AppError> {
    let missing = || AppError::new(404, "app.channel.get.existing.app_error", format!("Unable to find the existing channel {id}."));
    app.db.doc("SELECT doc FROM channels WHERE id = $1", &[&id]).await?.ok_or_else(missing)
}

/// The channel of that name.
pub async fn named(app: &App, team: &str, name: &str, deleted: bool) -> Result<Option<Value>, AppError> {
    app.db.doc("SELECT doc FROM channels WHERE teamid = $1 AND name = $2 AND (deleteat = 0 OR $3)", &[&team, &name, &deleted]).await
}

/// Fails for a channel that the session may not see.
pub async fn must_see(app: &App, session: &Session, channel: &Value) -> Result<(), AppError> {
    let id = channel["id"].as_str().unwrap_or_default();
    let private = channel["type"] != "O";
    let open = session.admin && channel["type"] != "D" || !private;
    if open || members::is_in_channel(app, id, session.id()).await? { Ok(()) } else { Err(AppError::permissions()) }
}

/// A channel that the session may see.
pub async fn visible(app: &App, session: &Session, id: &str) -> Result<Value, AppError> {
    let channel = find(app, id).await?;
    must_see(app, session, &channel).await?;
    Ok(channel)
}

/// Keeps a new channel. `wanted` has `team_id`, `name`, `display_name`, `type`, and what else is known.
pub async fn insert(app: &App, wanted: &Value, creator: &str) -> Result<Value, AppError> {
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let (id, at) = (new_id(), now());
    let direct = text("type") == "D";
    let channel = json!({
        "id": id, "create_at": at, "update_at": at, "delete_at": 0, "team_id": text("team_id"), "type": text("type"),
        "display_name": text("display_name"), "name": text("name"), "header": text("header"), "purpose": text("purpose"),
        "last_post_at": 0, "total_msg_count": 0, "extra_update_at": 0, "creator_id": creator, "scheme_id": null, "props": null,
        "group_constrained": null, "shared": if direct { false.into() } else { Value::Null }, "total_msg_count_root": 0,
        "policy_id": null, "last_root_post_at": 0, "banner_info": null, "policy_enforced": false, "default_category_name": ""
    });
    let insert = "INSERT INTO channels (id, teamid, name, type, doc) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    if app.db.execute(insert, &[&id, &text("team_id"), &text("name"), &text("type"), &channel]).await? == 0 {
        let message = "A channel with that name already exists on the same team.";
        return Err(AppError::new(400, "store.sql_channel.save_channel.exists.app_error", message));
    }
    Ok(channel)
}

/// The creator is in it at once.
pub async fn create(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    let name = body.text("name");
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
        let message = "Channel name must be 1 or more lowercase alphanumeric characters.";
        return Err(AppError::new(400, "model.channel.is_valid.1_or_more.app_error", message));
    }
    if !matches!(body.text("type"), "O" | "P") {
        return Err(AppError::new(400, "model.channel.is_valid.type.app_error", "Invalid type."));
    }
    teams::find(&app, body.text("team_id")).await.map_err(|_| AppError::body_param("team_id"))?;
    let channel = insert(&app, &body.0, session.id()).await?;
    if !session.is_local() {
        let id = channel["id"].as_str().unwrap_or_default();
        members::join_channel(&app, id, session.id(), true).await?;
        let message = format!("{} joined the channel.", super::display_name(&app, session.id()).await.trim_start_matches('@'));
        posts::system(&app, id, session.id(), "system_join_channel", &message).await?;
    }
    Ok(created(&channel))
}

/// The direct-message channel of two users, made where there is none yet.
pub async fn direct_of(app: &App, first: &str, second: &str) -> Result<Value, AppError> {
    let mut ids = [first, second];
    ids.sort_unstable();
    let name = ids.join("__");
    if let Some(channel) = named(app, "", &name, true).await? {
        return Ok(channel);
    }
    let channel = insert(app, &json!({ "team_id": "", "name": name, "display_name": "", "type": "D" }), first).await?;
    for user in ids {
        members::join_channel(app, channel["id"].as_str().unwrap_or_default(), user, false).await?;
    }
    Ok(channel)
}

/// Of a list of two ids.
pub async fn direct(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    let ids: Vec<&str> = body.0.as_array().into_iter().flatten().filter_map(Value::as_str).filter(|id| is_id(id)).collect();
    let [first, second] = ids.as_slice() else { return Err(AppError::body_param("user_ids")) };
    if !session.admin && !ids.contains(&session.id()) {
        return Err(AppError::permissions());
    }
    Ok(created(&direct_of(&app, first, second).await?))
}

/// By id.
pub async fn get(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    let channel = visible(&app, &session, &id).await?;
    Ok(ok(&channel))
}

async fn by(app: &App, session: &Session, team: &str, name: &str, asked: &HashMap<String, String>) -> Answer {
    let deleted = asked.get("include_deleted").is_some_and(|value| value == "true");
    let missing = || AppError::new(404, "app.channel.get_by_name.missing.app_error", "Channel does not exist.");
    let channel = named(app, team, name, deleted).await?.ok_or_else(missing)?;
    must_see(app, session, &channel).await?;
    Ok(ok(&channel))
}

/// By team and name.
pub async fn by_name(
    State(app): State<Shared>,
    session: Session,
    Path((team, name)): Path<(String, String)>,
    Query(asked): Asked,
) -> Answer {
    if !is_id(&team) {
        return Err(AppError::url_param("team_id"));
    }
    by(&app, &session, &team, &name, &asked).await
}

/// By both names.
pub async fn by_names(
    State(app): State<Shared>,
    session: Session,
    Path((team, name)): Path<(String, String)>,
    Query(asked): Asked,
) -> Answer {
    let team = teams::named(&app, &team).await?;
    by(&app, &session, team["id"].as_str().unwrap_or_default(), &name, &asked).await
}

async fn listed(app: &App, chosen: &str, team: &str, asked: &HashMap<String, String>) -> Answer {
    let number = |name: &str, default: i64| asked.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page, size) = (number("page", 0), number("per_page", 60).clamp(0, 200));
    let sql = format!("SELECT doc FROM channels WHERE teamid = $1 AND {chosen} ORDER BY doc->>'display_name', name LIMIT $2 OFFSET $3");
    Ok(ok(&app.db.docs(&sql, &[&team, &size, &(page * size)]).await?.into()))
}

/// A team's public channels.
pub async fn of_team(State(app): State<Shared>, _session: Session, Path(team): Path<String>, Query(asked): Asked) -> Answer {
    teams::find(&app, &team).await?;
    listed(&app, "deleteat = 0 AND type = 'O'", &team, &asked).await
}

/// A team's private channels.
pub async fn private_of_team(State(app): State<Shared>, session: Session, Path(team): Path<String>, Query(asked): Asked) -> Answer {
    session.must_be_admin()?;
    teams::find(&app, &team).await?;
    listed(&app, "deleteat = 0 AND type = 'P'", &team, &asked).await
}

/// A team's archived channels.
pub async fn deleted_of_team(State(app): State<Shared>, _session: Session, Path(team): Path<String>, Query(asked): Asked) -> Answer {
    teams::find(&app, &team).await?;
    listed(&app, "deleteat <> 0", &team, &asked).await
}

/// Every channel of every team.
pub async fn list(State(app): State<Shared>, session: Session) -> Answer {
    session.must_be_admin()?;
    Ok(ok(&app.db.docs("SELECT doc FROM channels WHERE deleteat = 0 AND type <> 'D' ORDER BY name", &[]).await?.into()))
}

/// Those of a team that a user is in, and direct messages.
pub async fn of_user(State(app): State<Shared>, session: Session, Path((user, team)): Path<(String, String)>) -> Answer {
    let user = session.resolve(&user)?;
    session.must_be_for(user)?;
    let sql = "SELECT doc FROM channels WHERE deleteat = 0 AND (teamid = $1 OR teamid = '')
        AND id IN (SELECT channelid FROM channelmembers WHERE userid = $2) ORDER BY doc->>'display_name', name";
    Ok(ok(&app.db.docs(sql, &[&team, &user]).await?.into()))
}

async fn update(app: &App, id: &str, change: &Value) -> Result<Value, AppError> {
    let sql = "UPDATE channels SET doc = doc || $2, name = coalesce($2->>'name', name),
        deleteat = coalesce(($2->>'delete_at')::bigint, deleteat), type = coalesce($2->>'type', type) WHERE id = $1 RETURNING doc";
    app.db.doc(sql, &[&id, change]).await?.ok_or_else(|| AppError::url_param("channel_id"))
}

/// Changes what people read, and the name.
pub async fn patch(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    visible(&app, &session, &id).await?;
    let known = ["name", "display_name", "purpose", "header"];
    let mut change: Value =
        known.iter().filter(|key| body.0[**key].is_string()).map(|key| ((*key).to_owned(), body.0[*key].clone())).collect();
    change["update_at"] = now().into();
    Ok(ok(&update(&app, &id, &change).await?))
}

/// Makes a public channel private, or the reverse.
pub async fn privacy(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    let channel = visible(&app, &session, &id).await?;
    let wanted = match body.text("privacy") {
        wanted @ ("O" | "P") => wanted,
        _ => return Err(AppError::body_param("privacy")),
    };
    if channel["name"] == "town-square" && wanted == "P" {
        let message = "The default channel cannot be made private.";
        return Err(AppError::new(400, "api.channel.update_channel_privacy.default_channel_error", message));
    }
    Ok(ok(&update(&app, &id, &json!({ "type": wanted, "update_at": now() })).await?))
}

/// Archives, and deletes the incoming webhooks for good.
pub async fn archive(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    let channel = visible(&app, &session, &id).await?;
    if channel["name"] == "town-square" {
        let message = "Unable to archive the default channel town-square.";
        return Err(AppError::new(400, "api.channel.delete_channel.cannot.app_error", message));
    }
    let at = now();
    app.db.execute("DELETE FROM incomingwebhooks WHERE channelid = $1", &[&id]).await?;
    let message = format!("{} archived the channel.", super::display_name(&app, session.id()).await.trim_start_matches('@'));
    posts::system(&app, &id, session.id(), "system_channel_deleted", &message).await?;
    update(&app, &id, &json!({ "delete_at": at, "update_at": at })).await?;
    Ok(done())
}

/// Brings back the channel; its webhooks are gone.
pub async fn restore(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    session.must_be_admin()?;
    find(&app, &id).await?;
    let channel = update(&app, &id, &json!({ "delete_at": 0, "update_at": now() })).await?;
    let message = format!("{} unarchived the channel.", super::display_name(&app, session.id()).await.trim_start_matches('@'));
    posts::system(&app, &id, session.id(), "system_channel_restored", &message).await?;
    Ok(ok(&channel))
}
