//! Reading on from a place in the log.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::super::{
    Event,
    candidates::{Candidate, Candidates},
    columns::ZONE_ROWS,
    copied::Copied,
    filter::Filter,
    record::Record,
    search::{Halt, QUICK_BYTES, QUICK_EVENTS},
    texts::Texts,
    view::{Access, View},
};

/// Events that are read ahead.
const AHEAD_EVENTS_MAX: usize = 256;
/// Bytes of events, as encoded, after which no more are read ahead.
const AHEAD_BYTES_MAX: usize = 1 << 20;
/// Rows that are searched for candidates at a time.
const WINDOW_ROWS: u32 = 8 * ZONE_ROWS;
/// Windows that are searched on the caller's own task: some tens of microseconds.
const QUICK_WINDOWS: usize = 4;
/// Windows of one stretch, after which a subscription of rare events says how far it came.
const WINDOWS_MAX: usize = 512;

/// An event, or the one that could not be read, and the row behind it.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) id: u64,
    pub(super) place: (u64, u32),
    pub(super) event: Result<Event, io::Error>,
}

/// What reading on from a place found.
#[derive(Debug, Default)]
pub(in crate::events) struct Stretch {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) place: (u64, u32),
}

/// Reads on from a place, up to what is shown, or until there is enough.
pub(in crate::events) fn read_on<V: View>(
    filter: &Filter,
    views: &[Arc<V>],
    place: (u64, u32),
    cancelled: &AtomicBool,
    access: Access<'_>,
) -> Result<Stretch, Halt> {
    // Rows show in their order, so what shows of a segment was asked for after those behind it: if a later one has rows, this is complete.
    let rows: Vec<u32> = views.iter().rev().map(|view| view.rows()).collect();
    let mut reading = Reading {
        filter,
        access,
        cancelled,
        windows: 0,
        looked_at: 0,
        bytes: 0,
        copied: Copied::default(),
        texts: Texts::default(),
        stretch: Stretch {
            deliveries: Vec::new(),
            place,
        },
    };
    for (view, rows) in views.iter().zip(rows.into_iter().rev()) {
        let from = match view.base() {
            base if base < place.0 => continue,
            base if base == place.0 => place.1.min(rows),
            _ => 0,
        };
        // Into a new segment only with its first row: until then more may show in the one before.
        if rows > from && !reading.segment(view.as_ref(), from, rows)? {
            break;
        }
    }
    Ok(reading.stretch)
}

#[cfg(test)]
impl Stretch {
    pub(in crate::events) fn found(&self) -> usize {
        self.deliveries.len()
    }

    pub(in crate::events) fn place(&self) -> (u64, u32) {
        self.place
    }
}

struct Reading<'a> {
    filter: &'a Filter,
    access: Access<'a>,
    cancelled: &'a AtomicBool,
    windows: usize,
    /// Events that were read, and bytes of their records.
    looked_at: usize,
    bytes: usize,
    copied: Copied,
    texts: Texts,
    stretch: Stretch,
}

impl Reading<'_> {
    /// Reads rows of a segment; false when there is enough.
    fn segment(&mut self, view: &dyn View, from: u32, rows: u32) -> Result<bool, Halt> {
        let base = view.base();
        let Some(mut candidates) = Candidates::plan(self.filter, view, rows, self.access)? else {
            self.stretch.place = (base, rows);
            return Ok(true);
        };
        let mut found = Vec::new();
        let mut start = from;
        while start < rows {
            if self.cancelled.load(Relaxed) {
                return Err(Halt::Cancelled);
            }
            if self.windows == WINDOWS_MAX {
                return Ok(false);
            }
            if !self.access.is_patient() && self.windows == QUICK_WINDOWS {
                return Err(Halt::NotQuick);
            }
            self.windows += 1;
            let end = rows.min(start.saturating_add(WINDOW_ROWS));
            found.clear();
            candidates.within(start..end, &mut found)?;
            let mut rest = &found[..];
            while !rest.is_empty() {
                if self.has_enough()? {
                    return Ok(false);
                }
                let read = self.deliver(view, rest)?;
                rest = &rest[read..];
            }
            self.stretch.place = (base, end);
            start = end;
        }
        Ok(true)
    }

    /// Whether there is enough for now: on the caller's own task, what is decoded soon.
    fn has_enough(&self) -> Result<bool, Halt> {
        let found = self.stretch.deliveries.len();
        if found >= AHEAD_EVENTS_MAX || self.bytes >= AHEAD_BYTES_MAX {
            return Ok(true);
        }
        let is_quick = self.looked_at < QUICK_EVENTS && self.bytes < QUICK_BYTES;
        match found {
            _ if is_quick || self.access.is_patient() => Ok(false),
            0 => Err(Halt::NotQuick),
            _ => Ok(true),
        }
    }

    /// Reads some of these, the first at least, and answers how many.
    fn deliver(&mut self, view: &dyn View, found: &[Candidate]) -> Result<usize, Halt> {
        let rows = found.iter().take(Copied::RECORDS_MAX);
        let rows: Vec<_> = rows.map(|candidate| candidate.row).collect();
        self.copied.fill(view, &rows, self.access)?;
        let bytes = self.copied.all_bytes();
        if bytes > QUICK_BYTES && !self.access.is_patient() {
            return Err(Halt::NotQuick);
        }
        self.bytes += bytes;
        self.looked_at += self.copied.len();
        let read = &found[..self.copied.len()];
        for (at, candidate) in read.iter().enumerate() {
            let event = self.decode(at);
            let place = (view.base(), candidate.row + 1);
            self.stretch.place = place;
            if matches!(event, Some(Err(_))) && self.is_hidden(view, candidate.row)? {
                continue;
            }
            if let Some(event) = event {
                let id = candidate.key.id;
                self.stretch.deliveries.push(Delivery { id, place, event });
            }
        }
        Ok(read.len())
    }

    /// Whether a row was pruned since it was found.
    fn is_hidden(&self, view: &dyn View, row: u32) -> Result<bool, Halt> {
        let mut keys = Vec::new();
        view.keys(&[row], self.access, &mut keys)?;
        Ok(keys.first().is_none_or(|key| key.hidden))
    }

    /// The event of a copied record, if the filter takes it.
    fn decode(&mut self, place: usize) -> Option<io::Result<Event>> {
        let damaged = || Some(Err(io::ErrorKind::InvalidData.into()));
        let bytes = match self.copied.take(place) {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(error)),
        };
        let Some(record) = Record::read(bytes) else {
            return damaged();
        };
        if !self.filter.takes(&record, &mut self.texts) {
            return None;
        }
        match self.filter.data_of(&record, &mut self.texts) {
            Ok(None) => None,
            Ok(Some(data)) => match Event::of(&record, data, &mut self.texts) {
                Some(event) => Some(Ok(event)),
                None => damaged(),
            },
            Err(()) => damaged(),
        }
    }
}
