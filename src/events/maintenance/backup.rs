//! A copy of a folder, taken while its store runs.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use super::{
    super::{
        Disk, Folder, OpenError, Progress,
        naming::{Named, sealed_names},
    },
    segments,
};

/// What [`backup`] copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct BackedUp {
    /// Files that are hard links of the originals: they cost no space, and never change.
    pub linked: u64,
    /// Files that were copied.
    pub copied: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Copies the folder of a store, which may be running, to a folder that is new or empty: sealed segments and side files as hard links where
/// the file system has them, and what has been written of the segments that are not sealed. Everything that is acknowledged when it begins
/// is in the copy; of what is stored meanwhile the first part may be. All of the copy is synced.
/// A store starts on it as it is.
///
/// # Errors
///
/// [`OpenError::NotEmpty`]: nothing was done, or somebody else put a file there meanwhile. [`OpenError::Folder`], [`OpenError::Read`],
/// [`OpenError::Unknown`]. What was copied is removed again, as far as the disk lets it, and nothing else.
pub fn backup(from: &Path, to: &Path, progress: &dyn Fn(Progress)) -> Result<BackedUp, OpenError> {
    fs::create_dir_all(to).map_err(OpenError::Folder)?;
    if fs::read_dir(to)
        .map_err(OpenError::Folder)?
        .next()
        .is_some()
    {
        return Err(OpenError::NotEmpty(to.to_owned()));
    }
    let mut copy = Copy {
        from,
        to,
        made: HashSet::new(),
        done: BackedUp::default(),
    };
    let copied = copy.all(progress);
    if copied.is_err()
        && let Err(error) = copy.clear()
    {
        tracing::warn!(folder = %to.display(), %error, "what was copied before the failure was not removed");
    }
    copied.map(|()| copy.done)
}

/// How often a copy begins anew because the store pruned a segment meanwhile, which it does once in many minutes.
const ATTEMPTS: usize = 10;

struct Copy<'a> {
    from: &'a Path,
    to: &'a Path,
    /// Its own files: another backup may have begun in the same folder.
    made: HashSet<String>,
    done: BackedUp,
}

impl Copy<'_> {
    fn all(&mut self, progress: &dyn Fn(Progress)) -> Result<(), OpenError> {
        let source = Folder::new(self.from);
        for _ in 0..ATTEMPTS {
            let left_out = segments::each(&source, progress, |named, _| self.segment(named))?;
            // Pruned meanwhile: that it was may stand in a segment that is newer than the copy, which would miss it.
            if left_out > 0 {
                self.clear().map_err(OpenError::Folder)?;
                continue;
            }
            for (name, _) in source.list().map_err(OpenError::Folder)? {
                if name.ends_with(".damaged") {
                    self.link(&name)?;
                }
            }
            let copies = Folder::new(self.to);
            return copies.sync_folder().map_err(OpenError::Folder);
        }
        let busy = io::Error::new(
            io::ErrorKind::ResourceBusy,
            "segments are pruned faster than they are copied",
        );
        Err(OpenError::Folder(busy))
    }

    /// Removes what an attempt left.
    fn clear(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        self.made.retain(|name| {
            let removed = fs::remove_file(self.to.join(name));
            let stays = removed.is_err();
            outcome = std::mem::replace(&mut outcome, Ok(())).and(removed);
            stays
        });
        self.done = BackedUp::default();
        outcome
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        let file = File::create_new(self.to.join(name))?;
        self.made.insert(name.to_owned());
        Ok(file)
    }

    fn segment(&mut self, named: &Named) -> Result<(), OpenError> {
        if !named.is_sealed {
            return self.write_growing(&named.name);
        }
        let (blocks, index) = sealed_names(&named.name);
        self.link(&index)?;
        self.link(&blocks)
    }

    /// A store may write to the file meanwhile: what was there when its end was seen is copied, and a frame that this cuts in two is a
    /// torn end.
    fn write_growing(&mut self, name: &str) -> Result<(), OpenError> {
        let bytes = segments::read_growing(&Folder::new(self.from), name)?;
        let mut written = || -> io::Result<()> {
            let mut copy = self.create(name)?;
            copy.write_all(&bytes)?;
            copy.sync_all()
        };
        written().map_err(|error| self.failed(name, error))?;
        self.done.bytes += bytes.len() as u64;
        self.done.copied += 1;
        Ok(())
    }

    /// A file that does not change.
    fn copy(&mut self, name: &str) -> Result<(), OpenError> {
        let mut copied = || -> io::Result<u64> {
            let mut source = File::open(self.from.join(name))?;
            let mut copy = self.create(name)?;
            let bytes = io::copy(&mut source, &mut copy)?;
            copy.flush()?;
            copy.sync_all()?;
            Ok(bytes)
        };
        self.done.bytes += copied().map_err(|error| self.failed(name, error))?;
        self.done.copied += 1;
        Ok(())
    }

    /// The file never changes, though it may go.
    fn link(&mut self, name: &str) -> Result<(), OpenError> {
        let (source, copy) = (self.from.join(name), self.to.join(name));
        let len = fs::metadata(&source)
            .map_err(|error| self.failed(name, error))?
            .len();
        match fs::hard_link(&source, &copy) {
            Ok(()) => {
                self.made.insert(name.to_owned());
                self.done.linked += 1;
                self.done.bytes += len;
                Ok(())
            }
            // Linked before its segment changed its form.
            Err(_) if self.made.contains(name) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.failed(name, error)),
            // Another file system, or one without links.
            Err(_) => self.copy(name),
        }
    }

    fn failed(&self, name: &str, error: io::Error) -> OpenError {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return OpenError::NotEmpty(self.to.to_owned());
        }
        OpenError::Read {
            file: name.to_owned(),
            error,
        }
    }
}
