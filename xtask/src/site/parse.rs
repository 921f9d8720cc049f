//! The text of `site.toml` → [`Site`]. Pure: what the machine has to say (its addresses) is an argument.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use images::Result;
use url::Url;

use super::model::*;
use super::names::{CHAT_NAME, ChatName, DNS_NAME, DnsName, MEMORY, Memory};
use super::reader::{self, Item, Read, Table};

/// Which words `[gitlab.events]` knows.
const EVENTS: [(&str, GitlabEvent); 9] = [
    ("push", GitlabEvent::Push),
    ("issue", GitlabEvent::Issue),
    ("confidential_issue", GitlabEvent::ConfidentialIssue),
    ("merge_request", GitlabEvent::MergeRequest),
    ("note", GitlabEvent::Note),
    ("confidential_note", GitlabEvent::ConfidentialNote),
    ("tag_push", GitlabEvent::TagPush),
    ("pipeline", GitlabEvent::Pipeline),
    ("wiki_page", GitlabEvent::WikiPage),
];

/// Reads `text`, the content of `file`. `machine` is asked for this machine's LAN addresses where none are written.
pub fn parse(file: &str, text: &str, machine: impl FnOnce() -> Result<Vec<IpAddr>>) -> Result<Site> {
    let mut site = reader::read(file, text, site)?;
    if site.addresses.is_empty() {
        site.addresses = machine()?;
    }
    Ok(site)
}

fn site(root: &Table) -> Site {
    if root.get("format", |item| item.number(FORMAT..=FORMAT)).is_none() && !root.has("format") {
        root.problem("format", "missing: write format = 1 as the first line");
    }
    let name = root.get("name", dns).unwrap_or_else(|| fixed("mattermost.cicd.local"));
    let channels = root.tables("channel", channel).unwrap_or_else(default_channels);
    let edition = root.get("edition", |item| item.one_of(&[("enterprise", Edition::Enterprise), ("team", Edition::Team)]));
    let site = Site {
        project: root.get("project", chat).unwrap_or_else(|| fixed("chatops")),
        names: root.list("names", dns).unwrap_or_default(),
        addresses: root.list("addresses", address).unwrap_or_default(),
        edition: edition.unwrap_or(Edition::Enterprise),
        version: root.get("version", version),
        ports: root.table("ports", ports).unwrap_or(DEFAULT_PORTS),
        administrator: administrator(root, &name),
        database: root.table("database", database).unwrap_or_else(|| Database {
            role: "mattermost".to_owned(),
            name: "mattermost".to_owned(),
            external: None,
        }),
        network: root.table("network", network).unwrap_or_default(),
        pki: root.table("pki", pki).unwrap_or(Pki { constrain: true, permit: Vec::new() }),
        team: root.table("team", team).unwrap_or_else(default_team),
        jenkins: root.table("jenkins", jenkins).flatten(),
        gitlab: root.table("gitlab", gitlab).flatten(),
        sonarqube: root.table("sonarqube", sonarqube).flatten(),
        smtp: root.table("smtp", smtp).flatten(),
        proxy: root.table("proxy", proxy),
        push: root.table("push", push).flatten(),
        calls: root.table("calls", calls).unwrap_or(DEFAULT_CALLS),
        coturn: root.table("coturn", coturn).unwrap_or(DEFAULT_COTURN),
        mattermost: root.table("mattermost", mattermost).unwrap_or_else(default_mattermost),
        accounts: root.table("accounts", accounts).unwrap_or(DEFAULT_ACCOUNTS),
        memory: root.table("memory", memory).unwrap_or(DEFAULT_MEMORY),
        channels,
        name,
    };
    agree(root, &site);
    site
}

