//! Emissions that outlive their emitter.

use super::{Emission, EventName, Field, Measurements, Metadata, Number};

/// An emission that was kept: for handlers that run elsewhere, and for tests.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedEmission {
    name: EventName,
    measurements: Vec<(Box<str>, Number)>,
    metadata: Vec<(Box<str>, OwnedField)>,
    weight: u32,
}

/// A metadata value that was kept. What is neither a yes or no, a number nor an event's name is its text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OwnedField {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text, or what something looked like.
    Text(Box<str>),
    /// The name of another event.
    Event(EventName),
}

/// The longest text that is kept, in bytes: a queue holds so many emissions of some hundred bytes, not so many documents.
const TEXT_BYTES_MAX: usize = 4096;

impl OwnedEmission {
    pub(super) fn of(emission: &Emission<'_>) -> Self {
        let measurements = emission.measurements.iter();
        let metadata = emission.metadata.iter();
        Self {
            name: emission.name.clone(),
            measurements: measurements.map(|(name, n)| (name.into(), n)).collect(),
            metadata: metadata
                .map(|(name, field)| (name.into(), OwnedField::of(field)))
                .collect(),
            weight: emission.weight,
        }
    }

    /// Which event.
    #[must_use]
    pub fn name(&self) -> &EventName {
        &self.name
    }

    /// How many emissions this one stands for; see [`Emission::weight`].
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The measured number of this name.
    #[must_use]
    pub fn measurement(&self, name: &str) -> Option<Number> {
        let mut all = self.measurements();
        all.find_map(|(other, number)| (other == name).then_some(number))
    }

    /// All measurements, in order.
    pub fn measurements(&self) -> impl Iterator<Item = (&str, Number)> {
        self.measurements.iter().map(|(name, n)| (&**name, *n))
    }

    /// The metadata of this name.
    #[must_use]
    pub fn metadata_of(&self, name: &str) -> Option<&OwnedField> {
        let mut all = self.metadata();
        all.find_map(|(other, field)| (other == name).then_some(field))
    }

    /// The text of this name, if it is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.metadata_of(name)? {
            OwnedField::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All metadata, in order.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &OwnedField)> {
        self.metadata.iter().map(|(name, field)| (&**name, field))
    }

    /// Shows it as a handler sees it.
    pub fn with<T>(&self, see: impl FnOnce(&Emission<'_>) -> T) -> T {
        let measurements: Vec<(&str, Number)> = self.measurements().collect();
        let metadata: Vec<(&str, Field<'_>)> = self
            .metadata()
            .map(|(name, field)| (name, field.borrow()))
            .collect();
        see(&Emission {
            name: &self.name,
            measurements: Measurements::new(&measurements, &[]),
            metadata: Metadata::new(&metadata, &[]),
            weight: self.weight,
        })
    }
}

impl OwnedField {
    pub(super) fn of(field: Field<'_>) -> Self {
        match field {
            Field::Bool(field) => Self::Bool(field),
            Field::Number(field) => Self::Number(field),
            Field::Text(text) => Self::Text(cut(text).into()),
            Field::Debug(_) => Self::Text(cut(&field.to_string()).into()),
            Field::Event(name) => Self::Event(name.clone()),
        }
    }

    /// As it was given.
    #[must_use]
    pub fn borrow(&self) -> Field<'_> {
        match self {
            Self::Bool(field) => Field::Bool(*field),
            Self::Number(field) => Field::Number(*field),
            Self::Text(text) => Field::Text(text),
            Self::Event(name) => Field::Event(name),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_seen_again_as_it_was() {
        let name = EventName::from_static(&["shop", "sold"]);
        let about = EventName::from_static(&["shop", "opened"]);
        let measurements = [("pieces", Number::Int(3)), ("price", Number::Float(2.5))];
        let standard = [("price", Number::Float(9.0))];
        let metadata = [
            ("article", Field::Text("tea")),
            ("new", Field::Bool(true)),
            ("of", Field::Debug(&(1, 2))),
            ("about", Field::Event(&about)),
        ];
        let emission = Emission {
            name: &name,
            measurements: Measurements::new(&measurements, &standard),
            metadata: Metadata::new(&metadata, &[("more", Field::Number(Number::UInt(1)))]),
            weight: 7,
        };

        let kept = emission.keep();

        assert_eq!((kept.name(), kept.weight()), (&name, 7));
        assert_eq!(kept.measurement("price"), Some(Number::Float(9.0)));
        assert_eq!(kept.text("article"), Some("tea"));
        assert_eq!(kept.text("of"), Some("(1, 2)"));
        assert_eq!(kept.metadata_of("about"), Some(&OwnedField::Event(about)));
        assert_eq!(kept.with(OwnedEmission::of), kept);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ä".repeat(TEXT_BYTES_MAX);
        let OwnedField::Text(kept) = OwnedField::of(Field::Text(&text)) else {
            panic!("a text")
        };
        assert_eq!(kept.len(), TEXT_BYTES_MAX);
        let odd = format!("a{text}");
        assert_eq!(
            OwnedField::of(Field::Text(&odd)),
            OwnedField::Text(odd[..TEXT_BYTES_MAX - 1].into())
        );
    }
}
