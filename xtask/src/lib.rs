//! The library behind `cargo xtask`, so that tests call what users call.

pub mod cli;
pub mod mirror;
pub mod output;
pub mod process;
pub mod workspace;
