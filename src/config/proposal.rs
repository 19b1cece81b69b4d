use std::{fmt, sync::Arc};

use super::{
    AsPath, Author, Configuration, Preview, Record, Revision, UpdateError,
    state::{Action, Request},
};
use crate::value::{Path, Value};

/// A change that is being put together: what, on what condition, by whom and why.
///
/// ```
/// # use underpin::config::{Configuration, UpdateError};
/// # async fn story(config: Configuration) -> Result<(), UpdateError> {
/// let seen = config.revision();
/// let change = config.propose().set("app.workers", 8).expect_revision(seen).by("ann").because("more load");
/// let record = change.apply().await?;
/// println!("revision {}, takes a restart: {:?}", record.revision, record.needs_restart);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing changes before it is applied"]
pub struct Proposal {
    config: Configuration,
    /// The table that paths are relative to; none for full paths.
    table: Option<Path>,
    action: Result<Action, UpdateError>,
    expected: Option<Revision>,
    author: Arc<Author>,
}

impl Proposal {
    pub(super) fn new(
        config: Configuration,
        table: Option<Path>,
        action: Result<Action, UpdateError>,
    ) -> Self {
        Self {
            config,
            table,
            action,
            expected: None,
            author: Author::unnamed(),
        }
    }

    /// Also writes `value` at `path`. Parts are applied in order, together or not at all.
    ///
    /// A table is replaced as a whole. A proposal that resets, restores or edits becomes one that writes.
    pub fn set(mut self, path: impl AsPath, value: impl Into<Value>) -> Self {
        let write = full_path(self.table.as_ref(), path).map(|path| (path, value.into()));
        self.action = match (self.action, write) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(Action::Set(mut writes)), Ok(write)) => {
                writes.push(write);
                Ok(Action::Set(writes))
            }
            (Ok(_), Ok(write)) => Ok(Action::Set(vec![write])),
        };
        self
    }

    /// Only if the settings are still at this revision.
    pub fn expect_revision(mut self, revision: Revision) -> Self {
        self.expected = Some(revision);
        self
    }

    /// Who makes the change.
    pub fn by(mut self, who: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.author).by = who.into();
        self
    }

    /// Why the change is made.
    pub fn because(mut self, why: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.author).why = why.into();
        self
    }

    /// Makes the change.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update`], and [`UpdateError::Stale`] when the expected revision is not the current one.
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn apply(self) -> Result<Arc<Record>, UpdateError> {
        let (config, request) = self.request()?;
        config.change(request).await
    }

    /// Says what the change would do and what it would break, and changes nothing.
    ///
    /// # Errors
    ///
    /// What is no change at all ([`UpdateError::InvalidPath`], [`UpdateError::Empty`]), and [`UpdateError::Call`]; a change that would
    /// be refused is a [`Preview`] that says so.
    pub async fn dry_run(self) -> Result<Preview, UpdateError> {
        let (config, request) = self.request()?;
        config.dry_run(request).await
    }

    fn request(self) -> Result<(Configuration, Request), UpdateError> {
        let action = self.action?;
        if matches!(&action, Action::Set(writes) if writes.is_empty()) {
            return Err(UpdateError::Empty);
        }
        let request = Request {
            expected: self.expected,
            author: self.author,
            ..Request::new(action)
        };
        Ok((self.config, request))
    }
}

/// The path in the document.
pub(super) fn full_path(table: Option<&Path>, path: impl AsPath) -> Result<Path, UpdateError> {
    match table {
        None => path.into_path(),
        Some(table) => path.within(table).map_err(UpdateError::InvalidPath),
    }
}

impl fmt::Debug for Proposal {
    /// Without values, some of which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposal")
            .field("action", &self.action)
            .field("expected", &self.expected)
            .field("author", &self.author)
            .finish_non_exhaustive()
    }
}
