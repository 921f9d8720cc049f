//! `/config`.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;

use crate::config::masked;
use crate::web::Shared;
use crate::web::error::AppError;
use crate::web::json::{Answer, Body, done, ok};
use crate::web::session::Session;

fn not_cached(mut response: Response) -> Response {
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    response
}

fn refused(error: String) -> AppError {
    AppError::new(400, "app.save_config.app_error", error)
}

/// Without secrets over the network, with them over the local socket.
pub async fn get(State(app): State<Shared>, session: Session) -> Answer {
    session.must_be_admin()?;
    let mut settings = app.settings.get();
    if !session.is_local() {
        settings["PluginSettings"]["Plugins"] = app.plugins.shown(&settings["PluginSettings"]["Plugins"]);
        settings = masked(settings);
    }
    Ok(not_cached(ok(&settings)))
}

/// Which settings the environment decides.
pub async fn environment(State(app): State<Shared>, session: Session) -> Answer {
    session.must_be_admin()?;
    Ok(not_cached(ok(&app.settings.environment())))
}

/// What anybody may know.
pub async fn client(State(app): State<Shared>) -> Answer {
    let users = app.db.count("SELECT count(*) FROM users", &[]).await.unwrap_or(1);
    let id = app.db.row("SELECT value FROM systems WHERE name = 'DiagnosticId'", &[]).await.ok().flatten();
    let id = id.map_or_else(String::new, |row| row.get(0));
    Ok(ok(&app.settings.client(&app.release.version, &id, users == 0)))
}

/// Takes over all of them.
pub async fn put(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    session.must_be_admin()?;
    app.settings.set(&body.0).map_err(refused)?;
    Ok(ok(&masked(app.settings.get())))
}

/// Takes over those that are named.
pub async fn patch(State(app): State<Shared>, session: Session, body: Body) -> Answer {
    session.must_be_admin()?;
    app.settings.patch(&body.0).map_err(refused)?;
    Ok(ok(&masked(app.settings.get())))
}

/// There is nothing to be read again: the file is written by this process alone.
pub async fn reload(session: Session) -> Answer {
    session.must_be_admin()?;
    Ok(done())
}
