//! Keeps changes on disk, for threads that may block.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    Disk, Revision,
    load::{Kept, LAST_GOOD, OVERLAY},
    saved::Overlay,
    storage::{self, Verdict},
};

/// The one who writes the files; one write at a time, whoever asks.
pub(super) struct Keeper {
    disk: Arc<dyn Disk>,
    /// Checksum of the document below the overlay.
    pub(super) base: u32,
    on_disk: Mutex<OnDisk>,
}

struct OnDisk {
    overlay: Option<Vec<u8>>,
    revision: Option<Revision>,
    /// What is to be written before anything else.
    broken: Option<Vec<u8>>,
    good_files: Option<Vec<u8>>,
    last_good: Option<Vec<u8>>,
}

impl Keeper {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            disk: kept.disk,
            base: kept.base,
            on_disk: Mutex::new(OnDisk {
                overlay: kept.overlay,
                revision: kept.revision,
                broken: kept.broken,
                good_files: kept.good_files,
                last_good: kept.last_good,
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

    /// Writes the overlay. On an error the old one stands.
    pub(super) fn write(
        &self,
        overlay: &Overlay,
        patience: Duration,
        verdict: &Verdict,
    ) -> io::Result<()> {
        let mut on_disk = self.lock(patience)?;
        self.write_pending(&mut on_disk)?;
        self.write_locked(&mut on_disk, overlay, verdict)
    }

    /// A write that hangs keeps the lock; the others do not hang with it.
    fn lock(&self, patience: Duration) -> io::Result<parking_lot::MutexGuard<'_, OnDisk>> {
        let busy = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "an earlier write has not ended yet",
            )
        };
        self.on_disk.try_lock_for(patience).ok_or_else(busy)
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
