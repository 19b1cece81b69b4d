//! The threads that work on a log, and whether they have let its folder go.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Those who work on one log.
#[derive(Debug, Default)]
pub(super) struct Workers {
    all: Mutex<Vec<Arc<Gone>>>,
    /// The next thread does not start.
    #[cfg(test)]
    pub(super) to_refuse: AtomicU64,
}

/// Set when a worker's thread has ended and its folder is free.
#[derive(Debug, Default)]
struct Gone {
    gone: Mutex<bool>,
    changed: Condvar,
}

/// Sets [`Gone`] however the thread ends.
struct Leaving(Arc<Gone>);

impl Workers {
    /// Those before are gone.
    pub(super) fn forget(&self) {
        self.all.lock().clear();
    }

    /// Waits until all are gone, no longer than told; answers whether they are. Blocks.
    pub(super) fn are_gone(&self, limit: Duration) -> bool {
        let workers = self.all.lock().clone();
        // None where the limit is without end.
        let deadline = Instant::now().checked_add(limit);
        workers.iter().all(|worker| worker.wait(deadline))
    }

    pub(super) fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        #[cfg(test)]
        if self.to_refuse.swap(0, Ordering::Relaxed) > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let gone = Arc::new(Gone::default());
        self.all.lock().push(gone.clone());
        let leaving = Leaving(gone);
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let _leaving = leaving;
                work();
            })
            .map(drop)
    }
}

impl Gone {
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut gone = self.gone.lock();
        while !*gone {
            match deadline {
                None => self.changed.wait(&mut gone),
                Some(deadline) => {
                    if self.changed.wait_until(&mut gone, deadline).timed_out() {
                        return *gone;
                    }
                }
            }
        }
        true
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        *self.0.gone.lock() = true;
        self.0.changed.notify_all();
    }
}
