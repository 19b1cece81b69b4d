use std::path::Path;

use anyhow::Result;
use redb::{Database, ReadableDatabase, TableDefinition};

use super::{Engine, Record, by_correlation, by_kind_and_time, id_of, is_below, range_of_kind};

/// Three tables, written in one transaction with the default durability, which is synced.
pub(super) struct Redb(Database);

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const CORRELATIONS: TableDefinition<'_, &[u8; 16], ()> = TableDefinition::new("correlations");
const KINDS: TableDefinition<'_, &[u8; 20], ()> = TableDefinition::new("kinds");

impl Redb {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        Ok(Self(Database::create(folder.join("events.redb"))?))
    }
}

impl Engine for Redb {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut events = transaction.open_table(EVENTS)?;
            let mut correlations = transaction.open_table(CORRELATIONS)?;
            let mut kinds = transaction.open_table(KINDS)?;
            for record in records {
                events.insert(record.id, &record.bytes[..])?;
                correlations.insert(&by_correlation(record), ())?;
                kinds.insert(&by_kind_and_time(record), ())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn correlation(&self, correlation: u64) -> Result<Vec<Vec<u8>>> {
        let transaction = self.0.begin_read()?;
        let (events, keys) = (
            transaction.open_table(EVENTS)?,
            transaction.open_table(CORRELATIONS)?,
        );
        let (mut first, mut last) = ([0; 16], [u8::MAX; 16]);
        first[..8].copy_from_slice(&correlation.to_be_bytes());
        last[..8].copy_from_slice(&correlation.to_be_bytes());
        keys.range::<&[u8; 16]>(&first..=&last)?
            .map(|entry| bytes(&events, entry?.0.value()))
            .collect()
    }

    fn newest(&self, kind: u32, from: i64, to: i64, count: usize) -> Result<Vec<Vec<u8>>> {
        let transaction = self.0.begin_read()?;
        let (events, keys) = (
            transaction.open_table(EVENTS)?,
            transaction.open_table(KINDS)?,
        );
        let (first, last) = range_of_kind(kind, from, to);
        keys.range::<&[u8; 20]>(&first..=&last)?
            .rev()
            .take(count)
            .map(|entry| bytes(&events, entry?.0.value()))
            .collect()
    }

    fn prune(&self, below: u64) -> Result<u64> {
        let transaction = self.0.begin_write()?;
        let mut pruned = 0;
        {
            let mut events = transaction.open_table(EVENTS)?;
            events.retain_in(..below, |_, _| {
                pruned += 1;
                false
            })?;
            let mut correlations = transaction.open_table(CORRELATIONS)?;
            correlations.retain(|key, ()| !is_below(key, below))?;
            let mut kinds = transaction.open_table(KINDS)?;
            kinds.retain(|key, ()| !is_below(key, below))?;
        }
        transaction.commit()?;
        Ok(pruned)
    }
}

fn bytes(events: &redb::ReadOnlyTable<u64, &[u8]>, key: &[u8]) -> Result<Vec<u8>> {
    let bytes = events.get(u64::from_be_bytes(id_of(key)))?;
    Ok(bytes
        .map(|bytes| bytes.value().to_vec())
        .unwrap_or_default())
}
