//! Starts coturn: typed settings and a secret file become `turnserver.conf`, which only this account can read; then this
//! process becomes `turnserver`. What is not usable is refused and named, because coturn itself skips what it does not
//! understand and keeps running.
//!
//! # Commands
//! - none: writes the configuration and becomes `/usr/bin/turnserver -c FILE`.
//! - `config`: prints the configuration with the secret left out.
//! - `healthcheck`: a STUN Binding over UDP (RFC 8489) to the listening address; at most 3 s.
//!
//! # Environment
//! Any other `COTURN_…` is refused.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `COTURN_LISTENING_IP` | required | IPv4 address of this machine or container; never guessed |
//! | `COTURN_RELAY_IP` | listening address | IPv4 address of relayed media |
//! | `COTURN_EXTERNAL_IP` | none | `public` or `public/private`: what clients are told behind a NAT |
//! | `COTURN_ALLOWED_PEER_IP` | required | the only IPv4 addresses that are relayed to, separated by commas: the Calls server |
//! | `COTURN_REALM` | required | realm of the credentials, such as the site's name |
//! | `COTURN_LISTENING_PORT` | 3478 | UDP and TCP |
//! | `COTURN_TLS` | off | `on`: TLS over TCP too |
//! | `COTURN_TLS_LISTENING_PORT` | 5349 | TCP |
//! | `COTURN_TLS_CERT_FILE`, `COTURN_TLS_KEY_FILE` | `/run/secrets/turn-cert.pem`, `/run/secrets/turn-key.pem` | chain and its key |
//! | `COTURN_MIN_PORT`, `COTURN_MAX_PORT` | 49160, 49200 | relay ports, UDP; one for each allocation |
//! | `COTURN_USER_QUOTA` | 12 | allocations of one user |
//! | `COTURN_TOTAL_QUOTA` | number of relay ports | allocations of all |
//! | `COTURN_MAX_BPS` | 1000000 | bytes per second of one session, each direction (coturn's `max-bps`) |
//! | `COTURN_SECRET_FILE` | `/run/secrets/turn` | file with the shared secret of the credentials (`use-auth-secret`) |
//! | `COTURN_CONF` | `/run/coturn/turnserver.conf` | what is written; the folder, a tmpfs, takes the user database and the process number too |
//!
//! # Files
//! The secret: one line of 16 or more of `A-Z a-z 0-9 . _ ~ + / = -`, mode 0400 or 0600 (0440 or 0640 of root's).
//! `turnserver.conf` is written beside and renamed, mode 0600. The secret is in no argument and no variable.
//!
//! # Exit codes
//! 0 healthy · 1 not healthy, or a file cannot be written · 2 settings · after the start: coturn's

mod settings;
mod stun;

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use entrypoint::{Env, Error, Result, Secret};
use settings::Settings;

const TURNSERVER: &str = "/usr/bin/turnserver";
const CHECK: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    entrypoint::main("coturn-entrypoint", |arguments| {
        let env = Env::of_process();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => start(&env),
            ["config"] => {
                print!("{}", Settings::read(&env)?.render(&Secret::new("(left out)")));
                Ok(())
            }
            ["healthcheck"] => healthcheck(&env),
            _ => Err(Error::settings("the command line is not usable").detail("expected no argument, config or healthcheck")),
        }
    })
}

fn start(env: &Env) -> Result<()> {
    let settings = Settings::read(env)?;
    let secret = settings.secret()?;
    settings.check_tls_files()?;
    write(&settings.conf, &settings.render(&secret))?;
    #[expect(clippy::disallowed_methods, reason = "this process becomes turnserver; there is nothing to wrap")]
    let mut turnserver = std::process::Command::new(TURNSERVER);
    Err(entrypoint::exec(turnserver.arg("-c").arg(&settings.conf)))
}

fn healthcheck(env: &Env) -> Result<()> {
    let address = SocketAddr::from(Settings::listening(env)?);
    stun::binding(address, CHECK).map(drop).map_err(|what| Error::failed(format!("STUN Binding to {address}: {what}")))
}

/// Writes `text` for this account alone: beside, then renamed over what a container before left.
fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    let _ = fs_err::remove_file(&beside);
    let mut file = fs_err::OpenOptions::new();
    file.write(true).create_new(true).options_mut().mode(0o600);
    file.open(&beside)?.write_all(text.as_bytes())?;
    Ok(fs_err::rename(&beside, path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_configuration_is_for_this_account_alone_even_where_an_open_one_lay() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("turnserver.conf");
        fs_err::write(&path, "old").expect("written");
        fs_err::write(path.with_extension("new"), "left behind").expect("written");
        write(&path, "new").expect("written");
        assert_eq!(fs_err::read_to_string(&path).expect("readable"), "new");
        assert_eq!(fs_err::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!path.with_extension("new").exists());
    }
}
