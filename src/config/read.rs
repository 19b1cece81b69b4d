//! Reading a setting out of a state. Pure.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::{Origin, ReadError, state::State};
use crate::value::{Path, Value, ValueError, from_value};

/// What can stand for a path: a [`Path`], which is read once, or a text, which is read at each use.
pub trait AsPath: sealed::AsPath {}

impl<P: sealed::AsPath> AsPath for P {}

pub(super) mod sealed {
    use super::{Cow, Path, ValueError};

    pub trait AsPath {
        fn path(&self) -> Result<Cow<'_, Path>, ValueError>;

        /// The full path of what stands there in a table.
        fn within(&self, table: &Path) -> Result<Path, ValueError> {
            table.join(&*self.path()?)
        }

        /// For reads.
        fn as_path(&self) -> Result<Cow<'_, Path>, super::ReadError> {
            self.path().map_err(super::ReadError::InvalidPath)
        }

        /// For writes.
        fn into_path(self) -> Result<Path, super::super::UpdateError>
        where
            Self: Sized,
        {
            let path = self
                .path()
                .map_err(super::super::UpdateError::InvalidPath)?;
            Ok(path.into_owned())
        }
    }

    impl AsPath for Path {
        fn path(&self) -> Result<Cow<'_, Path>, ValueError> {
            Ok(Cow::Borrowed(self))
        }
    }

    impl AsPath for str {
        fn path(&self) -> Result<Cow<'_, Path>, ValueError> {
            match self {
                "" => Ok(Cow::Owned(Path::root())),
                text => Path::parse(text).map(Cow::Owned),
            }
        }

        fn within(&self, table: &Path) -> Result<Path, ValueError> {
            match self {
                "" => Ok(table.clone()),
                text => table.parse_within(text),
            }
        }
    }

    impl AsPath for String {
        fn path(&self) -> Result<Cow<'_, Path>, ValueError> {
            self.as_str().path()
        }

        fn within(&self, table: &Path) -> Result<Path, ValueError> {
            self.as_str().within(table)
        }
    }

    impl<P: AsPath + ?Sized> AsPath for &P {
        fn path(&self) -> Result<Cow<'_, Path>, ValueError> {
            (**self).path()
        }

        fn within(&self, table: &Path) -> Result<Path, ValueError> {
            (**self).within(table)
        }
    }
}

/// The value at `path`, in the document or in one table of it.
pub(super) fn value(state: &State, table: Option<&Path>, path: &Path) -> Result<Value, ReadError> {
    find(state, table, path).cloned()
}

pub(super) fn typed<V: DeserializeOwned>(
    state: &State,
    table: Option<&Path>,
    path: &Path,
) -> Result<V, ReadError> {
    from_value(find(state, table, path)?).map_err(|error| {
        let full = full(table, path);
        ReadError::WrongType {
            reason: state.told(&full, error),
            path: full.to_string(),
        }
    })
}

pub(super) fn origin(state: &State, path: &Path) -> Result<Origin, ReadError> {
    state
        .origin(path)
        .ok_or_else(|| not_found(state, None, path))
}

fn find<'a>(state: &'a State, table: Option<&Path>, path: &Path) -> Result<&'a Value, ReadError> {
    let root = match table {
        None => Some(&state.document),
        Some(table) => state.document.get(table),
    };
    root.and_then(|root| root.get(path))
        .ok_or_else(|| not_found(state, table, path))
}

#[cold]
fn not_found(state: &State, table: Option<&Path>, path: &Path) -> ReadError {
    let path = full(table, path);
    ReadError::NotFound {
        suggestion: state.suggest(&path),
        path: path.to_string(),
    }
}

fn full(table: Option<&Path>, path: &Path) -> Path {
    // A path at the limit of its length stays as it is: this is for people.
    let full = table.map(|table| table.join(path));
    full.and_then(Result::ok).unwrap_or_else(|| path.clone())
}
