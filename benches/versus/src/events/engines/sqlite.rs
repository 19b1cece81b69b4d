use std::path::Path;

use anyhow::Result;
use parking_lot::Mutex;
use rusqlite::{Connection, params};

use super::{Engine, Record};

/// One table with two indexes; WAL, synchronous FULL: every commit is synced.
pub(super) struct Sqlite(Mutex<Connection>);

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, correlation INTEGER, kind INTEGER, time INTEGER, bytes BLOB);
    CREATE INDEX IF NOT EXISTS by_correlation ON events (correlation, id);
    CREATE INDEX IF NOT EXISTS by_kind_and_time ON events (kind, time, id);";
const INSERT: &str =
    "INSERT INTO events (id, correlation, kind, time, bytes) VALUES (?, ?, ?, ?, ?)";

const CORRELATION: &str = "SELECT bytes FROM events WHERE correlation = ? ORDER BY id";
const NEWEST: &str = "SELECT bytes FROM events WHERE kind = ? AND time BETWEEN ? AND ? ORDER BY time DESC, id DESC LIMIT ?";

impl Sqlite {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let connection = Connection::open(folder.join("events.sqlite"))?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Mutex::new(connection)))
    }
}

impl Engine for Sqlite {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let mut connection = self.0.lock();
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for record in records {
                let (id, correlation) = (record.id.cast_signed(), record.correlation.cast_signed());
                insert.execute(params![
                    id,
                    correlation,
                    record.kind,
                    record.time,
                    record.bytes
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn correlation(&self, correlation: u64) -> Result<Vec<Vec<u8>>> {
        let connection = self.0.lock();
        let mut found = connection.prepare_cached(CORRELATION)?;
        let rows = found.query_map([correlation.cast_signed()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn newest(&self, kind: u32, from: i64, to: i64, count: usize) -> Result<Vec<Vec<u8>>> {
        let connection = self.0.lock();
        let mut found = connection.prepare_cached(NEWEST)?;
        let rows = found.query_map(params![kind, from, to, i64::try_from(count)?], |row| {
            row.get(0)
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn prune(&self, below: u64) -> Result<u64> {
        let pruned = self
            .0
            .lock()
            .execute("DELETE FROM events WHERE id < ?", [below.cast_signed()])?;
        Ok(pruned as u64)
    }
}
