//! From images and secrets to healthy containers, and back to those that were healthy before where the new ones are not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use images::file::write_beside;
use images::{Class, Error, Result};

use super::secrets::SecretFiles;
use super::{Stack, Target};
use crate::engine::project::{Container, FULL};
use crate::output::Output;
use crate::site::compose::{self, Content, Reach, compose};
use crate::site::model::PerService;
use crate::site::{Service, Site};

/// How long the services may take to become healthy: a first start initialises the database and migrates its schema.
pub(super) const HEALTHY: Duration = Duration::from_secs(240);

/// What is to run.
pub struct Wanted {
    /// Image of each service.
    pub images: PerService<Image>,
    /// Settings of each service, without secrets.
    pub settings: PerService<BTreeMap<String, String>>,
    /// What each service finds in `/run/secrets`.
    pub secrets: PerService<SecretFiles>,
}

/// An image that the Engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its ID.
    pub id: String,
    /// Where other nodes pull it from, by digest: `registry.example.org/chatops/coturn@sha256:…`.
    pub pulled: Option<String>,
}

/// Which services got a new container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed(pub BTreeSet<String>);

impl Changed {
    /// These and those.
    #[must_use]
    pub fn and(mut self, later: Changed) -> Changed {
        self.0.extend(later.0);
        self
    }
}

impl Stack {
    /// Who can reach Mattermost as it runs now; nothing where it does not run.
    pub fn reach(&self) -> Result<Option<Reach>> {
        let found = self.containers()?.into_iter().find(|container| container.service == Service::Mattermost.name());
        Ok(found.filter(|container| container.state == "running").map(|container| reach_of(&self.site, &container)))
    }

    /// Makes what runs what is wanted, and waits until it is healthy. What does not become healthy is taken back: the Compose file
    /// that was healthy last is started again, and the error shows the log of what failed.
    pub fn start(&self, wanted: &Wanted, reach: Reach, out: &mut Output) -> Result<Changed> {
        // Those of a command that was killed while it filled a volume.
        self.engine.remove_fillers(self.project())?;
        self.ensure_data(|service| wanted.images.of(service).id.clone())?;
        let text = match self.target {
            Target::Compose => compose(&self.site, &self.content(wanted)?, reach).text(),
            Target::Swarm => self.stack_file(wanted, reach)?,
        };
        let before = self.containers()?;
        self.write_if_other(&self.file(), &text)?;
        if let Err(error) = self.run(out) {
            return Err(self.take_back(error, &text, out));
        }
        self.write_if_other(&self.healthy_file(), &text)?;
        match self.target {
            Target::Compose => self.forget_old_secrets()?,
            Target::Swarm => self.forget_old_stack_secrets(&text)?,
        }
        let old = |container: &Container| before.iter().any(|earlier| earlier.id == container.id);
        Ok(Changed(self.containers()?.into_iter().filter(|container| !old(container)).map(|container| container.service).collect()))
    }

    /// What is started: `compose.json`, or `stack.json`.
    fn file(&self) -> PathBuf {
        match self.target {
            Target::Compose => self.folder.compose(),
            Target::Swarm => self.folder.stack(),
        }
    }

    fn healthy_file(&self) -> PathBuf {
        match self.target {
            Target::Compose => self.folder.healthy_compose(),
            Target::Swarm => self.folder.healthy_stack(),
        }
    }

    /// Makes what runs what the file says, and waits until it is healthy.
    fn run(&self, out: &mut Output) -> Result<()> {
        match self.target {
            Target::Compose => self.run_compose().and_then(|()| self.wait(out)),
            Target::Swarm => self.run_stack(out),
        }
    }

    fn content(&self, wanted: &Wanted) -> Result<Content> {
        let mut secrets = PerService::<String>::default();
        for service in compose::services(&self.site) {
            *secrets.of_mut(service) = self.ensure_secrets(service, &wanted.images.of(service).id, wanted.secrets.of(service))?;
        }
        let images = wanted.images.each(|image| image.id.clone());
        Ok(Content { images, secrets, settings: wanted.settings.clone() })
    }

    fn run_compose(&self) -> Result<()> {
        let up = self.compose()?.args(["up", "--detach", "--no-build", "--remove-orphans", "--timeout", "30"]);
        up.log_to(&self.log()).map_err(explained)
    }

    fn wait(&self, out: &mut Output) -> Result<()> {
        let services: Vec<&str> = compose::services(&self.site).map(Service::name).collect();
        let start = Instant::now();
        self.engine.wait_healthy(self.project(), &services, HEALTHY, &mut |line| {
            // What was healthy already is not worth a line.
            if start.elapsed() > Duration::from_millis(500) {
                out.say(line);
            }
        })
    }

    fn take_back(&self, error: Error, text: &str, out: &mut Output) -> Error {
        let before = match fs_err::read_to_string(self.healthy_file()) {
            Ok(before) if before != text => before,
            _ => return error.hint("cargo xtask logs shows more; nothing was healthy before that could be taken back to"),
        };
        out.say("taking it back to what was healthy before");
        let again = self.write_if_other(&self.file(), &before).and_then(|()| self.run(out));
        match again {
            Ok(()) => error.detail("what was healthy before runs again").hint("mend it and say cargo xtask up again"),
            Err(other) => error.detail(format!("what was healthy before does not start either: {other}")).hint("cargo xtask logs"),
        }
    }

    fn write_if_other(&self, path: &std::path::Path, text: &str) -> Result<()> {
        match fs_err::read_to_string(path) {
            Ok(there) if there == text => Ok(()),
            _ => write_beside(path, text.as_bytes(), 0o644),
        }
    }
}

fn reach_of(site: &Site, mattermost: &Container) -> Reach {
    let port = site.ports.mattermost;
    // On a Swarm it is every address.
    let lan = site.addresses.iter().chain(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    let lan = lan.into_iter().any(|address| mattermost.published.iter().any(|line| line.starts_with(&format!("{address}:{port} "))));
    if lan { Reach::Lan } else { Reach::Loopback }
}

/// What Compose's words mean for a site.
fn explained(error: Error) -> Error {
    let said = error.to_string();
    let hint = if said.contains("address already in use") || said.contains("port is already allocated") {
        "another program has a port of site.toml's [ports]: ss -lntup shows which"
    } else if said.contains("cannot assign requested address") {
        "an address in site.toml is not this machine's any more: ip -br address"
    } else if said.contains("declared as external, but could not be found") {
        "a network of site.toml's network.join is not there: docker network ls"
    } else if said.contains("No such image") {
        "an image has been removed from the Engine: cargo xtask up loads it again"
    } else if said.contains("no space left") {
        FULL
    } else {
        return error;
    };
    // A port that is taken is for the person to see to, an Engine that does not answer is another matter.
    Error::new(Class::Check, error.message().to_owned()).detail(said).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compose_says_is_told_with_the_next_step() {
        for (said, word) in [
            (
                "Error response from daemon: driver failed programming external connectivity: Bind for 0.0.0.0:8065 failed: port is already allocated",
                "ss -lntup",
            ),
            ("listen tcp4 192.168.1.20:8065: bind: cannot assign requested address", "not this machine's"),
            ("network cicd-net declared as external, but could not be found", "network.join"),
            ("write /var/lib/docker/tmp: no space left on device", "docker system df"),
        ] {
            let error = explained(Error::new(Class::Engine, "docker failed with exit status 1").detail(said));
            assert!(error.hint_text().unwrap().contains(word) && error.to_string().contains(said), "{error}");
        }
        assert!(explained(Error::new(Class::Engine, "docker failed")).hint_text().is_none());
    }
}
