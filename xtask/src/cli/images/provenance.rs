//! `cargo xtask images provenance NAME`: how an image came to be.

use images::Result;

use super::sbom::PaperArgs;
use crate::output::Output;

/// Tell how an image came to be as an in-toto statement with SLSA's provenance: lock, source revision, every file
///
/// The image is read from the layout and has to be what lock and spec make. No clock and no machine is in it.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    paper: PaperArgs,
}

/// Tells.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let statement = args.paper.made()?.provenance(out)?;
    args.paper.write(&statement, out)
}
