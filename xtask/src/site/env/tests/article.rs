//! The article's env file, line by line, and the mistakes of its scripts 01 and 02, with what ours does.

use super::*;
use crate::site::compose::{Content, Reach, compose};
use crate::site::model::PerService;
use crate::site::pki::certificate::Certificate;
use crate::site::pki::files::mode_of;
use crate::site::pki::found::Found;
use crate::site::pki::plan::{Ask, Ca, plan};
use crate::site::pki::{Wanted, testing};

/// What of a line of the article's file stays.
enum Row {
    /// The value is good.
    Kept,
    /// The value was wrong, or another is meant; this is ours, and why.
    Mended(&'static str, &'static str),
    /// It has to be out of sight.
    Hidden(&'static str),
    /// It is the person's choice, and off until they make it.
    Chosen(&'static str),
}

use Row::{Chosen, Hidden, Kept, Mended};

/// Name, the article's value, ours. `LAN` is the address.
const LINES: [(&str, &str, Row); 38] = [
    ("MM_SQLSETTINGS_DRIVERNAME", "postgres", Kept),
    (
        "MM_SQLSETTINGS_DATASOURCE",
        "postgres://mattermost:$MATTERMOST_DB_PASSWORD@postgres.cicd.local:5432/mattermost?sslmode=verify-full&connect_timeout=10",
        Hidden(
            "postgres://mattermost:p%40ss%2Fw%3Ard%2541%24%23%3F%26%2B@postgres.mattermost.cicd.local:5432/mattermost?sslmode=verify-full&connect_timeout=10",
        ),
    ),
    ("MM_SERVICESETTINGS_SITEURL", "https://mattermost.cicd.local:8065", Kept),
    ("MM_SERVICESETTINGS_LISTENADDRESS", ":8065", Kept),
    (
        "MM_SERVICESETTINGS_ALLOWEDUNTRUSTEDINTERNALCONNECTIONS",
        "\"127.0.0.1/8 172.30.0.0/24 LAN/32\"",
        Mended("LAN/32", "quotes are part of the value; neither the container itself nor a whole network is anybody's webhook"),
    ),
    ("MM_SERVICESETTINGS_CONNECTIONSECURITY", "TLS", Kept),
    (
        "MM_SERVICESETTINGS_TLSCERTFILE",
        "/mattermost/certs/cert.pem",
        Mended("/run/secrets/mattermost-cert.pem", "a volume, not a bind mount"),
    ),
    ("MM_SERVICESETTINGS_TLSKEYFILE", "/mattermost/certs/key.pem", Mended("/run/secrets/mattermost-key.pem", "a volume, not a bind mount")),
    ("MM_SERVICESETTINGS_ENABLELOCALMODE", "true", Kept),
    ("MM_EMAILSETTINGS_PUSHNOTIFICATIONCONTENTS", "id_loaded", Mended("generic", "needs a licence; [push] sets it")),
    ("MM_FILESETTINGS_PUBLICLINKSALT", "$MATTERMOST_PUBLIC_LINK_SALT", Hidden("salt-of-public-links-of-the-test")),
    ("MM_SQLSETTINGS_ATRESTENCRYPTKEY", "$MATTERMOST_AT_REST_KEY", Hidden("at-rest-key-of-the-test-32-chars")),
    ("MM_SERVICESETTINGS_ENABLELATEX", "true", Kept),
    ("MM_SERVICESETTINGS_ENABLEINLINELATEX", "true", Kept),
    ("MM_SERVICESETTINGS_COLLAPSEDTHREADS", "default_on", Kept),
    ("MM_SERVICESETTINGS_ENABLECUSTOMGROUPS", "true", Kept),
    ("MM_ANNOUNCEMENTSETTINGS_ENABLEBANNER", "true", Chosen("banner = \"Systems Operational\"")),
    (
        "MM_ANNOUNCEMENTSETTINGS_BANNERTEXT",
        "\"🚀 CI/CD City: Systems Operational\"",
        Mended("🚀 CI/CD City: Systems Operational", "quotes are part of the value"),
    ),
    ("MM_ANNOUNCEMENTSETTINGS_BANNERCOLOR", "\"#20a83b\"", Mended("#20a83b", "quotes are part of the value, and no colour")),
    ("MM_METRICSSETTINGS_ENABLE", "true", Kept),
    ("MM_METRICSSETTINGS_LISTENADDRESS", ":8067", Kept), // published on loopback alone: compose.rs
    ("MM_GUESTACCOUNTSSETTINGS_ENABLE", "true", Chosen("guests = true")),
    ("MM_SERVICESETTINGS_ENABLEBOTACCOUNTCREATION", "true", Kept),
    ("MM_SERVICESETTINGS_ENABLEUSERACCESSTOKENS", "true", Kept),
    ("MM_SERVICESETTINGS_ENABLEMULTIFACTORAUTHENTICATION", "true", Kept),
    ("MM_SERVICESETTINGS_POSTPRIORITY", "true", Kept),
    ("MM_SERVICESETTINGS_ENABLECUSTOMEMOJI", "true", Kept),
    (
        "MM_PLUGINSETTINGS_PLUGINSTATES",
        r#"{"playbooks":{"Enable":true},"focalboard":{"Enable":true},"com.mattermost.calls":{"Enable":true},"mattermost-ai":{"Enable":true},"com.github.manland.mattermost-plugin-gitlab":{"Enable":true},"jenkins":{"Enable":true}}"#,
        Mended(
            r#"{"com.github.manland.mattermost-plugin-gitlab":{"Enable":true},"com.mattermost.calls":{"Enable":true},"com.mattermost.nps":{"Enable":false},"focalboard":{"Enable":true},"jenkins":{"Enable":true},"mattermost-ai":{"Enable":false},"playbooks":{"Enable":true}}"#,
            "agents ask language models outside and are not in the image",
        ),
    ),
    ("MM_CALLS_UDP_SERVER_PORT", "8444", Kept),
    ("MM_CALLS_TCP_SERVER_PORT", "8444", Kept),
    (
        "MM_CALLS_ICE_SERVERS_CONFIGS",
        r#"[{"urls":["turn:LAN:3478"],"username":"mattermost","credential":"$MATTERMOST_TURN_SECRET"}]"#,
        Mended(
            r#"[{"urls":["turn:LAN:3478?transport=udp","turn:LAN:3478?transport=tcp","turns:mattermost.cicd.local:5349?transport=tcp"]}]"#,
            "a fixed credential is refused by coturn (401), and was the shared secret itself, for every client to see",
        ),
    ),
    ("MM_CALLS_TURN_STATIC_AUTH_SECRET", "", Hidden("turn-secret-of-the-test")),
    ("MM_CALLS_ICE_HOST_OVERRIDE", "LAN", Kept),
    ("MM_CALLS_DEFAULT_ENABLED", "true", Kept),
    ("MM_CALLS_ALLOW_SCREEN_SHARING", "true", Kept),
    ("MM_CALLS_ICE_HOST_PORT_OVERRIDE", "8444", Kept),
    ("MM_SERVICESETTINGS_ALLOWCORSFROM", "*", Mended("https://LAN:8065", "* takes the check of origins away, for every page there is")),
    ("MM_SERVICESETTINGS_ENABLEINSECUREOUTGOINGCONNECTIONS", "true", Mended("false", "it made the private CA pointless")),
];

const LAN: &str = "192.168.1.20";
const TOOLS: &str = "[jenkins]\nurl = \"https://192.168.1.20\"\n[gitlab]\nurl = \"https://192.168.1.20\"\n[mattermost]\n";

#[test]
fn every_line_of_the_articles_file_is_kept_or_mended() {
    let banner = "banner = \"🚀 CI/CD City: Systems Operational\"\n";
    let env = mattermost(&format!("{TOOLS}{banner}"));
    let plain = mattermost(TOOLS);
    for (name, theirs, row) in LINES {
        let ours = value(&env, name);
        let hidden = env.secret_settings().any(|(known, _)| known == name);
        let with_lan = |text: &str| text.replace("LAN", LAN);
        match row {
            Kept => assert_eq!(ours, Some(with_lan(theirs)), "{name}"),
            Mended(wanted, why) => {
                assert_eq!(ours, Some(with_lan(wanted)), "{name}: {why}");
                assert_ne!(theirs, wanted, "{name} is kept");
            }
            Hidden(wanted) => assert_eq!((ours.as_deref(), hidden), (Some(wanted), true), "{name}"),
            Chosen(line) => {
                assert_eq!(value(&plain, name).as_deref(), Some("false"), "{name} until somebody chooses");
                assert_eq!(value(&mattermost(&format!("{TOOLS}{line}\n")), name).as_deref(), Some(theirs), "{name} with {line}");
            }
        }
        assert!(matches!(row, Hidden(_)) || !hidden, "{name} is hidden");
    }
}

/// What the server does with it: whitespace separates, each a block (Go's `net.ParseCIDR`) or a host name.
#[test]
fn what_may_be_asked_parses_as_the_server_reads_it() {
    let list = value(&mattermost(EVERYTHING), "MM_SERVICESETTINGS_ALLOWEDUNTRUSTEDINTERNALCONNECTIONS").expect("set");
    for entry in list.split(' ') {
        let block =
            entry.split_once('/').is_some_and(|(address, bits)| address.parse::<std::net::IpAddr>().is_ok() && bits.parse::<u8>().is_ok());
        let name = entry.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) && entry.parse::<std::net::IpAddr>().is_err();
        assert!(block || name, "{entry}");
    }
}

#[test]
fn origins_are_those_that_browsers_send() {
    for text in [EVERYTHING, "", "[ports]\nmattermost = 443\n"] {
        let env = mattermost(text);
        let site_url = value(&env, "MM_SERVICESETTINGS_SITEURL").expect("set");
        assert!(!site_url.ends_with('/') && !site_url.ends_with(":443"), "{site_url}");
        for origin in value(&env, "MM_SERVICESETTINGS_ALLOWCORSFROM").expect("set").split(' ') {
            let url: url::Url = origin.parse().expect("a URL");
            assert_eq!(url.origin().ascii_serialization(), origin);
            assert_ne!(origin, site_url, "the server adds its own");
        }
    }
}

type Guard = fn() -> bool;

/// Each mistake of scripts 01 and 02 that concerns settings and secrets.
#[test]
fn the_mistakes_of_scripts_01_and_02_in_settings_cannot_be_made() {
    fn of(service: Service, name: &str) -> String {
        value(&envs(EVERYTHING)[&service], name).unwrap_or_default()
    }
    let rows: [(&str, Guard); 17] = [
        ("01: the address is the first that `hostname -I` happens to print", || {
            of(Service::Mattermost, "MM_CALLS_ICE_HOST_OVERRIDE") == LAN
        }),
        ("01: the password stands in the DSN as it is, and `@`, `/`, `%`, `$` break it", || {
            let source = of(Service::Mattermost, "MM_SQLSETTINGS_DATASOURCE");
            let url: url::Url = source.parse().expect("a URL");
            url.host_str() == Some("postgres.mattermost.cicd.local") && !source.contains("p@ss") && !source.contains('$')
        }),
        ("01: secrets are appended to a file that others can read, which is then sourced", || {
            let root = tempfile::tempdir().expect("a folder");
            let folder = crate::site::Folder::new(root.path());
            let changes = super::super::files::changes(&folder, &secrets(), &envs(""), false).expect("readable");
            folder.journal().change(&super::super::files::entries(&folder, &changes, false).expect("new")).expect("written");
            std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(folder.secrets()).expect("there").permissions()) & 0o777 == 0o600
        }),
        ("01: a secret that is there twice is there twice", || Secrets::parse(&format!("{SECRETS}{SECRETS}"), "f").is_err()),
        ("01: sourcing runs what stands in the file", || {
            crate::site::secrets::import("MATTERMOST_TURN_SECRET=$(touch /tmp/x)", "f").is_err()
        }),
        ("01: quotes become part of values", || {
            envs(EVERYTHING).values().flat_map(ServiceEnv::settings).all(|(_, value)| !entrypoint::secret::is_quoted(value))
        }),
        ("01: outgoing TLS is not checked", || of(Service::Mattermost, "MM_SERVICESETTINGS_ENABLEINSECUREOUTGOINGCONNECTIONS") == "false"),
        ("01: every page may open the web socket", || !of(Service::Mattermost, "MM_SERVICESETTINGS_ALLOWCORSFROM").contains('*')),
        ("01: a plugin is named that does not exist", || {
            !of(Service::Mattermost, "MM_PLUGINSETTINGS_PLUGINSTATES").contains("com.mattermost.plugin-jenkins")
        }),
        ("01: what the edition does not have is silently inert", || {
            let text = mattermost("edition = \"team\"\n").text(Service::Mattermost).expect("a text");
            let remark = text.split_once("# Without effect in the team edition:").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
            [
                "MM_METRICSSETTINGS_ENABLE",
                "MM_GUESTACCOUNTSSETTINGS_ENABLE",
                "MM_ANNOUNCEMENTSETTINGS_ENABLEBANNER",
                "MM_SERVICESETTINGS_ENABLECUSTOMGROUPS",
            ]
            .iter()
            .all(|name| remark.contains(&format!("#   {name}\n")))
        }),
        ("01: plugin keys are hexadecimal, 128 bits in 32 characters", || {
            let mut secrets = Secrets::default();
            secrets.fill(|name| name == Name::JenkinsPluginKey, &mut crate::site::secrets::system_random).expect("filled");
            let key = secrets.get(Name::JenkinsPluginKey).expect("made").expose();
            key.len() == 32 && key.chars().any(|c| !c.is_ascii_hexdigit())
        }),
        ("02: the secret is an argument, for `ps` and `inspect`", || {
            let env = &envs("")[&Service::Coturn];
            !format!("{env:?}").contains("turn-secret") && env.secret_files()["turn"].expose() == "turn-secret-of-the-test"
        }),
        ("02: a secret with `$`, a quote or a blank reaches coturn changed", || {
            ["turn$HOME-and-more-of-it", "turn secret of the test", "turn`id`secret-of-it", "it's-a-secret-of-the-test"]
                .iter()
                .all(|secret| Secrets::parse(&format!("MATTERMOST_TURN_SECRET={secret}"), "f").is_err())
        }),
        ("02: it listens on every address", || of(Service::Coturn, "COTURN_LISTENING_IP") == LAN),
        ("02: it relays to everybody on the LAN", || of(Service::Coturn, "COTURN_ALLOWED_PEER_IP") == LAN),
        ("02: no TLS", || of(Service::Coturn, "COTURN_TLS") == "on"),
        ("02: 16,000 relay ports, and no quota", || {
            let number = |name| of(Service::Coturn, name).parse::<u32>().expect("a number");
            number("COTURN_MAX_PORT") - number("COTURN_MIN_PORT") == 40 && number("COTURN_USER_QUOTA") > 0 && number("COTURN_MAX_BPS") > 0
        }),
    ];
    for (mistake, impossible) in rows {
        assert!(impossible(), "{mistake}");
    }
}

