//! `cargo xtask <verb>`: the menu, the match, the exit code.

use std::process::ExitCode;

use clap::Parser;
use xtask::cli::{ci, images};
use xtask::output::Output;

/// Chat and calls for a closed network: images, site, stack, proof
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, once")]
enum Verb {
    Images(Box<images::Args>),
    Ci(ci::Args),
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask images coturn postgres alert-gateway   build three images into target/images
  cargo xtask images --load                          build every image and load it into Docker
  cargo xtask images verify coturn                   build again, elsewhere, and compare every byte
  cargo xtask ci --install                           every check of this repository";

fn main() -> ExitCode {
    // cargo starts this executable in rustc's place while it builds what goes into images.
    if let Some(code) = ::images::programs::rustc_wrapper() {
        return code;
    }
    let cli = Cli::parse();
    let mut out = Output::new();
    let result = match cli.verb {
        Verb::Images(args) => images::run(&args, &mut out),
        Verb::Ci(args) => ci::run(&args, &mut out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            ExitCode::from(error.class().exit_code())
        }
    }
}
