//! Sessions: log in, out, and what is known of them.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::users;
use crate::clock::{new_id, now};
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, done, ok};
use crate::web::session::{Session, token_of};
use crate::web::{App, Shared};

const HALF_A_YEAR: i64 = 180 * 86_400_000;

fn wrong() -> AppError {
    let message = "Enter a valid email or username and/or password.";
    AppError::new(401, "api.user.login.invalid_credentials_email_username", message)
}

/// The token is in the `Token` header; browsers that say so get cookies as well.
pub async fn login(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Answer {
    let (name, password) = (body.text("login_id").to_lowercase(), body.text("password"));
    // With the database down the real server says the same, misleading words.
    let sql = "SELECT doc, password, failedattempts, mfaactive, deleteat FROM users WHERE username = $1 OR email = $1";
    let row = app.db.row(sql, &[&name]).await.ok().flatten().ok_or_else(wrong)?;
    let mut user: Value = row.get(0);
    let id = user["id"].as_str().unwrap_or_default().to_owned();
    check(&app, &row, &id, password, body.text("token")).await?;
    let token = start(&app, &id).await?;
    if i64::from(row.get::<_, i32>(2)) > 0 {
        user["failed_attempts"] = row.get::<_, i32>(2).into();
        app.db.execute("UPDATE users SET failedattempts = 0 WHERE id = $1", &[&id]).await?;
    }
    users::rehash(&app, &id, password, row.get(1)).await?;
    let mut response = ok(&user);
    let cookies = if headers.get("x-requested-with").is_some_and(|value| value == "XMLHttpRequest") {
        cookies(&id, &token).to_vec()
    } else {
        Vec::new()
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&token).ok().map(|token| (axum::http::HeaderName::from_static("token"), token)));
    headers.extend(cookies.iter().filter_map(|cookie| Some((axum::http::header::SET_COOKIE, HeaderValue::from_str(cookie).ok()?))));
    Ok(response)
}

/// What a browser keeps of a session.
pub fn cookies(id: &str, token: &str) -> [String; 3] {
    [
        format!("MMAUTHTOKEN={token}; Path=/; HttpOnly; Secure"),
        format!("MMUSERID={id}; Path=/; Secure"),
        format!("MMCSRF={}; Path=/; Secure", new_id()),
    ]
}

/// A new session of that user; its token.
pub async fn start(app: &App, user: &str) -> Result<String, AppError> {
    let (token, at) = (new_id(), now());
    let insert = "INSERT INTO sessions (id, token, userid, createat, expiresat) VALUES ($1, $2, $3, $4, $5)";
    app.db.execute(insert, &[&new_id(), &token, &user, &at, &(at + HALF_A_YEAR)]).await?;
    Ok(token)
}

async fn check(app: &App, row: &Row, id: &str, password: &str, code: &str) -> Result<(), AppError> {
    let attempts = app.settings.number("ServiceSettings", "MaximumLoginAttempts");
    if i64::from(row.get::<_, i32>(2)) >= attempts {
        let message = "Your account is locked because of too many failed password attempts. Please reset your password.";
        return Err(AppError::new(401, "api.user.check_user_login_attempts.too_many.app_error", message));
    }
    if !users::matches(password, row.get(1)) {
        app.db.execute("UPDATE users SET failedattempts = failedattempts + 1 WHERE id = $1", &[&id]).await.map_err(|_| wrong())?;
        return Err(wrong());
    }
    if row.get::<_, i64>(4) != 0 {
        let message = "Login failed because your account has been deactivated. Please contact an administrator.";
        return Err(AppError::new(401, "api.user.login.inactive.app_error", message));
    }
    if row.get::<_, bool>(3) && code.is_empty() {
        return Err(AppError::new(401, "mfa.validate_token.authenticate.app_error", "Invalid MFA token."));
    }
    Ok(())
}

/// Says OK to anybody.
pub async fn logout(State(app): State<Shared>, headers: HeaderMap) -> Answer {
    if let Some(token) = token_of(&headers) {
        app.db.execute("DELETE FROM sessions WHERE token = $1", &[&token]).await?;
        app.hub.close_token(&token);
    }
    let mut response = done();
    response.headers_mut().insert("set-cookie", HeaderValue::from_static("MMAUTHTOKEN=; Path=/; Max-Age=0; HttpOnly"));
    Ok(response)
}

/// A user's sessions, without tokens.
pub async fn sessions(State(app): State<Shared>, session: Session, Path(user): Path<String>) -> Answer {
    let user = session.resolve(&user)?;
    session.must_be_for(user)?;
    let rows = app.db.rows("SELECT id, createat, expiresat FROM sessions WHERE userid = $1 ORDER BY createat DESC", &[&user]).await?;
    let shown = rows.iter().map(|row| {
        json!({
            "id": row.get::<_, String>(0), "create_at": row.get::<_, i64>(1), "expires_at": row.get::<_, i64>(2),
            "last_activity_at": row.get::<_, i64>(1), "user_id": user, "device_id": "", "roles": session.user["roles"], "is_oauth": false,
            "expired_notify": false, "props": {}, "team_members": [], "local": false
        })
    });
    Ok(ok(&shown.collect()))
}

/// Ends a user's sessions.
pub async fn revoke_all(State(app): State<Shared>, session: Session, Path(user): Path<String>) -> Answer {
    let user = session.resolve(&user)?;
    session.must_be_for(user)?;
    app.db.execute("DELETE FROM sessions WHERE userid = $1", &[&user]).await?;
    Ok(done())
}
