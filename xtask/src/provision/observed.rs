//! What the server has of what is desired.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::{Desired, Tool};
use super::plan::is_ours;
use super::urls::Urls;
use crate::server::model::{Bot, Channel, Hook, Team};
use crate::server::{Client, Result};
use crate::site::secrets::Secret;

/// Who has the name of a tool's bot.
#[derive(Clone, Debug, Default)]
pub enum Account {
    /// Nobody.
    #[default]
    Missing,
    /// A bot.
    Bot(Bot),
    /// A person.
    Person,
}

/// What the server has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The team, also an archived one.
    pub team: Option<Team>,
    /// By name: those of [`Desired::channel_names`] that are there, archived or not.
    pub channels: BTreeMap<String, Channel>,
    /// By id: other channels in which webhooks of ours lie.
    pub elsewhere: BTreeMap<String, Channel>,
    /// Of each tool; one without an entry is missing.
    pub accounts: BTreeMap<Tool, Account>,
    /// Tools whose bot is in the team.
    pub in_team: BTreeSet<Tool>,
    /// Tools whose bot is in the channel of that id.
    pub in_channel: BTreeSet<(Tool, String)>,
    /// Every webhook of the team, in the order in which they were made.
    pub hooks: Vec<Hook>,
    /// Name in `secrets.env` → URL.
    pub urls: BTreeMap<String, Secret>,
}

impl Observed {
    /// The bot of a tool.
    pub fn bot(&self, tool: Tool) -> Option<&Bot> {
        match self.accounts.get(&tool) {
            Some(Account::Bot(bot)) => Some(bot),
            _ => None,
        }
    }
}

/// Asks the server, as an administrator.
pub fn observe(client: &Client, desired: &Desired, urls: &Urls) -> Result<Observed> {
    let mut observed = Observed { urls: urls.of(&desired.webhooks), ..Observed::default() };
    for tool in desired.tools() {
        observed.accounts.insert(tool, account(client, tool)?);
    }
    let Some(team) = client.team(desired.team.name.as_str())? else { return Ok(observed) };
    for name in desired.channel_names() {
        if let Some(channel) = client.channel(&team.id, name.as_str())? {
            observed.channels.insert(name.to_string(), channel);
        }
    }
    observed.hooks = client.hooks(&team.id)?;
    observed.hooks.sort_by(|left, right| (left.create_at, &left.id).cmp(&(right.create_at, &right.id)));
    elsewhere(client, desired, &mut observed)?;
    members(client, desired, &team, &mut observed)?;
    observed.team = Some(team);
    Ok(observed)
}

fn account(client: &Client, tool: Tool) -> Result<Account> {
    let Some(user) = client.user(tool.bot())? else { return Ok(Account::Missing) };
    if !user.is_bot {
        return Ok(Account::Person);
    }
    Ok(client.bot(&user.id)?.map_or(Account::Person, Account::Bot))
}

/// The channels of our webhooks that lie in none of those that are desired: renamed ones, or those of a tool that is gone.
fn elsewhere(client: &Client, desired: &Desired, observed: &mut Observed) -> Result<()> {
    let known: BTreeSet<&String> = observed.channels.values().map(|channel| &channel.id).collect();
    let ours = observed.hooks.iter().filter(|hook| is_ours(hook, desired, observed)).map(|hook| &hook.channel_id);
    let ids: BTreeSet<String> = ours.filter(|id| !known.contains(id)).cloned().collect();
    for id in ids {
        if let Some(channel) = client.channel_by_id(&id)? {
            observed.elsewhere.insert(id, channel);
        }
    }
    Ok(())
}

fn members(client: &Client, desired: &Desired, team: &Team, observed: &mut Observed) -> Result<()> {
    for tool in desired.tools() {
        let Some(bot) = observed.bot(tool).map(|bot| bot.user_id.clone()) else { continue };
        if !client.is_in_team(&team.id, &bot)? {
            continue;
        }
        observed.in_team.insert(tool);
        let told = desired.channels_of(tool).into_iter().filter_map(|name| observed.channels.get(name.as_str()));
        let channels: Vec<String> = told.chain(observed.elsewhere.values()).map(|channel| channel.id.clone()).collect();
        for channel in channels {
            if client.is_in_channel(&channel, &bot)? {
                observed.in_channel.insert((tool, channel));
            }
        }
    }
    Ok(())
}
