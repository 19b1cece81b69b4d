//! Values, and whatever holds them, as bytes: bincode 2 in its standard configuration (little endian, variable-length integers).
//!
//! The one place that knows bincode; others take its traits from here. [`CODEC_ID`] names this encoding and goes into every header
//! that precedes such bytes on disk or on the wire.
//!
//! A value is a tag byte and its content. Reading trusts no length: text and bytes are taken only when they are all there, and a
//! container pays for its items out of the [`Limits`] before room is made for them.
//!
//! | tag | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | is | null | false | true | integer, zigzag | integer above `i64::MAX` | float, 8 bytes | length, text | length, bytes | count, items | count, (length, name, value) by rising name |

use std::sync::Arc;

pub use bincode::{
    Decode, Encode,
    de::Decoder,
    enc::Encoder,
    error::{DecodeError, EncodeError},
};
use bincode::{
    config,
    de::{DecoderImpl, read::Reader},
    enc::{EncoderImpl, write::Writer},
};

pub(crate) use super::names::Names;
use super::{
    Limits, Map, Value,
    limits::{Budget, Exceeded},
    map::Entry,
};

/// Names this encoding: bincode 2, standard configuration, value tags as above.
pub const CODEC_ID: u8 = 1;

/// What bincode's own containers (`Vec`, `String`) may claim in one [`decode`], in bytes as they lie in memory: 64 MiB. It keeps a
/// hostile length from asking for more; values keep to their own limits and do not count.
pub const CONTAINER_BYTES_MAX: usize = 64 << 20;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const UINT: u8 = 4;
const FLOAT: u8 = 5;
const TEXT: u8 = 6;
const BYTES: u8 = 7;
const LIST: u8 = 8;
const MAP: u8 = 9;

const TOO_DEEP: &str = "value is nested too deep";
const TOO_MANY_NODES: &str = "value has too many parts";
const TOO_LONG: &str = "encoding is too long";

/// Why bytes could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Maps and lists stand too deep inside one another.
    #[error("value is nested more than {limit} levels deep; flatten it")]
    TooDeep {
        /// The most levels allowed.
        limit: u8,
    },
    /// Too many maps, lists and scalars altogether.
    #[error("value has more than {limit} parts; split it")]
    TooManyNodes {
        /// The most parts allowed.
        limit: u32,
    },
    /// The encoding would be longer than the caller allows.
    #[error("encoding is longer than {limit} bytes; split it or leave something out")]
    TooLong {
        /// The most bytes allowed.
        limit: usize,
    },
    /// The bytes end before what they announce.
    #[error("encoding ends before its last part; it was cut or damaged")]
    Cut,
    /// What was given has no encoding: a time before 1970, a path that is not UTF-8, a poisoned lock.
    #[error("data has no encoding: {what}; leave that part out")]
    Unencodable {
        /// What was found.
        what: String,
    },
    /// The bytes are no encoding of what was asked for.
    #[error("encoding is damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
}

/// Appends a value to `out`. On an error `out` is as before.
///
/// # Errors
///
/// [`CodecError::TooDeep`] or [`CodecError::TooManyNodes`] above [`Limits::DEFAULT`].
pub fn encode_value(value: &Value, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode(value, out, usize::MAX)
}

/// Reads the value at the front of `bytes`, and says how many bytes it took.
///
/// # Errors
///
/// [`CodecError::TooDeep`] or [`CodecError::TooManyNodes`] above `limits`; [`CodecError::Cut`] or [`CodecError::Damaged`].
pub fn decode_value(bytes: &[u8], limits: Limits) -> Result<(Value, usize), CodecError> {
    decode(bytes, limits)
}

/// As [`decode_value`], with the names of maps shared with the values that were read before.
pub(crate) fn decode_value_among(
    bytes: &[u8],
    limits: Limits,
    names: &mut Names,
) -> Result<(Value, usize), CodecError> {
    let mut decoder = DecoderImpl::new(Source(bytes), config::standard(), limits);
    let value = read_whole(&mut decoder, Some(names)).map_err(|error| decode_error(&error, limits));
    Ok((value?, bytes.len() - decoder.reader().0.len()))
}

