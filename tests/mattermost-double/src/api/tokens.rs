//! Personal access tokens.

use axum::extract::{Path, State};
use serde_json::{Value, json};
use tokio_postgres::Row;

use crate::clock::new_id;
use crate::web::Shared;
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, done, ok};
use crate::web::session::Session;

fn shown(row: &Row) -> Value {
    let (id, user, description, active): (String, String, String, bool) = (row.get(0), row.get(1), row.get(2), row.get(3));
    json!({ "id": id, "user_id": user, "description": description, "is_active": active })
}

/// 200, and the secret this once.
pub async fn create(State(app): State<Shared>, session: Session, Path(user): Path<String>, body: Body) -> Answer {
    let user = session.resolve(&user)?;
    session.must_be_for(user)?;
    let bot = app.db.count("SELECT count(*) FROM bots WHERE userid = $1", &[&user]).await? > 0;
    if !bot && !app.settings.is("ServiceSettings", "EnableUserAccessTokens") {
        let message = "Personal access tokens are disabled on this server. Please contact your system administrator for details.";
        return Err(AppError::new(501, "app.user_access_token.disabled", message));
    }
    let description = body.text("description");
    if description.is_empty() {
        return Err(AppError::new(400, "api.user.create_user_access_token.description.app_error", "A description is needed."));
    }
    let (id, token) = (new_id(), new_id());
    let insert = "INSERT INTO useraccesstokens (id, token, userid, description) VALUES ($1, $2, $3, $4)";
    app.db.execute(insert, &[&id, &token, &user, &description]).await?;
    Ok(ok(&json!({ "id": id, "token": token, "user_id": user, "description": description, "is_active": true })))
}

/// Without their secrets.
pub async fn list(State(app): State<Shared>, session: Session, Path(user): Path<String>) -> Answer {
    let user = session.resolve(&user)?;
    session.must_be_for(user)?;
    let sql = "SELECT id, userid, description, isactive FROM useraccesstokens WHERE userid = $1 ORDER BY id";
    Ok(ok(&app.db.rows(sql, &[&user]).await?.iter().map(shown).collect()))
}

/// Ends one.
pub async fn revoke(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    let id = body.text("token_id");
    let owner = app.db.row("SELECT userid FROM useraccesstokens WHERE id = $1", &[&id]).await?;
    let missing = || AppError::new(404, "app.user_access_token.get_by_user.app_error", "Unable to get the personal access token.");
    session.must_be_for(&owner.ok_or_else(missing)?.get::<_, String>(0))?;
    app.db.execute("DELETE FROM useraccesstokens WHERE id = $1", &[&id]).await?;
    Ok(done())
}
