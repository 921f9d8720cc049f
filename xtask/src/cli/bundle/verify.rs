//! `cargo xtask bundle verify`: from whom a bundle is, and whether each of its bytes is as it was made.

use std::path::PathBuf;

use images::Result;
use images::progress::human;

use super::{TrustArgs, pace};
use crate::bundle::Bundle;
use crate::bundle::read::Checking;
use crate::output::Output;

/// Check a bundle: its signature, then every part of it
#[derive(clap::Args)]
pub struct Args {
    /// The bundle
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Reads all of it.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle, &args.trust.trust()?)?;
    bundle.read(&mut Checking, "checking", pace(out))?;
    let size: u64 = bundle.list.inside().map(|part| part.size).sum();
    let parts = bundle.list.inside().count();
    out.result(format!(
        "{}  {}  whole: {parts} parts, {}; {}",
        args.bundle.display(),
        bundle.id().short(),
        human(size),
        args.trust.words(&bundle)
    ));
    Ok(())
}
