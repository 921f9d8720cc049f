//! Who is in which call.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::{new_id, now};

/// A call.
pub struct Room {
    id: String,
    started: i64,
    post: String,
    owner: String,
    host: String,
    sessions: Vec<(String, String, bool)>,
}

/// Calls by channel.
#[derive(Default)]
pub struct Rooms(BTreeMap<String, Room>);

impl Rooms {
    /// Takes a session in; whether the call began with it.
    pub fn join(&mut self, channel: &str, session: &str, user: &str) -> bool {
        let begins = !self.0.contains_key(channel);
        let room = self.0.entry(channel.to_owned()).or_insert_with(|| Room {
            id: new_id(),
            started: now(),
            post: String::new(),
            owner: user.to_owned(),
            host: user.to_owned(),
            sessions: Vec::new(),
        });
        room.sessions.push((session.to_owned(), user.to_owned(), false));
        begins
    }

    /// Notes the post that says that the call began.
    pub fn posted(&mut self, channel: &str, post: &str) {
        if let Some(room) = self.0.get_mut(channel) {
            room.post = post.to_owned();
        }
    }

    /// Lets a session go: its channel and user.
    pub fn leave(&mut self, session: &str) -> Option<(String, String)> {
        let channel = self.channel_of(session)?;
        let room = self.0.get_mut(&channel)?;
        let at = room.sessions.iter().position(|(id, ..)| id == session)?;
        let (_, user, _) = room.sessions.remove(at);
        if room.sessions.is_empty() {
            self.0.remove(&channel);
        }
        Some((channel, user))
    }

    /// The channel of a session.
    pub fn channel_of(&self, session: &str) -> Option<String> {
        self.0.iter().find(|(_, room)| room.sessions.iter().any(|(id, ..)| id == session)).map(|(channel, _)| channel.clone())
    }

    /// Notes whether a session is heard.
    pub fn unmute(&mut self, session: &str, heard: bool) {
        for (id, _, unmuted) in self.0.values_mut().flat_map(|room| &mut room.sessions) {
            if id == session {
                *unmuted = heard;
            }
        }
    }

    /// A call as clients see it.
    pub fn state(&self, channel: &str) -> Option<Value> {
        let room = self.0.get(channel)?;
        let session = |(id, user, unmuted): &(String, String, bool)| json!({ "session_id": id, "user_id": user, "unmuted": unmuted, "raised_hand": 0 });
        Some(json!({
            "id": room.id, "start_at": room.started, "sessions": room.sessions.iter().map(session).collect::<Vec<_>>(),
            "thread_id": room.post, "post_id": room.post, "screen_sharing_session_id": "", "owner_id": room.owner, "host_id": room.host
        }))
    }

    /// Calls and sessions.
    pub fn count(&self) -> (usize, usize) {
        (self.0.len(), self.0.values().map(|room| room.sessions.len()).sum())
    }
}
