//! The bytes of frames: integers little endian, text with its length before it. Reading trusts no length.

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// They end before what they announce.
    Cut,
    /// Text that is not UTF-8, a kind that nobody knows, bytes behind the last field.
    Damaged(&'static str),
    /// The frame is longer than this side allows.
    TooLong,
}

/// Reads fields from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Fault> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Result<u128, Fault> {
        self.array().map(u128::from_le_bytes)
    }

    pub(super) fn key(&mut self) -> Result<[u8; 32], Fault> {
        self.array()
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Fault> {
        let length = self.u16()?;
        let bytes = self.bytes(usize::from(length))?;
        std::str::from_utf8(bytes).map_err(|_| Fault::Damaged("text that is not UTF-8"))
    }

    /// Bytes with their length, four bytes of it, before them.
    pub(super) fn long(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| Fault::Cut)?)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn end(self) -> Result<(), Fault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Fault::Damaged("bytes behind the last field"))
        }
    }
}

/// Appends fields.
pub(super) trait Write {
    fn put_u8(&mut self, value: u8);
    fn put(&mut self, bytes: &[u8]);

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_le_bytes());
    }

    /// Text above 65,535 bytes is cut at a character; names are checked long before, and only explanations can be that long.
    fn put_text(&mut self, text: &str) {
        let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
        self.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
        self.put(text.as_bytes());
    }

    /// Bytes above 4 GiB do not come here: frames are limited far below.
    fn put_long(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.put(bytes);
    }
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How long the length before each frame is.
pub(super) const PREFIX: usize = 4;

/// Appends a frame: its length, then what `body` appends.
pub(super) fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start - PREFIX).unwrap_or(u32::MAX);
    out[start..start + PREFIX].copy_from_slice(&length.to_le_bytes());
}

/// The body of the frame at the front of `bytes`, and how many bytes the whole frame takes. `None` when it is not all there.
pub(super) fn next_frame(bytes: &[u8], body_max: usize) -> Result<Option<(&[u8], usize)>, Fault> {
    let mut reader = Reader(bytes);
    let Ok(length) = reader.u32() else {
        return Ok(None);
    };
    let length = usize::try_from(length).map_err(|_| Fault::TooLong)?;
    if length > body_max {
        return Err(Fault::TooLong);
    }
    Ok(reader
        .bytes(length)
        .ok()
        .map(|body| (body, PREFIX + length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_is_there_when_its_last_byte_is() {
        let mut bytes = Vec::new();
        framed(&mut bytes, |out| out.put_text("hello"));

        for cut in 0..bytes.len() {
            assert_eq!(next_frame(&bytes[..cut], 100), Ok(None), "cut at {cut}");
        }
        let (body, taken) = next_frame(&bytes, 100).expect("short").expect("whole");
        assert_eq!(taken, bytes.len());
        assert_eq!(Reader(body).text(), Ok("hello"));
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_length_alone() {
        let mut bytes = Vec::new();
        framed(&mut bytes, |out| out.put(&[0; 10]));

        assert!(next_frame(&bytes, 10).is_ok_and(|frame| frame.is_some()));
        assert_eq!(next_frame(&bytes[..PREFIX], 9), Err(Fault::TooLong));
    }

    proptest! {
        #[test]
        fn reading_what_others_wrote_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader(&bytes);
            let _ = reader.text();
            let _ = reader.long();
            let _ = reader.u128();
            let _ = next_frame(&bytes, 32);
        }
    }
}
