//! The bytes under the log: a trait of a few calls, and the folder that implements it.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::ids::HeldFolder;

/// A flat folder of files. Few calls, so that a test can fail each of them.
///
/// All calls may block; the store makes them from its own threads only.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Takes the folder for this store alone, and creates it where it is missing. Dropping the answer gives it back.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if another store has it; any other [`io::Error`] if it cannot be used.
    fn lock(&self) -> io::Result<Box<dyn DiskLock>>;

    /// Names and lengths in bytes of all files, in any order.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`].
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Opens a file that exists.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`].
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file that does not exist. It may be gone after a crash until [`Disk::sync_folder`].
    ///
    /// # Errors
    ///
    /// Any [`io::Error`]; [`io::ErrorKind::AlreadyExists`] if it exists.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created and removed names durable.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`].
    fn sync_folder(&self) -> io::Result<()>;
}

/// One file of a [`Disk`].
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`. They may be lost in a crash until [`DiskFile::sync`].
    ///
    /// # Errors
    ///
    /// Any [`io::Error`]; part of `bytes` may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reads into `buffer` from `offset`: as many bytes as come at once, none only where the file ends.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`].
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads as [`DiskFile::read_at`] what can be had without waiting for the disk; it may come short.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] where the disk has to be asked, which is the answer of a disk that cannot tell.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let _ = (buffer, offset);
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Fills `buffer` from `offset`, fewer bytes only where the file ends.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`] but [`io::ErrorKind::Interrupted`].
    fn fill_from(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Makes all written bytes and the length durable. What has no name any more nobody finds again, and is not durable.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`]; nothing is known about what became durable, and a second call proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Drops everything from byte `len` on.
    ///
    /// # Errors
    ///
    /// Any [`io::Error`].
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// Holds a folder for one store until it is dropped.
pub trait DiskLock: fmt::Debug + Send + Sync + 'static {}

/// A folder of real files. While it is locked, another one that is put in its place is not written to, nor locked by this `Folder` any
/// more; once its lock was given back, another one is as good.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    held: Arc<Mutex<Option<HeldFolder>>>,
}

const LOCK_FILE: &str = "lock";

impl Folder {
    /// The folder at `path`; nothing is touched until the store opens it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            held: Arc::default(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self) -> io::Result<()> {
        self.held.lock().as_ref().map_or(Ok(()), HeldFolder::check)
    }
}

impl Disk for Folder {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.check()?;
        fs::create_dir_all(&self.path)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => {
                *self.held.lock() = Some(HeldFolder::open(&self.path)?);
                Ok(Box::new(FolderLock {
                    _file: file,
                    held: Arc::clone(&self.held),
                }))
            }
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // It went while the folder was read, as the files of pruned segments do.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            // A name that is not UTF-8 is none of ours.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let path = self.path.join(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            // Whoever only looks needs no more; what a store writes to it is refused.
            Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => {
                File::open(&path)?
            }
            file => file?,
        };
        Ok(Arc::new(RealFile::new(file)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.check()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(RealFile::new(file)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check()?;
        fs::remove_file(self.path.join(name))
    }

    #[cfg(unix)]
    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Windows keeps names with its journal and cannot open a folder as a file.
    #[cfg(not(unix))]
    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The system gives the lock back when the file is closed, also when the process is killed.
#[derive(Debug)]
struct FolderLock {
    _file: File,
    held: Arc<Mutex<Option<HeldFolder>>>,
}

/// Where all was well to the end, the next folder under the path may be another one: a backup that was put in its place.
impl Drop for FolderLock {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        if held.as_ref().is_some_and(|held| held.check().is_ok()) {
            *held = None;
        }
    }
}

impl DiskLock for FolderLock {}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Whether the file system counts a file's names: some tell of none.
    counts_names: bool,
}

impl RealFile {
    fn new(file: File) -> io::Result<Self> {
        let counts_names = names(&file)? > Some(0);
        Ok(Self { file, counts_names })
    }
}

/// How many names a file has, where that is known.
#[cfg(unix)]
fn names(file: &File) -> io::Result<Option<u64>> {
    let metadata = file.metadata()?;
    Ok(Some(std::os::unix::fs::MetadataExt::nlink(&metadata)))
}

#[cfg(not(unix))]
fn names(_: &File) -> io::Result<Option<u64>> {
    Ok(None)
}

