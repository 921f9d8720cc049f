//! `cargo xtask bundle sign`: a minisign signature over the list of parts, which stands behind it.

use std::path::PathBuf;

use images::{Class, Error, Result};

use super::pace;
use crate::bundle::read::Checking;
use crate::bundle::{Bundle, Trust, signature, write};
use crate::output::Output;

/// Sign a bundle with a secret key of minisign's: its signature goes into the bundle, whose other bytes stay
#[derive(clap::Args)]
pub struct Args {
    /// The bundle
    bundle: PathBuf,
    /// The secret key, as `minisign -G` makes one
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File that holds the key's passphrase; without it, the terminal is asked
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Replace a signature that is there
    #[arg(long)]
    force: bool,
}

/// Checks every part, then signs.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let bundle = Bundle::open(&args.bundle, &Trust::Anybody)?;
    if bundle.signature.is_some() && !args.force {
        return Err(Error::new(Class::Usage, format!("{} is signed already", args.bundle.display())).hint("--force replaces the signature"));
    }
    // Nobody should put a name to what is damaged.
    bundle.read(&mut Checking, "checking", pace(out))?;
    let id = bundle.id();
    let made = signature::sign(&bundle.list.text(), &id, &args.key, || args.passphrase())?;
    write::put_signature(&args.bundle, &bundle, &made)?;
    out.result(format!("{}  {}  signed", args.bundle.display(), id.short()));
    Ok(())
}

impl Args {
    fn passphrase(&self) -> Result<String> {
        if let Some(file) = &self.passphrase_file {
            let text = fs_err::read_to_string(file)?;
            return Ok(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned());
        }
        let name = self.key.display();
        match std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            true => rpassword::prompt_password(format!("Passphrase of {name}: ")).map_err(Error::from),
            false => Err(Error::new(Class::Usage, format!("{name} is encrypted, and there is no terminal to ask for its passphrase"))
                .hint("--passphrase-file FILE names a file that holds it")),
        }
    }
}
