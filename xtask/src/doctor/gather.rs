//! Where `doctor` looks: at this machine, at its Engine, into the site's folder. What it finds is judged elsewhere.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use images::contents::{Place, repository};
use images::lock::Artefact;
use images::{Class, Error, Result, Store};
use time::OffsetDateTime;

use super::firewall::RelayRule;
use super::ports::{Protocol, Socket};
use super::site::Guarded;
use super::{Check, certificates, database, firewall, machine, names, ports, site};
use crate::cli::images::{fetch, options::StoreArgs};
use crate::cli::{certs, env};
use crate::database::{Login, Server};
use crate::engine::api::Engine;
use crate::engine::survey::Survey;
use crate::machine::{Machine, Part};
use crate::site::pki::Wanted;
use crate::site::pki::files::mode_of;
use crate::site::pki::found::Found;
use crate::site::pki::reason::Pair;
use crate::site::secrets::Secrets;
use crate::site::{Folder, Service, Site, SiteArgs, addresses, compose};
use crate::workspace::Workspace;

/// Tools that only look answer at once, or something is wrong with them.
const SOON: Duration = Duration::from_secs(20);

/// Every check that needs no running stack, and no network but to an external database.
pub fn checks(args: &SiteArgs) -> Result<Vec<Check>> {
    let workspace = Workspace::home()?;
    let machine = Machine::of(&workspace);
    let folder = args.folder();
    let site = crate::site::load(&folder);
    let engine = Engine::connect();
    let survey = engine.as_ref().map_err(brief).and_then(|engine| engine.survey().map_err(|error| brief(&error)));
    let wanted = site.as_ref().ok().map(Wanted::of);
    let found = wanted.as_ref().map(|wanted| found(&folder, wanted));
    let certificates = found.as_ref().and_then(|found| found.as_ref().ok());
    let mut checks = vec![site::toml(&folder.toml(), folder.toml().exists(), site.as_ref())];
    checks.extend(of_engine(&machine, &survey));
    checks.extend(of_machine(&machine, &workspace, survey.as_ref().ok(), &past(&workspace, certificates)));
    checks.push(site::modes(&guarded(&folder)?));
    match (&wanted, &found) {
        (Some(wanted), Some(Ok(found))) => checks.extend(certificates::judge(wanted, found, OffsetDateTime::now_utc())),
        (_, Some(Err(error))) => checks.push(Check::of_error("certificates", "Certificates", error, "cargo xtask certs")),
        _ => {}
    }
    match &site {
        Ok(site) => {
            checks.push(site::settings(env::up_to_date(&folder, site).as_ref().copied()));
            checks.extend(of_site(&folder, site, &machine, &workspace, engine.as_ref().ok(), survey.as_ref().ok())?);
        }
        Err(_) => checks.push(Check::skipped("rest", "Certificates, settings, address, ports, images", "site.toml is not usable")),
    }
    Ok(checks)
}

/// Message and details in one line, without the hint: the check has its own.
fn brief(error: &Error) -> String {
    let text = error.to_string();
    text.split("\nhint: ").next().unwrap_or(&text).lines().map(str::trim).collect::<Vec<_>>().join(": ")
}

fn of_engine(machine: &Machine, survey: &Result<Survey, String>) -> Vec<Check> {
    let start = if machine.has_systemd() { "systemctl start docker" } else { "dockerd, as root" };
    let version = survey.as_ref().map(|survey| survey.version.as_str()).map_err(String::as_str);
    let (client, plugin) = (Part::named("docker"), Part::named("docker compose"));
    let compose = machine.process("docker").args(["compose", "version", "--short"]).deadline(SOON).text();
    vec![
        machine::engine(version, start),
        machine::client(machine.find("docker").is_some(), &client.command(machine)),
        machine::compose(compose.as_deref().ok(), &plugin.command(machine)),
    ]
}

