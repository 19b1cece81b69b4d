//! What may change while the program runs, and what of it takes a restart. Pure.

use super::{
    Mutability, UpdateError,
    source::with_tables,
    state::State,
    tree::{self, Difference},
};
use crate::value::{Path, Value};

impl State {
    /// Refuses what may not change, and notes what takes a restart.
    pub(super) fn check_mutability(
        &self,
        path: &Path,
        before: Option<&Value>,
        value: &Value,
        needs_restart: &mut Vec<Path>,
    ) -> Result<(), UpdateError> {
        let mut found = Vec::new();
        if value.as_map().is_some() || before.is_some_and(|before| before.as_map().is_some()) {
            tree::differences(path, before, Some(value), &mut found);
        }
        if found.is_empty() {
            // What stays as it is takes no restart.
            let mut stays = Vec::new();
            let is_same = before == Some(value);
            let noted = if is_same { &mut stays } else { needs_restart };
            return self.check_one(path, Some(value), noted);
        }
        let mut changed = found.iter().flat_map(Difference::settings);
        changed.try_for_each(|(path, after)| self.check_one(&path, after, needs_restart))
    }

    fn check_one(
        &self,
        path: &Path,
        value: Option<&Value>,
        needs_restart: &mut Vec<Path>,
    ) -> Result<(), UpdateError> {
        match self.tables.mutability(path) {
            Mutability::Live => Ok(()),
            Mutability::Restart => {
                note(path.clone(), needs_restart);
                Ok(())
            }
            // What is not there at all is told as that.
            Mutability::Fixed if self.is_known(path, value) => {
                Err(UpdateError::Fixed { path: path.clone() })
            }
            Mutability::Fixed => Err(self.not_found(path)),
        }
    }

    fn is_known(&self, path: &Path, value: Option<&Value>) -> bool {
        if self.document.get(path).is_some() {
            return true;
        }
        let value = value.cloned().unwrap_or_default();
        let Ok(document) = with_tables(&self.document, path, value) else {
            return false;
        };
        self.tables.of(path).is_some() && self.unknown_key(&document, path).is_none()
    }

    /// What of these differences takes a restart.
    pub(super) fn restarts(&self, differences: &[Difference]) -> Vec<Path> {
        let mut found = Vec::new();
        for (path, _) in differences.iter().flat_map(Difference::settings) {
            if self.tables.mutability(&path) == Mutability::Restart {
                note(path, &mut found);
            }
        }
        found
    }

    /// Whether the difference is one of a setting that may not change.
    pub(super) fn is_fixed(&self, difference: &Difference) -> bool {
        let mut settings = difference.settings().into_iter();
        settings.any(|(path, _)| self.tables.mutability(&path) == Mutability::Fixed)
    }

    /// The settings that were changed since the start and take effect at the next one.
    pub(super) fn restart_needed(&self) -> Vec<Path> {
        let changed = self.restarts(&tree::diff(&self.ground.loaded, &self.document));
        let held = self.ground.held.iter().map(|held| held.path.clone());
        changed.into_iter().chain(held).collect()
    }
}

/// A table that is told stands for what is in it.
fn note(path: Path, found: &mut Vec<Path>) {
    if !found.iter().any(|known| path.starts_with(known)) {
        found.push(path);
    }
}
