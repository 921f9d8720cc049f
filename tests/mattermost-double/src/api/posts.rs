//! Posts.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use serde_json::{Map, Value, json};

use super::{channels, members};
use crate::clock::{is_id, new_id, now};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, created, done, ok};
use crate::web::session::Session;
use crate::web::{App, Shared};

async fn find(app: &App, id: &str) -> Result<Value, AppError> {
    if !is_id(id) {
        return Err(AppError::url_param("post_id"));
    }
    let missing = || AppError::new(404, "app.post.get.app_error", "Unable to get the post.");
    app.db.doc("SELECT doc FROM posts WHERE id = $1 AND deleteat = 0", &[&id]).await?.ok_or_else(missing)
}

/// Only members of a channel post there.
pub async fn create(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    let channel = body.text("channel_id");
    let known = app.db.doc("SELECT doc FROM channels WHERE id = $1", &[&channel]).await?;
    if !session.admin && !members::is_in_channel(&app, channel, session.id()).await? || known.is_none() {
        return Err(AppError::permissions());
    }
    if known.is_some_and(|channel| channel["delete_at"] != 0) {
        let message = "Can not post to deleted channel.";
        return Err(AppError::new(400, "api.post.create_post.can_not_post_to_deleted.error", message));
    }
    if body.text("message").chars().count() > 16_383 {
        return Err(AppError::new(
            400,
            "model.post.is_valid.message_length.app_error",
            "Post Message property is longer than the maximum permitted length.",
        ));
    }
    let mut post = json!({
        "channel_id": channel, "user_id": session.id(), "message": body.text("message"), "root_id": body.text("root_id"),
        "pending_post_id": body.text("pending_post_id"), "file_ids": body.0["file_ids"], "type": "",
        "props": body.0["props"].as_object().cloned().unwrap_or_default()
    });
    if session.user["is_bot"] == true {
        post["props"]["from_bot"] = "true".into();
    }
    let mut post = publish(&app, post, true).await?;
    post["remote_id"] = "".into();
    Ok(created(&post))
}

/// Keeps a post, counts it, and tells everybody in the channel. `wanted` has at least channel, user, message, type and props.
pub async fn publish(app: &App, wanted: Value, online: bool) -> Result<Value, AppError> {
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let (id, at) = (new_id(), now());
    let files: Vec<&str> = wanted["file_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut post = json!({
        "id": id, "create_at": at, "update_at": at, "edit_at": 0, "delete_at": 0, "is_pinned": false, "user_id": text("user_id"),
        "channel_id": text("channel_id"), "root_id": text("root_id"), "original_id": "", "message": text("message"), "type": text("type"),
        "props": wanted["props"], "hashtags": "", "file_ids": files, "pending_post_id": text("pending_post_id"), "reply_count": 0,
        "last_reply_at": 0, "participants": null, "metadata": metadata(app, &wanted, &id, &files).await?
    });
    let insert = "INSERT INTO posts (id, createat, updateat, userid, channelid, doc) VALUES ($1, $2, $2, $3, $4, $5)";
    app.db.execute(insert, &[&id, &at, &text("user_id"), &text("channel_id"), &post]).await?;
    // Joining and leaving moves the last post's time but is not counted.
    let counted = i64::from(!matches!(text("type"), "system_join_channel" | "system_add_to_channel" | "system_channel_restored"));
    let count = "UPDATE channels SET doc = doc || jsonb_build_object('last_post_at', $2::bigint, 'last_root_post_at', $2::bigint,
        'total_msg_count', (doc->>'total_msg_count')::bigint + $3, 'total_msg_count_root', (doc->>'total_msg_count_root')::bigint + $3)
        WHERE id = $1 RETURNING doc";
    let channel = app.db.doc(count, &[&text("channel_id"), &at, &counted]).await?.unwrap_or_default();
    let sender = super::display_name(app, text("user_id")).await;
    let sender = wanted["props"]["override_username"].as_str().map_or(sender, str::to_owned);
    let members = app.db.rows("SELECT userid FROM channelmembers WHERE channelid = $1", &[&text("channel_id")]).await?;
    let data = json!({
        "channel_display_name": if channel["type"] == "D" { sender.clone().into() } else { channel["display_name"].clone() },
        "channel_name": channel["name"], "channel_type": channel["type"], "post": post.to_string(), "sender_name": sender,
        "set_online": online, "team_id": channel["team_id"]
    });
    let members: Vec<String> = members.iter().map(|row| row.get(0)).collect();
    app.hub.to_channel(text("channel_id"), &members, "posted", &data);
    post["pending_post_id"] = text("pending_post_id").into();
    Ok(post)
}

