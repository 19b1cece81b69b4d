//! What was changed while running, laid over what the sources say. Pure.

use std::sync::Arc;

use super::{
    Revision, UpdateError,
    record::Entry,
    source::with_tables,
    state::{Occasion, State, beyond_limits, check_limits},
};
use crate::value::{Path, Value, ValueError};

/// Places none of which lies inside another one, in order.
#[derive(Default)]
pub(super) struct Places<'a>(Vec<&'a Path>);

impl State {
    /// The settings with what an earlier run wrote. What is not valid any more is set aside, the rest stands.
    pub(super) fn with_overlay(&self, entries: &[Arc<Entry>]) -> Self {
        if let Ok(state) = self.laid_over(entries) {
            return state;
        }
        let mut state = self.clone();
        let mut aside = Vec::new();
        // First revision by revision, since parts of one change may only be valid together; then part by part.
        for group in entries.chunk_by(|a, b| a.revision == b.revision) {
            if let Ok(next) = state.laid_over(group) {
                state = next;
                continue;
            }
            for entry in group {
                match state.laid_over(std::slice::from_ref(entry)) {
                    Ok(next) => state = next,
                    Err(_) => aside.push(Arc::clone(entry)),
                }
            }
        }
        state.aside = aside;
        state
    }

    fn laid_over(&self, entries: &[Arc<Entry>]) -> Result<Self, UpdateError> {
        for entry in entries {
            check_limits(&entry.path, &entry.value)?;
            let before = self.document.get(&entry.path);
            self.check_mutability(&entry.path, before, &entry.value, &mut Vec::new())?;
        }
        let document = lay_over(&self.document, entries).map_err(beyond_limits)?;
        let (document, typed) = self.settle_all(document)?;
        Ok(Self {
            document,
            typed,
            overlay: self.overlay.iter().chain(entries).cloned().collect(),
            ..self.clone()
        })
    }

    /// `overlay` with what is written now, in the place of what it replaces. Adds the places that are written to `written`.
    pub(super) fn overlay_over<'a>(
        &self,
        overlay: &[Arc<Entry>],
        writes: &'a [(Path, Value)],
        written: &mut Places<'a>,
        occasion: &Occasion,
    ) -> Vec<Arc<Entry>> {
        let revision = Revision(self.revision.0 + 1);
        let mut over: Vec<_> = Vec::with_capacity(overlay.len() + writes.len());
        // From the last on: what is written over by a later one does not stand.
        for (index, (path, value)) in writes.iter().enumerate().rev() {
            if written.add(path) {
                over.push(Arc::new(Entry {
                    revision,
                    index: u32::try_from(index).unwrap_or(u32::MAX), // there are at most `CHANGES_MAX`
                    path: path.clone(),
                    value: value.clone(),
                    at: occasion.now,
                    author: Arc::clone(&occasion.author),
                }));
            }
        }
        let kept = overlay.iter().filter(|entry| !written.cover(&entry.path));
        over.extend(kept.rev().cloned());
        over.reverse();
        over
    }
}

impl<'a> Places<'a> {
    pub(super) fn with_capacity(places: usize) -> Self {
        Self(Vec::with_capacity(places))
    }

    pub(super) fn paths(&self) -> &[&'a Path] {
        &self.0
    }

    /// Whether the path is one of them or lies inside one.
    pub(super) fn cover(&self, path: &Path) -> bool {
        let after = self.0.partition_point(|place| *place <= path);
        // What lies inside a place comes right after it.
        let nearest = after.checked_sub(1).map(|at| self.0[at]);
        nearest.is_some_and(|place| path.starts_with(place))
    }

    /// Adds a place, in the place of those inside it. False where it was covered already.
    fn add(&mut self, path: &'a Path) -> bool {
        if self.cover(path) {
            return false;
        }
        let at = self.0.partition_point(|place| *place < path);
        let inside = self.0[at..].iter();
        let inside = inside.take_while(|place| place.starts_with(path)).count();
        self.0.drain(at..at + inside);
        self.0.insert(at, path);
        true
    }
}

/// `base` with these entries written over it, in their order.
pub(super) fn lay_over(base: &Value, entries: &[Arc<Entry>]) -> Result<Value, ValueError> {
    let laid = |document: Value, entry: &Arc<Entry>| {
        with_tables(&document, &entry.path, entry.value.clone())
    };
    entries.iter().try_fold(base.clone(), laid)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn places_cover_what_lies_in_any_of_them(
            places in vec(vec("[ab]", 0..4), 0..8),
            asked in vec("[ab]", 0..5),
        ) {
            let of = |names: &Vec<String>| {
                let path = Path::from_components(names.iter().map(String::as_str));
                path.unwrap_or_default() // no names are the root
            };
            let paths: Vec<Path> = places.iter().map(of).collect();
            let asked = of(&asked);
            let mut covered = Places::default();

            for (at, path) in paths.iter().enumerate() {
                let is_covered = paths[..at].iter().any(|place| path.starts_with(place));
                prop_assert_eq!(covered.add(path), !is_covered);
            }

            prop_assert_eq!(covered.cover(&asked), paths.iter().any(|place| asked.starts_with(place)));
        }
    }
}
