//! The index of a segment in memory: columns with a row for each event. Pure.
//!
//! A row costs about 40 bytes, one whose id comes late 12 to 20 more; each distinct correlation and parent of a segment about 11. An event is found by its id, by the list of rows of its kind or source, or by walking the chain of rows that share its
//! correlation or parent from the newest back.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    io,
    ops::{Bound, Range},
    sync::Arc,
};

use foldhash::fast::RandomState;

use crate::ids::CorrelationId;

use super::{by_id::ById, hidden::Times, record::Record, table::Table, view::Term, wire::len32};

/// Where a chain of rows ends.
const NONE: u32 = u32::MAX;
/// Rows of a zone. Small enough to skip well, large enough to cost nothing (1/8 byte a row).
pub(super) const ZONE_ROWS: u32 = 256;

/// All rows of a segment.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) ids: Vec<u64>,
    pub(super) times: Vec<i64>,
    /// Where the record starts in the segment, in bytes.
    offsets: Vec<u32>,
    kinds: Labels,
    /// The numbers of kinds, in the order of their texts.
    kinds_in_order: BTreeMap<Arc<str>, u32>,
    #[cfg(test)]
    kinds_looked_at: std::sync::atomic::AtomicUsize,
    sources: Labels,
    correlations: Chains,
    parents: Chains,
    by_id: ById,
    zones: Vec<Zone>,
    span: Option<Zone>,
    /// Where the last record ends.
    end: u32,
    hasher: RandomState,
}

/// One text column: the rows of each distinct text.
#[derive(Debug, Default)]
struct Labels {
    numbers: HashMap<Arc<str>, u32, RandomState>,
    /// Rows, by the number of their text.
    rows: Vec<Vec<u32>>,
    text_bytes: usize,
    /// The text of the newest row, and its number: many events in a row have one.
    newest: Option<u32>,
    /// By their numbers.
    texts: Vec<Arc<str>>,
}

/// One column of many distinct keys: the chain of rows of each, newest first, by a hash.
#[derive(Debug, Default)]
struct Chains {
    newest: Table,
    /// The row before, by row; as long as the newest row that has a key.
    previous: Vec<u32>,
}

/// The smallest and largest key of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) time: (i64, i64),
    pub(super) id: (u64, u64),
}

impl Columns {
    pub(super) fn push(&mut self, record: &Record<'_>, offset: u32) {
        let row = self.rows();
        self.widen_zone(row, record.time, record.id);
        self.by_id.push(row, record.id);
        self.ids.push(record.id);
        self.times.push(record.time);
        self.offsets.push(offset);
        let known = self.kinds.texts.len();
        self.kinds.push(row, record.kind);
        if let Some(kind) = self.kinds.texts.get(known) {
            self.kinds_in_order.insert(kind.clone(), len32(known));
        }
        self.sources.push(row, record.source);
        if let Some(hash) = record.correlation.and_then(CorrelationId::hash64_of) {
            self.correlations.push(row, hash);
        }
        if let Some(parent) = record.parent {
            self.parents.push(row, self.hasher.hash_one(parent));
        }
        self.end = offset.saturating_add(len32(record.bytes.len()));
    }

    pub(super) fn rows(&self) -> u32 {
        len32(self.ids.len())
    }

    /// The bytes from `row`'s record to the next one, which may hold a frame's header behind it.
    pub(super) fn extent(&self, row: u32) -> (u32, u32) {
        let row = row as usize;
        let end = self.offsets.get(row + 1).copied().unwrap_or(self.end);
        (self.offsets[row], end)
    }

    /// Where `row` starts; for the row that would come next, where it would at the earliest.
    pub(super) fn offset(&self, row: u32) -> u32 {
        let offset = self.offsets.get(row as usize).copied();
        offset.unwrap_or(self.end)
    }

    /// A row of an id that `accepts`.
    pub(super) fn find(&self, id: u64, accepts: impl Fn(u32) -> bool) -> Option<u32> {
        self.by_id.find(&self.ids, id, accepts)
    }

    /// How many rows have the term, at the most; few of a chain are added to `few`, as they rise.
    pub(super) fn count(&self, term: Term<'_>, few: &mut Vec<u32>) -> u32 {
        match term {
            Term::Kind(text) => len32(self.kinds.rows_of(text).len()),
            Term::Source(text) => len32(self.sources.rows_of(text).len()),
            Term::Correlation(id) => self.correlations.count(id.hash64(), few),
            Term::Parent(id) => self.parents.count(self.hasher.hash_one(id), few),
        }
    }

