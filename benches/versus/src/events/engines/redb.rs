use std::path::Path;

use anyhow::Result;
use redb::{Database, TableDefinition};

use super::{Engine, Record, by_correlation, by_kind_and_time};

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
}
