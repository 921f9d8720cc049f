//! The state, in PostgreSQL: one connection that is opened again when it is lost.
//!
//! Each table has the columns that are searched by, and `doc`, the object as the API shows it.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::log;
use crate::release::Release;
use crate::web::error::AppError;

mod migrations;
mod source;
mod tls;

pub use source::DataSource;
pub use tls::verifying;

/// Values of a query.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The database.
pub struct Db {
    source: DataSource,
    client: Mutex<Option<Arc<Client>>>,
}

impl Db {
    /// A database that has not been asked yet.
    pub fn new(source: DataSource) -> Self {
        Db { source, client: Mutex::new(None) }
    }

    /// Connects, five times at most, two seconds apart, and brings the schema to this release's.
    pub async fn open(&self, release: &Release) -> Result<(), String> {
        let mut attempts = 0;
        let client = loop {
            attempts += 1;
            match self.client().await {
                Ok(client) => break client,
                Err(error) if attempts < 5 => {
                    log::error("Failed to ping DB", &serde_json::json!({ "error": error, "retrying in seconds": 2 }));
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                }
                Err(error) => return Err(format!("failed to ping DB: {error}")),
            }
        };
        migrations::apply(&client, release).await.map_err(|error| format!("failed to apply database migrations: {error}"))
    }

    async fn client(&self) -> Result<Arc<Client>, String> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Arc::new(self.source.connect().await?);
        *kept = Some(client.clone());
        Ok(client)
    }

    /// Whether it answers.
    pub async fn is_up(&self) -> bool {
        let asked = async { self.client().await.ok()?.simple_query("SELECT 1").await.ok() };
        tokio::time::timeout(std::time::Duration::from_secs(3), asked).await.ok().flatten().is_some()
    }

    /// All rows.
    pub async fn rows(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, AppError> {
        let client = self.client().await.map_err(|error| AppError::database(&error))?;
        client.query(sql, params).await.map_err(|error| AppError::database(&error))
    }

    /// The first row.
    pub async fn row(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, AppError> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// The first column of the first row, as a document.
    pub async fn doc(&self, sql: &str, params: Params<'_>) -> Result<Option<Value>, AppError> {
        Ok(self.row(sql, params).await?.map(|row| row.get(0)))
    }

    /// The first column of all rows, as documents.
    pub async fn docs(&self, sql: &str, params: Params<'_>) -> Result<Vec<Value>, AppError> {
        Ok(self.rows(sql, params).await?.into_iter().map(|row| row.get(0)).collect())
    }

    /// Changes rows, and says how many.
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, AppError> {
        let client = self.client().await.map_err(|error| AppError::database(&error))?;
        client.execute(sql, params).await.map_err(|error| AppError::database(&error))
    }

    /// The first column of the only row, as a number.
    pub async fn count(&self, sql: &str, params: Params<'_>) -> Result<i64, AppError> {
        Ok(self.row(sql, params).await?.map_or(0, |row| row.get(0)))
    }
}
