//! The environment → [`Settings`] → `entrypoint.conf` and `pg_hba.conf`.

use std::path::{Path, PathBuf};

use entrypoint::{Env, Error, Result, secret};

const KNOWN: [&str; 8] = [
    "POSTGRES_DB",
    "POSTGRES_LISTEN_ADDRESSES",
    "POSTGRES_PASSWORD_FILE",
    "POSTGRES_PORT",
    "POSTGRES_ROLE",
    "POSTGRES_SOCKET_DIR",
    "POSTGRES_TLS_CERT_FILE",
    "POSTGRES_TLS_KEY_FILE",
];

/// What PostgreSQL is started with, checked.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// The cluster.
    pub data: PathBuf,
    /// The role that Mattermost is.
    pub role: Identifier,
    /// The database that it owns.
    pub database: Identifier,
    /// File with the role's password.
    pub password_file: PathBuf,
    /// TCP port, and part of the socket's name.
    pub port: u16,
    /// Folder of the Unix socket.
    pub socket_dir: PathBuf,
    listen_addresses: String,
    cert: PathBuf,
    key: PathBuf,
}

/// A name that means the same in SQL with and without quotes, and in `pg_hba.conf`: `[a-z_][a-z0-9_]*`, at most 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier(String);

impl Identifier {
    fn parse(text: &str) -> Option<Self> {
        let plain = text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_')) && !text.starts_with(|c: char| c.is_ascii_digit());
        // pg_… is PostgreSQL's own; the others exist, or are words of pg_hba.conf.
        let taken = text.starts_with("pg_")
            || matches!(text, "postgres" | "template0" | "template1" | "all" | "replication" | "sameuser" | "samerole");
        (plain && !taken && (1..=63).contains(&text.len())).then(|| Identifier(text.to_owned()))
    }

    /// The name, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn addresses(text: &str) -> Option<String> {
    let one = |word: &str| word == "*" || word == "localhost" || word.parse::<std::net::IpAddr>().is_ok();
    text.split(',').all(|word| one(word.trim())).then(|| text.to_owned())
}

/// A path that can stand between single quotes.
fn plain(path: PathBuf) -> Option<PathBuf> {
    path.to_str().is_some_and(|text| !text.contains(['\'', '\\', '\n'])).then_some(path)
}

impl Settings {
    /// Reads and checks all settings; the error tells everything that is wrong.
    pub fn read(env: &Env) -> Result<Self> {
        env.refuse_unknown("POSTGRES_", &KNOWN);
        let settings = Self::parse(env);
        env.verdict()?;
        settings.ok_or_else(|| Error::settings("a path with a quote, a backslash or a line break is not usable"))
    }

    fn parse(env: &Env) -> Option<Self> {
        let named = "a name of a-z, 0-9 and _ that PostgreSQL does not use itself";
        let name = |variable: &str| env.or(variable, Identifier("mattermost".to_owned()), named, Identifier::parse);
        let (role, database) = (name("POSTGRES_ROLE"), name("POSTGRES_DB"));
        let expected = "*, or IP addresses separated by commas";
        let listen_addresses = env.or("POSTGRES_LISTEN_ADDRESSES", "*".to_owned(), expected, addresses);
        let port = env.or("POSTGRES_PORT", 5432, "a port", |text| text.parse().ok().filter(|port| *port != 0));
        let data = env.path("PGDATA", "/var/lib/postgresql/data");
        let password_file = env.path("POSTGRES_PASSWORD_FILE", "/run/secrets/postgres");
        let socket_dir = env.path("POSTGRES_SOCKET_DIR", "/run/postgresql");
        let cert = env.path("POSTGRES_TLS_CERT_FILE", "/run/secrets/postgres-cert.pem");
        let key = env.path("POSTGRES_TLS_KEY_FILE", "/run/secrets/postgres-key.pem");
        Some(Settings {
            data: plain(data?)?,
            role: role?,
            database: database?,
            password_file: password_file?,
            port: port?,
            socket_dir: plain(socket_dir?)?,
            listen_addresses: listen_addresses?,
            cert: plain(cert?)?,
            key: plain(key?)?,
        })
    }

