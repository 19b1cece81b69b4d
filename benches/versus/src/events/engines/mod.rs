//! The storage engines that a program would keep its events in.

mod fjall;
mod lmdb;
mod redb;
mod sqlite;

use std::path::Path;

use anyhow::Result;

use super::material::Record;

/// Stores events so that the same questions can be answered: by id, by correlation, by kind and time.
pub(super) trait Engine: Send + Sync {
    /// Stores records in one transaction that is synced when this returns.
    fn commit(&self, records: &[Record]) -> Result<()>;
}

type Open = fn(&Path) -> Result<Box<dyn Engine>>;

pub(super) const ALL: [(&str, Open); 4] = [
    ("fjall", |folder| Ok(Box::new(fjall::Fjall::open(folder)?))),
    ("redb", |folder| Ok(Box::new(redb::Redb::open(folder)?))),
    ("lmdb", |folder| Ok(Box::new(lmdb::Lmdb::open(folder)?))),
    ("sqlite", |folder| {
        Ok(Box::new(sqlite::Sqlite::open(folder)?))
    }),
];

/// Key of the index by correlation: big-endian, so that the order of bytes is the order of numbers.
fn by_correlation(record: &Record) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&record.correlation.to_be_bytes());
    key[8..].copy_from_slice(&record.id.to_be_bytes());
    key
}

/// Key of the index by kind and time. Times are after 1970, so their sign does not disturb the order.
fn by_kind_and_time(record: &Record) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&record.kind.to_be_bytes());
    key[4..12].copy_from_slice(&record.time.to_be_bytes());
    key[12..].copy_from_slice(&record.id.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::{super::material::Material, *};

    #[test]
    fn every_engine_takes_batches_and_single_records() {
        for (who, open) in ALL {
            let folder = tempfile::tempdir().expect("a folder");
            let engine = open(folder.path()).expect(who);
            let records = Material::new().records(20);
            engine.commit(&records[..19]).expect(who);
            engine.commit(&records[19..]).expect(who);
        }
    }
}
