use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Engine, Record, by_correlation, by_kind_and_time, id_of, is_below, range_of_kind};

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

    fn correlation(&self, correlation: u64) -> Result<Vec<Vec<u8>>> {
        self.correlations
            .prefix(correlation.to_be_bytes())
            .map(|entry| self.bytes(&entry.key()?))
            .collect()
    }

    fn newest(&self, kind: u32, from: i64, to: i64, count: usize) -> Result<Vec<Vec<u8>>> {
        let (first, last) = range_of_kind(kind, from, to);
        self.kinds
            .range(first..=last)
            .rev()
            .take(count)
            .map(|entry| self.bytes(&entry.key()?))
            .collect()
    }

    fn prune(&self, below: u64) -> Result<u64> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        let mut pruned = 0;
        for entry in self.events.range(..below.to_be_bytes()) {
            batch.remove(&self.events, entry.key()?);
            pruned += 1;
        }
        for index in [&self.correlations, &self.kinds] {
            for entry in index.iter() {
                let key = entry.key()?;
                if is_below(&key, below) {
                    batch.remove(index, key);
                }
            }
        }
        batch.commit()?;
        Ok(pruned)
    }
}

impl Fjall {
    fn bytes(&self, key: &[u8]) -> Result<Vec<u8>> {
        let bytes = self.events.get(id_of(key))?;
        Ok(bytes.map(|bytes| bytes.to_vec()).unwrap_or_default())
    }
}
