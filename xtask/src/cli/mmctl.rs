//! `cargo xtask mmctl`: Mattermost's own client, over the local socket.

use images::Result;

use crate::output::Output;
use crate::site::{Service, SiteArgs};
use crate::stack::Stack;

/// Run Mattermost's own client in its container, over the local socket
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Arguments of mmctl
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<String>,
}

/// Becomes mmctl. With `--local` it needs no account: the socket is the server's own.
pub fn run(args: &Args, _out: &mut Output) -> Result<()> {
    let stack = Stack::open(&args.site)?;
    let mmctl = stack.exec(Service::Mattermost)?;
    Err(mmctl.args(["/mattermost/bin/mmctl", "--local"]).args(&args.arguments).replace())
}
