//! What the Engine has of a site: its containers and volumes, found by label, never by a part of a name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ExecConfig, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters as query;
use futures_util::TryStreamExt;
use images::entry::Entry;
use images::{Class, Error, Result, tar};

use super::api::Engine;
use super::swarm::STACK;
use crate::site::Service;
use crate::site::model::Account;

/// Label of every volume of a site: its project.
pub const VOLUME_LABEL: &str = "org.chatops.project";
pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
/// The service that others wait for.
const DATABASE: &str = Service::Postgres.name();

/// A container of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its ID.
    pub id: String,
    /// The service that it runs.
    pub service: String,
    /// Image ID.
    pub image: String,
    /// As the Engine says it: `running`, `exited`, `restarting`…
    pub state: String,
    /// `healthy`, `unhealthy`, `starting`; empty where the image has no check.
    pub health: String,
    /// Exit code of the last end.
    pub exit_code: i64,
    /// How often the Engine has started it again.
    pub restarts: i64,
    /// Names of the volumes in it.
    pub volumes: Vec<String>,
    /// Address → what is published there: `192.168.1.20:8065/tcp`.
    pub published: Vec<String>,
    /// Its addresses on Docker's networks.
    pub addresses: Vec<IpAddr>,
    /// The program that its image starts.
    pub program: String,
    /// What its image's health check runs in it; empty where the image has none.
    pub check: Vec<String>,
}

impl Container {
    /// Whether it does its work.
    pub fn healthy(&self) -> bool {
        self.state == "running" && matches!(self.health.as_str(), "healthy" | "")
    }

    /// Whether it will not become healthy any more by waiting.
    pub fn lost(&self) -> bool {
        self.health == "unhealthy" || matches!(self.state.as_str(), "exited" | "dead") || self.restarts >= 3
    }
}

/// A file that a volume is filled with.
pub struct VolumeFile<'a> {
    /// Its path in the volume.
    pub name: &'a str,
    /// Permissions, such as 0o400.
    pub mode: u32,
    /// Its content.
    pub content: &'a [u8],
}

pub(super) fn refused(what: impl Into<String>) -> impl Fn(bollard::errors::Error) -> Error {
    let what = what.into();
    move |error| {
        let said = error.to_string();
        let full = said.contains("no space left on device");
        let error = Error::new(Class::Engine, what.clone()).detail(said);
        if full { error.hint(FULL) } else { error }
    }
}

/// What is done about an Engine whose disk is full.
pub const FULL: &str =
    "the Engine's disk is full: docker system df shows with what, docker image prune --all removes images without a container";

pub(crate) fn labelled(label: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{label}={value}")])])
}

