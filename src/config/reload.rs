//! What the sources say anew, taken over while running. Pure.

use std::sync::Arc;

use super::{
    Kind, Record, UpdateError,
    overlay::lay_over,
    source::with_tables,
    state::{Ground, Held, Occasion, State, beyond_limits},
    tree,
};
use crate::value::{Path, Value};

/// What a reload came to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Reloaded {
    /// What it changed, as the revision that it made; `None` when readers see what they saw before.
    pub record: Option<Arc<Record>>,
    /// Settings that may not change while the program runs, and of which the sources now say something else: it holds from the
    /// next start on.
    pub held: Vec<Path>,
}

/// The settings after a reload.
pub(super) struct Reload {
    pub(super) next: State,
    /// `None` when nothing that readers see has changed.
    pub(super) record: Option<Record>,
}

impl State {
    /// The settings with what the sources say now, and with what was changed while running still over it. What may not change while
    /// running stays as it is.
    pub(super) fn reloaded(&self, fresh: &Self, occasion: Occasion) -> Result<Reload, UpdateError> {
        let (base, held) = self.hold_back(&fresh.ground.base)?;
        // Also without the changes made while running it has to be valid: they may be reset.
        let (base, _) = self.settle_all(base)?;
        let document = lay_over(&base, &self.overlay).map_err(beyond_limits)?;
        let (document, typed) = self.settle_all(document)?;
        let sources = Self {
            ground: Arc::new(Ground {
                layers: Arc::clone(&fresh.ground.layers),
                base,
                loaded: self.ground.loaded.clone(),
                held,
            }),
            ..self.clone()
        };
        let (changes, needs_restart) = self.changes_to(&document);
        if changes.is_empty() {
            return Ok(Reload {
                next: sources,
                record: None,
            });
        }
        let overlay = self.overlay.clone();
        let mut step = sources.step(Kind::Load, document, typed, overlay, changes, occasion);
        step.record.needs_restart = needs_restart;
        Ok(Reload {
            next: step.next,
            record: Some(step.record),
        })
    }

    /// `fresh` with what may not change as it was, and which settings those are.
    fn hold_back(&self, fresh: &Value) -> Result<(Value, Vec<Held>), UpdateError> {
        let mut base = fresh.clone();
        let mut held = Vec::new();
        for found in tree::diff(&self.ground.base, fresh) {
            // Where a table came or went, it is held as a whole: without a part of it, it may not be valid.
            if !self.is_fixed(&found) {
                continue;
            }
            base = match found.before {
                Some(before) => with_tables(&base, &found.path, before).map_err(beyond_limits)?,
                None => base.without(&found.path),
            };
            held.push(Held {
                origin: self.origin_of_sources(&found.path),
                path: found.path,
            });
        }
        Ok((base, held))
    }
}
