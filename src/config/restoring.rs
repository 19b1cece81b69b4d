//! Taking back: resets and rollbacks. Pure.

use std::sync::Arc;

use super::{
    Kind, Revision, UpdateError,
    overlay::{Places, lay_over},
    record::{Entry, Log},
    state::{Occasion, State, Step, beyond_limits},
};
use crate::value::Path;

impl State {
    /// Takes back what was written at or beneath the path.
    pub(super) fn reset(&self, path: &Path, occasion: Occasion) -> Result<Step, UpdateError> {
        let is_within = |entry: &Arc<Entry>| entry.path.starts_with(path);
        if self.document.get(path).is_none() && !self.aside.iter().any(is_within) {
            return Err(self.not_found(path));
        }
        let overlay = self.overlay_without(path, &occasion)?;
        let mut step = self.restore(Kind::Reset, overlay, occasion)?;
        let kept = self.aside.iter().filter(|entry| !is_within(entry));
        step.next.aside = kept.cloned().collect();
        Ok(step)
    }

    /// The overlay without what it says of `path`. A table that was written as a whole and holds it is written anew without it.
    fn overlay_without(
        &self,
        path: &Path,
        occasion: &Occasion,
    ) -> Result<Vec<Arc<Entry>>, UpdateError> {
        let kept = self.overlay.iter();
        let kept = kept.filter(|entry| !entry.path.starts_with(path));
        let overlay: Vec<_> = kept.cloned().collect();
        let around = overlay.iter().filter(|entry| path.starts_with(&entry.path));
        let Some(table) = around.map(|entry| entry.path.clone()).min_by_key(Path::len) else {
            return Ok(overlay);
        };
        let document = match self.ground.base.get(path) {
            Some(value) => self
                .document
                .with(path, value.clone())
                .map_err(beyond_limits)?,
            None => self.document.without(path),
        };
        let value = document.get(&table).cloned().unwrap_or_default();
        let write = [(table, value)];
        Ok(self.overlay_over(&overlay, &write, &mut Places::default(), occasion))
    }

    /// Restores what had been changed while running at an earlier revision.
    pub(super) fn roll_back(
        &self,
        target: Revision,
        overlay: Vec<Arc<Entry>>,
        occasion: Occasion,
    ) -> Result<Step, UpdateError> {
        let mut step = self.restore(Kind::Rollback, overlay, occasion)?;
        step.next.updates += 1;
        // What is set aside was written before, or had not been written yet.
        let kept = self.aside.iter().filter(|entry| entry.revision <= target);
        step.next.aside = kept.cloned().collect();
        Ok(step)
    }

    /// What had been changed while running at a revision.
    pub(super) fn overlay_at(
        &self,
        target: Revision,
        log: &Log,
    ) -> Result<Vec<Arc<Entry>>, UpdateError> {
        let past = (target <= self.revision)
            .then(|| log.overlay_at(target, &self.overlay))
            .flatten();
        past.ok_or_else(|| UpdateError::NoSuchRevision {
            wanted: target,
            oldest: log.floor(),
            current: self.revision,
        })
    }

    /// The settings with another overlay.
    fn restore(
        &self,
        kind: Kind,
        overlay: Vec<Arc<Entry>>,
        occasion: Occasion,
    ) -> Result<Step, UpdateError> {
        let document = lay_over(&self.ground.base, &overlay).map_err(beyond_limits)?;
        let (document, typed) = self.settle_all(document)?;
        let (changes, needs_restart) = self.changes_to(&document);
        let mut step = self.step(kind, document, typed, overlay, changes, occasion);
        step.record.needs_restart = needs_restart;
        Ok(step)
    }
}
