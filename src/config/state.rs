//! The decisions: what a change makes of the settings, or why it is refused. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Author, Change, Kind, Origin, Record, Revision, UpdateError,
    overlay::Places,
    record::{Delta, Entry},
    source::Layer,
    table::{Tables, Typed},
    tree,
};
use crate::{
    otp::Context,
    value::{Limits, Path, Value, ValueError},
};

/// The largest value that can be written, in bytes: as the largest event, so that a change can be told in one.
pub const VALUE_BYTES_MAX: usize = 1_000_000;
/// The most parts of one change, and the most settings that can differ from the files: more belongs in a file.
pub const CHANGES_MAX: usize = 4096;

/// All settings at one revision. Immutable: a change makes another one, which shares what did not change.
#[derive(Clone)]
pub(super) struct State {
    pub(super) tables: Arc<Tables>,
    pub(super) ground: Arc<Ground>,
    pub(super) document: Value,
    /// The tables in their types, in their order.
    pub(super) typed: Vec<Typed>,
    /// What was written while running, oldest first.
    pub(super) overlay: Vec<Arc<Entry>>,
    /// What was written by an earlier version of the program and is not valid any more.
    pub(super) aside: Vec<Arc<Entry>>,
    pub(super) revision: Revision,
    pub(super) updates: u64,
    pub(super) last_update: Option<Timestamp>,
}

/// What the sources say: what is changed while running lies over it and leaves it as it is.
#[derive(Clone)]
pub(super) struct Ground {
    /// What each source below the overlay says, lowest first; without the defaults.
    pub(super) layers: Arc<[Layer]>,
    /// The document without the overlay.
    pub(super) base: Value,
    /// The document as the node started with it.
    pub(super) loaded: Value,
    /// Settings of which the sources now say something that only holds from the next start on.
    pub(super) held: Vec<Held>,
}

/// A setting, or a table of settings, that stays as it was until the next start.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) path: Path,
    /// Where what holds comes from.
    pub(super) origin: Origin,
}

/// A change that is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) action: Action,
    pub(super) expected: Option<Revision>,
    pub(super) author: Arc<Author>,
    pub(super) context: Context,
}

pub(super) enum Action {
    Set(Vec<(Path, Value)>),
    /// Looks at the settings and says what to write.
    Edit(Edit),
    /// Takes back what was written at or beneath the path.
    Reset(Path),
    Rollback(Revision),
}

/// What an edit of the typed settings comes to.
pub(super) type Edit = Box<dyn FnOnce(&State) -> Result<Vec<(Path, Value)>, UpdateError> + Send>;

/// A change that was accepted, and the settings after it.
pub(super) struct Step {
    pub(super) next: State,
    pub(super) record: Record,
}

/// Who makes a change, when, and what it belongs to.
pub(super) struct Occasion {
    pub(super) author: Arc<Author>,
    pub(super) context: Context,
    pub(super) now: Timestamp,
}

impl Request {
    /// Without a condition, from nobody who gave a name, on behalf of what is done now.
    pub(super) fn new(action: Action) -> Self {
        Self {
            action,
            expected: None,
            author: Author::unnamed(),
            context: Context::current(),
        }
    }
}

impl State {
    /// What the request makes of the settings. `past` says what had been changed while running at an earlier revision.
    pub(super) fn decide(
        &self,
        request: Request,
        past: impl FnOnce(Revision) -> Result<Vec<Arc<Entry>>, UpdateError>,
        now: Timestamp,
    ) -> Result<Step, UpdateError> {
        if let Some(expected) = request
            .expected
            .filter(|expected| *expected != self.revision)
        {
            return Err(UpdateError::Stale {
                expected,
                current: self.revision,
            });
        }
        request.author.check()?;
        let occasion = Occasion {
            author: request.author,
            context: request.context,
            now,
        };
        match request.action {
            Action::Set(changes) => self.set(&changes, occasion),
            Action::Edit(edit) => {
                let changes = edit(self)?;
                self.set(&changes, occasion)
            }
            Action::Reset(path) => self.reset(&path, occasion),
            Action::Rollback(target) => self.roll_back(target, past(target)?, occasion),
        }
    }

    fn set(&self, writes: &[(Path, Value)], occasion: Occasion) -> Result<Step, UpdateError> {
        if writes.len() > CHANGES_MAX {
            return Err(UpdateError::TooMany {
                count: writes.len(),
            });
        }
        for (path, value) in writes {
            check_limits(path, value)?;
        }
        let (mut needs_restart, mut changes) = (Vec::new(), Vec::with_capacity(writes.len()));
        let mut reshapes = false;
        for (path, value) in writes {
            let before = self.document.get(path);
            self.check_mutability(path, before, value, &mut needs_restart)?;
            changes.push(self.change(path, before, Some(value)));
            reshapes |= may_reshape(path, before, value);
        }
        let document = self.write(writes)?;
        let (document, typed) = self.settle(document, writes, reshapes)?;
        let mut written = Places::with_capacity(writes.len());
        let overlay = self.overlay_over(&self.overlay, writes, &mut written, &occasion);
        if overlay.len() > CHANGES_MAX {
            return Err(UpdateError::TooMany {
                count: overlay.len(),
            });
        }
        if written.paths().len() < writes.len() {
            // Where one part writes over another, what each would have done alone is not what happened.
            let all_in_all =
                |path: &&Path| self.change(path, self.document.get(path), document.get(path));
            changes = written.paths().iter().map(all_in_all).collect();
        }
        let mut step = self.step(Kind::Update, document, typed, overlay, changes, occasion);
        step.next.updates += 1;
        step.record.needs_restart = needs_restart;
        if !self.aside.is_empty() {
            let kept = self.aside.iter();
            let kept = kept.filter(|entry| !written.cover(&entry.path));
            step.next.aside = kept.cloned().collect();
        }
        Ok(step)
    }

