//! The fields of a span or event as bytes: written where they happen, read by the drain. Pure.
//!
//! A field is the 2-byte number of its name in the callsite, a tag byte, and the value: 8 bytes for numbers, a byte for a bool, a 4-byte
//! length and UTF-8 for text. All little-endian; the bytes never leave the process.

use std::{
    error::Error,
    fmt::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use tracing::field::{Field, Visit};

use crate::value::Value;

const I64: u8 = 0;
const U64: u8 = 1;
const F64: u8 = 2;
const BOOL: u8 = 3;
const TEXT: u8 = 4;
const BYTES: u8 = 5;

/// Writes fields down, within bounds.
pub(super) struct Writer<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) text_bytes_max: usize,
    pub(super) fields_left: usize,
    /// Texts cut, fields left out, fields that panicked.
    pub(super) shortened: u64,
    /// The field `traceparent`, which names the trace of a root span.
    pub(super) traceparent: Option<String>,
}

/// The name of the field that names the trace of a root span.
const TRACEPARENT: &str = "traceparent";
/// It has 55 bytes; one of a later version may have more.
const TRACEPARENT_BYTES_MAX: usize = 256;
/// What is put behind a text that was cut.
const CUT: &str = "…";
/// What stands for a text that could not be written down.
const PANICKED: &str = "[panicked]";

impl Writer<'_> {
    fn head(&mut self, field: &Field, tag: u8) -> bool {
        if self.fields_left == 0 {
            self.shortened += 1;
            return false;
        }
        self.fields_left -= 1;
        // A callsite has no more names than that.
        let number = u16::try_from(field.index()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self.bytes.push(tag);
        true
    }

    fn eight(&mut self, field: &Field, tag: u8, value: [u8; 8]) {
        if self.head(field, tag) {
            self.bytes.extend_from_slice(&value);
        }
    }

    /// Writes a text that writes itself. One that panics, or does not come to an end, is kept as far as it came.
    fn text(&mut self, field: &Field, text: &dyn fmt::Display) {
        if !self.head(field, TEXT) {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let mut bounded = Bounded {
            left: self.text_bytes_max,
            bytes: self.bytes,
        };
        let written = catch_unwind(AssertUnwindSafe(|| write!(bounded, "{text}")));
        match written {
            Ok(Ok(())) => {}
            Ok(Err(fmt::Error)) => {
                self.shortened += 1;
                self.bytes.extend_from_slice(CUT.as_bytes());
            }
            Err(_) => {
                self.shortened += 1;
                self.bytes.extend_from_slice(PANICKED.as_bytes());
            }
        }
        let length = u32::try_from(self.bytes.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }
}

struct Bounded<'a> {
    left: usize,
    bytes: &'a mut Vec<u8>,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.left);
        self.bytes.extend_from_slice(&text.as_bytes()[..fits]);
        self.left -= fits;
        if fits < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// What is too long to name a trace, or panics as it is written, names none.
fn traceparent(text: &dyn fmt::Display) -> Option<String> {
    let mut bytes = Vec::new();
    let mut bounded = Bounded {
        left: TRACEPARENT_BYTES_MAX,
        bytes: &mut bytes,
    };
    let written = catch_unwind(AssertUnwindSafe(|| write!(bounded, "{text}")));
    let whole = matches!(written, Ok(Ok(())));
    whole.then(|| String::from_utf8(bytes).ok()).flatten()
}

/// `Debug` as a text that writes itself.
struct Debugged<'a>(&'a dyn fmt::Debug);

impl fmt::Display for Debugged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Visit for Writer<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.eight(field, F64, value.to_le_bytes());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.eight(field, I64, value.to_le_bytes());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.eight(field, U64, value.to_le_bytes());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(small) => self.record_i64(field, small),
            Err(_) => self.text(field, &value),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(small) => self.record_u64(field, small),
            Err(_) => self.text(field, &value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if self.head(field, BOOL) {
            self.bytes.push(u8::from(value));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == TRACEPARENT {
            self.traceparent = Some(value.to_owned());
        }
        self.text(field, &value);
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        if !self.head(field, BYTES) {
            return;
        }
        let fits = value.len().min(self.text_bytes_max);
        self.shortened += u64::from(fits < value.len());
        let length = u32::try_from(fits).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&value[..fits]);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.text(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // `%value` comes this way too.
        let text = Debugged(value);
        if field.name() == TRACEPARENT {
            self.traceparent = traceparent(&text);
        }
        self.text(field, &text);
    }
}

/// Reads fields back, each with the number of its name.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn run(&mut self) -> Option<&[u8]> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        let (run, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(run)
    }
}

impl Iterator for Reader<'_> {
    type Item = (u16, Value);

    fn next(&mut self) -> Option<(u16, Value)> {
        let number = u16::from_le_bytes(self.take()?);
        let value = match self.take::<1>()? {
            [I64] => Value::from(i64::from_le_bytes(self.take()?)),
            [U64] => Value::from(u64::from_le_bytes(self.take()?)),
            [F64] => Value::from(f64::from_le_bytes(self.take()?)),
            [BOOL] => Value::from(self.take()? == [1]),
            [TEXT] => Value::from(&*String::from_utf8_lossy(self.run()?)),
            [BYTES] => Value::from(self.run()?),
            _ => return None,
        };
        Some((number, value))
    }
}
