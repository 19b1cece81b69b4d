//! Answers a query from a view of the segments, beside the writer.
//!
//! A segment is gone through in windows of some thousand rows, the best first; a window that holds nothing better than what was found is
//! left out. What an index can tell is told by the index; only events of the answer are decoded, and those whose data is compared.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::ids::EventId;

use super::{
    Event, Query, Timestamp,
    best::{Best, Found},
    bloom::Probe,
    candidates::{Candidate, Candidates},
    columns::{ZONE_ROWS, Zone},
    copied::Copied,
    plan::Plan,
    query::{Page, Rank},
    record::Record,
    texts::Texts,
    view::{Access, Key, View},
};

/// Zones of a window: so many rows that a plan is worth its while, so few that little is looked at in vain.
const WINDOW_ZONES: usize = 8;
const WINDOW_ROWS: u32 = 8 * ZONE_ROWS;
/// An index with at most so many rows is read at once.
const AT_ONCE_ROWS: u32 = 1024;
/// Rows that a search may look at on the caller's own task: some tens of microseconds.
const QUICK_ROWS: usize = 8192;
/// Events that may be decoded on the caller's own task: some hundred microseconds.
pub(super) const QUICK_EVENTS: usize = 256;
/// The same in bytes of their records: large ones take longer.
pub(super) const QUICK_BYTES: usize = 128 << 10;
/// Bytes of candidates, as encoded, that are kept decoded, so that they need not be read again.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Bytes of events, as encoded, after which a page ends early.
pub(super) const PAGE_BYTES_MAX: usize = 32 << 20;

/// Why a search ended without an answer.
#[derive(Debug)]
pub(super) enum Halt {
    /// Nobody waits for the answer any more.
    Cancelled,
    /// It needs the disk, or more work than a quick search may do.
    NotQuick,
    /// An index could not be read.
    Unreadable(io::Error),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::NotQuick,
            _ => Self::Unreadable(error),
        }
    }
}

/// What is asked of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// How many there are.
    Count,
    /// A page, which ends after so many bytes of events.
    Page(usize),
    /// A page, and how it was found.
    Explained,
}

/// What a search did.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// How each segment was searched, by its base; `None` where no row could match. Only if it is to be explained.
    pub(super) plans: Vec<(u64, Option<Plan>)>,
    /// Segments outside of the ranges, or with nothing better than what was found.
    pub(super) left_out: usize,
    pub(super) rows: usize,
    pub(super) events_read: usize,
    /// Bytes of the records that were read.
    pub(super) bytes_read: usize,
    /// Bytes of the events of the page, as encoded.
    pub(super) page_bytes: usize,
}

/// One search.
#[derive(Debug)]
pub(super) struct Search<'a> {
    query: &'a Query,
    /// Each with the rows that it had when the search began.
    segments: Vec<(&'a dyn View, u32)>,
    /// Set when the caller has gone.
    cancelled: &'a AtomicBool,
    access: Access<'a>,
    after: Option<Rank>,
    sink: Sink,
    kept_bytes: usize,
    copied: Copied,
    texts: Texts,
    page_bytes: usize,
    explains: bool,
    work: Work,
}

#[derive(Debug)]
enum Sink {
    Best(Best),
    Count(u64),
}

/// Some rows of a segment, of which none comes before `first`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    first: Rank,
    rows: Range<u32>,
}

impl<'a> Search<'a> {
    pub(super) fn new<V: View>(
        query: &'a Query,
        asked: Asked,
        segments: &'a [Arc<V>],
        cancelled: &'a AtomicBool,
        access: Access<'a>,
    ) -> Self {
        let (explains, links) = (asked == Asked::Explained, query.filter.links());
        // All are kept that are to be told of.
        let is_wanted = |view: &V| explains || may_have(view, &links);
        Self {
            query,
            segments: snapshot(segments, is_wanted),
            cancelled,
            access,
            after: query.after.map(|cursor| cursor.rank()),
            sink: Sink::Count(0),
            kept_bytes: 0,
            copied: Copied::default(),
            texts: Texts::default(),
            page_bytes: match asked {
                Asked::Page(bytes) => bytes,
                Asked::Count | Asked::Explained => PAGE_BYTES_MAX,
            },
            explains,
            work: Work::default(),
        }
    }

