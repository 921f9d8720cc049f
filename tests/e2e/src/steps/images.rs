//! What runs is what was built, and may do no more than it has to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use images::{Class, Error, Result};
use lab::listener;
use serde_json::Value;
use xtask::site::Site;

use crate::step::{Evidence, Step, When};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[
    Step {
        name: "images::what_runs_is_what_was_built",
        claim: "The image of every container is, by its ID, the configuration that the OCI layout names",
        deadline: Duration::from_secs(30),
        needs: &[],
        when: When::Shared,
        proves: what_runs,
    },
    Step {
        name: "images::every_service_is_locked_down",
        claim: "Every process has its own account, no capability and no way to new privileges; every root is read-only",
        deadline: Duration::from_secs(30),
        needs: &[],
        when: When::Shared,
        proves: locked_down,
    },
    Step {
        name: "images::what_listens_is_on_the_list",
        claim: "The server and every container listen on exactly the ports that site.toml describes, on no other address",
        deadline: Duration::from_secs(30),
        needs: &[],
        when: When::Shared,
        proves: listens,
    },
    Step {
        name: "images::no_secret_is_where_it_is_not_needed",
        claim: "No secret is in the Compose file, in inspect, arguments, logs or image histories; each container has its own secrets and no other's",
        deadline: Duration::from_secs(30),
        needs: &[],
        when: When::Shared,
        proves: secrets_stay,
    },
];

/// Image name → digest of its configuration, read from the layout's own files.
fn layout(folder: &Path) -> Result<BTreeMap<String, String>> {
    let read = |path: &Path| -> Result<Value> {
        serde_json::from_slice(&fs_err::read(path)?).map_err(|error| Error::new(Class::Check, format!("{}: {error}", path.display())))
    };
    let blob = |digest: &str| folder.join("blobs").join(digest.replace(':', "/"));
    let index = read(&folder.join("index.json"))?;
    let mut found = BTreeMap::new();
    for manifest in index["manifests"].as_array().into_iter().flatten() {
        let name = manifest["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default();
        let config =
            read(&blob(manifest["digest"].as_str().unwrap_or_default()))?["config"]["digest"].as_str().unwrap_or_default().to_owned();
        // The file has to be what it is called: somebody may have changed it after the build.
        let own = images::Digest::of_file(&blob(&config))?.0.oci();
        if own != config {
            return Err(Error::new(Class::Check, format!("the blob of {name}'s configuration"))
                .detail(format!("expected {config}"))
                .detail(format!("seen     {own}")));
        }
        found.insert(name.to_owned(), config);
    }
    Ok(found)
}

fn what_runs(world: &World, evidence: &mut Evidence) -> Result<()> {
    let built = layout(&world.layout())?;
    let containers = world.site.containers()?;
    evidence.same(
        "services",
        vec!["alert-gateway", "coturn", "mattermost", "postgres"],
        containers.keys().map(String::as_str).collect(),
    )?;
    for (service, id) in &containers {
        let runs = world.site.inspect(id)?["Image"].as_str().unwrap_or_default().to_owned();
        let of_service = |name: &str| name.contains(&format!("chatops/{service}:")) || name.starts_with(&format!("{service}:"));
        let names: Vec<&String> =
            built.iter().filter(|(name, config)| of_service(name) && **config == runs).map(|(name, _)| name).collect();
        let seen = format!("{runs} {names:?}");
        evidence.holds(&format!("image of {service}"), format!("one of {built:?}"), seen, !names.is_empty())?;
    }
    Ok(())
}

fn locked_down(world: &World, evidence: &mut Evidence) -> Result<()> {
    let accounts = world.description()?.accounts;
    for (service, id) in world.site.containers()? {
        let pid = world.pid(&service)?;
        let account = xtask::site::Service::ALL.into_iter().find(|known| known.name() == service).map(|known| accounts.of(known).uid);
        let status = fs_err::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str, at: usize| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().nth(at).unwrap_or_default().to_owned()
        };
        // Real, effective, saved and file system's.
        let users: Vec<String> = (0..4).map(|at| field("Uid:", at)).collect();
        evidence.same(&format!("account of {service}"), vec![account.unwrap_or_default().to_string(); 4], users)?;
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            evidence.same(&format!("{service} {set}"), "0000000000000000".to_owned(), field(set, 0))?;
        }
        evidence.same(&format!("{service} NoNewPrivs:"), "1".to_owned(), field("NoNewPrivs:", 0))?;
        let mounts = fs_err::read_to_string(format!("/proc/{pid}/mounts"))?;
        let root = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).rfind(|words| words.get(1) == Some(&"/"));
        let options = root.and_then(|words| words.get(3).map(|options| (*options).to_owned())).unwrap_or_default();
        evidence.holds(&format!("root of {service}"), "ro", &options, options.split(',').any(|option| option == "ro"))?;
        let inspect = world.site.inspect(&id)?;
        evidence.same(&format!("{service} privileged"), Some(false), inspect["HostConfig"]["Privileged"].as_bool())?;
    }
    Ok(())
}

