//! `cargo xtask images sign-plugin`: a signature for somebody's own plugin bundle, made once. Builds take it, never the key.

use std::path::PathBuf;

use images::file::write_beside;
use images::openpgp::sign_detached;
use images::{Class, Error, Result};

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
    write_beside(&target, &signature, 0o644)?;
    out.result(target.display().to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use images::openpgp::Keyring;
    use pgp::composed::{KeyType, SecretKeyParamsBuilder};
    use pgp::ser::Serialize as _;

    use super::*;

    #[test]
    fn a_bundle_is_signed_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let mut params = SecretKeyParamsBuilder::default();
        params.key_type(KeyType::Rsa(2048)).can_certify(true).can_sign(true).primary_user_id("Test".into());
        params.passphrase(Some("correct horse".to_owned()));
        let key = params.build().expect("good").generate(rand::thread_rng()).expect("a key is made");
        fs_err::write(path("key"), key.to_bytes().expect("serializes")).expect("written");
        fs_err::write(path("passphrase"), "correct horse\n").expect("written");
        fs_err::write(path("bundle.tar.gz"), "bundle").expect("written");
        let args = |force| Args { file: path("bundle.tar.gz"), key: path("key"), passphrase_file: Some(path("passphrase")), force };

        run(&args(false), &mut Output::new()).expect("signs");
        let signature = fs_err::read(path("bundle.tar.gz.sig")).expect("written");
        let ring = Keyring::parse(&key.to_public_key().to_bytes().expect("serializes"), "ring").expect("a keyring");
        let allowed = ring.fingerprints();
        let bundle = fs_err::File::open(path("bundle.tar.gz")).expect("there");
        ring.verify_detached(bundle, &signature, &[&allowed[0]], "bundle").expect("good");

        let error = run(&args(false), &mut Output::new()).expect_err("it is there already");
        assert!(error.to_string().ends_with("bundle.tar.gz.sig is there already\nhint: --force replaces it"), "{error}");
        assert_eq!(fs_err::read(path("bundle.tar.gz.sig")).expect("there"), signature);
        run(&args(true), &mut Output::new()).expect("replaces it");
    }
}
