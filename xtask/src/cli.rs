//! One module per verb.

pub mod bench;
pub mod beside;
pub mod bundle;
pub mod certs;
pub mod ci;
pub mod convert;
pub mod doctor;
pub mod down;
pub mod e2e;
pub mod env;
pub mod images;
pub mod integrations;
pub mod logs;
pub mod mmctl;
pub mod provision;
pub mod psql;
pub mod status;
pub mod up;
