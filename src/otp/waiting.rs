//! How many wait for something.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One more waits, until this is dropped.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// In one order with everything that is done about the same thing: whoever gives it back and then looks here sees this one, or
    /// this one sees what was given back.
    pub(super) fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
