//! From the names of `gitlab.rb` to those that Mattermost 11 reads, and what it reads no longer or would refuse.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use mattermost_settings::Form;

/// Every name of the server's. `mattermost_settings::form` also looks for the nearest one to a name that is unknown, which takes time.
static KNOWN: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let lines = include_str!("../../../images/mattermost-settings/src/settings.txt").lines();
    lines.filter_map(|line| line.split_once(' ')).map(|(name, _)| name).collect()
});

/// The longest name of the server's has 60 letters.
const LONGEST: usize = 120;

/// Names that do not follow the rule: the whole table of GitLab's page, with the two names that the page itself has wrong put right.
pub const EXCEPTIONS: [(&str, &str); 16] = [
    ("service_lets_encrypt_cert_cache_file", "MM_SERVICESETTINGS_LETSENCRYPTCERTIFICATECACHEFILE"),
    ("service_user_access_tokens", "MM_SERVICESETTINGS_ENABLEUSERACCESSTOKENS"),
    ("log_console_enable", "MM_LOGSETTINGS_ENABLECONSOLE"),
    ("email_enable_batching", "MM_EMAILSETTINGS_ENABLEEMAILBATCHING"),
    ("email_batching_buffer_size", "MM_EMAILSETTINGS_EMAILBATCHINGBUFFERSIZE"),
    ("email_batching_interval", "MM_EMAILSETTINGS_EMAILBATCHINGINTERVAL"),
    ("email_smtp_auth", "MM_EMAILSETTINGS_ENABLESMTPAUTH"),
    ("email_notification_content_type", "MM_EMAILSETTINGS_NOTIFICATIONCONTENTTYPE"),
    ("ratelimit_enable_ratelimiter", "MM_RATELIMITSETTINGS_ENABLE"),
    ("support_email", "MM_SUPPORTSETTINGS_SUPPORTEMAIL"),
    ("localization_server_locale", "MM_LOCALIZATIONSETTINGS_DEFAULTSERVERLOCALE"),
    ("localization_client_locale", "MM_LOCALIZATIONSETTINGS_DEFAULTCLIENTLOCALE"),
    ("webrtc_gateway_stun_uri", "MM_WEBRTCSETTINGS_STUN_URI"),
    ("webrtc_gateway_turn_uri", "MM_WEBRTCSETTINGS_TURN_URI"),
    ("webrtc_gateway_turn_username", "MM_WEBRTCSETTINGS_TURN_USERNAME"),
    ("webrtc_gateway_turn_sharedkey", "MM_WEBRTCSETTINGS_TURN_SHAREDKEY"),
];

/// Names of the page, and of older servers, that stand for one of today.
const RENAMED: [(&str, &str, &str); 2] = [
    (
        "MM_EMAILSETTINGS_BATCHINGINTERVAL",
        "MM_EMAILSETTINGS_EMAILBATCHINGINTERVAL",
        "GitLab's page shows MM_EMAILSETTINGS_BATCHINGINTERVAL, which no server ever read",
    ),
    (
        "MM_EMAILSETTINGS_NOTIFICATIONCONTENTTYPE",
        "MM_EMAILSETTINGS_EMAILNOTIFICATIONCONTENTSTYPE",
        "GitLab's page shows MM_EMAILSETTINGS_NOTIFICATIONCONTENTTYPE, which no server ever read",
    ),
];

const ROLES: &str = "what people may do is said by roles in the database since Mattermost 5, which a dump brings along";
const WEBRTC: &str = "Mattermost has no WebRTC settings any more: the Calls plugin and the site's own relay take their place";

