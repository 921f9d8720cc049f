//! Settings of the server that `site.toml` has keys for: where people reach it, its database, GitLab, mail, proxies, plugins.

use std::net::IpAddr;

use url::{Host, Url};

use super::draft::{Draft, Given, quoted, quoted_list, switch};
use crate::site::secrets::{Name, Secret};
use crate::uri::plain;

/// What stands around the server, that its settings do not tell.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// Somebody's own proxy stands in front, and not GitLab's NGINX.
    pub front: bool,
    /// The rows that say so.
    pub front_rows: Vec<usize>,
    /// The port that redirects to HTTPS.
    pub redirect: Option<(u16, Vec<usize>)>,
    /// GitLab's own address.
    pub gitlab: Option<(String, usize)>,
}

/// Answers everything.
pub(super) fn resolve(draft: &mut Draft, around: &Around) {
    reach(draft, around);
    database(draft);
    gitlab(draft, around);
    plugins(draft);
    mail(draft);
    push(draft);
    proxy(draft);
    accounts(draft);
    draft.secret("MM_SQLSETTINGS_ATRESTENCRYPTKEY", Name::AtRestKey, "a new one is made; version 11 encrypts nothing with it");
    draft.secret("MM_FILESETTINGS_PUBLICLINKSALT", Name::PublicLinkSalt, "a new one is made: public links have to be shared again");
    draft.rest();
}

