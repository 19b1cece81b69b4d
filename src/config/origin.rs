//! Where a value comes from, and who changed it. Plain data.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;

use super::{Revision, UpdateError};

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The program's own default.
    Default,
    /// A settings file.
    File {
        /// The file.
        file: Arc<PathBuf>,
        /// The line of the value, from 1.
        line: usize,
    },
    /// The last good state of the settings files: the files themselves are broken.
    LastGood,
    /// An environment variable.
    Environment {
        /// Its name.
        variable: Arc<str>,
    },
    /// A `--set` on the command line.
    Flag {
        /// The path it set.
        path: Arc<str>,
    },
    /// A change while the program ran.
    Change {
        /// The revision that the change made.
        revision: Revision,
        /// When.
        at: Timestamp,
        /// Who and why.
        author: Arc<Author>,
    },
}

/// Who makes a change, and why. Shown in history, audit and [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Author {
    /// Who: a person, a program, an interface. Empty when it was not said. At most [`Author::BY_BYTES_MAX`].
    pub by: Arc<str>,
    /// Why. Empty when it was not said. At most [`Author::WHY_BYTES_MAX`].
    pub why: Arc<str>,
}

impl Author {
    /// The longest name, in bytes: as that of an event's source.
    pub const BY_BYTES_MAX: usize = 256;
    /// The longest reason, in bytes: some paragraphs. It is kept with each changed setting, of which there may be thousands.
    pub const WHY_BYTES_MAX: usize = 4096;

    pub(super) fn check(&self) -> Result<(), UpdateError> {
        let said = [
            ("by", &self.by, Self::BY_BYTES_MAX),
            ("why", &self.why, Self::WHY_BYTES_MAX),
        ];
        let too_long = said.into_iter().find(|(_, text, max)| text.len() > *max);
        too_long.map_or(Ok(()), |(what, text, max)| {
            let bytes = text.len();
            Err(UpdateError::TooLong { what, bytes, max })
        })
    }

    /// About how many bytes it holds.
    pub(super) fn weight(&self) -> usize {
        self.by.len() + self.why.len()
    }

    /// Nobody was named, and no reason: one for all.
    pub(super) fn unnamed() -> Arc<Self> {
        static UNNAMED: LazyLock<Arc<Author>> = LazyLock::new(Arc::default);
        Arc::clone(&UNNAMED)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File { file, line } => write!(f, "{}, line {line}", file.display()),
            Self::LastGood => f.write_str("the last good state of the settings files"),
            Self::Environment { variable } => write!(f, "the environment variable {variable}"),
            Self::Flag { path } => write!(f, "--set {path}=…"),
            Self::Change {
                revision,
                at,
                author,
            } => {
                write!(f, "a change while running, revision {revision}, {at}")?;
                if !author.by.is_empty() {
                    write!(f, ", by {}", author.by)?;
                }
                Ok(())
            }
        }
    }
}
