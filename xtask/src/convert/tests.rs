//! GitLab's page, converted: one test for each row of its table of exceptions, and for each heading that sets something.

use super::report::{Outcome, Report};
use super::*;
use crate::site::secrets::Name;
use crate::site::{Site, parse};

/// What a file comes to: the site as it is read back, the draft, and the report.
struct Made {
    draft: Draft,
    site: Site,
    report: Report,
}

fn made(draft: Draft) -> Made {
    let toml = draft.toml("gitlab.rb");
    let site = parse("site.toml", &toml, || Ok(vec!["192.168.1.20".parse().unwrap()])).unwrap_or_else(|error| panic!("{toml}\n{error}"));
    assert_eq!(draft.unanswered(), [""; 0], "{toml}");
    Made { report: draft.report("gitlab.rb"), site, draft }
}

fn ruby(text: &str) -> Made {
    made(gitlab_rb::read(text, "gitlab.rb").unwrap())
}

fn config(value: &Value) -> Made {
    made(config_json::read(&value.to_string(), "config.json").unwrap())
}

impl Made {
    fn extra(&self, name: &str) -> Option<&str> {
        self.site.mattermost.extra.get(name).map(String::as_str)
    }

    fn row(&self, setting: &str) -> (Outcome, Vec<&str>, String) {
        let row = self
            .report
            .settings
            .iter()
            .find(|row| row.setting == setting)
            .unwrap_or_else(|| panic!("{setting} is not in {:?}", self.report));
        (row.outcome, row.to.iter().map(String::as_str).collect(), row.remarks.join("; "))
    }

    fn is(&self, setting: &str, outcome: Outcome, remark: &str) {
        let (found, _, said) = self.row(setting);
        assert_eq!(found, outcome, "{setting}: {said}");
        assert!(said.contains(remark), "{setting}: expected {remark:?} in {said:?}");
    }

    fn secret(&self, name: Name) -> Option<&str> {
        self.draft.secrets.get(&name).map(crate::site::secrets::Secret::expose)
    }
}

/// A row of the page's table: what is written, which name of the environment has which value then, and what is said of it.
fn exception(key: &str, value: &str, name: &str, wanted: Result<&str, &str>, remark: &str) {
    let on_page = GITLABS_TABLE.iter().find(|(written, _)| *written == key).expect("a row of the page");
    assert_eq!(names::by_rule(key), on_page.1, "the page says so");
    let made = ruby(&format!("mattermost['{key}'] = {value}"));
    let setting = format!("mattermost['{key}']");
    match wanted {
        Ok(wanted) => {
            assert_eq!(made.extra(name), Some(wanted));
            let outcome = if remark.is_empty() { Outcome::Applied } else { Outcome::Mapped };
            made.is(&setting, outcome, remark);
            assert!(made.row(&setting).1.contains(&format!("mattermost.extra.{name}").as_str()));
        }
        Err(why) => {
            assert_eq!(made.site.mattermost.extra.len(), 0);
            made.is(&setting, Outcome::Dropped, why);
        }
    }
}

