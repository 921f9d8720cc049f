//! `cargo xtask down`: ends the stack.

use std::io::{BufRead, IsTerminal};

use images::{Class, Error, Result};

use crate::output::Output;
use crate::site::SiteArgs;
use crate::stack::Stack;

/// End the stack: remove its containers and networks, and keep its data
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Remove the data too: database, files, configuration. Asks before
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(long, requires = "volumes")]
    yes: bool,
}

/// Ends the stack.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let stack = Stack::open(&args.site)?;
    let _held = stack.folder.hold_stack(out)?;
    if args.volumes && !args.yes {
        ask(&stack, out)?;
    }
    stack.down(out)?;
    match args.volumes {
        true => stack.remove_volumes(out),
        false => Ok(()),
    }
}

fn ask(stack: &Stack, out: &mut Output) -> Result<()> {
    let volumes = stack.engine.volumes(stack.project())?;
    if volumes.is_empty() {
        return Ok(());
    }
    let refuse = |why: &str| Error::new(Class::Usage, format!("the data of {} is kept: {why}", stack.project()));
    if !std::io::stdin().is_terminal() {
        return Err(refuse("nobody is there to answer").hint("say it on the command line: cargo xtask down --volumes --yes"));
    }
    volumes.iter().for_each(|volume| out.say(format!("  {volume}")));
    out.say(format!("These volumes are removed for good. Type the name of the project, {}, to go on:", stack.project()));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() == stack.project() {
        true => Ok(()),
        false => Err(refuse("the answer was another")),
    }
}
