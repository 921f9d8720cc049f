//! Mattermost: what of it does not hold secrets, and how all of it is put together.

use std::net::IpAddr;

use images::{Class, Error};
use mattermost_settings::Form;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::{ServiceEnv, check, hidden};
use crate::site::env_file;
use crate::site::model::{Edition, PushContents, Site, SmtpSecurity};
use crate::site::secrets::{Name, Secret, Secrets};
use crate::uri::{authority, plain};

/// Plugin ids.
const CALLS: &str = "com.mattermost.calls";
pub(super) const GITLAB: &str = "com.github.manland.mattermost-plugin-gitlab";
pub(super) const JENKINS: &str = "jenkins";

/// What Mattermost 11's team edition takes, and does nothing with.
const NOT_IN_TEAM: [&str; 10] = [
    "MM_ANNOUNCEMENTSETTINGS_BANNERCOLOR",
    "MM_ANNOUNCEMENTSETTINGS_BANNERTEXT",
    "MM_ANNOUNCEMENTSETTINGS_BANNERTEXTCOLOR",
    "MM_ANNOUNCEMENTSETTINGS_ENABLEBANNER",
    "MM_CALLS_RTCD_SERVICE_URL",
    "MM_GUESTACCOUNTSSETTINGS_ENABLE",
    "MM_METRICSSETTINGS_ENABLE",
    "MM_METRICSSETTINGS_LISTENADDRESS",
    "MM_SERVICESETTINGS_ENABLECUSTOMGROUPS",
    "MM_SERVICESETTINGS_ENFORCEMULTIFACTORAUTHENTICATION",
];

/// Settings of what Entry mode, which is the enterprise edition without a licence, does not have: several nodes, and compliance. Only
/// `[mattermost.extra]` has them. Of calls in groups its makers' documents and code say different things, so nothing is said here.
const NOT_IN_ENTRY: [&str; 2] = ["MM_CLUSTERSETTINGS_", "MM_COMPLIANCESETTINGS_"];

/// Everything that Mattermost is told.
pub(super) fn env(site: &Site, secrets: &Secrets, problems: &mut Vec<Error>) -> ServiceEnv {
    let mut env = ServiceEnv::default();
    identity(site, &mut env);
    reach(site, &mut env);
    phone_home(&mut env);
    mail(site, &mut env);
    push(site, &mut env);
    accounts(site, &mut env);
    writing(site, &mut env);
    integrations(site, &mut env);
    calls(site, &mut env);
    proxy(site, &mut env);
    hidden::settings(site, secrets, &mut env, problems);
    let unlisted = extra(site, &mut env, problems);
    for (name, value) in env.settings().filter(|(name, _)| name.starts_with("MM_") && !unlisted.contains(name)) {
        problems.extend(check(name, value, true).err());
    }
    for (name, value) in env.secret_settings() {
        problems.extend(check(name, value.expose(), false).err());
    }
    remarks(site, secrets, &unlisted, &mut env);
    env
}