/// Appends anything that can be encoded to `out`, at most `bytes_max` bytes of it. On an error `out` is as before.
///
/// # Errors
///
/// [`CodecError::TooLong`]; for values in it the errors of [`encode_value`].
pub fn encode<T: Encode + ?Sized>(
    data: &T,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), CodecError> {
    let before = out.len();
    let sink = Sink {
        end_max: before.saturating_add(bytes_max),
        out,
    };
    let mut encoder = EncoderImpl::new(sink, config::standard());
    let result = data.encode(&mut encoder);
    result.map_err(|error| {
        encoder.into_writer().out.truncate(before);
        encode_error(error, bytes_max)
    })
}

/// How many bytes [`encode`] would append.
///
/// # Errors
///
/// For values in it the errors of [`encode_value`].
pub fn encoded_len<T: Encode + ?Sized>(data: &T) -> Result<usize, CodecError> {
    let mut encoder = EncoderImpl::new(Counter(0), config::standard());
    data.encode(&mut encoder)
        .map_err(|error| encode_error(error, usize::MAX))?;
    Ok(encoder.into_writer().0)
}

/// Reads what stands at the front of `bytes`, and says how many bytes it took. Each value in it has `limits` to itself.
///
/// # Errors
///
/// As [`decode_value`]; [`CodecError::Damaged`] also when containers claim more than [`CONTAINER_BYTES_MAX`].
pub fn decode<T: Decode<Limits>>(bytes: &[u8], limits: Limits) -> Result<(T, usize), CodecError> {
    let config = config::standard().with_limit::<CONTAINER_BYTES_MAX>();
    let mut decoder = DecoderImpl::new(Source(bytes), config, limits);
    let data = T::decode(&mut decoder).map_err(|error| decode_error(&error, limits))?;
    Ok((data, bytes.len() - decoder.reader().0.len()))
}

/// Reads text that was encoded as `str`. Takes nothing beyond the text's own size.
///
/// # Errors
///
/// bincode's, when the text is not all there or not UTF-8.
pub fn read_text<D: Decoder>(decoder: &mut D) -> Result<Arc<str>, DecodeError> {
    read_slice(decoder, |bytes| {
        std::str::from_utf8(bytes)
            .map(Arc::from)
            .map_err(|inner| DecodeError::Utf8 { inner })
    })
}

/// Reads bytes that were encoded as `[u8]`. Takes nothing beyond their own size.
///
/// # Errors
///
/// bincode's, when they are not all there.
pub fn read_bytes<D: Decoder>(decoder: &mut D) -> Result<Arc<[u8]>, DecodeError> {
    read_slice(decoder, |bytes| Ok(bytes.into()))
}

/// Keeps to [`Limits::DEFAULT`], so that it can always be read back.
impl Encode for Value {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let mut budget = Budget::new(Limits::DEFAULT);
        budget.take(1).map_err(encode_limit)?;
        write_value(self, encoder, &mut budget)
    }
}

/// Keeps to the limits in the context.
impl Decode<Limits> for Value {
    fn decode<D: Decoder<Context = Limits>>(decoder: &mut D) -> Result<Self, DecodeError> {
        read_whole(decoder, None)
    }
}

bincode::impl_borrow_decode_with_context!(Value, Limits);

