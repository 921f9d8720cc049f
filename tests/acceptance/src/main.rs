//! The real images under the programs that people use. Each test is a claim; its name says what it proves.
//!
//! The images are built once, by the release build of `cargo xtask images` that users call, into `target/acceptance`, with
//! foreign files from `target/store`. A claim that needs a program, root or a Docker Engine which is not there is *ignored* with
//! the reason; with `CI` in the environment it fails instead.
//!
//! Nothing here listens on, or talks to, more than loopback and a bridge that the claim makes and removes.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed claim with a place")]

mod certificates;
mod claims;
mod database;
mod docker;
mod doctor;
mod first_run;
mod formats;
mod gateway;
mod integrations;
mod mattermost;
mod papers;
mod pki;
mod postgres;
mod python;
mod registry;
mod reproducible;
mod site;
mod sonarqube;
mod stack;
mod turnserver;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let world = Arc::new(world::World::open().expect("a checkout"));
    // The longest first, so that the others run beside them.
    let all = [
        reproducible::CLAIMS,
        sonarqube::CLAIMS,
        stack::CLAIMS,
        mattermost::CLAIMS,
        postgres::CLAIMS,
        database::CLAIMS,
        formats::CLAIMS,
        papers::CLAIMS,
        registry::CLAIMS,
        turnserver::CLAIMS,
        gateway::CLAIMS,
        docker::CLAIMS,
        doctor::CLAIMS,
        site::CLAIMS,
        first_run::CLAIMS,
        certificates::CLAIMS,
        integrations::CLAIMS,
    ];
    let trials = all.into_iter().flatten().map(|claim| claim.trial(&world)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    world.close();
    conclusion.exit_code()
}
