//! `cargo xtask bundle`: one signed file that brings everything across an air gap.

pub mod apply;
pub mod create;
pub mod show;
pub mod sign;
pub mod verify;

use std::path::PathBuf;

use images::Result;

use crate::bundle::{Bundle, Pace, Trust};
use crate::cli::images::build::all_processors;
use crate::output::Output;

/// Make, sign, check and apply one file that brings everything across an air gap
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Create(Box<create::Args>),
    Sign(sign::Args),
    Verify(verify::Args),
    Apply(apply::Args),
    Show(show::Args),
}

/// Whom a bundle has to be from.
#[derive(clap::Args)]
#[group(id = "trust", required = true, multiple = false)]
pub struct TrustArgs {
    /// The public key of whoever signed it, as `minisign -G` makes one
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Take it from anybody: a signature is not asked for, damage is still found
    #[arg(long)]
    unsigned: bool,
}

impl TrustArgs {
    /// The key, read.
    pub fn trust(&self) -> Result<Trust> {
        self.key.as_deref().map_or(Ok(Trust::Anybody), Trust::key)
    }

    /// What can be said of a bundle that was opened with it.
    pub fn words(&self, bundle: &Bundle) -> &'static str {
        match (&self.key, &bundle.signature) {
            (Some(_), _) => "signed",
            (None, Some(_)) => "its signature was not checked",
            (None, None) => "not signed",
        }
    }
}

/// All processors, and this terminal.
fn pace(out: &Output) -> Pace<'_> {
    Pace { threads: all_processors(), progress: out.progress() }
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    match &args.verb {
        Verb::Create(args) => create::run(args, out),
        Verb::Sign(args) => sign::run(args, out),
        Verb::Verify(args) => verify::run(args, out),
        Verb::Apply(args) => apply::run(args, out),
        Verb::Show(args) => show::run(args, out),
    }
}
