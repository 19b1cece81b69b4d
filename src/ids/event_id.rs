use std::{fmt, num::NonZeroU64, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{IdError, NodeId, error::shown};

/// The name of one event: 41 bits of milliseconds since 2024-01-01T00:00:00Z, 10 bits of node, 12 bits of sequence.
///
/// Never zero, never above `i64::MAX`. Ids of one node sort in the order in which they were made; ids of several nodes sort by time.
/// Written in decimal; JSON carries it as text, since many readers of JSON round whole numbers above 2^53. Deserializing takes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(NonZeroU64);

/// Milliseconds from 1970 to 2024-01-01T00:00:00Z, where event ids begin to count.
pub(super) const EPOCH_UNIX_MS: u64 = 1_704_067_200_000;
pub(super) const MS_BITS: u32 = 41;
pub(super) const NODE_BITS: u32 = 10;
pub(super) const SEQUENCE_BITS: u32 = 12;
const SEQUENCE_MASK: u64 = EventId::SEQUENCE_MAX as u64;
const NODE_MASK: u64 = (1 << NODE_BITS) - 1;

impl EventId {
    /// The largest id.
    pub const MAX: Self = Self(NonZeroU64::new(i64::MAX as u64).expect("not zero"));
    /// The largest sequence number within one millisecond.
    pub const SEQUENCE_MAX: u16 = (1 << SEQUENCE_BITS) - 1;

    /// Checks and wraps an id.
    ///
    /// # Errors
    ///
    /// [`IdError::EventId`] for 0 and for numbers above [`EventId::MAX`].
    pub fn new(id: u64) -> Result<Self, IdError> {
        match NonZeroU64::new(id) {
            Some(id) if id <= Self::MAX.0 => Ok(Self(id)),
            _ => Err(IdError::EventId {
                given: id.to_string(),
            }),
        }
    }

    /// Puts an id together. Time in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`IdError::Time`] before 2024 or beyond 41 bits of milliseconds after (2093-09-06), [`IdError::Sequence`] above
    /// [`EventId::SEQUENCE_MAX`], [`IdError::EventId`] when all parts are zero.
    pub fn from_parts(unix_ms: u64, node: NodeId, sequence: u16) -> Result<Self, IdError> {
        let ms = unix_ms
            .checked_sub(EPOCH_UNIX_MS)
            .filter(|ms| *ms < 1 << MS_BITS)
            .ok_or(IdError::Time { unix_ms })?;
        if sequence > Self::SEQUENCE_MAX {
            return Err(IdError::Sequence { given: sequence });
        }
        Self::new(
            ms << (NODE_BITS + SEQUENCE_BITS)
                | u64::from(node.get()) << SEQUENCE_BITS
                | u64::from(sequence),
        )
    }

    /// The highest id that any node can have made by then, in milliseconds since 1970; `None` before 2024, when there were none.
    #[must_use]
    pub fn last_by(unix_ms: u64) -> Option<Self> {
        let ms = unix_ms.checked_sub(EPOCH_UNIX_MS)?;
        let later = (Self::MAX.get() >> (NODE_BITS + SEQUENCE_BITS)).saturating_sub(ms);
        NonZeroU64::new(Self::MAX.get() - (later << (NODE_BITS + SEQUENCE_BITS))).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// When it was made, in milliseconds since 1970 by the clock of its node; ahead of that clock while the node drifts.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        EPOCH_UNIX_MS + (self.get() >> (NODE_BITS + SEQUENCE_BITS))
    }

    /// The node that made it.
    #[must_use]
    pub fn node(self) -> NodeId {
        NodeId::from_low_bits(self.get() >> SEQUENCE_BITS & NODE_MASK)
    }

    /// Its place within its millisecond.
    #[must_use]
    pub fn sequence(self) -> u16 {
        (self.get() & SEQUENCE_MASK) as u16
    }

    /// The id of a word `ms << 12 | sequence`, which is above 0 and below 2^53.
    pub(super) fn from_word(word: u64, node: NodeId) -> Self {
        let ms = word >> SEQUENCE_BITS;
        let id = ms << (NODE_BITS + SEQUENCE_BITS)
            | u64::from(node.get()) << SEQUENCE_BITS
            | word & SEQUENCE_MASK;
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // `u64` would also take a plus sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .and_then(|id| Self::new(id).ok())
            .ok_or_else(|| IdError::EventId { given: shown(text) })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.get())
        }
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(TextOrNumber)
        } else {
            Self::new(u64::deserialize(deserializer)?).map_err(de::Error::custom)
        }
    }
}

