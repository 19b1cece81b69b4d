//! W3C Trace Context, <https://www.w3.org/TR/trace-context-2/>.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

use super::{IdError, error::shown, random};

/// The 128 bits that name a trace, never all zero. Written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// The 64 bits that name one step of a trace, never all zero. Written as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(NonZeroU64);

/// The header `traceparent`: which trace a request belongs to, which step of it asks, and whether the trace is recorded.
///
/// Read strictly as section 3.2 says; printed as version 00. Of the flags, `sampled` and `random` are kept, and from versions to come
/// only `sampled`, since nobody knows yet what the others will mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: TraceId,
    parent: SpanId,
    flags: u8,
}

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
/// `00-` trace `-` parent `-` flags.
const HEADER_BYTES: usize = 55;

impl TraceId {
    /// Draws one at random. It is a version 4 UUID at the same time (RFC 9562, section 5.4), and the 56 bits that level 2 of Trace
    /// Context wants random are.
    #[must_use]
    pub fn random() -> Self {
        let [high, low] = random::bits();
        let version_4 = high & !0xf000 | 0x4000;
        let variant = low & (u64::MAX >> 2) | 1 << 63;
        Self((u128::from(version_4) << 64 | u128::from(variant)).to_be_bytes())
    }

    /// Wraps 128 bits that are not all zero.
    #[must_use]
    pub fn new(bits: NonZeroU128) -> Self {
        Self(bits.get().to_be_bytes())
    }

    /// The bits.
    #[must_use]
    pub fn get(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The 32 digits as it is written, without memory of their own.
    pub(super) fn digits(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut written = [0; 32];
        for (pair, byte) in written.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        written
    }

    /// The id as a UUID: 36 characters, lower case.
    #[must_use]
    pub fn to_uuid(self) -> String {
        let mut text = self.to_string();
        for dash in [8, 13, 18, 23] {
            text.insert(dash, '-');
        }
        text
    }

    /// Reads 32 hex digits or a UUID, in either case.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut lower = [0; 36];
        let lower = lower.get_mut(..text.len())?;
        lower.copy_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
        Self::from_lower_hex(lower).or_else(|| Self::from_lower_uuid(lower))
    }

    /// Reads 32 hex digits, lower case.
    pub(super) fn from_lower_hex(digits: &[u8]) -> Option<Self> {
        let bits = (digits.len() == 32).then(|| lower_hex(digits)).flatten()?;
        NonZeroU128::new(bits).map(Self::new)
    }

    /// Reads a UUID's 36 characters, lower case.
    pub(super) fn from_lower_uuid(text: &[u8]) -> Option<Self> {
        let mut digits = [0; 32];
        let mut filled = digits.iter_mut();
        if text.len() != 36 {
            return None;
        }
        for (at, &byte) in text.iter().enumerate() {
            match at {
                8 | 13 | 18 | 23 if byte == b'-' => {}
                8 | 13 | 18 | 23 => return None,
                _ => *filled.next()? = byte,
            }
        }
        Self::from_lower_hex(&digits)
    }
}

