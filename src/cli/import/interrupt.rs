//! Ctrl-C: the first one ends the work in order, the second one at once.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

const EXIT_CODE: i32 = 130;

/// Whether we were asked to stop; can be waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt {
    asked: Arc<(Mutex<bool>, Condvar)>,
}

impl Interrupt {
    /// Listens for Ctrl-C in a thread of its own; `wake` is called at the first one. Where the machine has no such signal, nobody asks.
    pub(super) fn listen(&self, wake: impl FnOnce() + Send + 'static) {
        let interrupt = self.clone();
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
        else {
            return;
        };
        thread::spawn(move || {
            runtime.block_on(async {
                if tokio::signal::ctrl_c().await.is_ok() {
                    interrupt.ask();
                    wake();
                    if tokio::signal::ctrl_c().await.is_ok() {
                        std::process::exit(EXIT_CODE);
                    }
                }
            });
        });
    }

    pub(super) fn ask(&self) {
        *self.asked.0.lock() = true;
        self.asked.1.notify_all();
    }

    pub(super) fn is_asked(&self) -> bool {
        *self.asked.0.lock()
    }

    /// Waits so long, or until asked to stop.
    pub(super) fn wait(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut asked = self.asked.0.lock();
        while !*asked && !self.asked.1.wait_until(&mut asked, deadline).timed_out() {}
    }
}
