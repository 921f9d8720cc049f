//! A registry of images (OCI distribution-spec 1.1): where it is, who asks it, and how an image gets there.
//!
//! It speaks through the project's one HTTP client. What a registry answers is believed only as far as it can be compared: a
//! manifest is read back and hashed.

mod address;
mod client;
pub mod compress;
mod credentials;
pub mod pull;
pub mod push;

pub use address::Address;
pub use client::{Client, Patience};
pub use credentials::Login;
