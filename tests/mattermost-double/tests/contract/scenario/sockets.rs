//! The WebSocket: who gets in, and what is said there.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use super::{BOTS, Stage};
use crate::recorded::{self, differences};
use crate::replay::{Replay, Who};

const CORS: &str = "MM_SERVICESETTINGS_ALLOWCORSFROM";

pub fn run(stage: &mut Stage) {
    header_auth(stage);
    challenge(stage);
    origins(stage, "151-ws-origins-default");
    for (name, ping, allowed) in [
        ("152-ws-origins-cors-exact", "153-ping-cors-exact", "https://other.example.test"),
        ("154-ws-origins-cors-two", "", "https://other.example.test https://third.example.test"),
        ("155-ws-origins-cors-star", "156-ping-cors-star", "*"),
        ("157-ws-origins-cors-slash", "158-ping-cors-slash", "https://other.example.test/"),
    ] {
        stage.restart(&[(CORS, allowed)]);
        origins(stage, name);
        if !ping.is_empty() {
            stage.replay.rest(ping);
        }
    }
    stage.restart(&[("MM_SERVICESETTINGS_SITEURL", "https://chat.internal.test")]);
    origins(stage, "159-ws-origins-othersite");
    stage.restart(&[BOTS]);
    stage.replay.all(&["212-command-create", "213-outgoing-hook-create", "222-command-create"]);
    stage.replay.all(&[
        "214-command-execute-not-allowed",
        "216-command-execute-allowed-sslcertfile",
        "217-command-execute-allowed-sslcertdir",
        "218-command-execute-allowed-cidr-comma",
        "219-command-execute-quoted-double",
        "220-command-execute-quoted-single-entry",
        "223-command-execute-no-ca",
    ]);
}

pub type Socket = WebSocket<TcpStream>;

/// A client; or the status and body that it was refused with.
fn connect(port: u16, headers: &[(&'static str, String)]) -> Result<Socket, (u16, String)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(7))).expect("set");
    let mut request = format!("ws://127.0.0.1:{port}/api/v4/websocket").into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
            Err((answer.status().as_u16(), String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned()))
        }
        Err(error) => panic!("the handshake: {error}"),
    }
}

fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => return serde_json::from_str(&text).ok(),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

fn bearer(replay: &Replay) -> (&'static str, String) {
    ("Authorization", format!("Bearer {}", replay.tokens[&Who::Admin]))
}

fn frames(recorded: &Value) -> Vec<Value> {
    recorded["frames"].as_array().into_iter().flatten().filter(|frame| frame[0] == "recv").map(|frame| frame[1].clone()).collect()
}

/// Differences of one frame; a post inside is JSON inside text.
fn frame_differences(wanted: &Value, found: &Value) -> Vec<String> {
    let mut wrong = differences(wanted, found);
    if let (Some(wanted), Some(found)) = (wanted["data"]["post"].as_str(), found["data"]["post"].as_str()) {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        wrong.extend(differences(&parse(wanted), &parse(found)));
    }
    wrong
}

/// A recorded conversation: sends what was sent, and compares what comes with what came. The connection stays open.
pub fn conversation(stage: &mut Stage, name: &str, who: Who) -> Socket {
    let recorded = recorded::read(name);
    let token = format!("Bearer {}", stage.replay.tokens[&who]);
    let mut socket = connect(stage.port, &[("Authorization", token)]).expect("let in");
    let mut wrong = Vec::new();
    for (number, frame) in recorded["frames"].as_array().into_iter().flatten().enumerate() {
        if frame[0] == "send" {
            socket.send(Message::text(stage.replay.here(&frame[1].to_string()))).expect("sent");
        } else {
            match next(&mut socket) {
                Some(found) => wrong.extend(frame_differences(&frame[1], &found).into_iter().map(|what| format!("frame {number}: {what}"))),
                None => wrong.push(format!("frame {number} does not come")),
            }
        }
    }
    stage.replay.results.insert(name.to_owned(), wrong);
    socket
}

