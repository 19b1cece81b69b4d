//! How rows are found by their ids. Pure.
//!
//! Ids rise with the rows where one caller makes and stores them, and along a few lanes where several do: there a row is found by search.
//! Only one that comes later than that, as when events are imported in any order, has a place in a table.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::{table::Table, wire::len32};

/// The rows of each id, where the ids themselves are kept beside it.
#[derive(Debug, Default)]
pub(super) struct ById {
    /// The highest id up to the end of each step of rows.
    highest: Vec<u64>,
    /// Rows with an id that is not above all those before.
    late: Vec<Lane>,
    /// Rows that no lane takes.
    latest: Table,
    hasher: RandomState,
}

/// Some rows, with which their ids rise.
#[derive(Debug, Default)]
struct Lane {
    ids: Vec<u64>,
    rows: Vec<u32>,
}

/// Rows that are looked through one by one: a few lines of memory.
const STEP_ROWS: usize = 32;
/// A search looks into each lane.
const LANES_MAX: usize = 4;

impl ById {
    /// Adds the next row.
    pub(super) fn push(&mut self, row: u32, id: u64) {
        let before = self.highest.last().copied();
        if before.is_some_and(|highest| id <= highest) {
            self.push_late(row, id);
        }
        let highest = before.map_or(id, |before| before.max(id));
        match self.highest.last_mut() {
            Some(last) if !(row as usize).is_multiple_of(STEP_ROWS) => *last = highest,
            _ => self.highest.push(highest),
        }
    }

    fn push_late(&mut self, row: u32, id: u64) {
        let takes = |lane: &&mut Lane| lane.ids.last().is_none_or(|last| *last < id);
        if let Some(lane) = self.late.iter_mut().find(takes) {
            lane.push(row, id);
        } else if self.late.len() < LANES_MAX {
            self.late.push(Lane::default());
            self.push_late(row, id);
        } else {
            self.latest.insert(self.hasher.hash_one(id), row);
        }
    }

    /// A row with this id that `accepts`; `ids` are those of all rows.
    pub(super) fn find(&self, ids: &[u64], id: u64, accepts: impl Fn(u32) -> bool) -> Option<u32> {
        let fits = |row: &u32| ids[*row as usize] == id && accepts(*row);
        let from = self.step_of(id) * STEP_ROWS;
        let to = ids.len().min(from + STEP_ROWS);
        let in_lanes = || self.late.iter().filter_map(|lane| lane.find(id)).find(fits);
        let in_table = || self.latest.find(self.hasher.hash_one(id), |row| fits(&row));
        let found = (len32(from)..len32(to)).find(fits);
        found.or_else(in_lanes).or_else(in_table)
    }

    /// The step in which a row that is not late has this id: where the highest one reaches it. Looked for from the end: whether it is known
    /// is asked of an id that is about to come.
    fn step_of(&self, id: u64) -> usize {
        let (len, mut last) = (self.highest.len(), 1);
        while last < len && self.highest[len - last] >= id {
            last *= 2;
        }
        let from = len.saturating_sub(last);
        from + self.highest[from..].partition_point(|highest| *highest < id)
    }

    pub(super) fn shrink(&mut self) {
        self.highest.shrink_to_fit();
        for lane in &mut self.late {
            lane.ids.shrink_to_fit();
            lane.rows.shrink_to_fit();
        }
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        let lanes: usize = self.late.iter().map(Lane::bytes).sum();
        self.highest.capacity() * size_of::<u64>() + lanes + self.latest.bytes()
    }
}

impl Lane {
    fn push(&mut self, row: u32, id: u64) {
        self.ids.push(id);
        self.rows.push(row);
    }

    fn find(&self, id: u64) -> Option<u32> {
        // Whether it is known is asked of an id that comes next.
        if self.ids.last().is_none_or(|last| *last < id) {
            return None;
        }
        let at = self.ids.binary_search(&id).ok()?;
        Some(self.rows[at])
    }

    fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<u64>() + self.rows.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_row_that_shows_is_found_however_late_its_id_comes(
            steps in prop::collection::vec(0_u64..4, 0..400),
            spread in 1_u64..60,
        ) {
            let (mut by_id, mut ids, mut risen) = (ById::default(), Vec::new(), 0);
            for step in steps {
                risen += step;
                // Some stand still, some come late, most rise.
                let id = if step == 3 { risen.saturating_sub(spread) } else { risen };
                by_id.push(len32(ids.len()), id);
                ids.push(id);
            }

            for id in 0..risen + 2 {
                // Those before it with its id were pruned.
                let shows = ids.iter().rposition(|other| *other == id).map(len32);
                let found = by_id.find(&ids, id, |row| Some(row) == shows);

                prop_assert_eq!(found, shows);
            }
        }
    }

    #[test]
    fn ids_that_rise_need_no_table() {
        let mut by_id = ById::default();

        for row in 0..10_000 {
            by_id.push(row, u64::from(row) * 3);
        }

        assert!(by_id.bytes() <= 10_000, "{} bytes", by_id.bytes());
        let ids: Vec<u64> = (0..10_000).map(|row| row * 3).collect();
        assert_eq!(by_id.find(&ids, 29_997, |_| true), Some(9_999));
        assert_eq!(by_id.find(&ids, 29_998, |_| true), None);
    }
}