fn reach(draft: &mut Draft, around: &Around) {
    let listen = draft.take("MM_SERVICESETTINGS_LISTENADDRESS").filter(|given| {
        let empty = given.text().is_empty();
        if empty {
            draft.dropped(&given.rows, "empty");
        }
        !empty
    });
    let listen_port = listen.as_ref().and_then(|given| given.text().rsplit(':').next()?.parse::<u16>().ok());
    let site = draft.take("MM_SERVICESETTINGS_SITEURL");
    let url = site.as_ref().and_then(|given| Some((given, Url::parse(given.text()).ok()?)));
    let url = url.filter(|(_, url)| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some((site, url)) = url else {
        if let Some(given) = &site {
            draft.dropped(&given.rows, "expected an address such as https://mattermost.example.com");
        }
        if let Some(given) = &listen {
            match listen_port {
                Some(port) => draft.key(&given.rows, "ports", "mattermost", port.to_string()),
                None => draft.dropped(&given.rows, "expected an address and a port, such as 127.0.0.1:8065"),
            }
        }
        proxied(draft, around, "there is no usable mattermost_external_url");
        return;
    };
    name(draft, site, &url);
    if around.front {
        let port = listen_port.unwrap_or(8065);
        draft.key(&site.rows, "network", "front", quoted(&plain(&url)));
        match draft.keys(&[("ports", "mattermost", port.to_string())]) {
            Ok(()) => draft.mapped(
                &around.front_rows,
                &["network.front"],
                "without GitLab's NGINX a reverse proxy of your own answers people; it has to speak HTTPS to the server, and \
                    trust the site's CA",
            ),
            Err(why) => draft.dropped(&around.front_rows, &why),
        }
        if let Some(given) = &listen {
            draft.mapped(&given.rows, &["ports.mattermost"], "the port is published on every address of the machine");
        }
        if let Some((_, rows)) = &around.redirect {
            draft.dropped(rows, "your own reverse proxy redirects");
        }
        return;
    }
    let port = url.port().unwrap_or(443);
    match draft.keys(&[("ports", "mattermost", port.to_string())]) {
        Ok(()) => draft.applied(&site.rows, "ports.mattermost"),
        Err(why) => draft.dropped(&site.rows, &why),
    }
    if url.scheme() == "http" {
        let plain_port = url.port().is_none();
        if plain_port && around.redirect.is_none() {
            redirect(draft, 80, &[]);
        }
        let redirects = if plain_port { "; port 80 redirects" } else { "" };
        draft.mapped(&site.rows, &[], &format!("the stack speaks HTTPS alone{redirects}"));
    }
    if !matches!(url.path(), "" | "/") {
        draft.mapped(&site.rows, &[], "the path is left out: in the stack the server has a name of its own");
    }
    if let Some(given) = &listen {
        draft.mapped(&given.rows, &["ports.mattermost"], "the server listens where people reach it: no NGINX stands before it");
    }
    if let Some((port, rows)) = &around.redirect {
        redirect(draft, *port, rows);
    }
}

/// What was said of a proxy, where nobody knows in front of what.
fn proxied(draft: &mut Draft, around: &Around, why: &str) {
    draft.dropped(&around.front_rows, why);
    if let Some((port, rows)) = &around.redirect {
        redirect(draft, *port, rows);
    }
}

fn redirect(draft: &mut Draft, port: u16, rows: &[usize]) {
    draft.key(rows, "ports", "redirect-http", port.to_string());
}

fn name(draft: &mut Draft, site: &Given, url: &Url) {
    let address = match url.host() {
        Some(Host::Domain(name)) => {
            // A name that ends with a dot is the same name.
            draft.key(&site.rows, "", "name", quoted(name.trim_end_matches('.')));
            return;
        }
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        None => return,
    };
    match draft.keys(&[("", "addresses", quoted_list([address.to_string().as_str()]))]) {
        Ok(()) => draft.mapped(&site.rows, &["addresses"], "the site wants a name too: write it into site.toml as name"),
        Err(why) => draft.dropped(&site.rows, &why),
    }
}

/// What a data source says: `postgres://…`, or `key=value` pairs as libpq reads them.
#[derive(Default)]
struct Source {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    name: Option<String>,
    ca: Option<String>,
}

impl Source {
    fn parse(text: &str) -> Option<Source> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let url = Url::parse(text).ok()?;
            let decoded = |text: &str| {
                url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes()).next().map(|(_, text)| text.into_owned())
            };
            let pair = |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned());
            let filled = |text: &str| (!text.is_empty()).then(|| decoded(text)).flatten();
            let host = url.host_str().map(|host| host.trim_matches(['[', ']'])).and_then(filled);
            return Some(Source {
                host: pair("host").or(host),
                port: url.port().map(|port| port.to_string()),
                user: filled(url.username()),
                password: url.password().and_then(filled).map(Secret::new),
                name: filled(url.path().trim_start_matches('/')),
                ca: pair("sslrootcert"),
            });
        }
        let mut source = Source::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (key, behind) = rest.split_once('=')?;
            let (value, behind) = match behind.strip_prefix('\'') {
                Some(quoted) => quoted.split_once('\'')?,
                None => behind.split_once(' ').unwrap_or((behind, "")),
            };
            rest = behind.trim_start();
            let value = value.to_owned();
            match key.trim() {
                "host" | "hostaddr" => source.host = Some(value),
                "port" => source.port = Some(value),
                "user" => source.user = Some(value),
                "password" => source.password = Some(Secret::new(value)),
                "dbname" => source.name = Some(value),
                "sslrootcert" => source.ca = Some(value),
                key if key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {}
                _ => return None,
            }
        }
        (source.host.is_some() || source.name.is_some()).then_some(source)
    }

    /// Whether it is the bundled one: reached by a socket, or on the machine itself, where a container has another.
    fn is_own(&self) -> bool {
        let host = self.host.as_deref().unwrap_or_default();
        host.is_empty() || host.starts_with('/') || matches!(host, "localhost" | "127.0.0.1" | "::1")
    }
}

