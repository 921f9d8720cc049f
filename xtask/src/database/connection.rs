//! A connection to PostgreSQL, step by step, so that what fails is known.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use images::{Class, Error};
use rustls::ClientConfig;
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Server;
use crate::doctor::tls::{Endpoint, Start, look};
use crate::site::secrets::Secret;
use crate::{tls, turn};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a statement may take: making a database copies one.
const STATEMENT: Duration = Duration::from_secs(120);

/// Who comes, and into which database.
#[derive(Clone, Debug)]
pub struct Login {
    /// The role.
    pub role: String,
    /// Its password.
    pub password: Secret,
    /// The database.
    pub database: String,
}

/// Why a connection got no further. The words are for people.
#[derive(Debug)]
pub enum Stop {
    /// Nobody answers there.
    Reach(String),
    /// The CA's file is not usable.
    Ca(Error),
    /// The server speaks no TLS, or its certificate is refused.
    Tls(String),
    /// The server refuses.
    Refused(SqlState, String),
    /// Something else.
    Broken(String),
}

impl Stop {
    /// As an error of the command that wanted a connection.
    pub fn into_error(self, server: &Server) -> Error {
        let at = format!("the database at {server}");
        match self {
            Stop::Reach(why) => Error::new(Class::Server, format!("{at} does not answer")).detail(why),
            Stop::Ca(error) => error,
            Stop::Tls(why) => Error::new(Class::Server, format!("{at} is not to be trusted"))
                .detail(why)
                .detail(format!("expected a certificate for {} from {}", server.host, server.ca.display()))
                .hint("database.ca in site.toml names the root of its certificate"),
            Stop::Refused(_, why) => Error::new(Class::Server, format!("{at} refuses")).detail(why),
            Stop::Broken(why) => Error::new(Class::Server, format!("{at} ended the conversation")).detail(why),
        }
    }

    /// What an error of the client says.
    fn of(error: &tokio_postgres::Error) -> Stop {
        match error.as_db_error() {
            Some(refusal) => Stop::Refused(refusal.code().clone(), format!("{} ({})", refusal.message(), refusal.code().code())),
            None => Stop::Broken(match std::error::Error::source(error) {
                Some(cause) if !error.to_string().contains(&cause.to_string()) => format!("{error}: {cause}"),
                _ => error.to_string(),
            }),
        }
    }
}

/// An open connection.
pub struct Session {
    client: Client,
    runtime: Runtime,
}

impl Session {
    /// Reaches the server, looks at its certificate, and logs in.
    pub fn open(server: &Server, login: &Login) -> Result<Session, Stop> {
        let at = reach(server)?;
        let trusting = tls::trusting(&server.ca).map_err(|error| unusable(&error))?;
        trust(server, at)?;
        let broken = |error: std::io::Error| Stop::Broken(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
        let mut config = Config::new();
        config.user(&login.role).password(login.password.expose()).dbname(&login.database).application_name("cargo xtask");
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let client = runtime.block_on(async {
            let connect = async {
                let stream = tokio::net::TcpStream::connect(at).await.map_err(broken)?;
                let mut make = MakeRustlsConnect::new(ClientConfig::clone(&trusting));
                let name = <MakeRustlsConnect as MakeTlsConnect<tokio::net::TcpStream>>::make_tls_connect(&mut make, &server.host);
                let name = name.map_err(|error| Stop::Tls(error.to_string()))?;
                config.connect_raw(stream, name).await.map_err(|error| Stop::of(&error))
            };
            let (client, connection) =
                tokio::time::timeout(PATIENCE, connect).await.map_err(|_| Stop::Broken("no answer in time".to_owned()))??;
            // It ends with the client; what it fails with, the client's next question says.
            tokio::spawn(connection);
            Ok(client)
        })?;
        Ok(Session { client, runtime })
    }

    /// The rows that answer a question.
    pub fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Stop> {
        let asked = async { tokio::time::timeout(STATEMENT, self.client.query(sql, params)).await };
        self.runtime.block_on(asked).map_err(|_| Stop::Broken("no answer in time".to_owned()))?.map_err(|error| Stop::of(&error))
    }

    /// Does something.
    pub fn execute(&self, sql: &str) -> Result<(), Stop> {
        let asked = async { tokio::time::timeout(STATEMENT, self.client.batch_execute(sql)).await };
        self.runtime.block_on(asked).map_err(|_| Stop::Broken("no answer in time".to_owned()))?.map_err(|error| Stop::of(&error))
    }
}

/// The first address of the host that takes a connection.
fn reach(server: &Server) -> Result<SocketAddr, Stop> {
    let mut why = format!("no address is known for {}", server.host);
    for at in server.addresses().map_err(Stop::Reach)? {
        match turn::tcp(at, PATIENCE) {
            Ok(_) => return Ok(at),
            Err(error) => why = format!("{at}: {}", tls::words(&error)),
        }
    }
    Err(Stop::Reach(why))
}

/// The certificate, under the name that Mattermost calls it by.
fn trust(server: &Server, at: SocketAddr) -> Result<(), Stop> {
    let roots = tls::roots(&server.ca).map_err(|error| unusable(&error))?;
    let endpoint = Endpoint { name: "database".to_owned(), at, start: Start::Postgres, called: vec![server.host.clone()] };
    let shown = look(&endpoint, &Arc::new(roots)).map_err(Stop::Tls)?;
    shown.verdicts.into_iter().try_for_each(|(_, verdict)| verdict).map_err(Stop::Tls)
}

/// The file of the CA, with the key that names it.
fn unusable(error: &Error) -> Stop {
    let hint =
        "database.ca in site.toml names the root of the database's certificate; without it, it is the site's own CA (cargo xtask certs)";
    Stop::Ca(Error::new(error.class(), error.message()).hint(hint))
}
