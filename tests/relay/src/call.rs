//! A call in a direct message, joined as the plugin's own clients join it: over Mattermost's WebSocket, with an offer of one channel for
//! data. The recordings of a real server are 209 and 210 of the contract.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use flate2::write::ZlibEncoder;
use images::{Class, Error, Result};
use serde_json::{Value, json};
use tungstenite::Message;
use xtask::turn::ice::Agent;

use crate::chat::{Chat, Socket};
use crate::{Site, random};

const PREFIX: &str = "custom_com.mattermost.calls_";
/// How long signalling may take, from the connection to the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A joined call; it is left when this is dropped.
pub struct Call {
    socket: Socket,
    sent: i64,
    end: Instant,
    own: String,
    /// The server's ICE agent for this session.
    pub agent: Agent,
    /// Where it takes media over UDP.
    pub address: SocketAddr,
}

impl Call {
    /// Joins the call of a channel. `candidate` is where the client says that it takes media, over UDP.
    pub fn join(site: &Site, chat: &Chat, channel: &str, candidate: SocketAddr) -> Result<Call> {
        let agent = Agent { fragment: String::new(), password: String::new() };
        let mut call = Call {
            socket: connect(site, chat)?,
            sent: 0,
            end: Instant::now() + PATIENCE,
            own: random(4)?,
            agent,
            address: SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0),
        };
        call.act("join", &json!({ "channelID": channel, "title": "", "threadID": "" }))?;
        call.event("join")?;
        let offer = json!({ "type": "offer", "sdp": offer(&call.own, &random(12)?, candidate, &random(32)?) });
        call.offer(&offer)?;
        call.answered()?;
        Ok(call)
    }

    /// The client's own fragment, which its requests name after the agent's.
    pub fn own(&self) -> &str {
        &self.own
    }

    fn act(&mut self, name: &str, data: &Value) -> Result<()> {
        self.sent += 1;
        let action = json!({ "seq": self.sent, "action": format!("{PREFIX}{name}"), "data": data });
        self.socket.send(Message::text(action.to_string())).map_err(|error| broken(&error))
    }

    /// Session descriptions are msgpack around zlib around JSON.
    fn offer(&mut self, offer: &Value) -> Result<()> {
        self.sent += 1;
        let mut packed = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(offer.to_string().as_bytes())?;
        let data = rmpv::Value::Map(vec![("data".into(), rmpv::Value::Binary(packed.finish()?))]);
        let action = format!("{PREFIX}sdp");
        let frame =
            rmpv::Value::Map(vec![("seq".into(), self.sent.into()), ("action".into(), action.as_str().into()), ("data".into(), data)]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &frame)
            .map_err(|error| Error::new(Class::Build, format!("the offer cannot be packed: {error}")))?;
        self.socket.send(Message::binary(bytes)).map_err(|error| broken(&error))
    }

    /// The data of the next event of that name; others pass. The plugin's word that something went wrong ends it.
    fn event(&mut self, wanted: &str) -> Result<Value> {
        while Instant::now() < self.end {
            let Message::Text(text) = self.socket.read().map_err(|error| broken(&error))? else { continue };
            let mut event: Value = serde_json::from_str(&text).unwrap_or_default();
            match event["event"].as_str().and_then(|name| name.strip_prefix(PREFIX)) {
                Some("error") => {
                    let why = event["data"]["data"].as_str().unwrap_or_default().to_owned();
                    return Err(Error::new(Class::Check, "the Calls plugin does not let a caller in").detail(why));
                }
                Some(name) if name == wanted => return Ok(event["data"].take()),
                _ => {}
            }
        }
        Err(Error::new(Class::Check, format!("no event {PREFIX}{wanted} within {} s", PATIENCE.as_secs())))
    }

    /// The answer and the candidate for UDP come in any order.
    fn answered(&mut self) -> Result<()> {
        while self.agent.fragment.is_empty() || self.address.port() == 0 {
            let signal = self.event("signal")?;
            let signal: Value = serde_json::from_str(signal["data"].as_str().unwrap_or_default()).unwrap_or_default();
            if let Some(agent) = signal["sdp"].as_str().and_then(agent) {
                self.agent = agent;
            }
            if let Some(address) = signal["candidate"]["candidate"].as_str().and_then(udp_host) {
                self.address = address;
            }
        }
        Ok(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // The plugin takes a connection that ends for somebody who leaves; saying so is quicker.
        let _ = self.act("leave", &json!({}));
        let _ = self.socket.close(None);
    }
}

