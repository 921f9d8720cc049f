//! `cargo xtask doctor`: every check, with the command that mends what is wrong.

pub mod tls;
pub mod turn;

use images::Result;

use crate::doctor::{Report, gather};
use crate::output::Output;
use crate::site::SiteArgs;

/// Check what the site needs of this machine, and its files; the exit code is 1 when a check says no
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(clap::Subcommand)]
enum What {
    Turn(turn::Args),
    Tls(tls::Args),
}

/// How a report is shown.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct FormArgs {
    /// Print JSON: format, ok, checks (id, title, outcome: ok, problem or skipped, with found, mend or reason)
    #[arg(long)]
    json: bool,
}

/// Checks.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    match &args.what {
        None => show(&Report::of(gather::checks(&args.site)?), args.form, out),
        Some(What::Turn(args)) => turn::run(args, out),
        Some(What::Tls(args)) => tls::run(args, out),
    }
}

/// Shows a report; a check that says no is an error.
fn show(report: &Report, form: FormArgs, out: &mut Output) -> Result<()> {
    if form.json {
        out.result(serde_json::to_string(report).unwrap_or_else(|error| unreachable!("plain data: {error}")));
    } else {
        report.lines().iter().for_each(|line| out.result(line));
    }
    report.verdict()
}
