//! Who listens, and what they are told.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

/// Whom an event is for: what is not empty has to fit.
#[derive(Clone, Debug, Default)]
pub struct Broadcast {
    /// A user.
    pub user: String,
    /// A channel.
    pub channel: String,
    /// A connection.
    pub connection: String,
    /// A user who is left out.
    pub omit: Option<String>,
}

/// What is told.
#[derive(Clone, Debug)]
pub struct Event {
    name: String,
    data: Value,
    broadcast: Broadcast,
}

impl Event {
    /// An event.
    pub fn new(name: &str, data: Value, broadcast: Broadcast) -> Self {
        Event { name: name.to_owned(), data, broadcast }
    }

    /// As a client reads it; each connection counts for itself.
    pub fn numbered(&self, seq: i64) -> Value {
        let omit = self.broadcast.omit.as_ref().map(|user| json!({ user: true }));
        json!({
            "event": self.name, "data": self.data, "seq": seq, "broadcast": {
                "omit_users": omit, "user_id": self.broadcast.user, "channel_id": self.broadcast.channel, "team_id": "",
                "connection_id": self.broadcast.connection, "omit_connection_id": ""
            }
        })
    }
}

struct Listener {
    user: String,
    token: String,
    sender: UnboundedSender<Event>,
}

/// Every connection that has signed in.
#[derive(Default)]
pub struct Hub(Mutex<BTreeMap<String, Listener>>);

impl Hub {
    fn listeners(&self) -> MutexGuard<'_, BTreeMap<String, Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a connection.
    pub fn join(&self, connection: &str, user: &str, token: &str, sender: UnboundedSender<Event>) {
        self.listeners().insert(connection.to_owned(), Listener { user: user.to_owned(), token: token.to_owned(), sender });
    }

    /// Forgets one.
    pub fn leave(&self, connection: &str) {
        self.listeners().remove(connection);
    }

    /// Ends the connections of a session that is over.
    pub fn close_token(&self, token: &str) {
        self.listeners().retain(|_, listener| listener.token != token);
    }

    /// Ends all.
    pub fn close(&self) {
        self.listeners().clear();
    }

    /// To everybody whom the broadcast names. Nobody who has gone is told.
    pub fn publish(&self, event: &Event, members: &[String]) {
        let to = &event.broadcast;
        for (connection, listener) in self.listeners().iter() {
            let named = (to.connection.is_empty() || to.connection == *connection)
                && (to.user.is_empty() || to.user == listener.user)
                && (to.channel.is_empty() || members.contains(&listener.user));
            if named {
                // The receiver is dropped a moment before the connection leaves.
                let _ = listener.sender.send(event.clone());
            }
        }
    }

    /// To the members of a channel.
    pub fn to_channel(&self, channel: &str, members: &[String], name: &str, data: &Value) {
        let broadcast = Broadcast { channel: channel.to_owned(), ..Broadcast::default() };
        self.publish(&Event::new(name, data.clone(), broadcast), members);
    }
}
