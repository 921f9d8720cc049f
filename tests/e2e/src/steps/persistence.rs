//! What outlives the containers.

use std::collections::BTreeMap;
use std::time::Duration;

use images::Result;
use xtask::provision::Tool;

use crate::lan::{FORM, JSON, Lan, gitlab, jenkins, mark, seen, sonarqube};
use crate::step::{Evidence, Step, When};
use crate::world::World;

/// The steps.
pub const STEPS: &[Step] = &[Step {
    name: "persistence::posts_webhooks_bots_and_plugin_keys_outlive_their_containers",
    claim: "After every container was removed and made again, each post is there, each webhook posts, bots, tokens and keys of plugins are the same, \
            and provisioning has nothing to do",
    deadline: Duration::from_secs(150),
    needs: &[],
    when: When::Alone,
    proves: recreated,
}];

/// What has to be the same.
pub fn kept(lan: &Lan) -> Result<BTreeMap<&'static str, String>> {
    let posts = lan.posts()?;
    let rows = |query: &str| lan.world.site.sql(query);
    Ok(BTreeMap::from([
        ("posts", format!("{posts:?}")),
        ("webhooks", rows("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM incomingwebhooks t")?),
        ("bots", rows("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM bots t")?),
        ("keys of plugins", rows("SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM pluginkeyvaluestore t")?),
    ]))
}

fn recreated(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let before = client.inside(|| kept(&Lan::new(world)?))??;
    let containers = world.site.containers()?;
    world.site.xtask("down").capture()?;
    evidence.same("containers after `down`", 0, world.site.containers()?.len())?;
    world.site.is_up()?;
    let now = world.site.containers()?;
    let same = now.values().filter(|id| containers.values().any(|before| before == *id)).count();
    evidence.same("containers that are the same", 0, same)?;
    client.inside(|| -> Result<()> {
        let lan = Lan::new(world)?;
        for (what, seen) in kept(&lan)? {
            evidence.same(what, &before[what], &seen)?;
        }
        still_posts(&lan, evidence)
    })??;
    let plan = world.site.xtask("provision --plan").outcome()?;
    evidence.holds("the plan", "nothing to change", lab::said(&plan).trim(), plan.success())
}

/// One webhook of each tool.
pub fn still_posts(lan: &Lan, evidence: &mut Evidence) -> Result<()> {
    let mut socket = lan.listen()?;
    let (build, push, alert) = (mark(), mark(), mark());
    let ok = (200, "ok".to_owned());
    evidence.same("Jenkins' webhook", &ok, &lan.send(&lan.hook(Tool::Jenkins, "builds")?, JSON, jenkins("builds", &build))?)?;
    seen(&mut socket, &build)?;
    evidence.same("GitLab's webhook", &ok, &lan.send(&lan.hook(Tool::Gitlab, "code-reviews")?, FORM, gitlab("builds", &push))?)?;
    seen(&mut socket, &push)?;
    let body = sonarqube(&alert)?;
    let kept = (200, r#"{"alert":"kept"}"#.to_owned());
    evidence.same("SonarQube's webhook", kept, lan.alert(&body, Some(&lan.signed(&body)?))?)?;
    seen(&mut socket, &alert).map(drop)
}
