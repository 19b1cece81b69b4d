//! Loading: reads the sources, before any actor runs.

use std::{io, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    Author, BrokenFiles, Change, ConfigError, Disk, Kind, Origin, Problem, Record, Revision,
    Sources,
    files::{self, Fingerprint},
    layering, misnamed,
    overlay::lay_over,
    record::{Delta, Entry, Log},
    saved::{LastGood, Overlay},
    source::Layer,
    state::State,
    status::{Alarm, AlarmKind},
    storage,
    table::Tables,
};
use crate::{
    otp::Context,
    value::{Path, Value},
};

/// The file with what was changed while running, and its history.
pub(super) const OVERLAY: &str = "overlay";
/// The file with what the settings files said when they were last good.
pub(super) const LAST_GOOD: &str = "last-good";

/// How far the revision jumps when changes were lost, so that nobody takes a new revision for one of the lost ones.
const LOST_REVISIONS: u64 = 1000;

/// Settings that are layered and valid, ready for [`Configuration::new`](super::Configuration::new).
pub struct Loaded {
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) alarms: Vec<Alarm>,
    pub(super) kept: Option<Kept>,
    pub(super) reader: Arc<Reader>,
    pub(super) misnamed: Vec<Problem>,
}

/// Reads the sources, as often as wanted.
pub(super) struct Reader {
    sources: Sources,
    tables: Arc<Tables>,
    defaults: Value,
    known: Mutex<Option<Fingerprint>>,
}

/// What the sources say, valid by itself.
pub(super) struct Fresh {
    pub(super) state: State,
    pub(super) good: LastGood,
}

/// What is kept on disk, and what is to be written there at the start.
pub(super) struct Kept {
    pub(super) disk: Arc<dyn Disk>,
    /// What stands there as the overlay.
    pub(super) overlay: Option<Vec<u8>>,
    /// Its revision.
    pub(super) revision: Option<Revision>,
    /// What stands there and is broken.
    pub(super) broken: Option<Vec<u8>>,
    /// Why what stands there could not be looked at: then nothing may be written over it.
    pub(super) unread: Option<String>,
    /// What the files say, when that is to be written.
    pub(super) good_files: Option<Vec<u8>>,
    /// What stands there as the last good state of the files.
    pub(super) last_good: Option<Vec<u8>>,
}

/// Reads all sources, lays them over one another and validates the result. It only reads; run it where blocking is allowed.
///
/// ```
/// use underpin::config::{FreeTable, Sources, load};
///
/// let sources = Sources::new::<FreeTable, FreeTable>()
///     .environment([("UNDERPIN__APP__HTTP__PORT", "80")])
///     .set("app.http.host=localhost");
/// let loaded = load(sources)?;
///
/// assert_eq!(loaded.value("app.http.port")?, 80.into());
/// assert_eq!(loaded.origin("app.http.host")?.to_string(), "--set app.http.host=…");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ConfigError`] with all that is wrong. What was changed while an earlier run was up is never a reason: what of it is
/// not valid any more, or cannot be read, is set aside with an alarm in [`Status`](super::Status).
pub fn load(sources: Sources) -> Result<Loaded, ConfigError> {
    let reader = Reader::new(sources)?;
    let now = Timestamp::now();
    let mut alarms = Vec::new();
    let last = reader.last_good();
    let (state, good) = match reader.read() {
        Ok(fresh) => (fresh.state, Some(fresh.good)),
        Err(error) => {
            let use_last = reader.sources.broken_files == BrokenFiles::UseLastGood;
            let last = last.as_ref().filter(|_| use_last);
            let Some(state) = last.and_then(|last| reader.with_last_good(last)) else {
                return Err(error.hinting(reader.misnamed(&reader.below())));
            };
            alarms.push(Alarm::new(AlarmKind::FilesBroken, error.to_string(), now));
            (state, None)
        }
    };
    let reader = Arc::new(reader);
    let misnamed = reader.misnamed(&state.document);
    let loaded = match reader.sources.disk.clone() {
        None => Loaded {
            log: Log::starting_at(state.revision, []),
            state,
            alarms,
            kept: None,
            reader,
            misnamed: Vec::new(),
        },
        Some(disk) => {
            let before = Before {
                found: read_overlay(&*disk),
                document: last.map(|last| last.document),
            };
            with_kept(&state, good, disk, before, alarms, reader)
        }
    };
    Ok(Loaded { misnamed, ..loaded })
}

impl Loaded {
    /// The value at `path`.
    ///
    /// # Errors
    ///
    /// As [`Configuration::get_value`](super::Configuration::get_value).
    pub fn value(&self, path: impl super::AsPath) -> Result<Value, super::ReadError> {
        super::read::value(&self.state, None, path.as_path()?.as_ref())
    }

    /// Where the value at `path` comes from.
    ///
    /// # Errors
    ///
    /// As [`Configuration::origin`](super::Configuration::origin).
    pub fn origin(&self, path: impl super::AsPath) -> Result<Origin, super::ReadError> {
        super::read::origin(&self.state, path.as_path()?.as_ref())
    }

