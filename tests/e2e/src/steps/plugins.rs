//! The plugins that were baked into the image run, and no others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use images::{Class, Digest, Error, Result};
use serde_json::{Value, json};
use xtask::server::model::PluginStatus;

use super::persistence::Before;
use crate::lan::Lan;
use crate::step::{Evidence, Need, Step, When};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[
    Step {
        name: "plugins::the_baked_ones_run_in_their_version",
        claim: "Every bundle in the image has a signature, and is an active plugin of the version that stands in it",
        deadline: Duration::from_secs(30),
        needs: &[],
        when: When::Shared,
        proves: active,
    },
    Step {
        name: "plugins::unsigned_and_tampered_ones_stay_out_of_another_image",
        claim: "In an image with two more bundles, enabled, one without a signature and one with another's, neither is among the plugins, nor is one \
                that was exchanged in the file store, where signatures are required; with that image and back, posts, webhooks, bots and keys of plugins are the same",
        deadline: Duration::from_secs(150),
        needs: &[Need::Full],
        when: When::Alone,
        proves: refused,
    },
];

/// Where bundles lie in the image.
const FOLDER: &str = "/mattermost/prepackaged_plugins";
/// Where the server keeps a bundle beside the image.
const STORED: &str = "/mattermost/data/plugins/jenkins.tar.gz";
/// Ids of the bundles that no server may take: two in the image, and one that somebody has put in the place of one that is kept.
const BAD: [&str; 3] = ["org.example.unsigned", "org.example.tampered", "org.example.exchanged"];
/// The setting that says which plugins are enabled.
pub const STATES: &str = "MM_PLUGINSETTINGS_PLUGINSTATES";

/// Id → version of each bundle in the running image.
fn bundles(world: &World, evidence: &mut Evidence) -> Result<BTreeMap<String, String>> {
    let folder = world.inside("mattermost", FOLDER)?;
    let mut found = BTreeMap::new();
    for entry in fs_err::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".tar.gz") {
            continue;
        }
        let signed = path.with_file_name(format!("{name}.sig")).is_file();
        evidence.same(&format!("{name} has a signature"), true, signed)?;
        evidence.fact(name.clone(), format!("sha256 {}", Digest::of_file(&path)?.0));
        let manifest = world.machine().process("tar").args(["--extract", "--gzip", "--to-stdout", "--wildcards", "*plugin.json", "--file"]);
        let manifest: Value = serde_json::from_str(&manifest.arg(&path).text()?)
            .map_err(|error| Error::new(Class::Check, format!("plugin.json of {name}: {error}")))?;
        let text = |key: &str| manifest[key].as_str().unwrap_or_default().to_owned();
        found.insert(text("id"), text("version"));
    }
    Ok(found)
}

fn statuses(world: &World) -> Result<Vec<PluginStatus>> {
    world.lab.server().inside(|| -> Result<_> { Ok(world.administrator()?.plugin_statuses()?) })?
}

fn active(world: &World, evidence: &mut Evidence) -> Result<()> {
    let baked = bundles(world, evidence)?;
    evidence.holds("bundles in the image", "at least 2", baked.len(), baked.len() >= 2)?;
    let running: BTreeMap<String, String> =
        statuses(world)?.into_iter().filter(|plugin| plugin.is_running()).map(|plugin| (plugin.plugin_id, plugin.version)).collect();
    evidence.same("plugins that run", baked, running)
}

