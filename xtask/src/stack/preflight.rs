//! What has to be right before anything is started: every problem at once, each with what mends it.

use images::{Class, Error, Result};

use super::Stack;
use crate::doctor::{Report, gather};

/// Looks, and lists everything that would keep the stack from starting.
pub fn check(stack: &Stack) -> Result<()> {
    let survey = stack.engine.survey()?;
    let checks = gather::in_the_way(&stack.folder, &stack.site, Some(&stack.engine), Some(&survey))?;
    let problems = Report::of(checks.into_iter().filter(|check| check.is_problem()).collect());
    match problems.ok {
        true => Ok(()),
        false => Err(problems.lines().into_iter().fold(Error::new(Class::Check, "the stack cannot be started"), Error::detail)),
    }
}
