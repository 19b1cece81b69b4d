//! Where an event comes from and what came of it. Pure.

use std::{collections::HashSet, ops::Range};

use serde::Serialize;

use crate::ids::EventId;

use super::{Event, Page};

/// Why an event came about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Causes {
    /// The event itself, then its parent, and so on.
    pub events: Vec<Event>,
    /// What stands beyond the last of them.
    pub end: End,
}

/// Where a row of causes ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The last one has no parent: it is the first cause.
    Root,
    /// The parent of the last one is not stored, or not any more.
    Missing {
        /// The parent.
        id: EventId,
    },
    /// The parent of the last one is among its own effects: somebody gave ids that lead in a circle.
    Circle {
        /// The parent.
        id: EventId,
    },
    /// There are more than [`Causes::EVENTS_MAX`], or more than 32 MiB of them together, as encoded.
    TooLong,
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effects {
    /// The event, if it is stored.
    pub event: Option<Event>,
    /// Each before its own effects.
    pub effects: Vec<Effect>,
    /// Whether these are all: there are not more than [`Effects::EVENTS_MAX`] or 32 MiB of them, as encoded, and each could be read.
    pub complete: bool,
}

/// One event that came of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// How far down: 0 for what the event itself caused.
    pub depth: u32,
    /// The event.
    pub event: Event,
}

impl Causes {
    /// The longest row of causes that is followed. A chain of a hundred is long; this one is a program that names each event's
    /// predecessor.
    pub const EVENTS_MAX: usize = 10_000;
}

impl Effects {
    /// The most effects that are followed: what fits on no page, and in little memory.
    pub const EVENTS_MAX: usize = 10_000;
}

/// Bytes of events, as encoded, of which causes, effects or changes of state are followed: what one answer holds at most.
pub(super) const BYTES_MAX: usize = super::search::PAGE_BYTES_MAX;

/// Effects as they are found.
#[derive(Debug)]
pub(super) struct Descent {
    found: Vec<Found>,
    /// Where the effects of the first cause are.
    first: Range<usize>,
    /// Whose effects are still to be looked for: the last one next.
    next: Vec<Cause>,
    seen: HashSet<EventId>,
    bytes: usize,
    complete: bool,
}

#[derive(Debug)]
struct Found {
    effect: Effect,
    /// Where its own effects are.
    own: Range<usize>,
}

/// Of whom effects are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) id: EventId,
    /// Its place among what was found; none for the first cause.
    at: Option<usize>,
    /// How far down its effects are.
    depth: u32,
}

impl Descent {
    pub(super) fn from(id: EventId, bytes: usize) -> Self {
        Self {
            found: Vec::new(),
            first: 0..0,
            next: vec![Cause {
                id,
                at: None,
                depth: 0,
            }],
            seen: HashSet::from([id]),
            bytes,
            complete: true,
        }
    }

    /// Of whom effects are to be looked for next; `None` at the end.
    pub(super) fn next_cause(&mut self) -> Option<Cause> {
        self.next.pop()
    }

    /// How many events and bytes are taken at most; where there is no room any more, one tells that there are more.
    pub(super) fn room(&self) -> (usize, usize) {
        let events = Effects::EVENTS_MAX.saturating_sub(self.found.len());
        match BYTES_MAX.saturating_sub(self.bytes) {
            0 => (1, 0),
            bytes => (events.max(1), bytes),
        }
    }

    /// Takes what a cause has brought about, of so many bytes. False when no more can be taken.
    pub(super) fn take(&mut self, cause: Cause, page: Page, bytes: usize) -> bool {
        let is_full = self.found.len() >= Effects::EVENTS_MAX || self.bytes >= BYTES_MAX;
        self.bytes += bytes;
        self.complete &= page.next.is_none() && page.unreadable.is_empty();
        let new = page.events.into_iter();
        let new: Vec<_> = new.filter(|event| self.seen.insert(event.id())).collect();
        if is_full {
            self.complete &= new.is_empty();
            return new.is_empty();
        }
        let own = self.found.len()..self.found.len() + new.len();
        let depth = cause.depth;
        self.next
            .extend((own.clone().zip(&new)).rev().map(|(at, event)| Cause {
                id: event.id(),
                at: Some(at),
                depth: depth + 1,
            }));
        self.found.extend(new.into_iter().map(|event| Found {
            effect: Effect { depth, event },
            own: 0..0,
        }));
        match cause.at {
            Some(at) => self.found[at].own = own,
            None => self.first = own,
        }
        true
    }

    /// What was found, each before its own effects.
    pub(super) fn effects(self, event: Option<Event>) -> Effects {
        let mut found: Vec<_> = self.found.into_iter().map(Some).collect();
        let mut effects = Vec::with_capacity(found.len());
        let mut next: Vec<usize> = self.first.rev().collect();
        while let Some(at) = next.pop() {
            if let Some(Found { effect, own }) = found[at].take() {
                effects.push(effect);
                next.extend(own.rev());
            }
        }
        Effects {
            event,
            effects,
            complete: self.complete,
        }
    }
}
