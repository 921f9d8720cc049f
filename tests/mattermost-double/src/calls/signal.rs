//! Signalling: joining, session descriptions, leaving. The double answers an offer as an ICE-lite agent with one candidate for each
//! protocol; there is no DTLS behind it.

use std::io::Read as _;

use serde_json::{Value, json};

use super::{Calls, PREFIX};
use crate::api::posts;
use crate::clock::new_id;
use crate::web::App;
use crate::web::session::Session;
use crate::ws::{Broadcast, Event};

/// No offer of a client is larger.
const LARGEST_OFFER: u64 = 1 << 20;

/// A binary frame: msgpack of `{seq, action, data: {data: zlib(JSON)}}`. Gives the plugin's action and the JSON in it.
pub fn unpack(mut frame: &[u8]) -> Option<(String, Value)> {
    let frame = rmpv::decode::read_value(&mut frame).ok()?;
    let field =
        |map: &rmpv::Value, name: &str| map.as_map()?.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value.clone());
    let action = field(&frame, "action")?.as_str()?.strip_prefix(PREFIX)?.to_owned();
    let data = field(&field(&frame, "data")?, "data")?;
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(data.as_slice()?).take(LARGEST_OFFER).read_to_string(&mut text).ok()?;
    Some((action, serde_json::from_str(&text).ok()?))
}

impl Calls {
    /// What a client asks of the plugin over its WebSocket, whose connection is the session of the call.
    pub async fn action(&self, app: &App, session: &Session, connection: &str, name: &str, data: &Value) {
        match name {
            "join" => self.join(app, session, connection, data["channelID"].as_str().unwrap_or_default()).await,
            "sdp" => self.answer(app, connection, data),
            "leave" => self.leave(app, connection).await,
            "mute" | "unmute" => {
                let channel = self.rooms().channel_of(connection);
                let Some(channel) = channel else { return };
                self.rooms().unmute(connection, name == "unmute");
                let data = json!({ "channelID": channel, "session_id": connection, "userID": session.id() });
                self.tell_only(app, &channel, session.id(), if name == "unmute" { "user_unmuted" } else { "user_muted" }, data).await;
            }
            _ => {}
        }
    }

    async fn join(&self, app: &App, session: &Session, connection: &str, id: &str) {
        let error = |why: &str| self.to_connection(app, connection, "error", json!({ "connID": connection, "data": why }));
        let Ok(channel) = crate::api::visible_channel(app, session, id).await else { return error("forbidden") };
        if channel["type"] != "D" && self.options["GroupCallsAllowed"] != true {
            self.ephemeral(app, session, id, "Calls on unlicensed servers are only available in DMs.");
            return error("unlicensed servers only allow calls in DMs");
        }
        let enabled = self.is_enabled_in(id);
        if enabled == Some(false) || enabled.is_none() && !session.admin && self.options["DefaultEnabled"] != true {
            return error("insufficient permissions");
        }
        let begins = self.rooms().join(id, connection, session.id());
        if begins {
            self.begin(app, session, id).await;
        }
        self.to_connection(app, connection, "join", json!({ "connID": connection }));
        let joined = json!({ "channelID": id, "session_id": connection, "user_id": session.id() });
        self.tell(app, id, "user_joined", joined).await;
        let state = self.rooms().state(id).unwrap_or_default();
        let to = Broadcast { user: session.id().to_owned(), ..Broadcast::default() };
        let data = json!({ "call": state.to_string(), "channel_id": id });
        app.hub.publish(&Event::new(&format!("{PREFIX}call_state"), data, to), &[]);
    }

    async fn begin(&self, app: &App, session: &Session, id: &str) {
        let state = self.rooms().state(id).unwrap_or_default();
        let host = json!({ "call_id": state["id"], "channelID": id, "hostID": session.id() });
        self.tell_only(app, id, session.id(), "call_host_changed", host).await;
        let message = format!("{} started a call", session.user["username"].as_str().unwrap_or_default());
        let attachment = crate::api::attachment(&json!({ "fallback": message, "title": message, "text": message }));
        let post = json!({
            "channel_id": id, "user_id": session.id(), "message": message, "type": "custom_calls",
            "props": { "attachments": [attachment], "from_plugin": "true", "start_at": state["start_at"], "title": "" }
        });
        let post = posts::publish(app, post, true).await.unwrap_or_default();
        self.rooms().posted(id, post["id"].as_str().unwrap_or_default());
        let start = json!({
            "channelID": id, "host_id": session.id(), "id": state["id"], "owner_id": session.id(), "post_id": post["id"],
            "start_at": state["start_at"], "thread_id": post["id"]
        });
        self.tell(app, id, "call_start", start).await;
    }

    /// Lets a session go, also where its connection simply ended.
    pub async fn leave(&self, app: &App, connection: &str) {
        let left = self.rooms().leave(connection);
        let Some((channel, user)) = left else { return };
        self.agents.remove(&fragment(connection));
        self.tell(app, &channel, "user_left", json!({ "channelID": channel, "session_id": connection, "user_id": user })).await;
    }

