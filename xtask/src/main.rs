//! `cargo xtask <verb>`: the menu, the match, the exit code.

use std::process::ExitCode;

use clap::Parser;
use xtask::cli::{
    bench, bundle, certs, ci, convert, doctor, down, e2e, env, images, integrations, logs, mmctl, provision, psql, status, up,
};
use xtask::output::Output;

/// Chat and calls for a closed network: images, site, stack, proof
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Images(Box<images::Args>),
    Env(env::Args),
    Certs(Box<certs::Args>),
    Doctor(doctor::Args),
    Up(Box<up::Args>),
    Down(down::Args),
    Status(status::Args),
    Logs(logs::Args),
    Provision(provision::Args),
    Convert(convert::Args),
    Integrations(Box<integrations::Args>),
    Psql(psql::Args),
    Mmctl(mmctl::Args),
    Bundle(bundle::Args),
    E2e(e2e::Args),
    Bench(bench::Args),
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
        Verb::Env(args) => env::run(&args, &mut out),
        Verb::Certs(args) => certs::run(&args, &mut out),
        Verb::Doctor(args) => doctor::run(&args, &mut out),
        Verb::Up(args) => up::run(&args, &mut out),
        Verb::Down(args) => down::run(&args, &mut out),
        Verb::Status(args) => status::run(&args, &mut out),
        Verb::Logs(args) => logs::run(&args, &mut out),
        Verb::Provision(args) => provision::run(&args, &mut out),
        Verb::Convert(args) => convert::run(&args, &mut out),
        Verb::Integrations(args) => integrations::run(&args, &mut out),
        Verb::Psql(args) => psql::run(&args, &mut out),
        Verb::Mmctl(args) => mmctl::run(&args, &mut out),
        Verb::Bundle(args) => bundle::run(&args, &mut out),
        Verb::E2e(args) => e2e::run(&args, &mut out),
        Verb::Bench(args) => bench::run(&args, &mut out),
        Verb::Ci(args) => ci::run(&args, &mut out),
    };
    out.end(result)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A verb's help, and that of each below it, with the words that lead there.
    fn helps(command: &clap::Command, words: &[&str], all: &mut Vec<(String, String)>) {
        // The width of a terminal, and what is in this machine's environment, are not the help's.
        let mut shown = command.clone().term_width(120).mut_args(|argument| argument.hide_env_values(true));
        all.push((words.join("-"), shown.render_long_help().to_string()));
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            helps(below, &[words, &[below.get_name()]].concat(), all);
        }
    }

    #[test]
    fn every_verb_says_this_of_itself() {
        let mut command = Cli::command();
        command.build();
        let mut all = Vec::new();
        helps(&command, &["help"], &mut all);
        assert!(all.len() > 15, "only {} verbs", all.len());
        for (name, help) in all {
            insta::assert_snapshot!(name, help);
        }
    }

    #[test]
    fn every_command_that_the_documents_show_is_one_that_the_menu_takes() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let in_docs = fs_err::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let documents: Vec<_> = in_docs
            .filter(|path| path.extension().is_some_and(|end| end == "md"))
            .chain(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)))
            .collect();
        assert!(documents.len() >= 4, "only {documents:?}");
        let mut shown = vec![EXAMPLES.to_owned()];
        shown.extend(documents.iter().map(|document| fs_err::read_to_string(document).unwrap()));
        let commands = shown.iter().flat_map(|text| text.lines()).filter(|line| line.trim_start().starts_with("cargo xtask "));
        let mut count = 0;
        for line in commands {
            // An explanation stands behind a hash sign, or behind several spaces.
            let command = line.trim().split(" #").next().unwrap().split("   ").next().unwrap();
            // What stands between quotation marks is one word.
            let words = command.split('"').enumerate().flat_map(|(at, piece)| match at % 2 {
                0 => piece.split_whitespace().collect(),
                _ => vec![piece],
            });
            let words = std::iter::once("cargo xtask").chain(words.skip(2));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{command}\n{error}");
            }
            count += 1;
        }
        assert!(count >= 6, "only {count} commands were found");
    }
}
