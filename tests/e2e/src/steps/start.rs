//! The first start, from nothing, and who may come before the administrator.

use std::collections::BTreeSet;
use std::time::Duration;

use images::{Class, Error, Result};
use lab::site::UP as LIMIT;
use xtask::server::Endpoint;

use crate::step::{Evidence, Step, When};
use crate::world::World;

/// The name of the step that starts the stack for all others.
pub const UP: &str = "start::one_command_ends_in_a_provisioned_chat";

/// The steps.
pub const STEPS: &[Step] = &[
    Step {
        name: UP,
        claim: "From nothing, one command ends in a running, provisioned chat",
        deadline: LIMIT,
        needs: &[],
        when: When::FirstStart,
        proves: comes_up,
    },
    Step {
        name: "start::nobody_on_the_lan_comes_before_the_administrator",
        claim: "During the first start and after it, nobody else gets an account, and the only administrator is the site's",
        deadline: LIMIT,
        needs: &[],
        when: When::FirstStart,
        proves: private_first_start,
    },
];

fn comes_up(world: &World, evidence: &mut Evidence) -> Result<()> {
    let outcome = world.site.up();
    world.came_up(outcome.as_ref().is_ok_and(|outcome| outcome.success()));
    let outcome = outcome?;
    let said = lab::said(&outcome);
    evidence.file("up.log", &said)?;
    if !outcome.success() {
        return Err(Error::new(Class::Check, "cargo xtask up failed").detail(format!("seen     {said}")).detail(world.site.logs()));
    }
    let states = |word: &str| said.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("; ");
    evidence.fact("up said", states("started "));
    let plan = world.site.xtask("provision --plan").outcome()?;
    evidence.holds("provisioning is done", "nothing to change", lab::said(&plan).trim(), plan.success())?;
    let status = world.site.xtask("status").outcome()?;
    evidence.holds("every service is healthy", "exit code 0", lab::said(&status).trim(), status.success())
}

/// A client on the LAN asks for an account as often as it can, from before the start until after it.
fn private_first_start(world: &World, evidence: &mut Evidence) -> Result<()> {
    let attacker = world.client()?;
    let (answers, asked) = attacker.inside(|| -> Result<(BTreeSet<u16>, usize)> {
        let (mut answers, mut asked) = (BTreeSet::new(), 0);
        let mut last = false;
        while !last {
            // Once more when the stack is up.
            last = world.is_up().is_some();
            asked += 1;
            match sign_up(world) {
                Some(status) => _ = answers.insert(status),
                None if last => return Err(Error::new(Class::Check, "the server that is up answers nobody on the LAN")),
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        Ok((answers, asked))
    })??;
    evidence.fact("asked for an account", format!("{asked} times"));
    evidence.same("answers to a stranger", BTreeSet::from([403]), answers)?;
    if world.is_up() != Some(true) {
        return Err(Error::new(Class::Check, "the stack did not come up, so that nobody can tell"));
    }
    let administrators = world.lab.server().inside(|| -> Result<Vec<String>> {
        let client = world.administrator()?;
        let people = client.users()?;
        Ok(people.into_iter().filter(|user| user.is_administrator()).map(|user| user.username).collect())
    })??;
    evidence.same("administrators", vec!["admin".to_owned()], administrators)
}

/// The status of the answer; nothing where nobody answers.
fn sign_up(world: &World) -> Option<u16> {
    let site = world.description().ok()?;
    // The CA is made by the first start.
    let endpoint = Endpoint::of_site(&site, &world.folder(), world.server().into()).ok()?;
    let body = r#"{"username":"mallory","email":"mallory@example.org","password":"Mallory-12345678"}"#;
    let http = endpoint.http(Duration::from_secs(5)).ok()?;
    let url = endpoint.url.join("/api/v4/users").ok()?;
    http.post(url).header("Content-Type", "application/json").body(body).send().ok().map(|answer| answer.status().as_u16())
}
