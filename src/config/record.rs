//! What changed, when, by whom: the history, and the log that subscribers read. Pure.

use std::{collections::VecDeque, fmt, mem, sync::Arc};

use jiff::Timestamp;

use super::{Author, Origin, tree};
use crate::{
    otp::Context,
    value::{Path, Value},
};

/// How many changes the settings have seen, over the node's whole life. It grows with each change and survives restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// What sort of change a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Settings were written.
    Update,
    /// Changes made while running were taken back.
    Reset,
    /// An earlier revision was restored.
    Rollback,
    /// What files, variables or flags say is not what they said before: found at a start, or by a reload.
    Load,
}

/// One revision: who changed what, when and why. Secrets are already replaced by `[secret]`.
#[derive(Clone, PartialEq)]
pub struct Record {
    /// The revision that the change made.
    pub revision: Revision,
    /// What sort of change.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// Who and why.
    pub author: Arc<Author>,
    /// What changed. A place that one change wrote twice, or in parts, is told once, as it was before and after all of it.
    pub changes: Vec<Change>,
    /// Those changed settings that take effect when the program starts again.
    pub needs_restart: Vec<Path>,
    /// The correlation of whoever asked for it; empty where there was none, and for changes of an earlier run.
    pub context: Context,
    pub(super) delta: Delta,
}

/// One changed setting; secrets are replaced by `[secret]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Where.
    pub path: Path,
    /// What stood there; `None` when nothing did.
    pub before: Option<Value>,
    /// What stands there now; `None` when nothing does.
    pub after: Option<Value>,
}

/// A value written while the node ran.
#[derive(Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) revision: Revision,
    /// The place within its revision.
    pub(super) index: u32,
    pub(super) path: Path,
    pub(super) value: Value,
    pub(super) at: Timestamp,
    pub(super) author: Arc<Author>,
}

/// How a revision changed the overlay; enough to go back.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Delta {
    /// Those that it removed, then those that it added.
    entries: Vec<Arc<Entry>>,
    removed: usize,
}

/// The newest changes, oldest first, with the document that each one made.
#[derive(Default)]
pub(super) struct Log {
    steps: VecDeque<Logged>,
    /// How much each of them weighs: what is old lies far away by the time it goes.
    weights: VecDeque<usize>,
    weight: usize,
    /// The newest revision that is not in the log any more.
    floor: Revision,
    /// The document of that revision, where it is known.
    floor_document: Option<Value>,
}

#[derive(Clone)]
pub(super) struct Logged {
    pub(super) record: Arc<Record>,
    /// The document after the change; `None` for changes of an earlier run.
    pub(super) document: Option<Value>,
}

/// Changes, oldest first.
pub(super) struct Steps {
    /// The document before the first of them, where it is known.
    pub(super) before: Option<Value>,
    pub(super) steps: Vec<Logged>,
}

impl Log {
    pub(super) fn starting_at(
        floor: Revision,
        records: impl IntoIterator<Item = Arc<Record>>,
    ) -> Self {
        let mut log = Self {
            floor,
            ..Self::default()
        };
        for record in records {
            log.push(
                Logged {
                    record,
                    document: None,
                },
                usize::MAX,
                usize::MAX,
            );
        }
        log
    }

    /// Appends a change, and forgets the oldest ones beyond `steps_max` or `bytes_max`. The newest always stays. Gives what the last
    /// one that it forgot held, to be dropped where nobody waits for it.
    pub(super) fn push(
        &mut self,
        step: Logged,
        steps_max: usize,
        bytes_max: usize,
    ) -> Option<Logged> {
        let weight = step.record.weight();
        self.weight += weight;
        self.weights.push_back(weight);
        self.steps.push_back(step);
        let mut forgotten = None;
        while self.steps.len() > 1 && (self.steps.len() > steps_max || self.weight > bytes_max) {
            let (Some(mut oldest), Some(weight)) =
                (self.steps.pop_front(), self.weights.pop_front())
            else {
                break;
            };
            self.weight -= weight;
            self.floor = oldest.record.revision;
            // What it made is what stands before the next one.
            mem::swap(&mut self.floor_document, &mut oldest.document);
            forgotten = Some(oldest);
        }
        forgotten
    }

