//! One installation: what it is ([`Site`]), where its files lie ([`Folder`]), and what is made from them.

pub mod addresses;
pub mod compose;
pub mod env;
pub mod env_file;
pub mod folder;
pub mod journal;
pub mod model;
pub mod names;
pub mod onboarding;
mod parse;
pub mod pki;
pub mod reader;
pub mod secrets;
pub mod swarm;

use std::io::ErrorKind;
use std::path::PathBuf;

use images::Result;

pub use folder::Folder;
pub use model::{Service, Site};
pub use parse::parse;

/// Which site a command is about.
#[derive(clap::Args, Clone, Debug)]
pub struct SiteArgs {
    /// Folder of the site
    #[arg(long, value_name = "DIR", default_value = "site", env = "CHATOPS_SITE")]
    pub site: PathBuf,
}

impl SiteArgs {
    /// Its folder.
    pub fn folder(&self) -> Folder {
        Folder::new(&self.site)
    }

    /// Its folder and what it is.
    pub fn load(&self) -> Result<(Folder, Site)> {
        let folder = self.folder();
        let site = load(&folder)?;
        Ok((folder, site))
    }
}

/// Reads `site.toml`; without one, every value has its default.
pub fn load(folder: &Folder) -> Result<Site> {
    let path = folder.toml();
    let text = match fs_err::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => "format = 1\n".to_owned(),
        Err(error) => return Err(error.into()),
    };
    parse(&path.display().to_string(), &text, || Ok(vec![addresses::of_this_machine()?]))
}

/// The commented `site.toml` that `env --init` writes: every key, at its default.
pub const COMMENTED: &str = include_str!("site/site.toml");

#[cfg(test)]
mod tests;
