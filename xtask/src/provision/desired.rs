//! What `site.toml` asks of the server.

use std::collections::BTreeSet;
use std::fmt;

use crate::site::Site;
use crate::site::model::{Channel, Team};
use crate::site::names::ChatName;
use crate::site::secrets::{Secret, Secrets};

/// A tool that tells things in channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the tools' names")]
pub enum Tool {
    Jenkins,
    Gitlab,
    Sonarqube,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Tool; 3] = [Tool::Jenkins, Tool::Gitlab, Tool::Sonarqube];

    /// Its name in `site.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Tool::Jenkins => "jenkins",
            Tool::Gitlab => "gitlab",
            Tool::Sonarqube => "sonarqube",
        }
    }

    /// Its name for people: that of its bot.
    pub const fn display_name(self) -> &'static str {
        match self {
            Tool::Jenkins => "Jenkins",
            Tool::Gitlab => "GitLab",
            Tool::Sonarqube => "SonarQube",
        }
    }

    /// The account of its bot. The bare names are those of the bots that the plugins for Jenkins and GitLab make for themselves.
    pub const fn bot(self) -> &'static str {
        match self {
            Tool::Jenkins => "jenkins-bot",
            Tool::Gitlab => "gitlab-bot",
            Tool::Sonarqube => "sonarqube-bot",
        }
    }

    /// What people read about the bot.
    pub fn bot_description(self) -> String {
        format!("{} tells through it; kept by `cargo xtask provision`", self.display_name())
    }

    /// What its webhooks are called: with the channel it says which is which.
    pub fn webhook_name(self) -> String {
        format!("{} (chatops)", self.display_name())
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the description of each of our webhooks begins.
pub(super) const MARK: &str = "Kept by `cargo xtask provision` for ";

/// An incoming webhook of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Whose bot owns it.
    pub tool: Tool,
    /// Where it posts.
    pub channel: ChatName,
    /// Further channels that the tool may name in what it sends; none of them: the webhook is locked to its channel.
    pub also: BTreeSet<ChatName>,
}

impl Webhook {
    /// The name of its URL in `secrets.env`, such as `WEBHOOK_JENKINS_BUILDS`.
    pub fn secret_name(&self) -> String {
        secret_name(self.tool, &self.channel)
    }

    /// Whether what it is sent cannot choose another channel.
    pub fn is_locked(&self) -> bool {
        self.also.is_empty()
    }

    /// By which it is known again, also in another channel and under another name.
    pub fn description(&self) -> String {
        format!("{MARK}{} in {}; changes are undone", self.tool, self.channel)
    }

    /// Every channel that its bot has to be in.
    pub fn channels(&self) -> impl Iterator<Item = &ChatName> {
        std::iter::once(&self.channel).chain(&self.also)
    }
}

/// What the server should have.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The team.
    pub team: Team,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// The webhooks of every tool that `site.toml` names.
    pub webhooks: Vec<Webhook>,
    /// The server's address, without a slash at the end: what the URLs of webhooks begin with.
    pub url: String,
}

impl Desired {
    /// Of a site.
    pub fn of(site: &Site) -> Desired {
        Desired { team: site.team.clone(), channels: site.channels.clone(), webhooks: webhooks(site), url: site.url() }
    }

    /// The tools that have webhooks, each once.
    pub fn tools(&self) -> BTreeSet<Tool> {
        self.webhooks.iter().map(|webhook| webhook.tool).collect()
    }

    /// The channels that a tool's bot has to be in.
    pub fn channels_of(&self, tool: Tool) -> BTreeSet<&ChatName> {
        self.webhooks.iter().filter(|webhook| webhook.tool == tool).flat_map(Webhook::channels).collect()
    }

    /// Every channel that is written down or told something in: `town-square` need not be written down.
    pub fn channel_names(&self) -> BTreeSet<&ChatName> {
        let told = self.webhooks.iter().flat_map(Webhook::channels);
        self.channels.iter().map(|channel| &channel.name).chain(told).collect()
    }
}

fn secret_name(tool: Tool, channel: &ChatName) -> String {
    format!("WEBHOOK_{tool}_{channel}").replace('-', "_").to_uppercase()
}

/// The URL of a tool's webhook into a channel, once it was made.
pub fn webhook_url(secrets: &Secrets, tool: Tool, channel: &ChatName) -> Option<Secret> {
    secrets.other(&secret_name(tool, channel))
}

/// One for each tool and channel that it tells. GitLab has one for all: its integration takes a single address, and names the channel
/// of each event in what it sends.
fn webhooks(site: &Site) -> Vec<Webhook> {
    let locked = |tool, channel: &ChatName| Webhook { tool, channel: channel.clone(), also: BTreeSet::new() };
    let mut webhooks = Vec::new();
    if let Some(jenkins) = &site.jenkins {
        webhooks.push(locked(Tool::Jenkins, &jenkins.channel));
        if jenkins.alerts != jenkins.channel {
            webhooks.push(locked(Tool::Jenkins, &jenkins.alerts));
        }
    }
    if let Some(gitlab) = &site.gitlab {
        let also = gitlab.events.values().filter(|channel| **channel != gitlab.channel).cloned().collect();
        webhooks.push(Webhook { tool: Tool::Gitlab, channel: gitlab.channel.clone(), also });
    }
    if let Some(sonarqube) = &site.sonarqube {
        webhooks.push(locked(Tool::Sonarqube, &sonarqube.channel));
    }
    webhooks
}
