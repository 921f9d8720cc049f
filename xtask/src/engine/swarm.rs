//! What a Swarm has of a site: tasks, secrets, nodes. An Engine that manages no Swarm has nothing of it.

use std::collections::HashMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::errors::Error::DockerResponseServerError;
use bollard::models::{SecretSpec, Task as Found, TaskState};
use bollard::query_parameters as query;
use images::{Class, Error, Result};

use super::api::Engine;
use super::project::{Container, VOLUME_LABEL, labelled, refused};
use crate::site::swarm::CONTENT_LABEL;

/// Label of everything that `docker stack deploy` makes: the name of the stack.
pub(super) const STACK: &str = "com.docker.stack.namespace";
/// The bridge by which a node's containers and the node itself reach each other.
const GATEWAY: &str = "docker_gwbridge";

/// One try of a service to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its ID.
    pub id: String,
    /// The service.
    pub service: String,
    /// As Swarm says it: `running` is also healthy.
    pub state: String,
    /// Whether it is to run; else it is one of before.
    pub wanted: bool,
    /// What the file said of its service, by digest.
    pub content: String,
    /// Why it does not run.
    pub error: String,
    /// The node that has it.
    pub node: String,
    /// ID of its container.
    pub container: String,
    /// Exit code of the container.
    pub exit_code: i64,
    created: String,
    image: String,
}

impl Task {
    /// Whether it does its work.
    pub fn healthy(&self) -> bool {
        self.wanted && self.state == "running"
    }

    /// Whether it has ended by itself.
    pub fn failed(&self) -> bool {
        matches!(self.state.as_str(), "failed" | "rejected" | "complete")
    }
}

/// A Swarm, as the Engine of one of its managers sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swarm {
    /// ID of this node.
    pub node: String,
    /// Nodes that are ready: ID, name, labels.
    pub nodes: Vec<(String, String, HashMap<String, String>)>,
}

impl Engine {
    /// The Swarm that this Engine manages, if it manages one.
    pub fn swarm(&self) -> Result<Option<Swarm>> {
        let failed = refused("the Engine does not say whether it is in a Swarm");
        let info = self.block_on(self.docker().info()).map_err(&failed)?.swarm.unwrap_or_default();
        if info.control_available != Some(true) {
            return Ok(None);
        }
        let ready = |node: &bollard::models::Node| {
            node.status.as_ref().and_then(|status| status.state).is_some_and(|state| state.to_string() == "ready")
        };
        let nodes = self.block_on(self.docker().list_nodes(None::<query::ListNodesOptions>)).map_err(failed)?;
        let nodes = nodes.into_iter().filter(ready).map(|node| {
            let name = node.description.and_then(|description| description.hostname).unwrap_or_default();
            (node.id.unwrap_or_default(), name, node.spec.and_then(|spec| spec.labels).unwrap_or_default())
        });
        Ok(Some(Swarm { node: info.node_id.unwrap_or_default(), nodes: nodes.collect() }))
    }

    /// Whether a stack of this name is deployed.
    pub fn is_deployed(&self, project: &str) -> Result<bool> {
        Ok(!self.stack_services(project)?.is_empty())
    }

    /// Service → its name in the file.
    fn stack_services(&self, project: &str) -> Result<HashMap<String, String>> {
        let options = query::ListServicesOptionsBuilder::default().filters(&labelled(STACK, project)).build();
        let services = match self.block_on(self.docker().list_services(Some(options))) {
            Ok(services) => services,
            // No manager of a Swarm.
            Err(DockerResponseServerError { status_code: 503 | 406, .. }) => return Ok(HashMap::new()),
            Err(error) => return Err(refused(format!("the services of {project} cannot be listed"))(error)),
        };
        let name = |service: bollard::models::Service| {
            let full = service.spec?.name?;
            Some((service.id?, full.strip_prefix(&format!("{project}_")).unwrap_or(&full).to_owned()))
        };
        Ok(services.into_iter().filter_map(name).collect())
    }

    /// Every task of a stack that Swarm remembers, the oldest first.
    pub fn tasks(&self, project: &str) -> Result<Vec<Task>> {
        let services = self.stack_services(project)?;
        if services.is_empty() {
            return Ok(Vec::new());
        }
        let options = query::ListTasksOptionsBuilder::default().filters(&labelled(STACK, project)).build();
        let found = self.block_on(self.docker().list_tasks(Some(options)));
        let found = found.map_err(refused(format!("the tasks of {project} cannot be listed")))?;
        let mut tasks: Vec<Task> = found.into_iter().filter_map(|task| described(task, &services)).collect();
        tasks.sort_by(|one, other| one.created.cmp(&other.created));
        Ok(tasks)
    }