/// What no key can say alone.
fn agree(root: &Table, site: &Site) {
    distinct_ports(root, &site.ports);
    duplicates(root, "names", site.all_names());
    duplicates(root, "addresses", &site.addresses);
    duplicates(root, "channel", site.channels.iter().map(|channel| &channel.name));
    let known = |name: &ChatName| site.channels.iter().any(|channel| channel.name == *name) || name.as_str() == "town-square";
    let mut uses: Vec<(&str, &ChatName)> = Vec::new();
    uses.extend(site.jenkins.iter().flat_map(|jenkins| [("jenkins", &jenkins.channel), ("jenkins", &jenkins.alerts)]));
    uses.extend(site.gitlab.iter().flat_map(|gitlab| gitlab.events.values().chain([&gitlab.channel]).map(|channel| ("gitlab", channel))));
    uses.extend(site.sonarqube.iter().map(|sonarqube| ("sonarqube", &sonarqube.channel)));
    for (tool, channel) in uses.into_iter().filter(|(_, channel)| !known(channel)) {
        root.problem(tool, format!("there is no [[channel]] called \"{channel}\""));
    }
    if site.edition == Edition::Team && site.gitlab.as_ref().is_some_and(|gitlab| gitlab.sign_in) {
        root.problem("gitlab", "sign-in needs edition = \"enterprise\": Mattermost 11 took it out of the team edition");
    }
}

fn distinct_ports(root: &Table, ports: &Ports) {
    let single = [
        ("mattermost", ports.mattermost),
        ("calls", ports.calls),
        ("metrics", ports.metrics),
        ("alert-gateway", ports.alert_gateway),
        ("turn", ports.turn),
        ("turns", ports.turns),
    ];
    let named: Vec<(&str, u16)> = single.into_iter().chain(ports.redirect_http.map(|port| ("redirect-http", port))).collect();
    for (at, (name, port)) in named.iter().enumerate() {
        if let Some((other, _)) = named[..at].iter().find(|(_, earlier)| earlier == port) {
            root.problem("ports", format!("{name} and {other} are both {port}"));
        }
        if (ports.relay.0..=ports.relay.1).contains(port) {
            root.problem("ports", format!("{name} = {port} lies in the relay range {}–{}", ports.relay.0, ports.relay.1));
        }
    }
    if ports.relay.0 > ports.relay.1 {
        root.problem("ports", format!("relay ends at {} before it begins at {}", ports.relay.1, ports.relay.0));
    }
    // Outside, the Calls plugin falls back to its default without a word.
    if !(80..=49151).contains(&ports.calls) {
        root.problem("ports", format!("calls: expected 80 to 49151, found {}", ports.calls));
    }
}

fn duplicates<'a, T: PartialEq + std::fmt::Display + 'a>(root: &Table, key: &str, values: impl IntoIterator<Item = &'a T>) {
    let values: Vec<&T> = values.into_iter().collect();
    for (at, value) in values.iter().enumerate() {
        if values[..at].contains(value) {
            root.problem(key, format!("\"{value}\" stands there twice"));
        }
    }
}

fn fixed<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("\"{text}\" is a default"))
}

fn dns(item: Item) -> Read<DnsName> {
    item.parse(DNS_NAME)
}

fn chat(item: Item) -> Read<ChatName> {
    item.parse(CHAT_NAME)
}

fn owned(item: Item) -> Read<String> {
    let text = item.text()?;
    match text.trim() == text && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("expected text without blanks at its ends".to_owned()),
    }
}

fn up_to(most: usize) -> impl Fn(Item) -> Read<String> {
    move |item| {
        let text = item.text()?;
        match text.chars().count() {
            length if length <= most => Ok(text.to_owned()),
            length => Err(format!("expected at most {most} characters, found {length}")),
        }
    }
}

fn address(item: Item) -> Read<IpAddr> {
    let address: IpAddr = item.parse("an address such as \"192.168.1.20\"")?;
    match super::addresses::unusable(address) {
        None => Ok(address),
        Some(why) => Err(format!("expected an address of this machine on the LAN, found {address}, which is {why}")),
    }
}

fn url(item: Item) -> Read<Url> {
    let url: Url = item.parse("an address such as \"https://gitlab.cicd.local\"")?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    match matches!(url.scheme(), "http" | "https") && url.has_host() && plain {
        true => Ok(url),
        false => Err("expected http or https, a host, and neither a user nor a query; secrets belong into secrets.env".to_owned()),
    }
}

