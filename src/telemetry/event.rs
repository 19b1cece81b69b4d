//! What is executed: a name, numbers, and what they are about.

use std::{fmt, sync::Arc};

use super::{EventNameError, OwnedEmission};
use crate::ids::Fnv;

/// The name of an event: one to sixteen parts, such as `web, request, stop`.
///
/// Make it once and keep it; comparing and looking it up is then a matter of a few nanoseconds.
///
/// ```
/// use underpin::telemetry::EventName;
///
/// static DONE: EventName = EventName::from_static(&["job", "done"]);
///
/// assert_eq!(DONE, EventName::new(["job", "done"])?);
/// assert_eq!(DONE.to_string(), "job.done");
/// # Ok::<(), underpin::telemetry::EventNameError>(())
/// ```
#[derive(Clone)]
pub struct EventName {
    parts: Parts,
    /// One part more, so that a span's names need no lists of their own.
    last: Option<&'static str>,
    hash: Fnv,
}

#[derive(Clone)]
enum Parts {
    Static(&'static [&'static str]),
    Shared(Arc<[Box<str>]>),
}

/// What was measured: names and numbers.
#[derive(Debug, Clone, Copy)]
pub struct Measurements<'a> {
    own: &'a [(&'a str, Number)],
    /// Come before `own` where both have the name.
    standard: &'a [(&'a str, Number)],
}

/// What an event is about: names and values.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    /// Comes before `added` where both have the name.
    own: &'a [(&'a str, Field<'a>)],
    added: &'a [(&'a str, Field<'a>)],
}

/// A measured number; stays the kind of number that it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A whole number that is never negative.
    UInt(u64),
    /// A number with a fraction.
    Float(f64),
}

/// One value of an event's metadata, borrowed from the emitter.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Field<'a> {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(&'a str),
    /// Anything that can be shown; formatted only if a handler does. Any thread may do so, since a span's metadata goes
    /// along with its future.
    Debug(&'a (dyn fmt::Debug + Sync)),
    /// The name of another event.
    Event(&'a EventName),
}

/// An executed event, as its handlers see it. Everything in it is borrowed from the emitter.
#[derive(Debug, Clone, Copy)]
pub struct Emission<'a> {
    /// Which event.
    pub name: &'a EventName,
    /// What was measured.
    pub measurements: Measurements<'a>,
    /// What it is about.
    pub metadata: Metadata<'a>,
    /// How many emissions this one stands for: 1, or n where one in n is handled
    /// ([`Telemetry::sample`](super::Telemetry::sample)). What is added up is to be multiplied by it.
    pub weight: u32,
}

impl Emission<'_> {
    /// A copy that outlives the emitter. Texts longer than 4096 bytes are cut.
    #[must_use]
    pub fn keep(&self) -> OwnedEmission {
        OwnedEmission::of(self)
    }
}

impl EventName {
    /// The most parts that a name may have.
    pub const PARTS_MAX: usize = 16;

    /// A name known when the program is compiled.
    ///
    /// # Panics
    ///
    /// If there is no part, an empty part, or more than [`PARTS_MAX`](Self::PARTS_MAX) parts; in a `static` or `const`,
    /// as it is meant to be used, this is an error of the compiler.
    #[must_use]
    pub const fn from_static(parts: &'static [&'static str]) -> Self {
        Self::static_with(parts, None)
    }

    /// A name made at run time.
    ///
    /// # Errors
    ///
    /// [`EventNameError`] if there is no part, an empty part, or more than [`PARTS_MAX`](Self::PARTS_MAX) parts.
    pub fn new<I>(parts: I) -> Result<Self, EventNameError>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let segments: Vec<String> = parts.into_iter().map(Into::into).collect();
        if !(1..=Self::PARTS_MAX).contains(&segments.len()) || segments.iter().any(String::is_empty)
        {
            return Err(EventNameError { segments });
        }
        let hash = segments
            .iter()
            .fold(Fnv::EMPTY, |hash, part| hash_part(hash, part.as_bytes()));
        Ok(Self {
            parts: Parts::Shared(segments.into_iter().map(String::into_boxed_str).collect()),
            last: None,
            hash,
        })
    }

    /// These parts and perhaps one more, which does not count towards the limit.
    pub(super) const fn static_with(
        parts: &'static [&'static str],
        last: Option<&'static str>,
    ) -> Self {
        assert!(
            !parts.is_empty() && parts.len() <= Self::PARTS_MAX,
            "an event name has 1 to 16 parts"
        );
        let mut hash = Fnv::EMPTY;
        let mut at = 0;
        while at < parts.len() {
            assert!(!parts[at].is_empty(), "an event name has no empty part");
            hash = hash_part(hash, parts[at].as_bytes());
            at += 1;
        }
        if let Some(last) = last {
            hash = hash_part(hash, last.as_bytes());
        }
        Self {
            parts: Parts::Static(parts),
            last,
            hash,
        }
    }

    /// This name and one part more.
    pub(super) fn followed_by(&self, last: &'static str) -> Self {
        Self {
            parts: self.parts.clone(),
            last: Some(last),
            hash: hash_part(self.hash, last.as_bytes()),
        }
    }

    /// The parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.part(at))
    }

    pub(super) fn starts_with(&self, prefix: &[&str]) -> bool {
        prefix.len() <= self.len()
            && self
                .parts()
                .zip(prefix)
                .all(|(part, wanted)| part == *wanted)
    }

    fn len(&self) -> usize {
        let before = match &self.parts {
            Parts::Static(parts) => parts.len(),
            Parts::Shared(parts) => parts.len(),
        };
        before + usize::from(self.last.is_some())
    }

    fn part(&self, at: usize) -> &str {
        let part = match &self.parts {
            Parts::Static(parts) => parts.get(at).copied(),
            Parts::Shared(parts) => parts.get(at).map(|part| &**part),
        };
        part.or(self.last).unwrap_or_default()
    }

    /// The very same list of parts: true for clones of one name, and mostly for a `static`.
    fn is_same(&self, other: &Self) -> bool {
        let parts = match (&self.parts, &other.parts) {
            (Parts::Static(one), Parts::Static(two)) => std::ptr::eq(*one, *two),
            (Parts::Shared(one), Parts::Shared(two)) => Arc::ptr_eq(one, two),
            _ => false,
        };
        parts && self.last == other.last
    }
}

