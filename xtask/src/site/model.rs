//! What an installation is: every value of `site.toml`, with the defaults of what nobody wrote.
//!
//! The doc comments of these types are the reference; a field is written in `site.toml` under the path in backquotes.
//! Nothing secret stands here: passwords, tokens and keys live in `secrets.env`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use url::Url;

use super::names::{ChatName, DnsName, Memory};
use crate::uri::plain;

/// The `format` of `site.toml` that this code reads.
pub const FORMAT: u32 = 1;

/// One installation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// `name`: the server's name in URLs and certificates. Default `mattermost.cicd.local`.
    pub name: DnsName,
    /// `project`: name of the Compose project: what containers, volumes and networks are called after. Default `chatops`.
    pub project: ChatName,
    /// `names`: further DNS names of the server.
    pub names: Vec<DnsName>,
    /// `addresses`: addresses of this machine on the LAN; never empty, the first is the one that Calls and Coturn use.
    /// Default: the source address of the default route; without one the only private address.
    pub addresses: Vec<IpAddr>,
    /// `edition`: `enterprise` (without a licence it runs in Entry mode) or `team`. Default `enterprise`.
    pub edition: Edition,
    /// `version`: version of Mattermost. Default: the one in `images/lock.json`.
    pub version: Option<String>,
    /// `[ports]`
    pub ports: Ports,
    /// `[administrator]`
    pub administrator: Administrator,
    /// `[database]`
    pub database: Database,
    /// `[network]`
    pub network: Network,
    /// `[pki]`
    pub pki: Pki,
    /// `[team]`
    pub team: Team,
    /// `[[channel]]`: channels of the team. Default: `builds`, `code-reviews` and `alerts`.
    pub channels: Vec<Channel>,
    /// `[jenkins]`
    pub jenkins: Option<Jenkins>,
    /// `[gitlab]`
    pub gitlab: Option<Gitlab>,
    /// `[sonarqube]`
    pub sonarqube: Option<Sonarqube>,
    /// `[smtp]`: without it no mail is sent.
    pub smtp: Option<Smtp>,
    /// `[proxy]`: for what the server itself asks of other machines.
    pub proxy: Option<Proxy>,
    /// `[push]`: without it phones get no notification while the app is closed.
    pub push: Option<Push>,
    /// `[calls]`
    pub calls: Calls,
    /// `[coturn]`
    pub coturn: Coturn,
    /// `[mattermost]`
    pub mattermost: Mattermost,
    /// `[accounts]`: `NAME = "UID:GID"` of each service. Default: those of the images.
    pub accounts: PerService<Account>,
    /// `[memory]`: limit of each service.
    pub memory: PerService<Memory>,
}

/// Mattermost's editions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Edition {
    /// The commercial edition; without a licence it runs as Entry.
    Enterprise,
    /// The open-source edition.
    Team,
}

impl Edition {
    /// As `site.toml` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Edition::Enterprise => "enterprise",
            Edition::Team => "team",
        }
    }
}

/// The services of a site, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The database.
    Postgres,
    /// The TURN server.
    Coturn,
    /// Alerts of SonarQube, on their way to Mattermost.
    AlertGateway,
    /// The chat server.
    Mattermost,
}

impl Service {
    /// Every service.
    pub const ALL: [Service; 4] = [Service::Postgres, Service::Coturn, Service::AlertGateway, Service::Mattermost];

    /// Its name in Compose, in file names and in `site.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Service::Postgres => "postgres",
            Service::Coturn => "coturn",
            Service::AlertGateway => "alert-gateway",
            Service::Mattermost => "mattermost",
        }
    }
}

/// One value for each service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the services' names")]
pub struct PerService<T> {
    pub postgres: T,
    pub coturn: T,
    pub alert_gateway: T,
    pub mattermost: T,
}

impl<T> PerService<T> {
    /// What `of` makes of the value of each service.
    pub fn each<U>(&self, of: impl Fn(&T) -> U) -> PerService<U> {
        PerService {
            postgres: of(&self.postgres),
            coturn: of(&self.coturn),
            alert_gateway: of(&self.alert_gateway),
            mattermost: of(&self.mattermost),
        }
    }

    /// The value of one service.
    pub fn of(&self, service: Service) -> &T {
        match service {
            Service::Postgres => &self.postgres,
            Service::Coturn => &self.coturn,
            Service::AlertGateway => &self.alert_gateway,
            Service::Mattermost => &self.mattermost,
        }
    }

    /// The value of one service, to change it.
    pub fn of_mut(&mut self, service: Service) -> &mut T {
        match service {
            Service::Postgres => &mut self.postgres,
            Service::Coturn => &mut self.coturn,
            Service::AlertGateway => &mut self.alert_gateway,
            Service::Mattermost => &mut self.mattermost,
        }
    }
}