    /// What is not as it should be, though the settings can be used.
    #[must_use]
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// Variables that were probably meant to name a setting and are not looked at, such as `UNDERPIN_APP_PORT` with one underscore in
    /// the place of two: each with the name that was probably meant. They are no errors: another program may read them.
    /// Ten at most; the last says how many more there are.
    #[must_use]
    pub fn misnamed(&self) -> &[Problem] {
        &self.misnamed
    }
}

impl Reader {
    fn new(mut sources: Sources) -> Result<Self, ConfigError> {
        let tables = Arc::new(Tables(std::mem::take(&mut sources.tables.0)));
        Ok(Self {
            defaults: layering::defaults(&tables)?,
            known: Mutex::new(Some(files::fingerprint(&sources))),
            tables,
            sources,
        })
    }

    /// What the sources say now.
    pub(super) fn read(&self) -> Result<Fresh, ConfigError> {
        let texts = files::read(&self.sources).map_err(ConfigError::new)?;
        let files = layering::files(&texts).map_err(ConfigError::new)?;
        let state = self.lay(&files).map_err(ConfigError::new)?;
        Ok(Fresh {
            good: LastGood {
                files: files.values,
                document: state.document.clone(),
            },
            state,
        })
    }

    pub(super) fn defaults(&self) -> &Value {
        &self.defaults
    }

    /// The files as they stand now.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        files::fingerprint(&self.sources)
    }

    /// The files as they stood when they were last looked into; `None` when they are to be looked into again.
    pub(super) fn known(&self) -> Option<Fingerprint> {
        self.known.lock().clone()
    }

    /// These files were looked into, and that still counts.
    pub(super) fn know(&self, seen: Fingerprint, still_counts: impl FnOnce() -> bool) {
        let mut known = self.known.lock();
        if still_counts() {
            *known = Some(seen);
        }
    }

    /// The files are to be looked into again: what was against taking them over may be gone.
    pub(super) fn forget(&self) {
        *self.known.lock() = None;
    }

    fn with_last_good(&self, last: &LastGood) -> Option<State> {
        self.lay(&Layer::new(last.files.clone(), Origin::LastGood))
            .ok()
    }

    fn last_good(&self) -> Option<LastGood> {
        let disk = self.sources.disk.as_ref()?;
        let readable = |name: &str| LastGood::decode(&disk.read(name).ok()??).ok();
        readable(LAST_GOOD).or_else(|| readable(&storage::previous(LAST_GOOD)))
    }

    /// What the files say over the defaults, as far as it can be read: what is there to be named.
    fn below(&self) -> Value {
        let texts = files::read(&self.sources).unwrap_or_default();
        let files = layering::files(&texts).map(|files| files.values);
        self.defaults.merge(&files.unwrap_or_else(|_| Value::map()))
    }

    fn misnamed(&self, document: &Value) -> Vec<Problem> {
        let variables = self.sources.variables_now();
        let names = variables
            .texts
            .iter()
            .map(|variable| variable.name.as_str());
        misnamed::misnamed(names, &self.sources, document)
    }

    fn lay(&self, files: &Layer) -> Result<State, Vec<Problem>> {
        let variables = self.sources.variables_now();
        let known = self.defaults.merge(&files.values);
        let overrides = layering::overrides(&self.sources, &variables, &known);
        layering::assemble(&self.tables, &self.defaults, files, &overrides)
    }
}

/// What an earlier run has kept.
struct Before {
    found: Found,
    /// The document below the overlay.
    document: Option<Value>,
}

/// Takes over what an earlier run has kept.
fn with_kept(
    base: &State,
    good: Option<LastGood>,
    disk: Arc<dyn Disk>,
    before: Before,
    mut alarms: Vec<Alarm>,
    reader: Arc<Reader>,
) -> Loaded {
    let now = Timestamp::now();
    let (state, log) = taken_over(base, &before, now);
    let found = before.found;
    let lost = found
        .lost
        .map(|reason| Alarm::new(AlarmKind::ChangesLost, reason, now));
    alarms.extend(lost);
    alarms.extend(set_aside(&state, now));
    let last_good = disk.read(LAST_GOOD).ok().flatten();
    let good = good.and_then(|good| good.encode().ok());
    Loaded {
        state,
        log,
        alarms,
        kept: Some(Kept {
            revision: found.overlay.as_ref().map(|overlay| overlay.revision),
            overlay: found.bytes,
            broken: found.broken,
            unread: found.unread,
            good_files: good.filter(|good| Some(good) != last_good.as_ref()),
            last_good,
            disk,
        }),
        reader,
        misnamed: Vec::new(),
    }
}

