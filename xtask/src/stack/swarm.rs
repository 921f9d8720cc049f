//! A site on a Swarm: from its stack file to healthy tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use images::{Class, Error, Result};

use super::start::{HEALTHY, Wanted};
use super::{COMPOSE, Stack};
use crate::engine::swarm::{Swarm, Task};
use crate::output::Output;
use crate::process::Process;
use crate::site::compose::{self, Reach};
use crate::site::model::PerService;
use crate::site::swarm::{self, COTURN_LABEL, Content};
use crate::site::{Service, Site};

/// How many tasks of a service may fail before it is given up, once those that it needs are healthy.
const TRIES: usize = 3;

impl Stack {
    /// The Swarm that the Engine manages, with every problem that would keep the site from it.
    ///
    /// # Errors
    /// [`Class::Check`] where it manages none, where no node is labelled for Coturn, where a network is this machine's alone.
    pub fn swarm(&self, images: &PerService<super::start::Image>) -> Result<Swarm> {
        let Some(found) = self.engine.swarm()? else {
            return Err(Error::new(Class::Check, "this Engine manages no Swarm")
                .hint(format!("docker swarm init --advertise-addr {}, or run this on a manager", self.site.address())));
        };
        let is_of_swarm = |name: &String| self.engine.is_of_swarm(name);
        let problems = problems(&self.site, &found, images.coturn.pulled.is_some(), is_of_swarm);
        match problems.is_empty() {
            true => Ok(found),
            false => Err(problems.into_iter().fold(Error::new(Class::Check, "the stack cannot be started on this Swarm"), Error::detail)),
        }
    }

    /// The stack file, after its secrets have been made.
    pub(super) fn stack_file(&self, wanted: &Wanted, reach: Reach) -> Result<String> {
        let node = self.swarm(&wanted.images)?.node;
        let there = self.engine.secrets(self.project())?;
        let mut secrets = PerService::<BTreeMap<String, String>>::default();
        for service in compose::services(&self.site) {
            let files = wanted.secrets.of(service);
            let names = files.names(&self.site, service);
            for (file, name) in names.iter().filter(|(_, name)| !there.contains(name)) {
                self.engine.create_secret(self.project(), name, &files.0[file])?;
            }
            *secrets.of_mut(service) = names;
        }
        let images = wanted.images.each(|image| image.pulled.clone().unwrap_or_else(|| image.id.clone()));
        Ok(swarm::stack(&self.site, &Content { images, secrets, settings: wanted.settings.clone(), node }, reach))
    }

    /// `docker stack` for this project.
    fn docker_stack(&self, verb: &str) -> Result<Process> {
        let docker =
            self.machine.stack_client().ok_or_else(|| Error::new(Class::MissingTool, "no client of Docker knows `stack config`"))?;
        Ok(docker.args(["stack", verb]).fails_as(Class::Engine).deadline(COMPOSE))
    }

    /// Lets Docker's client read the file, deploys it, and waits until every service is healthy.
    pub(super) fn run_stack(&self, out: &mut Output) -> Result<()> {
        let file = self.folder.stack();
        let text = fs_err::read_to_string(&file)?;
        let wanted = swarm::contents(&text);
        self.docker_stack("config")?.arg("--compose-file").arg(&file).capture()?;
        let before: BTreeSet<String> = self.engine.tasks(self.project())?.into_iter().map(|task| task.id).collect();
        // What a node lacks it pulls by digest, with the credentials that this client has.
        let deploy = self.docker_stack("deploy")?.args(["--detach=true", "--prune", "--resolve-image", "never", "--with-registry-auth"]);
        deploy.arg("--compose-file").arg(&file).arg(self.project()).log_to(&self.log())?;
        let start = Instant::now();
        for service in compose::services(&self.site).map(Service::name) {
            self.wait_for_task(service, wanted.get(service).map_or("", String::as_str), &before, start, out)?;
        }
        Ok(())
    }

