//! One small file that is either as it was or as it is meant to be.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{HeldFolder, IdentityError};

/// A data folder that this process alone has, until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    held: HeldFolder,
    _lock: File,
}

const LOCK: &str = "node.lock";
const IDENTITY: &str = "identity";
const IDENTITY_NEXT: &str = "identity.next";

impl Folder {
    /// Makes the folder where it is missing, and takes its lock.
    pub(super) fn open(path: &Path) -> Result<Self, IdentityError> {
        fs::create_dir_all(path).map_err(failed("make the data folder", path))?;
        let file = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .map_err(failed("open", &file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                held: HeldFolder::open(path).map_err(failed("open", path))?,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(IdentityError::InUse {
                folder: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed("lock", &file)(source)),
        }
    }

    /// Where the identity is kept.
    pub(super) fn identity_file(&self) -> PathBuf {
        self.path.join(IDENTITY)
    }

    /// The identity as it was last written; none in a new folder.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, IdentityError> {
        /// Far above any identity, so that a wrong file is seen to be one and not read to its end.
        const BYTES_MAX: u64 = 4096;
        let path = self.identity_file();
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Whether it still stands under its path: what stands there instead may be another node's.
    pub(super) fn check(&self) -> Result<(), IdentityError> {
        self.held.check().map_err(failed("use", &self.path))
    }

    /// Puts a new identity in the place of the old one; when this returns it is on the disk.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), IdentityError> {
        self.check()?;
        let next = self.path.join(IDENTITY_NEXT);
        let path = self.identity_file();
        let mut file = File::create(&next).map_err(failed("create", &next))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &next))?;
        fs::rename(&next, &path).map_err(failed("replace", &path))?;
        sync_folder(&self.path).map_err(failed("sync", &self.path))
    }
}

/// Makes a rename in the folder last. Only Unix lets a folder be opened and synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    move |source| IdentityError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
