//! What was changed while running, laid over what the sources say. Pure.

use std::sync::Arc;

use super::{
    UpdateError,
    record::{Delta, Entry},
    source::with_tables,
    state::{State, beyond_limits, check_limits, everything},
};
use crate::value::{Value, ValueError};

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
        state.aside = aside.into();
        state
    }

    fn laid_over(&self, entries: &[Arc<Entry>]) -> Result<Self, UpdateError> {
        for entry in entries {
            check_limits(&entry.path, &entry.value)?;
            self.check_mutability(&entry.path, &entry.value, &mut Vec::new())?;
        }
        let document = lay_over(&self.document, entries).map_err(beyond_limits)?;
        let (document, typed) = self.settle(document, &everything())?;
        Ok(Self {
            document,
            typed,
            overlay: self.overlay.iter().chain(entries).cloned().collect(),
            ..self.clone()
        })
    }
}

impl Delta {
    /// Both overlays are sorted by revision and index.
    pub(super) fn between(before: &[Arc<Entry>], after: &[Arc<Entry>]) -> Self {
        let missing = |from: &[Arc<Entry>], other: &[Arc<Entry>]| {
            let key = |entry: &Arc<Entry>| (entry.revision, entry.index);
            let gone = from
                .iter()
                .filter(|entry| other.binary_search_by_key(&key(entry), key).is_err());
            gone.cloned().collect()
        };
        Self {
            removed: missing(before, after),
            added: missing(after, before),
        }
    }
}

/// `base` with these entries written over it, in their order.
pub(super) fn lay_over(base: &Value, entries: &[Arc<Entry>]) -> Result<Value, ValueError> {
    let laid = |document: Value, entry: &Arc<Entry>| {
        with_tables(&document, &entry.path, entry.value.clone())
    };
    entries.iter().try_fold(base.clone(), laid)
}
