//! Ctrl-C: the first one ends the work in order, the second one at once.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

const EXIT_CODE: i32 = 130;

/// Whether we were asked to stop; can be waited for.
#[derive(Clone, Default)]
pub(super) struct Interrupt {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: bool,
    /// Whether somebody listens for Ctrl-C.
    listening: bool,
    wake: Option<Box<dyn FnOnce() + Send>>,
}

impl Interrupt {
    /// Listens for Ctrl-C in a thread of its own; `wake` is called at the first one, in place of what was to be called before. Where the
    /// machine has no such signal, nobody asks.
    pub(super) fn listen(&self, wake: impl FnOnce() + Send + 'static) {
        let mut state = self.inner.state.lock();
        state.wake = Some(Box::new(wake));
        if std::mem::replace(&mut state.listening, true) {
            return;
        }
        drop(state);
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
                    if tokio::signal::ctrl_c().await.is_ok() {
                        std::process::exit(EXIT_CODE);
                    }
                }
            });
        });
    }

    pub(super) fn ask(&self) {
        let mut state = self.inner.state.lock();
        state.asked = true;
        let wake = state.wake.take();
        drop(state);
        self.inner.changed.notify_all();
        if let Some(wake) = wake {
            wake();
        }
    }

    pub(super) fn is_asked(&self) -> bool {
        self.inner.state.lock().asked
    }

    /// Waits so long, or until asked to stop.
    pub(super) fn wait(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut state = self.inner.state.lock();
        let changed = &self.inner.changed;
        while !state.asked && !changed.wait_until(&mut state, deadline).timed_out() {}
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupt")
            .field("asked", &self.is_asked())
            .finish_non_exhaustive()
    }
}
