//! `events import --follow`: goes on with a file that grows, is truncated, or is replaced by another one of its name.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    Input, LockedFile, Report, Standing, checkpoint::Checkpoint, file_attempts,
    interrupt::Interrupt, open, unreadable,
};
use crate::cli::{arguments::Import, client::Client, failure::Failure};

/// How often a file is looked at that does not grow: soon enough for a person, and nothing for a machine.
const LOOK_EACH: Duration = Duration::from_millis(200);
/// For how many looks nothing may come to a file that was replaced before the new one is gone on with: whoever writes has the old one open
/// until told to open the new one (`logrotate` tells after it has moved the file).
const QUIET_LOOKS: usize = 10;
/// How many files that took the name one after the other are kept open: more than whoever rotates in earnest makes until the first one
/// falls silent. More are seen once one of them is read.
const SUCCESSORS_MAX: usize = 16;

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
    let (mut current, mut standing) = (first, Standing::default());
    let mut next = Successors::default();
    loop {
        current.grows = true;
        let read = State::of(&current.file).map_err(failed)?;
        file_attempts(
            client,
            arguments,
            &current,
            &mut standing,
            interrupt,
            report,
        )?;
        let mut quiet = 0;
        loop {
            if interrupt.is_asked() {
                return Err(Failure::Interrupted("interrupted".into()));
            }
            // Also while it grows: whoever goes on writing to it holds up none that comes after it.
            let lost = next.look(path, &current.file, read)?;
            quiet = if lost { quiet + 1 } else { 0 };
            if State::of(&current.file).map_err(failed)? != read {
                break;
            }
            if quiet > QUIET_LOOKS {
                // A last line without its end gets none any more.
                current.grows = false;
                file_attempts(
                    client,
                    arguments,
                    &current,
                    &mut standing,
                    interrupt,
                    report,
                )?;
                if let Some(Successor { file, goes_on }) = next.0.pop_front() {
                    current = file;
                    if !goes_on {
                        // From its start, also where it begins as the one before.
                        standing.reached = Some(Checkpoint::default());
                    }
                }
                break;
            }
            interrupt.wait(LOOK_EACH);
        }
    }
}

/// The files that had the name after the one that is read. Each is opened as soon as it is seen, or it is lost when the next one takes
/// the name.
#[derive(Default)]
struct Successors(VecDeque<Successor>);

struct Successor {
    file: LockedFile,
    /// It may go on where the one before it was read to; otherwise it begins anew.
    goes_on: bool,
}

impl Successors {
    /// Looks who has the name now; says whether the one that is read has lost it. Between the two names of a rotation there may be none.
    fn look(&mut self, path: &Path, current: &File, read: State) -> Result<bool, Failure> {
        if let Ok(there) = File::open(path).and_then(|file| State::of(&file)) {
            let is_it = |next: &Successor| {
                State::of(&next.file.file).is_ok_and(|next| next.file == there.file)
            };
            if there.file == read.file {
                self.0.clear();
            } else if self.0.len() < SUCCESSORS_MAX && !self.0.iter().any(is_it) {
                let file = match open_next(path) {
                    Ok(file) => file,
                    // Renamed or held in between: the next look tells.
                    Err(Failure::Refused { code, .. }) if code == "busy" || !path.exists() => {
                        return Ok(!self.0.is_empty());
                    }
                    Err(failure) => return Err(failure),
                };
                let before = self.0.back().map_or(current, |last| &last.file.file);
                let goes_on = is_moved_over(&file.file, before);
                self.0.push_back(Successor { file, goes_on });
            }
        }
        Ok(!self.0.is_empty())
    }
}

/// Whether `new` was made while `old` still had its name, and then took it, as whoever writes a file anew does with a copy (`rsync`,
/// `sed -i`, an editor). Whoever rotates a file leaves it another name; whoever deletes it makes the new one after that. In doubt it was
/// not: lines that are stored again are better than lines that are lost.
#[cfg(unix)]
fn is_moved_over(new: &File, old: &File) -> bool {
    use std::{os::unix::fs::MetadataExt as _, time::UNIX_EPOCH};

    let is = || -> io::Result<bool> {
        let old = old.metadata()?;
        // Its last name was taken from it when it last changed, unless it was written to after that.
        let second = Duration::from_secs(old.ctime().try_into().unwrap_or_default());
        let nanosecond = Duration::from_nanos(old.ctime_nsec().try_into().unwrap_or_default());
        let lost = UNIX_EPOCH + second + nanosecond;
        let made = new.metadata()?.created()?;
        Ok(old.nlink() == 0 && old.modified()? < lost && made < lost)
    };
    is().unwrap_or(false)
}

/// Nothing tells it here.
#[cfg(not(unix))]
fn is_moved_over(_: &File, _: &File) -> bool {
    false
}

fn open_next(path: &Path) -> Result<LockedFile, Failure> {
    match open(path)? {
        Input::File(file) => Ok(file),
        Input::Pipe(_) => Err(unreadable(path, &"it is no file any more")),
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
