use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Engine, Record, by_correlation, by_kind_and_time};

/// Three keyspaces, written in one batch that is synced as data.
pub(super) struct Fjall {
    database: Database,
    events: Keyspace,
    correlations: Keyspace,
    kinds: Keyspace,
}

impl Fjall {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder).open()?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default);
        Ok(Self {
            events: keyspace("events")?,
            correlations: keyspace("correlations")?,
            kinds: keyspace("kinds")?,
            database,
        })
    }
}

impl Engine for Fjall {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for record in records {
            batch.insert(&self.events, record.id.to_be_bytes(), &record.bytes[..]);
            batch.insert(&self.correlations, by_correlation(record), "");
            batch.insert(&self.kinds, by_kind_and_time(record), "");
        }
        Ok(batch.commit()?)
    }
}
