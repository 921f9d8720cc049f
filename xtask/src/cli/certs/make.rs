//! `cargo xtask certs`: makes what is missing and issues what is due, by the site's own CA or another.

use std::path::{Path, PathBuf};

use images::{Class, Error, Result};
use rcgen::KeyPair;
use time::OffsetDateTime;

use crate::output::Output;
use crate::site::pki::certificate::Certificate;
use crate::site::pki::files::{Change, Files};
use crate::site::pki::found::{CA_KEY, Found, request_file};
use crate::site::pki::plan::{Ask, Ca, Done, OpenKey, Plan, State, plan};
use crate::site::pki::{Authority, Server, Wanted, chain, key, request};
use crate::site::{Folder, Service, Site, SiteArgs};

/// Who signs, and what comes from elsewhere.
#[derive(clap::Args)]
pub struct MakeArgs {
    #[command(flatten)]
    site: SiteArgs,
    /// Sign with this CA: its certificate in PEM, then those above it up to the root. With --cert or --chain: further certificates
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The CA's private key, PKCS#8 in PEM; it is read, and stays where it is
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_key: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Issue anew though nothing is due, with --ca; `certs renew` does it with the site's own CA
    #[arg(long, requires = "ca_key")]
    force: bool,
    /// Write requests for somebody else's CA, pki/NAME.csr, instead of signing
    #[arg(long, conflicts_with_all = ["ca", "chain", "cert"])]
    csr: bool,
    /// Take in the certificates that such a CA made, with those above them. May be given several times
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ca_key", "cert"])]
    chain: Vec<PathBuf>,
    /// Take a server's certificate that exists, followed by those above it
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "ca_key")]
    cert: Option<PathBuf>,
    /// The private key of --cert
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Which service --cert or --csr is for [default: mattermost for --cert, all for --csr]. May be given several times
    #[arg(long = "for", value_name = "NAME", value_parser = Service::ALL.map(Service::name))]
    services: Vec<String>,
}

/// How an encrypted key is opened.
#[derive(clap::Args)]
pub struct PassphraseArgs {
    /// File with the passphrase of an encrypted CA key; without it, the terminal is asked
    #[arg(long, value_name = "FILE")]
    ca_passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// Reads a private key, with the passphrase where it is encrypted.
    pub fn open(&self, pem: &str, name: &str) -> Result<KeyPair> {
        key::read(pem, name, &mut || match &self.ca_passphrase_file {
            Some(file) => {
                let text = fs_err::read_to_string(file)?;
                Ok(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned())
            }
            None if std::io::IsTerminal::is_terminal(&std::io::stdin()) => {
                rpassword::prompt_password(format!("Passphrase of {name}: ")).map_err(Error::from)
            }
            None => Err(Error::new(Class::Usage, format!("{name} is encrypted, and there is no terminal to ask for its passphrase"))
                .hint("--ca-passphrase-file FILE names a file that holds it")),
        })
    }
}

/// What every verb does that needs the certificates: makes what is missing and issues what is due, and says what changed. The caller
/// holds the folder.
pub fn ensure(folder: &Folder, site: &Site, out: &mut Output) -> Result<()> {
    let wanted = Wanted::of(site);
    let now = OffsetDateTime::now_utc();
    let (files, found) = read(&folder.pki(), &wanted)?;
    let passphrase = PassphraseArgs { ca_passphrase_file: None };
    let open = &mut |pem: &str| passphrase.open(pem, &ca_key(&files));
    let plan = plan(&found, &wanted, Ask::default(), now, open)?;
    if !plan.changes.is_empty() {
        files.change(&plan.changes)?;
        report(&plan, now, out);
    }
    Ok(())
}

/// Makes them.
pub fn run(args: &MakeArgs, out: &mut Output) -> Result<()> {
    let (folder, site) = args.site.load()?;
    let wanted = Wanted::of(&site);
    let now = OffsetDateTime::now_utc();
    // Where nothing changes not even the lock is touched; what is found without it is looked at again with it. Who names a private key
    // wants a change, and would be asked for its passphrase twice.
    if args.ca_key.is_none()
        && args.key.is_none()
        && let Some(unchanged) = unchanged(args, &folder.pki(), &wanted, now)
    {
        unchanged.tell(&folder.pki(), now, out);
        return Ok(());
    }
    let _held = folder.hold()?;
    let (files, found) = read(&folder.pki(), &wanted)?;
    let work = Work::of(args, &files, &found, &wanted, now, &mut |pem| args.passphrase.open(pem, &ca_key(&files)))?;
    files.change(work.changes())?;
    work.tell(files.folder(), now, out);
    Ok(())
}

/// What there is to tell where nothing changes. A failure says that something has to, and is told by whoever holds the folder: what
/// was read beside another command may not fit together.
fn unchanged(args: &MakeArgs, pki: &Path, wanted: &Wanted, now: OffsetDateTime) -> Option<Work> {
    let files = Files::look(pki);
    let found = look(pki, wanted).ok()?;
    let needs_key = &mut |_: &str| Err(Error::new(Class::Check, "something is to be signed"));
    let work = Work::of(args, &files, &found, wanted, now, needs_key).ok()?;
    (work.changes().is_empty() && !files.in_between()).then_some(work)
}

fn ca_key(files: &Files) -> String {
    files.path(CA_KEY).display().to_string()
}

