//! Answers a query from a view of the segments, beside the writer: a segment is locked for a few thousand rows at a time.
//!
//! Indexed fields are compared in the columns or, for a correlation's text, in the record's bytes; only events of the answer are decoded.

use std::{
    collections::BinaryHeap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::ids::EventId;

use super::{
    Event, Query,
    columns::{self, Columns, ZONE_ROWS, Zone},
    query::{Cursor, Order, Page, Rank},
    record::Record,
    segment::{Inner, Place, Segment},
};

/// Rows looked at before a segment's lock is let go.
const STEP_ROWS: usize = 2048;
/// Rows that a search may look at on the caller's own task: some tens of microseconds.
const QUICK_ROWS: usize = 8192;

/// Why a search ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// Nobody waits for the answer any more.
    Cancelled,
    /// It needs the disk, or more work than a quick search may do.
    NotQuick,
}

/// One search.
#[derive(Debug)]
pub(super) struct Search<'a> {
    query: &'a Query,
    segments: &'a [Arc<Segment>],
    /// Set when the caller has gone.
    cancelled: &'a AtomicBool,
    /// Stop rather than block.
    quick: bool,
    looked_at: usize,
    after: Option<Rank>,
    sink: Sink,
    /// Rows whose correlation has to be compared in the file.
    cold: Vec<u32>,
}

#[derive(Debug)]
enum Sink {
    /// The best so far, the worst of them on top.
    Best {
        heap: BinaryHeap<Candidate>,
        wanted: usize,
    },
    Count(u64),
}

/// An event that may be part of the answer.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: Rank,
    segment: usize,
    row: u32,
    /// Its record, if it had to be looked at.
    bytes: Option<Vec<u8>>,
}

/// How the rows of a segment are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// Along a chain, from the newest row back.
    Correlation,
    Kind,
    Source,
    /// All of them, from the newest back or from the oldest on.
    Back,
    On,
}

/// How one segment is searched.
#[derive(Debug)]
struct Way {
    /// Which segment.
    at: usize,
    /// Rows that show.
    rows: u32,
    walk: Walk,
    /// The query's texts as this segment numbers them.
    kind: Option<u32>,
    source: Option<u32>,
    /// For each zone the first rank of it and all zones still to come that touch the range; `None` where none does.
    reach: Vec<Option<Rank>>,
}

impl Way {
    fn is_through_all(&self) -> bool {
        matches!(self.walk, Walk::Back | Walk::On)
    }

    fn next(&self, columns: &Columns, row: u32) -> Option<u32> {
        match self.walk {
            Walk::Correlation => columns.previous_with_correlation(row),
            Walk::Kind => columns.kinds.previous(row),
            Walk::Source => columns.sources.previous(row),
            Walk::Back => row.checked_sub(1),
            Walk::On => Some(row + 1).filter(|row| *row < self.rows),
        }
    }

