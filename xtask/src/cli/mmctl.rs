//! `cargo xtask mmctl`: Mattermost's own client, over the local socket, or over HTTPS with a token.

use std::path::PathBuf;

use entrypoint::Secret;
use images::{Class, Error, Result};
use url::Url;

use crate::output::Output;
use crate::process::Process;
use crate::site::secrets::{self, system_random};
use crate::site::{Service, SiteArgs};
use crate::stack::Stack;
use crate::uri::plain;

const MMCTL: &str = "/mattermost/bin/mmctl";

/// Run Mattermost's own client in its container, over the local socket, or over HTTPS with a token
///
/// The socket is the server's own: who comes by it may do everything, and needs no account. With a token it is asked as whose token
/// that is, over HTTPS, by what the container trusts: the site's CA and the system's.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// File (mode 0600) with a personal access token: over HTTPS, in the place of the local socket
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Where the server is, as seen from the container [default: the site's name and port]
    #[arg(long, value_name = "URL", requires = "token_file")]
    url: Option<Url>,
    /// Arguments of mmctl
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

/// Becomes mmctl, or runs it with a token.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let token = args.token_file.as_ref().map(|file| secrets::given(file, 16)).transpose()?;
    let stack = Stack::open(&args.site)?;
    match token {
        Some(token) => remote(args, &stack, &token, out),
        None => Err(stack.exec(Service::Mattermost)?.args([MMCTL, "--local"]).args(&args.arguments).replace()),
    }
}

/// mmctl takes a token only by `auth login`, which keeps it in a file: that one is in a folder of this run's own, in the container's
/// memory, and goes when the command has ended.
fn remote(args: &Args, stack: &Stack, token: &Secret, out: &mut Output) -> Result<()> {
    let url = match &args.url {
        Some(url) => plain(url),
        None => stack.site.own_url(),
    };
    let container = stack.running(Service::Mattermost)?.id;
    let mut random = [0; 8];
    system_random(&mut random)?;
    let folder = format!("XDG_CONFIG_HOME=/tmp/mmctl-{:016x}", u64::from_le_bytes(random));
    let mmctl = || -> Process {
        let docker = stack.machine.process("docker").args(["exec", "--interactive", "--env", &folder, &container, MMCTL]);
        docker.fails_as(Class::Server)
    };
    let login = mmctl().args(["auth", "login", &url, "--name", "xtask", "--access-token-file", "/dev/stdin"]);
    login.stdin(token.expose()).capture()?;
    let outcome = mmctl().args(&args.arguments).outcome();
    // Whatever became of it, the token goes.
    let forgotten = mmctl().args(["auth", "clean"]).capture();
    let outcome = outcome?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (said, told) = (text(&outcome.stdout), text(&outcome.stderr));
    if !said.is_empty() {
        out.result(said);
    }
    if !told.is_empty() {
        out.say(told);
    }
    forgotten?;
    match outcome.success() {
        true => Ok(()),
        false => Err(Error::new(Class::Check, format!("mmctl ended with {}", outcome.status))),
    }
}
