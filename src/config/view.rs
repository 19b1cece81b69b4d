use std::{
    fmt,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arc_swap::{ArcSwap, Cache};
use serde::de::DeserializeOwned;

use super::{
    AsPath, Configuration, Proposal, ReadError, Revision, Schema, Subscription, UpdateError,
    proposal::full_path,
    read,
    state::{Action, State},
    table::CellOf,
    tree,
};
use crate::value::{Path, Value, from_value, to_value};

/// One table of the settings, in the program's own type. Cheap to clone.
///
/// Reads never wait and work while the server is down. Paths are relative to the table: `http.port`, not `app.http.port`.
pub struct Config<T> {
    cell: Arc<ArcSwap<T>>,
    /// The table's place in the document.
    table: Path,
    configuration: Configuration,
}

/// A loaded state of the settings; it does not change while it is held. Hold it for a moment, not for ever: it keeps the state alive.
pub struct Snapshot<T>(arc_swap::Guard<Arc<T>>);

/// A reader for hot loops: it looks whether the settings changed and otherwise uses what it has.
pub struct Reader<T>(Cache<Arc<ArcSwap<T>>, Arc<T>>);

impl<T: Schema> Config<T> {
    pub(super) fn of(configuration: &Configuration, table: &'static str) -> Option<Self> {
        let published = &configuration.shared().published;
        let tables = Arc::clone(&published.state().tables);
        let at = tables.0.iter().position(|known| known.name == table)?;
        let cell = published
            .cells()
            .get(at)?
            .as_any()
            .downcast_ref::<CellOf<T>>()?;
        Some(Self {
            cell: Arc::clone(&cell.0),
            table: tables.0[at].at.clone(),
            configuration: configuration.clone(),
        })
    }

    /// The settings now. Lock-free, some ns.
    #[inline]
    #[must_use]
    pub fn load(&self) -> Snapshot<T> {
        Snapshot(self.cell.load())
    }

    /// The settings now, to keep or to hand on.
    #[must_use]
    pub fn load_full(&self) -> Arc<T> {
        self.cell.load_full()
    }

    /// A reader of its own for a hot loop.
    #[must_use]
    pub fn reader(&self) -> Reader<T> {
        Reader(Cache::new(Arc::clone(&self.cell)))
    }

    /// The whole document.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The value at `path`, read into a type; the empty path is the whole table.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; reading again gives the same until the settings change.
    pub fn get<V: DeserializeOwned>(&self, path: impl AsPath) -> Result<V, ReadError> {
        read::typed(&self.state(), Some(&self.table), path.as_path()?.as_ref())
    }

    /// The value at `path` as it is, secrets included.
    ///
    /// # Errors
    ///
    /// As [`Configuration::get_value`].
    pub fn get_value(&self, path: impl AsPath) -> Result<Value, ReadError> {
        read::value(&self.state(), Some(&self.table), path.as_path()?.as_ref())
    }

    /// The value at `path`, or `default` where there is none of that type.
    pub fn get_or<V: DeserializeOwned>(&self, path: impl AsPath, default: V) -> V {
        self.get(path).unwrap_or(default)
    }

    /// Writes one setting.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update`].
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn update(
        &self,
        path: impl AsPath,
        value: impl Into<Value>,
    ) -> Result<Revision, UpdateError> {
        let path = full_path(Some(&self.table), path)?;
        self.configuration.write(path, value.into()).await
    }

    /// Writes several settings: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update_many`].
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn update_many<P: AsPath, V: Into<Value>>(
        &self,
        changes: impl IntoIterator<Item = (P, V)>,
    ) -> Result<Revision, UpdateError> {
        let proposal = changes
            .into_iter()
            .fold(self.propose(), |proposal, (path, value)| {
                proposal.set(path, value)
            });
        proposal.apply().await.map(|record| record.revision)
    }

    /// Reads, edits and writes the settings as one step: no other change comes between, so none is lost.
    ///
    /// `edit` runs inside the one writer: it must be quick. An edit that changes nothing makes a revision without changes.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update`]; [`UpdateError::Panicked`] when `edit` panics.
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn update_with(
        &self,
        edit: impl FnOnce(&mut T) + Send + 'static,
    ) -> Result<Revision, UpdateError> {
        self.propose_edit(edit)
            .apply()
            .await
            .map(|record| record.revision)
    }

    /// Takes back what was changed in this table while running.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update`].
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn reset(&self) -> Result<Revision, UpdateError> {
        self.propose_reset("")
            .apply()
            .await
            .map(|record| record.revision)
    }

    /// A change with conditions, a name and a reason, or a dry run of it.
    pub fn propose(&self) -> Proposal {
        Proposal::new(
            self.configuration.clone(),
            Some(self.table.clone()),
            Ok(Action::Set(Vec::new())),
        )
    }

    /// An edit as [`Config::update_with`] makes it, with conditions, a name and a reason.
    pub fn propose_edit(&self, edit: impl FnOnce(&mut T) + Send + 'static) -> Proposal {
        let table = self.table.clone();
        let action = Action::Edit(Box::new(move |state| edited(state, &table, edit)));
        Proposal::new(
            self.configuration.clone(),
            Some(self.table.clone()),
            Ok(action),
        )
    }

    /// Takes back what was changed while running at `path` and beneath it.
    pub fn propose_reset(&self, path: impl AsPath) -> Proposal {
        let action = full_path(Some(&self.table), path).map(Action::Reset);
        Proposal::new(self.configuration.clone(), Some(self.table.clone()), action)
    }

    /// Follows what stands at `path`; the empty path is the whole table.
    ///
    /// # Errors
    ///
    /// [`ReadError::InvalidPath`]. A path where nothing stands yet can be followed.
    pub fn subscribe(&self, path: impl AsPath) -> Result<Subscription, ReadError> {
        let full = path.within(&self.table).map_err(ReadError::InvalidPath)?;
        Ok(self.configuration.subscribe_at(&full))
    }

    fn state(&self) -> arc_swap::Guard<Arc<State>> {
        self.configuration.shared().published.state()
    }
}

/// What an edit writes.
fn edited<T: Schema>(
    state: &State,
    at: &Path,
    edit: impl FnOnce(&mut T),
) -> Result<Vec<(Path, Value)>, UpdateError> {
    let before = state.document.get(at).unwrap_or(&Value::Null);
    let mistyped = |error: crate::value::ValueError| UpdateError::WrongType {
        path: at.to_string(),
        reason: state.told(at, error),
    };
    let write = || {
        let mut typed: T = from_value(before).map_err(mistyped)?;
        let unedited = to_value(&typed).map_err(mistyped)?;
        edit(&mut typed);
        let after = to_value(&typed).map_err(mistyped)?;
        // An `Option` that is left out where it is `None` is one all the same where a null stands.
        let is_none = |path: &Path| {
            let place = Path::from_components(path.components().skip(at.len()));
            let nulled = place.and_then(|place| after.with(&place, Value::Null));
            let read = nulled.and_then(|nulled| to_value(&from_value::<T>(&nulled)?));
            read.is_ok_and(|read| read == after)
        };
        let mut writes = Vec::new();
        tree::writes(at, &unedited, &after, &is_none, &mut writes);
        Ok(writes)
    };
    // A panic in the program's own code, which reads and writes its type too, is an answer to the one who caused it, not the end of
    // the service.
    catch_unwind(AssertUnwindSafe(write))
        .unwrap_or(Err(UpdateError::Panicked { place: "the edit" }))
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Self {
        Self {
            cell: Arc::clone(&self.cell),
            table: self.table.clone(),
            configuration: self.configuration.clone(),
        }
    }
}

impl<T> Deref for Snapshot<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Reader<T> {
    /// The settings now.
    #[inline]
    pub fn load(&mut self) -> &T {
        self.0.load()
    }
}

impl<T> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Snapshot<T> {
    /// Without the settings, some of which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
