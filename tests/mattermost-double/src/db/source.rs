//! `MM_SQLSETTINGS_DATASOURCE`, as Go's `lib/pq` reads it.

use std::path::PathBuf;

use tokio_postgres::{Client, Config, NoTls};

use super::tls;

/// Where the database is and how far its certificate has to be believed.
#[derive(Clone)]
pub struct DataSource {
    config: Config,
    mode: String,
    roots: Option<PathBuf>,
}

impl DataSource {
    /// Of `postgres://user:password@host:port/name?sslmode=…`. A text that is no such address leads to 127.0.0.1:5432, as there.
    pub fn parse(text: &str) -> Self {
        let (address, options) = text.split_once('?').unwrap_or((text, ""));
        let mut config: Config = address.parse().unwrap_or_else(|_| {
            let mut config = Config::new();
            config.host("127.0.0.1").user("mattermost");
            config
        });
        config.connect_timeout(std::time::Duration::from_secs(10)).application_name("mattermost double");
        let option = |name: &str| options.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v);
        let mode = option("sslmode").unwrap_or("require").to_owned();
        config.ssl_mode(match mode.as_str() {
            "disable" => tokio_postgres::config::SslMode::Disable,
            _ => tokio_postgres::config::SslMode::Require,
        });
        let roots = option("sslrootcert").map(|path| PathBuf::from(path.replace("%2F", "/")));
        DataSource { config, mode, roots }
    }

    /// Opens a connection; what drives it ends with the client.
    pub async fn connect(&self) -> Result<Client, String> {
        let told = |error: tokio_postgres::Error| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        if self.mode == "disable" {
            let (client, connection) = self.config.connect(NoTls).await.map_err(told)?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let (client, connection) = self.config.connect(tls::connector(&self.mode, self.roots.as_deref())?).await.map_err(told)?;
        tokio::spawn(connection);
        Ok(client)
    }
}