/// Each of their mistakes that concerns certificates and containers.
#[test]
fn the_mistakes_of_scripts_01_and_02_in_certificates_and_containers_cannot_be_made() {
    const COTURN: &str = include_str!("../../../../../images/coturn/src/settings.rs");
    const MATTERMOST_IMAGE: &str = include_str!("../../../../../images/mattermost/image.toml");
    const COTURN_IMAGE: &str = include_str!("../../../../../images/coturn/image.toml");
    fn mattermosts(found: &Found) -> &Certificate {
        &found.pairs["mattermost"].chain[0]
    }
    fn changes(wanted: &Wanted, now: time::OffsetDateTime) -> usize {
        plan(&testing::complete(), wanted, Ask::default(), now, &mut testing::open).expect("a plan").changes.len()
    }
    fn container(service: &str) -> Value {
        let images = PerService { coturn: "sha256:1234".to_owned(), ..PerService::default() };
        let content = Content { images, secrets: PerService::default(), settings: PerService::default() };
        let file: Value = serde_json::from_str(&compose(&site(""), &content, Reach::Lan).text()).expect("JSON");
        file["services"][service].clone()
    }
    let rows: [(&str, Guard); 19] = [
        ("01: the CA's passphrase stands in the script, and in `ps`", || {
            let certs = <crate::cli::certs::Args as clap::Args>::augment_args(clap::Command::new("certs"));
            let all =
                certs.get_subcommands().chain([&certs]).flat_map(clap::Command::get_arguments).map(|argument| argument.get_id().as_str());
            let named: Vec<&str> = all.filter(|id| id.contains("pass")).collect();
            named.len() > 1 && named.iter().all(|id| *id == "ca_passphrase_file")
        }),
        ("01: a certificate stays when the address has changed", || {
            let mut wanted = testing::wanted();
            wanted.services[0].addresses.push(std::net::Ipv4Addr::new(192, 168, 1, 77).into());
            changes(&testing::wanted(), testing::NOW) == 0 && changes(&wanted, testing::NOW) == 2
        }),
        ("01: a certificate stays when it has ended", || changes(&testing::wanted(), testing::NOW + time::Duration::days(398)) > 0),
        ("01: no extended key usage, which Apple asks for", || mattermosts(&testing::complete()).server_auth == Some(true)),
        ("01: the chain is not in the server's file", || {
            let ask = Ask { ca: Ca::Existing(Box::new(testing::company_authority())), ..Ask::default() };
            let made = plan(&Found::default(), &testing::wanted(), ask, testing::NOW, &mut testing::open).expect("a plan").changes;
            testing::applied(&made, Found::default()).pairs["mattermost"].chain.len() > 1
        }),
        ("01: a key is copied, and then closed", || mode_of("mattermost-key.pem") == 0o600 && mode_of("ca-key.pem") == 0o600),
        ("01: `docker ps -f name=postgres` finds every container with that in its name", || {
            let filter = crate::engine::project::labelled("com.docker.compose.project", "chatops");
            filter.keys().eq(["label"]) && filter["label"] == ["com.docker.compose.project=chatops"]
        }),
        ("01: a database that does not answer is \"verified\"", || {
            MATTERMOST_IMAGE.contains("entrypoint = [\"/usr/local/bin/mattermost-entrypoint\"]")
                && include_str!("../../../../../images/mattermost/src/main.rs").contains("the database did not answer within 120 s")
        }),
        ("01: what the console says about plugins is lost without a word", || {
            let text = mattermost("").text(Service::Mattermost).expect("a text");
            text.contains("what the console changes here does not stay")
        }),
        ("02: whatever `coturn/coturn` is today", || {
            container("coturn")["image"] == "sha256:1234" && container("coturn")["pull_policy"] == "never"
        }),
        ("02: arguments go through the image's `eval`", || {
            let coturn = container("coturn");
            coturn["command"].is_null()
                && coturn["entrypoint"].is_null()
                && COTURN_IMAGE.contains("entrypoint = [\"/usr/local/bin/coturn-entrypoint\"]")
        }),
        ("02: no fingerprint", || COTURN.contains("\\nfingerprint\"")),
        ("02: whoever has a credential reaches every machine", || COTURN.contains("\"denied-peer-ip=0.0.0.0-255.255.255.255\"")),
        ("02: and every multicast group", || COTURN.contains("\"no-multicast-peers")),
        ("02: TCP is relayed without a limit", || COTURN.contains("no-tcp-relay\"")),
        ("02: no health check", || COTURN_IMAGE.contains("[config.healthcheck]")),
        ("02: an external address that is the listening one", || {
            envs("")[&Service::Coturn].settings().all(|(name, _)| !name.contains("EXTERNAL"))
                && container("coturn")["network_mode"] == "host"
        }),
        ("02: a name that others have a part of, `name=coturn`", || {
            // Compose names containers after the project, so that two sites share none.
            let content = Content { images: PerService::default(), secrets: PerService::default(), settings: PerService::default() };
            compose(&site("project = \"other\"\n"), &content, Reach::Lan).text().contains("\"name\": \"other\"")
                && container("coturn")["container_name"].is_null()
        }),
        ("02: what nobody has checked is restarted for ever", || {
            let text = "format = 1\naddresses = [\"192.168.1.20\"]\n[ports]\nrelay = [49200, 49160]\n";
            parse("site.toml", text, || unreachable!()).is_err()
        }),
    ];
    for (mistake, impossible) in rows {
        assert!(impossible(), "{mistake}");
    }
}