fn switch(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

/// A page's origin as a browser writes it (RFC 6454): no slash at the end, and no port where it is the scheme's own.
fn origin(host: &str, port: u16) -> String {
    let origin = format!("https://{}", authority(host, port));
    origin.strip_suffix(":443").map(str::to_owned).unwrap_or(origin)
}

fn identity(site: &Site, env: &mut ServiceEnv) {
    env.section(
        "Where people reach it; the port is the same inside the container, so that the address is good there too",
        &[
            ("MM_SERVICESETTINGS_SITEURL", &site.url()),
            ("MM_SERVICESETTINGS_LISTENADDRESS", &format!(":{}", site.ports.mattermost)),
            ("MM_SERVICESETTINGS_CONNECTIONSECURITY", "TLS"),
            ("MM_SERVICESETTINGS_TLSCERTFILE", "/run/secrets/mattermost-cert.pem"),
            ("MM_SERVICESETTINGS_TLSKEYFILE", "/run/secrets/mattermost-key.pem"),
            ("MM_SERVICESETTINGS_ENABLELOCALMODE", "true"),
            ("MM_SQLSETTINGS_DRIVERNAME", "postgres"),
        ],
    );
    let metrics = format!(":{}", site.ports.metrics);
    env.section(
        "Metrics; the port is published on 127.0.0.1 alone",
        &[("MM_METRICSSETTINGS_ENABLE", "true"), ("MM_METRICSSETTINGS_LISTENADDRESS", &metrics)],
    );
}

/// Who may talk to it from elsewhere, and to whom it talks.
fn reach(site: &Site, env: &mut ServiceEnv) {
    let own = site.url();
    let origins: Vec<String> = site.hosts().map(|host| origin(&host, site.ports.mattermost)).filter(|origin| *origin != own).collect();
    let mut inner: Vec<String> = site.addresses.iter().copied().map(block).collect();
    for host in tools(site).filter_map(Url::host) {
        let entry = match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => block(IpAddr::V4(address)),
            Host::Ipv6(address) => block(IpAddr::V6(address)),
        };
        if !inner.contains(&entry) {
            inner.push(entry);
        }
    }
    // The server compares whole origins: * would open the web socket to every page there is, and a slash at the end would match none.
    let (origins, inner) = (origins.join(" "), inner.join(" "));
    let mut settings = vec![
        ("MM_SERVICESETTINGS_ALLOWCORSFROM", origins.as_str()),
        ("MM_SERVICESETTINGS_ALLOWEDUNTRUSTEDINTERNALCONNECTIONS", &inner),
        ("MM_SERVICESETTINGS_ENABLEINSECUREOUTGOINGCONNECTIONS", "false"),
    ];
    if site.network.front.is_some() {
        settings.push(("MM_SERVICESETTINGS_TRUSTEDPROXYIPHEADER", site.network.front_header.as_deref().unwrap_or("X-Forwarded-For")));
    }
    env.section(
        "Pages that may connect beside its own; private addresses that webhooks and commands may ask; certificates count",
        &settings,
    );
}

fn tools(site: &Site) -> impl Iterator<Item = &Url> {
    let jenkins = site.jenkins.iter().map(|tool| &tool.url);
    jenkins.chain(site.gitlab.iter().map(|tool| &tool.url)).chain(site.sonarqube.iter().map(|tool| &tool.url))
}

