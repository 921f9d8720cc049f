//! `cargo xtask up`: the whole way to a running, provisioned chat.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Instant;

use images::build::Built;
use images::{Class, Error, Result};

use super::images::build::{load, load_all};
use super::images::options::StoreArgs;
use super::images::recipe::{Mattermost, RecipeArgs};
use super::provision::TokenArgs;
use super::{certs, env, provision};
use crate::bundle::apply::Applied;
use crate::doctor::firewall::RelayRule;
use crate::doctor::{Outcome, gather};
use crate::engine::{self, Started};
use crate::machine::{self, Machine};
use crate::mirror::MirrorArgs;
use crate::output::Output;
use crate::registry::pull::{by_digest, pull};
use crate::registry::{self, Address};
use crate::server::{Client, Endpoint, Patience, plugins, settings, start};
use crate::site::compose::Reach;
use crate::site::env::environments;
use crate::site::model::PerService;
use crate::site::secrets::{Name, Secrets};
use crate::site::{Service, SiteArgs};
use crate::stack::start::{Changed, Image, Wanted};
use crate::stack::{Stack, Target, preflight};
use crate::workspace::Workspace;

/// Start the stack, from nothing to a provisioned chat; again, it changes only what is not as it should be
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Which Mattermost: the lock's `release`, the API `double`, or a FILE in the vendor's layout
    #[arg(long, value_name = "release|double|FILE", default_value = "release")]
    mattermost: Mattermost,
    /// Leave out a plugin that the image's spec names. May be given several times
    #[arg(long, value_name = "NAME")]
    without_plugin: Vec<String>,
    /// Use no network; what the store lacks is an error
    #[arg(long)]
    offline: bool,
    /// Folder of the OCI layout [default: target/images]
    #[arg(long, value_name = "DIR")]
    layout: Option<PathBuf>,
    /// Pull the images from a registry, by digest, instead of building them: those with this site's CA, as `images push` has left
    /// them there
    #[arg(long, value_name = "HOST[/PREFIX]", conflicts_with_all = ["layout", "offline"])]
    registry: Option<String>,
    /// What runs the services: Docker Compose on this machine, or a Docker Swarm that this machine manages [default: what runs them
    /// already, else compose]
    #[arg(long, value_name = "compose|swarm", hide_possible_values = true)]
    target: Option<Target>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Bring a Docker Engine and Compose from Debian's packages where they are missing, and start the Engine; as root
    #[arg(long)]
    install: bool,
    /// Put the packet filter for relayed media into the kernel, instead of printing it; as root
    #[arg(long)]
    firewall: bool,
    #[command(flatten)]
    token: TokenArgs,
}

/// Starts the stack.
pub fn run(args: &Args, out: &mut Output) -> Result<()> {
    let begin = Instant::now();
    if args.install {
        install(args.target.unwrap_or(Target::Compose), out)?;
    }
    let _held = args.site.load()?.0.hold_stack(out)?;
    make_files(&args.site, out)?;
    let stack = open(args)?;
    preflight::check(&stack)?;
    let secrets = stack.secrets()?;
    let wanted = stack.wanted(&secrets, images(args, &stack, out)?)?;
    let (mut changed, client) = start_privately(&stack, &wanted, &secrets, &args.token, out)?;
    let set_up = set_up(&stack, &wanted, &client, out);
    args.token.sign_out(client);
    changed = changed.and(set_up?);
    filter(args.firewall, &stack, out)?;
    tell(&stack, &changed, begin, out);
    let applied_double = || stack.workspace.applied().is_some_and(|applied| applied.is_double());
    if matches!(args.mattermost, Mattermost::Double) || applied_double() {
        out.result("Mattermost is played by the API double: it answers programs, and has no pages for people");
    }
    Ok(())
}

/// The site under the target that is wanted. What keeps it from a Swarm is told before images are built.
fn open(args: &Args) -> Result<Stack> {
    let mut stack = Stack::open(&args.site)?;
    if let Some(target) = args.target {
        stack = stack.on(target)?;
    }
    if stack.target == Target::Swarm {
        machine::require(&stack.machine, stack.target.parts())?;
        let pulled = args.registry.as_ref().map(|_| String::new());
        let image = Image { id: String::new(), pulled };
        stack.swarm(&PerService { coturn: image, ..PerService::default() })?;
    }
    Ok(stack)
}

/// Secrets, settings and certificates: what is missing, and what is due.
fn make_files(args: &SiteArgs, out: &mut Output) -> Result<()> {
    let (folder, site) = args.load()?;
    let _held = folder.hold()?;
    env::ensure(&folder, &site, out)?;
    certs::make::ensure(&folder, &site, out)
}

