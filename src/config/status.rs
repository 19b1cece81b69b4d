//! How the service is doing. Plain data.

use std::time::Duration;

use jiff::Timestamp;

use super::Revision;
use crate::value::Path;

/// How the config service is doing. Reads work in every case.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Whether changes can be made now.
    pub serving: Serving,
    /// The revision that readers see.
    pub revision: Revision,
    /// How many updates were made since the node started; refused ones and resets do not count.
    pub updates_count: u64,
    /// When the settings last changed.
    pub last_update: Option<Timestamp>,
    /// How many subscriptions and audit feeds are open.
    pub subscribers: usize,
    /// Whether changes are kept when the node stops.
    pub persisted: bool,
    /// Changed settings that take effect when the program starts again.
    pub restart_needed: Vec<Path>,
    /// What is not as it should be, oldest first.
    pub alarms: Vec<Alarm>,
}

/// Whether changes can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// The server has not started yet.
    Starting,
    /// Changes can be made.
    Running {
        /// For how long.
        uptime: Duration,
    },
    /// The server is down: what readers see is the last state, and nobody can change it.
    Stale {
        /// For how long.
        since: Duration,
    },
}

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What sort.
    pub kind: AlarmKind,
    /// What happened and what to do.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// What sort of thing a person should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// The settings files are broken; what they said when they were last good is used.
    FilesBroken,
    /// The settings files do not answer: the disk or network that they are on hangs.
    FilesStuck,
    /// The file with earlier changes is broken.
    ChangesLost,
    /// Some earlier changes are not valid any more and are not used.
    SetAside,
    /// Changes cannot be written to disk, so none are made.
    NotPersisting,
}

impl Alarm {
    pub(super) fn new(kind: AlarmKind, message: String, since: Timestamp) -> Self {
        Self {
            kind,
            message,
            since,
        }
    }
}

impl Status {
    /// Whether changes can be made and nothing needs a look.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self.serving, Serving::Running { .. }) && self.alarms.is_empty()
    }
}

impl AlarmKind {
    /// The name in interfaces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FilesBroken => "files_broken",
            Self::FilesStuck => "files_stuck",
            Self::ChangesLost => "changes_lost",
            Self::SetAside => "set_aside",
            Self::NotPersisting => "not_persisting",
        }
    }
}
