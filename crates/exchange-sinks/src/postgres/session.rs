//! A connection and what was prepared on it.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exchange_core::{Batch, Position};
use futures_util::SinkExt as _;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error, Socket, Statement};

use super::fault::{Fault, is_of_the_row};
use super::migrate;
use super::rows::{Rows, Tables, midnight};

/// How the server takes rows: as one who knows that a client may vanish without a word.
const SETTINGS: &str = "SET timezone TO 'UTC'; SET client_min_messages TO warning; SET idle_in_transaction_session_timeout TO '60s'; \
                        SET tcp_keepalives_idle TO 30; SET tcp_keepalives_interval TO 10; SET tcp_keepalives_count TO 3";
/// Bytes that are handed over at a time.
const PIECE: usize = 128 << 10;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// Steps that go by the staging table after one that held a repeat: where there is one there may be more.
const STAGED_STEPS: u32 = 256;

/// A connection.
pub(super) struct Session {
    client: Client,
    task: Task,
    tables: HashMap<&'static str, Table>,
    /// Journals that have a row in `positions`.
    journals: HashSet<String>,
    /// Steps that still go by the staging tables.
    staged: u32,
}

/// What is prepared for a table.
struct Table {
    /// Whether it is divided by us.
    partitioned: bool,
    /// Days that have a partition, or cannot have one.
    days: HashSet<i64>,
    copy: Statement,
    staging: Option<(Statement, Statement)>,
}

/// How rows come into a table.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Straight: a row that is there already stops all.
    Straight,
    /// By a table of their own, from which those that are there already are left out.
    Staged,
}