    /// Adds the rows in a range that have the term to `out`, as they rise.
    pub(super) fn rows_with(&self, term: Term<'_>, within: Range<u32>, out: &mut Vec<u32>) {
        match term {
            Term::Kind(text) => out.extend_from_slice(part(self.kinds.rows_of(text), within)),
            Term::Source(text) => out.extend_from_slice(part(self.sources.rows_of(text), within)),
            Term::Correlation(id) => self.correlations.rows_of(id.hash64(), within, out),
            Term::Parent(id) => self.parents.rows_of(self.hasher.hash_one(id), within, out),
        }
    }

    /// Adds the kinds that begin with `prefix` to `out`, and how many rows have them. Looks at those and one more.
    pub(super) fn kinds(&self, prefix: &str, out: &mut Vec<(Arc<str>, u32)>) {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let not_before = self.kinds_in_order.range::<str, _>(from);
        let alike = not_before.take_while(|(text, _)| {
            #[cfg(test)]
            self.kinds_looked_at
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            text.starts_with(prefix)
        });
        let rows = |number: u32| len32(self.kinds.rows[number as usize].len());
        out.extend(alike.map(|(text, number)| (text.clone(), rows(*number))));
    }

    /// No more rows will come: gives back what only growing needs.
    pub(super) fn seal(&mut self) {
        self.by_id.shrink();
        self.ids.shrink_to_fit();
        self.times.shrink_to_fit();
        self.offsets.shrink_to_fit();
        self.kinds.shrink();
        self.sources.shrink();
        self.correlations.previous.shrink_to_fit();
        self.parents.previous.shrink_to_fit();
        self.zones.shrink_to_fit();
    }

    /// Keys of all rows; `None` where there are none.
    pub(super) fn span(&self) -> Option<Zone> {
        self.span
    }

    /// How many of the rows start before `offset`.
    pub(super) fn rows_before(&self, offset: u32) -> u32 {
        len32(self.offsets.partition_point(|start| *start < offset))
    }

    /// Memory of the index in bytes.
    pub(super) fn bytes(&self) -> usize {
        /// A key, its number, and the room that a tree leaves.
        const KIND_BYTES: usize = 32;
        self.ids.capacity() * size_of::<u64>()
            + self.times.capacity() * size_of::<i64>()
            + self.offsets.capacity() * size_of::<u32>()
            + self.kinds.bytes()
            + self.kinds_in_order.len() * KIND_BYTES
            + self.sources.bytes()
            + self.correlations.bytes()
            + self.parents.bytes()
            + self.zones.capacity() * size_of::<Zone>()
            + self.by_id.bytes()
    }

    fn widen_zone(&mut self, row: u32, time: i64, id: u64) {
        let key = Zone::of(id, time);
        self.span = Some(self.span.map_or(key, |span| span.and(key)));
        match self.zones.last_mut() {
            Some(zone) if !row.is_multiple_of(ZONE_ROWS) => *zone = zone.and(key),
            _ => self.zones.push(key),
        }
    }
}

impl Times for Columns {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn times(&self, rows: Range<u32>) -> io::Result<Vec<i64>> {
        Ok(self.times[rows.start as usize..rows.end as usize].to_vec())
    }
}

impl Zone {
    /// The zone of one row.
    pub(super) fn of(id: u64, time: i64) -> Self {
        Self {
            time: (time, time),
            id: (id, id),
        }
    }

    pub(super) fn has_id(&self, id: u64) -> bool {
        (self.id.0..=self.id.1).contains(&id)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            time: (self.time.0.min(other.time.0), self.time.1.max(other.time.1)),
            id: (self.id.0.min(other.id.0), self.id.1.max(other.id.1)),
        }
    }
}

impl Labels {
    fn rows_of(&self, text: &str) -> &[u32] {
        let number = self.numbers.get(text);
        number.map_or(&[], |number| &self.rows[*number as usize])
    }