fn connect(site: &Site, chat: &Chat) -> Result<Socket> {
    chat.socket(site, None)?.map_err(|(status, body)| {
        Error::new(Class::Check, "the WebSocket was not opened").detail("expected 101").detail(format!("seen     {status} {body}"))
    })
}

fn broken(error: &tungstenite::Error) -> Error {
    Error::new(Class::Check, "the WebSocket broke off").detail(error.to_string())
}

/// The offer of a client that has one candidate and wants one channel for data.
fn offer(fragment: &str, password: &str, candidate: SocketAddr, fingerprint: &str) -> String {
    let (ip, port) = (candidate.ip(), candidate.port());
    let digest: Vec<String> = fingerprint.as_bytes().chunks(2).map(|byte| String::from_utf8_lossy(byte).to_uppercase()).collect();
    let lines = [
        "v=0".to_owned(),
        "o=- 1 1 IN IP4 0.0.0.0".to_owned(),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        "a=group:BUNDLE 0".to_owned(),
        "a=msid-semantic:WMS *".to_owned(),
        format!("m=application {port} UDP/DTLS/SCTP webrtc-datachannel"),
        format!("c=IN IP4 {ip}"),
        "a=mid:0".to_owned(),
        "a=sctp-port:5000".to_owned(),
        "a=max-message-size:262144".to_owned(),
        format!("a=candidate:1 1 udp 16777215 {ip} {port} typ relay raddr 0.0.0.0 rport 9"),
        "a=end-of-candidates".to_owned(),
        format!("a=ice-ufrag:{fragment}"),
        format!("a=ice-pwd:{password}"),
        format!("a=fingerprint:sha-256 {}", digest.join(":")),
        "a=setup:actpass".to_owned(),
    ];
    lines.join("\r\n") + "\r\n"
}

/// Who answers, by a session description.
fn agent(description: &str) -> Option<Agent> {
    let value = |name: &str| description.lines().find_map(|line| line.trim_end().strip_prefix(name)).map(str::to_owned);
    Some(Agent { fragment: value("a=ice-ufrag:")?, password: value("a=ice-pwd:")? })
}

/// The address of a host candidate for UDP (RFC 8839 section 5.1).
fn udp_host(candidate: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = candidate.split(' ').collect();
    let [_, _, protocol, _, ip, port, "typ", "host", ..] = words.as_slice() else { return None };
    protocol.eq_ignore_ascii_case("udp").then_some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From recording 209, with a password of our own for the one that was taken out.
    #[test]
    fn what_a_real_server_signalled_is_understood() {
        let text = "v=0\r\no=- 349555270104270162 1795320315 IN IP4 0.0.0.0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
                    a=ice-ufrag:soUmBjupNZjRFogX\r\na=ice-pwd:secret\r\n";
        assert_eq!(agent(text), Some(Agent { fragment: "soUmBjupNZjRFogX".to_owned(), password: "secret".to_owned() }));
        assert_eq!(agent("v=0\r\n"), None);
        let udp = "candidate:2878742611 1 udp 2130706431 127.0.0.1 8443 typ host ufrag soUmBjupNZjRFogX";
        assert_eq!(udp_host(udp), Some("127.0.0.1:8443".parse().unwrap()));
        assert_eq!(udp_host("candidate:375738803 1 tcp 1671430143 127.0.0.1 8443 typ host tcptype passive"), None);
    }

    #[test]
    fn an_offer_has_the_lines_of_the_recorded_one() {
        let recorded = include_str!("../../mattermost-double/contract/209-call-dm-relay-admin.json");
        let recorded: Value = serde_json::from_str(recorded).unwrap();
        let frames = recorded["frames"].as_array().unwrap();
        let sent = frames.iter().find(|frame| frame[0] == "send-binary-msgpack").unwrap()[1]["data"]["decoded"]["sdp"].as_str().unwrap();
        let kinds = |text: &str| text.lines().map(|line| line.split([':', ' ']).next().unwrap().to_owned()).collect::<Vec<_>>();
        let mut wanted = kinds(sent);
        wanted.dedup();
        assert_eq!(kinds(&offer("abcd", "password", "192.0.2.1:49160".parse().unwrap(), "0a0b")), wanted);
    }
}
