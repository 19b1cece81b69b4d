//! The index of one segment: columns with a row for each event. Pure.
//!
//! A row costs 40 bytes, and in the active segment about 14 more for the id table; each distinct correlation of a segment about 14.
//! An event is found by its id, or by walking the chain of rows that share its kind, source or correlation from the newest back.

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;

use crate::ids::CorrelationId;

use super::{record::Record, table::Table};

/// Where a chain of rows ends, and what a missing source is called.
pub(super) const NONE: u32 = u32::MAX;
/// Rows of a zone. Small enough to skip well, large enough to cost nothing (1/8 byte a row).
pub(super) const ZONE_ROWS: u32 = 256;

/// All rows of a segment.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) ids: Vec<u64>,
    pub(super) times: Vec<i64>,
    /// Where the record starts in the segment, in bytes.
    pub(super) offsets: Vec<u32>,
    pub(super) kinds: Labels,
    pub(super) sources: Labels,
    correlations: Table,
    correlation_previous: Vec<u32>,
    parents: Table,
    /// The row before in the chain of its parent; empty until a row has one.
    parent_previous: Vec<u32>,
    by_id: ById,
    zones: Vec<Zone>,
    span: Option<Zone>,
    hidden: Hidden,
    /// Where the last record ends.
    end: u32,
    hasher: RandomState,
}

/// One text column: a number for each distinct text, and the chain of rows that have it.
#[derive(Debug, Default)]
pub(super) struct Labels {
    numbers: HashMap<Arc<[u8]>, u32, RandomState>,
    /// Newest row and number of rows, by text.
    chains: Vec<(u32, u32)>,
    /// Text number, by row.
    pub(super) rows: Vec<u32>,
    previous: Vec<u32>,
    text_bytes: usize,
}

/// How a row is found by its id.
#[derive(Debug)]
enum ById {
    /// Rows still come.
    Growing(Table),
    /// No more rows, and ids rise with them.
    Rising,
    /// No more rows; their numbers in the order of their ids.
    Sorted(Vec<u32>),
}

impl Default for ById {
    fn default() -> Self {
        Self::Growing(Table::default())
    }
}

/// The smallest and largest key of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) time: (i64, i64),
    pub(super) id: (u64, u64),
}

/// Which rows were pruned.
#[derive(Debug, Default)]
struct Hidden {
    /// All rows below.
    prefix: u32,
    /// A bit for each row; empty while no row above the prefix is hidden.
    bits: Vec<u64>,
    count: u32,
}

impl Columns {
    pub(super) fn push(&mut self, record: &Record<'_>, offset: u32) {
        let row = self.rows();
        self.widen_zone(row, record.time, record.id);
        let hash = self.hasher.hash_one(record.id);
        if let ById::Growing(table) = &mut self.by_id {
            table.insert(hash, row);
        }
        self.ids.push(record.id);
        self.times.push(record.time);
        self.offsets.push(offset);
        self.kinds.push(row, Some(record.kind));
        let source = (!record.source.is_empty()).then_some(record.source);
        self.sources.push(row, source);
        let correlation = record.correlation.and_then(correlation_of);
        let previous = correlation.and_then(|id| self.correlations.replace(id.hash64(), row));
        self.correlation_previous.push(previous.unwrap_or(NONE));
        if let Some(parent) = record.parent {
            let hash = self.hasher.hash_one(parent);
            let previous = self.parents.replace(hash, row);
            self.parent_previous.resize(row as usize, NONE);
            self.parent_previous.push(previous.unwrap_or(NONE));
        }
        self.end = offset.saturating_add(super::wire::len32(record.bytes.len()));
    }

    pub(super) fn rows(&self) -> u32 {
        super::wire::len32(self.ids.len())
    }

    /// The bytes from `row`'s record to the next one, which may hold a frame's header behind it.
    pub(super) fn extent(&self, row: u32) -> (u32, u32) {
        let row = row as usize;
        let end = self.offsets.get(row + 1).copied().unwrap_or(self.end);
        (self.offsets[row], end)
    }