/// 32 hex digits or a UUID, in either case.
impl FromStr for TraceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::read(text).ok_or_else(|| IdError::TraceId { given: shown(text) })
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ascii(&self.digits()))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl SpanId {
    /// Draws one at random.
    #[must_use]
    pub fn random() -> Self {
        let [bits, spare] = random::bits();
        let drawn = NonZeroU64::new(bits).or(NonZeroU64::new(spare));
        Self(drawn.unwrap_or(NonZeroU64::MIN))
    }

    /// Wraps 64 bits that are not all zero.
    #[must_use]
    pub fn new(bits: NonZeroU64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    fn from_lower_hex(digits: &[u8]) -> Option<Self> {
        let bits = (digits.len() == 16).then(|| lower_hex(digits)).flatten()?;
        NonZeroU64::new(u64::try_from(bits).ok()?).map(Self)
    }
}

/// 16 hex digits, in either case.
impl FromStr for SpanId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_lower_hex(shown(text).to_ascii_lowercase().as_bytes())
            .ok_or_else(|| IdError::SpanId { given: shown(text) })
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

impl TraceParent {
    /// The header of the step `parent` in `trace`.
    #[must_use]
    pub fn new(trace: TraceId, parent: SpanId, sampled: bool) -> Self {
        Self {
            trace,
            parent,
            flags: if sampled { SAMPLED } else { 0 },
        }
    }

    /// The header of a new trace's first step. Sampled, and with the flag that says that its id is random.
    #[must_use]
    pub fn random() -> Self {
        Self {
            trace: TraceId::random(),
            parent: SpanId::random(),
            flags: SAMPLED | RANDOM,
        }
    }

    /// The header with which another step of the same trace asks further.
    #[must_use]
    pub fn step(self, parent: SpanId) -> Self {
        Self { parent, ..self }
    }

    /// The trace.
    #[must_use]
    pub fn trace(self) -> TraceId {
        self.trace
    }

    /// The step that asks: the parent of the one that answers.
    #[must_use]
    pub fn parent(self) -> SpanId {
        self.parent
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    pub fn sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// The header's value, without space around it.
impl FromStr for TraceParent {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse(text.as_bytes()).map_err(|fault| IdError::TraceParent {
            given: shown(text),
            fault,
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, self.flags)
    }
}

fn parse(header: &[u8]) -> Result<TraceParent, &'static str> {
    let (known, beyond) = header
        .split_at_checked(HEADER_BYTES)
        .ok_or("is shorter than 55 characters")?;
    let version = byte(&known[..2]).ok_or("has no version of two lower-case hex digits")?;
    match (version, beyond) {
        (0xff, _) => return Err("has the version ff, which is none"),
        (0, [_, ..]) => return Err("has version 00 and more than 55 characters"),
        (_, [] | [b'-', ..]) => {}
        _ => return Err("does not end, or go on with a dash, behind its flags"),
    }
    if [2, 35, 52].iter().any(|&at| known[at] != b'-') {
        return Err("does not have its dashes in place");
    }
    let kept = if version == 0 {
        SAMPLED | RANDOM
    } else {
        SAMPLED
    };
    Ok(TraceParent {
        trace: TraceId::from_lower_hex(&known[3..35])
            .ok_or("has no trace id of 32 lower-case hex digits, not all zero")?,
        parent: SpanId::from_lower_hex(&known[36..52])
            .ok_or("has no parent id of 16 lower-case hex digits, not all zero")?,
        flags: byte(&known[53..]).ok_or("has no flags of two lower-case hex digits")? & kept,
    })
}

fn byte(digits: &[u8]) -> Option<u8> {
    lower_hex(digits).and_then(|bits| u8::try_from(bits).ok())
}

/// At most 32 lower-case hex digits.
fn lower_hex(digits: &[u8]) -> Option<u128> {
    let (mut bits, mut seen) = (0, 0);
    // A machine word at a time, and one look at the end whether all were digits: each stored event's correlation is read this way.
    for word in digits.chunks(16) {
        let mut part = 0;
        for digit in word {
            let nibble = NIBBLES[usize::from(*digit)];
            seen |= nibble;
            part = part << 4 | u64::from(nibble & 15);
        }
        bits = bits << (4 * word.len()) | u128::from(part);
    }
    (seen < NO_DIGIT).then_some(bits)
}

/// The values of lower-case hex digits, and for all other bytes more than any digit is worth.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    nibbles
};
const NO_DIGIT: u8 = 16;

/// Digits as text.
pub(super) fn ascii(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_printed() {
        let parent: TraceParent = HEADER.parse().expect("the standard's example");

        assert_eq!(parent.trace().to_string(), TRACE);
        assert_eq!(parent.parent().to_string(), "00f067aa0ba902b7");
        assert!(parent.sampled());
        assert_eq!(parent.to_string(), HEADER);
    }

    #[test]
    fn every_malformed_header_of_version_00_is_refused() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ä-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_version_to_come_is_read_as_far_as_it_is_known() {
        for later in [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-says",
        ] {
            let parent: TraceParent = later.parse().expect("readable by what is known");
            assert_eq!(parent.to_string(), HEADER);
        }
        assert!(
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x"
                .parse::<TraceParent>()
                .is_err()
        );
    }

    #[test]
    fn flags_that_nobody_knows_are_cleared() {
        let parent: TraceParent = HEADER
            .replace("-01", "-fe")
            .parse()
            .expect("any flags are allowed");
        assert!(!parent.sampled());
        assert!(parent.to_string().ends_with("-02"));
    }

    #[test]
    fn a_step_stays_in_its_trace() {
        let asked = TraceParent::random();
        let step = SpanId::random();

        let asking = asked.step(step);

        assert_eq!((asking.trace(), asking.parent()), (asked.trace(), step));
        assert_eq!(asking.to_string().parse(), Ok(asking));
    }

    #[test]
    fn a_trace_id_is_read_in_every_spelling() {
        let id: TraceId = TRACE.parse().expect("32 hex digits");
        assert_eq!(id.to_uuid(), "4bf92f35-77b3-4da6-a3ce-929d0e0e4736");
        for spelling in [
            TRACE.to_uppercase(),
            id.to_uuid(),
            id.to_uuid().to_uppercase(),
        ] {
            assert_eq!(spelling.parse(), Ok(id), "{spelling}");
        }
        for bad in [
            "",
            "0",
            &"0".repeat(32),
            &"g".repeat(32),
            &TRACE[1..],
            "4bf92f35777b3-4da6-a3ce-929d0e0e4736",
        ] {
            assert!(bad.parse::<TraceId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_header_or_an_error(text in "[0-9a-f-]{50,60}|.*") {
            if let Ok(parent) = text.parse::<TraceParent>() {
                prop_assert_eq!(parent.to_string().parse(), Ok(parent));
            }
        }

        #[test]
        fn every_header_is_read_as_it_was_printed(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let trace = TraceId::new(NonZeroU128::new(trace).expect("not zero"));
            let parent = TraceParent::new(trace, SpanId::new(NonZeroU64::new(span).expect("not zero")), sampled);
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
        }
    }
}
