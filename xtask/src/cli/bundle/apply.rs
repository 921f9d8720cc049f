//! `cargo xtask bundle apply`: a bundle into a folder, from which `up` starts the stack.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use images::oci::rfc3339;
use images::{Class, Error, Result};

use super::{TrustArgs, pace};
use crate::bundle::apply::Applied;
use crate::bundle::{Bundle, List};
use crate::output::Output;

/// Apply a bundle to a folder, without a network: there, ./xtask up starts the stack
///
/// The signature is checked first, then each part before it is in use. What was in use stays in use until all of the new one is there.
/// Cut off, it goes on where it was; said again, it finds that all is there, and mends what is not.
#[derive(clap::Args)]
pub struct Args {
    /// The bundle
    bundle: PathBuf,
    #[command(flatten)]
    trust: TrustArgs,
    /// The folder
    #[arg(long, value_name = "DIR", default_value = "chatops")]
    to: PathBuf,
    /// Go back to an older version without being asked
    #[arg(long)]
    older: bool,
}

/// Applies it.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle, &args.trust.trust()?)?;
    if args.trust.key.is_none() {
        out.say("nobody is asked who made it");
    }
    let applied = Applied::new(&args.to);
    if let Some(before) = applied.list()?
        && is_older(&bundle.list, &before)
        && !args.older
    {
        ask(&bundle.list, &before, &args.to, out)?;
    }
    let outcome = applied.apply(&bundle, pace(out))?;
    let id = bundle.id().short();
    match outcome.switched || outcome.written > 0 {
        true => out.result(format!("{}  {id}  {} parts written, {} there", args.to.display(), outcome.written, outcome.there)),
        false => out.result(format!("{}  {id}  nothing had to change", args.to.display())),
    }
    out.say(format!("next: cd {} && ./xtask up", args.to.display()));
    Ok(())
}

/// Whether a bundle was made of sources from before those of the one in use.
fn is_older(new: &List, before: &List) -> bool {
    matches!((&new.source, &before.source), (Some(new), Some(before)) if new.time < before.time)
}

fn ask(new: &List, before: &List, to: &Path, out: &mut Output) -> Result<()> {
    let line = |what: &str, list: &List| {
        let time = list.source.as_ref().map(|source| rfc3339(source.time)).unwrap_or_default();
        format!("{what} {} of {time}", list.id().short())
    };
    let (used, wanted) = (line("in use ", before), line("bundle ", new));
    let refuse = |why: &str| {
        Error::new(Class::Usage, format!("the bundle is older than what is in use in {}: {why}", to.display()))
            .detail(used.clone())
            .detail(wanted.clone())
    };
    if !std::io::stdin().is_terminal() {
        return Err(
            refuse("nobody is there to answer").hint("--older applies it; a database that a newer version has used may not go back")
        );
    }
    out.say(format!("The bundle is older than what is in use in {}:", to.display()));
    out.say(format!("  {used}"));
    out.say(format!("  {wanted}"));
    out.say("A database that a newer version has used may not go back. Type \"older\" to go on:");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() == "older" {
        true => Ok(()),
        false => Err(refuse("the answer was another")),
    }
}

#[cfg(test)]
mod tests {
    use images::Digest;

    use super::*;
    use crate::bundle::list::{FORMAT, Source};

    #[test]
    fn an_older_bundle_over_a_newer_one_is_asked_about() {
        let of = |time: Option<u64>| List {
            format: FORMAT,
            version: "0.1.0".into(),
            source: time.map(|time| Source { revision: Digest::of("r").to_string(), time, changed: false }),
            ca: None,
            since: None,
            images: Vec::new(),
            parts: Vec::new(),
            earlier: Vec::new(),
            program: None,
        };
        let (old, new, nowhere) = (of(Some(1_700_000_000)), of(Some(1_700_000_001)), of(None));
        assert!(is_older(&old, &new));
        for (bundle, in_use) in [(&new, &old), (&new, &new), (&nowhere, &new), (&old, &nowhere)] {
            assert!(!is_older(bundle, in_use));
        }
        let error = ask(&old, &new, Path::new("chatops"), &mut Output::new()).unwrap_err();
        assert_eq!(error.class(), Class::Usage);
        assert!(error.to_string().contains("in use  ") && error.to_string().contains("2023-11-14T22:13:20Z"), "{error}");
        assert!(error.to_string().contains("--older applies it"), "{error}");
    }
}
