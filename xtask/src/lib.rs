//! The library behind `cargo xtask`, so that tests call what users call.

pub mod audit;
pub mod bundle;
pub mod cli;
pub mod convert;
pub mod database;
pub mod doctor;
pub mod double;
pub mod engine;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
pub mod integrations;
pub mod machine;
pub mod mirror;
pub mod nix;
pub mod output;
pub mod process;
pub mod provision;
pub mod registry;
pub mod serve;
pub mod server;
pub mod site;
pub mod stack;
pub mod tls;
pub mod turn;
pub mod uri;
pub mod workspace;
