//! `events import --follow`: goes on with a file that grows, is truncated, or is replaced by another one of its name.

use std::{
    fs::File,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{Input, LockedFile, Report, file_attempts, interrupt::Interrupt, open, unreadable};
use crate::cli::{arguments::Import, client::Client, failure::Failure};

/// How often a file is looked at that does not grow: soon enough for a person, and nothing for a machine.
const LOOK_EACH: Duration = Duration::from_millis(200);

/// Imports what is there, and then what comes, until Ctrl-C.
pub(super) fn follow(
    client: &Client,
    arguments: &Import,
    first: LockedFile,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), Failure> {
    let path = &arguments.file;
    let failed = |error: io::Error| unreadable(path, &error);
    let mut current = first;
    loop {
        let read = State::of(&current.file).map_err(failed)?;
        file_attempts(client, arguments, &current, interrupt, report)?;
        loop {
            if interrupt.is_asked() {
                return Err(Failure::Interrupted("interrupted".into()));
            }
            if State::of(&current.file).map_err(failed)? != read {
                break;
            }
            // Only when nothing more came to it: what is in the file that was moved away is read to its end first.
            if let Some(next) = replacement(path, read) {
                current = next?;
                break;
            }
            interrupt.wait(LOOK_EACH);
        }
    }
}

/// The file that has the name now, if it is another one than the one that is read.
fn replacement(path: &Path, read: State) -> Option<Result<LockedFile, Failure>> {
    // Between the two names of a rotation there may be none.
    let there = File::open(path).and_then(|file| State::of(&file)).ok()?;
    if there.file == read.file {
        return None;
    }
    match open(path) {
        Ok(Input::File(file)) => Some(Ok(file)),
        Ok(Input::Pipe(_)) => Some(Err(unreadable(path, &"it is no file any more"))),
        Err(failure) => Some(Err(failure)),
    }
}

/// Which file it is, how long, and when it was last written to: one that is cut and grows to the same length is told by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    file: (u64, u64),
    length: u64,
    written: SystemTime,
}

impl State {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        #[cfg(unix)]
        let id = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.dev(), metadata.ino())
        };
        // Elsewhere a file that is replaced is told by when it was made.
        #[cfg(not(unix))]
        let id = {
            let made = metadata.created()?.duration_since(std::time::UNIX_EPOCH);
            let made = made.unwrap_or_default();
            (made.as_secs(), u64::from(made.subsec_nanos()))
        };
        Ok(Self {
            file: id,
            length: metadata.len(),
            written: metadata.modified()?,
        })
    }
}