/// Whose processes run in a container, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `[ports]`: where the services listen on this machine; no two share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ports {
    /// `ports.mattermost`: HTTPS, TCP. Default 8065.
    pub mattermost: u16,
    /// `ports.calls`: media of calls, UDP and TCP. Default 8444.
    pub calls: u16,
    /// `ports.metrics`: Prometheus metrics, TCP, on this machine alone. Default 8067.
    pub metrics: u16,
    /// `ports.alert-gateway`: HTTPS, TCP: where SonarQube sends to. Default 9443.
    pub alert_gateway: u16,
    /// `ports.turn`: TURN, UDP and TCP. Default 3478.
    pub turn: u16,
    /// `ports.turns`: TURN over TLS, TCP. Default 5349.
    pub turns: u16,
    /// `ports.relay`: first and last port of relayed media, UDP; one for each allocation. Default 49160 and 49200.
    pub relay: (u16, u16),
    /// `ports.redirect-http`: a port, such as 80, that redirects to HTTPS. Default: none.
    pub redirect_http: Option<u16>,
}

impl Ports {
    /// The port of the alert gateway's container that answers browsers at `redirect_http`.
    pub fn redirect_inside(&self) -> u16 {
        if self.alert_gateway == 10_080 { 10_081 } else { 10_080 }
    }
}

/// `[administrator]`: the account that the first start makes; its password is in `secrets.env`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Administrator {
    /// `administrator.name`: 3 to 22 characters. Default `admin`.
    pub name: String,
    /// `administrator.email`. Default: the name at the site's suffix.
    pub email: String,
}

/// `[database]`: the own container, or an external server where `host` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Database {
    /// `database.role`. Default `mattermost`.
    pub role: String,
    /// `database.name`. Default `mattermost`.
    pub name: String,
    /// An external server.
    pub external: Option<ExternalDatabase>,
}

/// A PostgreSQL server (14 or newer) that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExternalDatabase {
    /// `database.host`: a name or an address that its certificate holds.
    pub host: String,
    /// `database.port`. Default 5432.
    pub port: u16,
    /// `database.ca`: PEM file, relative to the site's folder, with the root of its certificate. Default: the site's own CA.
    pub ca: Option<String>,
}

/// `[network]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Network {
    /// `network.join`: Docker networks that exist already, such as the tool chain's; the site's names are aliases there.
    pub join: Vec<String>,
    /// `network.hosts`: names that the containers cannot ask a DNS server for, with their addresses.
    pub hosts: BTreeMap<String, IpAddr>,
    /// `network.front`: the address of a reverse proxy in front of Mattermost: what people open.
    pub front: Option<Url>,
    /// `network.front-header`: the header in which the proxy names the client. Default `X-Forwarded-For`.
    pub front_header: Option<String>,
}

/// `[pki]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pki {
    /// `pki.constrain`: the root can vouch for the site's suffix and private addresses only. Default true.
    pub constrain: bool,
    /// `pki.permit`: further domains that a constrained root can vouch for.
    pub permit: Vec<DnsName>,
}

/// `[team]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Team {
    /// `team.name`: in URLs. Default `engineering`.
    pub name: ChatName,
    /// `team.display-name`. Default `Engineering`.
    pub display_name: String,
}

/// `[[channel]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Channel {
    /// `channel.name`: in URLs; 2 to 64 characters.
    pub name: ChatName,
    /// `channel.display-name`. Default: the name.
    pub display_name: String,
    /// `channel.purpose`: at most 250 characters.
    pub purpose: String,
    /// `channel.header`: Markdown, at most 1024 characters.
    pub header: String,
    /// `channel.private`: by invitation. Default false.
    pub private: bool,
}

/// `[jenkins]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jenkins {
    /// `jenkins.url`
    pub url: Url,
    /// `jenkins.channel`: verdicts of builds. Default `builds`.
    pub channel: ChatName,
    /// `jenkins.alerts`: quality gates. Default `alerts`.
    pub alerts: ChatName,
}

/// `[gitlab]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gitlab {
    /// `gitlab.url`
    pub url: Url,
    /// `gitlab.projects`: paths, such as `group/project`, whose events are told.
    pub projects: Vec<String>,
    /// `gitlab.groups`: paths of groups whose events are told.
    pub groups: Vec<String>,
    /// `gitlab.channel`: where events go that have no channel of their own. Default `code-reviews`.
    pub channel: ChatName,
    /// `gitlab.events`: event → channel. Default: merge requests, notes and pushes to `gitlab.channel`, pipelines to `builds`.
    pub events: BTreeMap<GitlabEvent, ChatName>,
    /// `gitlab.branches`: whose events are told. Default `default_and_protected`.
    pub branches: GitlabBranches,
    /// `gitlab.only-broken-pipelines`. Default true.
    pub only_broken_pipelines: bool,
    /// `gitlab.sign-in`: people sign in with their GitLab account (not in the team edition). Default false.
    pub sign_in: bool,
}

/// Events of GitLab's Mattermost integration, named as its API does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "GitLab's names")]
pub enum GitlabEvent {
    Push,
    Issue,
    ConfidentialIssue,
    MergeRequest,
    Note,
    ConfidentialNote,
    TagPush,
    Pipeline,
    WikiPage,
}

/// Branches of GitLab's Mattermost integration, named as its API does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "GitLab's names")]
pub enum GitlabBranches {
    All,
    Default,
    Protected,
    DefaultAndProtected,
}

