//! What the server tells of things. Times are in milliseconds since 1970; a `delete_at` above 0 says since when a thing is archived,
//! deactivated or deleted. Ids are 26 characters of `a-z0-9`.

use std::fmt;

use images::{Class, Error};
use serde::{Deserialize, Serialize};

/// The oldest major version whose API this is for.
const OLDEST: u32 = 11;

/// Id of an incoming webhook: whoever knows it can post, so it is a credential and never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct HookId(String);

impl HookId {
    /// The last segment of a webhook's URL, if it has the form of an id.
    pub fn of_url(url: &str) -> Option<HookId> {
        let (_, id) = url.rsplit_once("/hooks/")?;
        let well_formed = id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        well_formed.then(|| HookId(id.to_owned()))
    }

    /// The id, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookId(…)")
    }
}

/// An account: a person's or a bot's.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct User {
    pub id: String,
    pub username: String,
    #[serde(default)]
    pub email: String,
    /// Separated by spaces, in any order.
    #[serde(default)]
    pub roles: String,
    #[serde(default)]
    pub delete_at: i64,
    /// Left out of people's accounts.
    #[serde(default)]
    pub is_bot: bool,
}

impl User {
    /// Whether it may do everything.
    pub fn is_administrator(&self) -> bool {
        self.roles.split_whitespace().any(|role| role == "system_admin")
    }
}

/// A bot account; its `user_id` is the id of the account behind it.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct Bot {
    pub user_id: String,
    pub username: String,
    #[serde(default)]
    pub display_name: String,
    #[serde(default)]
    pub description: String,
    /// The account that made it, or the id of a plugin.
    #[serde(default)]
    pub owner_id: String,
    #[serde(default)]
    pub delete_at: i64,
}

/// A team.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct Team {
    pub id: String,
    pub name: String,
    pub display_name: String,
    #[serde(default)]
    pub delete_at: i64,
}

/// A channel.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct Channel {
    pub id: String,
    pub team_id: String,
    pub name: String,
    pub display_name: String,
    #[serde(default)]
    pub purpose: String,
    #[serde(default)]
    pub header: String,
    /// `O` public, `P` private, `D` and `G` direct messages.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub delete_at: i64,
}

impl Channel {
    /// Whether it is by invitation.
    pub fn is_private(&self) -> bool {
        self.kind == "P"
    }
}

/// An incoming webhook.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct Hook {
    pub id: HookId,
    /// Its owner, as whom it posts.
    pub user_id: String,
    pub channel_id: String,
    pub team_id: String,
    #[serde(default)]
    pub display_name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub icon_url: String,
    #[serde(default)]
    pub channel_locked: bool,
    #[serde(default)]
    pub create_at: i64,
}

/// How a plugin fares.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the server's names")]
pub struct PluginStatus {
    pub plugin_id: String,
    /// 2 is running, 3 failed to start.
    pub state: i64,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub version: String,
}

impl PluginStatus {
    /// State of a plugin that runs.
    pub const RUNNING: i64 = 2;

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == Self::RUNNING
    }
}

/// What `system/ping?get_server_status=true` says. Without the question the server says OK while its database is down.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the server's names")]
pub struct Health {
    pub status: String,
    pub database_status: String,
    pub filestore_status: String,
    /// Of the server, such as `11.0.2`; from the header `X-Version-Id`.
    #[serde(skip)]
    pub version: String,
}

impl Health {
    /// Whether server, database and file store work.
    pub fn is_good(&self) -> bool {
        self.status == "OK"
    }

    /// Fails for a server that is not well, or that these calls are not for.
    ///
    /// # Errors
    /// [`Class::Server`].
    pub fn check(&self) -> images::Result<()> {
        let found = if self.version.is_empty() { "none" } else { &self.version };
        let major: Option<u32> = self.version.split('.').next().and_then(|major| major.parse().ok());
        if major.is_none_or(|major| major < OLDEST) {
            return Err(Error::new(Class::Server, "the server has another version")
                .detail(format!("expected Mattermost {OLDEST} or newer"))
                .detail(format!("found    {found}"))
                .hint("is this the address of the site's server?"));
        }
        match self.is_good() {
            true => Ok(()),
            false => Err(Error::new(Class::Server, "Mattermost runs, but is not well")
                .detail(format!("database {}", self.database_status))
                .detail(format!("files    {}", self.filestore_status))
                .hint("`cargo xtask logs mattermost postgres` may say why")),
        }
    }
}