    /// Where the next record would at the earliest start.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// The row of an event that is not pruned.
    pub(super) fn find(&self, id: u64) -> Option<u32> {
        let shown = |row: u32| self.ids[row as usize] == id && !self.is_hidden(row);
        match &self.by_id {
            ById::Growing(table) => table.find(self.hasher.hash_one(id), shown),
            ById::Rising => {
                let row = super::wire::len32(self.ids.partition_point(|other| *other < id));
                (row < self.rows() && shown(row)).then_some(row)
            }
            ById::Sorted(order) => {
                let start = order.partition_point(|row| self.ids[*row as usize] < id);
                order[start..]
                    .iter()
                    .copied()
                    .take_while(|row| self.ids[*row as usize] == id)
                    .find(|row| shown(*row))
            }
        }
    }

    /// The newest row whose correlation may be `id`: only its hash was compared.
    pub(super) fn newest_with_correlation(&self, id: &CorrelationId) -> Option<u32> {
        self.correlations.find(id.hash64(), |_| true)
    }

    /// The row before `row` in the chain of its correlation.
    pub(super) fn previous_with_correlation(&self, row: u32) -> Option<u32> {
        link(&self.correlation_previous, row)
    }

    /// The newest row whose parent may be `id`: only its hash was compared.
    pub(super) fn newest_with_parent(&self, id: u64) -> Option<u32> {
        self.parents.find(self.hasher.hash_one(id), |_| true)
    }

    /// The row before `row` in the chain of its parent.
    pub(super) fn previous_with_parent(&self, row: u32) -> Option<u32> {
        link(&self.parent_previous, row)
    }

    /// No more rows will come: gives back what only growing needs.
    pub(super) fn seal(&mut self) {
        if !matches!(self.by_id, ById::Growing(_)) {
            return;
        }
        self.by_id = if self.ids.is_sorted() {
            ById::Rising
        } else {
            let mut order: Vec<u32> = (0..self.rows()).collect();
            order.sort_by_key(|row| self.ids[*row as usize]);
            ById::Sorted(order)
        };
        self.ids.shrink_to_fit();
        self.times.shrink_to_fit();
        self.offsets.shrink_to_fit();
        self.correlation_previous.shrink_to_fit();
        self.parent_previous.shrink_to_fit();
        self.kinds.shrink();
        self.sources.shrink();
        self.zones.shrink_to_fit();
    }

    /// Keys of each [`ZONE_ROWS`] rows.
    pub(super) fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Keys of all rows; `None` where there are none.
    pub(super) fn span(&self) -> Option<Zone> {
        self.span
    }

    pub(super) fn is_hidden(&self, row: u32) -> bool {
        row < self.hidden.prefix || self.hidden.has_bit(row)
    }

    /// How many of the oldest rows are hidden without one that shows between them.
    pub(super) fn hidden_prefix(&self) -> u32 {
        let mut row = self.hidden.prefix;
        while self.hidden.has_bit(row) {
            row += 1;
        }
        row
    }

    pub(super) fn hidden(&self) -> u32 {
        self.hidden.count
    }

    /// Takes all hiding back.
    pub(super) fn show_all(&mut self) {
        self.hidden = Hidden::default();
    }

    /// Hides the oldest `wanted` rows that still show below row `rows`; answers how many there were.
    pub(super) fn hide_oldest(&mut self, wanted: u64, rows: u32) -> u64 {
        let mut hidden = 0;
        while hidden < wanted && self.hidden.prefix < rows {
            let row = self.hidden.prefix;
            if !self.hidden.has_bit(row) {
                self.hidden.count += 1;
                hidden += 1;
            }
            self.hidden.prefix += 1;
        }
        hidden
    }

    /// Hides rows below row `rows` that are earlier than `time`; answers how many still showed.
    pub(super) fn hide_before(&mut self, time: i64, rows: u32) -> u64 {
        let mut hidden = 0;
        for (zone, first) in self.zones.iter().zip((0..).step_by(ZONE_ROWS as usize)) {
            if zone.time.0 >= time || first >= rows {
                continue;
            }
            for row in first..rows.min(first + ZONE_ROWS) {
                if self.times[row as usize] < time && self.hidden.hide(row) {
                    hidden += 1;
                }
            }
        }
        if self.hidden.count == rows {
            self.hidden.prefix = rows;
            self.hidden.bits = Vec::new();
        }
        hidden
    }

    /// How many of the first `rows` rows start before `offset`.
    pub(super) fn rows_before(&self, offset: u32) -> u32 {
        super::wire::len32(self.offsets.partition_point(|start| *start < offset))
    }

