//! `cargo xtask doctor turn`: how far a phone would get with Coturn.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use entrypoint::Secret;
use images::{Class, Error, Result};
use qrcode::render::unicode::Dense1x2;

use super::FormArgs;
use crate::doctor::turn::{Target, climb, judge};
use crate::doctor::{Check, Report, page};
use crate::output::Output;
use crate::serve::Server;
use crate::site::onboarding::qr;
use crate::site::secrets::{self, Name, Secrets};
use crate::site::{Folder, SiteArgs};
use crate::tls;
use crate::turn::{Credential, Transport};

/// Enough to climb the ladder over three transports, with every answer late, and for a clock that is a little ahead.
const SECONDS: i64 = 300;

/// Allocate and relay through Coturn as a phone does, over UDP, TCP and TLS
#[derive(clap::Args)]
pub struct Args {
    /// Address of the server, as seen from this host [default: the site's first]
    address: Option<IpAddr>,
    #[command(flatten)]
    site: SiteArgs,
    /// File with the TURN secret, mode 0600 [default: the one in the site's secrets.env]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The CA of the server's certificate, PEM [default: the site's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Offer a page on which a phone's browser looks for a relay candidate, until one has reported
    #[arg(long)]
    serve: bool,
    /// How long to offer the page at most
    #[arg(long, value_name = "MINUTES", default_value = "10", requires = "serve", value_parser = clap::value_parser!(u16).range(1..=240))]
    minutes: u16,
    /// Port of the page; 0 is a free one
    #[arg(long, value_name = "PORT", default_value = "0", requires = "serve")]
    port: u16,
    #[command(flatten)]
    form: FormArgs,
}

/// Asks.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let (folder, site) = args.site.load()?;
    let secret = secret(args, &folder)?;
    let target = Target::of(&site, args.address.unwrap_or_else(|| site.address()));
    if args.serve {
        let checks = serve(args, &target, &secret, site.address(), out)?;
        return super::show(&Report::of(checks), args.form, out);
    }
    let credential = Credential::for_seconds(secret.expose(), "doctor", SECONDS);
    let mut checks = Vec::new();
    for (name, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp)] {
        checks.extend(judge(name, &target, &climb(&target, &transport, &credential)));
    }
    match tls::trusting(&args.ca.clone().unwrap_or_else(|| folder.ca())) {
        Ok(config) => {
            let transport = Transport::Tls(target.turns.ip().into(), config);
            checks.extend(judge("tls", &target, &climb(&target, &transport, &credential)));
        }
        Err(error) => checks.push(Check::of_error("turn.tls.ca", "TURN over TLS: CA", &error, "cargo xtask certs")),
    }
    super::show(&Report::of(checks), args.form, out)
}

fn serve(args: &Args, target: &Target, secret: &Secret, address: IpAddr, out: &mut Output) -> Result<Vec<Check>> {
    // The credential dies with the page.
    let credential = Credential::for_seconds(secret.expose(), "phone", i64::from(args.minutes) * 60);
    let page = ("index.html", "text/html; charset=utf-8", page::page(target, &credential).into_bytes());
    let server = Server::bind(address, args.port)?.with_scripts();
    let url = server.url()?;
    out.say(format!("open this on a phone in the LAN, within {} minutes (Ctrl-C ends it):", args.minutes));
    out.say(&url);
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        out.say(qr(&url)?.render::<Dense1x2>().build());
    }
    let reported = Mutex::new(None);
    server.run(vec![page, (page::REPORT, "text/plain", Vec::new())], Duration::from_secs(60 * u64::from(args.minutes)), |fetched| {
        match page::judge(fetched.query).filter(|_| fetched.file == page::REPORT) {
            Some(checks) => {
                *reported.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(checks);
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    })?;
    let reported = reported.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let none = || Check::problem("turn.phone", "Phone", "none has reported", "let the phone into the same network as this machine");
    Ok(reported.unwrap_or_else(|| vec![none()]))
}

fn secret(args: &Args, folder: &Folder) -> Result<Secret> {
    if let Some(file) = &args.secret_file {
        return secrets::given(file, 16);
    }
    match Secrets::read(folder.root())? {
        Some(secrets) => secrets.require(Name::TurnSecret).cloned(),
        None => Err(Error::new(Class::Usage, format!("{} has no secrets.env", folder.root().display()))
            .hint("cargo xtask env makes it; from another host, copy the TURN secret into a file and name it with --secret-file")),
    }
}
