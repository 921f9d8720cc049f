//! Errors as the API tells them.

use std::borrow::Cow;
use std::fmt::Display;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::{clock, log};

/// An answer that says no.
#[derive(Debug)]
pub struct AppError {
    /// Such as `api.context.session_expired.app_error`.
    pub id: Cow<'static, str>,
    /// For a person.
    pub message: String,
    /// The HTTP status, which the body repeats.
    pub status: u16,
    /// Whether the connection is closed after it.
    pub close: bool,
}

impl AppError {
    /// An error of that id.
    pub fn new(status: u16, id: &'static str, message: impl Into<String>) -> Self {
        AppError { id: id.into(), message: message.into(), status, close: false }
    }

    /// The database did not do it.
    pub fn database(error: &dyn Display) -> Self {
        log::error("database", &json!({ "error": error.to_string() }));
        AppError::new(500, "app.database.app_error", "We encountered an error with the database.")
    }

    /// No session, or one that is over.
    pub fn session() -> Self {
        AppError::new(401, "api.context.session_expired.app_error", "Invalid or expired session, please login again.")
    }

    /// A session that may not do it.
    pub fn permissions() -> Self {
        AppError::new(403, "api.context.permissions.app_error", "You do not have the appropriate permissions.")
    }

    /// A path that names no object.
    pub fn url_param(name: &str) -> Self {
        let message = format!("Invalid or missing {name} parameter in request URL.");
        AppError::new(400, "api.context.invalid_url_param.app_error", message)
    }

    /// A body that is not what it has to be.
    pub fn body_param(name: &str) -> Self {
        AppError::new(400, "api.context.invalid_body_param.app_error", format!("Invalid or missing {name} in request body."))
    }

    /// The body of the answer.
    pub fn body(&self, request: &str) -> serde_json::Value {
        json!({
            "id": self.id, "message": self.message, "detailed_error": "", "request_id": request, "status_code": self.status
        })
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let request = clock::new_id();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [("content-type", "application/json"), ("x-request-id", request.as_str())];
        let mut response = (status, headers, self.body(&request).to_string()).into_response();
        if self.close {
            response.headers_mut().insert("connection", axum::http::HeaderValue::from_static("close"));
        }
        response
    }
}
