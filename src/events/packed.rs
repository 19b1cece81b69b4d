//! Whole numbers in as many bits as the widest of them needs, each readable on its own. Pure.
//!
//! *Packed numbers*: the smallest of them (8 bytes), the width in bits of the others' distance from it (1 byte, 0 to 64), then the
//! distances one after the other, each from its lowest bit on, in `(count * width + 7) / 8` bytes.

use super::wire::Reader;

/// Packed numbers in someone's bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    least: u64,
    width: u8,
    len: u32,
    bytes: &'a [u8],
}

/// Adds packed numbers to `out`.
pub(super) fn write(out: &mut Vec<u8>, numbers: &[u64]) {
    let least = numbers.iter().copied().min().unwrap_or(0);
    let widest = numbers.iter().map(|number| number - least).max();
    let width = 64 - widest.unwrap_or(0).leading_zeros();
    out.extend_from_slice(&least.to_le_bytes());
    out.push(u8::try_from(width).unwrap_or(64));
    let (mut waiting, mut bits) = (0_u128, 0);
    for number in numbers {
        waiting |= u128::from(number - least) << bits;
        bits += width;
        while bits >= 8 {
            out.push(lowest_byte(waiting));
            waiting >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(lowest_byte(waiting));
    }
}

fn lowest_byte(bits: u128) -> u8 {
    bits.to_le_bytes()[0]
}

impl<'a> Packed<'a> {
    /// The next `len` packed numbers.
    pub(super) fn read(reader: &mut Reader<'a>, len: u32) -> Option<Self> {
        let least = reader.u64()?;
        let width = reader.u8().filter(|width| *width <= 64)?;
        let bits = usize::try_from(u64::from(len) * u64::from(width)).ok()?;
        Some(Self {
            least,
            width,
            len,
            bytes: reader.take(bits.div_ceil(8))?,
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// The number at `at`, which is below [`Packed::len`]; beyond it, the smallest.
    pub(super) fn get(&self, at: u32) -> u64 {
        let bit = at as usize * usize::from(self.width);
        let from = self.bytes.get(bit / 8..).unwrap_or_default();
        // 64 bits that start inside of a byte lie in nine.
        let window = from.first_chunk().copied().unwrap_or_else(|| {
            let mut window = [0; 16];
            window[..from.len()].copy_from_slice(from);
            window
        });
        let bits = u128::from_le_bytes(window) >> (bit % 8);
        let distance = bits & ((1_u128 << self.width) - 1);
        self.least
            .wrapping_add(u64::try_from(distance).unwrap_or(u64::MAX))
    }

    /// How many of the numbers, which rise, are below `limit`.
    pub(super) fn below(&self, limit: u64) -> u32 {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle) < limit {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_one_by_one(numbers in prop::collection::vec(any::<u64>(), 0..200), shift in 0_u32..64) {
            let mut numbers: Vec<u64> = numbers.iter().map(|number| number >> shift).collect();
            numbers.sort_unstable();
            let len = u32::try_from(numbers.len()).expect("small");
            let mut bytes = Vec::new();
            write(&mut bytes, &numbers);

            let mut reader = Reader::new(&bytes);
            let packed = Packed::read(&mut reader, len).expect("whole");

            prop_assert!(reader.is_empty());
            prop_assert_eq!((0..len).map(|at| packed.get(at)).collect::<Vec<_>>(), numbers.clone());
            for limit in numbers.iter().copied().chain([0, u64::MAX]) {
                let below = numbers.partition_point(|number| *number < limit);
                prop_assert_eq!(packed.below(limit) as usize, below);
            }
            for cut in 0..bytes.len() {
                prop_assert!(Packed::read(&mut Reader::new(&bytes[..cut]), len).is_none());
            }
        }
    }
}
