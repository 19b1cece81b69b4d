//! Who is running on this thread right now. Set around each poll, so it holds across `.await`.

use std::cell::Cell;

#[derive(Clone, Copy)]
struct Occupant {
    incarnation: u64,
    starting_under: u64,
    is_ending: bool,
}

const NOBODY: Occupant = Occupant {
    incarnation: 0,
    starting_under: 0,
    is_ending: false,
};

thread_local! {
    static CURRENT: Cell<Occupant> = const { Cell::new(NOBODY) };
}

/// The previous occupant comes back when this is dropped.
pub(crate) struct Scope(Occupant);

/// Marks this thread as running the child with this incarnation id; `starting_under` is its supervisor's while it starts,
/// else 0; `is_ending`: it has been asked to end.
pub(crate) fn enter(incarnation: u64, starting_under: u64, is_ending: bool) -> Scope {
    Scope(CURRENT.replace(Occupant {
        incarnation,
        starting_under,
        is_ending,
    }))
}

/// The incarnation id of the child that runs here; 0 outside of any.
pub(crate) fn current() -> u64 {
    CURRENT.get().incarnation
}

/// Whether the child that runs here has been asked to end.
pub(crate) fn is_ending() -> bool {
    CURRENT.get().is_ending
}

/// Whether a request from here to the actor with this incarnation id would wait for itself.
pub(crate) fn waits_for(incarnation: u64) -> bool {
    let here = CURRENT.get();
    here.incarnation == incarnation || here.starting_under == incarnation
}

impl Drop for Scope {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
