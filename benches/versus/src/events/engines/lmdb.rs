use std::{ops::Bound, path::Path};

use anyhow::Result;
use heed::{
    Database, Env, EnvOpenOptions,
    types::{Bytes, Unit},
};

use super::{Engine, Record, by_correlation, by_kind_and_time, id_of, is_below, range_of_kind};

/// Three databases in one environment with LMDB's default flags: every commit is synced.
pub(super) struct Lmdb {
    environment: Env,
    events: Database<Bytes, Bytes>,
    correlations: Database<Bytes, Unit>,
    kinds: Database<Bytes, Unit>,
}

/// Address space, not memory; far more than a run writes.
const MAP_BYTES: usize = 16 << 30;

impl Lmdb {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_dbs(3);
        #[expect(
            unsafe_code,
            reason = "LMDB maps its file; the folder is ours alone, new, and on a local disk"
        )]
        let environment = unsafe { options.open(folder)? };
        let mut transaction = environment.write_txn()?;
        let events = environment.create_database(&mut transaction, Some("events"))?;
        let correlations = environment.create_database(&mut transaction, Some("correlations"))?;
        let kinds = environment.create_database(&mut transaction, Some("kinds"))?;
        transaction.commit()?;
        Ok(Self {
            environment,
            events,
            correlations,
            kinds,
        })
    }
}

impl Engine for Lmdb {
    fn commit(&self, records: &[Record]) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        for record in records {
            self.events
                .put(&mut transaction, &record.id.to_be_bytes(), &record.bytes)?;
            self.correlations
                .put(&mut transaction, &by_correlation(record), &())?;
            self.kinds
                .put(&mut transaction, &by_kind_and_time(record), &())?;
        }
        Ok(transaction.commit()?)
    }

    fn correlation(&self, correlation: u64) -> Result<Vec<Vec<u8>>> {
        let transaction = self.environment.read_txn()?;
        let prefix = correlation.to_be_bytes();
        self.correlations
            .prefix_iter(&transaction, &prefix)?
            .map(|entry| self.bytes(&transaction, entry?.0))
            .collect()
    }

    fn newest(&self, kind: u32, from: i64, to: i64, count: usize) -> Result<Vec<Vec<u8>>> {
        let transaction = self.environment.read_txn()?;
        let (first, last) = range_of_kind(kind, from, to);
        let range = (Bound::Included(&first[..]), Bound::Included(&last[..]));
        self.kinds
            .rev_range(&transaction, &range)?
            .take(count)
            .map(|entry| self.bytes(&transaction, entry?.0))
            .collect()
    }

    fn prune(&self, below: u64) -> Result<u64> {
        let mut transaction = self.environment.write_txn()?;
        let end = below.to_be_bytes();
        let older = (Bound::Unbounded, Bound::Excluded(&end[..]));
        let pruned = self.events.delete_range(&mut transaction, &older)?;
        for index in [&self.correlations, &self.kinds] {
            let keys = index.iter(&transaction)?.map(|entry| Ok(entry?.0.to_vec()));
            let mut keys = keys.collect::<Result<Vec<_>>>()?;
            keys.retain(|key| is_below(key, below));
            for key in keys {
                index.delete(&mut transaction, &key)?;
            }
        }
        transaction.commit()?;
        Ok(pruned as u64)
    }
}

impl Lmdb {
    fn bytes(&self, transaction: &heed::RoTxn<'_>, key: &[u8]) -> Result<Vec<u8>> {
        let bytes = self.events.get(transaction, &id_of(key))?;
        Ok(bytes.unwrap_or_default().to_vec())
    }
}