fn database(draft: &mut Draft) {
    if let Some(given) = draft.take("MM_SQLSETTINGS_DRIVERNAME") {
        match given.text() {
            "postgres" | "" => draft.applied(&given.rows, "database"),
            _ => draft.dropped(&given.rows, "Mattermost 11 knows PostgreSQL alone: another database has to be brought into it before"),
        }
    }
    let name = draft.take("database_name");
    if let Some(given) = draft.take("MM_SQLSETTINGS_DATASOURCE") {
        match Source::parse(given.text()) {
            None if given.text().is_empty() => draft.dropped(&given.rows, "empty"),
            None => draft.dropped(&given.rows, "expected postgres://USER:PASSWORD@HOST:PORT/NAME, or key=value pairs of PostgreSQL"),
            Some(source) => data_source(draft, &given, source),
        }
    }
    if let Some(given) = name {
        match draft.has("database", "name") {
            true => draft.mapped(&given.rows, &["database.name"], "the data source names the database, and counts"),
            false => draft.key(&given.rows, "database", "name", quoted(given.text())),
        }
    }
}

fn data_source(draft: &mut Draft, given: &Given, source: Source) {
    let mut keys = Vec::new();
    keys.extend(source.user.as_deref().map(|user| ("database", "role", quoted(user))));
    keys.extend(source.name.as_deref().map(|name| ("database", "name", quoted(name))));
    let own = source.is_own();
    if !own {
        keys.extend(source.host.as_deref().map(|host| ("database", "host", quoted(host))));
        keys.extend(source.port.map(|port| ("database", "port", port)));
    }
    if let Err(why) = draft.keys(&keys) {
        return draft.dropped(&given.rows, &why);
    }
    let to: Vec<String> = keys.iter().map(|(section, key, _)| format!("{section}.{key}")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    if own {
        let remark = "the bundled PostgreSQL stays behind: the site has its own, empty one, and the data have to be brought there";
        return draft.mapped(&given.rows, &to, remark);
    }
    draft.mapped(
        &given.rows,
        &to,
        "the server's certificate is checked, name and all (verify-full), and it has to be PostgreSQL 14 or newer",
    );
    if source.ca.is_some() {
        draft.mapped(&given.rows, &[], "copy the root of its certificate into the site's folder, and name it as database.ca");
    }
    match source.password {
        None => draft.mapped(&given.rows, &[], "it holds no password: add MATTERMOST_DB_PASSWORD to secrets.env"),
        Some(password) => match Name::DatabasePassword.wrong(password.expose()) {
            Some(problem) => draft.mapped(&given.rows, &[], &format!("the password is left out: {problem}")),
            None => {
                draft.mapped(&given.rows, &["secrets.env MATTERMOST_DB_PASSWORD"], "the password goes into secrets.env");
                draft.secrets.insert(Name::DatabasePassword, password);
            }
        },
    }
}

/// The three addresses that GitLab answers at, below its own.
const ENDPOINTS: [(&str, &str); 3] = [
    ("MM_GITLABSETTINGS_AUTHENDPOINT", "/oauth/authorize"),
    ("MM_GITLABSETTINGS_TOKENENDPOINT", "/oauth/token"),
    ("MM_GITLABSETTINGS_USERAPIENDPOINT", "/api/v4/user"),
];

fn gitlab(draft: &mut Draft, around: &Around) {
    let base = ENDPOINTS.iter().find_map(|(name, path)| draft.text(name)?.strip_suffix(path).map(str::to_owned));
    let plugin = draft.take("plugin gitlab gitlaburl");
    let known = base.or_else(|| plugin.as_ref().map(|given| given.text().trim_end_matches('/').to_owned())).filter(|url| !url.is_empty());
    let own = around.gitlab.as_ref().map(|(url, _)| url.trim_end_matches('/').to_owned());
    let url = known.or_else(|| own.clone());
    let fits = url.as_deref().map(|url| draft.keys(&[("gitlab", "url", quoted(url))]));
    let has = matches!(fits, Some(Ok(())));
    if let Some((_, row)) = &around.gitlab {
        match &fits {
            Some(Err(why)) => draft.dropped(&[*row], why),
            _ if own == url => draft.mapped(&[*row], &["gitlab.url"], "GitLab's own address, for its events and its plugin"),
            _ => draft.dropped(&[*row], "GitLab's own address; Mattermost's settings name another"),
        }
    }
    if let Some(given) = plugin {
        match &fits {
            Some(Err(why)) => draft.dropped(&given.rows, why),
            None => draft.dropped(&given.rows, "empty"),
            Some(Ok(())) if url.as_deref() == Some(given.text().trim_end_matches('/')) => draft.applied(&given.rows, "gitlab.url"),
            Some(Ok(())) => draft.dropped(&given.rows, "sign-in names another GitLab, and a site has one"),
        }
    }
    let enabled = draft.text("MM_GITLABSETTINGS_ENABLE").and_then(switch);
    // The plugin's application and that of sign-in may be one; where they are two, that of sign-in counts.
    for (plugin, sign_in) in [
        ("plugin gitlab gitlaboauthclientid", "MM_GITLABSETTINGS_ID"),
        ("plugin gitlab gitlaboauthclientsecret", "MM_GITLABSETTINGS_SECRET"),
    ] {
        let Some(given) = draft.take(plugin) else { continue };
        let other = draft.text(sign_in).filter(|text| !text.is_empty() && enabled == Some(true)).map(|text| text == given.text());
        match other {
            Some(true) => draft.applied(&given.rows, "secrets.env"),
            Some(false) => draft.dropped(&given.rows, "the site has one OAuth application in GitLab, and that of sign-in counts"),
            None => {
                draft.take(sign_in).into_iter().for_each(|unused| draft.dropped(&unused.rows, "sign-in with GitLab is off"));
                draft.server.insert(sign_in.to_owned(), given);
            }
        }
    }
    let without = "GitLab makes a new application";
    let id = draft.secret("MM_GITLABSETTINGS_ID", Name::GitlabOauthId, without);
    let secret = draft.secret("MM_GITLABSETTINGS_SECRET", Name::GitlabOauthSecret, without);
    let sign_in = has && enabled == Some(true) && id && secret;
    if has {
        for (name, path) in ENDPOINTS {
            let standard = url.as_ref().map(|url| format!("{url}{path}"));
            if let Some(given) = draft.server.get(name).filter(|given| given.text().is_empty() || Some(given.text()) == standard.as_deref())
            {
                let rows = given.rows.clone();
                draft.take(name);
                draft.applied(&rows, "gitlab.url");
            }
        }
        if draft.text("MM_GITLABSETTINGS_SCOPE").is_some_and(|scope| matches!(scope, "" | "read_user"))
            && let Some(given) = draft.take("MM_GITLABSETTINGS_SCOPE")
        {
            draft.applied(&given.rows, "gitlab.sign-in");
        }
        if let Some(on) = enabled
            && let Some(given) = draft.take("MM_GITLABSETTINGS_ENABLE")
        {
            enable(draft, &given, on, sign_in);
        }
    }
}

fn enable(draft: &mut Draft, given: &Given, on: bool, sign_in: bool) {
    draft.key(&given.rows, "gitlab", "sign-in", sign_in.to_string());
    if sign_in {
        draft.mapped(
            &given.rows,
            &[],
            "without a licence the sign-in page shows no button for it; by its direct address it makes accounts even where \
                sign-up is closed",
        );
        draft.next.push(
            "GitLab's application has to name the redirect URIs <site>/login/gitlab/complete and <site>/signup/gitlab/complete \
                of the new site"
                .to_owned(),
        );
    } else if on {
        draft.mapped(
            &given.rows,
            &[],
            "sign-in stays off until secrets.env has GITLAB_OAUTH_ID and GITLAB_OAUTH_SECRET; where GitLab authorised itself, \
                they stand in its gitlab-secrets.json",
        );
    }
}

/// Plugins of the image that `site.toml` has a switch for.
const SWITCHES: [(&str, &str, &str); 3] =
    [("com.mattermost.calls", "calls", "enabled"), ("focalboard", "mattermost", "boards"), ("playbooks", "mattermost", "playbooks")];

fn plugins(draft: &mut Draft) {
    let key = "its accounts have to be linked again";
    draft.secret("plugin gitlab encryptionkey", Name::GitlabPluginKey, key);
    draft.secret("plugin gitlab webhooksecret", Name::GitlabPluginSecret, "GitLab's webhooks for the plugin need the new one");
    draft.secret("plugin jenkins encryptionkey", Name::JenkinsPluginKey, key);
    if let Some(given) = draft.take("plugin jenkins jenkinsurl") {
        match given.text().is_empty() {
            true => draft.dropped(&given.rows, "empty"),
            false => draft.key(&given.rows, "jenkins", "url", quoted(given.text())),
        }
    }
    let names: Vec<String> = draft.server.keys().filter(|name| name.starts_with("plugin")).cloned().collect();
    for name in names {
        let Some(given) = draft.take(&name) else { continue };
        let rows = &given.rows;
        match (name.strip_prefix("plugin-state "), switch(given.text())) {
            (Some(id), Some(on)) => match (SWITCHES.iter().find(|(known, ..)| *known == id), id) {
                (Some((_, section, key)), _) => draft.key(rows, section, key, on.to_string()),
                (None, "com.github.manland.mattermost-plugin-gitlab") => {
                    draft.mapped(rows, &["gitlab"], "the plugin runs where site.toml has [gitlab]")
                }
                (None, "jenkins") => draft.mapped(rows, &["jenkins"], "the plugin runs where site.toml has [jenkins]"),
                (None, _) if !on => draft.applied(rows, "nothing: the image does not have it"),
                (None, _) => draft.dropped(rows, "the image does not have this plugin: docs/images.md tells how one is baked in"),
            },
            (Some(_), None) => draft.dropped(rows, "expected true or false"),
            (None, _) if name.starts_with("plugin calls ") => {
                draft.dropped(rows, "the site's own relay and ports count for calls: [calls] and [coturn]")
            }
            (None, _) => draft.dropped(rows, "site.toml has no key for it; [mattermost.extra] takes MM_PLUGINSETTINGS_PLUGINS as a whole"),
        }
    }
}

/// Settings of mail that [smtp] stands for.
const MAIL: [&str; 9] = [
    "MM_EMAILSETTINGS_SMTPSERVER",
    "MM_EMAILSETTINGS_SMTPPORT",
    "MM_EMAILSETTINGS_CONNECTIONSECURITY",
    "MM_EMAILSETTINGS_ENABLESMTPAUTH",
    "MM_EMAILSETTINGS_SMTPUSERNAME",
    "MM_EMAILSETTINGS_SMTPPASSWORD",
    "MM_EMAILSETTINGS_FEEDBACKEMAIL",
    "MM_EMAILSETTINGS_REPLYTOADDRESS",
    "MM_EMAILSETTINGS_FEEDBACKNAME",
];

fn mail(draft: &mut Draft) {
    let text = |draft: &Draft, name| draft.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let Some(host) = text(draft, "MM_EMAILSETTINGS_SMTPSERVER") else { return no_mail(draft) };
    if matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1") {
        return drop_mail(
            draft,
            &format!("in a container {host} is the container itself, where no sendmail answers: name a mail server in [smtp]"),
        );
    }
    let (security, remark) = match text(draft, "MM_EMAILSETTINGS_CONNECTIONSECURITY").as_deref() {
        None => ("none", None),
        Some("TLS") => ("tls", None),
        Some("STARTTLS") => ("starttls", None),
        Some("PLAIN") => ("none", Some("PLAIN is no protection: a password would go over the wire as it is")),
        Some(_) => {
            return drop_mail(
                draft,
                "MM_EMAILSETTINGS_CONNECTIONSECURITY: expected TLS, STARTTLS or nothing, else Mattermost 11 would not start",
            );
        }
    };
    let from = text(draft, "MM_EMAILSETTINGS_FEEDBACKEMAIL").or_else(|| text(draft, "MM_EMAILSETTINGS_REPLYTOADDRESS"));
    let Some(from) = from else {
        return drop_mail(draft, "[smtp] wants the sender's address, and neither FeedbackEmail nor ReplyToAddress is set");
    };
    let mut keys = vec![("smtp", "host", quoted(&host)), ("smtp", "from", quoted(&from)), ("smtp", "security", quoted(security))];
    keys.extend(text(draft, "MM_EMAILSETTINGS_SMTPPORT").map(|port| ("smtp", "port", port)));
    keys.extend(text(draft, "MM_EMAILSETTINGS_FEEDBACKNAME").map(|name| ("smtp", "from-name", quoted(&name))));
    if let Err(why) = draft.keys(&keys) {
        return drop_mail(draft, &why);
    }
    let user = text(draft, "MM_EMAILSETTINGS_SMTPUSERNAME");
    let auth = draft.text("MM_EMAILSETTINGS_ENABLESMTPAUTH").and_then(switch).unwrap_or(user.is_some());
    let password = auth && user.is_some() && draft.secret("MM_EMAILSETTINGS_SMTPPASSWORD", Name::SmtpPassword, "give it in secrets.env");
    let reply = draft.text("MM_EMAILSETTINGS_REPLYTOADDRESS").is_some_and(|reply| !reply.is_empty() && reply != from);
    for name in MAIL {
        // Another address for answers stays what it is, in [mattermost.extra].
        if name == "MM_EMAILSETTINGS_REPLYTOADDRESS" && reply {
            continue;
        }
        let Some(given) = draft.take(name) else { continue };
        let rows = &given.rows;
        match (name, &user) {
            ("MM_EMAILSETTINGS_SMTPUSERNAME", Some(user)) if password => draft.key(rows, "smtp", "user", quoted(user)),
            ("MM_EMAILSETTINGS_SMTPUSERNAME", Some(_)) if auth => {
                draft.dropped(rows, "there is no usable password: add MATTERMOST_SMTP_PASSWORD to secrets.env, then user to [smtp]");
            }
            ("MM_EMAILSETTINGS_SMTPUSERNAME" | "MM_EMAILSETTINGS_SMTPPASSWORD", _) if !auth => draft.dropped(rows, "ENABLESMTPAUTH is off"),
            ("MM_EMAILSETTINGS_ENABLESMTPAUTH", _) => draft.mapped(rows, &["smtp.user"], "the server signs in where [smtp] has a user"),
            ("MM_EMAILSETTINGS_CONNECTIONSECURITY", _) => match remark {
                Some(remark) => draft.mapped(rows, &["smtp.security"], remark),
                None => draft.applied(rows, "smtp.security"),
            },
            ("MM_EMAILSETTINGS_SMTPSERVER", _) => draft.applied(rows, "smtp.host"),
            ("MM_EMAILSETTINGS_SMTPPORT", _) => draft.applied(rows, "smtp.port"),
            ("MM_EMAILSETTINGS_FEEDBACKNAME", _) => draft.applied(rows, "smtp.from-name"),
            ("MM_EMAILSETTINGS_FEEDBACKEMAIL" | "MM_EMAILSETTINGS_REPLYTOADDRESS", _) => draft.applied(rows, "smtp.from"),
            _ => draft.dropped(rows, "empty"),
        }
    }
    if let Some(given) = draft.server.get("MM_EMAILSETTINGS_SENDEMAILNOTIFICATIONS").filter(|given| switch(given.text()) == Some(true)) {
        let rows = given.rows.clone();
        draft.take("MM_EMAILSETTINGS_SENDEMAILNOTIFICATIONS");
        draft.applied(&rows, "smtp");
    }
}

