//! Team, channels, bots and webhooks: what `site.toml` says, what the server has, the difference as a plan, and its doing.
//!
//! Nothing is remembered between runs but the webhooks' URLs: the server's state decides. So a run that was cut off anywhere is
//! finished by the next one, and what people changed by hand comes back as it should be.

mod action;
mod apply;
mod desired;
mod observed;
mod plan;
mod urls;

use images::{Class, Error, Result};

use crate::server::Client;

pub use action::Action;
pub use desired::{Desired, Tool, Webhook, webhook_url};
pub use observed::{Account, Observed, observe};
pub use plan::{Plan, plan};
pub use urls::Urls;

/// How often it is looked what the server has: once before, once after, and twice more where a connection was cut.
const LOOKS: usize = 4;

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// In the order in which it was done.
    pub actions: Vec<Action>,
    /// What differs and is left as it is, with the reason.
    pub remarks: Vec<String>,
}

/// What would be done.
///
/// # Errors
/// [`Class::Server`] where the server does not answer or refuses.
pub fn difference(client: &Client, desired: &Desired, urls: &Urls) -> Result<Plan> {
    Ok(plan(desired, &observe(client, desired, urls)?))
}

/// Makes the server what `desired` says, and reads it back: when this returns, the server has it. `say` is told each step.
///
/// # Errors
/// [`Class::Check`] where something is in the way that is not ours to change; [`Class::Server`] where the server does not answer,
/// refuses, or does not keep what it accepted.
pub fn provision(client: &Client, desired: &Desired, urls: &mut Urls, say: &mut dyn FnMut(&str)) -> Result<Done> {
    let mut done = Done::default();
    for _ in 0..LOOKS {
        let observed = observe(client, desired, urls)?;
        let plan = plan(desired, &observed);
        plan.check()?;
        done.remarks = plan.remarks;
        if plan.actions.is_empty() {
            return Ok(done);
        }
        match apply::apply(client, desired, &observed, &plan.actions, urls, &mut |action| {
            say(&action.to_string());
            done.actions.push(action.clone());
        }) {
            Err(apply::Stop::Unsure(failure)) => say(&format!("{}; looking what became of it", Error::from(failure).message())),
            Err(apply::Stop::Failed(error)) => return Err(error),
            Ok(()) => {}
        }
    }
    let left = difference(client, desired, urls)?;
    match left.actions.is_empty() {
        true => Ok(done),
        false => Err(left.actions.iter().fold(
            Error::new(Class::Server, "the server does not keep what it accepted").hint("is somebody else changing it at the same time?"),
            |error, action| error.detail(action.to_string()),
        )),
    }
}

#[cfg(test)]
mod tests;
