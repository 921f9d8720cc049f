//! The schema, by numbered steps as the server's: each is applied once and kept in `db_migrations`.

use tokio_postgres::Client;

use crate::log;
use crate::release::Release;

/// Number, name, the first series that has it, and what it does.
const STEPS: [(i64, &str, (u32, u32), &str); 3] = [
    (1, "create_tables", (11, 0), include_str!("migrations/000001_create_tables.up.sql")),
    (141, "create_indexes", (11, 0), include_str!("migrations/000141_create_indexes.up.sql")),
    (152, "add_posts_remoteid_and_users_lastlogin", (11, 8), include_str!("migrations/000152_add_posts_remoteid.up.sql")),
];

/// Applies what this release has and the database has not, each step in a transaction. Steps of a newer release stay: a server
/// goes on with a schema that is ahead of it.
pub async fn apply(client: &Client, release: &Release) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("CREATE TABLE IF NOT EXISTS db_migrations (version bigint PRIMARY KEY, name varchar NOT NULL)").await?;
    let done: Vec<i64> = client.query("SELECT version FROM db_migrations", &[]).await?.iter().map(|row| row.get(0)).collect();
    for (number, name, since, sql) in STEPS {
        if release.series() < since || done.contains(&number) {
            continue;
        }
        let step = format!("BEGIN; {sql}; INSERT INTO db_migrations (version, name) VALUES ({number}, '{name}'); COMMIT");
        if let Err(error) = client.batch_execute(&step).await {
            // Ignored: the transaction is void either way.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(error);
        }
        log::info("Applied migration", &serde_json::json!({ "version": number, "name": name }));
    }
    let identity = "INSERT INTO systems (name, value) VALUES ('DiagnosticId', $1) ON CONFLICT DO NOTHING";
    client.execute(identity, &[&crate::clock::new_id()]).await?;
    let version = "INSERT INTO systems (name, value) VALUES ('Version', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    client.execute(version, &[&release.version]).await.map(drop)
}
