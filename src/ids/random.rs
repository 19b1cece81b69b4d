//! Unpredictable bits for fresh ids. No secrets are made of them.

use std::hash::{BuildHasher, RandomState};

/// 128 fresh bits. The standard library keys each hasher with bits from the operating system and gives no two the same key; a
/// generator seeded from clock and thread would repeat itself on machines that start together.
pub(super) fn bits() -> [u64; 2] {
    #[cfg(feature = "testing")]
    if let Some(bits) = seeded::bits() {
        return bits;
    }
    let hasher = RandomState::new();
    [hasher.hash_one(0_u8), hasher.hash_one(1_u8)]
}

/// For tests that have to repeat themselves.
#[cfg(feature = "testing")]
pub(crate) mod seeded {
    use std::cell::RefCell;

    use fastrand::Rng;

    thread_local! {
        static DICE: RefCell<Option<Rng>> = const { RefCell::new(None) };
    }

    /// From here on, bits are drawn from this on this thread.
    pub(crate) fn seed(seed: u64) {
        DICE.with_borrow_mut(|dice| *dice = Some(Rng::with_seed(seed)));
    }

    pub(super) fn bits() -> Option<[u64; 2]> {
        DICE.with_borrow_mut(|dice| dice.as_mut().map(|dice| [dice.u64(..), dice.u64(..)]))
    }
}