    /// Certificate and key are there, and the key is nobody else's.
    pub fn check_tls_files(&self) -> Result<()> {
        secret::check_tls_pair(("POSTGRES_TLS_CERT_FILE", &self.cert), ("POSTGRES_TLS_KEY_FILE", &self.key))
    }

    /// `entrypoint.conf`, which `postgresql.conf` includes.
    pub fn conf(&self) -> String {
        let Settings { listen_addresses, port, .. } = self;
        let quoted = |path: &Path| format!("'{}'", path.display());
        format!(
            "# Written at each start from the environment.\n\
             listen_addresses = '{listen_addresses}'\n\
             port = {port}\n\
             unix_socket_directories = {socket}\n\
             ssl = on\n\
             ssl_cert_file = {cert}\n\
             ssl_key_file = {key}\n\
             ssl_min_protocol_version = 'TLSv1.2'\n\
             password_encryption = 'scram-sha-256'\n\
             log_destination = 'stderr'\n\
             logging_collector = off\n\
             # The compiler that this would need is not in the image.\n\
             jit = off\n",
            socket = quoted(&self.socket_dir),
            cert = quoted(&self.cert),
            key = quoted(&self.key),
        )
    }

    /// `pg_hba.conf`: what does not stand here is refused.
    pub fn hba(&self) -> String {
        let (role, database) = (self.role.as_str(), self.database.as_str());
        format!(
            "# Written at each start.\n\
             local all postgres peer\n\
             local replication postgres peer\n\
             local {database} {role} scram-sha-256\n\
             hostssl {database} {role} 0.0.0.0/0 scram-sha-256\n\
             hostssl {database} {role} ::/0 scram-sha-256\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_variable_it_is_what_the_documentation_says() {
        let settings = Settings::read(&Env::from_iter([("PATH", "/bin")])).expect("all have defaults");
        assert_eq!((settings.data.as_path(), settings.port), (Path::new("/var/lib/postgresql/data"), 5432));
        let lines = ["listen_addresses = '*'", "ssl = on", "ssl_min_protocol_version = 'TLSv1.2'", "password_encryption = 'scram-sha-256'"];
        for line in lines {
            assert!(settings.conf().lines().any(|found| found == line), "{line} is not in {}", settings.conf());
        }
        for line in settings.hba().lines().filter(|line| line.starts_with("host")) {
            assert!(line.starts_with("hostssl mattermost mattermost ") && line.ends_with(" scram-sha-256"), "{line}");
        }
    }

    #[test]
    fn what_is_not_usable_is_refused_by_name() {
        for (name, value, wanted) in [
            ("POSTGRES_ROLE", "Matter", "POSTGRES_ROLE is not usable"),
            ("POSTGRES_ROLE", "a\"; DROP", "POSTGRES_ROLE is not usable"),
            ("POSTGRES_ROLE", "postgres", "POSTGRES_ROLE is not usable"),
            ("POSTGRES_ROLE", "pg_monitor", "POSTGRES_ROLE is not usable"),
            ("POSTGRES_DB", "template1", "POSTGRES_DB is not usable"),
            ("POSTGRES_DB", "all", "POSTGRES_DB is not usable"),
            ("POSTGRES_DB", "1st", "POSTGRES_DB is not usable"),
            ("POSTGRES_DB", &"x".repeat(64), "POSTGRES_DB is not usable"),
            ("POSTGRES_LISTEN_ADDRESSES", "*'\nssl = off", "POSTGRES_LISTEN_ADDRESSES is not usable"),
            ("POSTGRES_PORT", "0", "POSTGRES_PORT is not usable"),
            ("POSTGRES_SOCKET_DIR", "run", "expected an absolute path"),
            ("POSTGRES_SOCKET_DIR", "/run/it's", "a quote"),
            ("POSTGRES_PASSWORD", "hush", "did you mean POSTGRES_"),
            ("POSTGRES_USER", "mattermost", "did you mean POSTGRES_"),
        ] {
            let error = Settings::read(&Env::from_iter([(name, value)])).expect_err(&format!("{name}={value} was taken")).to_string();
            assert!(error.contains(wanted), "{name}={value}: expected {wanted:?} in {error}");
        }
    }
}
