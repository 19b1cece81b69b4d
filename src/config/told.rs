//! What people are told of the settings, and what they mean. Pure.

use super::{
    Origin, UpdateError,
    source::{self, Reading},
    state::State,
    tree,
};
use crate::value::{Path, Value, ValueError};

impl State {
    /// What a text given by a person means at `path`: its likely reading, or another one when that does not have the right type.
    pub(super) fn read_text(&self, path: &Path, text: &str) -> Value {
        let Reading { first, others } = source::read_value(text, self.document.get(path));
        let is_mistyped = |value: &Value| {
            let settled = self.try_settle(&[(path.clone(), value.clone())]);
            matches!(settled, Err(UpdateError::WrongType { .. }))
        };
        if others.is_empty() || !is_mistyped(&first) {
            return first;
        }
        // Without a secret something may be open that was not.
        let has_to_be = self.tables.touches_secret(path, "");
        let mut others = others
            .into_iter()
            .filter(|other| !(has_to_be && other.is_null()));
        others.find(|other| !is_mistyped(other)).unwrap_or(first)
    }

    /// What is wrong with the type of a value, unless that would tell a secret.
    pub(super) fn told(&self, path: &Path, error: ValueError) -> String {
        let at = match &error {
            ValueError::Mismatch { at, .. } => at.as_str(),
            _ => "",
        };
        match error {
            _ if self.tables.touches_secret(path, at) => {
                "the value does not fit (it is secret, so the reason is not shown)".to_owned()
            }
            ValueError::Mismatch { at, what } if !at.is_empty() => format!("{at}: {what}"),
            ValueError::Mismatch { what, .. } => what,
            other => other.to_string(),
        }
    }

    pub(super) fn suggest(&self, path: &Path) -> Option<String> {
        tree::did_you_mean(&self.document, path)
    }

    /// Where the value at `path` comes from; for a table, where the strongest part of it comes from.
    pub(super) fn origin(&self, path: &Path) -> Option<Origin> {
        self.document.get(path)?;
        let written = self
            .overlay
            .iter()
            .rev()
            .find(|entry| entry.path.starts_with(path) || path.starts_with(&entry.path));
        if let Some(entry) = written {
            return Some(entry.origin());
        }
        Some(self.origin_of_sources(path))
    }

    /// The same without what was changed while running.
    pub(super) fn origin_of_sources(&self, path: &Path) -> Origin {
        // What the sources say of it now does not hold.
        let held = self
            .ground
            .held
            .iter()
            .find(|held| path.starts_with(&held.path));
        if let Some(held) = held {
            return held.origin.clone();
        }
        let layered = self
            .ground
            .layers
            .iter()
            .rev()
            .find_map(|layer| layer.origin(path));
        layered.unwrap_or(Origin::Default)
    }
}
