//! A look at the whole Engine: its version, where it keeps its data, and which containers hold which ports.

use std::collections::HashMap;

use bollard::models::{ContainerSummary, PortSummaryTypeEnum};
use bollard::query_parameters::ListContainersOptionsBuilder;
use images::{Class, Error, Result};

use super::api::Engine;
use super::project::{PROJECT, SERVICE};
use super::swarm::STACK;
use crate::doctor::ports::{Container, Protocol};

/// What an Engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its version.
    pub version: String,
    /// The folder of images, containers and volumes, as the Engine's machine names it.
    pub data_root: String,
    /// Every running container.
    pub containers: Vec<Container>,
}

impl Engine {
    /// Looks.
    pub fn survey(&self) -> Result<Survey> {
        let failed = |error: bollard::errors::Error| {
            Error::new(Class::Engine, "the Docker Engine does not say what runs there").detail(error.to_string())
        };
        self.block_on(async {
            let info = self.docker().info().await.map_err(failed)?;
            let running = ListContainersOptionsBuilder::default().build();
            let containers = self.docker().list_containers(Some(running)).await.map_err(failed)?;
            Ok(Survey {
                version: info.server_version.unwrap_or_default(),
                data_root: info.docker_root_dir.unwrap_or_default(),
                containers: containers.into_iter().map(described).collect(),
            })
        })
    }
}

/// Swarm puts the stack's name before that of the service.
fn of_stack(labels: &HashMap<String, String>) -> Option<(String, String)> {
    let (project, full) = labels.get(STACK).zip(labels.get("com.docker.swarm.service.name"))?;
    Some((project.clone(), full.strip_prefix(project)?.strip_prefix('_')?.to_owned()))
}

fn described(summary: ContainerSummary) -> Container {
    let labels = summary.labels.unwrap_or_default();
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let published = summary.ports.unwrap_or_default().into_iter().filter_map(|port| {
        let protocol = match port.typ? {
            PortSummaryTypeEnum::TCP => Protocol::Tcp,
            PortSummaryTypeEnum::UDP => Protocol::Udp,
            _ => return None,
        };
        Some((protocol, port.public_port?))
    });
    Container {
        name: summary.names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default(),
        project: labels.get(PROJECT).cloned().zip(labels.get(SERVICE).cloned()).or_else(|| of_stack(&labels)),
        published: published.collect(),
        addresses: networks.into_values().filter_map(|network| network.ip_address?.parse().ok()).collect(),
    }
}