/// Hello, a status, the answers to a ping and to nonsense, and a post of a webhook.
fn header_auth(stage: &mut Stage) {
    let mut socket = connect(stage.port, &[bearer(&stage.replay)]).expect("let in");
    for (seq, action) in [(1, "ping"), (2, "nonsense")] {
        socket.send(Message::text(json!({ "seq": seq, "action": action }).to_string())).expect("sent");
    }
    let wanted = frames(&recorded::read("149-ws-header-auth"));
    let mut wrong = Vec::new();
    for (number, frame) in wanted.iter().enumerate() {
        if number + 1 == wanted.len() {
            let message = json!({ "text": "ws test", "attachments": [{ "color": "good", "text": "att" }] });
            let path = format!("/hooks/{}", stage.replay.hooks["sonarqube"]);
            assert_eq!(stage.replay.send("POST", &path, None, &message).0, 200);
        }
        match next(&mut socket) {
            Some(found) => wrong.extend(frame_differences(frame, &found).into_iter().map(|what| format!("frame {number}: {what}"))),
            None => wrong.push(format!("frame {number} does not come")),
        }
    }
    stage.replay.results.insert("149-ws-header-auth".into(), wrong);
}

/// With a token in the first message; a bad one ends it.
fn challenge(stage: &mut Stage) {
    let ask = |token: &str| json!({ "seq": 1, "action": "authentication_challenge", "data": { "token": token } }).to_string();
    let mut socket = connect(stage.port, &[]).expect("let in");
    socket.send(Message::text(ask(&stage.replay.tokens[&Who::Admin]))).expect("sent");
    let mut wrong = Vec::new();
    for wanted in frames(&recorded::read("150-ws-challenge")) {
        match next(&mut socket) {
            Some(found) => wrong.extend(frame_differences(&wanted, &found)),
            None => wrong.push("a frame does not come".into()),
        }
    }
    let mut bad = connect(stage.port, &[]).expect("let in");
    bad.send(Message::text(ask("badtoken"))).expect("sent");
    if let Some(found) = next(&mut bad) {
        wrong.push(format!("a bad token is answered: {found}"));
    }
    stage.replay.results.insert("150-ws-challenge".into(), wrong);
}

fn origins(stage: &mut Stage, name: &str) {
    let mut wrong = Vec::new();
    for tried in recorded::read(name).as_array().into_iter().flatten() {
        let label = tried["label"].as_str().unwrap_or_default();
        let origin = match label.rsplit(' ').next().unwrap_or_default() {
            "origin=SiteURL" => Some("https://localhost:8065"),
            "origin=127.0.0.1:8065" => Some("https://127.0.0.1:8065"),
            "origin=other" => Some("https://other.example.test"),
            "origin=http-siteurl" => Some("http://localhost:8065"),
            "origin=null" => Some("null"),
            "origin=https://chat.internal.test" => Some("https://chat.internal.test"),
            "origin" if label.contains("siteurl") => Some("https://localhost:8065"),
            "origin" if label.contains("other") => Some("https://other.example.test"),
            _ => None,
        };
        let mut headers: Vec<_> = origin.map(|origin| ("Origin", origin.to_owned())).into_iter().collect();
        if label.starts_with("cookie") {
            headers.push(("Cookie", format!("MMAUTHTOKEN={}", stage.replay.tokens[&Who::Admin])));
        } else if label == "bad bearer" {
            headers.push(("Authorization", "Bearer nonsense".into()));
        } else {
            headers.push(bearer(&stage.replay));
        }
        wrong.extend(tried_origin(stage.port, &headers, tried).into_iter().map(|what| format!("{label}: {what}")));
    }
    stage.replay.results.insert(name.to_owned(), wrong);
}

fn tried_origin(port: u16, headers: &[(&'static str, String)], tried: &Value) -> Vec<String> {
    match connect(port, headers) {
        Ok(_) if tried["status"] != 101 => vec![format!("let in instead of {}", tried["status"])],
        Ok(mut socket) => {
            let wanted = tried["first_frame"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            match (wanted, next(&mut socket)) {
                (Some(wanted), Some(found)) => frame_differences(&wanted, &found),
                (None, None) => Vec::new(),
                (wanted, found) => vec![format!("{found:?} instead of {wanted:?}")],
            }
        }
        Err((status, _)) if tried["status"] != status => vec![format!("status {status} instead of {}", tried["status"])],
        Err((_, body)) => {
            let error = |text: &str| text.strip_prefix("Forbidden\n").and_then(|json| serde_json::from_str::<Value>(json).ok());
            match (error(tried["body"].as_str().unwrap_or_default()), error(&body)) {
                (Some(wanted), Some(found)) if wanted["message"] == found["message"] && wanted["id"] == found["id"] => {
                    let mut wanted = wanted;
                    wanted["id"] = found["id"].clone();
                    differences(&wanted, &found)
                }
                (wanted, found) => vec![format!("{found:?} instead of {wanted:?}")],
            }
        }
    }
}
