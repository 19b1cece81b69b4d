/// FNV-1a with 64 bits (draft-eastlake-fnv, section 5), which can be computed while compiling: the same in every process, release and
/// machine. Not for keys that an attacker chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fnv(u64);

impl Fnv {
    /// Of no bytes.
    pub(crate) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    pub(crate) const fn of(bytes: &[u8]) -> u64 {
        Self::EMPTY.and(bytes).get()
    }

    /// Of these bytes behind all that came before.
    pub(crate) const fn and(self, bytes: &[u8]) -> Self {
        let (mut hash, mut at) = (self.0, 0);
        while at < bytes.len() {
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        Self(hash)
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_draft() {
        assert_eq!(Fnv::of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv::of(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fnv::of(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(Fnv::EMPTY.and(b"foo").and(b"bar").get(), Fnv::of(b"foobar"));
    }
}