/// The task that moves the bytes of a connection. It ends with its session: on a dead network it would wait for ever.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    pub(super) async fn open<T>(config: &Config, tls: T, schema: &str) -> Result<Self, Fault>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = config.connect(tls).await?;
        // Its errors come out where the client is used.
        let task = Task(tokio::spawn(async move { drop(connection.await) }));
        let session = Self { client, task, tables: HashMap::new(), journals: HashSet::new(), staged: 0 };
        session.client.batch_execute(&format!("{SETTINGS}; SET search_path TO \"{schema}\"")).await?;
        migrate::migrate(&session.client, schema).await?;
        Ok(session)
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        let Self { client, mut task, .. } = self;
        drop(client);
        // One who does not listen is left without a word.
        drop(tokio::time::timeout(GOODBYE, &mut task.0).await);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The last batch of a journal that is stored: each collector's is its own.
    pub(super) async fn position(&self, journal: u64) -> Result<Option<Position>, Fault> {
        let row = self.client.query_opt("SELECT number FROM positions WHERE journal = $1", &[&key(journal)]).await?;
        let number = row.and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok()).filter(|number| *number > 0);
        Ok(number.map(|number| Position { journal, number }))
    }

    /// Stores batches in one transaction, and gives why rows were rejected, for each of them.
    pub(super) async fn store(&mut self, batches: &[Arc<Batch>]) -> Result<Vec<String>, Fault> {
        let mut journals: Vec<u64> = batches.iter().filter_map(|batch| batch.position()).map(|position| position.journal).collect();
        journals.sort_unstable();
        journals.dedup();
        // Made before, since tables are locked while they are changed.
        let mut rows = Tables::of(batches);
        for table in &rows.tables {
            self.prepare(table).await?;
        }
        for journal in &journals {
            self.register(&key(*journal)).await?;
        }
        self.client.batch_execute("BEGIN").await?;
        let mut left: Vec<Arc<Batch>> = batches.to_vec();
        for journal in &journals {
            // Waits for whoever stores batches of this journal still: a connection of ours that was cut, and that the
            // server has not given up yet.
            let row = self.client.query_one("SELECT number FROM positions WHERE journal = $1 FOR UPDATE", &[&key(*journal)]).await?;
            let stored = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
            left.retain(|batch| batch.position().is_none_or(|position| position.journal != *journal || position.number > stored));
        }
        if left.len() < batches.len() {
            rows = Tables::of(&left);
        }
        let mut rejected = Vec::new();
        for table in &rows.tables {
            rejected.extend(self.fill(table).await?);
        }
        rejected.append(&mut rows.unfit);
        for ((batch, event), reason) in &rejected {
            let Some((event, line)) = left.get(*batch).and_then(|batch| batch.records().nth(*event)) else { continue };
            let (id, line) = (event.id.to_string(), String::from_utf8_lossy(line));
            let text = "INSERT INTO rejected (id, type, reason, line) VALUES ($1::text::uuid, $2, $3, $4) ON CONFLICT DO NOTHING";
            self.client.execute(text, &[&id, &event.body.kind(), &reason.replace('\0', ""), &line]).await?;
        }
        for journal in journals {
            let last = left.iter().filter_map(|batch| batch.position()).filter(|position| position.journal == journal).map(|position| position.number).max();
            if let Some(last) = last.and_then(|last| i64::try_from(last).ok()) {
                self.client.execute("UPDATE positions SET number = $2, stored = now() WHERE journal = $1", &[&key(journal), &last]).await?;
            }
        }
        self.client.batch_execute("COMMIT").await?;
        self.staged = self.staged.saturating_sub(1);
        Ok(rejected.into_iter().map(|(_, reason)| reason).collect())
    }

    /// Gives a journal its row, so that there is one to lock.
    async fn register(&mut self, journal: &str) -> Result<(), Fault> {
        if !self.journals.contains(journal) {
            self.client.execute("INSERT INTO positions (journal, number) VALUES ($1, 0) ON CONFLICT DO NOTHING", &[&journal]).await?;
            self.journals.insert(journal.to_owned());
        }
        Ok(())
    }

    /// Prepares a table for these rows.
    async fn prepare(&mut self, rows: &Rows) -> Result<(), Fault> {
        let name = rows.table;
        if !self.tables.contains_key(name) {
            let copy = self.client.prepare(&format!("COPY \"{name}\" ({}) FROM STDIN (FORMAT binary)", rows.columns())).await?;
            let kind = self.client.query_one("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)", &[&format!("\"{name}\"")]).await?;
            self.tables.insert(name, Table { partitioned: kind.get(0), days: HashSet::new(), copy, staging: None });
        }
        let Some(table) = self.tables.get_mut(name).filter(|table| table.partitioned) else { return Ok(()) };
        for day in &rows.days {
            if table.days.contains(day) {
                continue;
            }
            let moment = |day: i64| midnight(day).to_string();
            let (from, to) = (moment(*day), moment(day + 1));
            let date: String = from.chars().take_while(|c| *c != 'T').filter(|c| *c != '-').collect();
            if !migrate::partition(&self.client, name, &format!("{name}_{date}"), &from, &to).await? {
                tracing::warn!(table = name, day = date, "a day without a partition: rows of it lie in the default one already");
            }
            table.days.insert(*day);
        }
        Ok(())
    }

    /// Writes rows into their table, and gives those that it does not take.
    async fn fill(&mut self, rows: &Rows) -> Result<Vec<(super::rows::Place, String)>, Fault> {
        let mut rejected = Vec::new();
        let mut parts = Vec::new();
        parts.push(0..rows.len());
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let way = if self.staged > 0 { Way::Staged } else { Way::Straight };
            self.client.batch_execute("SAVEPOINT part").await?;
            let Err(error) = self.put(rows, part.clone(), way).await else {
                self.client.batch_execute("RELEASE part").await?;
                continue;
            };
            let repeat = way == Way::Straight && error.code() == Some(&SqlState::UNIQUE_VIOLATION);
            if !repeat && !is_of_the_row(&error) {
                return Err(error.into());
            }
            self.client.batch_execute("ROLLBACK TO part; RELEASE part").await?;
            if repeat {
                self.staged = STAGED_STEPS;
                parts.push(part);
            } else if part.len() == 1 {
                let reason = error.as_db_error().map_or_else(|| error.to_string(), |said| format!("{} ({})", said.message(), said.code().code()));
                rejected.extend(rows.places.get(part.start).map(|place| (*place, reason)));
            } else {
                // Halves, until the row is alone that is the reason.
                let middle = part.start + part.len() / 2;
                parts.extend([middle..part.end, part.start..middle]);
            }
        }
        Ok(rejected)
    }

    async fn put(&mut self, rows: &Rows, part: Range<usize>, way: Way) -> Result<(), Error> {
        let Some(table) = self.tables.get_mut(rows.table) else { return Ok(()) };
        if way == Way::Straight {
            return copy(&self.client, &table.copy, rows.stream(part)).await;
        }
        let staging = format!("staging_{}", rows.table);
        // Emptied by the end of each transaction, and here, since there may be several parts in one. It belongs to the
        // session, and may have gone with a transaction that was rolled back.
        let make = format!("CREATE TEMP TABLE IF NOT EXISTS \"{staging}\" (LIKE \"{}\") ON COMMIT DELETE ROWS; TRUNCATE \"{staging}\"", rows.table);
        self.client.batch_execute(&make).await?;
        if table.staging.is_none() {
            let columns = rows.columns();
            let fill = self.client.prepare(&format!("COPY \"{staging}\" ({columns}) FROM STDIN (FORMAT binary)")).await?;
            let insert = format!("INSERT INTO \"{}\" ({columns}) SELECT {columns} FROM \"{staging}\" ON CONFLICT DO NOTHING", rows.table);
            table.staging = Some((fill, self.client.prepare(&insert).await?));
        }
        if let Some((fill, insert)) = &table.staging {
            copy(&self.client, fill, rows.stream(part)).await?;
            self.client.execute(insert, &[]).await?;
        }
        Ok(())
    }
}

/// Sends rows.
async fn copy(client: &Client, statement: &Statement, rows: Bytes) -> Result<(), Error> {
    let mut stream = pin!(client.copy_in::<_, Bytes>(statement).await?);
    let mut rest = rows;
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE));
        stream.send(piece).await?;
    }
    stream.finish().await?;
    Ok(())
}

/// A journal as it stands in the table.
fn key(journal: u64) -> String {
    format!("{journal:016x}")
}
