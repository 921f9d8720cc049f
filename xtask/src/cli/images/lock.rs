//! `cargo xtask images lock`: pin what the specs name, move pins, decide about maintainer scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::time::SystemTime;

use images::debian_index::Trust;
use images::file::write_beside;
use images::ledger::{Decision, parse_decision};
use images::lock::{Artefact, Kind, Lock, Origin, diff};
use images::openpgp::Keyring;
use images::relock::{Relock, Relocked, Update, empty};
use images::spec::Spec;
use images::store::http::chain;
use images::store::{Options, http_client};
use images::{Class, Error, Result, Store, vendor};

use super::options::StoreArgs;
use crate::mirror::MirrorArgs;
use crate::output::Output;
use crate::workspace::Workspace;

/// Pin what the specs newly name, and keep every other pin
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Move these pins to the archive's newest; without a name, those of all Debian packages
    #[arg(long, value_name = "NAME", num_args = 0..)]
    update: Option<Vec<String>>,
    /// Write nothing and ask nobody: fail where specs, ledger and lock disagree
    #[arg(long, conflicts_with_all = ["update", "treat"])]
    check: bool,
    /// Debian's archive keyring [default: this machine's]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Say what stands in for a maintainer script: accounts, ca-bundle, ldconfig, links or none
    #[arg(long, value_name = "PACKAGE.SCRIPT=TREATMENT", requires = "reason")]
    treat: Vec<String>,
    /// Why that is enough: one reason for each --treat, or one for all
    #[arg(long, value_name = "TEXT", requires = "treat")]
    reason: Vec<String>,
    #[command(flatten)]
    vendor: VendorArgs,
}

/// How a vendor's entry moves. Values belong to the names of `--update` in their order.
#[derive(clap::Args, Default)]
pub struct VendorArgs {
    /// Version of the release that --update names
    #[arg(long, value_name = "VERSION", requires = "update")]
    version: Option<String>,
    /// The vendor's SHA-256 of the release, as published
    #[arg(long, value_name = "HEX", requires_all = ["update", "version"], conflicts_with = "file")]
    sha256: Vec<String>,
    /// The release itself, with its signature FILE.sig beside it
    #[arg(long, value_name = "FILE", requires_all = ["update", "version", "release_key"])]
    file: Vec<PathBuf>,
    /// The vendor's public key, which FILE.sig is checked against
    #[arg(long, value_name = "FILE")]
    release_key: Option<PathBuf>,
    /// The public key that the plugin's signature is checked against [default: fetched from the vendor]
    #[arg(long, value_name = "FILE", requires = "update")]
    plugin_key: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask images lock                              add what the specs newly name
  cargo xtask images lock --update libssl3t64          move one pin to the archive's newest
  cargo xtask images lock --update mattermost --version 11.7.10 --sha256 HEX
  cargo xtask images lock --check                      what CI asks";

/// Makes the new lock, prints what changed, and writes it.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let workspace = Workspace::find()?;
    let specs = workspace.read_specs(&[])?;
    if args.check {
        return check(&workspace.read_lock()?, &specs, out);
    }
    let on_disk = if workspace.lock().is_file() { workspace.read_lock()? } else { empty() };
    let store = Store::open(&args.store.root(&workspace))?;
    let mut old = on_disk.clone();
    let update = args.vendors(&mut old, &store, out)?;
    let decisions = args.decisions()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
    let relock = Relock {
        specs: &specs,
        old: &old,
        update,
        decisions: &decisions,
        trust: &|| Trust::debian(args.keyring.as_deref()),
        mirrors: &|| args.mirrors.load()?.at(&on_disk),
        store: &store,
        now,
        options: &Options::default(),
        progress: out.progress(),
    };
    let Relocked { lock, moved } = relock.run()?;
    for (package, relation) in moved {
        out.say(format!("{package} had to move: the pinned version does not satisfy {relation}"));
    }
    let lines = diff::lines(&on_disk, &lock);
    if lock.to_text() == on_disk.to_text() {
        out.say("the lock answers every spec; nothing changed");
        return Ok(());
    }
    lines.iter().for_each(|line| out.result(line));
    write_beside(&workspace.lock(), lock.to_text().as_bytes(), 0o644)?;
    out.say(format!("wrote {}", workspace.lock().display()));
    Ok(())
}

fn check(lock: &Lock, specs: &BTreeMap<String, Spec>, out: &mut Output) -> Result<()> {
    let found = lock.disagreements(specs);
    if found.is_empty() {
        out.result(format!("images/lock.json answers {} specs with {} files", specs.len(), lock.artefacts.len()));
        return Ok(());
    }
    let error = Error::new(Class::Check, "images/lock.json and the specs disagree");
    Err(found.into_iter().fold(error, |error, line| error.detail(line)).hint("cargo xtask images lock"))
}

