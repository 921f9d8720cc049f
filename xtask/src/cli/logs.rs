//! `cargo xtask logs`: what the services say.

use images::{Class, Error, Result};

use crate::output::Output;
use crate::site::{SiteArgs, compose};
use crate::stack::{Stack, Target};

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

/// Becomes `docker compose logs`; on a Swarm `docker service logs`, one service after the other.
pub fn run(args: &Args, _out: &mut Output) -> Result<()> {
    let stack = Stack::open(&args.site)?;
    let follow = args.follow.then_some("--follow");
    if stack.target == Target::Swarm {
        return of_swarm(args, &stack);
    }
    let process = stack.compose_by_label().args(["logs", "--timestamps", "--tail", &args.tail.to_string()]).args(follow);
    Err(process.args(&args.services).replace())
}

fn of_swarm(args: &Args, stack: &Stack) -> Result<()> {
    let all = || compose::services(&stack.site).map(|service| service.name().to_owned()).collect();
    let services: Vec<String> = if args.services.is_empty() { all() } else { args.services.clone() };
    let of = |service: &String| {
        let process = stack.machine.process("docker").args(["service", "logs", "--timestamps", "--tail", &args.tail.to_string()]);
        process.args(args.follow.then_some("--follow")).arg(format!("{}_{service}", stack.project())).fails_as(Class::Engine)
    };
    match services.as_slice() {
        [one] => Err(of(one).replace()),
        _ if args.follow => Err(Error::new(Class::Usage, "a Swarm's logs are followed of one service at a time").hint("name it")),
        several => several.iter().try_for_each(|service| of(service).inherit()),
    }
}
