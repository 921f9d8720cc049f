//! `cargo xtask bench`: the figures. The measuring is a program of its own, tests/bench, whose needs stay out of this one.

use std::path::PathBuf;

use images::Result;

use super::beside;
use crate::output::Output;
use crate::workspace::Workspace;

/// Measure image builds beside the floor of this machine and beside other builders, the stack under load, the bundle, and Nix
///
/// Builders that are not installed are named with what brings them. Nothing here fails because something is slow: the table on
/// standard output says what is over its bar, and target/bench/report.html shows it. Wants a machine that does nothing else.
#[derive(clap::Args)]
pub struct Args {
    /// Measure these only: coturn, postgres, mattermost; alert-gateway and node, which is the whole stack, under load; bundle; nix
    #[arg(long, value_name = "IMAGE", num_args = 1..)]
    only: Vec<String>,
    /// Runs of each measurement; medians are shown
    #[arg(long, value_name = "N", default_value = "5")]
    runs: usize,
    /// Leave the other builders out
    #[arg(long)]
    no_peers: bool,
    /// Folder of inputs, scratch files and the report [default: target/bench]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Compiles the benchmark and runs it with this program as the one that is measured.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let output = args.output.clone().unwrap_or_else(|| workspace.target().join("bench"));
    let output = std::path::absolute(output)?;
    let program = beside::program(&workspace, "bench", "the benchmark", out)?;
    let table = output.join("report.txt");
    if table.exists() {
        fs_err::remove_file(&table)?;
    }
    let mut bench = program.arg("--output").arg(&output).args(["--runs", &args.runs.to_string()]);
    if !args.only.is_empty() {
        bench = bench.arg("--only").args(&args.only);
    }
    if args.no_peers {
        bench = bench.arg("--no-peers");
    }
    let ended = bench.inherit();
    // One image that could not be measured does not hide the others.
    for line in fs_err::read_to_string(&table).unwrap_or_default().lines() {
        out.result(line);
    }
    ended
}
