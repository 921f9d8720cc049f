//! The running site: its containers under the Engine, driven through Compose, or through Swarm.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use images::{Class, Result};

use crate::engine::api::Engine;
use crate::engine::project::Container;
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::process::Process;
use crate::site::{Folder, Service, Site, SiteArgs, compose};
use crate::workspace::Workspace;

pub mod preflight;
pub mod secrets;
pub mod start;
pub mod swarm;

/// What runs a site's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Docker Compose, on this machine.
    Compose,
    /// Docker Swarm, which this machine manages.
    Swarm,
}

impl Target {
    /// What it needs of a machine.
    pub const fn parts(self) -> &'static [&'static str] {
        match self {
            Target::Compose => &["iptables", "dockerd", "docker", "docker compose"],
            Target::Swarm => &["iptables", "dockerd", "docker", "docker compose", "docker stack"],
        }
    }

    /// As one types it.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Compose => "compose",
            Target::Swarm => "swarm",
        }
    }
}

/// How long Compose may take for what is not waiting for health: making and replacing containers, and stopping old ones.
const COMPOSE: Duration = Duration::from_secs(300);

/// A site, its machine and the Engine that runs it.
pub struct Stack {
    /// The checkout, or what was applied of a bundle.
    pub workspace: Workspace,
    /// Its machine.
    pub machine: Machine,
    /// The site's files.
    pub folder: Folder,
    /// What it is.
    pub site: Site,
    /// The Engine.
    pub engine: Engine,
    /// What runs it.
    pub target: Target,
}

impl Stack {
    /// Reads the site and connects to the Engine.
    pub fn open(site: &SiteArgs) -> Result<Stack> {
        let workspace = Workspace::home()?;
        let machine = Machine::of(&workspace);
        let (folder, site) = site.load()?;
        machine::require(&machine, &["docker", "docker compose"])?;
        let engine = Engine::connect()?;
        let target = if engine.is_deployed(site.project.as_str())? { Target::Swarm } else { Target::Compose };
        Ok(Stack { engine, workspace, machine, folder, site, target })
    }

    /// The same under another target, if none runs it already.
    pub fn on(mut self, target: Target) -> Result<Stack> {
        if target != self.target && !self.containers()?.is_empty() {
            return Err(images::Error::new(Class::Check, format!("{} runs under {}", self.project(), self.target.name()))
                .hint("cargo xtask down ends it and keeps its data; then say up again"));
        }
        self.target = target;
        Ok(self)
    }

    /// Name of the project, which every container and volume is labelled with.
    pub fn project(&self) -> &str {
        self.site.project.as_str()
    }

    /// The site's containers.
    pub fn containers(&self) -> Result<Vec<Container>> {
        self.engine.containers(self.project())
    }

    /// The running container of a service; where there is none, the error says how it comes to be.
    pub fn running(&self, service: Service) -> Result<Container> {
        let found = self.containers()?.into_iter().find(|container| container.service == service.name() && container.state == "running");
        found.ok_or_else(|| {
            images::Error::new(Class::Check, format!("{} of {} does not run", service.name(), self.project())).hint("cargo xtask up")
        })
    }

    /// `docker exec` into the running container of a service, with this terminal where there is one.
    pub fn exec(&self, service: Service) -> Result<Process> {
        let container = self.running(service)?;
        let terminal = (std::io::stdin().is_terminal() && std::io::stdout().is_terminal()).then_some("--tty");
        Ok(self.machine.process("docker").args(["exec", "--interactive"]).args(terminal).arg(&container.id).fails_as(Class::Engine))
    }

    /// `docker compose` for this project, without its file: what finds everything by label.
    pub fn compose_by_label(&self) -> Process {
        self.machine.process("docker").args(["compose", "--project-name", self.project()]).fails_as(Class::Engine)
    }

    /// `docker compose` for this project, with its file.
    pub fn compose(&self) -> Result<Process> {
        let root = std::path::absolute(self.folder.root())?;
        Ok(self.compose_by_label().arg("--project-directory").arg(&root).arg("--file").arg(root.join("compose.json")).deadline(COMPOSE))
    }

    /// Where the output of Compose is kept: `target/site/PROJECT/compose.log`.
    pub fn log(&self) -> PathBuf {
        self.workspace.target().join("site").join(self.project()).join("compose.log")
    }

    /// Removes every container and network of the site; data stays in its volumes.
    pub fn down(&self, out: &mut Output) -> Result<()> {
        let before = self.containers()?;
        if before.is_empty() {
            out.say(format!("{} does not run", self.project()));
        }
        match self.target {
            Target::Compose => {
                let process = self.compose_by_label().args(["down", "--remove-orphans", "--timeout", "30"]).deadline(COMPOSE);
                process.log_to(&self.log())?;
            }
            Target::Swarm => self.remove_stack()?,
        }
        self.engine.remove_fillers(self.project())?;
        before.iter().for_each(|container| out.say(format!("removed {}", container.service)));
        Ok(())
    }

    /// Removes every volume of the site.
    pub fn remove_volumes(&self, out: &mut Output) -> Result<()> {
        for volume in self.engine.volumes(self.project())? {
            self.engine.remove_volume(&volume)?;
            out.say(format!("removed the volume {volume}"));
        }
        Ok(())
    }

    /// Makes the volumes that hold data, each with the account of its service as owner.
    ///
    /// One that no container has may be what a killed command had only begun to make: its folder gets its owner again, and what lies in
    /// it stays as it is.
    pub fn ensure_data(&self, image: impl Fn(Service) -> String) -> Result<()> {
        let mounted: Vec<String> = self.containers()?.into_iter().flat_map(|container| container.volumes).collect();
        for service in compose::services(&self.site) {
            for (name, _) in compose::data(service) {
                let volume = compose::volume(&self.site, name);
                if !mounted.contains(&volume) {
                    self.engine.fill_volume(self.project(), &volume, &image(service), *self.site.accounts.of(service), &[])?;
                }
            }
        }
        Ok(())
    }
}
