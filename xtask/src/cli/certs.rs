//! `cargo xtask certs`: a site's certificates, and how phones and desktops come to trust them.

pub mod make;
pub mod phone;
pub mod renew;
pub mod show;

use images::Result;

use crate::output::Output;

/// Make the site's certificates: what is missing, and what is due
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    make: make::MakeArgs,
}

#[derive(clap::Subcommand)]
enum Verb {
    Renew(renew::Args),
    Show(show::Args),
    Phone(phone::Args),
}

const AFTER: &str = "\
A certificate is issued anew when a name or an address of the site changed, less than 30 days are left, the CA changed,
or its key is not there or another's. Otherwise nothing is written.";

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    match &args.verb {
        None => make::run(&args.make, out),
        Some(Verb::Renew(args)) => renew::run(args, out),
        Some(Verb::Show(args)) => show::run(args, out),
        Some(Verb::Phone(args)) => phone::run(args, out),
    }
}
