//! Unpredictable bits for fresh ids. No secrets are made of them.

use std::hash::{BuildHasher, RandomState};

/// 128 fresh bits. The standard library keys each hasher with bits from the operating system and gives no two the same key; a
/// generator seeded from clock and thread would repeat itself on machines that start together.
pub(super) fn bits() -> [u64; 2] {
    let hasher = RandomState::new();
    [hasher.hash_one(0_u8), hasher.hash_one(1_u8)]
}
