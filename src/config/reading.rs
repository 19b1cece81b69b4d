//! What given texts may mean: one by itself, or those that make a list together. Pure.

use std::collections::{HashMap, VecDeque};

use super::{Origin, source::Reading};
use crate::value::{Map, Path, Value};

/// What is given for a setting, read in one way.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// With the variable that says it, where that is only a part of what is given.
    Text(Reading, Option<Origin>),
    List(Vec<Meaning>),
    Table(Vec<(String, Meaning)>),
}

/// A meaning, and the other ones that are tried when it does not fit the type.
pub(super) struct Choice {
    pub(super) now: Meaning,
    /// Each of several texts in its other reading.
    together: VecDeque<Meaning>,
}

impl Choice {
    /// Nothing is no reading of a text that `has_to_be`, which is told the text's place in the setting.
    pub(super) fn new(mut meaning: Meaning, has_to_be: impl Fn(&str) -> bool) -> Self {
        let mut most = 0;
        for (place, text) in meaning.texts("") {
            if has_to_be(&place) {
                text.others.retain(|other| !other.is_null());
            }
            most = most.max(text.others.len());
        }
        let several = if matches!(meaning, Meaning::Text(..)) {
            0
        } else {
            most
        };
        let together = (0..several).map(|at| meaning.otherwise(at));
        let now = meaning.value();
        Self {
            together: together.filter(|other| other.value() != now).collect(),
            now: meaning,
        }
    }

    /// The next meaning to try for the setting `at`, and the place that it has to mend: first all texts in other readings, then one
    /// by one those that stand where `is_mistyped` says. Each is given once.
    pub(super) fn other(
        &mut self,
        at: &str,
        is_mistyped: impl Fn(&str) -> bool,
    ) -> Option<(String, Meaning)> {
        if !is_mistyped(at) {
            return None;
        }
        if let Some(other) = self.together.pop_front() {
            return Some((at.to_owned(), other));
        }
        let mut texts = self.now.texts(at).into_iter().enumerate();
        let (nth, place, value) = texts.find_map(|(nth, (place, text))| {
            let value = text.others.pop_front_if(|_| is_mistyped(&place))?;
            Some((nth, place, value))
        })?;
        let mut other = self.now.clone();
        for (_, text) in other.texts(at).into_iter().skip(nth).take(1) {
            text.first = value.clone();
        }
        Some((place, other))
    }
}

impl Meaning {
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Text(text, _) => text.first.clone(),
            Self::List(items) => Value::from(items.iter().map(Self::value).collect::<Vec<_>>()),
            Self::Table(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, item)| (key.as_str(), item.value()));
                entries.collect::<Map>().into()
            }
        }
    }

    /// Where its parts come from, by their paths; it stands `at` one itself. Of several the first.
    pub(super) fn origins(&self, at: &Path) -> HashMap<Path, Origin> {
        let mut found = HashMap::new();
        self.note(at, &mut found);
        found
    }

    fn note(&self, at: &Path, found: &mut HashMap<Path, Origin>) -> Option<Origin> {
        let mut inside = |key: &str, meaning: &Self| meaning.note(&at.child(key).ok()?, found);
        let first = match self {
            Self::Text(_, origin) => origin.clone(),
            Self::List(items) => {
                let items = items.iter().enumerate();
                let noted = items.map(|(nth, item)| inside(&nth.to_string(), item));
                noted.fold(None, Option::or)
            }
            Self::Table(entries) => {
                let noted = entries.iter().map(|(key, item)| inside(key, item));
                noted.fold(None, Option::or)
            }
        };
        found.extend(first.clone().map(|origin| (at.clone(), origin)));
        first
    }

    /// The texts in it, each with its place as errors name it; it stands `at` one itself.
    fn texts(&mut self, at: &str) -> Vec<(String, &mut Reading)> {
        match self {
            Self::Text(text, _) => vec![(at.to_owned(), text)],
            Self::List(items) => {
                let items = items.iter_mut().enumerate();
                let texts = items.map(|(nth, item)| item.texts(&format!("{at}[{nth}]")));
                texts.flatten().collect()
            }
            Self::Table(entries) => {
                let texts = entries
                    .iter_mut()
                    .map(|(key, item)| item.texts(&format!("{at}.{key}")));
                texts.flatten().collect()
            }
        }
    }

    /// With every text in its other reading; one that is empty stays what it is, since nothing fits fewer types than text.
    fn otherwise(&self, at: usize) -> Self {
        let mut other = self.clone();
        for (_, text) in other.texts("") {
            text.others.retain(|other| !other.is_null());
            let chosen = text.others.get(at).or(text.others.back());
            if let Some(chosen) = chosen.cloned() {
                text.first = chosen;
            }
            text.others.clear();
        }
        other
    }
}
