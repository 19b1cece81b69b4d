//! What is said of a text that is no query.

use std::{fmt, ops::Range, sync::Arc};

use super::{DATA, FIELDS};

/// Why a text is no query, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    text: Arc<str>,
    at: Range<usize>,
    why: String,
}

impl std::error::Error for Misread {}

/// What is wrong, and where.
pub(super) type Fault = (Range<usize>, String);

impl Misread {
    pub(super) fn new(text: &str, (at, why): Fault) -> Self {
        let text = text.into();
        Self { text, at, why }
    }

    /// The text that was to be read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where in the text, in bytes.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Two lines: the text around the place, and a mark below it.
    #[must_use]
    pub fn pointer(&self) -> String {
        /// What is shown before and after the place, in characters: together with it about a line.
        const AROUND: usize = 40;
        let before: Vec<char> = self.text[..self.at.start]
            .chars()
            .rev()
            .take(AROUND)
            .collect();
        let shown: String = before.iter().rev().collect();
        let place: String = self.text[self.at.start..]
            .chars()
            .take(2 * AROUND)
            .collect();
        let marked = self.text[self.at.clone()].chars().count().clamp(1, AROUND);
        let line = format!("{shown}{place}").replace(char::is_control, " ");
        format!("{line}\n{}{}", " ".repeat(before.len()), "^".repeat(marked))
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.text[..self.at.start].chars().count() + 1;
        let place = clip(&self.text[self.at.clone()]);
        if place.is_empty() {
            write!(f, "{} (at character {column} of the query)", self.why)
        } else {
            write!(
                f,
                "{} (at `{place}`, character {column} of the query)",
                self.why
            )
        }
    }
}

pub(super) fn unknown(name: &str) -> String {
    let near = FIELDS
        .iter()
        .map(|(known, _)| *known)
        .chain([DATA])
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min();
    let advice = match near {
        Some((distance, known)) if distance <= 2 && name.len() > 2 => {
            format!("did you mean `{known}`?")
        }
        _ => {
            let names: Vec<_> = FIELDS.iter().map(|(known, _)| *known).collect();
            format!("there are {} and data.PATH", names.join(", "))
        }
    };
    let shown: String = name.chars().take(40).collect();
    format!("there is no field `{shown}`; {advice}")
}

/// The beginning of a text, for a message.
pub(super) fn clip(text: &str) -> String {
    const CHARS_SHOWN: usize = 40;
    let mut shown: String = text.chars().take(CHARS_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
