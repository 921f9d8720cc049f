//! The Mattermost API (version 4), as far as the first start and provisioning need it: typed, small, no more than that.
//!
//! What a real server answers stands in `tests/mattermost-double/contract`; where a call here relies on something that the API's
//! documentation does not say, a comment names the recording.

mod api;
mod call;
mod client;
mod failure;
pub mod model;
pub(crate) mod pause;
pub mod plugins;
pub mod settings;
pub mod start;

pub use api::{ChannelPatch, NewHook};
pub use client::{Client, Endpoint, Patience};
pub use failure::{Distrust, Failure, Result, distrust};
