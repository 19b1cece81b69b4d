//! A place that is taken, and what gives it back.

use std::{
    fmt,
    sync::{Arc, Weak, atomic::Ordering},
};

use super::{
    Gate,
    line::{Lot, in_order},
};
use crate::otp::Context;

/// A place that is taken. There until it is dropped.
pub(super) struct Place(pub(super) Option<Arc<Gate>>);

impl Drop for Place {
    #[inline]
    fn drop(&mut self) {
        let Some(gate) = self.0.take() else { return };
        let lot = Lot::of(&gate);
        drop(gate);
        in_order();
        if lot.waiting.load(Ordering::SeqCst) > 0 {
            lot.freed.notify_waiters();
        }
    }
}

/// A place that was given back.
pub(in crate::otp) struct GivenBack(Weak<Gate>);

impl GivenBack {
    /// The caller had given up at the very last.
    pub(in crate::otp) fn count_late(self) {
        // Whoever looks for a place meanwhile finds this one taken, and is woken when it goes.
        let place = Place(self.0.upgrade());
        if let Some(gate) = &place.0 {
            gate.count_late();
        }
    }
}

/// A place among the requests that an address admits. Dropping it gives the place back.
///
/// Put it into a cast's message variant and let it go when the work is done.
pub struct Permit {
    pub(super) place: Place,
    /// Mostly none; in its own place, since every byte of a message is copied several times on its way.
    pub(super) context: Option<Box<Context>>,
}

impl Permit {
    /// The correlation that came with the request.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context.as_deref().copied().unwrap_or_default()
    }

    pub(in crate::otp) fn has_context(&self) -> bool {
        self.context.is_some()
    }

    /// Keeps the cause alone: what follows is a trace of its own.
    pub(in crate::otp) fn link(&mut self) {
        if let Some(context) = &mut self.context {
            **context = context.linked();
        }
    }

    /// Gives the place back, before the rest goes.
    pub(in crate::otp) fn give_back(&mut self) -> GivenBack {
        let place = Place(self.place.0.take());
        GivenBack(place.0.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }

    pub(crate) fn gate(&self) -> &Gate {
        self.place
            .0
            .as_deref()
            .expect("a place is taken until it is dropped")
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}