/// What listens in a namespace, loopback apart: there is Docker's name server. A container has one address, so it is told without.
fn beyond_loopback(pid: u64, addresses: bool) -> Result<BTreeSet<String>> {
    let all = listener::of_process(pid)?;
    let told = |found: &listener::Listener| if addresses { found.to_string() } else { format!("{} {}", found.protocol, found.port) };
    Ok(all.iter().filter(|listener| !listener.address.is_loopback()).map(told).collect())
}

/// Of each namespace, what is to listen there.
fn wanted(site: &Site) -> BTreeMap<&'static str, BTreeSet<String>> {
    let (ports, lan) = (site.ports, site.address());
    let list = |all: &[(&str, &str, u16)]| all.iter().map(|(protocol, at, port)| format!("{protocol} {at}:{port}")).collect();
    let lan = lan.to_string();
    let mut server = vec![
        ("tcp", lan.as_str(), ports.mattermost),
        ("tcp", &lan, ports.calls),
        ("udp", &lan, ports.calls),
        ("tcp", &lan, ports.alert_gateway),
        ("tcp", &lan, ports.turn),
        ("udp", &lan, ports.turn),
        ("tcp", &lan, ports.turns),
    ];
    server.extend(ports.redirect_http.map(|port| ("tcp", lan.as_str(), port)));
    let ends = |all: &[(&str, u16)]| all.iter().map(|(protocol, port)| format!("{protocol} {port}")).collect();
    BTreeMap::from([
        ("server", list(&server)),
        ("postgres", ends(&[("tcp", 5432)])),
        ("alert-gateway", ends(&[("tcp", ports.alert_gateway), ("tcp", ports.redirect_inside())])),
        ("mattermost", ends(&[("tcp", ports.mattermost), ("tcp", ports.calls), ("udp", ports.calls)])),
    ])
}

fn listens(world: &World, evidence: &mut Evidence) -> Result<()> {
    let site = world.description()?;
    let (first, last) = site.ports.relay;
    let relayed: BTreeSet<String> = (first..=last).map(|port| format!("udp {}:{port}", site.address())).collect();
    for (place, wanted) in wanted(&site) {
        // Coturn listens on the server itself.
        let pid = if place == "server" { world.lab.server().pid().into() } else { world.pid(place)? };
        // Allocations come and go.
        let seen = beyond_loopback(pid, place == "server")?.difference(&relayed).cloned().collect::<BTreeSet<_>>();
        evidence.same(&format!("listening: {place}"), wanted, seen)?;
    }
    Ok(())
}

fn secrets_stay(world: &World, evidence: &mut Evidence) -> Result<()> {
    let hidden = world.hidden();
    evidence.holds("secrets that are looked for", "at least 6", hidden.count(), hidden.count() >= 6)?;
    let mut shown = vec![("the Compose file".to_owned(), fs_err::read_to_string(world.folder().compose())?)];
    let mut has = BTreeMap::new();
    for (service, id) in world.site.containers()? {
        let image = world.site.inspect(&id)?["Image"].as_str().unwrap_or_default().to_owned();
        let process = |words: &str| world.lab.docker(words);
        shown.push((format!("inspect of {service}"), process("inspect").arg(&id).text()?));
        shown.push((format!("arguments in {service}"), process("top").arg(&id).args(["-o", "pid,args"]).text()?));
        shown.push((format!("log of {service}"), lab::said(&process("logs").arg(&id).outcome()?)));
        shown.push((format!("history of {service}'s image"), process("image history --no-trunc").arg(&image).text()?));
        let mut own = BTreeSet::new();
        for entry in fs_err::read_dir(world.inside(&service, "/run/secrets")?)? {
            let text = String::from_utf8_lossy(&fs_err::read(entry?.path())?).into_owned();
            own.extend(hidden.found(&text).into_iter().map(str::to_owned));
        }
        has.insert(service, own);
    }
    for (place, text) in &shown {
        evidence.same(&format!("secrets in {place}"), Vec::<&str>::new(), hidden.found(text))?;
    }
    // The search finds what is there.
    let trap = format!("--password={}", hidden.sample().unwrap_or_default());
    evidence.same("secrets in an argument that holds one", 1, hidden.found(&trap).len())?;
    let own: BTreeMap<String, BTreeSet<String>> = OWN.iter().map(|(service, names)| (service.to_string(), strings(names))).collect();
    evidence.same("secrets in the containers", own, has)
}

fn strings(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What each container has to know.
const OWN: [(&str, &[&str]); 4] = [
    ("alert-gateway", &["SONARQUBE_WEBHOOK_SECRET", "WEBHOOK_SONARQUBE_ALERTS", "alert-gateway-key.pem"]),
    ("coturn", &["MATTERMOST_TURN_SECRET", "coturn-key.pem"]),
    (
        "mattermost",
        &[
            "MATTERMOST_AT_REST_KEY",
            "MATTERMOST_DB_PASSWORD",
            "MATTERMOST_GITLAB_PLUGIN_KEY",
            "MATTERMOST_GITLAB_PLUGIN_SECRET",
            "MATTERMOST_JENKINS_PLUGIN_KEY",
            "MATTERMOST_PUBLIC_LINK_SALT",
            "MATTERMOST_TURN_SECRET",
            "mattermost-key.pem",
        ],
    ),
    ("postgres", &["MATTERMOST_DB_PASSWORD", "postgres-key.pem"]),
];