fn block(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn phone_home(env: &mut ServiceEnv) {
    env.section(
        "Nothing is asked of the vendor, or of anybody else outside",
        &[
            ("MM_ANNOUNCEMENTSETTINGS_ADMINNOTICESENABLED", "false"),
            ("MM_ANNOUNCEMENTSETTINGS_USERNOTICESENABLED", "false"),
            ("MM_LOGSETTINGS_ENABLEDIAGNOSTICS", "false"),
            ("MM_LOGSETTINGS_ENABLESENTRY", "false"),
            ("MM_PLUGINSETTINGS_ENABLEREMOTEMARKETPLACE", "false"),
            ("MM_SERVICESETTINGS_ENABLEGIFPICKER", "false"),
            ("MM_SERVICESETTINGS_ENABLESECURITYFIXALERT", "false"),
        ],
    );
}

fn mail(site: &Site, env: &mut ServiceEnv) {
    let Some(smtp) = &site.smtp else {
        return env.section(
            "No mail",
            &[
                ("MM_EMAILSETTINGS_SENDEMAILNOTIFICATIONS", "false"),
                ("MM_EMAILSETTINGS_REQUIREEMAILVERIFICATION", "false"),
                ("MM_EMAILSETTINGS_ENABLEPREVIEWMODEBANNER", "false"),
            ],
        );
    };
    let security = match smtp.security {
        SmtpSecurity::Starttls => "STARTTLS",
        SmtpSecurity::Tls => "TLS",
        SmtpSecurity::None => "",
    };
    env.section(
        "Mail",
        &[
            ("MM_EMAILSETTINGS_SENDEMAILNOTIFICATIONS", "true"),
            ("MM_EMAILSETTINGS_SMTPSERVER", &smtp.host),
            ("MM_EMAILSETTINGS_SMTPPORT", &smtp.port.to_string()),
            ("MM_EMAILSETTINGS_CONNECTIONSECURITY", security),
            ("MM_EMAILSETTINGS_SKIPSERVERCERTIFICATEVERIFICATION", "false"),
            ("MM_EMAILSETTINGS_ENABLESMTPAUTH", switch(smtp.user.is_some())),
            ("MM_EMAILSETTINGS_SMTPUSERNAME", smtp.user.as_deref().unwrap_or_default()),
            ("MM_EMAILSETTINGS_FEEDBACKEMAIL", &smtp.from),
            ("MM_EMAILSETTINGS_REPLYTOADDRESS", &smtp.from),
            ("MM_EMAILSETTINGS_FEEDBACKNAME", &smtp.from_name),
        ],
    );
}

fn push(site: &Site, env: &mut ServiceEnv) {
    let contents = match site.push.as_ref().map(|push| push.contents) {
        None | Some(PushContents::Generic) => "generic",
        Some(PushContents::GenericNoChannel) => "generic_no_channel",
        Some(PushContents::Full) => "full",
        Some(PushContents::IdLoaded) => "id_loaded",
    };
    let server = site.push.as_ref().map(|push| plain(&push.url)).unwrap_or_default();
    env.section(
        "Push notifications",
        &[
            ("MM_EMAILSETTINGS_SENDPUSHNOTIFICATIONS", switch(site.push.is_some())),
            ("MM_EMAILSETTINGS_PUSHNOTIFICATIONSERVER", &server),
            ("MM_EMAILSETTINGS_PUSHNOTIFICATIONCONTENTS", contents),
        ],
    );
}

fn accounts(site: &Site, env: &mut ServiceEnv) {
    let own = &site.mattermost;
    env.section(
        "Accounts",
        &[
            ("MM_TEAMSETTINGS_ENABLEOPENSERVER", switch(own.open_sign_up)),
            ("MM_GUESTACCOUNTSSETTINGS_ENABLE", switch(own.guests)),
            ("MM_SERVICESETTINGS_ENABLEMULTIFACTORAUTHENTICATION", "true"),
            ("MM_SERVICESETTINGS_ENFORCEMULTIFACTORAUTHENTICATION", switch(own.enforce_mfa)),
            ("MM_SERVICESETTINGS_ENABLEBOTACCOUNTCREATION", "true"),
            ("MM_SERVICESETTINGS_ENABLEUSERACCESSTOKENS", "true"),
            ("MM_SERVICESETTINGS_ENABLECUSTOMGROUPS", "true"),
            ("MM_LOCALIZATIONSETTINGS_DEFAULTSERVERLOCALE", &own.locale),
            ("MM_LOCALIZATIONSETTINGS_DEFAULTCLIENTLOCALE", &own.locale),
        ],
    );
    if let Some(gitlab) = site.gitlab.as_ref().filter(|gitlab| gitlab.sign_in) {
        let url = plain(&gitlab.url);
        env.section(
            "Sign-in with GitLab",
            &[
                ("MM_GITLABSETTINGS_ENABLE", "true"),
                ("MM_GITLABSETTINGS_SCOPE", "read_user"),
                ("MM_GITLABSETTINGS_AUTHENDPOINT", &format!("{url}/oauth/authorize")),
                ("MM_GITLABSETTINGS_TOKENENDPOINT", &format!("{url}/oauth/token")),
                ("MM_GITLABSETTINGS_USERAPIENDPOINT", &format!("{url}/api/v4/user")),
            ],
        );
    }
}

fn writing(site: &Site, env: &mut ServiceEnv) {
    env.section(
        "Writing",
        &[
            ("MM_SERVICESETTINGS_COLLAPSEDTHREADS", "default_on"),
            ("MM_SERVICESETTINGS_POSTPRIORITY", "true"),
            ("MM_SERVICESETTINGS_ENABLELATEX", "true"),
            ("MM_SERVICESETTINGS_ENABLEINLINELATEX", "true"),
            ("MM_SERVICESETTINGS_ENABLECUSTOMEMOJI", "true"),
        ],
    );
    let banner = site.mattermost.banner.as_deref();
    let mut settings = vec![("MM_ANNOUNCEMENTSETTINGS_ENABLEBANNER", switch(banner.is_some()))];
    if let Some(text) = banner {
        settings.extend([
            ("MM_ANNOUNCEMENTSETTINGS_BANNERTEXT", text),
            ("MM_ANNOUNCEMENTSETTINGS_BANNERCOLOR", "#20a83b"),
            ("MM_ANNOUNCEMENTSETTINGS_BANNERTEXTCOLOR", "#ffffff"),
        ]);
    }
    env.section("The line above everything", &settings);
}

fn integrations(site: &Site, env: &mut ServiceEnv) {
    env.section(
        "Integrations; messages of webhooks show the names and icons that their senders ask for",
        &[
            ("MM_SERVICESETTINGS_ENABLEINCOMINGWEBHOOKS", "true"),
            ("MM_SERVICESETTINGS_ENABLEOUTGOINGWEBHOOKS", "true"),
            ("MM_SERVICESETTINGS_ENABLECOMMANDS", "true"),
            ("MM_SERVICESETTINGS_ENABLEPOSTUSERNAMEOVERRIDE", "true"),
            ("MM_SERVICESETTINGS_ENABLEPOSTICONOVERRIDE", "true"),
        ],
    );
    let own = &site.mattermost;
    // The value takes the place of the server's map as a whole, defaults and all. The last two are on by default, not in the image,
    // and ask others outside.
    let states = [
        (CALLS, site.calls.enabled),
        ("focalboard", own.boards),
        ("playbooks", own.playbooks && site.edition == Edition::Enterprise),
        (GITLAB, site.gitlab.is_some()),
        // Without an address its start fails after 10 s.
        (JENKINS, site.jenkins.is_some()),
        ("mattermost-ai", false),
        ("com.mattermost.nps", false),
    ];
    let states: Map<String, Value> = states.into_iter().map(|(id, on)| (id.to_owned(), json!({ "Enable": on }))).collect();
    env.section(
        "Plugins: those of the image, and none that somebody uploads; what the console changes here does not stay",
        &[
            ("MM_PLUGINSETTINGS_ENABLE", "true"),
            ("MM_PLUGINSETTINGS_ENABLEUPLOADS", "false"),
            ("MM_PLUGINSETTINGS_AUTOMATICPREPACKAGEDPLUGINS", "true"),
            ("MM_PLUGINSETTINGS_PLUGINSTATES", &env_file::json(&Value::Object(states))),
        ],
    );
}

fn calls(site: &Site, env: &mut ServiceEnv) {
    let (true, Some(lan)) = (site.calls.enabled, site.media_address()) else { return };
    let (lan, port, ports) = (lan.to_string(), site.ports.calls.to_string(), &site.ports);
    // Without credentials, so that the plugin makes time-limited ones from the shared secret; with them it would hand them to everybody.
    // Native apps trust no private CA here (libwebrtc brings its own roots), so turns: is for browsers.
    let turn = [
        format!("turn:{}?transport=udp", authority(&lan, ports.turn)),
        format!("turn:{}?transport=tcp", authority(&lan, ports.turn)),
        format!("turns:{}?transport=tcp", authority(site.name.as_str(), ports.turns)),
    ];
    env.section(
        "Calls: media on this port of the LAN address, the relay beside it; no public STUN server is asked",
        &[
            ("MM_CALLS_UDP_SERVER_ADDRESS", "0.0.0.0"),
            ("MM_CALLS_UDP_SERVER_PORT", &port),
            ("MM_CALLS_TCP_SERVER_ADDRESS", "0.0.0.0"),
            ("MM_CALLS_TCP_SERVER_PORT", &port),
            ("MM_CALLS_ICE_HOST_OVERRIDE", &lan),
            ("MM_CALLS_ICE_HOST_PORT_OVERRIDE", &port),
            ("MM_CALLS_ICE_SERVERS_CONFIGS", &env_file::json(&json!([{ "urls": turn }]))),
            ("MM_CALLS_TURN_CREDENTIALS_EXPIRATION_MINUTES", &site.coturn.credential_minutes.to_string()),
            ("MM_CALLS_SERVER_SIDE_TURN", "false"),
            ("MM_CALLS_DEFAULT_ENABLED", "true"),
            ("MM_CALLS_ALLOW_SCREEN_SHARING", switch(site.calls.screen_sharing)),
            ("MM_CALLS_MAX_CALL_PARTICIPANTS", &site.calls.max_participants.to_string()),
        ],
    );
}

/// What Go's HTTP client reads.
fn proxy(site: &Site, env: &mut ServiceEnv) {
    let Some(proxy) = &site.proxy else { return };
    let own = ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).chain([site.database_host()]);
    let own = own.chain(site.hosts());
    let none = own.chain(proxy.none.iter().cloned()).collect::<Vec<_>>().join(",");
    let urls = [("HTTP_PROXY", &proxy.http), ("HTTPS_PROXY", &proxy.https)];
    let urls: Vec<(&str, String)> = urls.into_iter().filter_map(|(name, url)| Some((name, plain(url.as_ref()?)))).collect();
    let settings: Vec<(&str, &str)> = urls.iter().map(|(name, url)| (*name, url.as_str())).chain([("NO_PROXY", none.as_str())]).collect();
    env.section("The way to machines outside", &settings);
}