    /// The events that the query asks for, and what was done to find them.
    pub(super) fn page(mut self) -> Result<(Page, Work), Halt> {
        // One more than asked for tells whether there are more.
        let wanted = match self.query.limit {
            0 => return Ok((Page::default(), self.work)),
            limit => self.query.skip + limit + 1,
        };
        self.sink = Sink::Best(Best::of(wanted));
        self.run()?;
        let found = match std::mem::replace(&mut self.sink, Sink::Count(0)) {
            Sink::Best(best) => best.into_sorted(),
            Sink::Count(_) => Vec::new(),
        };
        let page = self.read(found)?;
        Ok((page, self.work))
    }

    /// How many events match behind the cursor, without those that are skipped; the limit does not matter.
    pub(super) fn count(mut self) -> Result<u64, Halt> {
        self.run()?;
        let Sink::Count(count) = self.sink else {
            return Ok(0);
        };
        Ok(count.saturating_sub(self.query.skip as u64))
    }

    fn run(&mut self) -> Result<(), Halt> {
        let links = self.query.filter.links();
        let mut spans = Vec::new();
        for at in 0..self.segments.len() {
            let view = self.segments[at].0;
            match view.span().filter(|span| self.touches(*span)) {
                None => self.work.left_out += 1,
                Some(_) if self.explains && !may_have(view, &links) => {
                    self.work.plans.push((view.base(), None));
                }
                Some(span) => spans.push((self.first_rank(span), at)),
            }
        }
        spans.sort_unstable();
        for (done, (first, at)) in spans.iter().enumerate() {
            if self.cannot_enter(*first) {
                self.work.left_out += spans.len() - done;
                break;
            }
            self.search_segment(*at)?;
        }
        Ok(())
    }

    fn search_segment(&mut self, at: usize) -> Result<(), Halt> {
        self.pause()?;
        let (view, rows) = self.segments[at];
        let candidates = Candidates::plan(&self.query.filter, view, rows, self.access)?;
        if self.explains {
            let plan = candidates.as_ref().map(|found| found.the_plan().clone());
            self.work.plans.push((view.base(), plan));
        }
        let Some(mut candidates) = candidates else {
            return Ok(());
        };
        let reads_events = candidates.the_plan().reads_events;
        let mut found = Vec::new();
        for window in self.windows(view, rows, candidates.the_plan()) {
            if self.cannot_enter(window.first) {
                break;
            }
            self.pause()?;
            found.clear();
            self.work.rows += candidates.within(window.rows, &mut found)?;
            if self.query.order.descends() {
                // Rows rise with time, mostly: the best first, so that the others need not enter.
                found.reverse();
            }
            if reads_events {
                self.offer_if_they_match(at, &mut found)?;
            } else {
                for candidate in &found {
                    self.offer(at, candidate, None);
                }
            }
        }
        Ok(())
    }

    /// The windows that touch the ranges, the best first.
    fn windows(&self, view: &dyn View, rows: u32, plan: &Plan) -> Vec<Window> {
        if plan.rows <= AT_ONCE_ROWS {
            let first = (0, 0);
            return vec![Window {
                first,
                rows: 0..rows,
            }];
        }
        let mut zones = Vec::new();
        view.zones(0..rows.div_ceil(ZONE_ROWS), &mut zones);
        let starts = (0..rows).step_by(WINDOW_ROWS as usize);
        let mut windows: Vec<_> = zones
            .chunks(WINDOW_ZONES)
            .zip(starts)
            .filter_map(|(zones, start)| {
                let touching = zones.iter().filter(|zone| self.touches(**zone));
                let first = touching.map(|zone| self.first_rank(*zone)).min()?;
                let rows = start..rows.min(start + WINDOW_ROWS);
                Some(Window { first, rows })
            })
            .collect();
        windows.sort_unstable_by_key(|window| (window.first, window.rows.start));
        windows
    }

    /// Offers those whose events match.
    fn offer_if_they_match(&mut self, at: usize, found: &mut Vec<Candidate>) -> Result<(), Halt> {
        found.retain(|candidate| self.may_enter(self.rank(candidate)));
        let mut rest = &found[..];
        let mut rows = Vec::with_capacity(Copied::RECORDS_MAX.min(rest.len()));
        while !rest.is_empty() {
            self.pause()?;
            rows.clear();
            rows.extend(rest.iter().take(Copied::RECORDS_MAX).map(|found| found.row));
            self.copy(at, &rows)?;
            let (copied, others) = rest.split_at(self.copied.len());
            for (place, candidate) in copied.iter().enumerate() {
                // What was found meanwhile may be better.
                if !self.may_enter(self.rank(candidate)) {
                    continue;
                }
                match self.look(place) {
                    Looked::At(event) => self.offer(at, candidate, event),
                    Looked::AtAnother => {}
                }
            }
            rest = others;
        }
        Ok(())
    }

