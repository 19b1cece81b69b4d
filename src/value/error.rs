use std::fmt;

use super::Path;

/// Why a value or a path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
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
    /// The text is not JSON.
    #[error("not JSON at line {line}, column {column}: {what}")]
    Json {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, in bytes, from 1; 0 at a line's start.
        column: usize,
        /// What the parser found.
        what: String,
    },
    /// The text is not a path.
    #[error("path {path:?} {fault}")]
    Path {
        /// The refused path; cut when it is long.
        path: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// A path leads through something that is not a map.
    #[error("{at} is {found}, not a map; replace {at} as a whole or choose another path")]
    NotAMap {
        /// The part of the path that leads to the obstacle.
        at: Path,
        /// What stands there.
        found: &'static str,
    },
    /// The value does not fit the program's type, or the program's type does not fit a value.
    #[error("{}{what}", Prefix(.at))]
    Mismatch {
        /// Where, such as `http.ports[2]`; empty at the outermost level.
        at: String,
        /// What was expected and what was found; cut in the middle when it is long.
        what: String,
    },
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathFault {
    /// It has no components.
    #[error("is empty; name at least one component, as in `http.port`")]
    Empty,
    /// It has too many components.
    #[error("has more than {} components; shorten it", Path::COMPONENTS_MAX)]
    TooMany,
    /// A component is empty.
    #[error("has an empty component; remove the extra dot")]
    EmptyComponent,
    /// A component is too long.
    #[error(
        "has a component above {} bytes; shorten it",
        Path::COMPONENT_BYTES_MAX
    )]
    LongComponent,
    /// A component holds a control character.
    #[error("has a control character; remove it")]
    Control,
    /// A quote is not closed, stands inside a bare component, or is not followed by a dot.
    #[error("has a misplaced quote; quote whole components, as in `http.\"status.code\"`")]
    Quote,
}

struct Prefix<'a>(&'a str);

impl ValueError {
    /// The same error, seen from one level further out, where this part has the name `key`.
    pub(super) fn under_key(self, key: &str) -> Self {
        self.under(|at| match at.chars().next() {
            None => key.to_owned(),
            Some('[') => format!("{key}{at}"),
            Some(_) => format!("{key}.{at}"),
        })
    }

    /// The same error, seen from the list in which this part has this index.
    pub(super) fn under_index(self, index: usize) -> Self {
        self.under(|at| match at.chars().next() {
            None => format!("[{index}]"),
            Some('[') => format!("[{index}]{at}"),
            Some(_) => format!("[{index}].{at}"),
        })
    }

    fn under(self, place: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Mismatch { at, what } => Self::Mismatch {
                at: place(&at),
                what,
            },
            other => other,
        }
    }

    fn mismatch(what: impl fmt::Display) -> Self {
        Self::Mismatch {
            at: String::new(),
            what: cut(what.to_string()),
        }
    }
}

/// serde shows the whole text that does not fit, which may be the largest that there is.
fn cut(what: String) -> String {
    const SHOWN_CHARS_MAX: usize = 400;
    let half = SHOWN_CHARS_MAX / 2;
    let mut chars = what.char_indices();
    match (chars.nth(half), chars.nth_back(half - 1)) {
        (Some((end, _)), Some((start, _))) => format!("{}…{}", &what[..end], &what[start..]),
        _ => what,
    }
}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::mismatch(what)
    }
}

impl serde::ser::Error for ValueError {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::mismatch(what)
    }
}

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            at => write!(f, "{at}: "),
        }
    }
}
