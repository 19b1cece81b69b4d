//! Loading: reads the sources, before any actor runs.

use std::{fs, io, path::Path as FilePath, sync::Arc};

use jiff::Timestamp;

use super::{
    Author, BrokenFiles, ConfigError, Disk, Kind, Origin, Problem, Record, Revision, Sources,
    layering::{self, FileText},
    record::{Delta, Log},
    saved::{LastGood, Overlay},
    source::Layer,
    state::State,
    status::{Alarm, AlarmKind},
    storage,
    table::Tables,
};
use crate::value::Value;

/// The file with what was changed while running, and its history.
pub(super) const OVERLAY: &str = "overlay";
/// The file with what the settings files said when they were last good.
pub(super) const LAST_GOOD: &str = "last-good";

/// The largest settings file, in bytes. Larger ones are no settings; it keeps a wrong file name from filling the memory.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// How far the revision jumps when changes were lost, so that nobody takes a new revision for one of the lost ones.
const LOST_REVISIONS: u64 = 1000;

/// Settings that are layered and valid, ready for [`Configuration::new`](super::Configuration::new).
pub struct Loaded {
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) alarms: Vec<Alarm>,
    pub(super) kept: Option<Kept>,
}

/// What is kept on disk, and what is to be written there at the start.
pub(super) struct Kept {
    pub(super) disk: Arc<dyn Disk>,
    /// Checksum of the document below the overlay: tells at the next start whether the files say something else.
    pub(super) base: u32,
    /// What stands there as the overlay.
    pub(super) overlay: Option<Vec<u8>>,
    /// Its revision.
    pub(super) revision: Option<Revision>,
    /// What stands there and is broken.
    pub(super) broken: Option<Vec<u8>>,
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
pub fn load(mut sources: Sources) -> Result<Loaded, ConfigError> {
    let tables = Arc::new(Tables(std::mem::take(&mut sources.tables.0)));
    let defaults = layering::defaults(&tables)?;
    let now = Timestamp::now();
    let mut alarms = Vec::new();
    let (state, good_files) = match from_files(&sources, &tables, &defaults) {
        Ok((state, files)) => (state, Some(files)),
        Err(problems) => {
            let error = ConfigError::new(problems);
            let Some(state) = from_last_good(&sources, &tables, &defaults) else {
                return Err(error);
            };
            alarms.push(Alarm::new(AlarmKind::FilesBroken, error.to_string(), now));
            (state, None)
        }
    };
    Ok(match sources.disk {
        None => Loaded {
            log: Log::starting_at(state.revision, []),
            state,
            alarms,
            kept: None,
        },
        Some(disk) => with_kept(&state, good_files, disk, alarms, now),
    })
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
}

fn from_files(
    sources: &Sources,
    tables: &Arc<Tables>,
    defaults: &Value,
) -> Result<(State, Value), Vec<Problem>> {
    let files = layering::files(&read_files(sources)?)?;
    let overrides = layering::overrides(sources, &defaults.merge(&files.values));
    let state = layering::assemble(tables, defaults, &files, &overrides)?;
    Ok((state, files.values))
}

fn from_last_good(sources: &Sources, tables: &Arc<Tables>, defaults: &Value) -> Option<State> {
    let disk = match sources.broken_files {
        BrokenFiles::Refuse => return None,
        BrokenFiles::UseLastGood => sources.disk.as_ref()?,
    };
    let readable = |name: &str| LastGood::decode(&disk.read(name).ok()??).ok();
    let last = readable(LAST_GOOD).or_else(|| readable(&storage::previous(LAST_GOOD)))?;
    let files = Layer::new(last.files, Origin::LastGood);
    let overrides = layering::overrides(sources, &defaults.merge(&files.values));
    layering::assemble(tables, defaults, &files, &overrides).ok()
}

fn read_files(sources: &Sources) -> Result<Vec<FileText>, Vec<Problem>> {
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    let mut take = |file: &FilePath, may_miss: bool| match read_file(file) {
        Ok(text) => texts.push(FileText {
            file: file.to_owned(),
            text,
        }),
        Err(error) if may_miss && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => problems.push(unreadable(file, &error)),
    };
    if let Some(file) = &sources.file {
        take(file, sources.file_may_miss);
    }
    let folder = sources
        .folder
        .as_deref()
        .map(|folder| toml_files(folder).map_err(|error| unreadable(folder, &error)));
    match folder.transpose() {
        Ok(files) => files.iter().flatten().for_each(|file| take(file, false)),
        Err(problem) => problems.push(problem),
    }
    if problems.is_empty() {
        Ok(texts)
    } else {
        Err(problems)
    }
}

fn read_file(file: &FilePath) -> io::Result<String> {
    let bytes = fs::metadata(file)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is {bytes} bytes, settings files may have {FILE_BYTES_MAX}"
        )));
    }
    fs::read_to_string(file)
}