    /// The containers of a stack: of each service the newest task that is to run. One on another node is known by its task alone.
    pub(super) fn stack_containers(&self, project: &str) -> Result<Vec<Container>> {
        let mut newest: HashMap<String, Task> = HashMap::new();
        for task in self.tasks(project)?.into_iter().filter(|task| task.wanted) {
            newest.insert(task.service.clone(), task);
        }
        let container = |task: Task| -> Result<Container> {
            let here = match task.container.is_empty() {
                true => None,
                false => self.container(&task.container)?,
            };
            let elsewhere = || Container {
                id: task.container.clone(),
                image: task.image.clone(),
                health: if task.healthy() { "healthy".to_owned() } else { String::new() },
                state: task.state.clone(),
                exit_code: task.exit_code,
                ..Container::default()
            };
            Ok(Container { service: task.service.clone(), ..here.unwrap_or_else(elsewhere) })
        };
        newest.into_values().map(container).collect()
    }

    /// Whether this Engine has a container of a stack, running or not.
    pub fn has_stack_containers(&self, project: &str) -> Result<bool> {
        let options = query::ListContainersOptionsBuilder::default().all(true).filters(&labelled(STACK, project)).build();
        let found = self.block_on(self.docker().list_containers(Some(options)));
        Ok(!found.map_err(refused(format!("the containers of {project} cannot be listed")))?.is_empty())
    }

    /// The address at which this node reaches a container of its own, published or not.
    pub fn gateway_address(&self, container: &str) -> Result<IpAddr> {
        let network = self.block_on(self.docker().inspect_network(GATEWAY, None::<query::InspectNetworkOptions>));
        let network = network.map_err(refused(format!("the network {GATEWAY} cannot be asked")))?;
        let end = network.containers.unwrap_or_default().remove(container).and_then(|end| end.ipv4_address).unwrap_or_default();
        let address = end.split('/').next().and_then(|address| address.parse().ok());
        address.ok_or_else(|| Error::new(Class::Engine, format!("container {container} has no address in the network {GATEWAY}")))
    }

    /// Whether a network reaches across a Swarm; nothing where there is no such network.
    pub fn is_of_swarm(&self, network: &str) -> Option<bool> {
        let found = self.block_on(self.docker().inspect_network(network, None::<query::InspectNetworkOptions>)).ok()?;
        Some(found.scope.as_deref() == Some("swarm"))
    }

    /// Names of a project's secrets.
    pub fn secrets(&self, project: &str) -> Result<Vec<String>> {
        let options = query::ListSecretsOptionsBuilder::default().filters(&labelled(VOLUME_LABEL, project)).build();
        let secrets = match self.block_on(self.docker().list_secrets(Some(options))) {
            Ok(secrets) => secrets,
            Err(DockerResponseServerError { status_code: 503 | 406, .. }) => return Ok(Vec::new()),
            Err(error) => return Err(refused(format!("the secrets of {project} cannot be listed"))(error)),
        };
        Ok(secrets.into_iter().filter_map(|secret| secret.spec?.name).collect())
    }

    /// Makes a secret of a project. What it holds goes to the Engine alone.
    pub fn create_secret(&self, project: &str, name: &str, content: &[u8]) -> Result<()> {
        let labels = HashMap::from([(VOLUME_LABEL.to_owned(), project.to_owned())]);
        let data = Some(STANDARD.encode(content));
        let spec = SecretSpec { name: Some(name.to_owned()), labels: Some(labels), data, ..SecretSpec::default() };
        self.block_on(self.docker().create_secret(spec)).map(drop).map_err(refused(format!("the secret {name} cannot be made")))
    }

    /// Removes a secret; one that is gone already is no error.
    pub fn remove_secret(&self, name: &str) -> Result<()> {
        match self.block_on(self.docker().delete_secret(name)) {
            Ok(()) | Err(DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(refused(format!("the secret {name} cannot be removed"))(error)),
        }
    }
}

fn described(task: Found, services: &HashMap<String, String>) -> Option<Task> {
    let container = task.spec.and_then(|spec| spec.container_spec).unwrap_or_default();
    let status = task.status.unwrap_or_default();
    let there = status.container_status.unwrap_or_default();
    Some(Task {
        id: task.id?,
        service: services.get(&task.service_id?)?.clone(),
        state: status.state.map(|state| state.to_string()).unwrap_or_default(),
        wanted: task.desired_state == Some(TaskState::RUNNING),
        content: container.labels.unwrap_or_default().remove(CONTENT_LABEL).unwrap_or_default(),
        error: status.err.unwrap_or_default(),
        node: task.node_id.unwrap_or_default(),
        container: there.container_id.unwrap_or_default(),
        exit_code: there.exit_code.unwrap_or_default(),
        created: task.created_at.unwrap_or_default(),
        image: container.image.unwrap_or_default(),
    })
}
