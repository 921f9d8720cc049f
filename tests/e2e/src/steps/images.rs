//! What runs is what was built, and may do no more than it has to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use images::{Class, Error, Result};
use serde_json::Value;

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