    /// The document that stands at the end of the log.
    pub(super) fn know(&mut self, document: &Value) {
        match self.steps.back_mut() {
            Some(newest) => newest.document = Some(document.clone()),
            None => self.floor_document = Some(document.clone()),
        }
    }

    /// What stands at `path` at the end of the log.
    pub(super) fn value(&self, path: &Path) -> Option<&Value> {
        match self.steps.back() {
            Some(newest) => newest.value(path),
            None => self.floor_document.as_ref()?.get(path),
        }
    }

    /// The changes after `seen`, oldest first; `None` when some of them are not in the log any more.
    pub(super) fn after(
        &self,
        seen: Revision,
    ) -> Option<impl ExactSizeIterator<Item = &Logged> + use<'_>> {
        (seen >= self.floor).then(|| self.steps.range(self.place_after(seen)..))
    }

    /// The first of them with the document before them: at most `steps_max`, and no more once they weigh `bytes_max`.
    pub(super) fn steps_after(
        &self,
        seen: Revision,
        steps_max: usize,
        bytes_max: usize,
    ) -> Option<Steps> {
        let after = self.after(seen)?;
        let weights = self.weights.range(self.steps.len() - after.len()..);
        let mut weight = 0;
        let fitting = after.zip(weights).take(steps_max).take_while(|(_, more)| {
            let fits = weight < bytes_max;
            weight += *more;
            fits
        });
        let steps = fitting.map(|(step, _)| step.clone()).collect();
        let before = self.document_before(seen).cloned();
        Some(Steps { before, steps })
    }

    /// The document that the first change after `seen` changed, where it is known.
    pub(super) fn document_before(&self, seen: Revision) -> Option<&Value> {
        match self.place_after(seen).checked_sub(1) {
            None => self.floor_document.as_ref(),
            Some(at) => self.steps.get(at)?.document.as_ref(),
        }
    }

    fn place_after(&self, seen: Revision) -> usize {
        let Some(newest) = self.steps.back() else {
            return 0;
        };
        // Each change is mostly one revision, so it is known where it has to be; the others lie far apart in memory.
        let behind = newest.record.revision.0.saturating_sub(seen.0);
        let at = usize::try_from(behind).ok();
        let at = at.and_then(|behind| self.steps.len().checked_sub(behind));
        let is_it = |at: &usize| {
            let before = at.checked_sub(1).and_then(|at| self.steps.get(at));
            before.is_none_or(|step| step.record.revision <= seen)
                && self
                    .steps
                    .get(*at)
                    .is_none_or(|step| step.record.revision > seen)
        };
        at.filter(is_it).unwrap_or_else(|| {
            self.steps
                .partition_point(|step| step.record.revision <= seen)
        })
    }

    /// The document of a revision, where it is known.
    pub(super) fn document_at(&self, revision: Revision) -> Option<&Value> {
        if revision == self.floor {
            return self.floor_document.as_ref();
        }
        self.steps.get(self.place_of(revision)?)?.document.as_ref()
    }

    fn place_of(&self, revision: Revision) -> Option<usize> {
        let at = self
            .steps
            .binary_search_by_key(&revision, |step| step.record.revision);
        at.ok()
    }

    /// The newest `n` changes, newest first.
    pub(super) fn newest(&self, n: usize) -> Vec<Arc<Record>> {
        let newest = self.steps.iter().rev().take(n);
        newest.map(|step| Arc::clone(&step.record)).collect()
    }

    /// The oldest revision that can be gone back to.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    /// The document of that revision, where it is known.
    pub(super) fn floor_document(&self) -> Option<&Value> {
        self.floor_document.as_ref()
    }

    /// The overlay as it was at `target`, when the log goes back that far.
    pub(super) fn overlay_at(
        &self,
        target: Revision,
        overlay: &[Arc<Entry>],
    ) -> Option<Vec<Arc<Entry>>> {
        // Where changes were lost, revisions were left out.
        if target != self.floor && self.place_of(target).is_none() {
            return None;
        }
        let mut overlay = overlay.to_vec();
        for step in self
            .steps
            .iter()
            .rev()
            .take_while(|step| step.record.revision > target)
        {
            let delta = &step.record.delta;
            overlay.retain(|entry| !delta.added().iter().any(|added| added.is_same(entry)));
            overlay.extend(delta.removed().iter().cloned());
        }
        overlay.sort_by_key(|entry| (entry.revision, entry.index));
        Some(overlay)
    }

    /// The newest changes that fit, oldest first, for keeping on disk.
    pub(super) fn tail(&self, steps_max: usize, bytes_max: usize) -> Vec<Arc<Record>> {
        let mut weight = 0;
        let fitting = self.newest(steps_max).into_iter().take_while(|record| {
            weight += record.weight();
            weight <= bytes_max
        });
        let mut records: Vec<_> = fitting.collect();
        records.reverse();
        records
    }
}