fn version(item: Item) -> Read<String> {
    let text = item.text()?;
    let numbers: Vec<&str> = text.split('.').collect();
    match numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u16>().is_ok()) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected a version such as \"11.7.9\", found \"{text}\"")),
    }
}

fn email(item: Item) -> Read<String> {
    let text = item.text()?;
    let parts = text.split_once('@').filter(|(user, _)| !user.is_empty() && !user.contains([' ', '"', '<', '>', ',']));
    match parts.and_then(|(_, host)| host.parse::<DnsName>().ok()) {
        Some(_) if text.len() <= 128 => Ok(text.to_owned()),
        _ => Err(format!("expected an e-mail address, found \"{text}\"")),
    }
}

/// A PostgreSQL name that needs no quoting anywhere.
fn identifier(item: Item) -> Read<String> {
    let text = item.text()?;
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    match first && rest && text.len() <= 63 && !text.starts_with("pg_") {
        true => Ok(text.to_owned()),
        false => Err(format!("expected a name of lower-case letters, digits and _, at most 63, not pg_…, found \"{text}\"")),
    }
}

fn host(item: Item) -> Read<String> {
    let text = item.text()?;
    match text.parse::<IpAddr>().is_ok() || text.parse::<DnsName>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err(format!("expected {DNS_NAME}, or an address; found \"{text}\"")),
    }
}

const PORT: RangeInclusive<u32> = 1..=65535;

#[expect(clippy::cast_possible_truncation, reason = "the range is that of u16")]
fn port(item: Item) -> Read<u16> {
    item.number(PORT).map(|port| port as u16)
}

const DEFAULT_PORTS: Ports = Ports {
    mattermost: 8065,
    calls: 8444,
    metrics: 8067,
    alert_gateway: 9443,
    turn: 3478,
    turns: 5349,
    relay: (49160, 49200),
    redirect_http: None,
};

fn ports(table: &Table) -> Ports {
    let relay = table.list("relay", port).map(|ends| match ends[..] {
        [first, last] => (first, last),
        _ => {
            table.problem("relay", "expected the first and the last port, such as [49160, 49200]");
            DEFAULT_PORTS.relay
        }
    });
    Ports {
        mattermost: table.get("mattermost", port).unwrap_or(DEFAULT_PORTS.mattermost),
        calls: table.get("calls", port).unwrap_or(DEFAULT_PORTS.calls),
        metrics: table.get("metrics", port).unwrap_or(DEFAULT_PORTS.metrics),
        alert_gateway: table.get("alert-gateway", port).unwrap_or(DEFAULT_PORTS.alert_gateway),
        turn: table.get("turn", port).unwrap_or(DEFAULT_PORTS.turn),
        turns: table.get("turns", port).unwrap_or(DEFAULT_PORTS.turns),
        relay: relay.unwrap_or(DEFAULT_PORTS.relay),
        redirect_http: table.get("redirect-http", port),
    }
}

fn administrator(root: &Table, site: &DnsName) -> Administrator {
    // Mattermost: 3 to 22 of these, beginning with a letter.
    let user = |item: Item| {
        let text = item.text()?;
        let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_'));
        match letters && (3..=22).contains(&text.len()) && text.starts_with(|first: char| first.is_ascii_lowercase()) {
            true => Ok(text.to_owned()),
            false => Err(format!("expected 3 to 22 lower-case letters, digits, dots, hyphens and _, a letter first; found \"{text}\"")),
        }
    };
    let (name, address) = root.table("administrator", |table| (table.get("name", user), table.get("email", email))).unwrap_or((None, None));
    let name = name.unwrap_or_else(|| "admin".to_owned());
    Administrator { email: address.unwrap_or_else(|| format!("{name}@{}", site.suffix())), name }
}

