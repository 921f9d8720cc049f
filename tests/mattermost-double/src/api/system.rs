//! Health, licence, and lists that are always empty here.

use std::collections::HashMap;

use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::web::Shared;
use crate::web::json::ok;
use crate::web::session::Maybe;

/// 200 with the database down, unless `get_server_status` asks for it: then 500, or with `use_rest_semantics` 200 after all.
pub async fn ping(State(app): State<Shared>, Maybe(session): Maybe, Query(query): Query<HashMap<String, String>>) -> Response {
    let mut body = json!({
        "ActiveSearchBackend": "database", "AndroidLatestVersion": "", "AndroidMinVersion": "", "IosLatestVersion": "",
        "IosMinVersion": "", "status": "OK"
    });
    let asked = |name: &str| query.get(name).is_some_and(|value| value == "true");
    if !asked("get_server_status") {
        return ok(&body);
    }
    let state = |up: bool| if up { "OK" } else { "UNHEALTHY" };
    let (database, files) = (app.db.is_up().await, super::files::is_writable(&app));
    let all = database && files;
    for (name, up) in [("database_status", database), ("filestore_status", files), ("status", all)] {
        body[name] = state(up).into();
    }
    if session.is_some_and(|session| session.admin) {
        body["root_status"] = "".into();
    }
    let status = if all || asked("use_rest_semantics") { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut response = (status, [("content-type", "application/json")], body.to_string()).into_response();
    for (name, up) in [("database_status", database), ("filestore_status", files), ("status", all)] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(state(up)));
    }
    response
}

/// A Team server has none.
pub async fn license() -> Response {
    ok(&json!({ "IsLicensed": "false" }))
}

/// `[]`.
pub async fn empty_list() -> Response {
    ok(&Value::Array(Vec::new()))
}