    /// How many of the rows from `from` on, below `to`, show.
    pub(super) fn shown_between(&self, from: u32, to: u32) -> u64 {
        if self.hidden.prefix <= from && self.hidden.bits.is_empty() {
            return u64::from(to - from);
        }
        (from..to).map(|row| u64::from(!self.is_hidden(row))).sum()
    }

    /// Memory of the index in bytes.
    pub(super) fn bytes(&self) -> usize {
        let by_id = match &self.by_id {
            ById::Growing(table) => table.bytes(),
            ById::Rising => 0,
            ById::Sorted(order) => order.capacity() * size_of::<u32>(),
        };
        self.ids.capacity() * size_of::<u64>()
            + self.times.capacity() * size_of::<i64>()
            + self.offsets.capacity() * size_of::<u32>()
            + self.correlation_previous.capacity() * size_of::<u32>()
            + self.kinds.bytes()
            + self.sources.bytes()
            + self.correlations.bytes()
            + self.parent_previous.capacity() * size_of::<u32>()
            + self.parents.bytes()
            + self.zones.capacity() * size_of::<Zone>()
            + self.hidden.bits.capacity() * size_of::<u64>()
            + by_id
    }

    fn widen_zone(&mut self, row: u32, time: i64, id: u64) {
        let key = Zone {
            time: (time, time),
            id: (id, id),
        };
        self.span = Some(self.span.map_or(key, |span| span.and(key)));
        match self.zones.last_mut() {
            Some(zone) if !row.is_multiple_of(ZONE_ROWS) => *zone = zone.and(key),
            _ => self.zones.push(key),
        }
    }
}

impl Zone {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            time: (self.time.0.min(other.time.0), self.time.1.max(other.time.1)),
            id: (self.id.0.min(other.id.0), self.id.1.max(other.id.1)),
        }
    }
}

impl Labels {
    /// The number of `text`, if any row has it.
    pub(super) fn number(&self, text: &[u8]) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The newest row that has this text.
    pub(super) fn newest(&self, text: &[u8]) -> Option<u32> {
        self.number(text)
            .map(|number| self.chains[number as usize].0)
    }

    /// How many rows have this text.
    pub(super) fn count(&self, text: &[u8]) -> u32 {
        self.number(text)
            .map_or(0, |number| self.chains[number as usize].1)
    }

    /// How many rows have any text.
    pub(super) fn total(&self) -> u32 {
        self.chains.iter().map(|(_, rows)| rows).sum()
    }

    /// Every text, and how many rows have it.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.numbers
            .iter()
            .map(|(text, number)| (&**text, self.chains[*number as usize].1))
    }

    /// The row before `row` in the chain of its text.
    pub(super) fn previous(&self, row: u32) -> Option<u32> {
        link(&self.previous, row)
    }

    fn push(&mut self, row: u32, text: Option<&[u8]>) {
        let Some(text) = text else {
            self.rows.push(NONE);
            self.previous.push(NONE);
            return;
        };
        let number = self.number(text).unwrap_or_else(|| self.learn(text));
        let (newest, count) = &mut self.chains[number as usize];
        self.rows.push(number);
        self.previous.push(*newest);
        *newest = row;
        *count += 1;
    }

    fn learn(&mut self, text: &[u8]) -> u32 {
        let number = super::wire::len32(self.chains.len());
        self.numbers.insert(Arc::from(text), number);
        self.chains.push((NONE, 0));
        self.text_bytes += text.len();
        number
    }

    fn shrink(&mut self) {
        self.rows.shrink_to_fit();
        self.previous.shrink_to_fit();
        self.numbers.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        /// A map's key, number and control byte, an `Arc`'s two counters.
        const TEXT_BYTES: usize = 16 + 4 + 1 + 16;
        (self.rows.capacity() + self.previous.capacity()) * size_of::<u32>()
            + self.chains.capacity() * size_of::<(u32, u32)>()
            + self.numbers.capacity() * TEXT_BYTES
            + self.text_bytes
    }
}