/// Brings what the stack needs. An Engine that is started by hand goes on when this command has ended.
fn install(target: Target, out: &mut Output) -> Result<()> {
    let workspace = Workspace::home()?;
    let machine = Machine::of(&workspace);
    let logs = workspace.target().join("site");
    fs_err::create_dir_all(&logs)?;
    let missing = machine::lacking(&machine, target.parts());
    if !missing.is_empty() {
        machine::install(&machine, &missing, &logs.join("install.log"), out)?;
    }
    if let Some(daemon) = engine::ensure(&machine, &logs.join("dockerd.log"), out)?.map(Started::leave) {
        out.say(format!("no systemd here, so nothing starts the Engine again at the next boot; kill {daemon} ends it"));
    }
    Ok(())
}

/// Gives the Engine the images that it lacks: those of the bundle where one was applied, else all are built.
fn images(args: &Args, stack: &Stack, out: &mut Output) -> Result<PerService<Image>> {
    let built = match stack.workspace.applied() {
        Some(applied) => of_bundle(args, &applied, stack, out)?,
        None => build(args, stack, out)?,
    };
    let registry = args.registry.as_deref().map(Address::parse).transpose()?;
    let mut images = PerService::default();
    for service in Service::ALL {
        let prefix = format!("chatops/{}:", service.name());
        let image = built.iter().find(|image| image.name.starts_with(&prefix));
        let image = image.ok_or_else(|| Error::new(Class::Build, format!("no image for {}", service.name())))?;
        let pulled = registry.as_ref().map(|registry| by_digest(registry, image));
        *images.of_mut(service) = Image { id: image.config.oci(), pulled };
    }
    Ok(images)
}

/// The images of the bundle, with the site's CA on top.
fn of_bundle(args: &Args, applied: &Applied, stack: &Stack, out: &mut Output) -> Result<Vec<Built>> {
    let refuse =
        |what: &str| Err(Error::new(Class::Usage, format!("{what}: the images are those of the bundle")).hint("say it to bundle create"));
    match &args.mattermost {
        Mattermost::File(_) => return refuse("no other Mattermost can be taken"),
        _ if !args.without_plugin.is_empty() => return refuse("no plugin can be left out"),
        _ if args.registry.is_some() => return refuse("no registry is asked"),
        _ => {}
    }
    let ca = stack.folder.ca();
    let built = applied.images(&fs_err::read(&ca)?, &ca.display().to_string())?;
    load(&applied.layout(), &built, &stack.engine, out)?;
    Ok(built)
}

fn build(args: &Args, stack: &Stack, out: &mut Output) -> Result<Vec<Built>> {
    let mut recipe = RecipeArgs::of_site(
        &args.site,
        &stack.site,
        args.mattermost.clone(),
        args.without_plugin.clone(),
        args.offline,
        args.store.clone(),
        args.mirrors.clone(),
    );
    if let Some(registry) = &args.registry {
        let client = registry::Client::by_docker(Address::parse(registry)?, None)?;
        let names = recipe.image_names(&stack.workspace)?;
        let docker = stack.machine.process("docker");
        return names.iter().map(|name| pull(&client, name, &stack.engine, &docker, out)).collect();
    }
    recipe.layout.clone_from(&args.layout);
    load_all(&recipe, &stack.workspace, &stack.engine, out)
}

/// The first account of an empty server becomes its administrator, whoever makes it. So a server that does not run yet is published
/// on loopback alone until the administrator is there. The client is signed in.
fn start_privately(stack: &Stack, wanted: &Wanted, secrets: &Secrets, token: &TokenArgs, out: &mut Output) -> Result<(Changed, Client)> {
    let is_public = stack.reach()? == Some(Reach::Lan);
    let changed = stack.start(wanted, if is_public { Reach::Lan } else { Reach::Loopback }, out)?;
    let mut client = client(stack)?;
    client.ping().map_err(Error::from)?.check()?;
    // Who has a token has an account: the first one is made.
    if is_public || token.is_given() {
        client = token.sign_in(client, &stack.site, secrets)?;
    } else {
        become_administrator(stack, &mut client, secrets, out)?;
    }
    match is_public {
        true => Ok((changed, client)),
        false => {
            let changed = changed.and(stack.start(wanted, Reach::Lan, out)?);
            // On a Swarm, the container that is published is another one.
            Ok((changed, client.at(&endpoint(stack)?)?))
        }
    }
}