    /// One service after the other, in the order in which they need each other: a task that failed because another one was not
    /// there yet is none of those that count.
    fn wait_for_task(&self, service: &str, content: &str, before: &BTreeSet<String>, start: Instant, out: &mut Output) -> Result<()> {
        let is_ours = |task: &Task| task.service == service && task.content == content;
        let mut earlier: Option<BTreeSet<String>> = None;
        loop {
            let tasks: Vec<Task> = self.engine.tasks(self.project())?.into_iter().filter(is_ours).collect();
            if let Some(task) = tasks.iter().find(|task| task.healthy()) {
                if !before.contains(&task.id) {
                    out.say(format!("{service} is healthy after {:.1} s", start.elapsed().as_secs_f32()));
                }
                return Ok(());
            }
            let failed = || tasks.iter().filter(|task| task.failed());
            let earlier = earlier.get_or_insert_with(|| failed().map(|task| task.id.clone()).collect());
            let lost = failed().filter(|task| !earlier.contains(&task.id)).count() >= TRIES;
            if lost || start.elapsed() > HEALTHY {
                return Err(self.why_not(service, failed().next_back().or(tasks.last()), start));
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    fn why_not(&self, service: &str, task: Option<&Task>, start: Instant) -> Error {
        let error = Error::new(Class::Check, format!("{service} is not healthy after {} s", start.elapsed().as_secs()));
        let Some(task) = task else { return error.detail("Swarm has no task of it") };
        let error = error.detail(format!("state: {}; exit code {}", task.state, task.exit_code));
        let error = if task.error.is_empty() { error } else { error.detail(task.error.clone()) };
        // A container on another node says nothing here.
        let said = self.engine.log(&task.container, 20).unwrap_or_default();
        said.into_iter().fold(error, |error, line| error.detail(format!("| {line}")))
    }

    /// Removes the secrets that the file does not name.
    pub(super) fn forget_old_stack_secrets(&self, text: &str) -> Result<()> {
        let used = swarm::secrets(text);
        let mut old = self.engine.secrets(self.project())?.into_iter().filter(|name| !used.contains(name));
        old.try_for_each(|name| self.engine.remove_secret(&name))
    }

    /// Ends the stack, and waits until its containers and networks are gone; its secrets go with it.
    pub(super) fn remove_stack(&self) -> Result<()> {
        self.docker_stack("rm")?.arg(self.project()).log_to(&self.log())?;
        let start = Instant::now();
        let is_left = || -> Result<bool> {
            let networks = compose::own_networks(&self.site).iter().any(|name| self.engine.network(name).is_some());
            Ok(networks || self.engine.has_stack_containers(self.project())?)
        };
        while is_left()? {
            if start.elapsed() > COMPOSE {
                return Err(Error::new(Class::Engine, format!("{} has not ended after {} s", self.project(), COMPOSE.as_secs()))
                    .hint("docker ps shows what still runs; cargo xtask down goes on"));
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        self.engine.secrets(self.project())?.into_iter().try_for_each(|name| self.engine.remove_secret(&name))
    }
}

/// Everything that would keep a site from running on a Swarm, each with what mends it. `pulled` says whether its images come from a
/// registry; `is_of_swarm`, whether a network reaches across the Swarm, if it is there.
fn problems(site: &Site, swarm: &Swarm, pulled: bool, is_of_swarm: impl Fn(&String) -> Option<bool>) -> Vec<String> {
    let mut problems = Vec::new();
    let labelled: Vec<_> =
        swarm.nodes.iter().filter(|(_, _, labels)| labels.get(COTURN_LABEL).is_some_and(|value| value == "true")).collect();
    match labelled.as_slice() {
        [] => problems.push(format!(
            "no node is labelled for Coturn: docker node update --label-add {COTURN_LABEL}=true NODE, the one with the address {}",
            site.address()
        )),
        nodes if !pulled => problems.extend(nodes.iter().filter(|(id, _, _)| *id != swarm.node).map(|(_, name, _)| {
            format!("the node {name} is labelled for Coturn, and has no image of it: push the images, and say --registry")
        })),
        _ => {}
    }
    for name in &site.network.join {
        if is_of_swarm(name) == Some(false) {
            problems
                .push(format!("the network {name} is this machine's alone: docker network create --driver overlay --attachable {name}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::parse;

    fn site(more: &str) -> Site {
        parse("site.toml", &format!("format = 1\naddresses = [\"192.168.1.20\"]\n{more}"), || unreachable!()).unwrap()
    }

    fn swarm(labelled: &[&str]) -> Swarm {
        let node = |id: &str| {
            let label = labelled.contains(&id).then(|| (COTURN_LABEL.to_owned(), "true".to_owned()));
            (id.to_owned(), format!("{id}.cicd.local"), label.into_iter().collect())
        };
        Swarm { node: "one".to_owned(), nodes: vec![node("one"), node("two")] }
    }

    #[test]
    fn a_swarm_without_a_node_for_coturn_is_refused_with_the_command_that_labels_one() {
        let problems = problems(&site(""), &swarm(&[]), true, |_| None);
        assert!(problems.len() == 1 && problems[0].contains("docker node update --label-add org.chatops.coturn=true"), "{problems:?}");
    }

    #[test]
    fn another_node_runs_coturn_only_with_an_image_that_it_can_pull() {
        let found = problems(&site(""), &swarm(&["one", "two"]), false, |_| None);
        assert!(found.len() == 1 && found[0].contains("two.cicd.local") && found[0].contains("--registry"), "{found:?}");
        assert!(problems(&site(""), &swarm(&["two"]), true, |_| None).is_empty());
        assert!(problems(&site(""), &swarm(&["one"]), false, |_| None).is_empty());
    }

    #[test]
    fn a_network_of_one_machine_is_refused() {
        let site = site("[network]\njoin = [\"cicd-net\"]\n");
        let found = problems(&site, &swarm(&["one"]), false, |_| Some(false));
        assert!(found.len() == 1 && found[0].contains("--driver overlay --attachable cicd-net"), "{found:?}");
        assert!(problems(&site, &swarm(&["one"]), false, |_| Some(true)).is_empty());
    }
}
