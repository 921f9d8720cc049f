//! `cargo xtask logs`: what the services say.

use images::Result;

use crate::output::Output;
use crate::site::SiteArgs;
use crate::stack::Stack;

/// Show what the services say
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Services; all of them where none is named
    services: Vec<String>,
    /// Go on as they say more
    #[arg(long, short)]
    follow: bool,
    /// The last lines of each
    #[arg(long, value_name = "N", default_value_t = 100)]
    tail: u32,
}

/// Becomes `docker compose logs`.
pub fn run(args: &Args, _out: &mut Output) -> Result<()> {
    let stack = Stack::open(&args.site)?;
    let follow = args.follow.then_some("--follow");
    let process = stack.compose_by_label().args(["logs", "--timestamps", "--tail", &args.tail.to_string()]).args(follow);
    Err(process.args(&args.services).replace())
}
