//! `cargo xtask doctor tls`: the chains that the running services show.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use images::{Class, Error, Result};
use time::OffsetDateTime;

use super::FormArgs;
use crate::doctor::tls::{Endpoint, Start, judge, look, roots};
use crate::doctor::{Check, Report};
use crate::engine::api::Engine;
use crate::output::Output;
use crate::site::pki::certificate::Certificate;
use crate::site::{Folder, Service, Site, SiteArgs};

/// Where PostgreSQL listens in its own container.
const POSTGRES: u16 = 5432;

/// Look at the certificates that Mattermost, Coturn, the alert gateway and PostgreSQL show, as a phone that trusts the site's CA alone
#[derive(clap::Args)]
pub struct Args {
    /// Address of the server, as seen from this host [default: the site's first]
    address: Option<IpAddr>,
    #[command(flatten)]
    site: SiteArgs,
    /// The CA to trust, PEM [default: the site's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    form: FormArgs,
}

/// Looks.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let (folder, site) = args.site.load()?;
    let ca = certificates(&args.ca.clone().unwrap_or_else(|| folder.ca()))?;
    let now = OffsetDateTime::now_utc();
    let address = args.address.unwrap_or_else(|| site.address());
    let mut checks = Vec::new();
    for endpoint in endpoints(&site, address) {
        checks.extend(judge(&endpoint, &look(&endpoint, &roots(&ca)?), &ca, now));
    }
    checks.extend(postgres(args, &site, &folder, &ca, now)?);
    super::show(&Report::of(checks), args.form, out)
}

fn certificates(file: &std::path::Path) -> Result<Vec<Certificate>> {
    let pem = fs_err::read(file).map_err(|error| {
        let hint = "cargo xtask certs makes the site's CA; from another host, name a copy of it with --ca";
        Error::new(Class::Usage, error.to_string()).hint(hint)
    })?;
    Certificate::from_pem(&pem, &file.display().to_string())
}

/// The services on the LAN, with what phones and tools call them.
fn endpoints(site: &Site, address: IpAddr) -> Vec<Endpoint> {
    let names = site.all_names().map(ToString::to_string);
    let all: Vec<String> = names.chain([address.to_string()]).collect();
    let endpoint = |service: Service, port: u16| Endpoint {
        name: service.name().to_owned(),
        at: SocketAddr::new(address, port),
        start: Start::Tls,
        called: all.clone(),
    };
    vec![
        endpoint(Service::Mattermost, site.ports.mattermost),
        endpoint(Service::AlertGateway, site.ports.alert_gateway),
        endpoint(Service::Coturn, site.ports.turns),
    ]
}

/// The database: an external one by its name, the own one in its container, which only this machine reaches.
fn postgres(args: &Args, site: &Site, folder: &Folder, ca: &[Certificate], now: OffsetDateTime) -> Result<Vec<Check>> {
    let name = Service::Postgres.name();
    let skipped = |reason: &str| vec![Check::skipped(format!("tls.{name}"), format!("TLS of {name}"), reason)];
    let (at, called, ca) = match &site.database.external {
        Some(database) => {
            let found = (database.host.as_str(), database.port).to_socket_addrs().ok().and_then(|mut all| all.next());
            let Some(at) = found else { return Ok(skipped(&format!("no address is known for {}", database.host))) };
            let own = database.ca.as_ref().map(|file| certificates(&folder.root().join(file))).transpose()?;
            (at, database.host.clone(), own.unwrap_or_else(|| ca.to_vec()))
        }
        None if args.address.is_some() => return Ok(skipped("only its own machine reaches it")),
        None => {
            let containers = Engine::connect().and_then(|engine| engine.survey()).map(|survey| survey.containers).unwrap_or_default();
            let ours = |project: &str, service: &str| project == site.project.as_str() && service == name;
            let own = containers.iter().find(|one| one.project.as_ref().is_some_and(|(project, service)| ours(project, service)));
            let Some(address) = own.and_then(|own| own.addresses.first()) else { return Ok(skipped("its container does not run here")) };
            (SocketAddr::new(*address, POSTGRES), name.to_owned(), ca.to_vec())
        }
    };
    let endpoint = Endpoint { name: name.to_owned(), at, start: Start::Postgres, called: vec![called] };
    Ok(judge(&endpoint, &look(&endpoint, &roots(&ca)?), &ca, now))
}
