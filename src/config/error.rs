use std::{fmt, path::PathBuf, time::Duration};

use super::{Invalid, InvalidKind, Origin, Revision, storage::Unkept};
use crate::{
    otp::CallError,
    value::{Path, ValueError},
};

/// Why the settings could not be loaded: all that is wrong, not only the first thing.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigError {
    problems: Vec<Problem>,
    misnamed: Vec<Problem>,
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A file or folder could not be read.
    #[error("{} cannot be read: {reason}; make it readable, or name another file", file.display())]
    Unreadable {
        /// The file or folder.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file is not TOML.
    #[error("{}, line {line}, column {column}: {reason}; mend the file", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key that nobody knows.
    #[error("`{path}` (from {origin}) is not a setting{}", hint(suggestion.as_deref()))]
    UnknownKey {
        /// The key as it was given.
        path: String,
        /// Where it stands.
        origin: Origin,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A variable or flag that does not name a setting.
    #[error("{origin} does not name a setting: {reason}")]
    Unnamed {
        /// The variable or flag.
        origin: Origin,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// A value that has the wrong type or breaks a rule.
    #[error("`{path}` (from {origin}): {reason}")]
    Refused {
        /// The setting.
        path: String,
        /// Where its value comes from.
        origin: Origin,
        /// What sort of rule it breaks; `None` for a wrong type.
        kind: Option<InvalidKind>,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// Keys that nobody knows, beyond those that are told one by one.
    #[error("{count} more keys are not settings")]
    MoreUnknown {
        /// How many.
        count: usize,
    },
    /// The program's defaults cannot be used: a defect of the program.
    #[error(
        "the defaults of the table `{table}` cannot be used: {reason}; this is a defect of the program"
    )]
    Defaults {
        /// The table.
        table: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a setting could not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The text is not a path.
    #[error("not a path of a setting: {0}; write it as section.key")]
    InvalidPath(ValueError),
    /// There is no such setting.
    #[error("there is no setting `{path}`{}", hint(suggestion.as_deref()))]
    NotFound {
        /// The path asked for.
        path: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The setting has another type than the one asked for.
    #[error("`{path}` is not of the type asked for: {reason}; ask for another type")]
    WrongType {
        /// The path asked for.
        path: String,
        /// What does not fit.
        reason: String,
    },
}

/// Why a change was refused. Nothing changed and nobody was told, except for [`UpdateError::Call`], which says itself whether the
/// change may have been made, and [`UpdateError::MayBeKept`], after which a restart may bring it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The text is not a path.
    #[error("not a path of a setting: {0}; write it as section.key")]
    InvalidPath(ValueError),
    /// There is no such setting.
    #[error("there is no setting `{path}`{}", hint(suggestion.as_deref()))]
    NotFound {
        /// The path that was to be written.
        path: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The setting may not change while the program runs.
    #[error(
        "{} may not change while the program runs; set it in a file, a variable or with --set, and start again",
        named(path)
    )]
    Fixed {
        /// The setting; the root where it is the document as a whole.
        path: Path,
    },
    /// The value is too deep or has too many parts.
    #[error("{} beyond the limits: {source}", whole_or(path))]
    BeyondLimits {
        /// The setting; the root where it is the settings as a whole.
        path: Path,
        /// Which limit.
        source: ValueError,
    },
    /// The value is too large.
    #[error("the value for `{path}` is {bytes} bytes, allowed are {max}; keep large data in a file and its name here", max = super::VALUE_BYTES_MAX)]
    TooLarge {
        /// The setting.
        path: Path,
        /// Its weight.
        bytes: usize,
    },
    /// The change has too many parts, or too many settings would differ from the files.
    #[error("{count} changed settings are too many, allowed are {max}; put them into a settings file", max = super::CHANGES_MAX)]
    TooMany {
        /// How many there would be.
        count: usize,
    },
    /// Who makes the change, or why, is said at too great a length: it is kept with each of its parts.
    #[error("`{what}` is {bytes} bytes, allowed are {max}; say it shorter")]
    TooLong {
        /// `by` or `why`.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// A change without any part.
    #[error("the change is empty; say at least one path and value")]
    Empty,
    /// The value has the wrong type.
    #[error("`{path}`: {reason}; give a value of the setting's type")]
    WrongType {
        /// The setting.
        path: String,
        /// What does not fit.
        reason: String,
    },
    /// The settings as a whole would not be valid.
    #[error("`{path}` is refused: {reason}")]
    Invalid {
        /// The setting.
        path: String,
        /// What sort of rule it breaks.
        kind: InvalidKind,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// Someone else wrote first.
    #[error(
        "the change was made against revision {expected}, current is {current}; read again and retry"
    )]
    Stale {
        /// The revision that the writer had read.
        expected: Revision,
        /// The revision now.
        current: Revision,
    },
    /// The revision is no longer, or not yet, in the history.
    #[error(
        "revision {wanted} is not in the history, which goes from {oldest} to {current}; choose one of these"
    )]
    NoSuchRevision {
        /// The revision asked for.
        wanted: Revision,
        /// The oldest one that can be gone back to.
        oldest: Revision,
        /// The revision now.
        current: Revision,
    },
    /// The program's own code panicked while it looked at the change.
    #[error("{place} panicked; the change was not made; this is a defect of the program")]
    Panicked {
        /// Which code.
        place: &'static str,
    },
    /// The change could not be kept, so it was not made.
    #[error("the change could not be written to disk: {reason}; free or mend the disk and retry")]
    NotPersisted {
        /// What the disk says.
        reason: String,
    },
    /// The change was not made, but the disk failed in such a way that it may hold it all the same. What holds now is written again as
    /// soon as the disk works; if the program starts again before that, the change may hold.
    #[error(
        "the change was not made, but the disk may hold it until it works again: {reason}; free or mend the disk and retry"
    )]
    MayBeKept {
        /// What the disk says.
        reason: String,
    },
    /// The disk did not answer in time, so the change was not made.
    #[error("the change was not on disk within {limit:?}; look at the disk and retry")]
    DiskStuck {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The service did not answer.
    #[error("the config service: {0}")]
    Call(#[from] CallError),
}

/// Why what the sources say now was not taken over. The settings stay as they are, with an alarm in
/// [`Status`](super::Status) until a reload works.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// What the sources say is not valid by itself.
    #[error("{0}")]
    Sources(#[from] ConfigError),
    /// It does not fit what was changed while running or what may not change now, it could not be kept, or the service did not answer.
    #[error("what the sources say now cannot be taken over while running: {0}")]
    Refused(#[from] UpdateError),
    /// The files did not answer in time: the disk or network that they are on hangs. The same reload may be tried again.
    #[error(
        "the settings files could not be read within {limit:?}; look at the disk or network that they are on"
    )]
    Stuck {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The runtime is shutting down.
    #[error("the runtime is shutting down; start again")]
    RuntimeGone,
}

impl From<Unkept> for UpdateError {
    fn from(unkept: Unkept) -> Self {
        let reason = unkept.to_string();
        match unkept {
            Unkept::Not(_) | Unkept::Closed(_) => Self::NotPersisted { reason },
            Unkept::Maybe(_) => Self::MayBeKept { reason },
        }
    }
}

impl ReloadError {
    /// Whether the same files may be taken over a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Sources(_) | Self::RuntimeGone => false,
            Self::Stuck { .. } => true,
            Self::Refused(refused) => matches!(
                refused,
                UpdateError::Call(_)
                    | UpdateError::NotPersisted { .. }
                    | UpdateError::MayBeKept { .. }
                    | UpdateError::DiskStuck { .. }
            ),
        }
    }
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self {
            problems,
            misnamed: Vec::new(),
        }
    }

    /// With the variables that may have been meant for what is missing.
    pub(super) fn hinting(self, misnamed: Vec<Problem>) -> Self {
        Self { misnamed, ..self }
    }

    /// All that is wrong, in the order it was found; at least one.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Variables that were probably meant to name a setting, as [`Loaded::misnamed`](super::Loaded::misnamed): by themselves no reason,
    /// but one of them may be what is missing.
    #[must_use]
    pub fn misnamed(&self) -> &[Problem] {
        &self.misnamed
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self::new(vec![problem])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.problems {
            [one] => one.fmt(f)?,
            several => {
                write!(f, "the settings have {} problems:", several.len())?;
                several
                    .iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))?;
            }
        }
        self.misnamed
            .iter()
            .try_for_each(|misnamed| write!(f, "\n  hint: {misnamed}"))
    }
}

impl std::error::Error for ConfigError {}

/// Why a table does not accept a value; paths are relative to the table, secrets already left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    Type { path: String, reason: String },
    Invalid(Invalid),
    Panicked,
}

impl Refusal {
    /// A defect of the program, found before the secret is shown anywhere.
    pub(super) fn bare_secret(place: &Path) -> Self {
        Self::Invalid(Invalid::constraint(
            place.to_string(),
            format!(
                "it is a secret that no rule hides; this is a defect of the program: its rules need `.secret(\"{place}\")`"
            ),
        ))
    }
}

fn named(path: &Path) -> String {
    if path.is_empty() {
        return "the document as a whole".to_owned();
    }
    format!("`{path}`")
}

fn whole_or(path: &Path) -> String {
    if path.is_empty() {
        return "the settings as a whole would be".to_owned();
    }
    format!("the value for `{path}` is")
}

fn hint(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(path) => format!("; did you mean `{path}`?"),
        None => "; see which there are with `config get`".to_owned(),
    }
}
