//! Starts PostgreSQL for Mattermost: the first start makes a cluster, a role and a database, whole or not at all; every start
//! gives the role its password and writes what the environment says about network and TLS; then this process becomes `postgres`.
//!
//! # Commands
//! - none, or `-c NAME=VALUE` any number of times, which `postgres` gets: starts.
//! - `healthcheck`: connects to the Unix socket and expects to be asked for a password (PostgreSQL's protocol 3.0); at most 3 s.
//!
//! # Environment
//! Any other `POSTGRES_…` is refused. `initdb` and `postgres` are looked for in `PATH`.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `PGDATA` | `/var/lib/postgresql/data` | the cluster: a folder *below* the volume, because it is put there by one rename |
//! | `POSTGRES_ROLE`, `POSTGRES_DB` | `mattermost` | a role without privileges, and the database that it owns |
//! | `POSTGRES_PASSWORD_FILE` | `/run/secrets/postgres` | the role's password, which it gets at each start; a cluster that is there needs none |
//! | `POSTGRES_LISTEN_ADDRESSES` | `*` | as `listen_addresses` |
//! | `POSTGRES_PORT` | 5432 | TCP, and part of the socket's name |
//! | `POSTGRES_SOCKET_DIR` | `/run/postgresql` | folder of the Unix socket |
//! | `POSTGRES_TLS_CERT_FILE`, `POSTGRES_TLS_KEY_FILE` | `/run/secrets/postgres-cert.pem`, `/run/secrets/postgres-key.pem` | chain and its key |
//!
//! # Files
//! - The password: one line, 8 characters or more; the key: PEM, not encrypted. Mode 0400 or 0600 (0440 or 0640 of root's).
//! - `PGDATA/entrypoint.conf` and `PGDATA/pg_hba.conf` are written at each start: over the network only the role, only to its
//!   database, only with TLS and `scram-sha-256`; over the socket the superuser `postgres` by its account (`peer`).
//!   Settings of one's own go into `postgresql.conf` or `ALTER SYSTEM`, which stands above all.
//! - `PGDATA.new` is a first start that is under way, or was cut off: the next start removes it.
//!
//! # Exit codes
//! 0 healthy · 1 not healthy, or a step failed · 2 settings, root, a cluster of another version · after the start: postgres's

mod cluster;
mod health;
mod settings;

use std::process::ExitCode;

use entrypoint::{Env, Error, Result};
use settings::Settings;

fn main() -> ExitCode {
    entrypoint::main("postgres-entrypoint", |arguments| {
        let env = Env::of_process();
        match arguments {
            [verb] if verb == "healthcheck" => health::check(&Settings::read(&env)?),
            options => start(&env, options),
        }
    })
}

fn start(env: &Env, options: &[String]) -> Result<()> {
    let pairs = options.chunks(2).all(|pair| matches!(pair, [flag, value] if flag == "-c" && value.contains('=')));
    if !pairs {
        return Err(Error::settings("the command line is not usable").detail("expected healthcheck, or -c NAME=VALUE any number of times"));
    }
    let settings = Settings::read(env)?;
    refuse_root(&fs_err::read_to_string("/proc/self/status")?)?;
    settings.check_tls_files()?;
    let was_there = cluster::ensure(&settings)?;
    cluster::configure(&settings)?;
    if was_there {
        cluster::set_password(&settings)?;
    }
    Err(entrypoint::exec(cluster::command("postgres").arg("-D").arg(&settings.data).args(options)))
}

/// PostgreSQL refuses root too, but only after files of root's lie in the volume.
fn refuse_root(status: &str) -> Result<()> {
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse::<u32>().ok());
    match effective {
        Some(0) | None => Err(Error::settings("postgres does not run as root")
            .detail("expected the account that owns the data, such as 999")
            .detail(effective.map_or("found no user number".to_owned(), |uid| format!("found user number {uid}")))),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_refused() {
        refuse_root("Name:\tx\nUid:\t999\t999\t999\t999\n").expect("an account");
        let error = refuse_root("Name:\tx\nUid:\t999\t0\t0\t0\n").expect_err("effectively root").to_string();
        assert!(error.contains("found user number 0"), "{error}");
        refuse_root("").expect_err("nobody knows");
    }
}