/// What was there once: beginnings of names, and what became of it. The first that fits counts.
const REMOVED: &[(&str, &str)] = &[
    ("MM_WEBRTCSETTINGS_", WEBRTC),
    ("MM_BLEVESETTINGS_", "Mattermost 11 has no Bleve search any more; the database searches"),
    ("MM_NOTIFICATIONLOGSETTINGS_", "Mattermost 11 has no log of notifications any more"),
    ("MM_EMAILSETTINGS_INVITESALT", "Mattermost makes invitations without it since version 4"),
    ("MM_EMAILSETTINGS_PASSWORDRESETSALT", "Mattermost resets passwords without it since version 4"),
    ("MM_LOGSETTINGS_VERBOSEDIAGNOSTICS", "gone with Mattermost 11"),
    ("MM_LOGSETTINGS_FILEFORMAT", "gone from Mattermost: MM_LOGSETTINGS_FILEJSON says whether the log is JSON"),
    ("MM_SERVICESETTINGS_ENABLEAPIV3", "API version 3 is gone from Mattermost"),
    ("MM_SERVICESETTINGS_ENABLEONLYADMININTEGRATIONS", ROLES),
    ("MM_SERVICESETTINGS_RESTRICTCUSTOMEMOJICREATION", ROLES),
    ("MM_SERVICESETTINGS_RESTRICTPOSTDELETE", ROLES),
    ("MM_SERVICESETTINGS_ALLOWEDITPOST", ROLES),
    ("MM_TEAMSETTINGS_ENABLETEAMCREATION", ROLES),
    ("MM_TEAMSETTINGS_RESTRICTTEAMINVITE", ROLES),
    ("MM_TEAMSETTINGS_RESTRICTPUBLICCHANNEL", ROLES),
    ("MM_TEAMSETTINGS_RESTRICTPRIVATECHANNEL", ROLES),
    ("MM_TEAMSETTINGS_EXPERIMENTALTOWNSQUAREISREADONLY", ROLES),
    ("MM_TEAMSETTINGS_EXPERIMENTALHIDETOWNSQUAREINLHS", "gone from Mattermost"),
    ("MM_TEAMSETTINGS_ENABLEXTOLEAVECHANNELSFROMLHS", "gone from Mattermost with the old sidebar"),
    ("MM_TEAMSETTINGS_RESTRICTTEAMNAMES", "gone from Mattermost"),
    ("MM_SERVICESETTINGS_EXPERIMENTALCHANNELORGANIZATION", "gone from Mattermost with the old sidebar"),
    ("MM_SERVICESETTINGS_EXPERIMENTALCHANNELSIDEBARORGANIZATION", "gone from Mattermost with the old sidebar"),
    ("MM_SERVICESETTINGS_ENABLELEGACYSIDEBAR", "gone from Mattermost with the old sidebar"),
    ("MM_SERVICESETTINGS_EXPERIMENTALLDAPGROUPSYNC", "gone from Mattermost: groups are kept in step where LDAP is on"),
    ("MM_SERVICESETTINGS_ENABLEPREVIEWFEATURES", "gone from Mattermost"),
    ("MM_SERVICESETTINGS_ENABLEOPENTRACING", "gone from Mattermost"),
    ("MM_SERVICESETTINGS_CLOSEUNUSEDDIRECTMESSAGES", "gone from Mattermost: everybody sets it for himself"),
    ("MM_SERVICESETTINGS_SEGMENTDEVELOPERKEY", "gone from Mattermost"),
    ("MM_SERVICESETTINGS_GFYCAT", "gone from Mattermost: GIFs came from a service that has ended"),
    ("MM_DISPLAYSETTINGS_EXPERIMENTALTIMEZONE", "always on since Mattermost 5"),
    ("MM_TIMEZONESETTINGS_", "gone from Mattermost: it brings its list of time zones"),
    ("MM_FILESETTINGS_THUMBNAIL", "gone from Mattermost: it has its own sizes"),
    ("MM_FILESETTINGS_PREVIEW", "gone from Mattermost: it has its own sizes"),
    ("MM_FILESETTINGS_PROFILE", "gone from Mattermost: it has its own sizes"),
    ("MM_IMAGEPROXYSETTINGS_IMAGEPROXYURL", "gone from Mattermost"),
];

const ADDRESS: &str = "the stack says where the server listens: ports.mattermost in site.toml";
const CERTIFICATES: &str = "the stack's certificates are the site's own: `cargo xtask certs`, or `certs --cert FILE --key FILE \
    --for mattermost` for one that you have";
const VOLUME: &str = "the container has its own place for it, in a volume";
const LOG: &str = "the log of a container goes to the Engine: `cargo xtask logs mattermost` shows it";
const METRICS: &str = "the stack publishes metrics on this machine alone: ports.metrics in site.toml";
const PLUGINS: &str = "the stack runs the plugins of its image, and none that somebody uploads: docs/images.md tells how one is baked in";