    /// What is not the same in two documents, as it may be shown.
    pub(super) fn changes(&self, before: &Value, after: &Value) -> Vec<Change> {
        let shown =
            |path: &Path, value: Option<Value>| value.map(|value| self.tables.redact(path, &value));
        let differences = tree::diff(before, after).into_iter();
        let changes = differences.map(|found| Change {
            before: shown(&found.path, found.before),
            after: shown(&found.path, found.after),
            path: found.path,
        });
        changes.collect()
    }

    /// What is not the same in another document, and which of it takes a restart.
    pub(super) fn changes_to(&self, document: &Value) -> (Vec<Change>, Vec<Path>) {
        let differences = tree::diff(&self.document, document);
        let changes = differences
            .iter()
            .map(|found| self.change(&found.path, found.before.as_ref(), found.after.as_ref()));
        (changes.collect(), self.restarts(&differences))
    }

    pub(super) fn step(
        &self,
        kind: Kind,
        document: Value,
        typed: Vec<Typed>,
        overlay: Vec<Arc<Entry>>,
        changes: Vec<Change>,
        occasion: Occasion,
    ) -> Step {
        let revision = Revision(self.revision.0 + 1);
        let record = Record {
            revision,
            kind,
            at: occasion.now,
            author: occasion.author,
            changes,
            needs_restart: Vec::new(),
            context: occasion.context,
            delta: Delta::between(&self.overlay, &overlay),
        };
        let next = Self {
            document,
            typed,
            overlay,
            revision,
            last_update: Some(occasion.now),
            // Not all of it, to leave half of it behind.
            tables: Arc::clone(&self.tables),
            ground: Arc::clone(&self.ground),
            aside: self.aside.clone(),
            updates: self.updates,
        };
        Step { next, record }
    }

    pub(super) fn change(
        &self,
        path: &Path,
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> Change {
        let place = self.tables.of(path);
        let shown = |value: Option<&Value>| {
            value.map(|value| match &place {
                Some((table, rest)) => table.redact(rest.clone(), value),
                None => self.tables.redact(path, value),
            })
        };
        Change {
            path: path.clone(),
            before: shown(before),
            after: shown(after),
        }
    }

    pub(super) fn not_found(&self, path: &Path) -> UpdateError {
        UpdateError::NotFound {
            path: path.to_string(),
            suggestion: self.suggest(path),
        }
    }
}

/// Whether a write may give its table other keys, or secrets in other places. A scalar in the place of a known one seldom does; what
/// its type makes of it tells.
pub(super) fn may_reshape(path: &Path, before: Option<&Value>, value: &Value) -> bool {
    path.is_empty() || !value.is_scalar() || before.is_none_or(Value::is_null)
}

pub(super) fn check_limits(path: &Path, value: &Value) -> Result<(), UpdateError> {
    value
        .check(Limits::CONFIG)
        .map_err(|source| UpdateError::BeyondLimits {
            path: path.clone(),
            source,
        })?;
    let bytes = tree::weight(value);
    if bytes > VALUE_BYTES_MAX {
        return Err(UpdateError::TooLarge {
            path: path.clone(),
            bytes,
        });
    }
    Ok(())
}

/// The document as a whole would be beyond the limits.
pub(super) fn beyond_limits(source: ValueError) -> UpdateError {
    UpdateError::BeyondLimits {
        path: Path::root(),
        source,
    }
}

/// `a` and `b` as one path for people; either may be empty.
pub(super) fn joined(a: &str, b: &str) -> String {
    match (a, b) {
        (one, "") | ("", one) => one.to_owned(),
        (a, b) if b.starts_with('[') => format!("{a}{b}"),
        (a, b) => format!("{a}.{b}"),
    }
}

/// The key that a strict type says it does not know.
pub(super) fn unknown_field(reason: &str) -> Option<&str> {
    reason.strip_prefix("unknown field `")?.split('`').next()
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(writes) => f
                .debug_list()
                .entries(writes.iter().map(|(path, _)| path))
                .finish(),
            Self::Edit(_) => f.write_str("Edit"),
            Self::Reset(path) => f.debug_tuple("Reset").field(path).finish(),
            Self::Rollback(target) => f.debug_tuple("Rollback").field(target).finish(),
        }
    }
}

impl std::fmt::Debug for State {
    /// Without values, some of which are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
