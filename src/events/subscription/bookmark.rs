use std::{fmt, io, str::FromStr, sync::Arc};

use crate::ids::EventId;

use super::super::{
    QueryError,
    log::Log,
    view::{Access, View},
};

/// How far a subscription has come. As text it is `ID.LOG.SEGMENT.ROW`, good for as long as the log exists; the id is 0 where it does not
/// stand behind an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bookmark {
    id: Option<EventId>,
    /// Which log.
    log: u64,
    base: u64,
    /// The row behind the event's.
    row: u32,
}

/// Before everything, in whatever log.
const BEGINNING: (u64, u32) = (0, 0);

impl Bookmark {
    pub(super) fn new(log: &Log, (base, row): (u64, u32), id: Option<EventId>) -> Self {
        let log = log.id();
        Self { id, log, base, row }
    }

    /// Whether it means a place in this log: it is of this one, or stands before everything in a log that had nothing yet.
    pub(in crate::events) fn is_of(&self, log: &Log) -> bool {
        self.log == log.id() || (self.id.is_none() && self.place() == BEGINNING)
    }

    /// The event that it stands behind; `None` where a subscription began without one.
    #[must_use]
    pub fn id(&self) -> Option<EventId> {
        self.id
    }

    pub(in crate::events) fn place(&self) -> (u64, u32) {
        (self.base, self.row)
    }

    /// Behind all that shows.
    pub(in crate::events) fn end_of<V: View>(views: &[Arc<V>]) -> (u64, u32) {
        let with_rows = views.iter().rev().map(|view| (view.base(), view.rows()));
        let mut places: Vec<_> = with_rows.collect();
        let newest_shown = places.iter().position(|(_, rows)| *rows > 0);
        newest_shown.map_or(BEGINNING, |at| places.swap_remove(at))
    }

    /// Whether the row before it is that of its event, shown or pruned.
    pub(in crate::events) fn stands_behind_its_row<V: View>(
        &self,
        views: &[Arc<V>],
        id: EventId,
        access: Access<'_>,
    ) -> io::Result<bool> {
        let view = views.iter().find(|view| view.base() == self.base);
        let Some((view, row)) = view.zip(self.row.checked_sub(1)) else {
            return Ok(false);
        };
        if row >= view.rows() {
            return Ok(false);
        }
        let mut keys = Vec::new();
        view.keys(&[row], access, &mut keys)?;
        Ok(keys.first().is_some_and(|key| key.id == id.get()))
    }

    /// The place to go on from where its event is nowhere in the log any more.
    ///
    /// It may have been pruned with its segment: then nothing is wrong with the place. Or a power cut took the end of the log with it, as
    /// far as that was not synced, and the rows from where the log ended are other ones: they are all to come. Where they were written
    /// before this opening, nobody knows any more from which row on, and the whole segment comes.
    pub(in crate::events) fn without_its_event<V: View>(
        &self,
        views: &[Arc<V>],
        opened_at: (u64, u32),
    ) -> (u64, u32) {
        let place = self.place();
        let end = Self::end_of(views);
        let segment_is_there = views.iter().any(|view| view.base() == place.0);
        match self.id {
            Some(_) if segment_is_there && place > opened_at => opened_at.min(end),
            Some(_) if segment_is_there => (place.0, 0),
            _ => place.min(end),
        }
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.map_or(0, EventId::get);
        write!(f, "{id}.{:016x}.{}.{}", self.log, self.base, self.row)
    }
}

impl FromStr for Bookmark {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let read = || {
            let mut parts = text.split('.');
            let bookmark = Self {
                id: match parts.next()? {
                    "0" => None,
                    id => Some(id.parse().ok()?),
                },
                log: u64::from_str_radix(parts.next()?, 16).ok()?,
                base: parts.next()?.parse().ok()?,
                row: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(bookmark)
        };
        read().ok_or_else(|| QueryError::Bookmark(text.to_owned()))
    }
}