impl Args {
    fn decisions(&self) -> Result<Vec<Decision>> {
        if self.reason.len() > 1 && self.reason.len() != self.treat.len() {
            return Err(Error::new(Class::Usage, "some --treat have no --reason")
                .detail(format!("expected one --reason for all, or {} of them", self.treat.len()))
                .detail(format!("found    {}", self.reason.len())));
        }
        let reason = |at: usize| self.reason.get(at).or(self.reason.first()).map(String::as_str).unwrap_or_default();
        self.treat.iter().enumerate().map(|(at, treat)| parse_decision(treat, reason(at))).collect()
    }

    /// Moves the vendors' entries that `--update` names, and gives back what is left for Debian.
    fn vendors(&self, lock: &mut Lock, store: &Store, out: &mut Output) -> Result<Update> {
        let Some(names) = &self.update else { return Ok(Update::Keep) };
        let is_release = |name: &&String| lock.artefact(Kind::Release, name).is_some() || name.starts_with("mattermost");
        let releases: Vec<String> = names.iter().filter(is_release).cloned().collect();
        let is_plugin = |name: &&String| lock.artefact(Kind::Plugin, name).is_some();
        let plugins: Vec<String> = names.iter().filter(is_plugin).cloned().collect();
        self.releases(lock, store, &releases)?;
        for plugin in &plugins {
            self.plugin(lock, store, plugin, out)?;
        }
        let rest: BTreeSet<String> = names.iter().filter(|name| !releases.contains(name) && !plugins.contains(name)).cloned().collect();
        Ok(match (names.is_empty(), rest.is_empty()) {
            (true, _) => Update::All,
            (false, true) => Update::Keep,
            (false, false) => Update::Names(rest),
        })
    }

    fn releases(&self, lock: &mut Lock, store: &Store, names: &[String]) -> Result<()> {
        let VendorArgs { version, sha256, file, release_key, .. } = &self.vendor;
        let given = sha256.len() + file.len();
        if names.len() != given || (version.is_none() && !names.is_empty()) {
            return Err(Error::new(Class::Usage, "a release moves to a version with a SHA-256, or with its file and signature")
                .detail(format!("expected --version and, for each of the {} releases named, --sha256 HEX or --file FILE", names.len()))
                .detail(format!("found    {given}"))
                .hint("the vendor's version archive lists the SHA-256 of each release"));
        }
        let Some(version) = version else { return Ok(()) };
        for (name, sha256) in names.iter().zip(sha256) {
            let sha256 = sha256.parse().map_err(|error: String| Error::new(Class::Usage, format!("--sha256 for {name}: {error}")))?;
            vendor::accept_release(lock, name, version, sha256, None)?;
        }
        let (Some(key), false) = (release_key, file.is_empty()) else { return Ok(()) };
        let keyring = Keyring::parse(&fs_err::read(key)?, &key.display().to_string())?;
        for (name, file) in names.iter().zip(file) {
            let mut beside = file.clone().into_os_string();
            beside.push(".sig");
            let signature = fs_err::read(PathBuf::from(beside))?;
            vendor::accept_release_file(lock, name, version, fs_err::File::open(file)?, &signature, &keyring)?;
            store.add_file(file)?;
        }
        Ok(())
    }

    /// Fetches the bundle, unless the store has it, and lets its signature decide.
    fn plugin(&self, lock: &mut Lock, store: &Store, name: &str, out: &mut Output) -> Result<()> {
        let Some(Artefact { sha256, from: Origin::Url { url }, .. }) = lock.artefact(Kind::Plugin, name).cloned() else {
            return Err(Error::new(Class::Usage, format!("the lock has no address for plugin \"{name}\"")));
        };
        let known = sha256.map(|sha256| store.path(&sha256)).filter(|path| path.is_file());
        let bundle = match known {
            Some(path) => fs_err::read(path)?,
            None => {
                out.say(format!("fetching {url}"));
                get(&url).map_err(|error| {
                    error.hint(format!("bring the file by hand: cargo xtask images add {}", url.rsplit('/').next().unwrap_or(&url)))
                })?
            }
        };
        let key = match &self.vendor.plugin_key {
            Some(file) => fs_err::read(file)?,
            None => get(vendor::PLUGIN_KEY_URL).map_err(|error| error.hint("name a copy of the vendor's key: --plugin-key FILE"))?,
        };
        vendor::accept_plugin(lock, name, Cursor::new(&bundle), &key)?;
        store.insert(&bundle[..], None, None)?;
        Ok(())
    }
}