/// The table as the page has it, mistakes and all.
const GITLABS_TABLE: [(&str, &str); 16] = [
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

macro_rules! exceptions {
    ($($test:ident: $key:literal = $value:literal => $name:literal, $wanted:expr, $remark:literal;)*) => {
        $(#[test]
        fn $test() {
            exception($key, $value, $name, $wanted, $remark);
        })*

        #[test]
        fn every_row_of_the_table_has_a_test() {
            assert_eq!([$($key),*], GITLABS_TABLE.map(|(key, _)| key));
        }
    };
}

exceptions! {
    row_lets_encrypt_cache_file: "service_lets_encrypt_cert_cache_file" = "'./c'"
        => "MM_SERVICESETTINGS_LETSENCRYPTCERTIFICATECACHEFILE", Ok("./c"), "";
    row_user_access_tokens: "service_user_access_tokens" = "true" => "MM_SERVICESETTINGS_ENABLEUSERACCESSTOKENS", Ok("true"), "";
    row_log_console: "log_console_enable" = "false" => "MM_LOGSETTINGS_ENABLECONSOLE", Ok("false"), "";
    row_email_batching: "email_enable_batching" = "true" => "MM_EMAILSETTINGS_ENABLEEMAILBATCHING", Ok("true"), "";
    row_batching_buffer: "email_batching_buffer_size" = "256" => "MM_EMAILSETTINGS_EMAILBATCHINGBUFFERSIZE", Ok("256"), "";
    row_batching_interval: "email_batching_interval" = "30" => "MM_EMAILSETTINGS_EMAILBATCHINGINTERVAL", Ok("30"), "";
    row_smtp_auth: "email_smtp_auth" = "false" => "MM_EMAILSETTINGS_ENABLESMTPAUTH", Ok("false"), "";
    row_notification_content: "email_notification_content_type" = "'full'"
        => "MM_EMAILSETTINGS_EMAILNOTIFICATIONCONTENTSTYPE", Ok("full"), "which no server ever read";
    row_rate_limiter: "ratelimit_enable_ratelimiter" = "true" => "MM_RATELIMITSETTINGS_ENABLE", Ok("true"), "";
    row_support_email: "support_email" = "'a@example.com'" => "MM_SUPPORTSETTINGS_SUPPORTEMAIL", Ok("a@example.com"), "";
    row_server_locale: "localization_server_locale" = "'de'" => "MM_LOCALIZATIONSETTINGS_DEFAULTSERVERLOCALE", Ok("de"), "";
    row_client_locale: "localization_client_locale" = "'fr'" => "MM_LOCALIZATIONSETTINGS_DEFAULTCLIENTLOCALE", Ok("fr"), "";
    row_stun_uri: "webrtc_gateway_stun_uri" = "'stun:x'" => "", Err("the Calls plugin and the site's own relay take their place"), "";
    row_turn_uri: "webrtc_gateway_turn_uri" = "'turn:x'" => "", Err("the Calls plugin"), "";
    row_turn_username: "webrtc_gateway_turn_username" = "'u'" => "", Err("the Calls plugin"), "";
    row_turn_shared_key: "webrtc_gateway_turn_sharedkey" = "'hush'" => "", Err("the Calls plugin"), "";
}

/// The two texts of "Upgrading GitLab Mattermost from versions prior to 11.0": setting, value, and the variable that the page makes of it.
const OLD_AND_NEW: [(&str, &str, &str); 11] = [
    ("service_maximum_login_attempts", "10", "MM_SERVICESETTINGS_MAXIMUMLOGINATTEMPTS"),
    ("team_teammate_name_display", "\"full_name\"", "MM_TEAMSETTINGS_TEAMMATENAMEDISPLAY"),
    ("sql_max_idle_conns", "10", "MM_SQLSETTINGS_MAXIDLECONNS"),
    ("log_file_level", "'INFO'", "MM_LOGSETTINGS_FILELEVEL"),
    ("email_batching_interval", "30", "MM_EMAILSETTINGS_BATCHINGINTERVAL"),
    ("file_enable_file_attachments", "true", "MM_FILESETTINGS_ENABLEFILEATTACHMENTS"),
    ("ratelimit_memory_store_size", "10000", "MM_RATELIMITSETTINGS_MEMORYSTORESIZE"),
    ("support_terms_of_service_link", "\"/static/help/terms.html\"", "MM_SUPPORTSETTINGS_TERMSOFSERVICELINK"),
    ("privacy_show_email_address", "true", "MM_PRIVACYSETTINGS_SHOWEMAILADDRESS"),
    ("localization_available_locales", "\"en,es,fr,ja,pt-BR\"", "MM_LOCALIZATIONSETTINGS_AVAILABLELOCALES"),
    ("webrtc_enable", "false", "MM_WEBRTCSETTINGS_ENABLE"),
];

#[test]
fn heading_upgrading_from_before_11_both_texts_come_to_the_same_site() {
    let old: String = OLD_AND_NEW.iter().map(|(key, value, _)| format!("mattermost['{key}'] = {value}\n")).collect();
    let new: Vec<String> =
        OLD_AND_NEW.iter().map(|(_, value, name)| format!("'{name}' => '{}'", value.trim_matches(['"', '\'']))).collect();
    let (old, new) = (ruby(&old), ruby(&format!("mattermost['env'] = {{\n    {}\n}}", new.join(",\n    "))));
    assert_eq!(old.site, new.site);
    assert_eq!(old.site.mattermost.extra.len(), 10, "all but WebRTC");
    assert_eq!(old.extra("MM_EMAILSETTINGS_EMAILBATCHINGINTERVAL"), Some("30"));
    new.is("mattermost['env']['MM_EMAILSETTINGS_BATCHINGINTERVAL']", Outcome::Mapped, "MM_EMAILSETTINGS_EMAILBATCHINGINTERVAL is meant");
    new.is("mattermost['env']['MM_WEBRTCSETTINGS_ENABLE']", Outcome::Dropped, "Calls");
    old.is("mattermost['webrtc_enable']", Outcome::Dropped, "Calls");
    let extra = crate::site::env::environments(&old.site, &complete(&old.site)).expect("the server takes all of it");
    let mattermost = &extra[&crate::site::Service::Mattermost];
    assert!(mattermost.settings().any(|setting| setting == ("MM_SUPPORTSETTINGS_TERMSOFSERVICELINK", "/static/help/terms.html")));
}

fn complete(site: &Site) -> crate::site::secrets::Secrets {
    let mut secrets = crate::site::secrets::Secrets::default();
    secrets.fill(crate::site::env::wanted(site), &mut crate::site::secrets::system_random).unwrap();
    secrets
}

#[test]
fn heading_getting_started() {
    let made = ruby("mattermost_external_url 'https://mattermost.example.com'");
    assert_eq!((made.site.name.as_str(), made.site.url().as_str()), ("mattermost.example.com", "https://mattermost.example.com"));
    made.is("mattermost_external_url", Outcome::Applied, "");
    assert_eq!(made.report.next.len(), 1, "GitLab 19 stops at line 1: {:?}", made.report.next);
}

#[test]
fn heading_https() {
    let made = ruby(
        "mattermost_external_url 'https://mattermost.gitlab.example'\nmattermost_nginx['redirect_http_to_https'] = true\n\
         mattermost_nginx['ssl_certificate'] = \"/etc/gitlab/ssl/mattermost-nginx.crt\"\n\
         mattermost_nginx['ssl_certificate_key'] = \"/etc/gitlab/ssl/mattermost-nginx.key\"\n",
    );
    assert_eq!((made.site.ports.mattermost, made.site.ports.redirect_http), (443, Some(80)));
    made.is("mattermost_nginx['redirect_http_to_https']", Outcome::Applied, "");
    for file in ["ssl_certificate", "ssl_certificate_key"] {
        made.is(&format!("mattermost_nginx['{file}']"), Outcome::Mapped, "cargo xtask certs --cert");
    }
}

#[test]
fn heading_its_own_server() {
    let made = ruby(
        "mattermost_external_url 'http://mattermost.example.com'\n\n# Shut down GitLab services on the Mattermost server\n\
         gitlab_rails['enable'] = false\nredis['enable'] = false\npostgres_exporter['enable'] = false\ngrafana['enable'] = false\n\
         gitlab_rails['mattermost_host'] = \"https://mattermost.example.com\"\n",
    );
    made.is("mattermost_external_url", Outcome::Mapped, "HTTPS alone; port 80 redirects");
    assert_eq!((made.site.url().as_str(), made.site.ports.redirect_http), ("https://mattermost.example.com", Some(80)));
    assert_eq!(made.report.left_alone, 4);
    made.is("gitlab_rails['mattermost_host']", Outcome::Dropped, "stays in gitlab.rb");
}

const AUTHORIZE: &str = "mattermost['gitlab_enable'] = true\nmattermost['gitlab_id'] = \
    \"12345656\"\nmattermost['gitlab_secret'] = \"123456789\"\n\
    mattermost['gitlab_scope'] = \"read_user\"\nmattermost['gitlab_auth_endpoint'] = \"http://gitlab.example.com/oauth/authorize\"\n\
    mattermost['gitlab_token_endpoint'] = \"http://gitlab.example.com/oauth/token\"\n\
    mattermost['gitlab_user_api_endpoint'] = \"http://gitlab.example.com/api/v4/user\"\n";

#[test]
fn heading_authorize() {
    let made = ruby(AUTHORIZE);
    let gitlab = made.site.gitlab.as_ref().unwrap();
    assert_eq!((gitlab.url.as_str(), gitlab.sign_in), ("http://gitlab.example.com/", true));
    assert_eq!((made.secret(Name::GitlabOauthId), made.secret(Name::GitlabOauthSecret)), (Some("12345656"), Some("123456789")));
    made.is("mattermost['gitlab_enable']", Outcome::Mapped, "shows no button");
    made.is("mattermost['gitlab_token_endpoint']", Outcome::Applied, "");
    assert!(made.report.next[0].contains("/signup/gitlab/complete"), "{:?}", made.report.next);
    assert_eq!(made.site.mattermost.extra.len(), 0, "the site derives the rest");
    for shown in [made.report.markdown(), made.report.json(), format!("{:?}", made.draft), made.draft.toml("gitlab.rb")] {
        assert!(!shown.contains("123456789"), "a secret stands in {shown}");
    }
}

#[test]
fn sign_in_without_a_secret_stays_off_and_an_odd_address_stays_what_it_is() {
    let made = ruby(&AUTHORIZE.replace("mattermost['gitlab_secret']", "# no").replace("com/oauth/token", "internal/oauth/token"));
    assert!(!made.site.gitlab.as_ref().unwrap().sign_in);
    made.is("mattermost['gitlab_enable']", Outcome::Mapped, "gitlab-secrets.json");
    assert_eq!(made.extra("MM_GITLABSETTINGS_TOKENENDPOINT"), Some("http://gitlab.example.internal/oauth/token"));
    let made = ruby("external_url 'https://gitlab.example.com'\n");
    made.is("external_url", Outcome::Mapped, "GitLab's own address");
    assert_eq!(made.site.gitlab.unwrap().url.as_str(), "https://gitlab.example.com/");
}

#[test]
fn heading_user_and_group() {
    let made = ruby("mattermost['uid'] = 1234\nmattermost['gid'] = 1234\n");
    let account = made.site.accounts.mattermost;
    assert_eq!((account.uid, account.gid), (1234, 1234));
    made.is("mattermost['uid']", Outcome::Applied, "");
    ruby("mattermost['uid'] = 0").is("mattermost['uid']", Outcome::Dropped, "neither of them 0");
    ruby("mattermost['uid'] = nil").is("mattermost['uid']", Outcome::Dropped, "nil: the default counts");
    ruby("mattermost['gid'] = 5").is("mattermost['gid']", Outcome::Mapped, "the other of uid and gid is 2000");
}

#[test]
fn heading_custom_environment_variables() {
    let made =
        ruby("mattermost['env'] = {\"HTTP_PROXY\" => \"my_proxy\", \"HTTPS_PROXY\" => \"my_proxy\", \"NO_PROXY\" => \"my_no_proxy\"}");
    let proxy = made.site.proxy.as_ref().unwrap();
    assert_eq!(proxy.http.as_ref().unwrap().as_str(), "http://my_proxy/");
    assert_eq!(proxy.https.as_ref().unwrap().as_str(), "http://my_proxy/");
    assert_eq!(proxy.none, ["my_no_proxy"]);
    made.is("mattermost['env']['HTTP_PROXY']", Outcome::Mapped, "without a scheme");
    made.is("mattermost['env']['NO_PROXY']", Outcome::Applied, "");
    let made = ruby("mattermost['env'] = { 'https_proxy' => 'http://me:hush@proxy:3128', 'TZ' => 'UTC', 'SSL_CERT_FILE' => '/x' }");
    made.is("mattermost['env']['https_proxy']", Outcome::Dropped, "neither a user nor a query");
    made.is("mattermost['env']['TZ']", Outcome::Dropped, "settings of Mattermost's alone");
    made.is("mattermost['env']['SSL_CERT_FILE']", Outcome::Dropped, "images --ca");
    assert!(!made.report.json().contains("hush"));
}

#[test]
fn heading_bundled_postgresql() {
    let made = ruby(
        "mattermost['database_name'] = 'mattermost_production'\nmattermost['sql_driver_name'] = 'postgres'\n\
         mattermost['sql_data_source'] = \"user=gitlab_mattermost host=/var/opt/gitlab/postgresql port=5432 \
         dbname=mattermost_production\"\n",
    );
    let database = &made.site.database;
    assert_eq!((database.role.as_str(), database.name.as_str()), ("gitlab_mattermost", "mattermost_production"));
    assert!(database.external.is_none());
    made.is("mattermost['sql_data_source']", Outcome::Mapped, "the site has its own");
    let made = ruby("mattermost['database_name'] = 'mattermost_production'");
    assert_eq!(made.site.database.name, "mattermost_production");
    let made = ruby(
        "mattermost['sql_driver_name'] = 'mysql'\nmattermost['sql_data_source'] = \
            \"mmuser:mostest@tcp(dockerhost:3306)/mattermost_test?charset=utf8mb4,utf8\"",
    );
    made.is("mattermost['sql_driver_name']", Outcome::Dropped, "PostgreSQL alone");
    made.is("mattermost['sql_data_source']", Outcome::Dropped, "expected postgres://");
    assert!(!made.report.json().contains("mostest"));
}

#[test]
fn a_database_elsewhere_keeps_its_password_in_secrets_env() {
    for source in [
        "postgres://mm:hush%2Bhush@db.example.com:5433/chat?sslmode=disable&sslrootcert=/x.pem",
        "host=db.example.com port=5433 user=mm password='hush+hush' dbname=chat sslmode=require sslrootcert=/x.pem",
    ] {
        let made = ruby(&format!("mattermost['sql_data_source'] = \"{source}\""));
        let external = made.site.database.external.as_ref().unwrap();
        assert_eq!((external.host.as_str(), external.port, made.site.database.role.as_str()), ("db.example.com", 5433, "mm"));
        assert_eq!(made.secret(Name::DatabasePassword), Some("hush+hush"));
        made.is("mattermost['sql_data_source']", Outcome::Mapped, "verify-full");
        made.is("mattermost['sql_data_source']", Outcome::Mapped, "database.ca");
        assert!(!format!("{}{:?}", made.report.json(), made.draft).contains("hush"));
    }
}

#[test]
fn heading_mmctl_local() {
    let made = config(&serde_json::json!({ "ServiceSettings": {
        "EnableLocalMode": true,
        "LocalModeSocketLocation": "/var/tmp/mattermost_local.socket",
    }}));
    made.is("ServiceSettings.EnableLocalMode", Outcome::Dropped, "always on: `cargo xtask mmctl` uses it");
    assert_eq!(made.report.left_alone, 1, "the socket's place is the default");
}

#[test]
fn heading_smtp_and_batching() {
    let made = config(&serde_json::json!({ "EmailSettings": {
        "SendEmailNotifications": true, "SMTPServer": "mail.example.com", "SMTPPort": "465", "ConnectionSecurity": "TLS",
        "EnableSMTPAuth": true,
        "SMTPUsername": "chat", "SMTPPassword": "hush \
            hush", "FeedbackEmail": "chat@example.com", "FeedbackName": "Chat", "EnableEmailBatching": true,
    }}));
    let smtp = made.site.smtp.as_ref().unwrap();
    assert_eq!(
        (smtp.host.as_str(), smtp.port, smtp.user.as_deref(), smtp.from.as_str()),
        ("mail.example.com", 465, Some("chat"), "chat@example.com")
    );
    assert_eq!((smtp.from_name.as_str(), smtp.security), ("Chat", crate::site::model::SmtpSecurity::Tls));
    assert_eq!(made.secret(Name::SmtpPassword), Some("hush hush"));
    assert_eq!(made.extra("MM_EMAILSETTINGS_ENABLEEMAILBATCHING"), Some("true"));
    let made = config(&serde_json::json!({ "EmailSettings": { "SMTPServer": "127.0.0.1", "SMTPPort": "25" }}));
    made.is("EmailSettings.SMTPServer", Outcome::Dropped, "no sendmail answers");
    assert!(made.site.smtp.is_none());
}

#[test]
fn a_proxy_of_ones_own_stands_in_front() {
    let made = ruby(
        "mattermost_external_url 'https://chat.example.com'\nmattermost_nginx['enable'] = false\nmattermost['service_address'] \
            = '0.0.0.0'\n\
         mattermost['service_port'] = '8066'\n",
    );
    assert_eq!(made.site.network.front.as_ref().unwrap().as_str(), "https://chat.example.com/");
    assert_eq!((made.site.ports.mattermost, made.site.url().as_str()), (8066, "https://chat.example.com"));
    made.is("mattermost_nginx['enable']", Outcome::Mapped, "trust the site's CA");
    made.is("mattermost['service_port']", Outcome::Mapped, "published");
    let made = ruby(
        "mattermost_external_url 'https://chat.example.com'\nmattermost['service_port'] = \
            8066\nmattermost_nginx['client_max_body_size'] = '1g'",
    );
    assert_eq!(made.site.ports.mattermost, 443);
    made.is("mattermost['service_port']", Outcome::Mapped, "no NGINX stands before it");
    made.is("mattermost_nginx['client_max_body_size']", Outcome::Dropped, "no NGINX is part of the stack");
}

#[test]
fn an_address_may_have_a_port_a_path_or_no_name() {
    let made = ruby("mattermost_external_url 'http://chat.example.com:8065/mm'");
    assert_eq!(made.site.own_url(), "https://chat.example.com:8065");
    made.is("mattermost_external_url", Outcome::Mapped, "the path is left out");
    let made = ruby("mattermost_external_url 'https://192.168.1.5'");
    assert_eq!(made.site.addresses, ["192.168.1.5".parse::<std::net::IpAddr>().unwrap()]);
    made.is("mattermost_external_url", Outcome::Mapped, "wants a name too");
    ruby("mattermost_external_url 'chat'").is("mattermost_external_url", Outcome::Dropped, "expected an address such as");
    ruby("mattermost_external_url = 'https://chat'").is("mattermost_external_url", Outcome::Dropped, "sets nothing in GitLab");
}

#[test]
fn what_mattermost_11_would_ignore_or_refuse_is_dropped() {
    for (written, wanted) in [
        ("mattermost['service_maximum_login_attempts'] = 'many'", "expected a whole number"),
        ("mattermost['service_maximum_login_attempts'] = 0", "would not start with it: expected 1 or more"),
        ("mattermost['file_enable_file_attachments'] = 'yes'", "expected true or false"),
        ("mattermost['email_batching_interval'] = 5", "30 or more seconds"),
        ("mattermost['team_teammate_name_display'] = 'nick'", "username, nickname_full_name or full_name"),
        ("mattermost['team_experimental_view_archived_channels'] = false", "would not start with it: expected true"),
        ("mattermost['experimental_client_side_cert_enable'] = true", "would not start with it: expected false"),
        ("mattermost['team_enable_team_creation'] = true", "roles in the database"),
        ("mattermost['email_invite_salt'] = 'hush'", "since version 4"),
        ("mattermost['team_site_nam'] = 'x'", "did you mean MM_TEAMSETTINGS_SITENAME?"),
        ("mattermost['team_site_name'] = '$5'", "found a $, which Compose would replace; set it in the System Console"),
        ("external_url 'https://git$lab.example.com'", "found a $, which Compose would replace"),
        ("mattermost['file_public_link_salt'] = 'hush'", "public links have to be shared again"),
        ("mattermost['team_site_name'] = \"#{x}\"", "a string with interpolation"),
        ("mattermost['team_site_name'] = ENV['X']", "a call, and nothing is run"),
        ("if true\nmattermost['team_site_name'] = 'x'\nend", "in what begins in line 1, and no conditional is evaluated"),
        ("mattermost['enable'] = true", "`cargo xtask up` starts"),
        ("mattermost['log_file_directory'] = '/var/log'", "cargo xtask logs"),
    ] {
        let made = ruby(written);
        let row = made.report.settings.last().unwrap();
        let said = row.remarks.join("; ");
        assert!(row.outcome == Outcome::Dropped && said.contains(wanted), "{written}: expected {wanted:?} in {said:?}");
        assert_eq!(made.site.mattermost.extra.len(), 0, "{written}");
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn what_is_said_twice_counts_as_ruby_would_have_it() {
    let made = ruby(
        "mattermost['team_site_name'] = 'one'\nmattermost['team_site_name'] = 'two'\n\
         mattermost['env'] = { 'MM_TEAMSETTINGS_MAXUSERSPERTEAM' => '5' }\nmattermost['env'] = { 'MM_TEAMSETTINGS_SITENAME' => 'three' }\n",
    );
    assert_eq!(made.extra("MM_TEAMSETTINGS_SITENAME"), Some("three"));
    assert_eq!(made.extra("MM_TEAMSETTINGS_MAXUSERSPERTEAM"), None);
    let said: Vec<String> = made.report.settings.iter().map(|row| row.remarks.join("; ")).collect();
    assert_eq!(
        said,
        [
            "said again below, and the last one counts",
            "mattermost['env']['MM_TEAMSETTINGS_SITENAME'] in line 4 says it again, and the last one counts",
            "another mattermost['env'] = { … } takes its place below",
            ""
        ]
    );
}

#[test]
fn a_config_json_gives_its_secrets_to_secrets_env() {
    let made = config(&serde_json::json!({
        "ServiceSettings": { "SiteURL": "https://chat.example.com", "ListenAddress": ":8065",
            "EnableUserAccessTokens": true, "MaximumLoginAttempts": 10 },
        "SqlSettings": { "DataSource": "postgres://mm:hushhush@localhost/mattermost",
            "AtRestEncryptKey": "k".repeat(32), "DriverName": "postgres" },
        "FileSettings": { "PublicLinkSalt": "s".repeat(32), "Directory": "/var/opt/gitlab/mattermost/data" },
        "LdapSettings": { "BindPassword": "hush-ldap" },
        "PluginSettings": {
            "PluginStates": {
                "com.mattermost.calls": { "Enable": false }, "focalboard": { "Enable": false }, "matterpoll": { "Enable": true } },
            "Plugins": {
                "com.github.manland.mattermost-plugin-gitlab": {
                    "gitlaburl": "https://gitlab.example.com", "EncryptionKey": "e".repeat(32),
                    "gitlaboauthclientid": "id-hush", "webhooksecret": "w".repeat(20),
                },
                "jenkins": { "jenkinsurl": "https://jenkins.example.com", "encryptionkey": "short-hush" },
            },
        },
        "NotificationLogSettings": { "EnableFile": false },
        "Nonsense": null,
    }));
    assert_eq!(made.site.url(), "https://chat.example.com");
    assert_eq!(made.secret(Name::AtRestKey), Some("k".repeat(32).as_str()));
    assert_eq!(made.secret(Name::PublicLinkSalt), Some("s".repeat(32).as_str()));
    assert_eq!(made.secret(Name::GitlabPluginKey), Some("e".repeat(32).as_str()));
    assert_eq!(made.secret(Name::GitlabOauthId), Some("id-hush"));
    assert_eq!(made.draft.others["MM_LDAPSETTINGS_BINDPASSWORD"].expose(), "hush-ldap");
    assert_eq!((made.site.calls.enabled, made.site.mattermost.boards), (false, false));
    assert_eq!(made.site.jenkins.as_ref().unwrap().url.as_str(), "https://jenkins.example.com/");
    made.is("PluginSettings.Plugins.jenkins.encryptionkey", Outcome::Dropped, "have to be linked again");
    made.is("PluginSettings.PluginStates.matterpoll.Enable", Outcome::Dropped, "does not have this plugin");
    made.is("FileSettings.Directory", Outcome::Dropped, "in a volume");
    made.is("NotificationLogSettings.EnableFile", Outcome::Dropped, "no log of notifications");
    assert_eq!(made.report.left_alone, 3, "ListenAddress, MaximumLoginAttempts and DriverName are as Mattermost has them");
    for shown in [made.report.json(), made.report.markdown(), made.draft.toml("x"), format!("{:?}", made.draft)] {
        assert!(!shown.contains("hush"), "a secret stands in {shown}");
    }
}

#[test]
fn what_the_server_shows_in_a_secrets_place_is_no_secret() {
    let made = config(&serde_json::json!({ "SqlSettings": { "AtRestEncryptKey": "*".repeat(32), "DataSource": "*".repeat(32) } }));
    made.is("SqlSettings.AtRestEncryptKey", Outcome::Dropped, "convert the file itself");
    made.is("SqlSettings.DataSource", Outcome::Dropped, "convert the file itself");
    assert_eq!(made.secret(Name::AtRestKey), None);
}

#[test]
fn the_configuration_of_a_server_that_nobody_changed_comes_to_an_empty_site() {
    let defaults = include_str!("../../../tests/mattermost-double/src/config/defaults.json");
    let made = made(config_json::read(defaults, "config.json").unwrap());
    assert_eq!(made.report.settings, []);
    assert!(made.report.left_alone > 500);
}

#[test]
fn what_is_no_config_json_is_named_and_never_shown() {
    for (text, wanted) in [
        ("{\"SqlSettings\":{\"DataSource\":\"hush", "found EOF while parsing a string at line 1"),
        ("[]", "found other JSON"),
        ("{\"SqlSettings\":\"hush\"}", "found SqlSettings, which is no object"),
        ("", "found EOF"),
        (&format!("{{\"a\":{}", "[".repeat(100_000)), "recursion limit"),
    ] {
        let error = config_json::read(text, "config.json").unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("hush"), "{error}");
    }
}

#[test]
fn a_file_that_is_not_whole_is_refused_with_its_line() {
    let error = gitlab_rb::read("mattermost['uid'] = 1\nmattermost['gitlab_secret'] = 'hush\n", "gitlab.rb").unwrap_err().to_string();
    insta::assert_snapshot!(error, @r"
    gitlab.rb is not whole; nothing was converted
      line 2: expected the ' that ends what begins here, found the end of the file
    hint: `ruby -c` on GitLab's machine, in /opt/gitlab/embedded/bin, says whether GitLab would read it
    ");
}

#[test]
fn hostile_texts_take_no_longer_than_they_are() {
    let start = std::time::Instant::now();
    let many = |piece: &dyn Fn(usize) -> String, count: usize| (0..count).map(piece).collect::<String>();
    for (text, good) in [
        (many(&|at| format!("mattermost['a{at}'] = 1\n"), 50_000), false),
        (many(&|at| format!("mattermost['service_unknown_{at}'] = 1\n"), 1_900), true),
        (format!("mattermost['env'] = {{{}}}", many(&|at| format!("'A{at}'=>1,"), 50_000)), false),
        (many(&|_| "mattermost['env'] = {}\n".to_owned(), 50_000), true),
        (format!("mattermost['{}'] = 1", "a_".repeat(200_000)), true),
        (format!("mattermost['team_site_name'] = '{}'", "x".repeat(1_000_000)), true),
        (format!("mattermost['env'] = {{'NO_PROXY'=>'{}'}}", "x,".repeat(200_000)), true),
        ("mattermost['\u{1b}[2J'] = 1\n".to_owned(), true),
    ] {
        let draft = gitlab_rb::read(&text, "gitlab.rb");
        assert_eq!(draft.is_ok(), good, "{:.60}", text);
        let shown = draft.map(|draft| made(draft).report.markdown()).unwrap_or_default();
        assert!(!shown.contains('\u{1b}'), "a terminal would obey");
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