fn refused(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let before = client.inside(|| Before::look(&Lan::new(world)?))??;
    let stored = world.inside("mattermost", STORED)?;
    let own = fs_err::read(&stored)?;
    let (image, mut enabled) = (with_bad_bundles(world)?, states(world)?);
    BAD.iter().for_each(|id| enabled[id] = json!({ "Enable": true }));
    fs_err::write(&stored, fs_err::read(bundle(world, BAD[2])?)?)?;
    // Of those in the file store the server asks for a signature where it is told to.
    let over =
        json!({ "image": image, "environment": { STATES: enabled.to_string(), "MM_PLUGINSETTINGS_REQUIREPLUGINSIGNATURE": "true" } });
    let looked = world.replace("mattermost", Some(over)).and_then(|()| {
        let runs = world.site.inspect(&world.container("mattermost")?)?["Image"].take();
        evidence.same("the image that runs", Some(image.as_str()), runs.as_str())?;
        let found: Vec<String> = statuses(world)?.into_iter().map(|plugin| plugin.plugin_id).collect();
        let good = found.len() >= 2 && !BAD.iter().any(|bad| found.iter().any(|id| id == bad));
        evidence.holds("plugins", "the baked ones", found.join(", "), good)?;
        let log = lab::said(&world.lab.docker("logs").arg(world.container("mattermost")?).outcome()?);
        for bad in [BAD[0], BAD[1], "jenkins.tar.gz"] {
            let line = log.lines().find(|line| line.contains(bad) && line.contains("signature")).unwrap_or_default().to_owned();
            evidence.holds(&format!("the log says why {bad} is not taken"), "a line about its signature", &line, !line.is_empty())?;
        }
        client.inside(|| before.is_kept(world, evidence, "with the other image"))?
    });
    // The container may be another by now.
    fs_err::write(world.inside("mattermost", STORED)?, own)?;
    world.replace("mattermost", None)?;
    looked?;
    client.inside(|| Lan::new(world)?.works(evidence, "with the own image again"))??;
    active(world, evidence)
}

/// The image that runs, with two more bundles in it. The Engine makes it: ours refuse such bundles.
fn with_bad_bundles(world: &World) -> Result<String> {
    let runs = world.site.inspect(&world.container("mattermost")?)?["Image"].as_str().unwrap_or_default().to_owned();
    let made = world.lab.docker("create").arg(&runs).text()?;
    let sealed = world.inside("mattermost", FOLDER)?;
    let signature = fs_err::read_dir(&sealed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "sig"));
    // `docker cp` would not follow the way there.
    let copied = world.run.join("world/of-another.sig");
    if let Some(signature) = signature {
        fs_err::copy(signature, &copied)?;
    }
    for id in [BAD[0], BAD[1]] {
        let bundle = bundle(world, id)?;
        let copy = |from: &Path, name: &str| world.lab.docker("cp").arg(from).arg(format!("{made}:{FOLDER}/{name}")).capture().map(drop);
        copy(&bundle, &format!("{id}-1.0.0.tar.gz"))?;
        if id == BAD[1] {
            copy(&copied, &format!("{id}-1.0.0.tar.gz.sig"))?;
        }
    }
    let image = world.lab.docker("commit").arg(&made).text()?;
    world.lab.docker("rm").arg(&made).capture()?;
    Ok(image)
}

/// A bundle of a plugin that does nothing.
fn bundle(world: &World, id: &str) -> Result<PathBuf> {
    let folder = world.run.join("world/bundles");
    let manifest = json!({ "id": id, "name": id, "version": "1.0.0", "server": { "executable": "server/none" } });
    fs_err::create_dir_all(folder.join(id))?;
    fs_err::write(folder.join(id).join("plugin.json"), manifest.to_string())?;
    let bundle = folder.join(format!("{id}-1.0.0.tar.gz"));
    let tar = world.machine().process("tar").args(["--create", "--gzip", "--file"]).arg(&bundle).arg("--directory").arg(&folder);
    tar.arg(id).capture()?;
    Ok(bundle)
}

/// Which plugins are enabled.
pub fn states(world: &World) -> Result<Value> {
    let environment = world.site.inspect(&world.container("mattermost")?)?["Config"]["Env"].take();
    let lines = environment.as_array().into_iter().flatten().filter_map(Value::as_str);
    let found = lines.filter_map(|line| line.strip_prefix(STATES)?.strip_prefix('=')).next();
    serde_json::from_str(found.unwrap_or("{}")).map_err(|error| Error::new(Class::Check, format!("{STATES}: {error}")))
}
