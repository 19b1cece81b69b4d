//! From a key to a number, the same in every process.

use crate::ids::Fnv;

/// What a partition can be chosen by.
///
/// The partition is [`route`](Self::route) modulo the number of partitions, so that integers go round in turn: -3, 3 and 6 of
/// three partitions are all the first. Texts and bytes go by [`stable_hash`].
///
/// For a key of your own, say which part of it decides:
///
/// ```
/// use underpin::otp::PartitionKey;
///
/// struct Order { customer: u64, number: u32 }
///
/// impl PartitionKey for Order {
///     fn route(&self) -> u128 {
///         self.customer.route()
///     }
/// }
/// # let order = Order { customer: 7, number: 1 };
/// # assert_eq!((order.route(), order.number), (7, 1));
/// ```
pub trait PartitionKey {
    /// The number that stands for this key. Equal keys have equal numbers.
    fn route(&self) -> u128;
}

/// A hash that is the same in every process, release and machine: FNV-1a of 64 bits, folded to 32 bits by xor as its authors
/// advise, since the lowest bits alone depend on the lowest bits of the bytes alone (draft-eastlake-fnv, sections 2 and 3).
///
/// Good for spreading keys; not for keys that an attacker chooses to make one partition hot.
#[must_use]
pub fn stable_hash(bytes: &[u8]) -> u32 {
    let hash = Fnv::of(bytes);
    let folded = (hash >> 32) ^ (hash & u64::from(u32::MAX));
    u32::try_from(folded).unwrap_or(u32::MAX)
}

/// The partition of a key among this many; `None` among none.
pub(super) fn partition<K: PartitionKey + ?Sized>(key: &K, partitions: usize) -> Option<usize> {
    let index = key.route().checked_rem(partitions as u128)?;
    usize::try_from(index).ok()
}

macro_rules! integers {
    ($($integer:ty => |$key:ident| $route:expr),+ $(,)?) => {$(
        impl PartitionKey for $integer {
            fn route(&self) -> u128 {
                let $key = *self;
                $route
            }
        }
    )+};
}

integers! {
    u8 => |key| u128::from(key),
    u16 => |key| u128::from(key),
    u32 => |key| u128::from(key),
    u64 => |key| u128::from(key),
    u128 => |key| key,
    usize => |key| key as u128,
    i8 => |key| u128::from(key.unsigned_abs()),
    i16 => |key| u128::from(key.unsigned_abs()),
    i32 => |key| u128::from(key.unsigned_abs()),
    i64 => |key| u128::from(key.unsigned_abs()),
    i128 => |key| key.unsigned_abs(),
    isize => |key| key.unsigned_abs() as u128,
}

impl PartitionKey for [u8] {
    fn route(&self) -> u128 {
        stable_hash(self).into()
    }
}

impl PartitionKey for str {
    fn route(&self) -> u128 {
        self.as_bytes().route()
    }
}

impl PartitionKey for String {
    fn route(&self) -> u128 {
        self.as_bytes().route()
    }
}

impl PartitionKey for Vec<u8> {
    fn route(&self) -> u128 {
        self.as_slice().route()
    }
}

impl<const N: usize> PartitionKey for [u8; N] {
    fn route(&self) -> u128 {
        self.as_slice().route()
    }
}

impl<K: PartitionKey + ?Sized> PartitionKey for &K {
    fn route(&self) -> u128 {
        (**self).route()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_folded_as_its_authors_advise() {
        assert_eq!(stable_hash(b"a"), 0xaf63_dc4c ^ 0x8601_ec8c);
    }

    #[test]
    fn integers_go_round_in_turn_and_their_sign_does_not_matter() {
        let of_three = |key: i32| partition(&key, 3);
        let expected = [(0, 0), (1, 1), (2, 2), (3, 0), (-1, 1), (-3, 0)];
        for (key, index) in expected {
            assert_eq!(of_three(key), Some(index), "{key}");
        }
        assert_eq!(partition(&i128::MIN, 3), partition(&(1_u128 << 127), 3));
        assert_eq!(partition(&7, 0), None);
    }

    #[test]
    fn texts_of_one_pattern_spread_over_all_partitions() {
        for partitions in [2, 3, 4, 7, 8, 16] {
            let mut keys = vec![0_usize; partitions];
            for n in 0..20_000 {
                let key = format!("user:{n:02}{n:02}");
                keys[partition(key.as_str(), partitions).expect("one of them")] += 1;
            }
            let fair = 20_000 / partitions;
            let even = keys
                .iter()
                .all(|&of| of > fair * 3 / 4 && of < fair * 5 / 4);
            assert!(even, "{keys:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_key_has_one_partition_whatever_type_it_comes_in(
            key in proptest::collection::vec(0_u8..=255, 0..40),
            number in proptest::num::i64::ANY,
            partitions in 1_usize..100,
        ) {
            let of = partition(&key, partitions).expect("one of them");
            proptest::prop_assert!(of < partitions);
            proptest::prop_assert_eq!(partition(key.as_slice(), partitions), Some(of));
            let by_hand = i128::from(number).unsigned_abs() % partitions as u128;
            proptest::prop_assert_eq!(partition(&number, partitions).map(|at| at as u128), Some(by_hand));
            proptest::prop_assert_eq!(partition(&i128::from(number), partitions), partition(&number, partitions));
        }
    }
}
