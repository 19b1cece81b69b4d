//! Keeps changes on disk, for threads that may block.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    Disk, Revision,
    load::{Kept, LAST_GOOD, OVERLAY},
    saved::{LastGood, Overlay},
    storage::{self, Verdict},
};

/// The one who writes the files; one write at a time, whoever asks.
pub(super) struct Keeper {
    disk: Arc<dyn Disk>,
    on_disk: Mutex<OnDisk>,
}

struct OnDisk {
    overlay: Option<Vec<u8>>,
    revision: Option<Revision>,
    /// What is to be written before anything else.
    broken: Option<Vec<u8>>,
    good_files: Option<Vec<u8>>,
    last_good: Option<Vec<u8>>,
    /// Nothing is written any more: the folder is somebody else's.
    closed: bool,
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
                closed: false,
            }),
        }
    }

    /// Writes what the start found out: the broken file under another name, the good state of the settings files, and the overlay
    /// when it is not what stands there.
    pub(super) fn write_start(&self, overlay: &Overlay, patience: Duration) -> io::Result<()> {
        let mut on_disk = self.lock(patience)?;
        self.write_pending(&mut on_disk)?;
        if on_disk
            .revision
            .is_none_or(|written| written < overlay.revision)
        {
            self.write_locked(&mut on_disk, overlay, &Verdict::default())?;
        }
        Ok(())
    }

    /// Writes the overlay, and before it what the files say, when that is new. On an error the old overlay stands.
    pub(super) fn write(
        &self,
        overlay: &Overlay,
        good: Option<&LastGood>,
        patience: Duration,
        verdict: &Verdict,
    ) -> io::Result<()> {
        let mut on_disk = self.lock(patience)?;
        if let Some(good) = good {
            on_disk.good_files = Some(good.encode().map_err(io::Error::other)?);
        }
        self.write_pending(&mut on_disk)?;
        self.write_locked(&mut on_disk, overlay, verdict)
    }

    /// Waits until no write is under way, for as long as that takes; none begins from here on.
    pub(super) fn close(&self) {
        self.on_disk.lock().closed = true;
    }

    /// A write that hangs keeps the lock; the others do not hang with it.
    fn lock(&self, patience: Duration) -> io::Result<parking_lot::MutexGuard<'_, OnDisk>> {
        let busy = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "an earlier write has not ended yet",
            )
        };
        let on_disk = self.on_disk.try_lock_for(patience).ok_or_else(busy)?;
        if on_disk.closed {
            return Err(io::Error::other("the node has stopped"));
        }
        Ok(on_disk)
    }

    fn write_pending(&self, on_disk: &mut OnDisk) -> io::Result<()> {
        if let Some(broken) = &on_disk.broken {
            storage::replace(
                &*self.disk,
                &storage::broken(OVERLAY),
                broken,
                None,
                &Verdict::default(),
            )?;
            on_disk.broken = None;
        }
        if let Some(good) = &on_disk.good_files {
            let before = on_disk.last_good.as_deref();
            storage::replace(&*self.disk, LAST_GOOD, good, before, &Verdict::default())?;
            on_disk.last_good = on_disk.good_files.take();
        }
        Ok(())
    }

    fn write_locked(
        &self,
        on_disk: &mut OnDisk,
        overlay: &Overlay,
        verdict: &Verdict,
    ) -> io::Result<()> {
        let bytes = overlay.encode().map_err(io::Error::other)?;
        storage::replace(
            &*self.disk,
            OVERLAY,
            &bytes,
            on_disk.overlay.as_deref(),
            verdict,
        )?;
        on_disk.overlay = Some(bytes);
        on_disk.revision = Some(overlay.revision);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

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

    #[test]
    fn no_write_lands_after_the_folder_was_given_back() {
        let ((reached, is_reached), (go_on, told)) = (mpsc::channel(), mpsc::channel());
        let (renamed, landed) = mpsc::channel();
        let disk = Hanging {
            reached,
            go_on: Mutex::new(told),
            renamed,
        };
        let keeper = Arc::new(Keeper::new(Kept {
            disk: Arc::new(disk),
            overlay: None,
            revision: None,
            broken: None,
            good_files: None,
            last_good: None,
        }));
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
