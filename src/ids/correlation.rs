use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Fnv, IdError, TraceId, trace::ascii};

/// What belongs together: the id of a trace, or whatever text a program already writes to its logs ("req-abc").
///
/// Kept to the letter: [`fmt::Display`] gives back what came in. A lower-case trace id (32 hex digits, or a UUID's 36 characters) takes
/// no memory beyond the id itself, other text up to [`CorrelationId::BYTES_MAX`] bytes is shared.
///
/// Two ids are equal when their text is. One trace can be written in several spellings (UUID or plain hex, upper or lower case): these
/// are not equal, yet they have one [`CorrelationId::hash64`], so an index by hash finds them all, and
/// [`CorrelationId::is_same_trace`] tells them from others.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(Spelling);

/// Each text has one spelling only, so that comparing spellings compares text.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Spelling {
    Hex(TraceId),
    Uuid(TraceId),
    Text(Arc<str>),
}

impl CorrelationId {
    /// The longest correlation id, in bytes. Enough for every scheme in use; a page of text is none.
    pub const BYTES_MAX: usize = 256;

    /// Checks and wraps a correlation id. Any text is allowed, for nothing is ever made of it.
    ///
    /// # Errors
    ///
    /// [`IdError::Correlation`] for empty text and above [`CorrelationId::BYTES_MAX`].
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(IdError::Correlation { bytes: text.len() });
        }
        let bytes = text.as_bytes();
        let spelling = if let Some(id) = TraceId::from_lower_hex(bytes) {
            Spelling::Hex(id)
        } else if let Some(id) = TraceId::from_lower_uuid(bytes) {
            Spelling::Uuid(id)
        } else {
            Spelling::Text(text.into())
        };
        Ok(Self(spelling))
    }

    /// Draws a fresh trace id.
    #[must_use]
    pub fn random() -> Self {
        TraceId::random().into()
    }

    /// The trace, when this is the id of one in any spelling.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        match &self.0 {
            Spelling::Hex(id) | Spelling::Uuid(id) => Some(*id),
            Spelling::Text(text) => TraceId::read(text),
        }
    }

    /// Whether both name one trace, or are equal text.
    #[must_use]
    pub fn is_same_trace(&self, other: &Self) -> bool {
        self == other
            || self
                .trace_id()
                .is_some_and(|id| other.trace_id() == Some(id))
    }

    /// Shows its text to `see`; a trace id takes no memory for that.
    pub(crate) fn with_text<T>(&self, see: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Spelling::Hex(id) => see(ascii(&id.digits())),
            Spelling::Uuid(id) => see(&id.to_uuid()),
            Spelling::Text(text) => see(text),
        }
    }

    /// A hash for indexes: the same for all spellings of one trace, on every machine and in every version. Files hold it.
    ///
    /// Whoever chooses ids can choose ones that collide: always compare the id itself, too.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        match &self.0 {
            Spelling::Hex(id) | Spelling::Uuid(id) => hash_trace(*id),
            Spelling::Text(text) => {
                TraceId::read(text).map_or_else(|| mix(Fnv::of(text.as_bytes())), hash_trace)
            }
        }
    }

    /// [`CorrelationId::hash64`] of an id by its text, without making it; `None` where that is no id.
    pub(crate) fn hash64_of(text: &[u8]) -> Option<u64> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return None;
        }
        if let Some(id) = TraceId::from_lower_hex(text) {
            return Some(hash_trace(id));
        }
        let text = str::from_utf8(text).ok()?;
        let hash_text = || mix(Fnv::of(text.as_bytes()));
        Some(TraceId::read(text).map_or_else(hash_text, hash_trace))
    }
}

impl From<TraceId> for CorrelationId {
    fn from(id: TraceId) -> Self {
        Self(Spelling::Hex(id))
    }
}

impl FromStr for CorrelationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelationId({:?})", self.to_string())
    }
}

impl Serialize for CorrelationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CorrelationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of 128 bits"
)]
fn hash_trace(id: TraceId) -> u64 {
    let (high, low) = ((id.get() >> 64) as u64, id.get() as u64);
    mix(high ^ mix(low))
}

/// The finalizer of MurmurHash3, 64 bits: every bit in touches every bit out.
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> CorrelationId {
        CorrelationId::new(text).expect("test id is valid")
    }

    #[test]
    fn spellings_of_one_trace_differ_and_share_their_hash() {
        let hex = id("4bf92f3577b34da6a3ce929d0e0e4736");
        for spelling in [
            "4BF92F3577B34DA6A3CE929D0E0E4736",
            "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
            "4bf92f35-77b3-4da6-a3ce-929d0E0E4736",
        ] {
            let other = id(spelling);
            assert_ne!(other, hex);
            assert_eq!(other.hash64(), hex.hash64());
            assert!(other.is_same_trace(&hex));
            assert_eq!(other.to_string(), spelling);
            let by_text = CorrelationId::hash64_of(spelling.as_bytes());
            assert_eq!(by_text, Some(other.hash64()));
        }
        assert!(!hex.is_same_trace(&id("4bf92f3577b34da6a3ce929d0e0e4737")));
        assert!(!id("req-a").is_same_trace(&id("req-b")));
    }

    /// Index files hold these: a change here needs a new index version.
    #[test]
    fn hashes_stay_as_they_are() {
        assert_eq!(id("req-abc").hash64(), mix(Fnv::of(b"req-abc")));
        assert_eq!(
            CorrelationId::hash64_of(b"req-abc"),
            Some(id("req-abc").hash64())
        );
        assert_eq!(CorrelationId::hash64_of(b""), None);
        assert_eq!(CorrelationId::hash64_of(&[b'a'; 257]), None);
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
        assert_eq!(id("00000000000000000000000000000001").hash64(), mix(mix(1)));
    }

    #[test]
    fn all_zero_is_text_and_no_trace() {
        let zero = id("00000000000000000000000000000000");
        assert_eq!(zero.trace_id(), None);
        assert_eq!(zero.to_string(), "0".repeat(32));
    }

    #[test]
    fn an_id_is_small() {
        assert_eq!(size_of::<Option<CorrelationId>>(), 24);
    }

    #[test]
    fn hashes_spread() {
        let hashes: HashSet<u64> = (0..10_000)
            .map(|n| id(&format!("req-{n}")).hash64() >> 40)
            .collect();
        assert!(
            hashes.len() > 9_900,
            "{} of 10,000 differ in 24 bits",
            hashes.len()
        );
    }

    proptest! {
        #[test]
        fn what_comes_in_comes_out(text in "[0-9a-fA-F]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|.{1,60}") {
            let correlation = id(&text);
            prop_assert_eq!(correlation.to_string(), text.clone());
            prop_assert_eq!(&id(&text), &correlation);
            let json = serde_json::to_string(&correlation).expect("text has a JSON form");
            prop_assert_eq!(serde_json::from_str::<CorrelationId>(&json).ok(), Some(correlation));
        }
    }
}
