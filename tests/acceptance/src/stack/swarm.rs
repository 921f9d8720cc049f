//! The stack on a Swarm of one node.

use std::collections::BTreeMap;

use images::Result;
use xtask::process::Outcome;
use xtask::site::compose::{Content, Reach, compose};
use xtask::site::model::PerService;
use xtask::site::{Folder, load};

use super::{Site, UP, said};
use crate::world::World;
use lab::{SERVER, address};

/// Deployed, provisioned, changed, taken back, ended.
pub fn deploys(world: &World) -> Result<()> {
    let site = Site::new(world)?;
    refusals(world, &site)?;
    let _swarm = OneNode(&site);
    site.lab.docker(&format!("swarm init --advertise-addr {}", address(SERVER))).capture()?;
    let outcome = up(&site, "")?;
    assert!(outcome.status.code() == Some(1) && said(&outcome).contains("--label-add org.chatops.coturn=true"), "{}", said(&outcome));
    site.lab.docker("node update --label-add org.chatops.coturn=true").arg(&node(&site)?).capture()?;
    let network = format!("{}-tools", site.project);
    site.lab.docker("network create").arg(&network).capture()?;
    site.describe(&format!("[network]\njoin = [\"{network}\"]\n"))?;
    let outcome = up(&site, "")?;
    assert!(outcome.status.code() == Some(1) && said(&outcome).contains("this machine's alone"), "{}", said(&outcome));
    site.lab.docker("network rm").arg(&network).capture()?;
    site.lab.docker("network create --driver overlay --attachable").arg(&network).capture()?;

    let first = is_up(&site)?;
    assert!(first.contains("started alert-gateway, coturn, mattermost, postgres"), "{first}");
    let status = site.xtask("status").outcome()?;
    assert!(status.success() && said(&status).matches("running, healthy").count() == 4, "{}", said(&status));
    assert!(site.xtask("provision --plan").outcome()?.success(), "provisioning is not done");
    let turn = site.xtask("doctor turn").outcome()?;
    assert!(turn.success(), "no relay: {}", said(&turn));
    let logs = site.xtask("logs").outcome()?;
    assert!(logs.success() && said(&logs).contains("mattermost"), "{}", said(&logs));
    let (before, secrets) = (containers(&site)?, secrets(&site)?);
    let second = is_up(&site)?;
    assert!(second.contains("nothing had to change") && containers(&site)? == before, "{second}");
    let file = fs_err::read_to_string(site.path().join("stack.json"))?;
    assert!(!file.contains(&site.secret("MATTERMOST_TURN_SECRET")) && secrets.iter().all(|name| file.contains(name)), "{file}");

    // A new secret is another one to Swarm; the old one goes.
    site.xtask("env --rotate MATTERMOST_TURN_SECRET").capture()?;
    let text = is_up(&site)?;
    assert_eq!(changed(&before, &containers(&site)?), ["coturn", "mattermost"], "{text}");
    let kept: Vec<String> = self::secrets(&site)?.into_iter().filter(|name| secrets.contains(name)).collect();
    assert!(kept.iter().all(|name| name.starts_with("alert-gateway-") || name.starts_with("postgres-")), "{kept:?}");
    assert!(site.xtask("doctor turn").outcome()?.success());

    taken_back(&site, &network)?;
    let outcome = up(&site, "--target compose")?;
    assert!(outcome.status.code() == Some(1) && said(&outcome).contains("runs under swarm"), "{}", said(&outcome));

    site.xtask("down").capture()?;
    assert!(containers(&site)?.is_empty() && self::secrets(&site)?.is_empty());
    assert!(!site.volumes()?.is_empty());
    let again = is_up(&site)?;
    assert!(again.contains("started") && site.xtask("provision --plan").outcome()?.success(), "the data is not there any more: {again}");
    site.xtask("down --volumes --yes").capture()?;
    assert!(containers(&site)?.is_empty() && self::secrets(&site)?.is_empty() && site.volumes()?.is_empty());
    let label = format!("label=com.docker.stack.namespace={}", site.project);
    for list in ["network ls --quiet --filter", "service ls --quiet --filter"] {
        assert_eq!(site.lab.docker(list).arg(&label).text()?, "");
    }
    site.lab.docker("network rm").arg(&network).capture().map(drop)
}