/// What the stack decides: the container would not work with another value.
const PINNED: &[(&str, &str)] = &[
    ("MM_CONFIG", "the container's settings come from the environment"),
    ("MM_CUSTOM_DEFAULTS_PATH", "the container's settings come from the environment"),
    ("MM_FILESETTINGS_DIRECTORY", VOLUME),
    ("MM_LOGSETTINGS_FILELOCATION", LOG),
    ("MM_LOGSETTINGS_FILEDIRECTORY", LOG),
    ("MM_METRICSSETTINGS_ENABLE", METRICS),
    ("MM_METRICSSETTINGS_LISTENADDRESS", METRICS),
    ("MM_PLUGINSETTINGS_AUTOMATICPREPACKAGEDPLUGINS", PLUGINS),
    ("MM_PLUGINSETTINGS_CLIENTDIRECTORY", VOLUME),
    ("MM_PLUGINSETTINGS_DIRECTORY", VOLUME),
    ("MM_PLUGINSETTINGS_ENABLE", PLUGINS),
    ("MM_PLUGINSETTINGS_ENABLEUPLOADS", PLUGINS),
    ("MM_PLUGINSETTINGS_SIGNATUREPUBLICKEYFILES", PLUGINS),
    ("MM_SERVICESETTINGS_CONNECTIONSECURITY", CERTIFICATES),
    ("MM_SERVICESETTINGS_ENABLELOCALMODE", "always on: `cargo xtask mmctl` uses it"),
    ("MM_SERVICESETTINGS_FORWARD80TO443", "ports.redirect-http in site.toml is the port that redirects"),
    ("MM_SERVICESETTINGS_LISTENADDRESS", ADDRESS),
    ("MM_SERVICESETTINGS_LOCALMODESOCKETLOCATION", "the socket lies in the container, where `cargo xtask mmctl` looks for it"),
    ("MM_SERVICESETTINGS_TLSCERTFILE", CERTIFICATES),
    ("MM_SERVICESETTINGS_TLSKEYFILE", CERTIFICATES),
    ("MM_SERVICESETTINGS_USELETSENCRYPT", CERTIFICATES),
];

/// The name that the page's rule gives: `section_some_key` → `MM_SECTIONSETTINGS_SOMEKEY`. A section may have a `_` of its own, so the
/// first cut that gives a name of the server's counts.
pub fn by_rule(key: &str) -> String {
    if let Some((_, name)) = EXCEPTIONS.iter().find(|(written, _)| *written == key) {
        return (*name).to_owned();
    }
    if key.len() > LONGEST {
        return "MM_…".to_owned();
    }
    let joined = |text: &str| text.replace('_', "").to_uppercase();
    let cuts = || key.match_indices('_').map(|(at, _)| (&key[..at], &key[at + 1..])).filter(|(a, b)| !a.is_empty() && !b.is_empty());
    let name = |(section, rest): (&str, &str)| format!("MM_{}SETTINGS_{}", joined(section), joined(rest));
    let known = cuts().map(name).find(|name| KNOWN.contains(name.as_str()));
    known.or_else(|| cuts().map(name).next()).unwrap_or_else(|| format!("MM_{}", joined(key)))
}

/// The name of today for one that was wrong, and a remark.
pub fn renamed(name: &str) -> Option<(&'static str, &'static str)> {
    RENAMED.iter().find(|(wrong, ..)| *wrong == name).map(|(_, right, remark)| (*right, *remark))
}

/// What a value of the setting has to be; nothing for a name that the server does not read.
pub fn form(name: &str) -> Option<Form> {
    // Sections whose names change with each release are in no list.
    let open = ["MM_FEATUREFLAGS_", "MM_CONTENTFLAGGINGSETTINGS_"].iter().any(|section| name.starts_with(section));
    (name.len() <= LONGEST && (open || KNOWN.contains(name))).then(|| mattermost_settings::form(name).ok()).flatten()
}

/// What was most likely meant by a name that the server does not know.
pub fn meant(name: &str) -> Option<&'static str> {
    (name.len() <= LONGEST).then(|| mattermost_settings::form(name).err()?.nearest).flatten()
}