fn write_value<E: Encoder>(
    value: &Value,
    encoder: &mut E,
    budget: &mut Budget,
) -> Result<(), EncodeError> {
    match value {
        Value::Null => NULL.encode(encoder),
        Value::Bool(false) => FALSE.encode(encoder),
        Value::Bool(true) => TRUE.encode(encoder),
        Value::Int(value) => write_head(INT, zigzag(*value), encoder),
        Value::UInt(value) => match i64::try_from(*value) {
            Ok(value) => write_head(INT, zigzag(value), encoder),
            Err(_) => write_head(UINT, *value, encoder),
        },
        Value::Float(value) => {
            FLOAT.encode(encoder)?;
            value.encode(encoder)
        }
        Value::Text(text) => {
            write_head(TEXT, text.len() as u64, encoder)?;
            encoder.writer().write(text.as_bytes())
        }
        Value::Bytes(bytes) => {
            write_head(BYTES, bytes.len() as u64, encoder)?;
            encoder.writer().write(bytes)
        }
        Value::List(items) => {
            budget
                .take(items.len())
                .and_then(|()| budget.enter())
                .map_err(encode_limit)?;
            write_head(LIST, items.len() as u64, encoder)?;
            for item in items.iter() {
                write_value(item, encoder, budget)?;
            }
            budget.leave();
            Ok(())
        }
        Value::Map(map) => {
            budget
                .take(map.len())
                .and_then(|()| budget.enter())
                .map_err(encode_limit)?;
            write_head(MAP, map.len() as u64, encoder)?;
            for (name, value) in map.iter() {
                write_number(name.len() as u64, encoder)?;
                encoder.writer().write(name.as_bytes())?;
                write_value(value, encoder, budget)?;
            }
            budget.leave();
            Ok(())
        }
    }
}

/// bincode's `SINGLE_BYTE_MAX`: numbers up to here are written as one byte. Most are, and these are written here: the way through
/// bincode takes five times as long.
const ONE_BYTE_MAX: u8 = 250;

/// Writes a tag and a number.
#[inline]
fn write_head<E: Encoder>(tag: u8, number: u64, encoder: &mut E) -> Result<(), EncodeError> {
    if let Ok(byte @ ..=ONE_BYTE_MAX) = u8::try_from(number) {
        return encoder.writer().write(&[tag, byte]);
    }
    tag.encode(encoder)?;
    number.encode(encoder)
}

#[inline]
fn write_number<E: Encoder>(number: u64, encoder: &mut E) -> Result<(), EncodeError> {
    if let Ok(byte @ ..=ONE_BYTE_MAX) = u8::try_from(number) {
        return encoder.writer().write(&[byte]);
    }
    number.encode(encoder)
}

/// Small numbers of either sign as small numbers, as bincode has it.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn read_whole<D: Decoder<Context = Limits>>(
    decoder: &mut D,
    names: Option<&mut Names>,
) -> Result<Value, DecodeError> {
    let mut budget = Budget::new(*decoder.context());
    budget.take(1).map_err(decode_limit)?;
    read_value(decoder, &mut budget, names)
}

fn read_value<D: Decoder>(
    decoder: &mut D,
    budget: &mut Budget,
    names: Option<&mut Names>,
) -> Result<Value, DecodeError> {
    match read::<u8, _>(decoder)? {
        NULL => Ok(Value::Null),
        FALSE => Ok(Value::Bool(false)),
        TRUE => Ok(Value::Bool(true)),
        INT => Ok(Value::Int(read(decoder)?)),
        UINT => Ok(Value::from(read::<u64, _>(decoder)?)),
        FLOAT => Ok(Value::Float(read(decoder)?)),
        TEXT => Ok(Value::Text(read_text(decoder)?)),
        BYTES => Ok(Value::Bytes(read_bytes(decoder)?)),
        LIST => read_list(decoder, budget, names),
        MAP => read_map(decoder, budget, names),
        tag => Err(DecodeError::OtherString(format!(
            "no value has the tag {tag}"
        ))),
    }
}

fn read_list<D: Decoder>(
    decoder: &mut D,
    budget: &mut Budget,
    mut names: Option<&mut Names>,
) -> Result<Value, DecodeError> {
    const ITEM_BYTES_MIN: usize = 1;
    let count = open(decoder, budget, ITEM_BYTES_MIN)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(read_value(decoder, budget, names.as_deref_mut())?);
    }
    budget.leave();
    Ok(Value::List(items.into()))
}

