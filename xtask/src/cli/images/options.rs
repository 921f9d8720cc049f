//! Options that several verbs of `cargo xtask images` share, each flattened where it is needed.

use std::path::PathBuf;

use crate::workspace::Workspace;

/// Where foreign files are kept.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct StoreArgs {
    /// Folder of foreign files, which checkouts may share [default: target/store]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

impl StoreArgs {
    /// The store's root.
    pub fn root(&self, workspace: &Workspace) -> PathBuf {
        self.store.clone().unwrap_or_else(|| workspace.target().join("store"))
    }
}

/// Which of the editions of a release.
#[derive(clap::Args, Clone, Debug)]
pub struct EditionArgs {
    /// Edition of Mattermost: enterprise or team
    #[arg(long, value_name = "EDITION", default_value = EditionArgs::DEFAULT)]
    pub edition: String,
}

impl EditionArgs {
    /// The edition where nobody says which.
    pub const DEFAULT: &str = "enterprise";
}
