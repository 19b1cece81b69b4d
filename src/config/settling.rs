//! Reading changed tables into their types. Pure.

use super::{
    UpdateError,
    error::Refusal,
    state::{State, beyond_limits, joined, may_reshape, unknown_field},
    table::{Table, Typed},
};
use crate::value::{Map, Path, Value, ValueError};

impl State {
    pub(super) fn write(&self, writes: &[(Path, Value)]) -> Result<Value, UpdateError> {
        let mut document = self.document.clone();
        for run in writes.chunk_by(|(a, _), (b, _)| a.parent() == b.parent()) {
            document = match together(&document, run) {
                Some(document) => document,
                None => self.one_by_one(document, run)?,
            };
        }
        Ok(document)
    }

    fn one_by_one(
        &self,
        mut document: Value,
        writes: &[(Path, Value)],
    ) -> Result<Value, UpdateError> {
        for (path, value) in writes {
            document = document
                .with(path, value.clone())
                .map_err(|error| match error {
                    ValueError::NotAMap { .. } => self.not_found(path),
                    source => UpdateError::BeyondLimits {
                        path: path.clone(),
                        source,
                    },
                })?;
        }
        Ok(document)
    }

    /// As [`State::settle`], for all tables.
    pub(super) fn settle_all(&self, document: Value) -> Result<(Value, Vec<Typed>), UpdateError> {
        self.settle(document, &[(Path::root(), Value::Null)], true)
    }

    /// Reads the tables that the writes touched into their types, validates them, and fills in what the types add. `reshapes` says
    /// whether one of the writes [`may_reshape`] its table.
    pub(super) fn settle(
        &self,
        mut document: Value,
        writes: &[(Path, Value)],
        reshapes: bool,
    ) -> Result<(Value, Vec<Typed>), UpdateError> {
        let mut typed = self.typed.clone();
        for (at, table) in self.tables.0.iter().enumerate() {
            let is_touched = writes.iter().any(|(path, _)| {
                let first = path.components().next();
                first.is_none_or(|first| first == table.name)
            });
            if !is_touched {
                continue;
            }
            let known_keys = || match self.unknown_key(&document, &table.at) {
                Some(path) => Err(self.not_found(&path)),
                None => Ok(()),
            };
            if reshapes {
                known_keys()?;
            }
            let value = document.get(&table.at).unwrap_or(&Value::Null);
            let read = table
                .read(value)
                .map_err(|refusal| self.refused(table, refusal))?;
            let slot = &mut typed[at];
            let has_another_shape = !read.has_shape_of(slot);
            *slot = read;
            if has_another_shape && !reshapes {
                known_keys()?;
            }
            if has_another_shape || reshapes {
                if let Some(place) = table.bare_secret(slot) {
                    return Err(self.refused(table, Refusal::bare_secret(&place)));
                }
                let filled = table.fill(value, slot);
                document = document.with(&table.at, filled).map_err(beyond_limits)?;
            }
        }
        Ok((document, typed))
    }

    /// As [`State::set`] would settle them.
    pub(super) fn try_settle(&self, writes: &[(Path, Value)]) -> Result<(), UpdateError> {
        let mut all = writes.iter();
        let reshapes = all.any(|(path, value)| may_reshape(path, self.document.get(path), value));
        self.settle(self.write(writes)?, writes, reshapes).map(drop)
    }

    /// The first key of the table of `path` that its type does not know.
    pub(super) fn unknown_key(&self, document: &Value, path: &Path) -> Option<Path> {
        let (table, _) = self.tables.of(path)?;
        let unknown = table.unknown(document.get(&table.at)?).into_iter().next()?;
        let parts = std::iter::once(table.name).chain(unknown.iter().map(String::as_str));
        Some(Path::from_components(parts).unwrap_or_else(|_| table.at.clone()))
    }

    fn refused(&self, table: &Table, refusal: Refusal) -> UpdateError {
        match refusal {
            Refusal::Panicked => UpdateError::Panicked {
                place: "the program's validation",
            },
            Refusal::Invalid(invalid) => UpdateError::Invalid {
                path: joined(table.name, &invalid.path),
                kind: invalid.kind,
                reason: invalid.reason,
            },
            Refusal::Type { path, reason } => match unknown_field(&reason) {
                Some(key) => {
                    let path = joined(table.name, &joined(&path, key));
                    UpdateError::NotFound {
                        suggestion: Path::parse(&path).ok().and_then(|path| self.suggest(&path)),
                        path,
                    }
                }
                None => UpdateError::WrongType {
                    path: joined(table.name, &path),
                    reason,
                },
            },
        }
    }
}

/// Writes neighbours into their table at once: one by one, each of them would copy it. `None` for a single write, and where one of
/// them is refused.
fn together(document: &Value, run: &[(Path, Value)]) -> Option<Value> {
    let [(first, _), _, ..] = run else {
        return None;
    };
    let (at, empty) = (first.parent()?, Map::default());
    let table = match document.get(&at) {
        Some(Value::Map(table)) => table,
        None | Some(Value::Null) => &empty,
        Some(_) => return None,
    };
    let entries = run
        .iter()
        .filter_map(|(path, value)| Some((path.components().next_back()?, value.clone())));
    let table = table.with_all(entries);
    document.with(&at, table.into()).ok()
}
