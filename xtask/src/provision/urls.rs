//! The webhooks' URLs in `secrets.env`: whoever knows one can post.

use std::collections::BTreeMap;

use images::Result;

use super::desired::Webhook;
use crate::server::model::HookId;
use crate::site::Folder;
use crate::site::secrets::{Secret, Secrets};

/// `secrets.env`, as far as webhooks go. Whoever changes it holds the folder ([`Folder::hold`]).
pub struct Urls {
    folder: Folder,
    secrets: Secrets,
}

impl Urls {
    /// Reads the file; none is none.
    ///
    /// # Errors
    /// As [`Secrets::read`].
    pub fn read(folder: &Folder) -> Result<Urls> {
        Ok(Urls { folder: folder.clone(), secrets: Secrets::of(folder)? })
    }

    /// Name → URL, of those that are there.
    pub fn of(&self, webhooks: &[Webhook]) -> BTreeMap<String, Secret> {
        let names = webhooks.iter().map(Webhook::secret_name);
        names.filter_map(|name| self.secrets.other(&name).map(|url| (name, url))).collect()
    }

    /// The URL of a webhook, if it was made.
    pub fn get(&self, webhook: &Webhook) -> Option<Secret> {
        self.secrets.other(&webhook.secret_name())
    }

    /// Writes the URL of a webhook, at once: what is only in memory is lost with the process.
    pub(super) fn keep(&mut self, name: &str, base: &str, hook: &HookId) -> Result<()> {
        self.secrets.put_other(
            name,
            "incoming webhook: whoever has this address can post",
            Secret::new(format!("{base}/hooks/{}", hook.expose())),
        );
        self.secrets.keep(&self.folder)
    }
}
