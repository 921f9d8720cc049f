//! Every step, in the order in which an auditor asks.

mod egress;
mod faults;
mod images;
mod persistence;
pub mod plugins;
mod provisioning;
mod relay;
mod slow;
mod start;
mod tls;
mod webhooks;

use crate::step::Step;

pub use egress::EGRESS;
pub use start::UP;

/// Every step that runs inside, that about egress too.
pub fn every() -> impl Iterator<Item = &'static Step> {
    all().chain([&EGRESS])
}

/// Every step that runs inside but that about egress, which comes last of all, because its probes are counted.
pub fn all() -> impl Iterator<Item = &'static Step> {
    [
        start::STEPS,
        images::STEPS,
        tls::STEPS,
        relay::STEPS,
        webhooks::STEPS,
        plugins::STEPS,
        provisioning::STEPS,
        faults::STEPS,
        slow::STEPS,
        persistence::STEPS,
    ]
    .into_iter()
    .flatten()
}
