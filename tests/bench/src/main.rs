//! Side by side: our images against the floor of the machine and against other builders; and the alert gateway under load. `cargo xtask bench` runs it;
//! docs/benchmark.md says how to read it.

mod ar;
mod bundle;
mod floor;
mod gateway;
mod html;
mod inputs;
mod measure;
mod nix;
mod node;
mod ours;
mod peers;
mod report;
mod tarball;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use images::{Error, Result};
use xtask::output::Output;

use crate::inputs::{Bench, IMAGES};
use crate::report::{Image, Report};

/// Measure image builds beside the floor of this machine and beside other builders
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    /// The built front door: target/release/xtask
    #[arg(long, value_name = "FILE")]
    xtask: PathBuf,
    /// Where inputs, scratch files and the report go
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Runs of each measurement
    #[arg(long, value_name = "N")]
    runs: usize,
    /// Images: coturn, postgres, mattermost; alert-gateway and node under load, bundle, nix; all of them where none is named
    #[arg(long, value_name = "IMAGE", num_args = 1..)]
    only: Vec<String>,
    /// Leave the other builders out
    #[arg(long)]
    no_peers: bool,
}

fn main() -> ExitCode {
    let mut out = Output::new();
    let result = run(&Cli::parse(), &mut out);
    out.end(result)
}

fn run(cli: &Cli, out: &mut Output) -> Result<()> {
    let bench = Bench::prepare(cli.xtask.clone(), cli.output.clone(), cli.runs, out)?;
    let mut report = Report::new(cli.runs)?;
    let wanted = |name: &str| cli.only.is_empty() || cli.only.iter().any(|wanted| wanted == name);
    let mut first_error = None;
    // One thing that cannot be measured here does not hide the figures of the others.
    let mut failed = |error: Error, report: &mut Report, out: &mut Output| {
        out.error(&error);
        report.not_run.push((error.message().split(':').next().unwrap_or_default().to_owned(), error.message().to_owned()));
        first_error.get_or_insert(error);
    };
    if wanted(gateway::NAME) {
        out.say(format!("{}: under load", gateway::NAME));
        match gateway::measure(&bench) {
            Ok(measured) => report.gateway = Some(measured),
            Err(error) => failed(error.context(gateway::NAME), &mut report, out),
        }
    }
    if wanted(bundle::NAME) {
        out.say(format!("{}: packing, checking", bundle::NAME));
        match bundle::possible().and_then(|()| bundle::measure(&bench)) {
            Ok(measured) => report.bundle = Some(measured),
            Err(error) => failed(error.context(bundle::NAME), &mut report, out),
        }
    }
    if wanted(node::NAME) {
        out.say(format!("{}: the whole stack, then under load", node::NAME));
        match node::measure(&bench) {
            Ok(measured) => report.node = Some(measured),
            Err(error) => failed(error.context(node::NAME), &mut report, out),
        }
    }
    if wanted(nix::NAME) {
        out.say(format!("{}: through both doors, then again", nix::NAME));
        match nix::measure(&bench) {
            Ok(measured) => report.doors = Some(measured),
            Err(error) => failed(error.context(nix::NAME), &mut report, out),
        }
    }
    for image in IMAGES.iter().filter(|image| wanted(image.name)) {
        match measure(&bench, image, cli.no_peers, &mut report.not_run, out) {
            Ok(measured) => report.images.push(measured),
            Err(error) => failed(error.context(image.name), &mut report, out),
        }
    }
    report.not_run.extend(peers::absent(cli.no_peers));
    fs_err::write(cli.output.join("report.txt"), report.table())?;
    let (page, data) = (cli.output.join("report.html"), cli.output.join("report.json"));
    fs_err::write(&data, serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?)?;
    fs_err::write(&page, html::page(&report))?;
    out.say(format!("wrote {} and {}", page.display(), data.display()));
    first_error.map_or(Ok(()), Err)
}

fn measure(
    bench: &Bench,
    image: &'static inputs::Image,
    no_peers: bool,
    not_run: &mut Vec<(String, String)>,
    out: &mut Output,
) -> Result<Image> {
    out.say(format!("{}: inputs", image.name));
    let material = bench.material(image, out)?;
    out.say(format!("{}: ours", image.name));
    let (ours, layers) = ours::measure(bench, &material)?;
    out.say(format!("{}: floor", image.name));
    let floor = floor::measure(bench, &material, &layers)?;
    let mut peers = Vec::new();
    if !no_peers {
        for peer in peers::present() {
            out.say(format!("{}: {}", image.name, peer.name));
            match peer.measure(bench, &material) {
                Ok(measured) => peers.push(measured),
                Err(error) => {
                    let error = error.context(peer.name);
                    out.error(&error);
                    not_run.push((image.name.to_owned(), error.message().to_owned()));
                }
            }
        }
    }
    Ok(Image {
        name: image.name.into(),
        packed: material.packed_bytes(),
        layers: layers.iter().map(|layer| layer.size).sum(),
        floor,
        ours,
        peers,
    })
}
