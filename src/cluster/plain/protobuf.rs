//! Protocol buffers, as far as they are needed: numbers and bytes with the numbers of their fields. Reading trusts no length.
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>.

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a width that no field here has.
    Other,
}

/// Reads the fields of a message, one after the other.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Field<'a>), Damaged> {
        let key = number(&mut self.0)?;
        let field = match key & 7 {
            0 => Field::Number(number(&mut self.0)?),
            1 => self.bytes(8).map(|_| Field::Other)?,
            2 => {
                let length = number(&mut self.0)?;
                Field::Bytes(self.bytes(usize::try_from(length).map_err(|_| Damaged)?)?)
            }
            5 => self.bytes(4).map(|_| Field::Other)?,
            _ => return Err(Damaged),
        };
        Ok((key >> 3, field))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// Seven bits a byte, the lowest first.
pub(super) fn number(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first().ok_or(Damaged)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Damaged)
}

fn put_raw(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(super) fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_raw(out, field << 3);
    put_raw(out, value);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_raw(out, field << 3 | 2);
    put_raw(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The examples of the specification.
    #[test]
    fn numbers_and_bytes_are_written_as_the_specification_has_them() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 150);
        assert_eq!(out, [0x08, 0x96, 0x01]);
        out.clear();
        put_bytes(&mut out, 2, b"testing");
        assert_eq!(out, *b"\x12\x07testing");
    }

    #[test]
    fn what_is_cut_is_damaged_and_ends() {
        let mut out = Vec::new();
        put_bytes(&mut out, 2, &[7; 300]);
        for cut in 1..out.len() {
            let read: Vec<_> = Fields(&out[..cut]).collect();
            assert_eq!(read, [Err(Damaged)], "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn all_numbers_come_back(value: u64, field in 1..500_u64) {
            let mut out = Vec::new();
            put_number(&mut out, field, value);
            let read: Vec<_> = Fields(&out).collect();
            prop_assert_eq!(read, [Ok((field, Field::Number(value)))]);
        }

        #[test]
        fn reading_what_others_wrote_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Fields(&bytes).count() <= bytes.len());
        }
    }
}
