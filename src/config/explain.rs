//! What there is to say about a setting, and what is not as it was.

use std::sync::Arc;

use super::{
    AsPath, Change, Configuration, Mutability, Origin, ReadError, Record, Revision, UpdateError,
    overlay::lay_over,
    read,
    record::Log,
    state::{State, beyond_limits},
};
use crate::value::{Path, Value};

/// All there is to say about one setting.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The setting, or the table of settings.
    pub path: Path,
    /// Its value as it may be shown.
    pub value: Value,
    /// Where the value comes from.
    pub origin: Origin,
    /// Whether and when it may change.
    pub mutability: Mutability,
    /// Whether it is secret; then no value of it is shown.
    pub secret: bool,
    /// What it is, where the rules of its type describe it.
    pub description: Option<String>,
    /// What each layer says of it, the strongest first. The first one holds, unless the setting is a table: of that the layers are
    /// laid over one another.
    pub layers: Vec<(Origin, Value)>,
    /// Whether the sources say something that only holds from the next start on.
    pub held: bool,
    /// The changes that touched it, newest first, as far as the history goes.
    pub history: Vec<Arc<Record>>,
}

impl Configuration {
    /// The value of a setting, where it comes from, what the other layers say, whether it may change, and its history.
    ///
    /// # Errors
    ///
    /// As [`Configuration::get_value`].
    pub fn explain(&self, path: impl AsPath) -> Result<Explanation, ReadError> {
        let path = path.as_path()?.into_owned();
        let defaults = self.shared().sources.defaults();
        let published = &self.shared().published;
        published.with_log(|log, state| explanation(state, log, defaults, path))
    }

    /// What is not as it was at a revision; without one, what was changed while running: it is not as the sources say. Secrets
    /// are replaced. A setting is listed once, whatever happened to it in between.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NoSuchRevision`] when the revision is not in the history.
    pub fn differences(&self, since: Option<Revision>) -> Result<Vec<Change>, UpdateError> {
        self.differences_now(since).map(|(_, changes)| changes)
    }

    /// The same with the revision that was looked at.
    pub(crate) fn differences_now(
        &self,
        since: Option<Revision>,
    ) -> Result<(Revision, Vec<Change>), UpdateError> {
        let published = &self.shared().published;
        published.with_log(|log, state| {
            let then = match since {
                None => state.ground.base.clone(),
                Some(revision) => state.document_at(revision, log)?,
            };
            Ok((state.revision, state.changes(&then, &state.document)))
        })
    }
}

fn explanation(
    state: &State,
    log: &Log,
    defaults: &Value,
    path: Path,
) -> Result<Explanation, ReadError> {
    let value = read::value(state, None, &path)?;
    let shown = |value: &Value| state.tables.redact(&path, value);
    let changed = state.overlay.iter().rev().find_map(|entry| {
        let is_told = entry.path.starts_with(&path) || path.starts_with(&entry.path);
        is_told.then(|| (entry.origin(), shown(&value)))
    });
    let layers = state.ground.layers.iter().rev();
    let layers = layers.filter(|layer| layer.says_anything());
    let layers = layers.filter_map(|layer| {
        let value = layer.values.get(&path)?;
        Some((layer.origin(&path)?, shown(value)))
    });
    let default = defaults.get(&path);
    let default = default.map(|value| (Origin::Default, shown(value)));
    let rules = state.tables.of(&path);
    let history = log.newest(usize::MAX);
    Ok(Explanation {
        value: shown(&value),
        origin: read::origin(state, &path)?,
        mutability: state.tables.mutability(&path),
        secret: rules
            .as_ref()
            .is_some_and(|(table, rest)| table.rules.hides(rest)),
        description: rules.and_then(|(table, rest)| {
            let relative = Path::from_components(rest).unwrap_or_default();
            table.rules.description(&relative).map(str::to_owned)
        }),
        layers: changed.into_iter().chain(layers).chain(default).collect(),
        held: state
            .ground
            .held
            .iter()
            .any(|held| held.path.starts_with(&path) || path.starts_with(&held.path)),
        history: history
            .into_iter()
            .filter(|record| record.touches(&path))
            .collect(),
        path,
    })
}

impl State {
    /// The document as readers saw it at a revision: exactly where the log still has it, else with what the sources say now.
    fn document_at(&self, revision: Revision, log: &Log) -> Result<Value, UpdateError> {
        if let Some(document) = log.document_at(revision) {
            return Ok(document.clone());
        }
        let overlay = self.overlay_at(revision, log)?;
        lay_over(&self.ground.base, &overlay).map_err(beyond_limits)
    }
}