/// Signs in as the administrator, who is made where the server has nobody yet.
fn become_administrator(stack: &Stack, client: &mut Client, secrets: &Secrets, out: &mut Output) -> Result<()> {
    let (administrator, password) = (&stack.site.administrator, secrets.require(Name::AdministratorPassword)?);
    if start::create_first_administrator(client, &administrator.name, &administrator.email, password)? != start::First::Made {
        return Ok(());
    }
    let others = start::other_people(client, &administrator.name)?;
    if !others.is_empty() {
        return Err(Error::new(Class::Check, format!("the server has accounts besides {}: {}", administrator.name, others.join(", ")))
            .detail("it was reachable from this machine alone, so they are from this machine")
            .hint("cargo xtask down --volumes removes them with everything else"));
    }
    out.say(format!("made the administrator {}", administrator.name));
    Ok(())
}

/// The server as this machine reaches it, under the name that its certificate holds.
fn client(stack: &Stack) -> Result<Client> {
    Client::new(&endpoint(stack)?, Patience::default())
}

/// Loopback; on a Swarm, which publishes nothing on loopback alone, the container itself as long as it is private.
fn endpoint(stack: &Stack) -> Result<Endpoint> {
    let private = stack.target == Target::Swarm && stack.reach()? != Some(Reach::Lan);
    let address = match private {
        true => stack.engine.gateway_address(&stack.running(Service::Mattermost)?.id)?,
        false => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Endpoint::of_site(&stack.site, &stack.folder, address)
}

/// Team, channels and webhooks; the webhooks' addresses for the services that post to them; and what became of all settings.
fn set_up(stack: &Stack, wanted: &Wanted, client: &Client, out: &mut Output) -> Result<Changed> {
    provision::ensure(&stack.folder, &stack.site, client, out)?;
    // Provisioning makes webhooks, and their addresses are secrets of services.
    let secrets = stack.secrets()?;
    let complete = stack.wanted(&secrets, wanted.images.clone())?;
    let changed = match complete.secrets == wanted.secrets {
        true => Changed::default(),
        false => stack.start(&complete, Reach::Lan, out)?,
    };
    read_back(stack, &secrets, client, out)?;
    Ok(changed)
}

/// Asks the server what it has taken of its settings, and which plugins run.
fn read_back(stack: &Stack, secrets: &Secrets, client: &Client, out: &mut Output) -> Result<()> {
    let environments = environments(&stack.site, secrets)?;
    let mattermost = &environments[&Service::Mattermost];
    let lost = settings::read_back(client, mattermost.settings())?;
    let ill = plugins::plugin_states(client, &mattermost.plugins().iter().map(String::as_str).collect::<Vec<_>>())?;
    let lines: Vec<String> = lost.iter().map(|lost| format!("{}: {}", lost.name, lost.why)).chain(ill).collect();
    if lines.is_empty() {
        return Ok(());
    }
    out.say("the server runs, but not everything took effect");
    let error = Error::new(Class::Check, format!("{} settings or plugins of Mattermost did not take effect", lines.len()));
    Err(lines.into_iter().fold(error, Error::detail).hint("cargo xtask logs mattermost"))
}

/// The packet filter for relayed media: in the kernel already, put there, or told.
fn filter(apply: bool, stack: &Stack, out: &mut Output) -> Result<()> {
    let found = gather::packet_filter(&stack.site, &stack.machine);
    if matches!(found.outcome, Outcome::Ok { .. }) {
        return Ok(());
    }
    let (rule, table) = (RelayRule::of(&stack.site), RelayRule::table(&stack.site));
    if apply {
        stack.machine.process("nft").args(["--file", "-"]).stdin(rule.nft(&table)).fails_as(Class::Check).capture()?;
        out.say(format!("put the packet filter {table} into the kernel; a reboot forgets it, and `up --firewall` brings it again"));
        return Ok(());
    }
    out.say("Coturn's access list knows addresses, not ports. This lets relayed media reach the port of Calls alone; put it into");
    out.say("/etc/nftables.conf, or say --firewall:");
    rule.nft(&table).lines().for_each(|line| out.say(format!("    {line}")));
    Ok(())
}

fn tell(stack: &Stack, changed: &Changed, begin: Instant, out: &mut Output) {
    match changed.0.is_empty() {
        true => out.say(format!("nothing had to change ({:.1} s)", begin.elapsed().as_secs_f32())),
        false => out.say(format!(
            "started {} ({:.1} s)",
            changed.0.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            begin.elapsed().as_secs_f32()
        )),
    }
    out.result(format!("open {}", stack.site.url()));
    out.result(format!(
        "administrator {}; the password is {} in {}",
        stack.site.administrator.name,
        Name::AdministratorPassword.name(),
        stack.folder.secrets().display()
    ));
}