/// Single settings of mail say nothing without a server.
fn no_mail(draft: &mut Draft) {
    // ENABLESMTPAUTH is a row of the page's table: what is false is false without a server too.
    let kept = ["MM_EMAILSETTINGS_ENABLESMTPAUTH", "MM_EMAILSETTINGS_FEEDBACKNAME"];
    for name in MAIL.into_iter().filter(|name| !kept.contains(name)) {
        if let Some(given) = draft.take(name) {
            draft.dropped(&given.rows, "no mail server is named, so there is no [smtp]");
        }
    }
}

fn drop_mail(draft: &mut Draft, why: &str) {
    for name in MAIL {
        if let Some(given) = draft.take(name) {
            draft.dropped(&given.rows, why);
        }
    }
}

fn push(draft: &mut Draft) {
    let server = draft.text("MM_EMAILSETTINGS_PUSHNOTIFICATIONSERVER").filter(|server| !server.is_empty()).map(str::to_owned);
    let sends = draft.text("MM_EMAILSETTINGS_SENDPUSHNOTIFICATIONS").and_then(switch);
    let rows = |draft: &mut Draft, name| draft.take(name).map(|given| given.rows).unwrap_or_default();
    let server_rows = rows(draft, "MM_EMAILSETTINGS_PUSHNOTIFICATIONSERVER");
    let switch_rows = rows(draft, "MM_EMAILSETTINGS_SENDPUSHNOTIFICATIONS");
    match server {
        Some(server) if sends != Some(false) => {
            draft.key(&server_rows, "push", "url", quoted(&server));
            draft.applied(&switch_rows, "push");
        }
        _ => {
            draft.dropped(&server_rows, "push notifications are off, or no push proxy is named: then there is no [push]");
            match sends {
                Some(true) => draft.dropped(&switch_rows, "no push proxy is named: write its address into [push]"),
                Some(false) => draft.applied(&switch_rows, "push"),
                None => draft.dropped(&switch_rows, "expected true or false"),
            }
        }
    }
    if draft.has("push", "url")
        && let Some(given) = draft.take("MM_EMAILSETTINGS_PUSHNOTIFICATIONCONTENTS")
    {
        draft.key(&given.rows, "push", "contents", quoted(given.text()));
    }
}

