//! Files of posts, below `data/` as the real server lays them.

use std::collections::HashMap;
use std::path::PathBuf;

use axum::body::Body as Bytes;
use axum::extract::{FromRequest, Multipart, Path, Query, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{channels, members};
use crate::clock::{is_id, new_id, now, rfc3339};
use crate::web::error::AppError;
use crate::web::json::{Answer, created, ok};
use crate::web::session::Session;
use crate::web::{App, Shared};

const LARGEST: usize = 100 << 20;

/// `FileSettings.Directory`.
pub fn folder(app: &App) -> PathBuf {
    app.settings.text("FileSettings", "Directory").into()
}

/// Whether a file can be written there.
pub fn is_writable(app: &App) -> bool {
    let probe = folder(app).join(format!("testfile-{}", new_id()));
    fs_err::write(&probe, "").and_then(|()| fs_err::remove_file(&probe)).is_ok()
}

/// The body as it is, with the name in the query, or a form with `channel_id` and `files`.
pub async fn upload(State(app): State<Shared>, session: Session, Query(query): Query<HashMap<String, String>>, request: Request) -> Answer {
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (channel, files) = if media.starts_with("multipart/form-data") {
        form(request, text("channel_id")).await?
    } else {
        let bytes = axum::body::to_bytes(request.into_body(), LARGEST).await.map_err(|_| too_large())?;
        (text("channel_id"), vec![(text("filename"), bytes.to_vec())])
    };
    channels::find(&app, &channel).await?;
    if !session.admin && !members::is_in_channel(&app, &channel, session.id()).await? {
        return Err(AppError::permissions());
    }
    let mut infos = Vec::new();
    for (name, bytes) in files {
        infos.push(keep(&app, &session, &channel, &name, &bytes).await?);
    }
    Ok(created(&json!({ "file_infos": infos, "client_ids": null })))
}

fn too_large() -> AppError {
    AppError::new(413, "api.file.upload_file.too_large_detailed.app_error", "Unable to upload file. It is too large.")
}

async fn form(request: Request, mut channel: String) -> Result<(String, Vec<(String, Vec<u8>)>), AppError> {
    let broken = || {
        AppError::new(
            400,
            "api.file.upload_file.read_request.app_error",
            "Unable to upload file(s). Error reading or parsing request data.",
        )
    };
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| broken())?;
    let mut files = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|_| broken())? {
        match (field.name().unwrap_or_default(), field.file_name().map(str::to_owned)) {
            ("channel_id", _) => channel = field.text().await.map_err(|_| broken())?,
            (_, Some(name)) => files.push((name, field.bytes().await.map_err(|_| broken())?.to_vec())),
            _ => {}
        }
    }
    Ok((channel, files))
}

async fn keep(app: &App, session: &Session, channel: &str, name: &str, bytes: &[u8]) -> Result<Value, AppError> {
    let (id, at) = (new_id(), now());
    let name = name.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).unwrap_or("file");
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_lowercase();
    let day = rfc3339(at)[..10].replace('-', "");
    let path = format!("{day}/teams/noteam/channels/{channel}/users/{}/{id}/{name}", session.id());
    let full = folder(app).join(&path);
    let written = fs_err::create_dir_all(full.parent().unwrap_or(&full)).and_then(|()| fs_err::write(&full, bytes));
    written.map_err(|error| AppError::new(500, "api.file.write_file.app_error", format!("Unable to write the file: {error}")))?;
    let media = match extension.as_str() {
        "txt" | "log" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    };
    let info = json!({
        "id": id, "user_id": session.id(), "channel_id": channel, "create_at": at, "update_at": at, "delete_at": 0, "name": name,
        "extension": extension, "size": bytes.len(), "mime_type": media, "mini_preview": null, "remote_id": "", "archived": false
    });
    app.db.execute("INSERT INTO fileinfo (id, createat, path, doc) VALUES ($1, $2, $3, $4)", &[&id, &at, &path, &info]).await?;
    Ok(info)
}

async fn find(app: &App, session: &Session, id: &str) -> Result<(Value, PathBuf), AppError> {
    if !is_id(id) {
        return Err(AppError::url_param("file_id"));
    }
    let row = app.db.row("SELECT doc, path FROM fileinfo WHERE id = $1", &[&id]).await?;
    let missing = || AppError::new(404, "app.file_info.get.app_error", "Unable to get the file info.");
    let row = row.ok_or_else(missing)?;
    let info: Value = row.get(0);
    channels::visible(app, session, info["channel_id"].as_str().unwrap_or_default()).await?;
    Ok((info, folder(app).join(row.get::<_, String>(1))))
}

/// What is known of it.
pub async fn info(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Answer {
    Ok(ok(&find(&app, &session, &id).await?.0))
}

/// The file itself.
pub async fn get(State(app): State<Shared>, session: Session, Path(id): Path<String>) -> Result<Response, AppError> {
    let (info, path) = find(&app, &session, &id).await?;
    let unread = |_| AppError::new(404, "api.file.file_reader.app_error", "Unable to get a file reader.");
    let bytes = fs_err::read(path).map_err(unread)?;
    let text = |name: &str| info[name].as_str().unwrap_or_default().to_owned();
    let name = text("name").replace('"', "");
    let headers = [
        ("accept-ranges", "bytes".to_owned()),
        ("cache-control", "private, max-age=86400".to_owned()),
        ("content-disposition", format!("attachment;filename=\"{name}\"; filename*=UTF-8''{name}")),
        ("content-security-policy", "Frame-ancestors 'none'".to_owned()),
        ("content-type", text("mime_type")),
        ("x-frame-options", "DENY".to_owned()),
        ("x-uncompressed-content-length", bytes.len().to_string()),
    ];
    Ok((headers, Bytes::from(bytes)).into_response())
}