fn database(table: &Table) -> Database {
    let port = table.get("port", port);
    let ca = table.get("ca", owned);
    let external = table.get("host", host).map(|host| ExternalDatabase { host, port: port.unwrap_or(5432), ca: ca.clone() });
    if external.is_none() {
        let alone = [("port", port.is_some()), ("ca", ca.is_some())];
        alone
            .into_iter()
            .filter(|(_, set)| *set)
            .for_each(|(key, _)| table.problem(key, "is for an external server: database.host is missing"));
    }
    Database {
        role: table.get("role", identifier).unwrap_or_else(|| "mattermost".to_owned()),
        name: table.get("name", identifier).unwrap_or_else(|| "mattermost".to_owned()),
        external,
    }
}

fn network(table: &Table) -> Network {
    let hosts = table.map("hosts", |name, item| match name.parse::<DnsName>() {
        Ok(_) => item.parse("an address"),
        Err(()) => Err(format!("the key has to be {DNS_NAME}")),
    });
    let header = table.get("front-header", |item| {
        let text = item.text()?;
        match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            true => Ok(text.to_owned()),
            false => Err(format!("expected the name of an HTTP header, found \"{text}\"")),
        }
    });
    let front = table.get("front", url);
    if front.is_none() && header.is_some() {
        table.problem("front-header", "is for a reverse proxy: network.front is missing");
    }
    Network {
        join: table.list("join", owned).unwrap_or_default(),
        hosts: hosts.unwrap_or_default(),
        front_header: front.as_ref().map(|_| header.unwrap_or_else(|| "X-Forwarded-For".to_owned())),
        front,
    }
}

fn pki(table: &Table) -> Pki {
    Pki { constrain: table.get("constrain", Item::boolean).unwrap_or(true), permit: table.list("permit", dns).unwrap_or_default() }
}

fn default_team() -> Team {
    Team { name: fixed("engineering"), display_name: "Engineering".to_owned() }
}

fn team(table: &Table) -> Team {
    let default = default_team();
    Team {
        name: table.get("name", chat).unwrap_or(default.name),
        display_name: table.get("display-name", up_to(64)).unwrap_or(default.display_name),
    }
}

fn default_channels() -> Vec<Channel> {
    let channel = |name: &str, display_name: &str, purpose: &str| Channel {
        name: fixed(name),
        display_name: display_name.to_owned(),
        purpose: purpose.to_owned(),
        header: String::new(),
        private: false,
    };
    vec![
        channel("builds", "Builds", "Verdicts of builds and pipelines"),
        channel("code-reviews", "Code reviews", "Merge requests, comments and pushes"),
        channel("alerts", "Alerts", "Quality gates and monitoring"),
    ]
}

fn channel(table: &Table) -> Channel {
    let name = table.get("name", chat);
    if name.is_none() && !table.has("name") {
        table.problem("name", "missing");
    }
    let name: ChatName = name.unwrap_or_else(|| fixed("unnamed"));
    Channel {
        display_name: table.get("display-name", up_to(64)).unwrap_or_else(|| name.to_string()),
        purpose: table.get("purpose", up_to(250)).unwrap_or_default(),
        header: table.get("header", up_to(1024)).unwrap_or_default(),
        private: table.get("private", Item::boolean).unwrap_or(false),
        name,
    }
}

/// The key that a table cannot do without.
fn needed<T>(table: &Table, key: &'static str, read: impl FnOnce(Item) -> Read<T>) -> Option<T> {
    let value = table.get(key, read);
    if value.is_none() && !table.has(key) {
        table.problem(key, "missing");
    }
    value
}

fn jenkins(table: &Table) -> Option<Jenkins> {
    let channel = table.get("channel", chat).unwrap_or_else(|| fixed("builds"));
    let alerts = table.get("alerts", chat).unwrap_or_else(|| fixed("alerts"));
    Some(Jenkins { url: needed(table, "url", url)?, channel, alerts })
}