fn toml_files(folder: &FilePath) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();
    Ok(files)
}

fn unreadable(file: &FilePath, error: &io::Error) -> Problem {
    Problem::Unreadable {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}

/// Takes over what an earlier run has kept.
fn with_kept(
    base: &State,
    good_files: Option<Value>,
    disk: Arc<dyn Disk>,
    mut alarms: Vec<Alarm>,
    now: Timestamp,
) -> Loaded {
    let found = read_overlay(&*disk);
    let checksum = crc32c::crc32c(base.document.to_json().as_bytes());
    let (state, log) = taken_over(base, checksum, &found, now);
    let lost = found
        .lost
        .map(|reason| Alarm::new(AlarmKind::ChangesLost, reason, now));
    alarms.extend(lost);
    alarms.extend(set_aside(&state, now));
    let last_good = disk.read(LAST_GOOD).ok().flatten();
    let good_files = good_files.and_then(|files| LastGood { files }.encode().ok());
    Loaded {
        state,
        log,
        alarms,
        kept: Some(Kept {
            base: checksum,
            revision: found.overlay.as_ref().map(|overlay| overlay.revision),
            overlay: found.bytes,
            broken: found.broken,
            good_files: good_files.filter(|good| Some(good) != last_good.as_ref()),
            last_good,
            disk,
        }),
    }
}

/// The settings with the earlier changes laid over them, and the history. What is not as the earlier run left it is a new revision.
fn taken_over(base: &State, checksum: u32, found: &Found, now: Timestamp) -> (State, Log) {
    let saved = found.overlay.clone().unwrap_or_default();
    let mut state = base.with_overlay(&saved.entries);
    let mut history = saved.history;
    let floor = history.first().map_or(saved.revision, |record| {
        Revision(record.revision.0.saturating_sub(1))
    });
    let is_same = found.overlay.is_none() || saved.base == checksum && state.aside.is_empty();
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
            author: Arc::new(Author::default()),
            changes: Vec::new(),
            needs_restart: Vec::new(),
            delta: Delta::between(&saved.entries, &state.overlay),
        }));
    }
    state.last_update = history.last().map(|record| record.at);
    (state, Log::starting_at(floor, history))
}

fn set_aside(state: &State, now: Timestamp) -> Option<Alarm> {
    let paths: Vec<String> = state
        .aside
        .iter()
        .map(|entry| format!("`{}`", entry.path))
        .collect();
    let said = || {
        format!(
            "changes made by an earlier run are not valid any more and are set aside: {}; write or reset them",
            paths.join(", ")
        )
    };
    (!paths.is_empty()).then(|| Alarm::new(AlarmKind::SetAside, said(), now))
}

#[derive(Default)]
struct Found {
    overlay: Option<Overlay>,
    bytes: Option<Vec<u8>>,
    broken: Option<Vec<u8>>,
    lost: Option<String>,
}

/// The overlay, or the one before it when it is broken.
fn read_overlay(disk: &dyn Disk) -> Found {
    let (bytes, reason) = match read_one(disk, OVERLAY) {
        Ok(None) => return Found::default(),
        Ok(Some((bytes, Ok(overlay)))) => {
            return Found {
                overlay: Some(overlay),
                bytes: Some(bytes),
                ..Found::default()
            };
        }
        Ok(Some((bytes, Err(reason)))) => (Some(bytes), reason),
        Err(error) => (None, error.to_string()),
    };
    let before = read_one(disk, &storage::previous(OVERLAY));
    let (overlay, used) = match before {
        Ok(Some((bytes, Ok(overlay)))) => (
            Some((bytes, overlay)),
            "the state before the last change is used",
        ),
        _ => (None, "none of them are used"),
    };
    let (good, overlay) = overlay.unzip();
    Found {
        overlay,
        bytes: good,
        broken: bytes,
        lost: Some(format!(
            "the changes made by an earlier run cannot be read: {reason}; {used}; the broken file is kept as `{}`",
            storage::broken(OVERLAY)
        )),
    }
}

type Read = (Vec<u8>, Result<Overlay, String>);

fn read_one(disk: &dyn Disk, name: &str) -> io::Result<Option<Read>> {
    let read = disk.read(name)?;
    Ok(read.map(|bytes| {
        let overlay = Overlay::decode(&bytes);
        (bytes, overlay)
    }))
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("revision", &self.state.revision)
            .field("alarms", &self.alarms)
            .finish_non_exhaustive()
    }
}