fn read_map<D: Decoder>(
    decoder: &mut D,
    budget: &mut Budget,
    mut names: Option<&mut Names>,
) -> Result<Value, DecodeError> {
    const ENTRY_BYTES_MIN: usize = 2;
    let count = open(decoder, budget, ENTRY_BYTES_MIN)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for _ in 0..count {
        let name = match &mut names {
            Some(names) => read_slice(decoder, |bytes| {
                let name = names.get(bytes);
                name.map_err(|inner| DecodeError::Utf8 { inner })
            })?,
            None => read_text(decoder)?,
        };
        if entries.last().is_some_and(|(last, _)| *last >= name) {
            return Err(DecodeError::Other("a map's names do not rise"));
        }
        entries.push((name, read_value(decoder, budget, names.as_deref_mut())?));
    }
    budget.leave();
    Ok(Value::Map(Map::from_sorted(entries)))
}

/// Reads a container's count and pays for its items, before room is made for them.
fn open<D: Decoder>(
    decoder: &mut D,
    budget: &mut Budget,
    item_bytes_min: usize,
) -> Result<usize, DecodeError> {
    let count = read_len(decoder)?;
    budget
        .take(count)
        .and_then(|()| budget.enter())
        .map_err(decode_limit)?;
    peek(decoder, count.saturating_mul(item_bytes_min))?;
    Ok(count)
}

fn read_slice<D: Decoder, T>(
    decoder: &mut D,
    take: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let len = read_len(decoder)?;
    let taken = take(peek(decoder, len)?)?;
    decoder.reader().consume(len);
    Ok(taken)
}

fn read_len<D: Decoder>(decoder: &mut D) -> Result<usize, DecodeError> {
    let len = read::<u64, _>(decoder)?;
    usize::try_from(len).map_err(|_| DecodeError::OutsideUsizeRange(len))
}

/// The next `len` bytes, or the knowledge that there are fewer.
fn peek<D: Decoder>(decoder: &mut D, len: usize) -> Result<&[u8], DecodeError> {
    decoder
        .reader()
        .peek_read(len)
        .ok_or(DecodeError::UnexpectedEnd { additional: len })
}

/// Reads a number without charging it to bincode's byte limit, which would count one byte of varint as eight.
fn read<T: Decode<D::Context>, D: Decoder>(decoder: &mut D) -> Result<T, DecodeError> {
    let number = T::decode(decoder)?;
    decoder.unclaim_bytes_read(size_of::<T>());
    Ok(number)
}

fn encode_limit(exceeded: Exceeded) -> EncodeError {
    EncodeError::Other(message(exceeded))
}

fn decode_limit(exceeded: Exceeded) -> DecodeError {
    DecodeError::Other(message(exceeded))
}

fn message(exceeded: Exceeded) -> &'static str {
    match exceeded {
        Exceeded::Depth => TOO_DEEP,
        Exceeded::Nodes => TOO_MANY_NODES,
    }
}

fn encode_error(error: EncodeError, bytes_max: usize) -> CodecError {
    match error {
        EncodeError::Other(TOO_LONG) => CodecError::TooLong { limit: bytes_max },
        EncodeError::Other(what) => described(what, Limits::DEFAULT),
        other => CodecError::Unencodable {
            what: other.to_string(),
        },
    }
}

fn decode_error(error: &DecodeError, limits: Limits) -> CodecError {
    match error {
        DecodeError::UnexpectedEnd { .. } => CodecError::Cut,
        DecodeError::Other(what) => described(what, limits),
        DecodeError::OtherString(what) => damaged(what),
        DecodeError::Utf8 { .. } => damaged("text is not UTF-8"),
        DecodeError::LimitExceeded => damaged(format_args!(
            "a length claims more than {CONTAINER_BYTES_MAX} bytes"
        )),
        DecodeError::OutsideUsizeRange(len) => {
            damaged(format_args!("a length of {len} is beyond this machine"))
        }
        other => damaged(other),
    }
}

fn described(what: &str, limits: Limits) -> CodecError {
    match what {
        TOO_DEEP => CodecError::TooDeep {
            limit: limits.depth,
        },
        TOO_MANY_NODES => CodecError::TooManyNodes {
            limit: limits.nodes,
        },
        other => damaged(other),
    }
}

fn damaged(what: impl std::fmt::Display) -> CodecError {
    CodecError::Damaged {
        what: what.to_string(),
    }
}

/// Writes to the end of a buffer, up to a length.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    end_max: usize,
}