/// What Go's HTTP client reads, in either case.
fn proxy(draft: &mut Draft) {
    for (name, key) in [("HTTP_PROXY", "http"), ("HTTPS_PROXY", "https")] {
        let Some(given) = draft.take(name) else { continue };
        match (given.text().is_empty(), given.text().contains("://")) {
            (true, _) => draft.dropped(&given.rows, "empty"),
            (_, true) => draft.key(&given.rows, "proxy", key, quoted(given.text())),
            (_, false) => {
                draft.key(&given.rows, "proxy", key, quoted(&format!("http://{}", given.text())));
                if draft.has("proxy", key) {
                    draft.mapped(&given.rows, &[], "a proxy without a scheme is asked over http://");
                }
            }
        }
    }
    if let Some(given) = draft.take("NO_PROXY") {
        let names: Vec<&str> = given.text().split([',', ' ']).filter(|name| !name.is_empty()).collect();
        draft.key(&given.rows, "proxy", "none", quoted_list(names));
    }
}

fn accounts(draft: &mut Draft) {
    for (name, key) in [
        ("MM_TEAMSETTINGS_ENABLEOPENSERVER", "open-sign-up"),
        ("MM_GUESTACCOUNTSSETTINGS_ENABLE", "guests"),
        ("MM_SERVICESETTINGS_ENFORCEMULTIFACTORAUTHENTICATION", "enforce-mfa"),
    ] {
        if let Some(on) = draft.text(name).and_then(switch)
            && let Some(given) = draft.take(name)
        {
            draft.key(&given.rows, "mattermost", key, on.to_string());
        }
    }
}