    fn rank(&self, candidate: &Candidate) -> Rank {
        let Key { id, time, .. } = candidate.key;
        self.query.order.rank(time, id)
    }

    fn may_enter(&self, rank: Rank) -> bool {
        self.after.is_none_or(|after| rank > after) && !self.cannot_enter(rank)
    }

    fn offer(&mut self, at: usize, candidate: &Candidate, event: Option<(Box<Event>, usize)>) {
        let rank = self.rank(candidate);
        if self.may_enter(rank) {
            self.keep(Found {
                rank,
                segment: at,
                row: candidate.row,
                key: (candidate.key.time, candidate.key.id),
                event,
            });
        }
    }

    /// Whether a copied record's event matches, and the event if it is worth keeping.
    fn look(&mut self, place: usize) -> Looked {
        // One that cannot be read may belong here: it is kept, and found unreadable again when it is read.
        let Some(bytes) = self.copied.bytes(place) else {
            return Looked::At(None);
        };
        let has_room = self.has_room() && self.kept_bytes + bytes.len() <= KEPT_BYTES_MAX;
        let filter = &self.query.filter;
        let record = Record::read(bytes);
        let Some(record) = record.filter(|record| filter.takes(record, &mut self.texts)) else {
            return Looked::AtAnother;
        };
        let data = if filter.data.is_empty() {
            has_room.then(|| self.texts.data(record.data)).flatten()
        } else {
            match filter.data_of(&record, &mut self.texts) {
                Ok(None) => return Looked::AtAnother,
                Ok(Some(data)) => Some(data).filter(|_| has_room),
                Err(()) => None,
            }
        };
        let event = data.and_then(|data| Event::of(&record, data, &mut self.texts));
        Looked::At(event.map(|event| (Box::new(event), record.bytes.len())))
    }

    /// Copies the records of some rows: of all, or of as many as are copied at a time.
    fn copy(&mut self, at: usize, rows: &[u32]) -> Result<(), Halt> {
        self.copied.fill(self.segments[at].0, rows, self.access)?;
        self.work.events_read += self.copied.len();
        self.work.bytes_read += self.copied.all_bytes();
        self.pause()
    }

    /// Whether what enters now may stay: nothing has been pushed out yet.
    fn has_room(&self) -> bool {
        match &self.sink {
            Sink::Best(best) => best.has_room(),
            Sink::Count(_) => false,
        }
    }

    fn keep(&mut self, found: Found) {
        match &mut self.sink {
            Sink::Count(count) => *count += 1,
            Sink::Best(best) => {
                self.kept_bytes += found.kept_bytes();
                if let Some(gone) = best.keep(found) {
                    self.kept_bytes -= gone.kept_bytes();
                }
            }
        }
    }

    /// Whether there are better ones enough.
    fn cannot_enter(&self, rank: Rank) -> bool {
        match &self.sink {
            Sink::Best(best) => best.excludes(rank),
            Sink::Count(_) => false,
        }
    }