impl Hidden {
    fn has_bit(&self, row: u32) -> bool {
        self.bits
            .get(row as usize / 64)
            .is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    /// Hides one row; false if it was hidden.
    fn hide(&mut self, row: u32) -> bool {
        if row < self.prefix || self.has_bit(row) {
            return false;
        }
        self.count += 1;
        if row == self.prefix {
            self.prefix += 1;
            return true;
        }
        let word = row as usize / 64;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (row % 64);
        true
    }
}

/// The correlation in a record's bytes.
pub(super) fn correlation_of(text: &[u8]) -> Option<CorrelationId> {
    CorrelationId::new(str::from_utf8(text).ok()?).ok()
}

fn link(previous: &[u32], row: u32) -> Option<u32> {
    previous
        .get(row as usize)
        .copied()
        .filter(|previous| *previous != NONE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::record, *};

    fn bytes(id: u64, time: i64, kind: &str, correlation: &str) -> Vec<u8> {
        let head = record::Head {
            id,
            time,
            parent: None,
            kind,
            source: "",
            correlation: Some(correlation),
        };
        let mut out = Vec::new();
        record::write(&mut out, &head, |_| Ok::<_, ()>(())).expect("no data");
        out
    }

    fn fill(columns: &mut Columns, rows: &[(u64, i64)]) {
        for (id, time) in rows {
            let bytes = bytes(*id, *time, "k", "c");
            let record = Record::read(&bytes).expect("whole");
            columns.push(&record, columns.end());
        }
    }

    proptest! {
        #[test]
        fn every_row_is_found_by_its_id_before_and_after_sealing(ids in prop::collection::vec(1_u64..500, 0..900)) {
            let mut columns = Columns::default();
            let rows: Vec<_> = ids.iter().map(|id| (*id, 0)).collect();
            fill(&mut columns, &rows);

            for sealed in [false, true] {
                if sealed {
                    columns.seal();
                }
                for id in 0..501 {
                    let found = columns.find(id).map(|row| columns.ids[row as usize]);
                    prop_assert_eq!(found, ids.contains(&id).then_some(id));
                }
            }
        }

        #[test]
        fn hiding_agrees_with_a_plain_list(
            times in prop::collection::vec(0_i64..100, 1..700),
            prunes in prop::collection::vec((0_i64..100, 0_u64..20), 1..5),
        ) {
            let mut columns = Columns::default();
            let rows: Vec<_> = (1..).zip(times.iter().copied()).collect();
            fill(&mut columns, &rows);
            let mut shown = vec![true; times.len()];

            for (time, oldest) in prunes {
                let mut expected = 0;
                for (row, show) in shown.iter_mut().enumerate() {
                    if *show && times[row] < time {
                        *show = false;
                        expected += 1;
                    }
                }
                prop_assert_eq!(columns.hide_before(time, columns.rows()), expected);
                let mut left = oldest;
                for show in shown.iter_mut().filter(|show| **show) {
                    if left > 0 {
                        *show = false;
                        left -= 1;
                    }
                }
                prop_assert_eq!(columns.hide_oldest(oldest, columns.rows()), oldest - left);
            }

            for (row, show) in (0..).zip(&shown) {
                prop_assert_eq!(columns.is_hidden(row), !show);
            }
            let showing = u64::try_from(shown.iter().filter(|show| **show).count()).expect("small");
            prop_assert_eq!(columns.shown_between(0, columns.rows()), showing);
            prop_assert_eq!(u64::from(columns.rows() - columns.hidden()), showing);
        }
    }

    #[test]
    fn a_chain_leads_through_all_rows_of_a_correlation() {
        let mut columns = Columns::default();
        for id in 1..=9 {
            let bytes = bytes(id, 0, "k", if id % 3 == 0 { "third" } else { "other" });
            columns.push(&Record::read(&bytes).expect("whole"), columns.end());
        }

        let id = |text| CorrelationId::new(text).expect("short text");
        let newest = columns
            .newest_with_correlation(&id("third"))
            .expect("is there");
        let before = columns.previous_with_correlation(newest).expect("is there");
        let first = columns.previous_with_correlation(before).expect("is there");

        assert_eq!([first, before, newest], [2, 5, 8]);
        assert_eq!(columns.previous_with_correlation(first), None);
        assert_eq!(columns.newest_with_correlation(&id("none")), None);
    }

    #[test]
    fn a_row_costs_what_the_page_says() {
        let mut columns = Columns::default();
        let rows: Vec<_> = (1..100_001).map(|id| (id, 0)).collect();
        fill(&mut columns, &rows);

        let growing = columns.bytes() / rows.len();
        columns.seal();
        let sealed = columns.bytes() / rows.len();

        assert!(growing < 75, "{growing} bytes a row while it grows");
        assert!(sealed <= 40, "{sealed} bytes a row once sealed");
    }
}
