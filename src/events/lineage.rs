//! Where an event comes from and what came of it. Pure.

use serde::Serialize;

use crate::ids::EventId;

use super::Event;

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
    /// There are more than [`Causes::EVENTS_MAX`].
    TooLong,
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effects {
    /// The event, if it is stored.
    pub event: Option<Event>,
    /// Each before its own effects.
    pub effects: Vec<Effect>,
    /// Whether these are all.
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

    pub(super) fn new(event: Option<Event>) -> Self {
        Self {
            event,
            effects: Vec::new(),
            complete: true,
        }
    }

    /// Puts effects behind their cause, of which none are there yet.
    pub(super) fn insert(&mut self, cause: EventId, own: Vec<Effect>) {
        let at = self
            .effects
            .iter()
            .rposition(|effect| effect.event.id() == cause);
        let at = at.map_or(0, |at| at + 1);
        self.effects.splice(at..at, own);
    }
}
