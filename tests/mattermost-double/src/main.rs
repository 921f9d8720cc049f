//! API double of Mattermost: what the rest of this repository is developed and tested against where the vendor's release cannot be
//! had. It is held to the answers that a real server gave (`../contract`), and says of itself that it is a double.
//!
//! One program with two names, as in the vendor's tarball: called `mmctl`, it is the command-line client, else the server.
//!
//! # The server
//! `mattermost` or `mattermost server` starts, `mattermost version` tells. It reads `MM_…` and `config/config.json` as the real one does,
//! silent fall-backs included, and keeps its state in PostgreSQL (`MM_SQLSETTINGS_DATASOURCE`) and `data/`.
//!
//! # Exit codes
//! 0 after SIGTERM · 1 a setting, a file or the database is not usable, with the real server's words in the log

mod api;
mod calls;
mod clock;
mod config;
mod db;
mod log;
mod mmctl;
mod plugins;
mod release;
mod server;
mod web;
mod ws;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (name.rsplit('/').next(), words.as_slice()) {
        (Some("mmctl"), words) | (_, ["mmctl", words @ ..]) => mmctl::main(words),
        (_, [] | ["server"]) => server::main(),
        (_, ["version"]) => {
            println!("{}", release::Release::find().describe());
            ExitCode::SUCCESS
        }
        (_, words) => {
            eprintln!("Error: unknown command \"{}\" for \"mattermost\"", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
