//! The decisions: what a change makes of the settings, or why it is refused. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Author, Change, Kind, Mutability, Origin, Record, Revision, UpdateError,
    error::Refusal,
    overlay::lay_over,
    record::{Delta, Entry, Log},
    source::{self, Layer, Reading},
    table::{Table, Tables, Typed},
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
    /// What each source below the overlay says, lowest first; without the defaults.
    pub(super) layers: Arc<[Layer]>,
    /// The document without the overlay.
    pub(super) base: Value,
    /// The document as the node started with it.
    pub(super) loaded: Value,
    pub(super) document: Value,
    /// The tables in their types, in their order.
    pub(super) typed: Arc<[Typed]>,
    /// What was written while running, oldest first.
    pub(super) overlay: Arc<[Arc<Entry>]>,
    /// What was written by an earlier version of the program and is not valid any more.
    pub(super) aside: Arc<[Arc<Entry>]>,
    /// Settings of which the sources now say something that only holds from the next start on.
    pub(super) held: Arc<[Path]>,
    pub(super) revision: Revision,
    pub(super) updates: u64,
    pub(super) last_update: Option<Timestamp>,
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

impl State {
    /// What the request makes of the settings. `log` is the history up to this state.
    pub(super) fn decide(
        &self,
        request: Request,
        log: &Log,
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
            Action::Rollback(target) => self.roll_back(target, log, occasion),
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
        let mut needs_restart = Vec::new();
        for (path, value) in writes {
            self.check_mutability(path, value, &mut needs_restart)?;
        }
        let document = self.write(writes)?;
        let (document, typed) = self.settle(document, writes)?;
        let overlay = self.overlay_over(self.overlay.to_vec(), writes, &occasion);
        if overlay.len() > CHANGES_MAX {
            return Err(UpdateError::TooMany {
                count: overlay.len(),
            });
        }
        let changes = writes
            .iter()
            .map(|(path, value)| self.change(path, Some(value)))
            .collect();
        let mut step = self.step(
            Kind::Update,
            document,
            typed,
            overlay.into(),
            changes,
            occasion,
        );
        step.next.updates += 1;
        step.record.needs_restart = needs_restart;
        let superseded =
            |entry: &Arc<Entry>| writes.iter().any(|(path, _)| entry.path.starts_with(path));
        step.next.aside = self
            .aside
            .iter()
            .filter(|entry| !superseded(entry))
            .cloned()
            .collect();
        Ok(step)
    }

    fn reset(&self, path: &Path, occasion: Occasion) -> Result<Step, UpdateError> {
        if self.document.get(path).is_none() {
            return Err(self.not_found(path));
        }
        let overlay = self.overlay_without(path, &occasion)?;
        let mut step = self.restore(Kind::Reset, overlay, occasion)?;
        let aside = step.next.aside.iter();
        let kept = aside.filter(|entry| !entry.path.starts_with(path));
        step.next.aside = kept.cloned().collect();
        Ok(step)
    }

    /// The overlay without what it says of `path`. A table that was written as a whole and holds it is written anew without it.
    fn overlay_without(
        &self,
        path: &Path,
        occasion: &Occasion,
    ) -> Result<Vec<Arc<Entry>>, UpdateError> {
        let mut overlay = self.overlay.to_vec();
        overlay.retain(|entry| !entry.path.starts_with(path));
        let around = overlay.iter().filter(|entry| path.starts_with(&entry.path));
        let Some(table) = around.map(|entry| entry.path.clone()).min_by_key(Path::len) else {
            return Ok(overlay);
        };
        let document = match self.base.get(path) {
            Some(value) => self
                .document
                .with(path, value.clone())
                .map_err(beyond_limits)?,
            None => self.document.without(path),
        };
        let value = document.get(&table).cloned().unwrap_or_default();
        Ok(self.overlay_over(overlay, &[(table, value)], occasion))
    }

