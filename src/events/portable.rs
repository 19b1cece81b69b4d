//! One event as bytes that can be carried elsewhere. Pure.
//!
//! A byte of version (1), a byte with the codec of the data ([`codec::CODEC_ID`]), then a record with its checksum, as in a segment.

use crate::value::codec;

use super::{DATA_BYTES_MAX, Event, EventError, KIND_BYTES_MAX, SOURCE_BYTES_MAX, record::Record};

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 2;

/// Why bytes are no event.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BytesError {
    /// They are of another version, or of none.
    #[error("{bytes} bytes are no event of version {VERSION}; write them with Event::to_bytes")]
    Foreign {
        /// How many there are.
        bytes: usize,
    },
    /// They do not fit their checksum, or there are too few or too many.
    #[error(
        "{bytes} bytes do not fit their checksum; they were changed or cut on their way, send them again"
    )]
    Damaged {
        /// How many there are.
        bytes: usize,
    },
    /// What they say is beyond the limits of an event, or its data beyond those of a value.
    #[error("{bytes} bytes hold what no event may hold; keep it within the limits of an event")]
    Limits {
        /// How many there are.
        bytes: usize,
    },
}

impl Event {
    /// The most bytes of one event: its data, its texts, and less than a hundred around them.
    pub const BYTES_MAX: usize = DATA_BYTES_MAX + KIND_BYTES_MAX + SOURCE_BYTES_MAX + 256 + 100;

    /// The event as bytes, with a checksum.
    ///
    /// ```
    /// # use underpin::{events::{Event, EventBuilder}, ids::EventId};
    /// let event = EventBuilder::new(EventId::MAX, "order.paid").data(42).build().unwrap();
    /// let bytes = event.to_bytes().unwrap();
    /// assert_eq!(Event::from_bytes(&bytes), Ok(event));
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Event::check`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EventError> {
        let mut bytes = vec![VERSION, codec::CODEC_ID];
        self.encode(&mut bytes)?;
        Ok(bytes)
    }

    /// How many bytes [`Event::to_bytes`] makes; costs as much.
    ///
    /// # Errors
    ///
    /// As [`Event::check`].
    pub fn encoded_len(&self) -> Result<usize, EventError> {
        self.to_bytes().map(|bytes| bytes.len())
    }

    /// The event of [`Event::to_bytes`]. Hostile bytes cost no more memory than an event of their length.
    ///
    /// # Errors
    ///
    /// [`BytesError`]: each time again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BytesError> {
        let len = bytes.len();
        let Some(([VERSION, codec::CODEC_ID], rest)) = bytes.split_first_chunk::<HEAD_BYTES>()
        else {
            return Err(BytesError::Foreign { bytes: len });
        };
        if len > Self::BYTES_MAX {
            return Err(BytesError::Limits { bytes: len });
        }
        let record = Record::read_checked(rest)
            .filter(|record| record.bytes.len() == rest.len())
            .ok_or(BytesError::Damaged { bytes: len })?;
        let within = record.data.len() <= DATA_BYTES_MAX
            && (1..=KIND_BYTES_MAX).contains(&record.kind.len())
            && record.source.len() <= SOURCE_BYTES_MAX;
        within
            .then(|| Self::decode(&record))
            .flatten()
            .ok_or(BytesError::Limits { bytes: len })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        events::{EventBuilder, Timestamp},
        ids::{CorrelationId, EventId},
        value::Value,
    };

    fn event(data: Value) -> Event {
        EventBuilder::new(EventId::MAX, "order.paid")
            .time(Timestamp::from_nanos(-5))
            .source("till/1")
            .correlation(CorrelationId::new("req-1").expect("short"))
            .parent(EventId::MAX)
            .data(data)
            .build()
            .expect("valid")
    }

    #[test]
    fn f45_what_is_no_event_is_an_error_and_no_crash() {
        let foreign = |bytes: &[u8]| {
            let bytes_len = bytes.len();
            assert_eq!(
                Event::from_bytes(bytes),
                Err(BytesError::Foreign { bytes: bytes_len })
            );
        };
        foreign(b"definitely not a valid serialized event");
        foreign(&[255, 254, 253]);
        foreign(&[]);
        assert!(Event::from_bytes(&[1, 1, 3, 255, 254, 253]).is_err());
        let whole = event(Value::from([("a", 1)]))
            .to_bytes()
            .expect("within limits");
        for cut in 0..whole.len() {
            assert!(Event::from_bytes(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Event::from_bytes(&damaged).is_err(), "bit {bit}");
        }
        assert!(Event::from_bytes(&[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn f46_larger_data_is_longer_and_deep_data_costs_no_more_than_its_depth() {
        let small = event(Value::from("x")).encoded_len().expect("small");
        let large = event(Value::from("x".repeat(1000)))
            .encoded_len()
            .expect("small");
        assert!(large >= small + 999);

        // Each level costs the same: what grows with two to the depth, as the original feared, would not come to its end here.
        let nested = |depth: u32| {
            let around = |inner, _| Value::from([("in", inner)]);
            (0..depth).fold(Value::from(1), around)
        };
        let len = |depth| event(nested(depth)).encoded_len().expect("within limits");
        assert_eq!(len(60) - len(40), len(40) - len(20));
        let deep = nested(60);
        let bytes = event(deep.clone()).to_bytes().expect("within limits");
        assert_eq!(Event::from_bytes(&bytes), Ok(event(deep)));
    }

    #[test]
    fn data_above_its_limit_is_refused_on_both_ways() {
        let large = event(Value::from("x".repeat(DATA_BYTES_MAX + 1)));
        assert!(matches!(
            large.to_bytes(),
            Err(EventError::DataTooLarge { .. })
        ));
        let mut long = event(Value::Null).to_bytes().expect("small");
        long.resize(Event::BYTES_MAX + 1, 0);
        assert!(matches!(
            Event::from_bytes(&long),
            Err(BytesError::Limits { .. })
        ));
    }

    proptest! {
        #[test]
        fn f43_what_is_carried_is_the_same_event(n in any::<i64>(), float in any::<f64>(), text in any::<String>(), list in prop::collection::vec(any::<bool>(), 0..9)) {
            let event = event(Value::from([("n", n.into()), ("float", float.into()), ("text", text.into()), ("list", Value::from(list))]));
            let bytes = event.to_bytes().expect("within limits");
            prop_assert_eq!(Event::from_bytes(&bytes), Ok(event));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::from_bytes(&[&[VERSION, codec::CODEC_ID][..], &bytes].concat());
        }
    }
}