struct TextOrNumber;

impl de::Visitor<'_> for TextOrNumber {
    type Value = EventId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event id as text or number")
    }
    fn visit_u64<E: de::Error>(self, id: u64) -> Result<EventId, E> {
        EventId::new(id).map_err(E::custom)
    }
    fn visit_i64<E: de::Error>(self, id: i64) -> Result<EventId, E> {
        u64::try_from(id)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(id), &self))
            .and_then(|id| self.visit_u64(id))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<EventId, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("test node id is valid")
    }

    #[test]
    fn the_layout_stays_as_it_is() {
        let id = EventId::from_parts(EPOCH_UNIX_MS + 1, node(1023), 4095).expect("parts fit");
        assert_eq!(id.get(), 1 << 22 | 1023 << 12 | 4095);

        let last = EventId::from_parts(EPOCH_UNIX_MS + (1 << 41) - 1, node(1023), 4095);
        assert_eq!(last, Ok(EventId::MAX));
    }

    #[test]
    fn parts_beyond_their_bits_are_refused() {
        let late = EPOCH_UNIX_MS + (1 << 41);
        assert_eq!(
            EventId::from_parts(late, node(0), 0),
            Err(IdError::Time { unix_ms: late })
        );
        let early = EPOCH_UNIX_MS - 1;
        assert_eq!(
            EventId::from_parts(early, node(0), 0),
            Err(IdError::Time { unix_ms: early })
        );
        assert_eq!(
            EventId::from_parts(EPOCH_UNIX_MS, node(1), 4096),
            Err(IdError::Sequence { given: 4096 })
        );
        assert!(EventId::from_parts(EPOCH_UNIX_MS, node(0), 0).is_err());
    }

    #[test]
    fn only_numbers_within_63_bits_are_ids() {
        assert_eq!("9223372036854775807".parse(), Ok(EventId::MAX));
        for bad in [
            "",
            "0",
            "-1",
            "+1",
            " 1",
            "1.0",
            "x",
            "9223372036854775808",
            "18446744073709551616",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn json_shows_text_and_takes_both() {
        let id = EventId::new(42).expect("42 is an id");
        assert_eq!(serde_json::to_string(&id).ok().as_deref(), Some("\"42\""));
        for good in ["\"42\"", "42"] {
            assert_eq!(
                serde_json::from_str::<EventId>(good).ok(),
                Some(id),
                "{good}"
            );
        }
        for bad in ["0", "-42", "42.0", "\"\"", "null", "[42]"] {
            assert!(serde_json::from_str::<EventId>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parts_come_apart_again(ms in 0_u64..1 << 41, id in 0_u16..1024, sequence in 0_u16..4096) {
            prop_assume!(ms > 0 || id > 0 || sequence > 0);
            let made = EventId::from_parts(EPOCH_UNIX_MS + ms, node(id), sequence).expect("parts fit");
            prop_assert_eq!((made.unix_ms(), made.node(), made.sequence()), (EPOCH_UNIX_MS + ms, node(id), sequence));
            prop_assert_eq!(made.to_string().parse(), Ok(made));
            prop_assert_eq!(EventId::from_word(ms << 12 | u64::from(sequence), node(id)), made);
        }
    }
}
