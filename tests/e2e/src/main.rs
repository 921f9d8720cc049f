//! The proof: the whole stack in a world of its own, step by step, and a report. `cargo xtask e2e` runs it; docs/e2e.md says how to
//! read what it leaves.
//!
//! A run is two processes. The *outside* one builds what is missing, starts the other one, prints what that one finds, and writes the
//! report. The *inside* one is the first process of namespaces of its own for processes, mounts and networks, so that the kernel ends
//! everything that it has started when it ends, and it ends with the outside one, however that ends: there is nothing to forget.

mod egress;
mod hidden;
mod inside;
mod journal;
mod lan;
mod mutations;
mod outside;
mod preflight;
mod report;
mod run;
mod runner;
mod step;
mod steps;
mod untouched;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use images::Result;
use xtask::cli::e2e::Options;
use xtask::machine::Machine;
use xtask::output::Output;
use xtask::workspace::Workspace;

/// Prove the whole stack, in a world of its own that nothing leads out of
#[derive(Parser)]
#[command(name = "e2e")]
struct Cli {
    /// The built front door: target/release/xtask
    #[arg(long, value_name = "FILE")]
    xtask: PathBuf,
    #[command(flatten)]
    options: Options,
    /// The folder of the run that this process is the inside of
    #[arg(long, value_name = "DIR", hide = true)]
    inside: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut out = Output::new();
    let result = run(&Cli::parse(), &mut out);
    out.end(result)
}

fn run(cli: &Cli, out: &mut Output) -> Result<()> {
    if let Some(folder) = &cli.inside {
        return inside::run(folder, &cli.xtask, &cli.options);
    }
    let workspace = Workspace::find()?;
    let machine = Machine::of(&workspace);
    if cli.options.list {
        list(&machine, &cli.options, out);
        return Ok(());
    }
    if cli.options.clean {
        return outside::clean(&workspace, true, out);
    }
    outside::prove(&workspace, &machine, &cli.xtask, &cli.options, out)
}

fn list(machine: &Machine, options: &Options, out: &mut Output) {
    for step in steps::every().filter(|step| step.is_chosen(&options.filter)) {
        out.result(format!("{:<58} {}", step.name, step.claim));
        if let Some(absent) = step.absent(machine, options) {
            out.result(format!("{:<58} {absent}", ""));
        }
    }
    let mutations = mutations::claims().filter(|_| mutations::are_wanted(options));
    for (name, claim) in outside::CLAIMS.into_iter().chain(mutations).filter(|(name, _)| step::is_chosen(name, &options.filter)) {
        out.result(format!("{name:<58} {claim}"));
    }
}