/// The largest plugin has 100 MiB.
const PLUGIN_LIMIT: u64 = 1 << 30;

/// A file whose trust comes from its signature or fingerprint, so that no SHA-256 is known before.
fn get(url: &str) -> Result<Vec<u8>> {
    let failed = |said: String| Error::new(Class::Fetch, format!("{url} could not be fetched")).detail(format!("received  {said}"));
    let response = http_client()?.get(url).send().and_then(|response| response.error_for_status());
    let response = response.map_err(|error| failed(chain(error)))?;
    let mut bytes = Vec::new();
    response.take(PLUGIN_LIMIT).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        Cli::try_parse_from(std::iter::once("lock").chain(line.split(' '))).expect("a valid command line").args
    }

    fn lock() -> Lock {
        let mut lock = empty();
        vendor::accept_release(&mut lock, "mattermost", "1.0", images::Digest::of("old"), None).expect("good");
        lock
    }

    fn vendors(line: &str) -> Result<(Lock, Update)> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path()).expect("opens");
        let mut lock = lock();
        let update = args(line).vendors(&mut lock, &store, &mut Output::new())?;
        Ok((lock, update))
    }

    #[test]
    fn an_update_goes_to_the_vendor_or_to_debian_by_its_name() {
        let names = |names: &[&str]| Update::Names(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(vendors("--update").expect("good").1, Update::All);
        assert_eq!(vendors("--update libc6 tzdata").expect("good").1, names(&["libc6", "tzdata"]));
        let (one, two) = (images::Digest::of("one"), images::Digest::of("two"));
        let line = format!("--update mattermost mattermost-team libc6 --version 1.1 --sha256 {one} --sha256 {two}");
        let (lock, update) = vendors(&line).expect("good");
        assert_eq!(update, names(&["libc6"]));
        assert_eq!(lock.artefact(Kind::Release, "mattermost").and_then(|artefact| artefact.sha256), Some(one));
        let team = lock.artefact(Kind::Release, "mattermost-team").expect("added");
        assert_eq!((team.sha256, team.from.file_name()), (Some(two), "mattermost-team-1.1-linux-amd64.tar.gz"));
    }

    #[test]
    fn a_release_does_not_move_without_a_whole_sha256() {
        for line in ["--update mattermost", "--update mattermost --version 1.1", "--update mattermost --version 1.1 --sha256 TBD"] {
            assert_eq!(vendors(line).expect_err(line).class(), Class::Usage);
        }
        let upper = images::Digest::of("x").to_string().to_uppercase();
        let error = vendors(&format!("--update mattermost --version 1.1 --sha256 {upper}")).expect_err("upper case");
        assert!(error.to_string().contains("expected 64 lower-case hex digits"), "{error}");
    }

    #[test]
    fn reasons_belong_to_treatments() {
        let reasons = |line: &str| args(line).decisions().map(|all| all.into_iter().map(|one| one.reason).collect::<Vec<_>>());
        assert_eq!(reasons("--treat a.postinst=none --treat a.prerm=none --reason why").expect("one for all"), ["why", "why"]);
        assert_eq!(reasons("--treat a.postinst=none --reason a --treat a.prerm=none --reason b").expect("one for each"), ["a", "b"]);
        assert!(reasons("--treat a.postinst=none --reason a --reason b").is_err());
        assert!(Cli::try_parse_from(["lock", "--treat", "a.postinst=none"]).is_err(), "a treatment needs a reason");
        assert!(Cli::try_parse_from(["lock", "--check", "--update"]).is_err(), "a check changes nothing");
    }

    #[test]
    fn a_check_names_every_disagreement_and_the_command_that_mends_it() {
        let spec = "format = 1\ntitle = \"t\"\nversion = \"debian:app\"\n[debian]\npackages = [\"app\"]\n[config]\nuser = \"nobody\"\n";
        let specs = BTreeMap::from([("demo".to_owned(), Spec::parse(spec, "image.toml").expect("valid"))]);
        let error = check(&lock(), &specs, &mut Output::new()).expect_err("they disagree");
        assert_eq!(error.class(), Class::Check);
        insta::assert_snapshot!(error, @r"
        images/lock.json and the specs disagree
          demo: not in the lock
          toolchain: the lock does not pin libc6, libc6-dev, libgcc-14-dev, libgcc-s1, zlib1g
          mattermost: pinned, but no image needs it
        hint: cargo xtask images lock
        ");
    }

    #[test]
    fn the_lock_of_this_checkout_answers_its_specs() {
        let workspace = Workspace::find().expect("in the checkout");
        check(&workspace.read_lock().expect("readable"), &workspace.read_specs(&[]).expect("valid"), &mut Output::new()).expect("agrees");
    }
}
