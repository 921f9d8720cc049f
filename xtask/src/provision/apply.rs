//! The doing of a plan.

use std::collections::BTreeMap;

use images::{Class, Error};

use super::action::Action;
use super::desired::{Desired, Tool, Webhook};
use super::observed::Observed;
use super::urls::Urls;
use crate::server::model::{Bot, Hook};
use crate::server::{ChannelPatch, Client, Failure, NewHook};
use crate::site::model::Channel;

/// Why it went no further.
pub enum Stop {
    /// Whether the last step was done is not known: the server's state tells.
    Unsure(Failure),
    /// It was not done.
    Failed(Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        match failure.is_uncertain() {
            true => Stop::Unsure(failure),
            false => Stop::Failed(failure.into()),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// Does `actions`, of a plan for `desired` and `observed`, in order; `done` is told each one that is done.
pub fn apply(
    client: &Client,
    desired: &Desired,
    observed: &Observed,
    actions: &[Action],
    urls: &mut Urls,
    done: &mut dyn FnMut(&Action),
) -> Result<(), Stop> {
    let mut ids = Ids::of(observed);
    for action in actions {
        step(client, desired, action, &mut ids, urls)?;
        done(action);
    }
    Ok(())
}

/// What things are called on the server.
struct Ids {
    team: Option<String>,
    channels: BTreeMap<String, String>,
    bots: BTreeMap<Tool, Bot>,
}

impl Ids {
    fn of(observed: &Observed) -> Ids {
        Ids {
            team: observed.team.as_ref().map(|team| team.id.clone()),
            channels: observed.channels.iter().map(|(name, channel)| (name.clone(), channel.id.clone())).collect(),
            bots: Tool::ALL.iter().filter_map(|tool| Some((*tool, observed.bot(*tool)?.clone()))).collect(),
        }
    }

    fn team(&self) -> Result<&str, Error> {
        self.team.as_deref().ok_or_else(|| lost("the team"))
    }

    fn channel(&self, name: &str) -> Result<&str, Error> {
        self.channels.get(name).map(String::as_str).ok_or_else(|| lost(&format!("channel {name}")))
    }

    fn bot(&self, tool: Tool) -> Result<&Bot, Error> {
        self.bots.get(&tool).ok_or_else(|| lost(tool.bot()))
    }
}

/// A plan makes what it uses, but for `town-square`, which a team cannot be without.
fn lost(what: &str) -> Error {
    Error::new(Class::Server, format!("{what} is not on the server")).hint("was it removed just now? The same command again looks anew")
}

fn step(client: &Client, desired: &Desired, action: &Action, ids: &mut Ids, urls: &mut Urls) -> Result<(), Stop> {
    match action {
        Action::CreateTeam { team } => {
            let team = client.create_team(team, &desired.team.display_name)?;
            // A team comes with channels of its own.
            for name in desired.channel_names() {
                if let Some(channel) = client.channel(&team.id, name.as_str())? {
                    ids.channels.insert(name.to_string(), channel.id);
                }
            }
            ids.team = Some(team.id);
        }
        Action::RestoreTeam { .. } => drop(client.restore_team(ids.team()?)?),
        Action::ChangeTeam { to, .. } => drop(client.change_team(ids.team()?, to)?),
        Action::RenameChannel { channel, id, .. } => {
            let patch = ChannelPatch { name: Some(channel.clone()), ..ChannelPatch::default() };
            client.change_channel(id, &patch)?;
            ids.channels.insert(channel.clone(), id.clone());
        }
        Action::CreateChannel { channel } => create_channel(client, wanted_channel(desired, channel)?, ids)?,
        Action::RestoreChannel { channel } => drop(client.restore_channel(ids.channel(channel)?)?),
        Action::ChangeChannel { channel, .. } => {
            drop(client.change_channel(ids.channel(channel)?, &texts(wanted_channel(desired, channel)?))?);
        }
        Action::MakePrivate { channel } => drop(client.make_private(ids.channel(channel)?)?),
        Action::CreateBot { bot, tool } => {
            let made = client.create_bot(bot, tool.display_name(), &tool.bot_description())?;
            ids.bots.insert(*tool, made);
        }
        Action::EnableBot { tool, .. } => drop(client.enable_bot(&ids.bot(*tool)?.user_id)?),
        Action::ChangeBot { tool, .. } => {
            drop(client.change_bot(ids.bot(*tool)?, tool.display_name(), &tool.bot_description())?);
        }
        Action::JoinTeam { tool, .. } => client.join_team(ids.team()?, &ids.bot(*tool)?.user_id)?,
        Action::JoinChannel { tool, channel, .. } => client.join_channel(ids.channel(channel)?, &ids.bot(*tool)?.user_id)?,
        Action::CreateWebhook { tool, channel } => {
            let wanted = wanted_webhook(desired, *tool, channel)?;
            let made = client.create_hook(&NewHook {
                user_id: ids.bot(*tool)?.user_id.clone(),
                channel_id: ids.channel(channel)?.to_owned(),
                display_name: tool.webhook_name(),
                description: wanted.description(),
                channel_locked: wanted.is_locked(),
            })?;
            urls.keep(&wanted.secret_name(), &desired.url, &made.id)?;
        }
        Action::ChangeWebhook { tool, channel, hook, .. } => {
            let wanted = wanted_webhook(desired, *tool, channel)?;
            client.change_hook(&Hook {
                channel_id: ids.channel(channel)?.to_owned(),
                display_name: tool.webhook_name(),
                description: wanted.description(),
                channel_locked: wanted.is_locked(),
                ..Hook::clone(hook)
            })?;
        }
        Action::DeleteWebhook { hook, .. } => client.delete_hook(hook)?,
        Action::KeepUrl { name, hook } => urls.keep(name, &desired.url, hook)?,
    }
    Ok(())
}

fn create_channel(client: &Client, wanted: &Channel, ids: &mut Ids) -> Result<(), Stop> {
    let patch = ChannelPatch { name: Some(wanted.name.to_string()), ..texts(wanted) };
    let kind = if wanted.private { "P" } else { "O" };
    // A channel that a new team brings along is there already.
    let made = match ids.channels.get(wanted.name.as_str()) {
        Some(id) => client.change_channel(id, &texts(wanted))?,
        None => client.create_channel(ids.team()?, kind, &patch)?,
    };
    ids.channels.insert(wanted.name.to_string(), made.id);
    Ok(())
}

fn texts(wanted: &Channel) -> ChannelPatch {
    ChannelPatch {
        name: None,
        display_name: Some(wanted.display_name.clone()),
        purpose: Some(wanted.purpose.clone()),
        header: Some(wanted.header.clone()),
    }
}

fn wanted_channel<'a>(desired: &'a Desired, name: &str) -> Result<&'a Channel, Error> {
    desired.channels.iter().find(|channel| channel.name.as_str() == name).ok_or_else(|| lost(name))
}

fn wanted_webhook<'a>(desired: &'a Desired, tool: Tool, channel: &str) -> Result<&'a Webhook, Error> {
    let found = desired.webhooks.iter().find(|webhook| webhook.tool == tool && webhook.channel.as_str() == channel);
    found.ok_or_else(|| lost(channel))
}
