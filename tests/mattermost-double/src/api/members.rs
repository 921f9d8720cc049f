//! Who is in a team or a channel.

use axum::extract::{Path, State};
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::{channels, teams};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, done, ok};
use crate::web::session::Session;
use crate::web::{App, Shared};

fn team_member(row: &Row) -> Value {
    let (team, user, admin): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
    json!({
        "team_id": team, "user_id": user, "roles": if admin { "team_user team_admin" } else { "team_user" }, "delete_at": 0,
        "scheme_guest": false, "scheme_user": true, "scheme_admin": admin, "explicit_roles": ""
    })
}

fn channel_member(row: &Row) -> Value {
    let (channel, user, admin, mentions): (String, String, bool, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    json!({
        "channel_id": channel, "user_id": user, "roles": if admin { "channel_user channel_admin" } else { "channel_user" },
        "last_viewed_at": -1, "msg_count": 0, "mention_count": mentions, "mention_count_root": mentions, "urgent_mention_count": 0,
        "msg_count_root": 0, "last_update_at": -1, "scheme_guest": false, "scheme_user": true, "scheme_admin": admin,
        "explicit_roles": "", "notify_props": {
            "channel_auto_follow_threads": "off", "desktop": "default", "email": "default", "ignore_channel_mentions": "default",
            "mark_unread": "all", "push": "default"
        }
    })
}

/// Puts a user into a team, and into the channel that everybody is in.
pub async fn join_team(app: &App, team: &str, user: &str, admin: bool) -> Result<(), AppError> {
    let sql = "INSERT INTO teammembers (teamid, userid, admin) VALUES ($1, $2, $3)
        ON CONFLICT (teamid, userid) DO UPDATE SET deleteat = 0";
    app.db.execute(sql, &[&team, &user, &admin]).await?;
    if let Some(square) = channels::named(app, team, "town-square", false).await? {
        join_channel(app, square["id"].as_str().unwrap_or_default(), user, false).await?;
    }
    Ok(())
}

/// Puts a user into a channel; whether they were not in it before.
pub async fn join_channel(app: &App, channel: &str, user: &str, admin: bool) -> Result<bool, AppError> {
    let sql = "INSERT INTO channelmembers (channelid, userid, admin) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    Ok(app.db.execute(sql, &[&channel, &user, &admin]).await? > 0)
}

/// Whether a user is in a channel.
pub async fn is_in_channel(app: &App, channel: &str, user: &str) -> Result<bool, AppError> {
    Ok(app.db.count("SELECT count(*) FROM channelmembers WHERE channelid = $1 AND userid = $2", &[&channel, &user]).await? > 0)
}

async fn find_in_team(app: &App, team: &str, user: &str) -> Result<Value, AppError> {
    let sql = "SELECT teamid, userid, admin FROM teammembers WHERE teamid = $1 AND userid = $2 AND deleteat = 0";
    let missing = || AppError::new(404, "app.team.get_member.missing.app_error", "No team member found for that user ID and team ID.");
    app.db.row(sql, &[&team, &user]).await?.map(|row| team_member(&row)).ok_or_else(missing)
}

async fn find_in_channel(app: &App, channel: &str, user: &str) -> Result<Value, AppError> {
    let sql = "SELECT channelid, userid, admin, mentions FROM channelmembers WHERE channelid = $1 AND userid = $2";
    let message = "No channel member found for that user ID and channel ID.";
    let missing = || AppError::new(404, "app.channel.get_member.missing.app_error", message);
    app.db.row(sql, &[&channel, &user]).await?.map(|row| channel_member(&row)).ok_or_else(missing)
}

/// 201, the first time and again.
pub async fn add_to_team(State(app): State<Shared>, session: Session, Path(team): Path<String>, body: Body) -> Answer {
    session.must_be_admin()?;
    teams::find(&app, &team).await?;
    let user = body.text("user_id");
    let missing = || AppError::new(404, "app.user.missing_account.const", "Unable to find the user.");
    app.db.doc("SELECT doc FROM users WHERE id = $1", &[&user]).await?.ok_or_else(missing)?;
    join_team(&app, &team, user, false).await?;
    Ok(created(&find_in_team(&app, &team, user).await?))
}

/// A team's members.
pub async fn of_team(State(app): State<Shared>, _session: Session, Path(team): Path<String>) -> Answer {
    teams::find(&app, &team).await?;
    let rows = app.db.rows("SELECT teamid, userid, admin FROM teammembers WHERE teamid = $1 AND deleteat = 0", &[&team]).await?;
    Ok(ok(&rows.iter().map(team_member).collect()))
}

/// One of them.
pub async fn in_team(State(app): State<Shared>, session: Session, Path((team, user)): Path<(String, String)>) -> Answer {
    Ok(ok(&find_in_team(&app, &team, session.resolve(&user)?).await?))
}

/// Takes a user out of a team and its channels.
pub async fn leave_team(State(app): State<Shared>, session: Session, Path((team, user)): Path<(String, String)>) -> Answer {
    let user = session.resolve(&user)?;
    session.must_be_for(user)?;
    app.db.execute("UPDATE teammembers SET deleteat = $3 WHERE teamid = $1 AND userid = $2", &[&team, &user, &crate::clock::now()]).await?;
    let sql = "DELETE FROM channelmembers WHERE userid = $2 AND channelid IN (SELECT id FROM channels WHERE teamid = $1)";
    app.db.execute(sql, &[&team, &user]).await?;
    Ok(done())
}

/// 201, the first time and again; 404 for somebody who is not in the team.
pub async fn add_to_channel(State(app): State<Shared>, session: Session, Path(channel): Path<String>, body: Body) -> Answer {
    let found = channels::find(&app, &channel).await?;
    let user = body.text("user_id");
    find_in_team(&app, found["team_id"].as_str().unwrap_or_default(), user).await?;
    if !session.admin && !is_in_channel(&app, &channel, session.id()).await? {
        return Err(AppError::permissions());
    }
    if join_channel(&app, &channel, user, false).await? {
        let added = super::display_name(&app, user).await;
        let by = super::display_name(&app, session.id()).await;
        let message = format!("{} added to the channel by {}.", &added[1..], &by[1..]);
        super::posts::system(&app, &channel, session.id(), "system_add_to_channel", &message).await?;
        let sql = "UPDATE channelmembers SET mentions = mentions + 1 WHERE channelid = $1 AND userid = $2";
        let first = find_in_channel(&app, &channel, user).await?;
        app.db.execute(sql, &[&channel, &user]).await?;
        return Ok(created(&first));
    }
    Ok(created(&find_in_channel(&app, &channel, user).await?))
}

/// A channel's members.
pub async fn of_channel(State(app): State<Shared>, _session: Session, Path(channel): Path<String>) -> Answer {
    channels::find(&app, &channel).await?;
    let rows = app.db.rows("SELECT channelid, userid, admin, mentions FROM channelmembers WHERE channelid = $1", &[&channel]).await?;
    Ok(ok(&rows.iter().map(channel_member).collect()))
}

/// One of them.
pub async fn in_channel(State(app): State<Shared>, session: Session, Path((channel, user)): Path<(String, String)>) -> Answer {
    Ok(ok(&find_in_channel(&app, &channel, session.resolve(&user)?).await?))
}

/// Takes a user out of a channel.
pub async fn leave_channel(State(app): State<Shared>, session: Session, Path((channel, user)): Path<(String, String)>) -> Answer {
    let user = session.resolve(&user)?;
    session.must_be_for(user)?;
    app.db.execute("DELETE FROM channelmembers WHERE channelid = $1 AND userid = $2", &[&channel, &user]).await?;
    Ok(done())
}
