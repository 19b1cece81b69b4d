//! Where the settings are kept: a folder with a few small files, each replaced as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::ids::HeldFolder;

/// What the room needs of a disk. Each call either has its effect on the medium or says that it failed.
pub trait Disk: Send + Sync + 'static {
    /// The whole file; `None` when there is none.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes or overwrites a file that only its owner may read, and waits until its bytes are on the medium.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Gives a file another name, in the place of the file of that name.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Waits until the renames are on the medium.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn sync_folder(&self) -> io::Result<()>;
}

/// A folder of the file system. Once it was read or written to, nothing is written to another one that stands in its place.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    held: Arc<OnceLock<HeldFolder>>,
}

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unkept {
    /// What stood on the disk stands there.
    #[error("{0}")]
    Not(#[from] io::Error),
    /// What stood on the disk or what was to be written: the disk failed when it was to take the new content back.
    #[error("{0}")]
    Maybe(io::Error),
    /// Nothing is written any more, and why.
    #[error("{0}")]
    Closed(String),
}

/// Whether a write takes effect, decided once: by the writer when it is done, or by the one who no longer waits for it.
#[derive(Debug, Default)]
pub(super) struct Verdict(AtomicU8);

impl Folder {
    /// Keeps the settings in this folder; it is made when the first file is written.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            path: folder.into(),
            held: Arc::default(),
        }
    }

    /// Whether it is still the one that it was.
    fn check(&self) -> io::Result<()> {
        self.held.get().map_or(Ok(()), HeldFolder::check)
    }

    /// Makes the folder at the first write, and waits until it is on the medium.
    fn make(&self) -> io::Result<()> {
        if self.held.get().is_some() {
            return self.check();
        }
        if !self.path.is_dir() {
            fs::create_dir_all(&self.path)?;
            let around = self.path.parent();
            let around = around.filter(|parent| !parent.as_os_str().is_empty());
            File::open(around.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        self.hold()
    }

    fn hold(&self) -> io::Result<()> {
        let held = HeldFolder::open(&self.path)?;
        self.held.get_or_init(|| held).check()
    }
}

impl Disk for Folder {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => {
                // From here on it is this folder that is meant.
                self.hold()?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.make()?;
        let path = self.path.join(name);
        // A file that is made anew has the mode from its first byte on; one that is left from a crash may not.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = owner_only().open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.check()?;
        File::open(&self.path)?.sync_all()
    }
}

fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Verdict {
    const OPEN: u8 = 0;
    const DONE: u8 = 1;
    const ABANDONED: u8 = 2;

    /// The write is done. False when nobody waits for it any more: then it has to be taken back.
    pub(super) fn done(&self) -> bool {
        self.decide(Self::DONE)
    }

    /// Nobody waits for the write any more. False when it is done already.
    pub(super) fn abandon(&self) -> bool {
        self.decide(Self::ABANDONED)
    }

    fn is_abandoned(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::ABANDONED
    }

    fn decide(&self, verdict: u8) -> bool {
        let decided =
            self.0
                .compare_exchange(Self::OPEN, verdict, Ordering::SeqCst, Ordering::SeqCst);
        decided.is_ok()
    }
}

/// The name under which the content before the last write is kept.
pub(super) fn previous(name: &str) -> String {
    format!("{name}.previous")
}

/// The name under which a broken file is kept for people to look at.
pub(super) fn broken(name: &str) -> String {
    format!("{name}.broken")
}

/// Replaces a file as a whole: a crash at any step leaves the old or the new content under the name. `before` is what stands
/// there now, and is kept as the previous one.
///
/// On an error the old content stands, or it is [`Unkept::Maybe`].
pub(super) fn replace(
    disk: &dyn Disk,
    name: &str,
    bytes: &[u8],
    before: Option<&[u8]>,
    verdict: &Verdict,
) -> Result<(), Unkept> {
    let fresh = format!("{name}.new");
    if let Some(before) = before {
        disk.write_synced(&fresh, before)?;
        disk.rename(&fresh, &previous(name))?;
    }
    disk.write_synced(&fresh, bytes)?;
    if verdict.is_abandoned() {
        return Err(gave_up().into());
    }
    disk.rename(&fresh, name)?;
    let reason = match disk.sync_folder() {
        Ok(()) if verdict.done() => return Ok(()),
        Ok(()) => gave_up(),
        Err(error) => error,
    };
    match put_back(disk, name, &fresh, before) {
        Ok(()) => Err(reason.into()),
        Err(_) => Err(Unkept::Maybe(reason)),
    }
}

fn put_back(disk: &dyn Disk, name: &str, fresh: &str, before: Option<&[u8]>) -> io::Result<()> {
    match before {
        Some(before) => {
            disk.write_synced(fresh, before)?;
            disk.rename(fresh, name)?;
        }
        None => disk.rename(name, fresh)?,
    }
    disk.sync_folder()
}

fn gave_up() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        "it took so long that nobody waited for it any more",
    )
}