/// `[mattermost.extra]`, which stands above everything that was derived. Names that are in no list are the person's to answer for;
/// they come back, and the entrypoint is told to let them through.
fn extra<'a>(site: &'a Site, env: &mut ServiceEnv, problems: &mut Vec<Error>) -> Vec<&'a str> {
    let mut added: Vec<(&str, &str)> = Vec::new();
    let mut unlisted: Vec<&str> = Vec::new();
    for (name, value) in &site.mattermost.extra {
        match mattermost_settings::form(name) {
            Ok(Form::Secret) => problems.push(
                Error::new(Class::Usage, format!("{name} is a secret, and stands in site.toml"))
                    .detail("expected it in secrets.env, under its name there"),
            ),
            // It may hold keys, so it stays where the derived one is.
            Ok(Form::Plugins) => _ = env.secret_settings.insert(name.clone(), Secret::new(value.as_str())),
            known => {
                env.sections.iter_mut().for_each(|(_, settings)| settings.retain(|(derived, _)| derived != name));
                added.push((name, value));
                unlisted.extend(known.is_err().then_some(name.as_str()));
            }
        }
    }
    env.sections.retain(|(_, settings)| !settings.is_empty());
    let names = unlisted.join(",");
    if !unlisted.is_empty() {
        added.push(("MATTERMOST_EXTRA_SETTINGS", &names));
    }
    if !added.is_empty() {
        env.section("[mattermost.extra]", &added);
    }
    unlisted
}

