//! Which webhook is which: the server allows any number that look alike.
//!
//! A webhook is ours by its name (`Jenkins (chatops)`), by its description, or because its URL is in `secrets.env` and our bot owns it:
//! so a hand that changes one of them does not make it a stranger. What none of them names was made by somebody else.

use std::cmp::Reverse;

use super::Plan;
use crate::provision::action::Action;
use crate::provision::desired::{Desired, MARK, Tool, Webhook};
use crate::provision::observed::Observed;
use crate::server::model::{Channel, Hook, HookId};
use crate::site::names::ChatName;

/// What a webhook is to us.
enum Claim<'a> {
    /// It is, or should be, this one.
    Wanted(&'a Webhook),
    /// We made it, and nothing asks for it any more.
    Unwanted,
    /// Somebody else's.
    Foreign,
}

/// Whether we made it.
pub(in crate::provision) fn is_ours(hook: &Hook, desired: &Desired, observed: &Observed) -> bool {
    !matches!(claim(hook, desired, observed), Claim::Foreign)
}

fn claim<'a>(hook: &Hook, desired: &'a Desired, observed: &Observed) -> Claim<'a> {
    let marked = hook.description.starts_with(MARK) || Tool::ALL.iter().any(|tool| hook.display_name == tool.webhook_name());
    let of_our_bot = Tool::ALL.iter().any(|tool| observed.bot(*tool).is_some_and(|bot| bot.user_id == hook.user_id));
    if !marked && !of_our_bot {
        return Claim::Foreign;
    }
    let by = |is: &dyn Fn(&&Webhook) -> bool| desired.webhooks.iter().find(is);
    let wanted = by(&|wanted| url_id(wanted, observed).is_some_and(|id| id == hook.id))
        .or_else(|| by(&|wanted| wanted.description() == hook.description))
        .or_else(|| by(&|wanted| wanted.tool.webhook_name() == hook.display_name && is_in(hook, wanted, observed)));
    match (wanted, marked) {
        (Some(wanted), _) => Claim::Wanted(wanted),
        (None, true) => Claim::Unwanted,
        (None, false) => Claim::Foreign,
    }
}

/// The id in the URL that is kept for a webhook.
fn url_id(wanted: &Webhook, observed: &Observed) -> Option<HookId> {
    HookId::of_url(observed.urls.get(&wanted.secret_name())?.expose())
}

fn is_in(hook: &Hook, wanted: &Webhook, observed: &Observed) -> bool {
    observed.channels.get(wanted.channel.as_str()).is_some_and(|channel| channel.id == hook.channel_id)
}

/// Where a channel went that no longer has its name: to the channel in which a webhook for it lies, with its bot. A webhook that a hand
/// moved elsewhere lies in a channel without the bot, and proves nothing.
pub(super) fn renamed<'a>(desired: &Desired, observed: &'a Observed, name: &ChatName) -> Option<&'a Channel> {
    if observed.channels.contains_key(name.as_str()) {
        return None;
    }
    observed.hooks.iter().find_map(|hook| {
        let Claim::Wanted(wanted) = claim(hook, desired, observed) else { return None };
        let channel = observed.elsewhere.get(&hook.channel_id).filter(|_| wanted.channel == *name)?;
        observed.in_channel.contains(&(wanted.tool, channel.id.clone())).then_some(channel)
    })
}

/// Adds what has to be done about webhooks: first those that stay or come, then their URLs, then those that go.
pub(super) fn plan(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let mut deletions = Vec::new();
    for wanted in &desired.webhooks {
        let mut found: Vec<&Hook> = observed
            .hooks
            .iter()
            .filter(|hook| matches!(claim(hook, desired, observed), Claim::Wanted(other) if other == wanted))
            .collect();
        // The one whose URL the tools have is the best one to keep; then the one in its place, and the oldest.
        found.sort_by_key(|hook| {
            Reverse((is_owned(hook, wanted, observed), url_id(wanted, observed).as_ref() == Some(&hook.id), is_in(hook, wanted, observed)))
        });
        let (kept, others) = match found.split_first() {
            Some((best, others)) if is_owned(best, wanted, observed) => (Some(*best), others),
            _ => (None, found.as_slice()),
        };
        match kept {
            Some(hook) => keep(hook, wanted, desired, observed, plan),
            None => plan.actions.push(Action::CreateWebhook { tool: wanted.tool, channel: wanted.channel.to_string() }),
        }
        deletions.extend(others.iter().map(|hook| match is_owned(hook, wanted, observed) {
            true => delete(hook, "another one does the same"),
            false => delete(hook, "it does not belong to the tool's bot"),
        }));
    }
    let unwanted = observed.hooks.iter().filter(|hook| matches!(claim(hook, desired, observed), Claim::Unwanted));
    deletions.extend(unwanted.map(|hook| delete(hook, "site.toml asks for it no more")));
    plan.actions.extend(deletions);
}

fn is_owned(hook: &Hook, wanted: &Webhook, observed: &Observed) -> bool {
    observed.bot(wanted.tool).is_some_and(|bot| bot.user_id == hook.user_id)
}

fn keep(hook: &Hook, wanted: &Webhook, desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let lies =
        is_in(hook, wanted, observed) || renamed(desired, observed, &wanted.channel).is_some_and(|channel| channel.id == hook.channel_id);
    let fields = [
        ("channel", lies),
        ("name", hook.display_name == wanted.tool.webhook_name()),
        ("description", hook.description == wanted.description()),
        ("lock", hook.channel_locked == wanted.is_locked()),
    ];
    let what: Vec<&str> = fields.into_iter().filter(|(_, good)| !good).map(|(what, _)| what).collect();
    if !what.is_empty() {
        let (tool, channel) = (wanted.tool, wanted.channel.to_string());
        plan.actions.push(Action::ChangeWebhook { tool, channel, what, hook: Box::new(hook.clone()) });
    }
    let url = format!("{}/hooks/{}", desired.url, hook.id.expose());
    if observed.urls.get(&wanted.secret_name()).is_none_or(|kept| kept.expose() != url) {
        plan.actions.push(Action::KeepUrl { name: wanted.secret_name(), hook: hook.id.clone() });
    }
}

fn delete(hook: &Hook, why: &'static str) -> Action {
    Action::DeleteWebhook { name: hook.display_name.clone(), why, hook: hook.id.clone() }
}
