//! `cargo xtask certs phone`: the page by which phones and desktops come to trust the site.

use std::ops::ControlFlow;
use std::time::Duration;

use images::{Class, Error, Result};
use qrcode::render::unicode::Dense1x2;

use super::make::look;
use crate::output::Output;
use crate::serve::Server;
use crate::site::SiteArgs;
use crate::site::onboarding::{Facts, Links, files, qr, write};
use crate::site::pki::certificate::Certificate;
use crate::site::pki::found::Found;
use crate::site::pki::{Wanted, chain};

/// Write the page that leads phones and desktops to trust the site's CA, and show it to the LAN with --serve
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Show it on the site's LAN address, under a path that is made anew each time, over plain HTTP: nothing of it is secret
    #[arg(long)]
    serve: bool,
    /// How long to show it, in minutes
    #[arg(long, value_name = "N", default_value_t = 10, requires = "serve", value_parser = clap::value_parser!(u64).range(1..=240))]
    minutes: u64,
    /// Port to show it on [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true, requires = "serve")]
    port: u16,
}

/// Writes the page; shows it.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let (folder, site) = args.site.load()?;
    let found = look(&folder.pki(), &Wanted::of(&site))?;
    let facts = Facts::of(&site, trusted(&found)?);
    let changed = {
        let _held = folder.hold()?;
        write(&facts, &folder.onboarding())?
    };
    let page = folder.onboarding().join("index.html");
    out.result(format!("{}  {}", page.display(), if changed { "written" } else { "unchanged" }));
    out.result(format!("SHA-256 of the CA, to compare by eye:\n{}", facts.fingerprint().join("\n")));
    if args.serve { serve(args, &facts, out) } else { Ok(()) }
}

/// The root that Mattermost's certificate leads to: what a phone has to trust.
fn trusted(found: &Found) -> Result<&Certificate> {
    let missing = || Error::new(Class::Check, "the site has no certificates").hint("cargo xtask certs");
    let pair = found.pairs.get("mattermost").ok_or_else(missing)?;
    let chain = chain::complete(&pair.chain[0], &[&pair.chain[1..], &found.roots].concat(), "pki/mattermost.pem")?;
    let root = chain.last().ok_or_else(missing)?;
    found
        .roots
        .iter()
        .find(|known| *known == root)
        .ok_or_else(|| Error::new(Class::Check, "pki/mattermost.pem does not lead to a root in pki/ca.pem").hint("cargo xtask certs show"))
}

fn serve(args: &Args, facts: &Facts, out: &mut Output) -> Result<()> {
    let server = Server::bind(facts.address, args.port)?;
    let url = server.url()?;
    let shown = files(facts, &Links::Served { page: url.clone() })?;
    out.result(&url);
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        out.say(qr(&url)?.render::<Dense1x2>().build());
    }
    out.say(format!("shown for {} minutes, or until Ctrl-C", args.minutes));
    server.run(shown, Duration::from_secs(60 * args.minutes), |fetched| {
        eprintln!("{} fetched {}", fetched.peer, fetched.file);
        ControlFlow::Continue(())
    })?;
    out.say("the time is over: nobody is served any more");
    Ok(())
}
