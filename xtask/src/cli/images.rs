//! `cargo xtask images`: build every image from the lock, and what is done with locks, blobs and layouts.

pub mod add;
pub mod audit;
pub mod build;
pub mod diff;
pub mod fetch;
pub mod lock;
pub mod nix;
pub mod options;
pub mod provenance;
pub mod push;
pub mod recipe;
pub mod sbom;
pub mod show;
pub mod sign_plugin;
pub mod verify;

use images::Result;

use crate::output::Output;

/// Build images from the lock into one OCI layout, without a daemon and without root
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    build: build::BuildArgs,
}

#[derive(clap::Subcommand)]
enum Verb {
    Lock(lock::Args),
    Fetch(fetch::Args),
    Add(add::Args),
    SignPlugin(sign_plugin::Args),
    Verify(Box<verify::Args>),
    Diff(diff::Args),
    Show(show::Args),
    Sbom(sbom::Args),
    Provenance(provenance::Args),
    Audit(audit::Args),
    Push(push::Args),
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    match &args.verb {
        None => build::run(&args.build, out),
        Some(Verb::Lock(args)) => lock::run(args, out),
        Some(Verb::Fetch(args)) => fetch::run(args, out),
        Some(Verb::Add(args)) => add::run(args, out),
        Some(Verb::SignPlugin(args)) => sign_plugin::run(args, out),
        Some(Verb::Verify(args)) => verify::run(args, out),
        Some(Verb::Diff(args)) => diff::run(args, out),
        Some(Verb::Show(args)) => show::run(args, out),
        Some(Verb::Sbom(args)) => sbom::run(args, out),
        Some(Verb::Provenance(args)) => provenance::run(args, out),
        Some(Verb::Audit(args)) => audit::run(args, out),
        Some(Verb::Push(args)) => push::run(args, out),
    }
}