fn gitlab(table: &Table) -> Option<Gitlab> {
    let path = |item: Item| {
        let text = owned(item)?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
        match text.bytes().all(letter) && !text.starts_with('/') && !text.ends_with('/') {
            true => Ok(text),
            false => Err(format!("expected a path such as \"group/project\", found \"{text}\"")),
        }
    };
    let channel: ChatName = table.get("channel", chat).unwrap_or_else(|| fixed("code-reviews"));
    let events = table.map("events", |event, item| {
        let known = EVENTS.iter().find(|(name, _)| *name == event);
        let words: Vec<&str> = EVENTS.iter().map(|(name, _)| *name).collect();
        let (_, event) = known.ok_or_else(|| format!("no event of GitLab's; expected one of: {}", words.join(", ")))?;
        Ok((*event, chat(item)?))
    });
    let default = || {
        let reviews = [GitlabEvent::MergeRequest, GitlabEvent::Note, GitlabEvent::Push].map(|event| (event, channel.clone()));
        BTreeMap::from_iter(reviews.into_iter().chain([(GitlabEvent::Pipeline, fixed("builds"))]))
    };
    let branches = [
        ("all", GitlabBranches::All),
        ("default", GitlabBranches::Default),
        ("protected", GitlabBranches::Protected),
        ("default_and_protected", GitlabBranches::DefaultAndProtected),
    ];
    let gitlab = Gitlab {
        projects: table.list("projects", path).unwrap_or_default(),
        groups: table.list("groups", path).unwrap_or_default(),
        events: events.map_or_else(default, |events| events.into_values().collect()),
        branches: table.get("branches", |item| item.one_of(&branches)).unwrap_or(GitlabBranches::DefaultAndProtected),
        only_broken_pipelines: table.get("only-broken-pipelines", Item::boolean).unwrap_or(true),
        sign_in: table.get("sign-in", Item::boolean).unwrap_or(false),
        url: needed(table, "url", url)?,
        channel,
    };
    Some(gitlab)
}

fn sonarqube(table: &Table) -> Option<Sonarqube> {
    let channel = table.get("channel", chat).unwrap_or_else(|| fixed("alerts"));
    let projects = table.list("projects", owned).unwrap_or_default();
    let ask_every = table.get("ask-every", |item| item.number(10..=86_400)).unwrap_or(300);
    Some(Sonarqube { url: needed(table, "url", url)?, channel, projects, ask_every })
}

fn smtp(table: &Table) -> Option<Smtp> {
    let words = [("starttls", SmtpSecurity::Starttls), ("tls", SmtpSecurity::Tls), ("none", SmtpSecurity::None)];
    let security = table.get("security", |item| item.one_of(&words)).unwrap_or(SmtpSecurity::Starttls);
    let usual = match security {
        SmtpSecurity::Starttls => 587,
        SmtpSecurity::Tls => 465,
        SmtpSecurity::None => 25,
    };
    let port = table.get("port", port).unwrap_or(usual);
    let user = table.get("user", owned);
    let from_name = table.get("from-name", up_to(64)).unwrap_or_else(|| "Mattermost".to_owned());
    let (host, from) = (needed(table, "host", host), needed(table, "from", email));
    Some(Smtp { host: host?, port, security, user, from: from?, from_name })
}

fn proxy(table: &Table) -> Proxy {
    Proxy { http: table.get("http", url), https: table.get("https", url), none: table.list("none", owned).unwrap_or_default() }
}

fn push(table: &Table) -> Option<Push> {
    let words = [
        ("generic", PushContents::Generic),
        ("generic_no_channel", PushContents::GenericNoChannel),
        ("full", PushContents::Full),
        ("id_loaded", PushContents::IdLoaded),
    ];
    let contents = table.get("contents", |item| item.one_of(&words)).unwrap_or(PushContents::Generic);
    Some(Push { url: needed(table, "url", url)?, contents })
}

const DEFAULT_CALLS: Calls = Calls { enabled: true, screen_sharing: true, max_participants: 0 };

fn calls(table: &Table) -> Calls {
    Calls {
        enabled: table.get("enabled", Item::boolean).unwrap_or(DEFAULT_CALLS.enabled),
        screen_sharing: table.get("screen-sharing", Item::boolean).unwrap_or(DEFAULT_CALLS.screen_sharing),
        max_participants: table.get("max-participants", |item| item.number(0..=1000)).unwrap_or(DEFAULT_CALLS.max_participants),
    }
}

