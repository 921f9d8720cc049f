//! The difference between what is desired and what was observed. Pure.

mod webhooks;

use images::{Class, Error, Result};

use super::action::Action;
use super::desired::{Desired, Tool};
use super::observed::{Account, Observed};
use crate::server::model::Channel;
use crate::site::model::Channel as Wanted;

pub(super) use webhooks::is_ours;

/// What has to be done, in order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Empty where the server is as it should be.
    pub actions: Vec<Action>,
    /// What differs and is left as it is, with the reason.
    pub remarks: Vec<String>,
    /// What is in the way and not ours to change: nothing is done then.
    pub conflicts: Vec<String>,
}

impl Plan {
    /// Fails where something is in the way.
    ///
    /// # Errors
    /// [`Class::Check`].
    pub fn check(&self) -> Result<()> {
        let error = Error::new(Class::Check, "something on the server is in the way, and not ours to change");
        match self.conflicts.is_empty() {
            true => Ok(()),
            false => Err(self.conflicts.iter().fold(error, |error, conflict| error.detail(conflict)).hint("nothing was changed")),
        }
    }
}

/// What has to be done so that the server has what is desired. What we did not make is left alone: other teams, channels, accounts and
/// webhooks.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    team(desired, observed, &mut plan);
    for wanted in &desired.channels {
        channel(wanted, observed, webhooks::renamed(desired, observed, &wanted.name), &mut plan);
    }
    for tool in desired.tools() {
        bot(tool, observed, &mut plan);
        membership(tool, desired, observed, &mut plan);
    }
    webhooks::plan(desired, observed, &mut plan);
    plan
}

fn team(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let team = desired.team.name.to_string();
    let Some(found) = &observed.team else {
        plan.actions.push(Action::CreateTeam { team });
        return;
    };
    if found.delete_at > 0 {
        plan.actions.push(Action::RestoreTeam { team: team.clone() });
    }
    if found.display_name != desired.team.display_name {
        plan.actions.push(Action::ChangeTeam { team, from: found.display_name.clone(), to: desired.team.display_name.clone() });
    }
}

fn channel(wanted: &Wanted, observed: &Observed, renamed: Option<&Channel>, plan: &mut Plan) {
    let channel = wanted.name.to_string();
    let Some(found) = observed.channels.get(&channel).or(renamed) else {
        plan.actions.push(Action::CreateChannel { channel });
        return;
    };
    // An archived channel cannot be changed.
    if found.delete_at > 0 {
        plan.actions.push(Action::RestoreChannel { channel: channel.clone() });
    }
    if found.name != channel {
        plan.actions.push(Action::RenameChannel { channel: channel.clone(), from: found.name.clone(), id: found.id.clone() });
    }
    let texts = [
        ("display name", &found.display_name, &wanted.display_name),
        ("purpose", &found.purpose, &wanted.purpose),
        ("header", &found.header, &wanted.header),
    ];
    let what: Vec<&str> = texts.into_iter().filter(|(_, found, wanted)| found != wanted).map(|(what, ..)| what).collect();
    if !what.is_empty() {
        plan.actions.push(Action::ChangeChannel { channel: channel.clone(), what });
    }
    match (found.is_private(), wanted.private) {
        (false, true) => plan.actions.push(Action::MakePrivate { channel }),
        (true, false) => plan.remarks.push(format!(
            "channel {channel} is private and stays so, although site.toml has it public: that would show everybody what was said in it"
        )),
        _ => {}
    }
}

fn bot(tool: Tool, observed: &Observed, plan: &mut Plan) {
    let bot = tool.bot();
    match observed.accounts.get(&tool) {
        None | Some(Account::Missing) => plan.actions.push(Action::CreateBot { bot, tool }),
        Some(Account::Person) => {
            plan.conflicts
                .push(format!("the account {bot} is a person's; rename it, or make it a bot: cargo xtask mmctl user convert {bot} --bot"));
        }
        // A plugin's bots belong to the plugin's id, which does not look like an account's.
        Some(Account::Bot(found)) if !found.owner_id.is_empty() && found.owner_id.len() != 26 => {
            plan.conflicts.push(format!("the bot {bot} belongs to the plugin {}", found.owner_id));
        }
        Some(Account::Bot(found)) => {
            if found.delete_at > 0 {
                plan.actions.push(Action::EnableBot { bot, tool });
            }
            if found.display_name != tool.display_name() || found.description != tool.bot_description() {
                plan.actions.push(Action::ChangeBot { bot, tool });
            }
        }
    }
}

fn membership(tool: Tool, desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let bot = tool.bot();
    if !observed.in_team.contains(&tool) {
        plan.actions.push(Action::JoinTeam { bot, tool });
    }
    for name in desired.channels_of(tool) {
        let found = observed.channels.get(name.as_str()).or_else(|| webhooks::renamed(desired, observed, name));
        if !found.is_some_and(|found| observed.in_channel.contains(&(tool, found.id.clone()))) {
            plan.actions.push(Action::JoinChannel { bot, tool, channel: name.to_string() });
        }
    }
}