impl Writer for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > self.end_max - self.out.len() {
            return Err(EncodeError::Other(TOO_LONG));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Counts what would be written.
struct Counter(usize);

impl Writer for Counter {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 += bytes.len();
        Ok(())
    }
}

/// What is left to read.
struct Source<'a>(&'a [u8]);

impl Reader for Source<'_> {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        let (taken, rest) =
            self.0
                .split_at_checked(bytes.len())
                .ok_or_else(|| DecodeError::UnexpectedEnd {
                    additional: bytes.len() - self.0.len(),
                })?;
        bytes.copy_from_slice(taken);
        self.0 = rest;
        Ok(())
    }

    #[inline]
    fn peek_read(&mut self, len: usize) -> Option<&[u8]> {
        self.0.get(..len)
    }

    #[inline]
    fn consume(&mut self, len: usize) {
        self.0 = self.0.get(len..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    fn encoded(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encode_value(value, &mut out).expect("value is within the limits");
        out
    }

    fn decoded(bytes: &[u8]) -> Result<(Value, usize), CodecError> {
        decode_value(bytes, Limits::DEFAULT)
    }

    fn nested(depth: usize) -> Value {
        (0..depth).fold(Value::Null, |inner, _| Value::from(vec![inner]))
    }

    /// The bytes are on disks already: a change here needs a new codec id.
    #[test]
    fn the_encoding_stays_as_it_is() {
        let value = Value::from([
            (
                "a",
                Value::from(vec![Value::Null, false.into(), true.into()]),
            ),
            ("b", Value::Int(-1)),
            ("c", Value::Int(300)),
            ("d", Value::UInt(u64::MAX)),
            ("e", Value::Float(1.0)),
            ("f", Value::from("hi")),
            ("g", Value::from(&[1u8, 2][..])),
        ]);

        #[rustfmt::skip]
        let expected = [
            9, 7,
            1, b'a', 8, 3, 0, 1, 2,
            1, b'b', 3, 1,
            1, b'c', 3, 251, 88, 2,
            1, b'd', 4, 253, 255, 255, 255, 255, 255, 255, 255, 255,
            1, b'e', 5, 0, 0, 0, 0, 0, 0, 240, 63,
            1, b'f', 6, 2, b'h', b'i',
            1, b'g', 7, 2, 1, 2,
        ];
        assert_eq!(encoded(&value), expected);
        assert_eq!(decoded(&expected), Ok((value, expected.len())));
    }

    #[test]
    fn what_stands_behind_a_value_is_left_alone() {
        let mut bytes = b"before".to_vec();
        encode_value(&Value::from("text"), &mut bytes).expect("a short text");
        bytes.extend_from_slice(b"after");

        let (value, used) = decoded(&bytes[6..]).expect("an intact value");

        assert_eq!(value, Value::from("text"));
        assert_eq!(&bytes[6 + used..], b"after");
    }

    #[test]
    fn what_is_refused_leaves_the_buffer_as_it_was() {
        let mut out = b"kept".to_vec();

        assert_eq!(
            encode_value(&nested(65), &mut out),
            Err(CodecError::TooDeep { limit: 64 })
        );
        assert_eq!(
            encode("four", &mut out, 4),
            Err(CodecError::TooLong { limit: 4 })
        );
        assert_eq!(encode("four", &mut Vec::new(), 5), Ok(()));

        assert_eq!(out, b"kept");
    }

    #[test]
    fn the_limits_hold_to_the_node_and_to_the_level() {
        let wide = |items| Value::from(vec![Value::Null; items]);

        for good in [nested(64), wide(65_535)] {
            assert_eq!(decoded(&encoded(&good)).map(|(value, _)| value), Ok(good));
        }

        let mut out = Vec::new();
        assert_eq!(
            encode_value(&wide(65_536), &mut out),
            Err(CodecError::TooManyNodes { limit: 65_536 })
        );
        let deep = [[LIST, 1].repeat(65), vec![NULL]].concat();
        assert_eq!(decoded(&deep), Err(CodecError::TooDeep { limit: 64 }));
        assert_eq!(
            decode_value(&encoded(&nested(21)), Limits::CONFIG),
            Err(CodecError::TooDeep { limit: 20 })
        );
    }

    #[test]
    fn a_list_of_200_kilobytes_is_written_and_read() {
        let list: Value = (0..50_000).map(|n| Value::Int(n * 7)).collect();

        let bytes = encoded(&list);

        assert!(bytes.len() > 180_000, "{} bytes", bytes.len());
        assert_eq!(encoded_len(&list), Ok(bytes.len()));
        assert_eq!(decoded(&bytes), Ok((list, bytes.len())));
    }

    #[test]
    fn hostile_lengths_are_refused_before_room_is_made() {
        let huge = [253, 255, 255, 255, 255, 255, 255, 255, 127];
        for tag in [TEXT, BYTES] {
            assert_eq!(decoded(&[&[tag][..], &huge].concat()), Err(CodecError::Cut));
        }
        for tag in [LIST, MAP] {
            assert_eq!(
                decoded(&[&[tag][..], &huge].concat()),
                Err(CodecError::TooManyNodes { limit: 65_536 })
            );
        }
        // Sixty lists that each announce 60,000 items, of which there is room for none: paid for once, not sixty times.
        let greedy = [[LIST, 251, 0x60, 0xea].repeat(60), vec![NULL; 60_000]].concat();
        assert_eq!(
            decoded(&greedy),
            Err(CodecError::TooManyNodes { limit: 65_536 })
        );
        // bincode's own containers keep to their byte limit.
        assert!(decode::<Vec<u64>>(&huge, Limits::DEFAULT).is_err());
        assert_eq!(
            decode::<String>(&huge, Limits::DEFAULT)
                .expect_err("no text is that long")
                .to_string(),
            "encoding is damaged: a length claims more than 67108864 bytes"
        );
    }

    #[test]
    fn names_that_do_not_rise_are_damage() {
        let twice = [MAP, 2, 1, b'a', NULL, 1, b'a', NULL];
        assert!(matches!(decoded(&twice), Err(CodecError::Damaged { .. })));
    }

    #[test]
    fn text_that_is_not_utf_8_is_damage() {
        assert_eq!(
            decoded(&[TEXT, 1, 0xff])
                .expect_err("not UTF-8")
                .to_string(),
            "encoding is damaged: text is not UTF-8"
        );
    }

    #[test]
    fn a_deep_hostile_nest_does_not_overflow_the_stack() {
        let deep = [LIST, 1].repeat(10_000_000);
        assert_eq!(decoded(&deep), Err(CodecError::TooDeep { limit: 64 }));
    }

    #[test]
    fn a_batch_of_values_has_the_limits_for_each_of_them() {
        let batch = vec![Value::from(vec![Value::Null; 60_000]); 3];
        let mut bytes = Vec::new();
        encode(&batch, &mut bytes, usize::MAX).expect("each is within the limits");

        assert_eq!(decode(&bytes, Limits::DEFAULT), Ok((batch, bytes.len())));
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in arbitrary::value()) {
            let bytes = encoded(&value);
            prop_assert_eq!(encoded_len(&value), Ok(bytes.len()));
            prop_assert_eq!(decoded(&bytes), Ok((value, bytes.len())));
        }

        #[test]
        fn every_cut_is_an_error(value in arbitrary::value()) {
            let bytes = encoded(&value);
            for cut in 0..bytes.len() {
                prop_assert!(decoded(&bytes[..cut]).is_err(), "cut at {}", cut);
            }
        }

        #[test]
        fn every_flipped_bit_is_an_error_or_another_valid_value(value in arbitrary::value()) {
            let bytes = encoded(&value);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                if let Ok((other, _)) = decoded(&damaged) {
                    prop_assert!(other.check(Limits::DEFAULT).is_ok());
                    let again = encoded(&other);
                    prop_assert_eq!(decoded(&again), Ok((other, again.len())));
                }
            }
        }

        #[test]
        fn any_bytes_are_an_error_or_a_valid_value(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((value, used)) = decoded(&bytes) {
                prop_assert!(used <= bytes.len());
                prop_assert!(value.check(Limits::DEFAULT).is_ok());
            }
        }
    }
}
