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

    /// The records of a correlation, by id.
    fn correlation(&self, correlation: u64) -> Result<Vec<Vec<u8>>>;

    /// The newest `count` records of a kind between two times, the newest first.
    fn newest(&self, kind: u32, from: i64, to: i64, count: usize) -> Result<Vec<Vec<u8>>>;

    /// Deletes all records below an id in one transaction that is synced when this returns; answers how many.
    fn prune(&self, below: u64) -> Result<u64>;
}

pub(super) type Open = fn(&Path) -> Result<Box<dyn Engine>>;

pub(super) const ALL: [(&str, Open); 4] = [
    ("fjall", |folder| Ok(Box::new(fjall::Fjall::open(folder)?))),
    ("redb", |folder| Ok(Box::new(redb::Redb::open(folder)?))),
    ("lmdb", |folder| Ok(Box::new(lmdb::Lmdb::open(folder)?))),
    ("sqlite", |folder| {
        Ok(Box::new(sqlite::Sqlite::open(folder)?))
    }),
];

/// Those that answered such questions fastest.
pub(super) const FOUND_IN: [(&str, Open); 2] = [
    ("lmdb", |folder| Ok(Box::new(lmdb::Lmdb::open(folder)?))),
    ("sqlite", |folder| {
        Ok(Box::new(sqlite::Sqlite::open(folder)?))
    }),
];

/// The id at the end of an index's key.
fn id_of(key: &[u8]) -> [u8; 8] {
    key[key.len() - 8..].try_into().expect("keys end in an id")
}

/// Whether an index's key is of an id below another.
fn is_below(key: &[u8], below: u64) -> bool {
    u64::from_be_bytes(id_of(key)) < below
}

/// From the first to the last key of a kind within a range of time.
fn range_of_kind(kind: u32, from: i64, to: i64) -> ([u8; 20], [u8; 20]) {
    let key = |time: i64, id: u64| {
        let mut key = [0; 20];
        key[..4].copy_from_slice(&kind.to_be_bytes());
        key[4..12].copy_from_slice(&time.to_be_bytes());
        key[12..].copy_from_slice(&id.to_be_bytes());
        key
    };
    (key(from, 0), key(to, u64::MAX))
}

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
            let found = engine.correlation(records[0].correlation).expect(who);
            let expected: Vec<_> = records[..15]
                .iter()
                .map(|record| record.bytes.clone())
                .collect();
            assert_eq!(found, expected, "{who}");
            let (kind, time) = (records[9].kind, records[19].time);
            let newest = engine.newest(kind, 0, time, 2).expect(who);
            assert_eq!(
                newest,
                [records[17].bytes.clone(), records[9].bytes.clone()],
                "{who}"
            );
            assert_eq!(engine.prune(records[10].id).expect(who), 10, "{who}");
            let found = engine.correlation(records[0].correlation).expect(who);
            assert_eq!(found, expected[10..], "{who}");
            let newest = engine.newest(kind, 0, time, 2).expect(who);
            assert_eq!(newest, [records[17].bytes.clone()], "{who}");
        }
    }
}
