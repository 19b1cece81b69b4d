//! Says of a key that it is certainly not in a segment, or may be. Pure.
//!
//! A split block Bloom filter as Apache Parquet specifies it (parquet-format, `BloomFilter.md`): blocks of 256 bits, eight bits of one block
//! for each key; with the salts of that specification. With ten bits a key about one absent key in a hundred may seem to be there.
//!
//! The hash of a correlation is [`CorrelationId::hash64`](crate::ids::CorrelationId::hash64); of an id and of a parent it is the
//! finalizer of splitmix64 (Steele, Lea, Flood 2014) of `id ^ 0x6964` and `parent ^ 0x7061_7265_6e74_0000`.

use super::wire::Reader;

/// Which of a record's fields a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Id(u64),
    Parent(u64),
    /// By its hash.
    Correlation(u64),
}

/// The keys of a segment, roughly.
#[derive(Debug, Clone, Default)]
pub(super) struct Membership {
    blocks: Vec<[u32; 8]>,
}

const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];
const BLOCK_BYTES: usize = 32;
const BITS_PER_KEY: usize = 10;

impl Member {
    fn hash(self) -> u64 {
        match self {
            Self::Id(id) => spread(id ^ 0x6964),
            Self::Parent(id) => spread(id ^ 0x7061_7265_6e74_0000),
            Self::Correlation(hash) => hash,
        }
    }
}

fn spread(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Membership {
    /// Room for so many keys.
    pub(super) fn with_room_for(keys: usize) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8).max(1);
        Self {
            blocks: vec![[0; 8]; blocks],
        }
    }

    pub(super) fn insert(&mut self, member: Member) {
        let hash = member.hash();
        if let Some(at) = self.block_of(hash) {
            for (word, bit) in self.blocks[at].iter_mut().zip(bits(hash)) {
                *word |= bit;
            }
        }
    }

    /// False if the key is certainly not there.
    pub(super) fn may_have(&self, member: Member) -> bool {
        let hash = member.hash();
        self.block_of(hash).is_some_and(|at| {
            // All eight, whatever the first says: what is looked at next can be fetched meanwhile.
            let words = self.blocks[at].iter().zip(bits(hash));
            words.fold(0, |missing, (word, bit)| missing | (!word & bit)) == 0
        })
    }

    fn block_of(&self, hash: u64) -> Option<usize> {
        let at = (u128::from(hash >> 32) * self.blocks.len() as u128) >> 32;
        usize::try_from(at)
            .ok()
            .filter(|at| *at < self.blocks.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// A 4-byte count of blocks, and each block's words.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&super::wire::len32(self.blocks.len()).to_le_bytes());
        for word in self.blocks.iter().flatten() {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let count = reader.u32()? as usize;
        let bytes = reader.take(count.checked_mul(BLOCK_BYTES)?)?;
        let word = |bytes: &[u8]| Reader::new(bytes).u32().unwrap_or_default();
        let block = |bytes: &[u8]| {
            let mut words = [0; 8];
            for (at, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                *at = word(bytes);
            }
            words
        };
        Some(Self {
            blocks: bytes.chunks_exact(BLOCK_BYTES).map(block).collect(),
        })
    }
}

fn bits(hash: u64) -> [u32; 8] {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    let low = u32::from_le_bytes([a, b, c, d]);
    SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_never_denied_and_what_is_not_seldom_seems_to_be() {
        let mut members = Membership::with_room_for(20_000);
        for id in 0..10_000 {
            members.insert(Member::Id(id));
            members.insert(Member::Correlation(spread(id | 1 << 40)));
        }
        let mut bytes = Vec::new();
        members.write(&mut bytes);
        let read = Membership::read(&mut Reader::new(&bytes)).expect("whole");

        assert!((0..10_000).all(|id| read.may_have(Member::Id(id))));
        let false_ones = (10_000..110_000).filter(|id| read.may_have(Member::Id(*id)));
        let false_ones = false_ones.count();
        assert!(false_ones < 2500, "{false_ones} of 100,000");
        let parents = (0..10_000).filter(|id| read.may_have(Member::Parent(*id)));
        assert!(parents.count() < 400, "a parent is no id");
    }
}
