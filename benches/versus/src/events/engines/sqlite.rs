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
    CREATE TABLE events (id INTEGER PRIMARY KEY, correlation INTEGER, kind INTEGER, time INTEGER, bytes BLOB);
    CREATE INDEX by_correlation ON events (correlation, id);
    CREATE INDEX by_kind_and_time ON events (kind, time, id);";
const INSERT: &str =
    "INSERT INTO events (id, correlation, kind, time, bytes) VALUES (?, ?, ?, ?, ?)";

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
}
