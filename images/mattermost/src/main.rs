//! Starts Mattermost: joins the environment with a file of secrets, refuses what the server would swallow without a word,
//! waits for the database (the server gives up after 8 s), then becomes the server.
//!
//! # Commands
//! - `PROGRAM ARGUMENT…`, an absolute path; `/mattermost/bin/mattermost` where there is none: starts.
//! - `check`: reads and checks all settings, and starts nothing.
//! - `healthcheck`: `GET /api/v4/system/ping?get_server_status=true` has to say OK, which covers database and file store; at most 5 s.
//!
//! # Environment
//! Every `MM_…` has to be one that the server or its Calls plugin reads (the crate `mattermost-settings`), of the right form. Those that carry a
//! secret, such as `MM_SQLSETTINGS_DATASOURCE`, are refused here, where `inspect` would show them: they go into the file.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `MATTERMOST_SECRETS_FILE` | `/run/secrets/mattermost.env` | `MM_…=value` lines, verbatim, unquoted |
//! | `MATTERMOST_SECRETS_IN_ENVIRONMENT` | `off` | `on`: secrets may stand in the environment after all, and the file need not be there |
//! | `MATTERMOST_EXTRA_SETTINGS` | none | names, separated by commas, that are taken though they are in no list |
//! | `MATTERMOST_CA_FILE` | `/etc/ssl/certs/ca-certificates.crt` | roots that the health check trusts |
//!
//! The health check reads `MM_SERVICESETTINGS_LISTENADDRESS` (`:8065`), `…_CONNECTIONSECURITY` (`TLS` or empty) and, for TLS, the name
//! in `…_SITEURL`. TLS needs a processor of the AVX2, BMI2 and ADX generation (2015 on), which is said where it is missing.
//!
//! # Files
//! The secrets: mode 0400 or 0600 (0440 or 0640 of root's). A name that stands in both places is refused. The server takes its
//! settings from its environment alone, so its own process has them there; no argument and no container setting does.
//!
//! # Exit codes
//! 0 healthy · 1 not healthy · 2 settings · 3 the database did not answer within 120 s · after the start: the server's

mod database;
mod health;
mod settings;

use std::process::ExitCode;
use std::time::Duration;

use entrypoint::{Env, Error, Result};
use settings::Settings;

const SERVER: &str = "/mattermost/bin/mattermost";
const DATABASE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    entrypoint::main("mattermost-entrypoint", |arguments| {
        let env = Env::of_process();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["healthcheck"] => health::check(&env),
            ["check"] => Settings::read(&env).map(drop),
            [] => start(&env, SERVER, &[]),
            [program, rest @ ..] if program.starts_with('/') => start(&env, program, rest),
            _ => Err(Error::settings("the command line is not usable")
                .detail("expected a program's absolute path and its arguments, check or healthcheck")),
        }
    })
}

fn start(env: &Env, program: &str, arguments: &[&str]) -> Result<()> {
    let settings = Settings::read(env)?;
    let database = settings.database()?;
    entrypoint::wait(&format!("the database {database}"), DATABASE, || database.answers())?;
    #[expect(clippy::disallowed_methods, reason = "this process becomes the server; there is nothing to wrap")]
    let mut server = std::process::Command::new(program);
    Err(entrypoint::exec(server.args(arguments).envs(settings.secrets())))
}
