//! `cargo xtask images sign-plugin`: a signature for somebody's own plugin bundle, made once. Builds take it, never the key.

use std::path::PathBuf;

use images::openpgp::sign_detached;
use images::{Class, Error, Result};

use super::lock::write_beside;
use crate::output::Output;

/// Sign a plugin bundle with your own RSA key: writes FILE.sig
#[derive(clap::Args)]
pub struct Args {
    /// The bundle
    file: PathBuf,
    /// Secret key, binary or armored; RSA, as the server knows no other kind
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// File that holds the key's passphrase (a newline at its end does not count)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Replace a signature that is there
    #[arg(long)]
    force: bool,
}

/// Writes the signature beside the bundle.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let mut target = args.file.clone().into_os_string();
    target.push(".sig");
    let target = PathBuf::from(target);
    if target.exists() && !args.force {
        return Err(Error::new(Class::Usage, format!("{} is there already", target.display())).hint("--force replaces it"));
    }
    let passphrase = match &args.passphrase_file {
        Some(file) => fs_err::read(file)?,
        None => Vec::new(),
    };
    let passphrase = passphrase.strip_suffix(b"\n").unwrap_or(&passphrase);
    let passphrase = passphrase.strip_suffix(b"\r").unwrap_or(passphrase);
    let signature = sign_detached(fs_err::File::open(&args.file)?, &fs_err::read(&args.key)?, passphrase, &args.key.display().to_string())?;
    write_beside(&target, &signature)?;
    out.result(target.display().to_string());
    Ok(())
}