    fn push(&mut self, row: u32, text: &[u8]) {
        let same = |number: &u32| self.texts[*number as usize].as_bytes() == text;
        let number = self
            .newest
            .filter(same)
            .unwrap_or_else(|| self.number_of(text));
        self.newest = Some(number);
        self.rows[number as usize].push(row);
    }

    fn number_of(&mut self, text: &[u8]) -> u32 {
        // Stored texts are UTF-8: they were checked when the event was made.
        match str::from_utf8(text) {
            Ok(text) => self.number_of_text(text),
            Err(_) => self.number_of_text(&String::from_utf8_lossy(text)),
        }
    }

    fn number_of_text(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let (text, number) = (Arc::from(text), len32(self.rows.len()));
        self.rows.push(Vec::new());
        self.text_bytes += str::len(&text);
        self.numbers.insert(Arc::clone(&text), number);
        self.texts.push(text);
        number
    }

    fn shrink(&mut self) {
        self.rows.iter_mut().for_each(Vec::shrink_to_fit);
        self.numbers.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        /// A map's key, number and control byte, an `Arc`'s two counters.
        const TEXT_BYTES: usize = 16 + 4 + 1 + 16;
        let rows: usize = self.rows.iter().map(Vec::capacity).sum();
        rows * size_of::<u32>()
            + self.rows.capacity() * size_of::<Vec<u32>>()
            + self.numbers.capacity() * TEXT_BYTES
            + self.texts.capacity() * size_of::<Arc<str>>()
            + self.text_bytes
    }
}

impl Chains {
    fn push(&mut self, row: u32, hash: u64) {
        let previous = self.newest.replace(hash, row);
        self.previous.resize(row as usize, NONE);
        self.previous.push(previous.unwrap_or(NONE));
    }

    fn walk(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let before = |row: &u32| {
            let previous = self.previous[*row as usize];
            (previous != NONE).then_some(previous)
        };
        std::iter::successors(self.newest.find(hash, |_| true), before)
    }

    /// Counts to a limit, and lists what is below it; a longer chain may be as long as there are rows.
    fn count(&self, hash: u64, few: &mut Vec<u32>) -> u32 {
        const LIMIT: usize = 1024;
        let from = few.len();
        few.extend(self.walk(hash).take(LIMIT));
        let counted = few.len() - from;
        if counted < LIMIT {
            few[from..].reverse();
            len32(counted)
        } else {
            few.truncate(from);
            len32(self.previous.len())
        }
    }

    fn rows_of(&self, hash: u64, within: Range<u32>, out: &mut Vec<u32>) {
        let from = out.len();
        let not_below = self.walk(hash).take_while(|row| *row >= within.start);
        out.extend(not_below.filter(|row| *row < within.end));
        out[from..].reverse();
    }

    fn bytes(&self) -> usize {
        self.previous.capacity() * size_of::<u32>() + self.newest.bytes()
    }
}

