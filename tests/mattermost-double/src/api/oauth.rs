//! Sign-in with GitLab: the redirect to it. What comes back is not taken; see `docs/double.md`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::clock::new_id;
use crate::web::App;

/// `/oauth/gitlab/{signup,login}`: to GitLab where it is set up, else 501 and a page that says so.
pub fn route(app: &App, path: &str) -> Option<Response> {
    let action = path.strip_prefix("/oauth/gitlab/")?;
    if !matches!(action, "signup" | "login") {
        return None;
    }
    if !app.settings.is("GitLabSettings", "Enable") {
        let page = "<!DOCTYPE html><html><head></head>\n<body>SSO through OAuth 2.0 not available on this server.</body></html>\n";
        return Some((StatusCode::NOT_IMPLEMENTED, [("content-type", "text/html"), ("expires", "0")], page).into_response());
    }
    let site = escaped(&app.settings.text("ServiceSettings", "SiteURL"));
    let (endpoint, client) = (app.settings.text("GitLabSettings", "AuthEndpoint"), app.settings.text("GitLabSettings", "Id"));
    let state = new_id();
    let location =
        format!("{endpoint}?response_type=code&client_id={client}&redirect_uri={site}%2Fsignup%2Fgitlab%2Fcomplete&state={state}");
    let cookie = format!("MMOAUTH={state}; Path=/; Max-Age=1800; HttpOnly; Secure");
    Some(
        (
            StatusCode::FOUND,
            [("location", location), ("set-cookie", cookie), ("content-type", "application/json".to_owned()), ("expires", "0".to_owned())],
        )
            .into_response(),
    )
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
