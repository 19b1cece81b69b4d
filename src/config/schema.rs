//! What a program says about its own settings. Pure.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use crate::value::{Components, Path, Value};

/// A serde struct that can be a table of the node's settings.
///
/// `Default` gives the lowest layer: what holds when no file, variable, flag or change says otherwise. Everything else has
/// a good default: any value of the right type is valid, every path may change while the program runs, nothing is secret.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use underpin::config::{Invalid, Rules, Schema};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(default)]
/// struct Settings {
///     workers: u32,
///     listen: String,
///     token: Option<String>,
/// }
///
/// impl Default for Settings {
///     fn default() -> Self {
///         Self { workers: 4, listen: "127.0.0.1:80".into(), token: None }
///     }
/// }
///
/// impl Schema for Settings {
///     fn validate(&self) -> Result<(), Invalid> {
///         if self.workers == 0 {
///             return Err(Invalid::range("workers", "at least one worker is needed; use 1 or more"));
///         }
///         Ok(())
///     }
///
///     fn rules() -> Rules {
///         Rules::live().restart("listen").secret("token")
///     }
/// }
/// ```
///
/// The struct must serialize what it deserializes: its serialized default is the lowest layer and tells which keys exist. So a serde
/// `alias` cannot be given: it would stand beside the default under the field's own name, and is refused as a duplicate.
/// Keys that a type swallows with `#[serde(flatten)]` or `#[serde(other)]`, or in an enum with a `tag` or none (`untagged`), cannot be told
/// from known ones and are accepted.
pub trait Schema: Serialize + DeserializeOwned + Default + Send + Sync + 'static {
    /// Checks the whole table, after every change and before anybody sees it. It must be quick and without effects: it runs
    /// inside the one writer, and also for dry runs.
    ///
    /// # Errors
    ///
    /// [`Invalid`] says which setting is wrong and what would be right.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// Which paths of the table may change while the program runs, and which are secret. Asked once.
    #[must_use]
    fn rules() -> Rules {
        Rules::live()
    }
}

/// Whether a setting may change while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutability {
    /// May change, and takes effect at once.
    Live,
    /// May be written, and takes effect when the program starts again.
    Restart,
    /// May not change while the program runs: only files, variables and flags set it.
    Fixed,
}

impl Mutability {
    /// The name in interfaces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::Fixed => "fixed",
        }
    }
}

/// The rules of a table by path, relative to the table; the longest matching path decides.
///
/// A path covers everything beneath it; a component `*` stands for any one key; the empty path is the whole table.
#[derive(Debug, Clone)]
pub struct Rules {
    otherwise: Mutability,
    mutability: Vec<(Pattern, Mutability)>,
    secrets: Vec<Pattern>,
    descriptions: Vec<(Pattern, Arc<str>)>,
}

/// Why a table as a whole is not valid, as [`Schema::validate`] says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is refused: {reason}")]
pub struct Invalid {
    /// The setting, relative to the table; empty when it is about the table as a whole.
    pub path: String,
    /// What sort of rule was broken.
    pub kind: InvalidKind,
    /// What is wrong and what would be right: lower case, no full stop. It is not shown when the setting is secret.
    pub reason: String,
}

/// What sort of rule a value breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidKind {
    /// The value does not pass its check.
    Failed,
    /// The value is not one of those that are known.
    Value,
    /// The value does not fit with others, or with what is possible.
    Constraint,
    /// The value is out of range.
    Range,
}

/// A table without a type: any settings, none checked, all live. What the plain node uses as the program's table.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct FreeTable(pub Value);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    parts: Vec<Arc<str>>,
    /// The same as a path, which is compared at once; none for a pattern with a `*`.
    literal: Option<Path>,
}

impl Rules {
    /// Every path may change at run time unless a rule says otherwise.
    #[must_use]
    pub fn live() -> Self {
        Self::otherwise(Mutability::Live)
    }

    /// No path may change at run time unless a rule says so.
    #[must_use]
    pub fn fixed() -> Self {
        Self::otherwise(Mutability::Fixed)
    }

    fn otherwise(otherwise: Mutability) -> Self {
        Self {
            otherwise,
            mutability: Vec::new(),
            secrets: Vec::new(),
            descriptions: Vec::new(),
        }
    }

    /// `path` may change and takes effect at once.
    #[must_use]
    pub fn allow(self, path: &str) -> Self {
        self.with(path, Mutability::Live)
    }

    /// `path` may be written and takes effect after a restart.
    #[must_use]
    pub fn restart(self, path: &str) -> Self {
        self.with(path, Mutability::Restart)
    }

    /// `path` may not change at run time.
    #[must_use]
    pub fn fix(self, path: &str) -> Self {
        self.with(path, Mutability::Fixed)
    }

    /// `path` is never shown: not in errors, history, audit, dumps or Debug.
    #[must_use]
    pub fn secret(mut self, path: &str) -> Self {
        self.secrets.push(Pattern::new(path));
        self
    }

    /// What `path` is, for the file that [`template`](super::template) writes.
    #[must_use]
    pub fn describe(mut self, path: &str, words: impl Into<Arc<str>>) -> Self {
        self.descriptions.push((Pattern::new(path), words.into()));
        self
    }

    /// What `path` is, in the words of the last [`describe`](Self::describe) for it.
    #[must_use]
    pub fn description(&self, path: &Path) -> Option<&str> {
        let described = self.descriptions.iter().rev();
        let mut fitting = described.filter(|(pattern, _)| {
            pattern.parts.len() == path.len() && pattern.covers(path.components())
        });
        fitting.next().map(|(_, words)| &**words)
    }