/// `[sonarqube]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sonarqube {
    /// `sonarqube.url`
    pub url: Url,
    /// `sonarqube.channel`: quality gates and failed analyses. Default `alerts`.
    pub channel: ChatName,
    /// `sonarqube.projects`: keys of projects that get a webhook of their own. Default: one webhook for all.
    pub projects: Vec<String>,
    /// `sonarqube.ask-every`: seconds between two looks for alerts that never arrived, which takes `SONARQUBE_TOKEN`. Default 300.
    pub ask_every: u32,
}

/// `[smtp]`: the password is in `secrets.env`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Smtp {
    /// `smtp.host`
    pub host: String,
    /// `smtp.port`. Default: 587 for `starttls`, 465 for `tls`, 25 for `none`.
    pub port: u16,
    /// `smtp.security`: `starttls`, `tls` or `none`. Default `starttls`.
    pub security: SmtpSecurity,
    /// `smtp.user`: with it the server signs in.
    pub user: Option<String>,
    /// `smtp.from`: address of the sender.
    pub from: String,
    /// `smtp.from-name`. Default `Mattermost`.
    pub from_name: String,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the field's words")]
pub enum SmtpSecurity {
    Starttls,
    Tls,
    None,
}

/// `[proxy]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// `proxy.http`
    pub http: Option<Url>,
    /// `proxy.https`
    pub https: Option<Url>,
    /// `proxy.none`: names, domains and address ranges that are asked directly; the site's own are always among them.
    pub none: Vec<String>,
}

/// `[push]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Push {
    /// `push.url`: a push proxy.
    pub url: Url,
    /// `push.contents`: `generic` (sender and channel), `generic_no_channel`, `full` or `id_loaded` (needs a licence). Default `generic`.
    pub contents: PushContents,
}

/// What a notification tells, named as Mattermost does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Mattermost's names")]
pub enum PushContents {
    Generic,
    GenericNoChannel,
    Full,
    IdLoaded,
}

/// `[calls]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Calls {
    /// `calls.enabled`. Default true.
    pub enabled: bool,
    /// `calls.screen-sharing`. Default true.
    pub screen_sharing: bool,
    /// `calls.max-participants`: 0 is no limit. Default 0.
    pub max_participants: u32,
}

/// `[coturn]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Coturn {
    /// `coturn.user-quota`: allocations of one user. Default 12.
    pub user_quota: u32,
    /// `coturn.max-bps`: bytes per second of one session, each direction. Default 1000000.
    pub max_bps: u32,
    /// `coturn.credential-minutes`: how long a credential that Mattermost hands out is good. Default 1440; under a week.
    pub credential_minutes: u32,
}

/// `[mattermost]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mattermost {
    /// `mattermost.open-sign-up`: everybody who reaches the server can make an account. Default false.
    pub open_sign_up: bool,
    /// `mattermost.guests`: guest accounts (needs a licence). Default false.
    pub guests: bool,
    /// `mattermost.enforce-mfa`: everybody needs a second factor (needs a licence). Default false.
    pub enforce_mfa: bool,
    /// `mattermost.locale`: language of the server and of new accounts. Default `en`.
    pub locale: String,
    /// `mattermost.banner`: a line above everything (needs a licence).
    pub banner: Option<String>,
    /// `mattermost.boards`: the Boards plugin. Default true.
    pub boards: bool,
    /// `mattermost.playbooks`: the Playbooks plugin (not in the team edition). Default true.
    pub playbooks: bool,
    /// `[mattermost.extra]`: further settings, `MM_…` name → value; they stand above everything that is derived.
    pub extra: BTreeMap<String, String>,
}

impl Site {
    /// What people open: the reverse proxy's address where there is one.
    pub fn url(&self) -> String {
        match &self.network.front {
            Some(front) => plain(front),
            // As a browser writes it in its Origin, which the server compares with this: without the scheme's own port.
            None if self.ports.mattermost == 443 => format!("https://{}", self.name),
            None => self.own_url(),
        }
    }

    /// The server itself, whatever stands before it.
    pub fn own_url(&self) -> String {
        format!("https://{}:{}", self.name, self.ports.mattermost)
    }

    /// The host of the database, which its certificate has to hold. The own one is called after the site: on a network of the tool
    /// chain that Mattermost joins, another container may well be called `postgres`.
    pub fn database_host(&self) -> String {
        match &self.database.external {
            Some(external) => external.host.clone(),
            None => format!("postgres.{}", self.name),
        }
    }

    /// The first address on the LAN.
    pub fn address(&self) -> IpAddr {
        self.addresses[0]
    }

    /// The address that calls use: IPv4, because the relay's access list is (Coturn 4.6.1 takes `::ffff:127.0.0.1` for a peer that no
    /// IPv4 rule covers, so nothing is relayed to IPv6).
    pub fn media_address(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// Every DNS name of the server, its own first.
    pub fn all_names(&self) -> impl Iterator<Item = &DnsName> {
        std::iter::once(&self.name).chain(&self.names)
    }

    /// Every name and every address of the server.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.all_names().map(ToString::to_string).chain(self.addresses.iter().map(ToString::to_string))
    }
}