const DEFAULT_COTURN: Coturn = Coturn { user_quota: 12, max_bps: 1_000_000, credential_minutes: 1440 };

fn coturn(table: &Table) -> Coturn {
    Coturn {
        user_quota: table.get("user-quota", |item| item.number(1..=10_000)).unwrap_or(DEFAULT_COTURN.user_quota),
        max_bps: table.get("max-bps", |item| item.number(10_000..=1_000_000_000)).unwrap_or(DEFAULT_COTURN.max_bps),
        // A week and more is refused by the Calls plugin.
        credential_minutes: table.get("credential-minutes", |item| item.number(5..=10_079)).unwrap_or(DEFAULT_COTURN.credential_minutes),
    }
}

fn default_mattermost() -> Mattermost {
    Mattermost {
        open_sign_up: false,
        guests: false,
        enforce_mfa: false,
        locale: "en".to_owned(),
        banner: None,
        boards: true,
        playbooks: true,
        extra: BTreeMap::new(),
    }
}

fn mattermost(table: &Table) -> Mattermost {
    let default = default_mattermost();
    // Whether the server knows the name, and what its value has to be, is checked where the environment is made.
    let extra = table.map("extra", |name, item| {
        let known = name
            .strip_prefix("MM_")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'));
        match known {
            true => item.text().map(str::to_owned),
            false => Err("expected a name such as MM_SERVICESETTINGS_SESSIONLENGTHWEBINHOURS".to_owned()),
        }
    });
    let locale = table.get("locale", |item| {
        let text = item.text()?;
        match (2..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            true => Ok(text.to_owned()),
            false => Err(format!("expected a language such as \"de\" or \"zh-CN\", found \"{text}\"")),
        }
    });
    Mattermost {
        open_sign_up: table.get("open-sign-up", Item::boolean).unwrap_or(default.open_sign_up),
        guests: table.get("guests", Item::boolean).unwrap_or(default.guests),
        enforce_mfa: table.get("enforce-mfa", Item::boolean).unwrap_or(default.enforce_mfa),
        locale: locale.unwrap_or(default.locale),
        banner: table.get("banner", owned),
        boards: table.get("boards", Item::boolean).unwrap_or(default.boards),
        playbooks: table.get("playbooks", Item::boolean).unwrap_or(default.playbooks),
        extra: extra.unwrap_or_default(),
    }
}

fn per_service<T: Copy>(table: &Table, default: PerService<T>, read: impl Fn(Item) -> Read<T>) -> PerService<T> {
    PerService {
        postgres: table.get("postgres", &read).unwrap_or(default.postgres),
        coturn: table.get("coturn", &read).unwrap_or(default.coturn),
        alert_gateway: table.get("alert-gateway", &read).unwrap_or(default.alert_gateway),
        mattermost: table.get("mattermost", &read).unwrap_or(default.mattermost),
    }
}

const fn account(id: u32) -> Account {
    Account { uid: id, gid: id }
}

/// The accounts that the images bring.
const DEFAULT_ACCOUNTS: PerService<Account> =
    PerService { postgres: account(999), coturn: account(2001), alert_gateway: account(2002), mattermost: account(2000) };

fn accounts(table: &Table) -> PerService<Account> {
    per_service(table, DEFAULT_ACCOUNTS, |item| {
        let text = item.text()?;
        let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?)));
        match numbers {
            // 2³¹ and above has a meaning of its own to some tools, and root is never needed.
            Some((uid, gid)) if (1..1 << 31).contains(&uid) && (1..1 << 31).contains(&gid) => Ok(Account { uid, gid }),
            _ => Err(format!("expected \"UID:GID\" in numbers, neither of them 0, found \"{text}\"")),
        }
    })
}

const DEFAULT_MEMORY: PerService<Memory> =
    PerService { postgres: Memory(1 << 30), coturn: Memory(256 << 20), alert_gateway: Memory(128 << 20), mattermost: Memory(2 << 30) };

fn memory(table: &Table) -> PerService<Memory> {
    per_service(table, DEFAULT_MEMORY, |item| item.parse(MEMORY))
}
