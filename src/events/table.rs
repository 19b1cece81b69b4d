//! A hash table of row numbers in eight bytes a slot.

/// Maps the upper half of a 64-bit hash to a row number below 2^32 - 1.
///
/// It keeps 32 bits of each hash, so that two keys may look alike: whoever looks up compares the row itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// Hash above, row number plus one below; zero is empty. A power of two long.
    slots: Vec<u64>,
    used: usize,
}

const SLOTS_MIN: usize = 64;

impl Table {
    /// Adds `row` under `hash`, beside what is there.
    pub(super) fn insert(&mut self, hash: u64, row: u32) {
        self.make_room();
        let slot = slot(hash, row);
        put(&mut self.slots, slot);
        self.used += 1;
    }

    /// Sets the row of `hash` and returns the one that was there.
    pub(super) fn replace(&mut self, hash: u64, row: u32) -> Option<u32> {
        self.make_room();
        let mut at = place(hash, self.slots.len());
        while self.slots[at] != 0 {
            if same_hash(self.slots[at], hash) {
                let old = row_of(self.slots[at]);
                self.slots[at] = slot(hash, row);
                return Some(old);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot(hash, row);
        self.used += 1;
        None
    }

    /// The first row under `hash` that `accepts`.
    pub(super) fn find(&self, hash: u64, mut accepts: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = place(hash, self.slots.len());
        while self.slots[at] != 0 {
            if same_hash(self.slots[at], hash) && accepts(row_of(self.slots[at])) {
                return Some(row_of(self.slots[at]));
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    /// Keeps a quarter of the slots empty, so that probes stay short.
    fn make_room(&mut self) {
        if self.used * 4 < self.slots.len() * 3 {
            return;
        }
        let mut grown = vec![0; (self.slots.len() * 2).max(SLOTS_MIN)];
        for slot in self.slots.iter().filter(|slot| **slot != 0) {
            put(&mut grown, *slot);
        }
        self.slots = grown;
    }
}

fn put(slots: &mut [u64], slot: u64) {
    let mut at = place(slot, slots.len());
    while slots[at] != 0 {
        at = (at + 1) & (slots.len() - 1);
    }
    slots[at] = slot;
}

/// Scales the kept half of the hash to the table, so that growing walks both tables in order.
fn place(hash: u64, len: usize) -> usize {
    let scaled = u128::from(hash >> 32) * (len as u128);
    usize::try_from(scaled >> 32).unwrap_or(0)
}

fn slot(hash: u64, row: u32) -> u64 {
    (hash & !u64::from(u32::MAX)) | (u64::from(row) + 1)
}

fn same_hash(slot: u64, hash: u64) -> bool {
    (slot ^ hash) >> 32 == 0
}

fn row_of(slot: u64) -> u32 {
    let [a, b, c, d, ..] = slot.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_plain_map_finds(keys in prop::collection::vec(0_u64..300, 0..600)) {
            let mut table = Table::default();
            let mut model: HashMap<u64, u32> = HashMap::new();

            for (row, key) in (0_u32..).zip(&keys) {
                let replaced = table.replace(spread(*key), row);
                prop_assert_eq!(replaced, model.insert(*key, row));
            }

            for key in 0..300 {
                prop_assert_eq!(table.find(spread(key), |_| true), model.get(&key).copied());
            }
        }
    }

    #[test]
    fn rows_of_equal_hashes_stand_side_by_side() {
        let mut table = Table::default();
        for row in 0..1000 {
            table.insert(u64::MAX, row);
        }

        assert_eq!(table.find(u64::MAX, |row| row == 731), Some(731));
        assert_eq!(table.find(u64::MAX, |row| row == 1000), None);
    }

    fn spread(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