fn of_machine(machine: &Machine, workspace: &Workspace, survey: Option<&Survey>, past: &[(String, i64)]) -> Vec<Check> {
    let root = survey.map_or("Docker's data root", |survey| survey.data_root.as_str());
    let target = workspace.target();
    let number = |path: &str| fs_err::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let conntrack = number("/proc/sys/net/netfilter/nf_conntrack_count").zip(number("/proc/sys/net/netfilter/nf_conntrack_max"));
    let cpuinfo = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let sync = machine.process("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).deadline(SOON).text();
    vec![
        machine::disk("disk.engine", "Disk of the Engine", root, free(Path::new(root)), machine::ENGINE_DISK, "docker image prune"),
        machine::disk(
            "disk.target",
            "Disk of the checkout",
            &target.display().to_string(),
            free(&target).or_else(|| free(workspace.root())),
            machine::TARGET_DISK,
            "rm -r target/images target/store, which can be made and fetched again",
        ),
        machine::udp_buffers(number("/proc/sys/net/core/rmem_max"), number("/proc/sys/net/core/wmem_max")),
        machine::conntrack(conntrack),
        machine::processor(machine::processor_flags(&cpuinfo).as_ref()),
        machine::clock(OffsetDateTime::now_utc().unix_timestamp(), past),
        machine::time_sync(sync.as_deref().ok()),
    ]
}

fn of_site(
    folder: &Folder,
    site: &Site,
    machine: &Machine,
    workspace: &Workspace,
    engine: Option<&Engine>,
    survey: Option<&Survey>,
) -> Result<Vec<Check>> {
    let mut checks = in_the_way(folder, site, engine, survey)?;
    checks.push(packet_filter(site, machine));
    let wanted: Vec<String> = compose::services(site).map(|service| service.name().to_owned()).collect();
    let (built, loaded) = built(&workspace.target().join("images"), engine);
    checks.push(store(site, workspace, &wanted, wanted.iter().all(|name| built.contains(name))));
    checks.push(site::images(&wanted, &built, loaded.as_deref()));
    checks.extend(engine.map(|engine| names(site, engine)).transpose()?.unwrap_or_default());
    Ok(checks)
}

/// What names mean inside each running container, asked there: by the program that its image starts.
fn names(site: &Site, engine: &Engine) -> Result<Vec<Check>> {
    let containers = engine.containers(site.project.as_str())?;
    let inside = |service: Service| {
        let names = names::asked(site, service, &containers);
        let container = containers.iter().find(|container| container.service == service.name() && container.state == "running");
        let container = container.filter(|_| !names.is_empty())?;
        let verb = [container.program.clone(), "resolve".to_owned()].into_iter();
        let said = engine.exec(&container.id, verb.chain(names.iter().map(|(name, _)| name.clone())).collect());
        Some(names::judge(service, &names, said.as_deref().map_err(brief).as_ref().map(|said| *said).map_err(String::as_str)))
    };
    let checks: Vec<Check> = compose::services(site).filter_map(inside).collect();
    match checks.is_empty() {
        true => Ok(vec![Check::skipped("names", "Names inside the containers", "the stack does not run")]),
        false => Ok(checks),
    }
}

/// What would keep the stack from starting: an address that is not here, ports that somebody else has, networks that are not there,
/// an external database that Mattermost could not work with.
pub fn in_the_way(folder: &Folder, site: &Site, engine: Option<&Engine>, survey: Option<&Survey>) -> Result<Vec<Check>> {
    let containers = survey.map(|survey| survey.containers.as_slice()).unwrap_or_default();
    let mut checks = vec![site::address(site, &addresses::interfaces()?)];
    checks.extend(ports::judge(site, &sockets(), containers));
    checks.extend(
        engine.into_iter().flat_map(|engine| site.network.join.iter().map(|name| site::network(name, engine.network(name).is_some()))),
    );
    checks.extend(engine.map(|engine| {
        let there = compose::own_networks(site).into_iter().filter_map(|name| Some((engine.network(&name)?, name)));
        site::own_networks(site.project.as_str(), &there.collect::<Vec<_>>())
    }));
    checks.extend(external_database(folder, site));
    Ok(checks)
}

/// A database that is not ours, asked as Mattermost will ask it.
fn external_database(folder: &Folder, site: &Site) -> Vec<Check> {
    let Some(server) = Server::of(site, folder) else { return Vec::new() };
    match Secrets::of(folder).and_then(|secrets| Login::of(site, &secrets)) {
        Ok(login) => database::judge(&server, &login, database::look(&server, &login).as_ref()),
        Err(error) => vec![database::without_password(&error)],
    }
}

/// The packet filter of the relay, as `up` asks it too.
pub fn packet_filter(site: &Site, machine: &Machine) -> Check {
    let tools: [(&str, &[&str]); 2] = [("nft", &["list", "ruleset"]), ("iptables-save", &[])];
    let present: Vec<&str> = tools.iter().map(|(tool, _)| *tool).filter(|tool| machine.find(tool).is_some()).collect();
    let listed = |(tool, args): &(&str, &[&str])| machine.process(tool).args(*args).deadline(SOON).text().ok();
    let listings: Vec<String> = tools.iter().filter(|(tool, _)| present.contains(tool)).filter_map(listed).collect();
    let rules = (!listings.is_empty()).then(|| listings.join("\n"));
    firewall::relay_rule(&RelayRule::of(site), &RelayRule::table(site), present.first().copied(), rules.as_deref())
}

/// Free bytes, for whoever is not root, at a path that exists.
pub fn free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// What surely was made before now: Debian's indexes in the lock, and the certificates.
fn past(workspace: &Workspace, found: Option<&Found>) -> Vec<(String, i64)> {
    let indexes = workspace.read_lock().map(|lock| lock.debian.indexes).unwrap_or_default();
    let index = |(name, index): (&String, &images::lock::Index)| {
        Some((format!("the Debian index \"{name}\" in images/lock.json"), images::mirror::parse_date(&index.date).ok()?))
    };
    let pairs = found.iter().flat_map(|found| &found.pairs);
    let certificate = |(name, pair): (&String, &Pair)| (format!("the certificate of {name}"), pair.chain[0].not_before.unix_timestamp());
    indexes.iter().filter_map(index).chain(pairs.map(certificate)).collect()
}

/// What `pki/` holds. Doctor only looks: what another command was cut off in, or is at, stays.
fn found(folder: &Folder, wanted: &Wanted) -> Result<Found> {
    if !folder.pki().is_dir() {
        return Ok(Found::default());
    }
    certs::make::look(&folder.pki(), wanted)
}

fn sockets() -> Vec<Socket> {
    let tables = [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];
    let read = |(name, protocol): (&str, Protocol)| {
        ports::listening(&fs_err::read_to_string(Path::new("/proc/net").join(name)).unwrap_or_default(), protocol)
    };
    tables.into_iter().flat_map(read).collect()
}

/// What of the site's folder is secret, as far as it is there.
fn guarded(folder: &Folder) -> Result<Vec<Guarded>> {
    let mut wanted = vec![(folder.secrets(), 0o600), (folder.pki(), 0o700), (folder.integrations(), 0o700)];
    if let Ok(entries) = fs_err::read_dir(folder.pki()) {
        for entry in entries {
            let path = entry?.path();
            wanted.push((path.clone(), mode_of(&path.to_string_lossy())));
        }
    }
    wanted.sort();
    let mut found = Vec::new();
    for (path, most) in wanted {
        match fs_err::symlink_metadata(&path) {
            Ok(there) => found.push(Guarded {
                path: path.display().to_string(),
                most,
                mode: there.permissions().mode() & 0o7777,
                plain: there.is_file() || there.is_dir(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::new(Class::Check, error.to_string())),
        }
    }
    Ok(found)
}

fn store(site: &Site, workspace: &Workspace, services: &[String], built: bool) -> Check {
    let root = StoreArgs::default().root(workspace);
    let edition = if site.edition == crate::site::model::Edition::Team { "team" } else { "enterprise" };
    let wanted = fetch::wants(workspace, services, edition);
    let shown = root.strip_prefix(workspace.root()).unwrap_or(&root).display().to_string();
    let missing = |wanted: &[Artefact]| -> Result<Vec<String>> {
        // Opening makes the folder, and doctor only looks.
        let missing: Vec<&Artefact> = if root.is_dir() { Store::open(&root)?.missing(wanted) } else { wanted.iter().collect() };
        Ok(missing.into_iter().map(|artefact| artefact.name.clone()).collect())
    };
    let all = wanted.as_ref().map_or(0, Vec::len);
    let missing = wanted.and_then(|wanted| missing(&wanted));
    site::store(&shown, missing.as_deref(), all, built)
}

/// Names of the images of a layout, and of those that the Engine has.
fn built(layout: &Path, engine: Option<&Engine>) -> (Vec<String>, Option<Vec<String>>) {
    let Ok(place) = Place::open(layout) else { return (Vec::new(), engine.map(|_| Vec::new())) };
    let name = |full: &&str| repository(full).to_owned();
    let is_loaded = |engine: &Engine, full: &str| place.image(full).is_ok_and(|image| engine.has_image(&image.config_digest.oci()));
    let names = place.names();
    let loaded = engine.map(|engine| names.iter().filter(|full| is_loaded(engine, full)).map(name).collect());
    (names.iter().map(name).collect(), loaded)
}