async fn metadata(app: &App, wanted: &Value, id: &str, files: &[&str]) -> Result<Value, AppError> {
    let mut metadata = Map::new();
    if wanted["props"]["attachments"].is_array() {
        metadata.insert("embeds".into(), json!([{ "type": "message_attachment" }]));
    }
    if !files.is_empty() {
        let change = json!({ "post_id": id });
        let sql = "UPDATE fileinfo SET postid = $2, doc = doc || $3 WHERE id = ANY ($1) AND postid = '' RETURNING doc";
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        metadata.insert("files".into(), app.db.docs(sql, &[&files, &id, &change]).await?.into());
    }
    Ok(Value::Object(metadata))
}

/// What the server itself says in a channel.
pub async fn system(app: &App, channel: &str, user: &str, kind: &str, message: &str) -> Result<(), AppError> {
    let post = json!({ "channel_id": channel, "user_id": user, "message": message, "type": kind, "props": {} });
    publish(app, post, false).await.map(drop)
}

/// One.
pub async fn get(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    let mut post = find(&app, &id).await?;
    channels::visible(&app, &session, post["channel_id"].as_str().unwrap_or_default()).await?;
    post["remote_id"] = "".into();
    let mut response = ok(&post);
    let etag = HeaderValue::from_str(&format!("{}.{id}.{}", app.release.version, post["update_at"]));
    response.headers_mut().extend(etag.ok().map(|etag| (header::ETAG, etag)));
    Ok(response)
}

/// Changes the message.
pub async fn patch(State(app): State<Shared>, session: Session, Path(id): Path<String>, body: Body) -> Answer {
    let post = find(&app, &id).await?;
    session.must_be_for(post["user_id"].as_str().unwrap_or_default())?;
    let at = now();
    let mut change = json!({ "update_at": at, "edit_at": at });
    for key in ["message", "props"] {
        if !body.0[key].is_null() {
            change[key] = body.0[key].clone();
        }
    }
    let sql = "UPDATE posts SET updateat = $2, doc = doc || $3 WHERE id = $1 RETURNING doc";
    Ok(ok(&app.db.doc(sql, &[&id, &at, &change]).await?.unwrap_or_default()))
}

/// Hides it.
pub async fn delete(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    let post = find(&app, &id).await?;
    session.must_be_for(post["user_id"].as_str().unwrap_or_default())?;
    let at = now();
    let sql = "UPDATE posts SET deleteat = $2, updateat = $2, doc = doc || $3 WHERE id = $1";
    app.db.execute(sql, &[&id, &at, &json!({ "delete_at": at, "update_at": at })]).await?;
    Ok(done())
}

/// A page, newest first, or what changed `since`.
pub async fn of_channel(
    State(app): State<Shared>,
    session: Session,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    channels::visible(&app, &session, &id).await?;
    let number = |name: &str, default: i64| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page, size, since) = (number("page", 0), number("per_page", 60).clamp(1, 200), number("since", 0));
    let sql = "SELECT doc FROM posts WHERE channelid = $1 AND ((deleteat = 0 AND $2::bigint = 0) OR ($2 <> 0 AND updateat > $2))
        ORDER BY seq DESC LIMIT $3 OFFSET $4";
    let (limit, offset) = if since == 0 { (size + 1, page * size) } else { (1000, 0) };
    let mut posts = app.db.docs(sql, &[&id, &since, &limit, &offset]).await?;
    let older = if since == 0 && posts.len() > usize::try_from(size).unwrap_or(0) { posts.pop() } else { None };
    let order: Vec<Value> = posts.iter().map(|post| post["id"].clone()).collect();
    let newest = posts.first().map(|post| post["update_at"].to_string()).unwrap_or_default();
    let by_id: Map<String, Value> = posts.into_iter().map(|post| (post["id"].as_str().unwrap_or_default().to_owned(), post)).collect();
    let previous = older.map(|post| post["id"].clone()).unwrap_or_else(|| "".into());
    let mut response = ok(&json!({
        "order": order, "posts": by_id, "next_post_id": "", "prev_post_id": previous, "first_inaccessible_post_time": 0
    }));
    let etag = HeaderValue::from_str(&format!("{}.{newest}", app.release.version));
    response.headers_mut().extend(etag.ok().map(|etag| (header::ETAG, etag)));
    Ok(response)
}
