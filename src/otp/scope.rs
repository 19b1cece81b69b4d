//! Who is running on this thread right now. Set around each poll, so it holds across `.await`.

use std::cell::Cell;

#[derive(Clone, Copy)]
struct Occupant {
    incarnation: u64,
    starting_under: u64,
}

thread_local! {
    static CURRENT: Cell<Occupant> = const { Cell::new(Occupant { incarnation: 0, starting_under: 0 }) };
}

/// The previous occupant comes back when this is dropped.
pub(crate) struct Scope(Occupant);

/// Marks this thread as running the child with this incarnation id; `starting_under` is its supervisor's while it starts,
/// else 0.
pub(crate) fn enter(incarnation: u64, starting_under: u64) -> Scope {
    Scope(CURRENT.replace(Occupant {
        incarnation,
        starting_under,
    }))
}

/// The incarnation id of the child that runs here; 0 outside of any.
pub(crate) fn current() -> u64 {
    CURRENT.get().incarnation
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
