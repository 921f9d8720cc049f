//! What outlives the containers.

use std::collections::BTreeMap;
use std::time::Duration;

use images::Result;

use crate::lan::Lan;
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

/// What has to be the same afterwards.
pub struct Before(BTreeMap<&'static str, String>);

impl Before {
    /// As it is now.
    pub fn look(lan: &Lan) -> Result<Before> {
        let posts = lan.posts()?;
        let rows = |query: &str| lan.world.site.sql(query);
        Ok(Before(BTreeMap::from([
            ("posts", format!("{posts:?}")),
            ("webhooks", rows("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM incomingwebhooks t")?),
            ("bots", rows("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM bots t")?),
            ("keys of plugins", rows("SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM pluginkeyvaluestore t")?),
        ])))
    }

    /// Whether it is the same now, and each tool's webhook posts.
    pub fn is_kept(&self, world: &World, evidence: &mut Evidence, when: &str) -> Result<()> {
        let lan = Lan::new(world)?;
        for (what, seen) in Before::look(&lan)?.0 {
            evidence.same(&format!("{what} {when}"), &self.0[what], &seen)?;
        }
        lan.works(evidence, when)
    }
}

fn recreated(world: &World, evidence: &mut Evidence) -> Result<()> {
    let client = world.client()?;
    let before = client.inside(|| Before::look(&Lan::new(world)?))??;
    let containers = world.site.containers()?;
    world.site.xtask("down").capture()?;
    evidence.same("containers after `down`", 0, world.site.containers()?.len())?;
    world.site.is_up()?;
    let now = world.site.containers()?;
    let same = now.values().filter(|id| containers.values().any(|before| before == *id)).count();
    evidence.same("containers that are the same", 0, same)?;
    client.inside(|| before.is_kept(world, evidence, "in the new containers"))??;
    let plan = world.site.xtask("provision --plan").outcome()?;
    evidence.holds("the plan", "nothing to change", lab::said(&plan).trim(), plan.success())
}