/// The Swarm of the lab's Engine, which ends with this.
struct OneNode<'a>(&'a Site<'a>);

impl Drop for OneNode<'_> {
    fn drop(&mut self) {
        // A claim that failed has its own words to say.
        let _ = self.0.xtask("down --volumes --yes").outcome();
        let _ = self.0.lab.docker("swarm leave --force").outcome();
    }
}

fn node(site: &Site) -> Result<String> {
    site.lab.docker("info --format {{.Swarm.NodeID}}").text()
}

fn up(site: &Site, options: &str) -> Result<Outcome> {
    let target = if options.is_empty() { "--target swarm" } else { options };
    site.xtask(&format!("up --mattermost double {target}")).deadline(UP).outcome()
}

fn is_up(site: &Site) -> Result<String> {
    let outcome = up(site, "")?;
    let tasks = site.lab.docker("stack ps --no-trunc").arg(&site.project).outcome().map(|outcome| said(&outcome)).unwrap_or_default();
    assert!(outcome.success(), "{}\n{tasks}", said(&outcome));
    Ok(said(&outcome))
}

/// Service → container that runs.
fn containers(site: &Site) -> Result<BTreeMap<String, String>> {
    let label = format!("label=com.docker.stack.namespace={}", site.project);
    let format = "{{.Label \"com.docker.swarm.service.name\"}} {{.ID}}";
    let list = site.lab.docker("ps --no-trunc --filter").args([&label, "--format", format]).text()?;
    let prefix = format!("{}_", site.project);
    Ok(list
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix)?.split_once(' '))
        .map(|(one, id)| (one.to_owned(), id.to_owned()))
        .collect())
}

fn changed<'a>(before: &'a BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<&'a str> {
    before.keys().filter(|service| before.get(*service) != after.get(*service)).map(String::as_str).collect()
}

fn secrets(site: &Site) -> Result<Vec<String>> {
    let label = format!("label=org.chatops.project={}", site.project);
    Ok(site.lab.docker("secret ls --format {{.Name}} --filter").arg(label).text()?.lines().map(str::to_owned).collect())
}

/// An Engine that manages no Swarm; and that Compose's own file is none for Swarm, which is why there is another.
fn refusals(world: &World, site: &Site) -> Result<()> {
    let outcome = up(site, "")?;
    assert!(outcome.status.code() == Some(1) && said(&outcome).contains("docker swarm init"), "{}", said(&outcome));
    let empty = Content { images: PerService::default(), secrets: PerService::default(), settings: PerService::default() };
    let file = site.path().join("compose.json");
    let text = compose(&load(&Folder::new(&site.path()))?, &empty, Reach::Lan).text();
    let condition =
        r#"{"version":"3.9","services":{"a":{"image":"i","depends_on":{"b":{"condition":"service_healthy"}}},"b":{"image":"i"}}}"#;
    for (text, why) in [(text.as_str(), "forbidden properties"), (condition, "depends_on must be a list")] {
        fs_err::write(&file, text)?;
        let outcome = world.machine.stack_client().unwrap().args(["stack", "config", "--compose-file"]).arg(&file).outcome()?;
        assert!(!outcome.success() && said(&outcome).contains(why), "{}", said(&outcome));
    }
    fs_err::remove_file(&file).map_err(Into::into)
}

/// A setting that the server refuses: it is known, has the right form, and is impossible.
fn taken_back(site: &Site, network: &str) -> Result<()> {
    let join = format!("[network]\njoin = [\"{network}\"]\n");
    let before = containers(site)?;
    site.describe(&format!("{join}[mattermost.extra]\nMM_SERVICESETTINGS_CONNECTIONSECURITY = \"tls\"\n"))?;
    let outcome = up(site, "")?;
    let text = said(&outcome);
    assert_eq!(outcome.status.code(), Some(1), "{text}");
    assert!(text.contains("mattermost is not healthy") && text.contains("what was healthy before runs again"), "{text}");
    assert!(text.contains("webserver connection security"), "the server's own words are missing: {text}");
    assert!(site.xtask("status").outcome()?.success());
    assert_eq!(changed(&before, &containers(site)?), ["mattermost"]);
    site.describe(&join)
}
