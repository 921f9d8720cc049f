//! `cargo xtask e2e`: the proof. The proving is a program of its own, tests/e2e, whose needs stay out of this one.

use images::Result;

use super::beside;
use super::images::recipe::Mattermost;
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::workspace::Workspace;

/// Prove the whole stack, in a world of its own that nothing leads out of
///
/// Builds what is missing, starts the stack in network namespaces with a Docker Engine of their own, plays its clients, and leaves
/// target/e2e/RUN/report.html, junit.xml and run.json. One line a step; the exit code is 1 when a step failed. Nothing but that
/// folder is left, however the run ends. As root.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Bring what this machine lacks from Debian's packages; as root on Debian and its kin
    #[arg(long)]
    install: bool,
}

/// What the proving program is told as well.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Which Mattermost: the lock's `release`, the API `double`, or a FILE in the vendor's layout
    #[arg(long, value_name = "release|double|FILE", default_value = "release")]
    pub mattermost: Mattermost,
    /// Print the steps, what each proves and which are not run here; run nothing
    #[arg(long)]
    pub list: bool,
    /// Run the steps whose name contains TEXT. May be given several times
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,
    /// Run what takes long, too, and --mutate
    #[arg(long)]
    pub full: bool,
    /// Take out one guard at a time as well: exactly the steps that claim it have to go red
    #[arg(long)]
    pub mutate: bool,
    /// Keep the packets of the LAN in the report, as capture.pcap: what TLS hides stays hidden, names of TURN credentials do not
    #[arg(long)]
    pub capture: bool,
    /// Print run.json to standard output
    #[arg(long)]
    pub json: bool,
    /// Leave the stack up when the run has ended, and say how to get in; --clean ends it
    #[arg(long)]
    pub keep: bool,
    /// Remove what killed runs have left, end kept ones, and run nothing
    #[arg(long, conflicts_with_all = ["list", "filter", "json", "keep", "capture"])]
    pub clean: bool,
}

/// What every run needs of a machine.
pub const PARTS: [&str; 8] = ["cc", "ip", "unshare", "nft", "iptables", "dockerd", "docker", "docker compose"];

impl Options {
    /// What this run needs of a machine.
    pub fn parts(&self) -> Vec<&'static str> {
        PARTS.into_iter().chain(self.capture.then_some("tcpdump")).collect()
    }
}

/// Compiles the program and becomes it.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    if args.install {
        let machine = Machine::of(&workspace);
        let log = workspace.target().join("e2e.install.log");
        machine::install(&machine, &machine::lacking(&machine, &args.options.parts()), &log, out)?;
    }
    let program = beside::program(&workspace, "e2e", "the proof", out)?;
    // Its options are ours, and were read by the same parser.
    let given = std::env::args_os().skip_while(|word| word != "e2e").skip(1).filter(|word| word != "--install");
    Err(program.args(given).replace())
}
