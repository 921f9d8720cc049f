//! `cargo xtask certs renew`: anew, though nothing is due.

use images::Result;
use time::OffsetDateTime;

use super::make::{PassphraseArgs, read, report};
use crate::output::Output;
use crate::site::SiteArgs;
use crate::site::pki::Wanted;
use crate::site::pki::found::CA_KEY;
use crate::site::pki::plan::{Ask, Ca, plan};

/// Issue every certificate of the site's own CA anew, though none is due
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Make a new CA, too: every phone and desktop has to enrol again
    #[arg(long)]
    ca: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// Renews.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let (folder, site) = args.site.load()?;
    let wanted = Wanted::of(&site);
    let now = OffsetDateTime::now_utc();
    let _held = folder.hold()?;
    let (files, found) = read(&folder.pki(), &wanted)?;
    let ask = Ask { ca: if args.ca { Ca::Renew } else { Ca::Keep }, renew: true, ..Ask::default() };
    let plan = plan(&found, &wanted, ask, now, &mut |pem| args.passphrase.open(pem, &files.path(CA_KEY).display().to_string()))?;
    files.change(&plan.changes)?;
    report(&plan, now, out);
    Ok(())
}
