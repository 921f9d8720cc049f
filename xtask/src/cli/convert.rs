//! `cargo xtask convert`: the settings of a Mattermost that runs elsewhere become a site.

use std::io::Read;
use std::path::{Path, PathBuf};

use images::{Class, Error, Result};

use crate::cli::env;
use crate::convert::{Draft, config_json, gitlab_rb};
use crate::output::Output;
use crate::site::secrets::Found;
use crate::site::{self, SiteArgs, addresses};

/// Make a site from the settings of a Mattermost that runs elsewhere
///
/// Writes site.toml and secrets.env, and what `cargo xtask env` makes from them. What becomes of each setting is said on standard error:
/// applied, mapped with a remark, or dropped with the reason. The file is read and never run, and no other file is read.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    source: Source,
}

#[derive(clap::Subcommand)]
enum Source {
    /// GitLab's /etc/gitlab/gitlab.rb, with the Mattermost that it brings along
    GitlabRb(How),
    /// Mattermost's own config.json; what is at its default is left alone
    ConfigJson(How),
}

#[derive(clap::Args)]
struct How {
    /// The file: read, and never run
    file: PathBuf,
    #[command(flatten)]
    site: SiteArgs,
    /// Print what became of each setting, in this form, and no names of files
    #[arg(long, value_enum, value_name = "FORM")]
    report: Option<Form>,
    /// Write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write over a site that says something else, and keep a copy of each file
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// A table for people
    Markdown,
    /// format, source, settings (line, setting, outcome: applied, mapped or dropped, to, remarks), left_alone, next
    Json,
}

/// GitLab's own, with every comment, has a fifth of a megabyte.
const MOST: u64 = 16 << 20;

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    match &args.source {
        Source::GitlabRb(args) => convert(args, gitlab_rb::read, out),
        Source::ConfigJson(args) => convert(args, config_json::read, out),
    }
}

fn convert(how: &How, read: fn(&str, &str) -> Result<Draft>, out: &mut Output) -> Result<()> {
    let file = how.file.as_path();
    let shown = file.display().to_string();
    let draft = read(&text_of(file)?, &shown)?;
    let name = file.file_name().map_or(shown, |name| name.to_string_lossy().into_owned());
    let toml = draft.toml(&name);
    let report = draft.report(&name);
    let folder = how.site.folder();
    let site = site::parse(&folder.toml().display().to_string(), &toml, || Ok(vec![addresses::of_this_machine()?]))?;
    let lines = if how.dry_run {
        Vec::new()
    } else {
        let found = Found { secrets: draft.secrets, foreign: Vec::new(), settings: draft.others };
        let held = folder.hold()?;
        let lines = env::adopt(&folder, &site, &toml, (file, found), how.force, out)?;
        drop(held);
        lines
    };
    match how.report {
        Some(Form::Markdown) => out.result(report.markdown().trim_end()),
        Some(Form::Json) => out.result(report.json()),
        None => lines.iter().for_each(|line| out.result(line)),
    }
    report.settings.iter().filter_map(|row| row.said()).for_each(|line| out.say(line));
    report.next.iter().for_each(|step| out.say(format!("next: {step}")));
    out.say(report.summary());
    Ok(())
}

/// The whole text, of a file that is one and not larger than anybody writes.
fn text_of(file: &Path) -> Result<String> {
    let shown = file.display();
    let unusable = |found: String| Error::new(Class::Usage, format!("{shown} is not usable")).detail(format!("found {found}"));
    let metadata = fs_err::metadata(file).map_err(|error| Error::new(Class::Usage, error.to_string()))?;
    if !metadata.is_file() {
        return Err(unusable("something that is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    fs_err::File::open(file)
        .and_then(|open| open.take(MOST + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::new(Class::Usage, error.to_string()))?;
    if bytes.len() as u64 > MOST {
        return Err(unusable(format!("more than {} MiB", MOST >> 20)).hint("name the file with the settings itself, not an archive"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        unusable(format!("other bytes than UTF-8 in line {line}"))
    })
}