    fn roll_back(
        &self,
        target: Revision,
        log: &Log,
        occasion: Occasion,
    ) -> Result<Step, UpdateError> {
        let overlay = self.overlay_at(target, log)?;
        let mut step = self.restore(Kind::Rollback, overlay, occasion)?;
        step.next.updates += 1;
        Ok(step)
    }

    /// What had been changed while running at a revision.
    pub(super) fn overlay_at(
        &self,
        target: Revision,
        log: &Log,
    ) -> Result<Vec<Arc<Entry>>, UpdateError> {
        let past = (target <= self.revision)
            .then(|| log.overlay_at(target, &self.overlay))
            .flatten();
        past.ok_or_else(|| UpdateError::NoSuchRevision {
            wanted: target,
            oldest: log.floor(),
            current: self.revision,
        })
    }

    /// The settings with another overlay.
    fn restore(
        &self,
        kind: Kind,
        overlay: Vec<Arc<Entry>>,
        occasion: Occasion,
    ) -> Result<Step, UpdateError> {
        let document = lay_over(&self.base, &overlay).map_err(beyond_limits)?;
        let (document, typed) = self.settle(document, &everything())?;
        let (changes, needs_restart) = self.changes_to(&document);
        let mut step = self.step(kind, document, typed, overlay.into(), changes, occasion);
        step.record.needs_restart = needs_restart;
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
            .map(|found| self.change(&found.path, found.after.as_ref()));
        let needs_restart = differences
            .iter()
            .map(|found| &found.path)
            .filter(|path| self.tables.mutability(path) == Mutability::Restart);
        (changes.collect(), needs_restart.cloned().collect())
    }