    fn touches(&self, zone: Zone) -> bool {
        let filter = &self.query.filter;
        let (first, last) = filter.ids();
        let passed = self.after.is_some_and(|after| {
            let order = self.query.order;
            let (one, other) = (
                order.rank(zone.time.0, zone.id.0),
                order.rank(zone.time.1, zone.id.1),
            );
            one.max(other) <= after
        });
        zone.time.0 <= filter.until.as_nanos()
            && zone.time.1 >= filter.since.as_nanos()
            && zone.id.0 <= last
            && zone.id.1 >= first
            && !passed
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

    fn pause(&self) -> Result<(), Halt> {
        if self.cancelled.load(Relaxed) {
            return Err(Halt::Cancelled);
        }
        let Work {
            rows,
            events_read,
            bytes_read,
            ..
        } = self.work;
        let is_quick =
            rows <= QUICK_ROWS && events_read <= QUICK_EVENTS && bytes_read <= QUICK_BYTES;
        if is_quick || self.access.is_patient() {
            Ok(())
        } else {
            Err(Halt::NotQuick)
        }
    }

    fn read(&mut self, mut found: Vec<Found>) -> Result<Page, Halt> {
        let last = self.query.skip + self.query.limit;
        let mut more = found.len() > last;
        found.truncate(last);
        found.drain(..self.query.skip.min(found.len()));
        let mut page = Page {
            events: Vec::with_capacity(found.len().min(1024)),
            ..Page::default()
        };
        let not_decoded = found.iter().filter(|found| found.event.is_none()).count();
        if !self.access.is_patient() && self.work.events_read + not_decoded > QUICK_EVENTS {
            return Err(Halt::NotQuick);
        }
        let (mut bytes, mut end) = (0, None);
        // The copied records of rows from here on, and how many of them were taken.
        let mut taken = 0;
        self.copied.clear();
        for at in 0..found.len() {
            if self.cancelled.load(Relaxed) {
                return Err(Halt::Cancelled);
            }
            if bytes > self.page_bytes {
                more = true;
                break;
            }
            let mut read = found[at].event.take();
            if read.is_none() {
                if taken == self.copied.len() {
                    self.copy_ahead(&found[at..])?;
                    taken = 0;
                }
                taken += 1;
                read = self.copied_event(taken - 1);
            }
            let (time, id) = found[at].key;
            end = EventId::new(id).ok().map(|id| (time, id));
            match read {
                Some((event, len)) => {
                    bytes += len;
                    page.events.push(*event);
                }
                None if self.is_hidden(found[at].segment, found[at].row)? => {}
                None => page.unreadable.extend(EventId::new(id).ok()),
            }
        }
        let cursor = |(time, id)| self.query.cursor_behind(Timestamp::from_nanos(time), id);
        page.next = end.filter(|_| more).map(cursor);
        self.work.page_bytes = bytes;
        Ok(page)
    }

    /// Copies the records of the first of these and of those behind it that are in the same segment, as far as none is decoded already.
    fn copy_ahead(&mut self, found: &[Found]) -> Result<(), Halt> {
        let Some(segment) = found.first().map(|found| found.segment) else {
            return Ok(());
        };
        let alike = |next: &&Found| next.segment == segment && next.event.is_none();
        let rows = found.iter().take_while(alike).map(|found| found.row);
        let rows: Vec<u32> = rows.take(Copied::RECORDS_MAX).collect();
        self.copy(segment, &rows)
    }

    /// The event of a copied record and its length as encoded; `None` if it cannot be read.
    fn copied_event(&mut self, place: usize) -> Option<(Box<Event>, usize)> {
        let record = Record::read(self.copied.bytes(place)?)?;
        let data = self.texts.data(record.data)?;
        let event = Event::of(&record, data, &mut self.texts)?;
        Some((Box::new(event), record.bytes.len()))
    }

    /// Whether a row was pruned while this search went on.
    fn is_hidden(&self, segment: usize, row: u32) -> Result<bool, Halt> {
        let mut keys = Vec::new();
        self.segments[segment]
            .0
            .keys(&[row], self.access, &mut keys)?;
        Ok(keys.first().is_none_or(|key| key.hidden))
    }
}

/// Every segment that is wanted, with the rows that it shows. The newest is asked first: what it shows was stored after all that the others
/// show then.
fn snapshot<V: View>(segments: &[Arc<V>], is_wanted: impl Fn(&V) -> bool) -> Vec<(&dyn View, u32)> {
    let newest_first = segments.iter().rev().filter(|view| is_wanted(view));
    let mut snapshot: Vec<_> = newest_first
        .map(|view| (view.as_ref() as &dyn View, view.rows()))
        .collect();
    snapshot.reverse();
    snapshot
}

/// False if a segment certainly has no row of the correlation or of the parent. Asked of one segment right after the other, and without much
/// between: few filters are in the processor's cache, and so some are fetched at once.
fn may_have<V: View + ?Sized>(view: &V, links: &[Option<Probe>; 2]) -> bool {
    if *links == [None, None] {
        return true;
    }
    let mut links = links.iter().flatten();
    view.links()
        .is_none_or(|filter| links.all(|link| filter.may_have(link)))
}

enum Looked {
    /// It matches.
    At(Option<(Box<Event>, usize)>),
    AtAnother,
}
