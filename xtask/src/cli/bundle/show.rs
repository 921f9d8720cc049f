//! `cargo xtask bundle show`: what a bundle holds.

use std::path::PathBuf;

use images::Result;
use images::oci::rfc3339;
use images::progress::human;

use super::TrustArgs;
use crate::bundle::Bundle;
use crate::output::Output;

/// Show what a bundle holds, by its list; verify checks the parts themselves
#[derive(clap::Args)]
pub struct Args {
    /// The bundle
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// Print the list as it stands in the bundle, in JSON
    #[arg(long)]
    json: bool,
}

/// Prints the list.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle, &args.trust.trust()?)?;
    if args.json {
        out.result(String::from_utf8_lossy(&bundle.list.text()).trim_end());
        return Ok(());
    }
    let list = &bundle.list;
    out.result(format!("bundle     {}, {}", bundle.id(), args.trust.words(&bundle)));
    out.result(format!("version    {}", list.version));
    if let Some(source) = &list.source {
        let changed = if source.changed { ", with changes" } else { "" };
        out.result(format!("source     {} of {}{changed}", source.revision, rfc3339(source.time)));
    }
    match &list.ca {
        Some(ca) => out.result(format!("site's CA  {ca}")),
        None => out.result("site's CA  none: up adds it where the bundle is applied"),
    }
    if let Some(since) = &list.since {
        let size: u64 = list.earlier.iter().map(|part| part.size).sum();
        out.result(format!("goes on    from {}, which brought {} parts, {}", since.short(), list.earlier.len(), human(size)));
    }
    for image in &list.images {
        out.result(format!("image      {}  {}", image.name, image.manifest.oci()));
    }
    for part in &list.parts {
        out.result(format!("part       {:>9}  {}", human(part.size), part.path));
    }
    if let Some(program) = &list.program {
        out.result(format!("program    {:>9}  {}  {}", human(program.size), program.path, program.sha256));
    }
    Ok(())
}