    pub(super) fn step(
        &self,
        kind: Kind,
        document: Value,
        typed: Arc<[Typed]>,
        overlay: Arc<[Arc<Entry>]>,
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
            ..self.clone()
        };
        Step { next, record }
    }

    /// Refuses what may not change, and notes what takes a restart.
    pub(super) fn check_mutability(
        &self,
        path: &Path,
        value: &Value,
        needs_restart: &mut Vec<Path>,
    ) -> Result<(), UpdateError> {
        let before = self.document.get(path);
        let mut differences = Vec::new();
        if value.as_map().is_some() {
            tree::differences(path, before, Some(value), &mut differences);
        }
        let leaves: Vec<&Path> = match &*differences {
            [] => vec![path],
            some => some.iter().map(|found| &found.path).collect(),
        };
        for leaf in leaves {
            match self.tables.mutability(leaf) {
                Mutability::Live => {}
                Mutability::Restart => needs_restart.push(leaf.clone()),
                // What is not there at all is told as that.
                Mutability::Fixed if self.is_known(leaf, value) => {
                    return Err(UpdateError::Fixed { path: leaf.clone() });
                }
                Mutability::Fixed => return Err(self.not_found(leaf)),
            }
        }
        Ok(())
    }

    fn is_known(&self, path: &Path, value: &Value) -> bool {
        if self.document.get(path).is_some() {
            return true;
        }
        let Ok(document) = self.document.with(path, value.clone()) else {
            return false;
        };
        self.tables.of(path).is_some() && self.unknown_key(&document, path).is_none()
    }

    pub(super) fn write(&self, writes: &[(Path, Value)]) -> Result<Value, UpdateError> {
        let mut document = self.document.clone();
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

    /// Reads the tables that the writes touched into their types, validates them, and fills in what the types add.
    pub(super) fn settle(
        &self,
        mut document: Value,
        writes: &[(Path, Value)],
    ) -> Result<(Value, Arc<[Typed]>), UpdateError> {
        let mut typed = self.typed.to_vec();
        for (table, slot) in self.tables.0.iter().zip(&mut typed) {
            let mut touching = writes
                .iter()
                .filter(|(path, _)| {
                    path.components()
                        .next()
                        .is_none_or(|first| first == table.name)
                })
                .peekable();
            if touching.peek().is_none() {
                continue;
            }
            // A scalar in the place of a known one can neither bring unknown keys nor leave any out.
            let reshapes = touching.any(|(path, value)| {
                path.is_empty()
                    || value.as_map().is_some()
                    || value.as_list().is_some()
                    || self.document.get(path).is_none_or(Value::is_null)
            });
            if reshapes && let Some(path) = self.unknown_key(&document, &table.at) {
                return Err(self.not_found(&path));
            }
            let value = document.get(&table.at).unwrap_or(&Value::Null);
            *slot = table
                .read(value)
                .map_err(|refusal| self.refused(table, refusal))?;
            if reshapes {
                if let Some(place) = table.bare_secret(slot) {
                    return Err(self.refused(table, Refusal::bare_secret(&place)));
                }
                let filled = table.fill(value, slot);
                document = document.with(&table.at, filled).map_err(beyond_limits)?;
            }
        }
        Ok((document, typed.into()))
    }

    /// The first key of the table of `path` that its type does not know.
    fn unknown_key(&self, document: &Value, path: &Path) -> Option<Path> {
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

    /// `overlay` with what is written now, in the place of what it replaces.
    fn overlay_over(
        &self,
        mut overlay: Vec<Arc<Entry>>,
        writes: &[(Path, Value)],
        occasion: &Occasion,
    ) -> Vec<Arc<Entry>> {
        let revision = Revision(self.revision.0 + 1);
        for (index, (path, value)) in (0u32..).zip(writes) {
            overlay.retain(|entry| !entry.path.starts_with(path));
            overlay.push(Arc::new(Entry {
                revision,
                index,
                path: path.clone(),
                value: value.clone(),
                at: occasion.now,
                author: Arc::clone(&occasion.author),
            }));
        }
        overlay
    }

    pub(super) fn change(&self, path: &Path, after: Option<&Value>) -> Change {
        let shown = |value: Option<&Value>| value.map(|value| self.tables.redact(path, value));
        Change {
            path: path.clone(),
            before: shown(self.document.get(path)),
            after: shown(after),
        }
    }

    fn not_found(&self, path: &Path) -> UpdateError {
        UpdateError::NotFound {
            path: path.to_string(),
            suggestion: self.suggest(path),
        }
    }

    /// What a text given by a person means at `path`: its likely reading, or the other one when only that has the right type.
    pub(super) fn read_text(&self, path: &Path, text: &str) -> Value {
        let Reading { first, second } = source::read_value(text, self.document.get(path));
        let is_mistyped = |value: &Value| {
            let writes = [(path.clone(), value.clone())];
            let settled = self
                .write(&writes)
                .and_then(|document| self.settle(document, &writes));
            matches!(settled, Err(UpdateError::WrongType { .. }))
        };
        match second {
            Some(second) if is_mistyped(&first) && !is_mistyped(&second) => second,
            _ => first,
        }
    }

    /// What is wrong with the type of a value, unless that would tell a secret.
    pub(super) fn told(&self, path: &Path, error: ValueError) -> String {
        let hidden = self
            .tables
            .of(path)
            .is_some_and(|(table, rest)| table.rules.touches_secret(&rest));
        match error {
            _ if hidden => {
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
        let layered = self
            .layers
            .iter()
            .rev()
            .find_map(|layer| layer.origin(path));
        Some(layered.unwrap_or(Origin::Default))
    }

    /// The settings that were changed since the start and take effect at the next one.
    pub(super) fn restart_needed(&self) -> Vec<Path> {
        let changed = tree::diff(&self.loaded, &self.document)
            .into_iter()
            .map(|found| found.path);
        changed
            .filter(|path| self.tables.mutability(path) == Mutability::Restart)
            .chain(self.held.iter().cloned())
            .collect()
    }
}

/// A write of the whole document, for [`State::settle`].
pub(super) fn everything() -> [(Path, Value); 1] {
    [(Path::root(), Value::Null)]
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