/// The settings with the earlier changes laid over them, and the history. What is not as the earlier run left it is a new revision.
fn taken_over(base: &State, before: &Before, now: Timestamp) -> (State, Log) {
    let found = &before.found;
    let saved = found.overlay.clone().unwrap_or_default();
    let mut state = base.with_overlay(&saved.entries);
    Arc::make_mut(&mut state.ground).loaded = state.document.clone();
    let mut history = shown(saved.history, &state.tables);
    let floor = history.first().map_or(saved.revision, |record| {
        Revision(record.revision.0.saturating_sub(1))
    });
    let is_same = found.overlay.is_none()
        || saved.document == checksum(&state.document) && state.aside.is_empty();
    let step = match (&found.lost, is_same) {
        (Some(_), _) => LOST_REVISIONS,
        (None, false) => 1,
        (None, true) => 0,
    };
    state.revision = Revision(saved.revision.0 + step);
    if step > 0 {
        history.push(Arc::new(Record {
            revision: state.revision,
            kind: Kind::Load,
            at: now,
            author: Author::unnamed(),
            changes: changed_since(before, &saved.entries, &state),
            needs_restart: Vec::new(),
            context: Context::default(),
            delta: Delta::between(&saved.entries, &state.overlay),
        }));
    }
    state.last_update = history.last().map(|record| record.at);
    (state, Log::starting_at(floor, history))
}

/// The history by the rules of now: what was not secret when it was written may be secret since.
fn shown(history: Vec<Arc<Record>>, tables: &Tables) -> Vec<Arc<Record>> {
    let value = |path: &Path, value: &Option<Value>| {
        let value = value.as_ref();
        value.map(|value| tables.redact(path, value))
    };
    let change = |change: &Change| Change {
        before: value(&change.path, &change.before),
        after: value(&change.path, &change.after),
        path: change.path.clone(),
    };
    let record = |record: Arc<Record>| {
        let mut record = Arc::unwrap_or_clone(record);
        record.changes = record.changes.iter().map(change).collect();
        Arc::new(record)
    };
    history.into_iter().map(record).collect()
}

/// What readers see now and did not see in the earlier run, where that is known.
fn changed_since(before: &Before, entries: &[Arc<Entry>], state: &State) -> Vec<Change> {
    let seen = before
        .document
        .as_ref()
        .and_then(|document| lay_over(document, entries).ok());
    seen.map(|seen| state.changes(&seen, &state.document))
        .unwrap_or_default()
}

/// Tells one document from another.
pub(super) fn checksum(document: &Value) -> u32 {
    crc32c::crc32c(document.to_json().as_bytes())
}

fn set_aside(state: &State, now: Timestamp) -> Option<Alarm> {
    const TOLD_MAX: usize = 32;
    let aside = state.aside.iter();
    let mut paths: Vec<String> = aside.map(|entry| format!("`{}`", entry.path)).collect();
    if paths.is_empty() {
        return None;
    }
    let more = paths.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        paths.truncate(TOLD_MAX);
        paths.push(format!("{more} more"));
    }
    let said = format!(
        "changes made by an earlier run are not valid any more and are set aside: {}; write or reset them",
        paths.join(", ")
    );
    Some(Alarm::new(AlarmKind::SetAside, said, now))
}

#[derive(Default)]
struct Found {
    overlay: Option<Overlay>,
    bytes: Option<Vec<u8>>,
    broken: Option<Vec<u8>>,
    unread: Option<String>,
    lost: Option<String>,
}

/// The overlay, or the one before it when it is broken or cannot be read.
fn read_overlay(disk: &dyn Disk) -> Found {
    let (broken, reason, unread) = match read_one(disk, OVERLAY) {
        Ok(None) => return Found::default(),
        Ok(Some((bytes, Ok(overlay)))) => {
            return Found {
                overlay: Some(overlay),
                bytes: Some(bytes),
                ..Found::default()
            };
        }
        Ok(Some((bytes, Err(reason)))) => (Some(bytes), reason, None),
        Err(error) => (None, error.to_string(), Some(unread(&error))),
    };
    let before = read_one(disk, &storage::previous(OVERLAY));
    let (overlay, used) = match before {
        Ok(Some((bytes, Ok(overlay)))) => (
            Some((bytes, overlay)),
            "the state before the last change is used",
        ),
        _ => (None, "none of them are used"),
    };
    let kept = match &unread {
        // It may be well and only out of reach for the moment.
        Some(unread) => unread.clone(),
        None => format!("the broken file is kept as `{}`", storage::broken(OVERLAY)),
    };
    let (good, overlay) = overlay.unzip();
    Found {
        overlay,
        bytes: good,
        broken,
        unread,
        lost: Some(format!(
            "the changes made by an earlier run cannot be read: {reason}; {used}; {kept}"
        )),
    }
}

fn unread(error: &io::Error) -> String {
    format!(
        "the file `{OVERLAY}` stays as it is and no change is made while the node runs, since it could not be read at the start ({error}); \
         make it readable or move it away, and start again"
    )
}

type Read = (Vec<u8>, Result<Overlay, String>);

fn read_one(disk: &dyn Disk, name: &str) -> io::Result<Option<Read>> {
    let read = disk.read(name)?;
    Ok(read.map(|bytes| {
        let overlay = Overlay::decode(&bytes);
        (bytes, overlay)
    }))
}

impl std::fmt::Debug for Fresh {
    /// Without values, some of which are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("revision", &self.state.revision)
            .field("alarms", &self.alarms)
            .finish_non_exhaustive()
    }
}
