//! Keeps changes on disk, for threads that may block.

use std::{io, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use super::{
    Disk, Revision,
    load::{Kept, LAST_GOOD, OVERLAY},
    saved::{LastGood, Overlay},
    storage::{self, Unkept, Verdict},
};

/// The one who writes the files; one write at a time, whoever asks.
pub(super) struct Keeper {
    disk: Arc<dyn Disk>,
    on_disk: Mutex<OnDisk>,
}

struct OnDisk {
    overlay: Option<Vec<u8>>,
    /// Of the overlay that stands there; `None` when that is not known, or there is none.
    revision: Option<Revision>,
    /// What is to be written before anything else.
    broken: Option<Vec<u8>>,
    good_files: Option<Vec<u8>>,
    last_good: Option<Vec<u8>>,
    /// Why nothing is written any more.
    closed: Option<String>,
}

/// What came of bringing the disk in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mended {
    /// Nothing had to be written.
    Nothing,
    Written,
    /// An earlier write has not ended yet.
    Busy,
}

impl Keeper {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            disk: kept.disk,
            on_disk: Mutex::new(OnDisk {
                overlay: kept.overlay,
                revision: kept.revision,
                broken: kept.broken,
                good_files: kept.good_files,
                last_good: kept.last_good,
                closed: kept.unread,
            }),
        }
    }

    /// Brings the disk in step with what readers see: writes what the start found out, and the overlay when another one stands there,
    /// or may stand there; nothing where nothing may be written. It does not wait for a write that is under way: nobody asked for it, and
    /// those who ask for something would wait with it.
    pub(super) fn mend(&self, overlay: &Overlay, verdict: &Verdict) -> Result<Mended, Unkept> {
        let Some(mut on_disk) = self.on_disk.try_lock() else {
            return Ok(Mended::Busy);
        };
        if on_disk.closed.is_some() {
            return Ok(Mended::Nothing);
        }
        let is_pending = on_disk.broken.is_some() || on_disk.good_files.is_some();
        self.write_pending(&mut on_disk)?;
        // Another revision stands there when the server died between writing and publishing.
        let is_other = on_disk.revision != Some(overlay.revision);
        if is_other {
            self.write_locked(&mut on_disk, overlay, verdict)?;
        }
        Ok(if is_pending || is_other {
            Mended::Written
        } else {
            Mended::Nothing
        })
    }

    /// Writes the overlay, and before it what the files say, when that is new. On an error the old overlay stands, or it is
    /// [`Unkept::Maybe`].
    pub(super) fn write(
        &self,
        overlay: &Overlay,
        good: Option<&LastGood>,
        patience: Duration,
        verdict: &Verdict,
    ) -> Result<(), Unkept> {
        let mut on_disk = self.lock(patience)?;
        if let Some(good) = good {
            on_disk.good_files = Some(good.encode().map_err(io::Error::other)?);
        }
        self.write_pending(&mut on_disk)?;
        self.write_locked(&mut on_disk, overlay, verdict)
    }

    /// Waits until no write is under way, for as long as that takes; none begins from here on: the folder is somebody else's.
    pub(super) fn close(&self) {
        self.on_disk.lock().closed = Some("the node has stopped".to_owned());
    }

    /// A write that hangs keeps the lock; the others do not hang with it.
    fn lock(&self, patience: Duration) -> Result<MutexGuard<'_, OnDisk>, Unkept> {
        let busy = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "an earlier write has not ended yet",
            )
        };
        let on_disk = self.on_disk.try_lock_for(patience).ok_or_else(busy)?;
        match &on_disk.closed {
            Some(reason) => Err(Unkept::Closed(reason.clone())),
            None => Ok(on_disk),
        }
    }

    fn write_pending(&self, on_disk: &mut OnDisk) -> Result<(), Unkept> {
        // What of these may or may not stand there is written again; no change hangs on it.
        let write = |name: &str, bytes: &[u8], before: Option<&[u8]>| {
            storage::replace(&*self.disk, name, bytes, before, &Verdict::default()).map_err(
                |unkept| match unkept {
                    Unkept::Maybe(error) => Unkept::Not(error),
                    other => other,
                },
            )
        };
        if let Some(broken) = &on_disk.broken {
            write(&storage::broken(OVERLAY), broken, None)?;
            on_disk.broken = None;
        }
        if let Some(good) = &on_disk.good_files {
            write(LAST_GOOD, good, on_disk.last_good.as_deref())?;
            on_disk.last_good = on_disk.good_files.take();
        }
        Ok(())
    }

    fn write_locked(
        &self,
        on_disk: &mut OnDisk,
        overlay: &Overlay,
        verdict: &Verdict,
    ) -> Result<(), Unkept> {
        let bytes = overlay.encode().map_err(io::Error::other)?;
        // Not known from here on, also when the disk panics.
        let before = on_disk.revision.take();
        let outcome = storage::replace(
            &*self.disk,
            OVERLAY,
            &bytes,
            on_disk.overlay.as_deref(),
            verdict,
        );
        match &outcome {
            Ok(()) => {
                on_disk.overlay = Some(bytes);
                on_disk.revision = Some(overlay.revision);
            }
            Err(Unkept::Maybe(_)) => {}
            Err(_) => on_disk.revision = before,
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{super::Folder, *};

    /// A disk whose first write hangs until it is told to go on.
    struct Hanging {
        reached: mpsc::Sender<()>,
        go_on: Mutex<mpsc::Receiver<()>>,
        renamed: mpsc::Sender<()>,
    }

    impl Disk for Hanging {
        fn read(&self, _: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(None)
        }

        fn write_synced(&self, _: &str, _: &[u8]) -> io::Result<()> {
            self.reached.send(()).expect("the story goes on");
            self.go_on.lock().recv().expect("the story goes on");
            Ok(())
        }

        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            self.renamed.send(()).expect("the story goes on");
            Ok(())
        }

        fn sync_folder(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn on(disk: impl Disk) -> Keeper {
        Keeper::new(Kept {
            disk: Arc::new(disk),
            overlay: None,
            revision: None,
            unread: None,
            broken: None,
            good_files: None,
            last_good: None,
        })
    }

    #[test]
    fn what_a_killed_server_wrote_and_did_not_publish_is_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Folder::new(folder.path());
        let keeper = on(disk.clone());
        let at = |revision: u64| Overlay {
            revision: Revision(revision),
            ..Overlay::default()
        };
        let patience = Duration::from_mins(1);
        let verdict = Verdict::default;
        keeper
            .write(&at(2), None, patience, &verdict())
            .expect("the disk is well");

        let published = at(1);
        let mended = keeper.mend(&published, &verdict());
        let again = keeper.mend(&published, &verdict());

        assert_eq!(
            (mended.ok(), again.ok()),
            (Some(Mended::Written), Some(Mended::Nothing))
        );
        let bytes = disk
            .read(OVERLAY)
            .expect("it is readable")
            .expect("it is there");
        assert_eq!(Overlay::decode(&bytes), Ok(published));
    }

    #[test]
    fn mending_does_not_wait_for_a_write_that_hangs() {
        let ((reached, is_reached), (go_on, told)) = (mpsc::channel(), mpsc::channel());
        let (renamed, _landed) = mpsc::channel();
        let disk = Hanging {
            reached,
            go_on: Mutex::new(told),
            renamed,
        };
        let keeper = on(disk);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (overlay, verdict) = (Overlay::default(), Verdict::default());
                keeper.write(&overlay, None, Duration::from_mins(1), &verdict)
            });
            is_reached.recv().expect("the write hangs");

            // While it hangs: the server that mends has others to answer.
            let mended = keeper.mend(&Overlay::default(), &Verdict::default());

            go_on.send(()).expect("it hangs");
            assert_eq!(mended.ok(), Some(Mended::Busy));
        });
    }

    #[test]
    fn no_write_lands_after_the_folder_was_given_back() {
        let ((reached, is_reached), (go_on, told)) = (mpsc::channel(), mpsc::channel());
        let (renamed, landed) = mpsc::channel();
        let disk = Hanging {
            reached,
            go_on: Mutex::new(told),
            renamed,
        };
        let keeper = Arc::new(on(disk));
        let write = |keeper: &Keeper| {
            let patience = Duration::from_mins(1);
            keeper.write(&Overlay::default(), None, patience, &Verdict::default())
        };
        let hanging = std::thread::spawn({
            let keeper = Arc::clone(&keeper);
            move || write(&keeper)
        });
        is_reached.recv().expect("the write hangs");

        let closing = std::thread::spawn({
            let keeper = Arc::clone(&keeper);
            move || {
                keeper.close();
                landed.try_iter().count()
            }
        });
        go_on.send(()).expect("it hangs");

        let landed_before = closing.join().expect("no panic");
        assert!(hanging.join().expect("no panic").is_ok());
        assert_eq!(landed_before, 1, "closed when the write had landed");
        assert!(write(&keeper).is_err(), "and none begins after it");
    }
}