/// Why a name is not for Mattermost to be told.
pub fn dropped(name: &str) -> Option<&'static str> {
    let removed = REMOVED.iter().find(|(beginning, _)| name.starts_with(beginning));
    PINNED.iter().find(|(pinned, _)| *pinned == name).or(removed).map(|(_, why)| *why)
}

/// Why Mattermost 11 would not start with this value (`Config.IsValid` of its model), in words that follow "expected".
pub fn refused(name: &str, value: &str) -> Option<&'static str> {
    let one_of = |words: &[&str]| words.contains(&value);
    let at_least = |least: i64| value.parse::<i64>().is_ok_and(|number| number >= least);
    let (good, expected) = match name {
        "MM_EXPERIMENTALSETTINGS_CLIENTSIDECERTENABLE" => (one_of(&["false", "0", "f", "F", "FALSE", "False"]), "false"),
        "MM_TEAMSETTINGS_EXPERIMENTALVIEWARCHIVEDCHANNELS" => (one_of(&["true", "1", "t", "T", "TRUE", "True"]), "true"),
        "MM_EMAILSETTINGS_EMAILBATCHINGINTERVAL" => (at_least(30), "30 or more seconds"),
        "MM_EMAILSETTINGS_EMAILBATCHINGBUFFERSIZE"
        | "MM_RATELIMITSETTINGS_MEMORYSTORESIZE"
        | "MM_RATELIMITSETTINGS_PERSEC"
        | "MM_RATELIMITSETTINGS_MAXBURST"
        | "MM_SERVICESETTINGS_MAXIMUMLOGINATTEMPTS"
        | "MM_SQLSETTINGS_MAXIDLECONNS"
        | "MM_SQLSETTINGS_MAXOPENCONNS"
        | "MM_SQLSETTINGS_QUERYTIMEOUT"
        | "MM_TEAMSETTINGS_MAXUSERSPERTEAM"
        | "MM_TEAMSETTINGS_MAXCHANNELSPERTEAM"
        | "MM_FILESETTINGS_MAXFILESIZE" => (at_least(1), "1 or more"),
        "MM_EMAILSETTINGS_EMAILNOTIFICATIONCONTENTSTYPE" => (one_of(&["full", "generic"]), "full or generic"),
        "MM_TEAMSETTINGS_RESTRICTDIRECTMESSAGE" => (one_of(&["any", "team"]), "any or team"),
        "MM_TEAMSETTINGS_TEAMMATENAMEDISPLAY" => {
            (one_of(&["username", "nickname_full_name", "full_name"]), "username, nickname_full_name or full_name")
        }
        "MM_SERVICESETTINGS_WEBSERVERMODE" => (one_of(&["gzip", "uncompressed", "disabled"]), "gzip, uncompressed or disabled"),
        "MM_FILESETTINGS_DRIVERNAME" => (one_of(&["local", "amazons3"]), "local or amazons3"),
        "MM_SQLSETTINGS_DRIVERNAME" => (value == "postgres", "postgres: Mattermost 11 knows no other database"),
        "MM_LDAPSETTINGS_CONNECTIONSECURITY" => (one_of(&["", "TLS", "STARTTLS"]), "TLS, STARTTLS or nothing"),
        _ => return None,
    };
    (!good).then_some(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_dropped_is_one_that_the_server_does_not_know_or_the_stack_decides() {
        for (beginning, _) in REMOVED {
            assert_eq!(KNOWN.iter().find(|name| name.starts_with(beginning)), None, "{beginning} is there");
        }
        for (name, right, _) in RENAMED {
            assert!(mattermost_settings::form(name).is_err() && mattermost_settings::form(right).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_rule_gives_names_that_the_server_knows() {
        for (key, name) in [
            ("service_maximum_login_attempts", "MM_SERVICESETTINGS_MAXIMUMLOGINATTEMPTS"),
            ("team_teammate_name_display", "MM_TEAMSETTINGS_TEAMMATENAMEDISPLAY"),
            ("file_amazon_s3_bucket", "MM_FILESETTINGS_AMAZONS3BUCKET"),
            ("guest_accounts_enable", "MM_GUESTACCOUNTSSETTINGS_ENABLE"),
            ("webrtc_enable", "MM_WEBRTCSETTINGS_ENABLE"),
            ("nonsense", "MM_NONSENSE"),
        ] {
            assert_eq!(by_rule(key), name);
        }
    }
}