/// What is to be done.
enum Work {
    Certificates(Plan),
    Requests {
        changes: Vec<Change>,
        /// Every service that was asked for, and whether its request is new.
        services: Vec<(String, bool)>,
    },
}

impl Work {
    fn of(args: &MakeArgs, files: &Files, found: &Found, wanted: &Wanted, now: OffsetDateTime, open: OpenKey<'_>) -> Result<Work> {
        if args.csr {
            let servers = chosen(args, wanted, &Service::ALL.map(Service::name));
            let (changes, made) = request::requests(found, &servers, now)?;
            let services = servers.iter().map(|server| (server.name.clone(), made.contains(&server.name))).collect();
            return Ok(Work::Requests { changes, services });
        }
        let ask = ask(args, files, found, wanted)?;
        plan(found, wanted, ask, now, open).map(Work::Certificates)
    }

    fn changes(&self) -> &[Change] {
        match self {
            Work::Certificates(plan) => &plan.changes,
            Work::Requests { changes, .. } => changes,
        }
    }

    fn tell(&self, pki: &Path, now: OffsetDateTime, out: &mut Output) {
        match self {
            Work::Certificates(plan) => report(plan, now, out),
            Work::Requests { services, .. } => {
                for (name, new) in services {
                    let state = if *new { "written" } else { "unchanged" };
                    out.result(format!("{name:<14} request {state}: {}", pki.join(request_file(name)).display()));
                }
                out.say("when they are signed: cargo xtask certs --chain FILE, with the certificates of the CAs above, up to the root");
            }
        }
    }
}

/// Reads what is in `pki/`, to change it. The caller holds the folder.
pub fn read(pki: &Path, wanted: &Wanted) -> Result<(Files, Found)> {
    let files = Files::look(pki);
    let found = found(&files, wanted)?;
    Ok((files, found))
}

/// Reads what is in `pki/`, and writes nothing there.
pub fn look(pki: &Path, wanted: &Wanted) -> Result<Found> {
    found(&Files::look(pki), wanted)
}

fn found(files: &Files, wanted: &Wanted) -> Result<Found> {
    Found::read(files, wanted.services.iter().map(|server| server.name.as_str()))
}

fn ask(args: &MakeArgs, files: &Files, found: &Found, wanted: &Wanted) -> Result<Ask> {
    let mut ask = Ask { renew: args.force, ..Ask::default() };
    let others = args.ca.as_deref().map(certificates).transpose()?.unwrap_or_default();
    if let (Some(ca), Some(key)) = (&args.ca, &args.ca_key) {
        let chain = chain::complete(&others[0], &others, &ca.display().to_string())?;
        let key = args.passphrase.open(&fs_err::read_to_string(key)?, &key.display().to_string())?;
        ask.ca = Ca::Existing(Box::new(Authority::new(chain, key)?));
    } else if let (Some(cert), Some(file)) = (&args.cert, &args.key) {
        let chain = certificates(cert)?;
        let pool = [&chain[..], &others, &found.roots].concat();
        let chain = chain::complete(&chain[0], &pool, &cert.display().to_string())?;
        let pem = fs_err::read_to_string(file)?;
        for server in chosen(args, wanted, &[Service::Mattermost.name()]) {
            ask.given.insert(server.name.clone(), (chain.clone(), args.passphrase.open(&pem, &file.display().to_string())?));
        }
    } else if !args.chain.is_empty() {
        let mut pool = others;
        for file in &args.chain {
            pool.extend(certificates(file)?);
        }
        // The keys of the requests move into the answer, so what is in the folder is read once more for it.
        ask.given = request::answers(look(files.folder(), wanted)?, &pool)?;
    } else if args.ca.is_some() {
        return Err(Error::new(Class::Usage, "--ca without --ca-key signs nothing")
            .hint("add --ca-key FILE, or let the CA sign: --csr, then --chain FILE"));
    }
    Ok(ask)
}

fn certificates(file: &Path) -> Result<Vec<Certificate>> {
    Certificate::from_pem(&fs_err::read(file)?, &file.display().to_string())
}

/// The servers that `--for` names; `otherwise` where it names none.
fn chosen<'a>(args: &MakeArgs, wanted: &'a Wanted, otherwise: &[&str]) -> Vec<&'a Server> {
    let named = |server: &&Server| match args.services.is_empty() {
        true => otherwise.contains(&server.name.as_str()),
        false => args.services.contains(&server.name),
    };
    wanted.services.iter().filter(named).collect()
}

/// Says what became of each certificate, and why.
pub fn report(plan: &Plan, now: OffsetDateTime, out: &mut Output) {
    plan.done.iter().for_each(|done| out.result(line(done, now)));
    plan.warnings.iter().for_each(|warning| out.say(format!("note: {warning}")));
    if plan.enrol_again {
        out.say("the site's CA is another now: every phone and desktop has to enrol again (cargo xtask certs phone), images with the");
        out.say("old one have to be built again, and what was replaced lies in pki/old-ca-*.pem");
    }
}

fn line(done: &Done, now: OffsetDateTime) -> String {
    let state = match &done.state {
        State::Issued(reason) => format!("issued: {reason}"),
        State::Brought => "taken from elsewhere".to_owned(),
        State::Unchanged => "unchanged".to_owned(),
    };
    let certificate = &done.certificate;
    format!("{:<14} {state}; until {} ({} days)", done.what, certificate.not_after.date(), certificate.days_left(now))
}

#[cfg(test)]
mod tests;
