//! A request, before it is sent.

use reqwest::Method;
use serde_json::Value;

/// A request.
pub struct Call {
    pub method: Method,
    pub path: String,
    /// The path as it may be shown.
    pub shown: String,
    pub body: Option<Value>,
    /// Whether a second time changes nothing.
    pub again: bool,
    /// Whether the server's words may repeat a credential.
    pub secret: bool,
    /// Whether the token is sent.
    pub signed: bool,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        let path = path.into();
        // What only asks, replaces or removes does the same when it is sent again.
        let again = method != Method::POST;
        Call { shown: path.clone(), path, method, body: None, again, secret: false, signed: true }
    }

    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    pub fn body(mut self, body: Value) -> Call {
        self.body = Some(body);
        self
    }

    /// A POST that changes nothing when it comes a second time.
    pub fn again(mut self) -> Call {
        self.again = true;
        self
    }

    /// The path and the server's words hold a credential: `shown` stands in for the one, the error id for the other.
    pub fn secret(mut self, shown: &str) -> Call {
        self.shown = shown.to_owned();
        self.secret = true;
        self
    }

    /// Without the token.
    pub fn unsigned(mut self) -> Call {
        self.signed = false;
        self
    }

    /// Method and path, as they may be shown.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.shown)
    }
}
