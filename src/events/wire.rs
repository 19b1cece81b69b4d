//! Little-endian numbers out of bytes, never beyond their end.

/// Reads from the front of a slice; every read that does not fit is `None`.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }
}

/// A length that limits elsewhere keep far below 4 GiB.
pub(super) fn len32(len: usize) -> u32 {
    debug_assert!(u32::try_from(len).is_ok(), "{len} bytes passed a limit");
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A length that limits elsewhere keep below 64 KiB.
pub(super) fn len16(len: usize) -> u16 {
    debug_assert!(u16::try_from(len).is_ok(), "{len} bytes passed a limit");
    u16::try_from(len).unwrap_or(u16::MAX)
}
