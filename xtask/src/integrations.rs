//! The other side of each integration: what Jenkins, GitLab and SonarQube have to be told.
//!
//! Without credentials ready files and exact steps are written into `integrations/NAME/`; with them, the tool is told through its API, and
//! asked afterwards what it has taken. Pure parts decide (`wanted` and `found` → changes); [`api`] alone talks, [`ready`] alone writes.

pub mod api;
pub mod gitlab;
pub mod jenkins;
pub mod ready;
pub mod sonarqube;
pub mod truststore;
pub mod yaml;

use images::{Class, Error, Result};

use crate::provision::Tool;
use crate::site::secrets::Secrets;
use crate::site::{Folder, Site};

pub use api::Api;
pub use ready::{Applied, Bundle, Ready};

/// The ready files of a tool; none where `site.toml` does not name it.
///
/// # Errors
/// Where the site has no CA or no secrets yet.
pub fn bundle(tool: Tool, folder: &Folder, site: &Site, secrets: &Secrets) -> Result<Option<Bundle>> {
    Ok(match tool {
        Tool::Jenkins if site.jenkins.is_some() => Some(jenkins::bundle(folder, site, secrets)?),
        Tool::Gitlab if site.gitlab.is_some() => Some(gitlab::bundle(folder, site, secrets)?),
        Tool::Sonarqube if site.sonarqube.is_some() => Some(sonarqube::bundle(folder, site, secrets)?),
        _ => None,
    })
}

/// How each tool's side stands, in a line for each tool that `site.toml` names: for the plan.
pub fn states(folder: &Folder, site: &Site) -> Vec<String> {
    let secrets = Secrets::of(folder).unwrap_or_default();
    let state = |tool: Tool| match bundle(tool, folder, site, &secrets) {
        Ok(None) => None,
        Ok(Some(bundle)) => Some(bundle.state(tool)),
        Err(error) => Some(format!("~ integrations {tool}: {}", error.message())),
    };
    Tool::ALL.into_iter().filter_map(state).collect()
}

/// The text of a Markdown template with `{NAME}` replaced.
fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// The site's CA, as PEM.
fn ca(folder: &Folder) -> Result<String> {
    let path = folder.ca();
    let pem = fs_err::read_to_string(&path);
    pem.map_err(|error| Error::new(Class::Usage, error.to_string()).hint("`cargo xtask certs` makes the site's CA and certificates"))
}

/// Where `site.toml` does not name the tool.
pub fn not_in_site(tool: Tool) -> Error {
    Error::new(Class::Usage, format!("site.toml has no [{tool}]"))
        .hint(format!("[{tool}] with its url, as `cargo xtask env --init` shows it"))
}
