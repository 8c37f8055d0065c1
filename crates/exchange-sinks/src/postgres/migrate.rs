//! The tables, made and changed in numbered steps, by one collector at a time.

use exchange_core::Body;
use tokio_postgres::Client;

use super::fault::Fault;

/// All steps. One that was released is never changed: what shall be otherwise is another step.
const STEPS: [&str; 1] = [include_str!("migrations/1.sql")];
/// What collectors hold while they change tables: "collector", as a number.
const LOCK: i64 = 0x636f_6c6c_6563_746f;

/// Brings the tables to what this build writes.
pub(super) async fn migrate(client: &Client, schema: &str) -> Result<(), Fault> {
    if done(client).await? == STEPS.len() {
        return Ok(());
    }
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    // Not made without need: one who may not make schemas may own one.
    let there = client.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&format!("\"{schema}\"")]).await?;
    if !there.get::<_, bool>(0) {
        client.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    client.batch_execute("CREATE TABLE IF NOT EXISTS collector_migrations (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())").await?;
    // Somebody else may have been faster.
    let done = done(client).await?;
    let timescale = timescale(client).await?;
    for (step, text) in STEPS.iter().enumerate().skip(done) {
        client.batch_execute(&text.replace("%PARTITION%", if timescale.is_some() { "" } else { "PARTITION BY RANGE (\"at\")" })).await?;
        if step == 0 {
            divide(client, timescale.as_deref()).await?;
        }
        let version = i32::try_from(step + 1).unwrap_or(i32::MAX);
        client.execute("INSERT INTO collector_migrations (version) VALUES ($1)", &[&version]).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}

/// How many steps were made.
async fn done(client: &Client) -> Result<usize, Fault> {
    let there = client.query_one("SELECT to_regclass('collector_migrations') IS NOT NULL", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(0);
    }
    let version: i32 = client.query_one("SELECT coalesce(max(version), 0) FROM collector_migrations", &[]).await?.get(0);
    let version = usize::try_from(version).unwrap_or_default();
    if version > STEPS.len() {
        let words = format!("its tables are of version {version}, and this collector knows those up to {}: use a newer one", STEPS.len());
        return Err(Fault::Tables(words));
    }
    Ok(version)
}

/// The schema of TimescaleDB, if that is in the database.
async fn timescale(client: &Client) -> Result<Option<String>, Fault> {
    let text = "SELECT n.nspname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proname = 'create_hypertable' LIMIT 1";
    Ok(client.query_opt(text, &[]).await?.map(|row| row.get(0)))
}

/// A default partition for each table, for facts of days that have none; or TimescaleDB's chunks.
async fn divide(client: &Client, timescale: Option<&str>) -> Result<(), Fault> {
    for table in Body::KINDS {
        let text = if let Some(schema) = timescale {
            format!("SELECT \"{schema}\".create_hypertable('\"{table}\"', 'at', chunk_time_interval => INTERVAL '1 day')")
        } else {
            format!("CREATE TABLE \"{table}_default\" PARTITION OF \"{table}\" DEFAULT")
        };
        client.batch_execute(&text).await?;
    }
    Ok(())
}

/// Makes the partition of a day, if the table has partitions. `false` where it cannot be, since the default one holds
/// rows of that day already; then it holds all of them.
pub(super) async fn partition(client: &Client, table: &str, name: &str, from: &str, to: &str) -> Result<bool, Fault> {
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    let text = format!("CREATE TABLE IF NOT EXISTS \"{name}\" PARTITION OF \"{table}\" FOR VALUES FROM ('{from}') TO ('{to}')");
    match client.batch_execute(&text).await {
        Ok(()) => {
            client.batch_execute("COMMIT").await?;
            Ok(true)
        }
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::CHECK_VIOLATION) => {
            client.batch_execute("ROLLBACK").await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