/// The rows of a rising list that lie in a range.
pub(super) fn part(rows: &[u32], within: Range<u32>) -> &[u32] {
    let from = rows.partition_point(|row| *row < within.start);
    let to = rows.partition_point(|row| *row < within.end);
    &rows[from..to.max(from)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::record, *};

    fn bytes(id: u64, parent: Option<u64>, correlation: &str) -> Vec<u8> {
        let head = record::Head {
            id,
            time: 0,
            parent,
            kind: if id.is_multiple_of(2) { "even" } else { "odd" },
            source: "",
            correlation: Some(correlation),
        };
        let mut out = Vec::new();
        record::write(&mut out, &head, |_| Ok::<_, ()>(())).expect("no data");
        out
    }

    fn fill(columns: &mut Columns, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let bytes = bytes(id, None, "c");
            let record = Record::read(&bytes).expect("whole");
            columns.push(&record, columns.end);
        }
    }

    proptest! {
        #[test]
        fn every_row_is_found_by_its_id_before_and_after_sealing(ids in prop::collection::vec(1_u64..500, 0..900)) {
            let mut columns = Columns::default();
            fill(&mut columns, ids.clone());

            for sealed in [false, true] {
                if sealed {
                    columns.seal();
                }
                for id in 0..501 {
                    let found = columns.find(id, |_| true).map(|row| columns.ids[row as usize]);
                    prop_assert_eq!(found, ids.contains(&id).then_some(id));
                }
            }
        }
    }

    #[test]
    fn rows_are_listed_by_all_that_they_have() {
        let mut columns = Columns::default();
        for id in 1..=9 {
            let correlation = if id % 3 == 0 { "third" } else { "other" };
            let bytes = bytes(id, (id > 6).then_some(id / 2), correlation);
            columns.push(&Record::read(&bytes).expect("whole"), columns.end);
        }

        let id = |text| CorrelationId::new(text).expect("short text");
        let rows = |term: Term<'_>, within| {
            let mut rows = Vec::new();
            columns.rows_with(term, within, &mut rows);
            rows
        };
        let (third, other, none) = (id("third"), id("other"), id("none"));
        assert_eq!(rows(Term::Correlation(&third), 0..9), [2, 5, 8]);
        assert_eq!(rows(Term::Correlation(&third), 3..8), [5]);
        assert_eq!(rows(Term::Correlation(&none), 0..9), [0; 0]);
        assert_eq!(rows(Term::Parent(4), 0..9), [7, 8]);
        assert_eq!(rows(Term::Kind("even"), 2..8), [3, 5, 7]);
        assert_eq!(rows(Term::Source(""), 7..20), [7, 8]);
        let count = |term: Term<'_>| {
            let mut few = Vec::new();
            (columns.count(term, &mut few), few)
        };
        assert_eq!(count(Term::Kind("odd")), (5, vec![]));
        assert_eq!(
            count(Term::Correlation(&other)),
            (6, vec![0, 1, 3, 4, 6, 7])
        );
    }

    /// All kinds of a segment were gone through for each query of a prefix.
    #[test]
    fn kinds_that_begin_alike_are_found_without_a_look_at_the_others() {
        let mut columns = Columns::default();
        let beginnings = ["a", "job", "job2", "z"].into_iter().cycle();
        for (number, beginning) in (0..2000_u64).zip(beginnings) {
            let kind = format!("{beginning}.{number}");
            let head = record::Head {
                id: number + 1,
                time: 0,
                parent: None,
                kind: &kind,
                source: "",
                correlation: None,
            };
            let mut out = Vec::new();
            record::write(&mut out, &head, |_| Ok::<_, ()>(())).expect("no data");
            columns.push(&Record::read(&out).expect("whole"), columns.end);
        }

        let mut found_and_looked_at = |prefix: &str| {
            let mut found = Vec::new();
            *columns.kinds_looked_at.get_mut() = 0;
            columns.kinds(prefix, &mut found);
            assert!(
                found
                    .iter()
                    .all(|(kind, rows)| kind.starts_with(prefix) && *rows == 1)
            );
            (found.len(), *columns.kinds_looked_at.get_mut())
        };
        assert_eq!(found_and_looked_at("job."), (500, 501));
        assert_eq!(found_and_looked_at("job.1997"), (1, 2));
        assert_eq!(found_and_looked_at("k"), (0, 1));
        assert_eq!(found_and_looked_at("z"), (500, 500));
        assert_eq!(found_and_looked_at(""), (2000, 2000));
    }

    #[test]
    fn a_row_costs_what_the_page_says() {
        let mut columns = Columns::default();
        fill(&mut columns, 1..100_001);

        let growing = columns.bytes() / 100_000;
        columns.seal();
        let sealed = columns.bytes() / 100_000;

        assert!(growing < 55, "{growing} bytes a row while it grows");
        assert!(sealed <= 40, "{sealed} bytes a row once sealed");
    }

    #[test]
    fn a_row_whose_id_comes_late_costs_as_much_more_as_the_page_says() {
        let cost = |ids: Vec<u64>| {
            let (mut columns, rows) = (Columns::default(), ids.len());
            fill(&mut columns, ids);
            let growing = columns.bytes() / rows;
            columns.seal();
            (growing, columns.bytes() / rows)
        };
        // Before and after the table of the latest has grown.
        for rows in [98_000, 100_000] {
            let mut ids: Vec<u64> = (1..=rows).collect();
            let (growing, sealed) = cost(ids.clone());
            fastrand::Rng::with_seed(rows).shuffle(&mut ids);

            let late = cost(ids);

            let more = (late.0 - growing, late.1 - sealed);
            assert!((10..=22).contains(&more.0), "{more:?} bytes a row more");
            assert!((10..=22).contains(&more.1), "{more:?} bytes a row more");
        }
    }
}