const fn hash_part(hash: Fnv, part: &[u8]) -> Fnv {
    // Not a byte of UTF-8: keeps `a, bc` and `ab, c` apart.
    hash.and(part).and(&[0xff])
}

impl PartialEq for EventName {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (self.is_same(other) || self.parts().eq(other.parts()))
    }
}

impl Eq for EventName {}

impl std::hash::Hash for EventName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash.get());
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{part}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts()).finish()
    }
}

impl<'a> Measurements<'a> {
    pub(super) fn new(own: &'a [(&'a str, Number)], standard: &'a [(&'a str, Number)]) -> Self {
        Self { own, standard }
    }

    /// The number of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Number> {
        let mut all = self.standard.iter().chain(self.own);
        all.find(|(other, _)| *other == name)
            .map(|(_, number)| *number)
    }

    /// All names and numbers; a name comes once, except where the emitter gave it twice.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Number)> + use<'a> {
        let (own, standard) = (self.own, self.standard);
        let is_standard = move |name: &str| standard.iter().any(|(other, _)| *other == name);
        standard.iter().copied().chain(
            own.iter()
                .copied()
                .filter(move |(name, _)| !is_standard(name)),
        )
    }
}

impl<'a> Metadata<'a> {
    pub(super) fn new(own: &'a [(&'a str, Field<'a>)], added: &'a [(&'a str, Field<'a>)]) -> Self {
        Self { own, added }
    }

    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Field<'a>> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, field)| field)
    }

    /// The text of this name, if it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.get(name)? {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + use<'a> {
        let (own, added) = (self.own, self.added);
        let is_own = |name: &str| own.iter().any(|(other, _)| *other == name);
        let added = added.iter().filter(move |(name, _)| !is_own(name));
        own.iter().chain(added).copied()
    }
}

impl Number {
    /// The number as a float; exact up to 2^53.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "said in the doc")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::UInt(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::UInt(number) => number.fmt(f),
            Self::Float(number) => fmt::Debug::fmt(number, f),
        }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(field) => field.fmt(f),
            Self::Number(field) => field.fmt(f),
            Self::Text(field) => field.fmt(f),
            Self::Debug(field) => field.fmt(f),
            Self::Event(field) => fmt::Display::fmt(field, f),
        }
    }
}

macro_rules! number_from {
    ($($kind:ty => $variant:ident),+) => {$(
        impl From<$kind> for Number {
            fn from(number: $kind) -> Self {
                Self::$variant(number.into())
            }
        }

        impl From<$kind> for Field<'_> {
            fn from(number: $kind) -> Self {
                Self::Number(number.into())
            }
        }
    )+};
}

number_from!(i8 => Int, i16 => Int, i32 => Int, i64 => Int, u8 => UInt, u16 => UInt, u32 => UInt, u64 => UInt, f32 => Float, f64 => Float);

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self::UInt(number as u64)
    }
}

impl From<usize> for Field<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number.into())
    }
}

impl From<Number> for Field<'_> {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Field<'_> {
    fn from(field: bool) -> Self {
        Self::Bool(field)
    }
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(field: &'a str) -> Self {
        Self::Text(field)
    }
}

impl<'a> From<&'a String> for Field<'a> {
    fn from(field: &'a String) -> Self {
        Self::Text(field)
    }
}

impl<'a> From<&'a EventName> for Field<'a> {
    fn from(field: &'a EventName) -> Self {
        Self::Event(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_parts_however_it_was_made() {
        static FIXED: EventName = EventName::from_static(&["db", "query", "stop"]);
        let made = EventName::new(["db", "query", "stop"]).expect("good name");
        let grown = EventName::from_static(&["db", "query"]).followed_by("stop");
        for (one, two) in [(&FIXED, &made), (&made, &grown), (&grown, &FIXED)] {
            assert_eq!(one, two);
            assert_eq!(one.hash, two.hash);
        }
        assert_ne!(FIXED, EventName::from_static(&["db", "query"]));
        assert_ne!(
            EventName::from_static(&["a", "bc"]),
            EventName::from_static(&["ab", "c"])
        );
    }

    #[test]
    fn a_name_has_parts_and_none_of_them_empty() {
        assert!(EventName::new(Vec::<String>::new()).is_err());
        assert!(EventName::new(["a", ""]).is_err());
        assert!(EventName::new(vec!["a"; 17]).is_err());
        assert!(EventName::new(vec!["a"; 16]).is_ok());
    }

    #[test]
    fn numbers_stay_what_they_were() {
        assert_eq!(Number::from(-3), Number::Int(-3));
        assert_eq!(Number::from(u64::MAX), Number::UInt(u64::MAX));
        assert_eq!(Number::from(2.0).to_string(), "2.0");
        assert_eq!(Number::from(2).to_string(), "2");
    }
}
