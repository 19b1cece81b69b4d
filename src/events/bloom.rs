//! Says of a key that it is certainly not in a segment, or may be. Pure.
//!
//! A split block Bloom filter as Apache Parquet specifies it (parquet-format, `BloomFilter.md`): blocks of 256 bits, eight bits of one block
//! for each key; with the salts of that specification. With ten bits a key about one absent key in a hundred may seem to be there, with
//! sixteen one in a thousand.
//!
//! The hash of a correlation is [`CorrelationId::hash64`](crate::ids::CorrelationId::hash64); of an id and of a parent it is the
//! finalizer of splitmix64 (Steele, Lea, Flood 2014) of `id ^ 0x6964` and `parent ^ 0x7061_7265_6e74_0000`.

use std::sync::Arc;

use super::wire::Reader;

/// Which of a record's fields a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Id(u64),
    Parent(u64),
    /// By its hash.
    Correlation(u64),
}

/// The keys of a segment, roughly. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Membership {
    blocks: Arc<[Block]>,
}

/// In one line of the processor's cache: of a filter that was not looked into for long, that is what a look costs.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct Block([u32; 8]);

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
/// Of ids: one is seldom asked of a segment that has none like it.
pub(super) const BITS_PER_ID: usize = 10;
/// Of links: one is asked of every segment, and to look in vain into an index costs as much as some hundred filters.
pub(super) const BITS_PER_LINK: usize = 16;

/// What is looked for in a filter: the same in each, and made once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    hash: u64,
    bits: [u32; 8],
}

impl Member {
    pub(super) fn probe(self) -> Probe {
        let hash = self.hash();
        let bits = bits(hash);
        Probe { hash, bits }
    }

    fn hash(self) -> u64 {
        match self {
            Self::Id(id) => spread(id ^ 0x6964),
            Self::Parent(id) => spread(id ^ 0x7061_7265_6e74_0000),
            Self::Correlation(hash) => hash,
        }
    }
}

/// The finalizer of splitmix64.
pub(super) fn spread(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Membership {
    /// Of these keys, with room for so many different ones and so many bits for each.
    pub(super) fn of(
        keys: usize,
        bits_per_key: usize,
        members: impl Iterator<Item = Member>,
    ) -> Self {
        let count = (keys * bits_per_key).div_ceil(BLOCK_BYTES * 8).max(1);
        let mut blocks = vec![Block::default(); count];
        for member in members {
            let Probe { hash, bits } = member.probe();
            if let Some(at) = block_of(hash, count) {
                for (word, bit) in blocks[at].0.iter_mut().zip(bits) {
                    *word |= bit;
                }
            }
        }
        Self {
            blocks: blocks.into(),
        }
    }

    /// False if the key is certainly not there.
    pub(super) fn may_have(&self, wanted: &Probe) -> bool {
        block_of(wanted.hash, self.blocks.len()).is_some_and(|at| {
            // All eight, whatever the first says: what is looked at next can be fetched meanwhile.
            let words = self.blocks[at].0.iter().zip(wanted.bits);
            words.fold(0, |missing, (word, bit)| missing | (!word & bit)) == 0
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// A 4-byte count of blocks, and each block's words.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&super::wire::len32(self.blocks.len()).to_le_bytes());
        for word in self.blocks.iter().flat_map(|block| &block.0) {
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
            Block(words)
        };
        Some(Self {
            blocks: bytes.chunks_exact(BLOCK_BYTES).map(block).collect(),
        })
    }
}

fn block_of(hash: u64, blocks: usize) -> Option<usize> {
    let at = (u128::from(hash >> 32) * blocks as u128) >> 32;
    usize::try_from(at).ok().filter(|at| *at < blocks)
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
        let both = |id| [Member::Id(id), Member::Correlation(spread(id | 1 << 40))];
        let members = Membership::of(20_000, BITS_PER_ID, (0..10_000).flat_map(both));
        let mut bytes = Vec::new();
        members.write(&mut bytes);
        let read = Membership::read(&mut Reader::new(&bytes)).expect("whole");

        let has = |member: Member| read.may_have(&member.probe());
        assert!((0..10_000).all(|id| has(Member::Id(id))));
        let false_ones = (10_000..110_000).filter(|id| has(Member::Id(*id)));
        let false_ones = false_ones.count();
        assert!(false_ones < 2500, "{false_ones} of 100,000");
        let links = Membership::of(20_000, BITS_PER_LINK, (0..20_000).map(Member::Parent));
        let false_ones =
            (20_000..120_000).filter(|id| links.may_have(&Member::Parent(*id).probe()));
        let false_ones = false_ones.count();
        assert!(false_ones < 250, "{false_ones} of 100,000");
        let parents = (0..10_000).filter(|id| has(Member::Parent(*id)));
        assert!(parents.count() < 400, "a parent is no id");
    }
}