    /// Answers an offer; anything else, such as an answer to one of ours, needs no reply.
    fn answer(&self, app: &App, connection: &str, data: &Value) {
        if data["type"] != "offer" || self.rooms().channel_of(connection).is_none() {
            return;
        }
        let fragment = fragment(connection);
        let password = self.agents.password(&fragment);
        let text = |name: &str| self.options[name].as_str().unwrap_or_default();
        let host =
            [text("ICEHostOverride"), text("UDPServerAddress"), "127.0.0.1"].into_iter().find(|host| !host.is_empty()).unwrap_or_default();
        let port = self.options["ICEHostPortOverride"].as_i64().or(self.options["UDPServerPort"].as_i64()).unwrap_or(8443);
        let udp = format!("candidate:2878742611 1 udp 2130706431 {host} {port} typ host ufrag {fragment}");
        let tcp = format!("candidate:375738803 1 tcp 1671430143 {host} {port} typ host tcptype passive ufrag {fragment}");
        let candidate = |candidate: &str| {
            let candidate = json!({ "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": null });
            json!({ "candidate": candidate, "type": "candidate" })
        };
        let sdp = description(data["sdp"].as_str().unwrap_or_default(), &fragment, &password, &[&udp, &tcp]);
        for signal in [candidate(&udp), json!({ "type": "answer", "sdp": sdp }), candidate(&tcp)] {
            self.to_connection(app, connection, "signal", json!({ "connID": connection, "data": signal.to_string() }));
        }
    }

    fn to_connection(&self, app: &App, connection: &str, name: &str, data: Value) {
        let to = Broadcast { connection: connection.to_owned(), ..Broadcast::default() };
        app.hub.publish(&Event::new(&format!("{PREFIX}{name}"), data, to), &[]);
    }

    /// To the members of a channel, but not to the plugin's own user.
    async fn tell(&self, app: &App, channel: &str, name: &str, data: Value) {
        self.tell_only(app, channel, "", name, data).await;
    }

    /// The same, to one of them where `user` names one.
    async fn tell_only(&self, app: &App, channel: &str, user: &str, name: &str, data: Value) {
        let members = app.db.rows("SELECT userid FROM channelmembers WHERE channelid = $1", &[&channel]).await.unwrap_or_default();
        let members: Vec<String> = members.iter().map(|row| row.get(0)).collect();
        let (user, channel, omit) = (user.to_owned(), channel.to_owned(), Some(self.bot.clone()));
        let to = Broadcast { user, channel, omit, ..Broadcast::default() };
        app.hub.publish(&Event::new(&format!("{PREFIX}{name}"), data, to), &members);
    }

    /// A message that only one user sees, and that is not kept.
    fn ephemeral(&self, app: &App, session: &Session, channel: &str, message: &str) {
        let post = json!({
            "id": new_id(), "create_at": crate::clock::now(), "update_at": 0, "edit_at": 0, "delete_at": 0, "is_pinned": false,
            "user_id": self.bot, "channel_id": channel, "root_id": "", "original_id": "", "message": message, "type": "system_ephemeral",
            "props": {}, "hashtags": "", "file_ids": null, "pending_post_id": "", "reply_count": 0, "last_reply_at": 0,
            "participants": null, "metadata": {}
        });
        let user = session.id().to_owned();
        let to = Broadcast { user: user.clone(), channel: channel.to_owned(), ..Broadcast::default() };
        app.hub.publish(&Event::new("ephemeral_message", json!({ "post": post.to_string() }), to), &[user]);
    }
}

/// The agent's name in ICE: as long as the real one's.
fn fragment(connection: &str) -> String {
    connection[..16].to_owned()
}

/// The answer to an offer: its media lines, with our side of ICE and no fingerprint that could be verified.
fn description(offer: &str, fragment: &str, password: &str, candidates: &[&str]) -> String {
    let mut lines = vec!["v=0".to_owned(), "o=- 1 1 IN IP4 0.0.0.0".into(), "s=-".into(), "t=0 0".into(), "a=ice-lite".into()];
    lines.push(format!("a=fingerprint:sha-256 {}", ["00"; 32].join(":")));
    lines.extend(offer.lines().find(|line| line.starts_with("a=group:BUNDLE")).map(str::to_owned));
    for line in offer.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words: Vec<&str> = media.split(' ').collect();
            if let Some(port) = words.get_mut(1) {
                *port = "9";
            }
            lines.push(format!("m={}", words.join(" ")));
            lines.extend(["c=IN IP4 0.0.0.0".to_owned(), "a=setup:active".into()]);
            lines.extend([format!("a=ice-ufrag:{fragment}"), format!("a=ice-pwd:{password}")]);
            lines.extend(candidates.iter().map(|candidate| format!("a={candidate}")));
            lines.push("a=end-of-candidates".into());
        } else if ["a=mid:", "a=sctp-port:", "a=rtpmap:", "a=rtcp-mux"].iter().any(|kept| line.starts_with(kept)) {
            lines.push(line.trim_end().to_owned());
        }
    }
    lines.join("\r\n") + "\r\n"
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn an_offer_is_found_in_its_two_wrappings() {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(br#"{"type":"offer","sdp":"v=0"}"#).expect("packed");
        let inner = rmpv::Value::Map(vec![("data".into(), rmpv::Value::Binary(packer.finish().expect("packed")))]);
        let action = format!("{PREFIX}sdp");
        let frame = rmpv::Value::Map(vec![("seq".into(), 2.into()), ("action".into(), action.as_str().into()), ("data".into(), inner)]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &frame).expect("packed");
        assert_eq!(unpack(&bytes), Some(("sdp".to_owned(), json!({ "type": "offer", "sdp": "v=0" }))));
        assert_eq!(unpack(b"no msgpack"), None);
    }

    #[test]
    fn every_media_line_is_answered() {
        let offer = "v=0\r\na=group:BUNDLE 0 1\r\nm=application 49174 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\nm=audio 49165 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n";
        let answer = description(offer, "here", "secret", &["candidate:1 1 udp 1 192.0.2.1 8443 typ host"]);
        assert_eq!(answer.matches("a=ice-ufrag:here\r\na=ice-pwd:secret\r\n").count(), 2);
        assert!(answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 96\r\n") && answer.contains("a=mid:1\r\n"), "{answer}");
    }
}