impl Engine {
    /// Every container of a project, under Compose or on a Swarm, in the order of its services' names.
    pub fn containers(&self, project: &str) -> Result<Vec<Container>> {
        let failed = refused(format!("the containers of {project} cannot be listed"));
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&labelled(PROJECT, project)).build();
        let mut containers = self.block_on(async {
            let mut found = Vec::new();
            for summary in self.docker().list_containers(Some(options)).await.map_err(&failed)? {
                found.extend(self.described(&summary.id.unwrap_or_default()).await.map_err(&failed)?);
            }
            Ok::<_, Error>(found)
        })?;
        containers.extend(self.stack_containers(project)?);
        containers.sort_by(|one, other| one.service.cmp(&other.service));
        Ok(containers)
    }

    /// A container of this Engine, if it is there.
    pub(super) fn container(&self, id: &str) -> Result<Option<Container>> {
        self.block_on(self.described(id)).map_err(refused(format!("container {id} cannot be asked")))
    }

    async fn described(&self, id: &str) -> std::result::Result<Option<Container>, bollard::errors::Error> {
        match self.docker().inspect_container(id, None::<query::InspectContainerOptions>).await {
            Ok(container) => Ok(Some(described(container))),
            // It ended between two questions.
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of the volumes of a project, sorted.
    pub fn volumes(&self, project: &str) -> Result<Vec<String>> {
        let options = query::ListVolumesOptionsBuilder::default().filters(&labelled(VOLUME_LABEL, project)).build();
        let listed = self
            .block_on(self.docker().list_volumes(Some(options)))
            .map_err(refused(format!("the volumes of {project} cannot be listed")))?;
        let mut names: Vec<String> = listed.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect();
        names.sort();
        Ok(names)
    }

    /// The project of the network of this name, empty where it has none; nothing where there is no such network.
    pub fn network(&self, name: &str) -> Option<String> {
        let found = self.block_on(self.docker().inspect_network(name, None::<query::InspectNetworkOptions>)).ok()?;
        let mut labels = found.labels.unwrap_or_default();
        Some(labels.remove(PROJECT).or_else(|| labels.remove(STACK)).unwrap_or_default())
    }

    /// Makes a volume of a project, if it is not there, and fills it through a container of `image` that is never started: its
    /// folder and the files belong to `account`. One that is there and not the project's is refused.
    pub fn fill_volume(&self, project: &str, name: &str, image: &str, account: Account, files: &[VolumeFile]) -> Result<()> {
        self.claim_volume(project, name)?;
        let mount =
            Mount { typ: Some(MountType::VOLUME), source: Some(name.to_owned()), target: Some("/volume".to_owned()), ..Mount::default() };
        let host = HostConfig { mounts: Some(vec![mount]), network_mode: Some("none".to_owned()), ..HostConfig::default() };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            labels: Some(HashMap::from([(VOLUME_LABEL.to_owned(), project.to_owned())])),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let archive = archive(account, files)?;
        let failed = refused(format!("the volume {name} cannot be filled"));
        self.block_on(async {
            let container = self.docker().create_container(None::<query::CreateContainerOptions>, body).await.map_err(&failed)?.id;
            let options = query::UploadToContainerOptionsBuilder::default().path("/").build();
            let filled = self.docker().upload_to_container(&container, Some(options), bollard::body_full(archive.into())).await;
            let options = query::RemoveContainerOptionsBuilder::default().force(true).build();
            self.docker().remove_container(&container, Some(options)).await.map_err(&failed)?;
            filled.map_err(&failed)
        })
    }

    fn claim_volume(&self, project: &str, name: &str) -> Result<()> {
        let failed = refused(format!("the volume {name} cannot be made"));
        let labels = HashMap::from([(VOLUME_LABEL.to_owned(), project.to_owned())]);
        let wanted = VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..VolumeCreateRequest::default() };
        // One that is there already comes back as it is.
        let volume = self.block_on(self.docker().create_volume(wanted)).map_err(failed)?;
        match volume.labels.get(VOLUME_LABEL) {
            Some(owner) if owner == project => Ok(()),
            owner => Err(Error::new(Class::Check, format!("there is a volume {name} already, and it is not this site's"))
                .detail(format!("expected the label {VOLUME_LABEL}={project}"))
                .detail(format!("found    {}", owner.map_or("none", String::as_str)))
                .hint("give the site another project in site.toml, or remove the volume if nobody needs it")),
        }
    }

    /// Removes a volume; one that is gone already is no error.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        match self.block_on(self.docker().remove_volume(name, None::<query::RemoveVolumeOptions>)) {
            Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(refused(format!("the volume {name} cannot be removed"))(error)),
        }
    }

    /// Removes containers that a filling left when it was killed.
    pub fn remove_fillers(&self, project: &str) -> Result<()> {
        let failed = refused("left-over containers cannot be removed");
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&labelled(VOLUME_LABEL, project)).build();
        self.block_on(async {
            for filler in self.docker().list_containers(Some(options)).await.map_err(&failed)? {
                let options = query::RemoveContainerOptionsBuilder::default().force(true).build();
                self.docker().remove_container(&filler.id.unwrap_or_default(), Some(options)).await.map_err(&failed)?;
            }
            Ok(())
        })
    }

    /// What a program in a running container writes to its standard output.
    ///
    /// # Errors
    /// [`Class::Engine`] for an exit code other than 0, with what the program said.
    pub fn exec(&self, container: &str, command: Vec<String>) -> Result<String> {
        self.block_on(self.executed(container, command))
    }

    async fn executed(&self, container: &str, command: Vec<String>) -> Result<String> {
        let name = command.join(" ");
        let failed = refused(format!("{name} cannot be started in the container"));
        let config = ExecConfig { attach_stdout: Some(true), attach_stderr: Some(true), cmd: Some(command), ..ExecConfig::default() };
        let exec = self.docker().create_exec(container, config).await.map_err(&failed)?.id;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        if let StartExecResults::Attached { mut output, .. } = self.docker().start_exec(&exec, None).await.map_err(&failed)? {
            while let Some(piece) = output.try_next().await.map_err(&failed)? {
                match piece {
                    LogOutput::StdErr { message } => err.extend(message),
                    other => out.extend(other.into_bytes()),
                }
            }
        }
        match self.docker().inspect_exec(&exec).await.map_err(&failed)?.exit_code {
            Some(0) => Ok(String::from_utf8_lossy(&out).into_owned()),
            code => Err(Error::new(Class::Engine, format!("{name} ended with exit code {} in the container", code.unwrap_or(-1)))
                .detail(String::from_utf8_lossy(&err).trim().to_owned())),
        }
    }

    /// Every container of a project, as [`Engine::containers`] has them; but those that the Engine does not call healthy are asked, by
    /// their image's own check: the Engine asks every few seconds only, and says until then what was so the last time.
    pub fn asked(&self, project: &str) -> Result<Vec<Container>> {
        let mut containers = self.containers(project)?;
        let ask = async |container: &mut Container| {
            if self.executed(&container.id, container.check.clone()).await.is_ok() {
                "healthy".clone_into(&mut container.health);
            }
        };
        let doubtful = containers.iter_mut().filter(|container| container.state == "running" && !container.healthy());
        self.block_on(futures_util::future::join_all(doubtful.filter(|container| !container.check.is_empty()).map(ask)));
        Ok(containers)
    }

    /// The last lines that a container wrote.
    pub fn log(&self, container: &str, lines: usize) -> Result<Vec<String>> {
        let options = query::LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let said = self.block_on(self.docker().logs(container, Some(options)).try_collect::<Vec<_>>());
        let said = said.map_err(refused("the log cannot be read"))?;
        let text: Vec<u8> = said.into_iter().flat_map(|line| line.into_bytes().to_vec()).collect();
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Waits until every one of `services` is healthy. A service that is lost, or late, is an error with its last words.
    pub fn wait_healthy(&self, project: &str, services: &[&str], deadline: Duration, told: &mut dyn FnMut(&str)) -> Result<()> {
        let start = Instant::now();
        let mut waiting: Vec<&str> = services.to_vec();
        loop {
            let containers = self.asked(project)?;
            let of = |service: &str| containers.iter().find(|container| container.service == service);
            waiting.retain(|service| {
                let healthy = of(service).is_some_and(Container::healthy);
                if healthy {
                    told(&format!("{service} is healthy after {:.1} s", start.elapsed().as_secs_f32()));
                }
                !healthy
            });
            if waiting.is_empty() {
                return Ok(());
            }
            let late = start.elapsed() > deadline;
            // Who ends while the database is on its way may have ended for that, and the Engine starts it again.
            let excused = |service: &str| service != DATABASE && waiting.contains(&DATABASE);
            let is_lost = |service: &str| !excused(service) && of(service).is_some_and(Container::lost);
            if let Some(service) = waiting.iter().find(|service| late || is_lost(service)) {
                return Err(self.why_not(service, of(service), start.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn why_not(&self, service: &str, container: Option<&Container>, after: Duration) -> Error {
        let Some(container) = container else {
            return Error::new(Class::Check, format!("{service} has no container"));
        };
        let health = if container.health.is_empty() { String::new() } else { format!(", {}", container.health) };
        let error = Error::new(Class::Check, format!("{service} is not healthy after {} s", after.as_secs())).detail(format!(
            "state: {}{health}; exit code {}; started again {} times",
            container.state, container.exit_code, container.restarts
        ));
        let said = self.log(&container.id, 20).unwrap_or_default();
        said.into_iter().fold(error, |error, line| error.detail(format!("| {line}")))
    }
}

fn described(container: ContainerInspectResponse) -> Container {
    let config = container.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let state = container.state.unwrap_or_default();
    let health = state.health.and_then(|health| health.status).map(|status| status.to_string()).filter(|status| status != "none");
    let network = container.network_settings.unwrap_or_default();
    let ports = network.ports.unwrap_or_default();
    let endpoints = network.networks.unwrap_or_default().into_values();
    let addresses = endpoints.flat_map(|endpoint| [endpoint.ip_address, endpoint.global_ipv6_address]).flatten();
    let published = |(port, bindings): (String, Option<Vec<bollard::models::PortBinding>>)| {
        let bindings = bindings.unwrap_or_default().into_iter();
        bindings
            .map(move |binding| format!("{}:{} → {port}", binding.host_ip.unwrap_or_default(), binding.host_port.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let mut published: Vec<String> = ports.into_iter().flat_map(published).collect();
    published.sort();
    Container {
        id: container.id.unwrap_or_default(),
        service: labels.get(SERVICE).cloned().unwrap_or_default(),
        image: container.image.unwrap_or_default(),
        state: state.status.map(|status| status.to_string()).unwrap_or_default(),
        health: health.unwrap_or_default(),
        exit_code: state.exit_code.unwrap_or_default(),
        restarts: container.restart_count.unwrap_or_default(),
        volumes: container.mounts.unwrap_or_default().into_iter().filter_map(|mount| mount.name).collect(),
        published,
        addresses: addresses.filter_map(|address| address.parse().ok()).collect(),
        program: config.entrypoint.unwrap_or_default().into_iter().next().unwrap_or_default(),
        // The first word says that what follows is no shell's.
        check: config.healthcheck.and_then(|check| check.test).unwrap_or_default().into_iter().skip(1).collect(),
    }
}

/// Where the volume stands in the container that fills it. The archive is unpacked into the folder above: the Engine skips an
/// entry for the folder that it unpacks into, so that its owner could not be set.
const MOUNT: &str = "volume";

fn archive(account: Account, files: &[VolumeFile]) -> Result<Vec<u8>> {
    let owned = |entry: Entry| Entry { uid: account.uid, gid: account.gid, ..entry };
    let mut archive = tar::Writer::new(Vec::new());
    archive.entry(&owned(Entry::directory(MOUNT, 0o700, 0)))?;
    for file in files {
        archive.entry(&owned(Entry::file(format!("{MOUNT}/{}", file.name), file.content.len(), file.mode, 0)))?;
        archive.content(file.content)?;
    }
    Ok(archive.finish()?.0)
}