fn remarks(site: &Site, secrets: &Secrets, unlisted: &[&str], env: &mut ServiceEnv) {
    for name in unlisted {
        let nearest = mattermost_settings::form(name).err().and_then(|unknown| unknown.nearest);
        let meant = nearest.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        env.remarks.push(format!("{name} is in no list: a server that does not know it ignores it{meant}"));
    }
    let linked = [Name::GitlabOauthId, Name::GitlabOauthSecret].iter().all(|name| secrets.get(*name).is_some());
    if site.gitlab.is_some() && !linked {
        let (id, secret) = (Name::GitlabOauthId.name(), Name::GitlabOauthSecret.name());
        env.remarks
            .push(format!("The GitLab plugin links no accounts until secrets.env has {id} and {secret}, of GitLab's OAuth application"));
    }
    let id_loaded = ("MM_EMAILSETTINGS_PUSHNOTIFICATIONCONTENTS", "id_loaded");
    let without_effect = |setting: (&str, &str)| match site.edition {
        Edition::Team => NOT_IN_TEAM.contains(&setting.0) || setting == id_loaded,
        Edition::Enterprise => NOT_IN_ENTRY.iter().any(|prefix| setting.0.starts_with(prefix)),
    };
    let inert: Vec<String> = env.settings().filter(|setting| without_effect(*setting)).map(|(name, _)| format!("  {name}")).collect();
    if !inert.is_empty() {
        env.remarks.push(match site.edition {
            Edition::Team => "Without effect in the team edition:".to_owned(),
            Edition::Enterprise => "Without effect while the enterprise edition has no licence (Entry mode):".to_owned(),
        });
        env.remarks.extend(inert);
    }
}