    fn next_zone(&self, row: u32) -> Option<u32> {
        let start = row - row % ZONE_ROWS;
        match self.walk {
            Walk::On => Some(start + ZONE_ROWS).filter(|row| *row < self.rows),
            _ => start.checked_sub(1),
        }
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(
        query: &'a Query,
        segments: &'a [Arc<Segment>],
        cancelled: &'a AtomicBool,
        quick: bool,
    ) -> Self {
        Self {
            query,
            segments,
            cancelled,
            quick,
            looked_at: 0,
            after: query.after.map(|cursor| cursor.rank()),
            sink: Sink::Count(0),
            cold: Vec::new(),
        }
    }

    /// The events that the query asks for.
    pub(super) fn page(mut self) -> Result<Page, Halt> {
        // One more than asked for tells whether there are more.
        let wanted = match self.query.limit {
            0 => return Ok(Page::default()),
            limit => self.query.skip + limit + 1,
        };
        self.sink = Sink::Best {
            heap: BinaryHeap::with_capacity(wanted.min(1024)),
            wanted,
        };
        self.run()?;
        let Sink::Best { heap, .. } = std::mem::replace(&mut self.sink, Sink::Count(0)) else {
            return Ok(Page::default());
        };
        self.read(heap.into_sorted_vec())
    }

    /// How many events match; limit, skip and cursor do not matter.
    pub(super) fn count(mut self) -> Result<u64, Halt> {
        self.after = None;
        self.run()?;
        match self.sink {
            Sink::Count(count) => Ok(count),
            Sink::Best { heap, .. } => Ok(heap.len() as u64),
        }
    }

    fn run(&mut self) -> Result<(), Halt> {
        let mut spans: Vec<_> = (0..self.segments.len())
            .filter_map(|at| {
                let span = self.segments[at].inner.read().columns.span()?;
                self.touches(span).then(|| (self.first_rank(span), at))
            })
            .collect();
        spans.sort_unstable();
        for (first, at) in spans {
            if self.cannot_enter(first) {
                break;
            }
            self.walk_segment(at)?;
        }
        Ok(())
    }

    fn walk_segment(&mut self, at: usize) -> Result<(), Halt> {
        let segment = self.segments[at].clone();
        let rows = segment.published();
        let planned = {
            let inner = segment.inner.read();
            self.plan(&inner.columns, at, rows)
        };
        let Some((way, mut next)) = planned else {
            return Ok(());
        };
        while let Some(row) = next {
            self.pause(STEP_ROWS)?;
            let inner = segment.inner.read();
            next = self.step(&way, &inner, row);
            drop(inner);
            self.look_at_cold(at, &segment)?;
        }
        Ok(())
    }

    /// How to go through a segment, and the row to start from; `None` if no row can match.
    fn plan(&self, columns: &Columns, at: usize, rows: u32) -> Option<(Way, Option<u32>)> {
        let number = |labels: &columns::Labels, text: &Option<Arc<str>>| match text {
            Some(text) => labels.number(text.as_bytes()).map(Some),
            None => Some(None),
        };
        let kind = number(&columns.kinds, &self.query.kind)?;
        let source = number(&columns.sources, &self.query.source)?;
        let chain = |walk, labels: &columns::Labels, number: Option<u32>| {
            let (newest, count) = labels.chain(number?);
            Some((count, walk, newest))
        };
        let (walk, start) = if let Some(id) = &self.query.correlation {
            let newest = columns.newest_with_correlation(id)?;
            (Walk::Correlation, Some(newest))
        } else {
            let kinds = chain(Walk::Kind, &columns.kinds, kind);
            let sources = chain(Walk::Source, &columns.sources, source);
            let shortest = kinds
                .into_iter()
                .chain(sources)
                .min_by_key(|(count, ..)| *count);
            match shortest {
                // A chain through most rows is slower than going through all of them in order.
                Some((count, walk, newest)) if count < columns.rows() / 2 => (walk, Some(newest)),
                _ => self.through_all(rows),
            }
        };
        let reach = match walk {
            Walk::Correlation => Vec::new(),
            _ => self.reach(columns.zones(), walk == Walk::On),
        };
        let way = Way {
            at,
            rows,
            walk,
            kind,
            source,
            reach,
        };
        Some((way, start))
    }

    /// The direction in which the best rows come first, as far as rows are stored in the order of their time.
    fn through_all(&self, rows: u32) -> (Walk, Option<u32>) {
        match self.query.order {
            Order::OldestFirst | Order::IdAscending => (Walk::On, (rows > 0).then_some(0)),
            Order::NewestFirst | Order::IdDescending => (Walk::Back, rows.checked_sub(1)),
        }
    }

    /// Looks at some rows from `row` on its way; answers where to go on.
    fn step(&mut self, way: &Way, inner: &Inner, row: u32) -> Option<u32> {
        let columns = &inner.columns;
        let mut next = Some(row);
        for _ in 0..STEP_ROWS {
            let row = next?;
            let zone = (row / ZONE_ROWS) as usize;
            if let Some(first) = way.reach.get(zone) {
                // No row from here on can be part of the answer.
                if first.is_none_or(|first| self.cannot_enter(first)) {
                    return None;
                }
            }
            if way.is_through_all() && !self.zone_matters(columns.zones()[zone]) {
                next = way.next_zone(row);
                continue;
            }
            self.looked_at += 1;
            if row < way.rows && self.matches(columns, row, way) {
                self.offer(way.at, inner, row);
            }
            next = way.next(columns, row);
        }
        next
    }

    fn matches(&self, columns: &Columns, row: u32, way: &Way) -> bool {
        let at = row as usize;
        let time = columns.times[at];
        let in_range = (self.query.since.as_nanos()..=self.query.until.as_nanos()).contains(&time);
        in_range
            && way.kind.is_none_or(|kind| columns.kinds.rows[at] == kind)
            && way
                .source
                .is_none_or(|source| columns.sources.rows[at] == source)
            && !columns.is_hidden(row)
    }

    fn offer(&mut self, at: usize, inner: &Inner, row: u32) {
        let columns = &inner.columns;
        let rank = self
            .query
            .order
            .rank(columns.times[row as usize], columns.ids[row as usize]);
        if self.after.is_some_and(|after| rank <= after) || self.cannot_enter(rank) {
            return;
        }
        if self.query.correlation.is_none() {
            self.keep(rank, at, row, None);
            return;
        }
        let (start, end) = columns.extent(row);
        match inner.hot.get(start, end) {
            Some(bytes) => {
                if let Some(record) = Record::read(bytes).filter(|record| self.correlates(record)) {
                    let bytes = record.bytes.to_vec();
                    self.keep(rank, at, row, Some(bytes));
                }
            }
            None => self.cold.push(row),
        }
    }

    /// Compares the correlations that are only in the file.
    fn look_at_cold(&mut self, at: usize, segment: &Segment) -> Result<(), Halt> {
        for row in std::mem::take(&mut self.cold) {
            if self.quick {
                return Err(Halt::NotQuick);
            }
            self.pause(1)?;
            let (rank, extent) = {
                let columns = &segment.inner.read().columns;
                let (time, id) = (columns.times[row as usize], columns.ids[row as usize]);
                (self.query.order.rank(time, id), columns.extent(row))
            };
            match segment.read_file(extent.0, extent.1) {
                Ok(bytes) => {
                    let matches =
                        Record::read(&bytes).is_some_and(|record| self.correlates(&record));
                    if matches {
                        self.keep(rank, at, row, Some(bytes));
                    }
                }
                // It may belong here: it is kept, and found unreadable again when it is read.
                Err(_) => self.keep(rank, at, row, None),
            }
        }
        Ok(())
    }

    fn correlates(&self, record: &Record<'_>) -> bool {
        let id = record.correlation.and_then(columns::correlation_of);
        match (&self.query.correlation, id) {
            (Some(wanted), Some(id)) => wanted.is_same_trace(&id),
            (wanted, _) => wanted.is_none(),
        }
    }

    fn keep(&mut self, rank: Rank, segment: usize, row: u32, bytes: Option<Vec<u8>>) {
        match &mut self.sink {
            Sink::Count(count) => *count += 1,
            Sink::Best { heap, wanted } => {
                if heap.len() == *wanted {
                    heap.pop();
                }
                heap.push(Candidate {
                    rank,
                    segment,
                    row,
                    bytes,
                });
            }
        }
    }

    /// Whether there are better candidates enough.
    fn cannot_enter(&self, rank: Rank) -> bool {
        match &self.sink {
            Sink::Best { heap, wanted } => {
                heap.len() == *wanted && heap.peek().is_some_and(|worst| rank >= worst.rank)
            }
            Sink::Count(_) => false,
        }
    }

    fn touches(&self, zone: Zone) -> bool {
        zone.time.0 <= self.query.until.as_nanos() && zone.time.1 >= self.query.since.as_nanos()
    }

    fn zone_matters(&self, zone: Zone) -> bool {
        self.touches(zone) && !self.cannot_enter(self.first_rank(zone))
    }

    /// No row of the zone comes before this.
    fn first_rank(&self, zone: Zone) -> Rank {
        let order = self.query.order;
        let (low, high) = (
            order.rank(zone.time.0, zone.id.0),
            order.rank(zone.time.1, zone.id.1),
        );
        low.min(high)
    }

    fn reach(&self, zones: &[Zone], on: bool) -> Vec<Option<Rank>> {
        let mut first = None;
        let mut widen = |zone: &Zone| {
            if self.touches(*zone) {
                let rank = self.first_rank(*zone);
                first = Some(first.map_or(rank, |first: Rank| first.min(rank)));
            }
            first
        };
        if !on {
            return zones.iter().map(widen).collect();
        }
        let mut reach: Vec<_> = zones.iter().rev().map(&mut widen).collect();
        reach.reverse();
        reach
    }

    fn pause(&self, rows: usize) -> Result<(), Halt> {
        if self.cancelled.load(Relaxed) {
            return Err(Halt::Cancelled);
        }
        if self.quick && self.looked_at + rows > QUICK_ROWS {
            return Err(Halt::NotQuick);
        }
        Ok(())
    }

    fn read(&self, mut candidates: Vec<Candidate>) -> Result<Page, Halt> {
        let last = self.query.skip + self.query.limit;
        let more = candidates.len() > last;
        candidates.truncate(last);
        let mut page = Page::default();
        for candidate in candidates.into_iter().skip(self.query.skip) {
            if self.cancelled.load(Relaxed) {
                return Err(Halt::Cancelled);
            }
            let segment = &self.segments[candidate.segment];
            let row = candidate.row;
            let bytes = match candidate.bytes {
                Some(bytes) => Ok(bytes),
                None => self.bytes_of(segment, row)?,
            };
            let event = bytes
                .ok()
                .as_deref()
                .and_then(Record::read)
                .as_ref()
                .and_then(Event::decode);
            match event {
                Some(event) => page.events.push(event),
                // Pruned while this search went on.
                None if segment.inner.read().columns.is_hidden(row) => {}
                None => page.unreadable.extend(EventId::new(segment.id(row)).ok()),
            }
        }
        let newest = page.events.last().filter(|_| more);
        page.next = newest.map(|event| Cursor::at(self.query.order, event));
        Ok(page)
    }

    fn bytes_of(&self, segment: &Segment, row: u32) -> Result<io::Result<Vec<u8>>, Halt> {
        match segment.look(row, <[u8]>::to_vec) {
            Place::Hot(bytes) => Ok(Ok(bytes)),
            Place::Cold(..) if self.quick => Err(Halt::NotQuick),
            Place::Cold(start, end) => Ok(segment.read_file(start, end)),
        }
    }
}