    /// Also secret, by its type.
    pub(super) fn also_secret(&mut self, place: &Path) {
        self.secrets.push(Pattern::of(place.components()));
    }

    fn with(mut self, path: &str, mutability: Mutability) -> Self {
        self.mutability.push((Pattern::new(path), mutability));
        self
    }

    /// Whether `path` (relative to the table) may change at run time.
    #[must_use]
    pub fn mutability(&self, path: &Path) -> Mutability {
        self.mutability_of(&path.parts())
    }

    /// Whether `path` (relative to the table) is secret.
    #[must_use]
    pub fn is_secret(&self, path: &Path) -> bool {
        self.hides(&path.components())
    }

    pub(super) fn mutability_of(&self, path: &Components<'_>) -> Mutability {
        self.mutability
            .iter()
            .filter(|(pattern, _)| match &pattern.literal {
                Some(literal) => path.start_with(literal),
                None => pattern.covers(path.clone()),
            })
            .max_by_key(|(pattern, _)| pattern.parts.len())
            .map_or(self.otherwise, |(_, mutability)| *mutability)
    }

    pub(super) fn hides<'a>(&self, path: &(impl Iterator<Item = &'a str> + Clone)) -> bool {
        self.secrets
            .iter()
            .any(|pattern| pattern.covers(path.clone()))
    }

    /// Whether something at `path`, above it or beneath it is secret: what is said about it may give the secret away.
    pub(super) fn touches_secret<'a>(
        &self,
        path: &(impl Iterator<Item = &'a str> + Clone),
    ) -> bool {
        self.secrets.iter().any(|pattern| {
            pattern
                .parts
                .iter()
                .zip(path.clone())
                .all(|(mine, theirs)| fits(mine, theirs))
        })
    }
}

impl Pattern {
    fn new(path: &str) -> Self {
        Self::of(path.split('.').filter(|part| !part.is_empty()))
    }

    fn of<'a>(parts: impl Iterator<Item = &'a str> + Clone) -> Self {
        let has_star = parts.clone().any(|part| part == "*");
        let literal = match parts.clone().next() {
            None => Some(Path::root()),
            Some(_) if has_star => None,
            Some(_) => Path::from_components(parts.clone()).ok(),
        };
        Self {
            parts: parts.map(Arc::from).collect(),
            literal,
        }
    }

    fn covers<'a>(&self, mut path: impl Iterator<Item = &'a str>) -> bool {
        self.parts
            .iter()
            .all(|mine| path.next().is_some_and(|theirs| fits(mine, theirs)))
    }
}

fn fits(mine: &str, theirs: &str) -> bool {
    mine == "*" || mine == theirs
}

impl Invalid {
    /// A value that does not pass its check.
    pub fn failed(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(InvalidKind::Failed, path, reason)
    }

    /// A value that is not one of those that are known.
    pub fn value(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(InvalidKind::Value, path, reason)
    }

    /// A value that does not fit with others.
    pub fn constraint(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(InvalidKind::Constraint, path, reason)
    }

    /// A value out of range.
    pub fn range(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(InvalidKind::Range, path, reason)
    }

    fn new(kind: InvalidKind, path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind,
            reason: reason.into(),
        }
    }
}

impl Default for FreeTable {
    fn default() -> Self {
        Self(Value::map())
    }
}

impl Schema for FreeTable {
    fn validate(&self) -> Result<(), Invalid> {
        match self.0 {
            Value::Map(_) => Ok(()),
            _ => Err(Invalid::failed("", "it must be a table of settings")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("test path is valid")
    }

    #[test]
    fn the_longest_rule_decides() {
        let rules = Rules::fixed()
            .allow("dev")
            .fix("dev.level")
            .restart("dev.*.port");

        assert_eq!(rules.mutability(&path("dev.debug")), Mutability::Live);
        assert_eq!(rules.mutability(&path("dev.level")), Mutability::Fixed);
        assert_eq!(
            rules.mutability(&path("dev.http.port")),
            Mutability::Restart
        );
        assert_eq!(rules.mutability(&path("other")), Mutability::Fixed);
    }

    proptest! {
        #[test]
        fn of_the_rules_that_fit_the_longest_and_of_these_the_last_decides(
            rules in vec((vec("[ab*]{1,2}", 0..4), 0..3_usize), 0..6),
            asked in vec("[ab]{1,2}", 0..5),
        ) {
            const KINDS: [Mutability; 3] = [Mutability::Live, Mutability::Restart, Mutability::Fixed];
            let mut decided = (0, Mutability::Fixed);
            let mut built = Rules::fixed();
            for (parts, kind) in &rules {
                let fits = parts.len() <= asked.len()
                    && parts.iter().zip(&asked).all(|(mine, theirs)| mine == "*" || mine == theirs);
                if fits && parts.len() >= decided.0 {
                    decided = (parts.len(), KINDS[*kind]);
                }
                built = built.with(&parts.join("."), KINDS[*kind]);
            }
            let asked = Path::from_components(asked.iter().map(String::as_str));
            let asked = asked.unwrap_or_default(); // no names are the root

            prop_assert_eq!(built.mutability(&asked), decided.1);
        }
    }

    #[test]
    fn a_secret_covers_what_is_beneath_it() {
        let rules = Rules::live().secret("ai.key").secret("accounts.*.password");

        assert!(rules.is_secret(&path("ai.key.part")));
        assert!(rules.is_secret(&path("accounts.ann.password")));
        assert!(!rules.is_secret(&path("ai")));
        assert!(rules.touches_secret(&["ai"].into_iter()));
        assert!(!rules.touches_secret(&["accounts", "ann", "name"].into_iter()));
    }
}
