//! Bodies in and out.

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::AppError;

/// How much of a body the API reads.
const LIMIT: usize = 8 << 20;

/// What a handler answers.
pub type Answer = Result<Response, AppError>;

/// A body in JSON, whatever its content type says.
pub struct Body(pub Value);

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = AppError;

    async fn from_request(request: Request, _: &S) -> Result<Self, AppError> {
        let bytes = axum::body::to_bytes(request.into_body(), LIMIT).await.map_err(|_| AppError::body_param("body"))?;
        if bytes.is_empty() {
            return Ok(Body(Value::Null));
        }
        serde_json::from_slice(&bytes).map(Body).map_err(|_| AppError::body_param("body"))
    }
}

impl Body {
    /// A text, empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }
}

/// 200 and a document.
pub fn ok(document: &Value) -> Response {
    status(StatusCode::OK, document)
}

/// 201 and a document.
pub fn created(document: &Value) -> Response {
    status(StatusCode::CREATED, document)
}

/// 200 and `{"status":"OK"}`.
pub fn done() -> Response {
    ok(&json!({ "status": "OK" }))
}

fn status(status: StatusCode, document: &Value) -> Response {
    (status, [("content-type", "application/json")], document.to_string()).into_response()
}