impl Logged {
    /// What stands at `path` after the change.
    pub(super) fn value(&self, path: &Path) -> Option<&Value> {
        let document = self.document.as_ref()?;
        // Mostly it is what was written. The document's names lie next to what the writer counts as it makes its next document:
        // whoever reads them stands in its way.
        if let [entry] = self.record.delta.added()
            && entry.value.is_scalar()
            && entry.path == *path
        {
            debug_assert_eq!(document.get(path), Some(&entry.value));
            return Some(&entry.value);
        }
        document.get(path)
    }

    /// Whether whoever follows `path` is told of the change: of one at the path or beneath it always, of one above it when it changed
    /// what stands here. `before` is the document before it, where that is known.
    pub(super) fn concerns(&self, path: &Path, before: Option<&Value>) -> bool {
        let differs = || before.is_none_or(|before| before.get(path) != self.value(path));
        let is_told = |change: &Change| {
            change.path.starts_with(path) || path.starts_with(&change.path) && differs()
        };
        path.is_empty() || self.record.changes.iter().any(is_told)
    }
}

impl Record {
    fn weight(&self) -> usize {
        let value = |value: &Option<Value>| value.as_ref().map_or(0, tree::weight);
        let changes: usize = self
            .changes
            .iter()
            .map(|change| value(&change.before) + value(&change.after))
            .sum();
        let entries = self.delta.entries.iter();
        64 + self.author.weight()
            + changes
            + entries
                .map(|entry| 64 + entry.author.weight() + tree::weight(&entry.value))
                .sum::<usize>()
    }

    /// Whether the change may have touched what stands at `prefix`.
    #[must_use]
    pub fn touches(&self, prefix: &Path) -> bool {
        prefix.is_empty()
            || self
                .changes
                .iter()
                .any(|change| change.path.starts_with(prefix) || prefix.starts_with(&change.path))
    }
}

impl Delta {
    pub(super) fn new(
        removed: impl IntoIterator<Item = Arc<Entry>>,
        added: impl IntoIterator<Item = Arc<Entry>>,
    ) -> Self {
        let mut entries: Vec<_> = removed.into_iter().collect();
        let removed = entries.len();
        entries.extend(added);
        Self { entries, removed }
    }

    /// Both overlays are sorted by revision and index.
    pub(super) fn between(before: &[Arc<Entry>], after: &[Arc<Entry>]) -> Self {
        fn missing<'a>(
            from: &'a [Arc<Entry>],
            other: &'a [Arc<Entry>],
        ) -> impl Iterator<Item = Arc<Entry>> + 'a {
            let key = |entry: &Arc<Entry>| (entry.revision, entry.index);
            let gone = from
                .iter()
                .filter(move |entry| other.binary_search_by_key(&key(entry), key).is_err());
            gone.cloned()
        }
        Self::new(missing(before, after), missing(after, before))
    }

    pub(super) fn removed(&self) -> &[Arc<Entry>] {
        &self.entries[..self.removed]
    }

    pub(super) fn added(&self) -> &[Arc<Entry>] {
        &self.entries[self.removed..]
    }
}

impl Entry {
    pub(super) fn origin(&self) -> Origin {
        Origin::Change {
            revision: self.revision,
            at: self.at,
            author: Arc::clone(&self.author),
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.revision, self.index) == (other.revision, other.index)
    }
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Update, Self::Reset, Self::Rollback, Self::Load];

    /// The name in files, events and interfaces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Reset => "reset",
            Self::Rollback => "rollback",
            Self::Load => "load",
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("revision", &self.revision)
            .field("kind", &self.kind)
            .field("at", &self.at)
            .field("author", &self.author)
            .field("changes", &self.changes)
            .field("needs_restart", &self.needs_restart)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    /// Without the value, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("revision", &self.revision)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
