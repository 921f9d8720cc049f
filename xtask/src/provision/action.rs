//! One step of a plan: what a person reads, and what `--json` prints. No form of it shows a webhook's id.

use std::fmt;

use serde::Serialize;

use super::desired::Tool;
use crate::server::model::{Hook, HookId};

/// One step. Names are those of `site.toml`; `apply` finds the ids.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are the names of things")]
pub enum Action {
    /// Make the team.
    CreateTeam { team: String },
    /// Bring the archived team back.
    RestoreTeam { team: String },
    /// Give the team the display name of `site.toml`.
    ChangeTeam { team: String, from: String, to: String },
    /// Give a channel that was renamed its name again.
    RenameChannel {
        channel: String,
        from: String,
        #[serde(skip)]
        id: String,
    },
    /// Make a channel.
    CreateChannel { channel: String },
    /// Bring an archived channel back.
    RestoreChannel { channel: String },
    /// Give a channel the texts of `site.toml`; `what` are those that differ.
    ChangeChannel { channel: String, what: Vec<&'static str> },
    /// Make a public channel private.
    MakePrivate { channel: String },
    /// Make a bot account.
    CreateBot { bot: &'static str, tool: Tool },
    /// Bring a deactivated bot back.
    EnableBot { bot: &'static str, tool: Tool },
    /// Give a bot its names again.
    ChangeBot { bot: &'static str, tool: Tool },
    /// Put a bot into the team.
    JoinTeam { bot: &'static str, tool: Tool },
    /// Put a bot into a channel.
    JoinChannel { bot: &'static str, tool: Tool, channel: String },
    /// Make a webhook.
    CreateWebhook { tool: Tool, channel: String },
    /// Undo what was changed about a webhook, which keeps its URL; `what` differs.
    ChangeWebhook {
        tool: Tool,
        channel: String,
        what: Vec<&'static str>,
        #[serde(skip)]
        hook: Box<Hook>,
    },
    /// Delete a webhook of ours.
    DeleteWebhook {
        name: String,
        why: &'static str,
        #[serde(skip)]
        hook: HookId,
    },
    /// Keep the URL of a webhook in `secrets.env`.
    KeepUrl {
        name: String,
        #[serde(skip)]
        hook: HookId,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::CreateTeam { team } => write!(f, "+ team {team}"),
            Action::RestoreTeam { team } => write!(f, "~ team {team}: bring it back from the archive"),
            Action::ChangeTeam { team, from, to } => write!(f, "~ team {team}: display name \"{from}\" → \"{to}\""),
            Action::RenameChannel { channel, from, .. } => write!(f, "~ channel {channel}: it is called {from} now"),
            Action::CreateChannel { channel } => write!(f, "+ channel {channel}"),
            Action::RestoreChannel { channel } => write!(f, "~ channel {channel}: bring it back from the archive"),
            Action::ChangeChannel { channel, what } => write!(f, "~ channel {channel}: {}", what.join(", ")),
            Action::MakePrivate { channel } => write!(f, "~ channel {channel}: private"),
            Action::CreateBot { bot, .. } => write!(f, "+ bot {bot}"),
            Action::EnableBot { bot, .. } => write!(f, "~ bot {bot}: activate it again"),
            Action::ChangeBot { bot, .. } => write!(f, "~ bot {bot}: names"),
            Action::JoinTeam { bot, .. } => write!(f, "+ bot {bot} in the team"),
            Action::JoinChannel { bot, channel, .. } => write!(f, "+ bot {bot} in channel {channel}"),
            Action::CreateWebhook { tool, channel } => write!(f, "+ webhook of {tool} in {channel}"),
            Action::ChangeWebhook { tool, channel, what, .. } => write!(f, "~ webhook of {tool} in {channel}: {}", what.join(", ")),
            Action::DeleteWebhook { name, why, .. } => write!(f, "- webhook \"{name}\": {why}"),
            Action::KeepUrl { name, .. } => write!(f, "~ secrets.env: {name}"),
        }
    }
}