impl DiskFile for RealFile {
    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_write(&self.file, bytes, offset)?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[n..];
            offset += n as u64;
        }
        Ok(())
    }

    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        use rustix::io::{ReadWriteFlags, preadv2};
        let mut parts = [io::IoSliceMut::new(buffer)];
        // Whatever else is wrong, a file system that does not know the flag included, is told by a read that may wait.
        preadv2(&self.file, &mut parts, offset, ReadWriteFlags::NOWAIT)
            .map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.counts_names && names(&self.file)? == Some(0) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the file was removed while it was in use",
            ));
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_serves_one_store_at_a_time() {
        let folder = tempfile::tempdir().expect("folder for the test");
        let disk = Folder::new(folder.path().join("new").join("events"));

        let lock = disk.lock().expect("free folder");
        let refused = disk.lock().expect_err("folder is taken");
        drop(lock);

        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        disk.lock().expect("folder is free again");
    }

    #[test]
    fn what_was_just_written_is_had_without_waiting_or_not_at_all() {
        let folder = tempfile::tempdir().expect("folder for the test");
        let file = Folder::new(folder.path()).create("a").expect("file is new");
        file.write_at(b"12345", 0).expect("disk has room");

        let mut buffer = [0; 3];
        match file.read_cached_at(&mut buffer, 1) {
            Ok(read) => assert_eq!(&buffer[..read], &b"234"[..read]),
            // Not every file system can tell.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }

    #[test]
    fn files_that_go_while_a_folder_is_listed_are_no_failure() {
        let folder = tempfile::tempdir().expect("folder for the test");
        let disk = Folder::new(folder.path());
        let names = || (0..50).map(|n| format!("{n}.seg"));
        std::thread::scope(|scope| {
            let coming_and_going = scope.spawn(|| {
                for _ in 0..40 {
                    for name in names() {
                        disk.create(&name).expect("it is new");
                    }
                    for name in names() {
                        disk.remove(&name).expect("it is there");
                    }
                }
            });
            while !coming_and_going.is_finished() {
                disk.list().expect("the folder is readable");
            }
        });
    }

    #[cfg(unix)]
    #[test]
    fn what_is_written_to_a_file_that_was_removed_is_not_durable() {
        let folder = tempfile::tempdir().expect("folder for the test");
        let disk = Folder::new(folder.path());
        let file = disk.create("a").expect("file is new");
        file.write_at(b"1", 0).expect("disk has room");
        file.sync().expect("it has a name");

        disk.remove("a").expect("it is there");
        file.write_at(b"2", 1).expect("it is open");

        let error = file.sync().expect_err("nobody can open it again");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// A store whose folder was moved began its next segment in, and pruned files of, whichever store was started there since.
    #[cfg(unix)]
    #[test]
    fn nothing_is_made_or_removed_in_a_folder_that_stands_in_the_place_of_the_locked_one() {
        let around = tempfile::tempdir().expect("folder for the test");
        let (place, aside) = (around.path().join("data"), around.path().join("aside"));
        let disk = Folder::new(&place);
        let _lock = disk.lock().expect("nobody has it");
        fs::rename(&place, &aside).expect("it is moved");
        let other = Folder::new(&place);
        let _others = other.lock().expect("it is another one");
        drop(other.create("theirs").expect("it is new"));

        let gone = |done: io::Result<()>| done.map_err(|error| error.kind());
        assert_eq!(
            gone(disk.create("a").map(drop)),
            Err(io::ErrorKind::NotFound)
        );
        assert_eq!(gone(disk.remove("theirs")), Err(io::ErrorKind::NotFound));

        assert!(place.join("theirs").exists() && !place.join("a").exists());
    }

    /// As a backup is put in the place of a store that was stopped.
    #[test]
    fn a_folder_may_be_replaced_while_nobody_has_it() {
        let around = tempfile::tempdir().expect("folder for the test");
        let place = around.path().join("data");
        let disk = Folder::new(&place);
        drop(disk.lock().expect("nobody has it"));
        fs::rename(&place, around.path().join("aside")).expect("it is moved");
        fs::create_dir(&place).expect("another one");

        let _lock = disk.lock().expect("it is another one, and that is meant");

        disk.create("a").expect("it is new");
    }

    #[test]
    fn a_read_ends_where_the_file_ends() {
        let folder = tempfile::tempdir().expect("folder for the test");
        let disk = Folder::new(folder.path());
        let file = disk.create("a").expect("file is new");

        file.write_at(b"12345", 0).expect("disk has room");
        let mut buffer = [0; 8];
        let read = file.fill_from(&mut buffer, 2).expect("file is readable");

        assert_eq!(&buffer[..read], b"345");
    }
}
