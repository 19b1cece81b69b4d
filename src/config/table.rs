//! A table of the document without its type, and the cell that publishes its typed form.

use std::{
    any::{Any, type_name},
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arc_swap::ArcSwap;

use super::{Mutability, Rules, Schema, error::Refusal, secret, shape, tree};
use crate::value::{Components, Path, Value, ValueError, to_value};

/// A table read into its type.
#[derive(Clone)]
pub(super) struct Typed {
    table: Arc<dyn Any + Send + Sync>,
    shape: Option<u64>,
}

/// What the core needs to know of a table's type.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Its place in the document.
    pub(super) at: Path,
    pub(super) rules: Rules,
    schema: Box<dyn AnySchema>,
}

/// The tables of the document.
#[derive(Debug)]
pub(super) struct Tables(pub(super) Vec<Table>);

/// Where the typed form of a table is published: readers load it without a lock.
pub(super) trait Cell: Send + Sync {
    fn publish(&self, typed: Typed);
    fn as_any(&self) -> &dyn Any;
}

trait AnySchema: Send + Sync {
    fn defaults(&self) -> Result<Value, ValueError>;
    fn read(&self, value: &Value) -> Result<Typed, ReadFault>;
    fn complete(&self, typed: &Typed) -> Option<Value>;
    fn secrets(&self, typed: &Typed) -> Vec<Path>;
    fn ignored(&self, value: &Value) -> Vec<Vec<String>>;
    fn cell(&self, typed: &Typed) -> Option<Box<dyn Cell>>;
    fn type_name(&self) -> &'static str;
}

enum ReadFault {
    Type(ValueError),
    Invalid(super::Invalid),
    Panicked,
}

struct Of<T>(PhantomData<fn() -> T>);

pub(super) struct CellOf<T>(pub(super) Arc<ArcSwap<T>>);

impl Typed {
    /// Whether both are one and the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }

    /// Whether both certainly have the same keys, and secrets in the same places.
    pub(super) fn has_shape_of(&self, other: &Self) -> bool {
        self.shape.is_some() && self.shape == other.shape
    }
}

impl Table {
    pub(super) fn of<T: Schema>(name: &'static str) -> Self {
        let mut rules = T::rules();
        // A default that cannot be serialized is told when it is loaded.
        for place in secret::places(&T::default()).unwrap_or_default() {
            rules.also_secret(&place);
        }
        Self {
            name,
            at: Path::from_components([name]).unwrap_or_default(),
            rules,
            schema: Box::new(Of::<T>(PhantomData)),
        }
    }

    /// The lowest layer: the default of the type, as a value.
    pub(super) fn defaults(&self) -> Result<Value, ValueError> {
        self.schema.defaults()
    }

    /// Reads the table into its type and validates it as a whole.
    pub(super) fn read(&self, value: &Value) -> Result<Typed, Refusal> {
        self.schema.read(value).map_err(|fault| self.censor(fault))
    }

    /// A secret of the type that no rule hides.
    pub(super) fn bare_secret(&self, typed: &Typed) -> Option<Path> {
        let mut secrets = self.schema.secrets(typed).into_iter();
        secrets.find(|place| !self.rules.is_secret(place))
    }

    /// The table with the keys that its type fills in by itself.
    pub(super) fn fill(&self, value: &Value, typed: &Typed) -> Value {
        match self.schema.complete(typed) {
            Some(complete) => tree::fill(value, &complete),
            None => value.clone(),
        }
    }

    /// The keys that the type does not know, as paths relative to the table.
    pub(super) fn unknown(&self, value: &Value) -> Vec<Vec<String>> {
        self.schema.ignored(value)
    }

    pub(super) fn cell(&self, typed: &Typed) -> Option<Box<dyn Cell>> {
        self.schema.cell(typed)
    }

    /// `value`, which stands at `rest` in the table, as it may be shown.
    pub(super) fn redact(&self, rest: Components<'_>, value: &Value) -> Value {
        if !self.rules.touches_secret(&rest) {
            return value.clone();
        }
        let relative = Path::from_components(rest).unwrap_or_default();
        tree::redact(&self.rules, &relative, value)
    }

    /// Says what is wrong without saying what a secret is.
    fn censor(&self, fault: ReadFault) -> Refusal {
        const NOT_SHOWN: &str =
            "the value is not accepted (it is secret, so the reason is not shown)";
        let hides = |path: &str| near_secret(&self.rules, &parts_of(path));
        match fault {
            ReadFault::Panicked => Refusal::Panicked,
            ReadFault::Invalid(mut invalid) => {
                // A rule about the table as a whole is the program's own sentence; it names what it chooses to name.
                if !invalid.path.is_empty() && hides(&invalid.path) {
                    NOT_SHOWN.clone_into(&mut invalid.reason);
                }
                Refusal::Invalid(invalid)
            }
            ReadFault::Type(ValueError::Mismatch { at, what }) => Refusal::Type {
                reason: if hides(&at) && !names_keys_only(&what) {
                    NOT_SHOWN.to_owned()
                } else {
                    what
                },
                path: at,
            },
            ReadFault::Type(error) => Refusal::Type {
                path: String::new(),
                reason: error.to_string(),
            },
        }
    }
}

impl Tables {
    pub(super) fn of<'a>(&self, path: &'a Path) -> Option<(&Table, Components<'a>)> {
        let mut components = path.parts();
        let first = components.next()?;
        let table = self.0.iter().find(|table| table.name == first)?;
        Some((table, components))
    }

    pub(super) fn mutability(&self, path: &Path) -> Mutability {
        self.of(path).map_or(Mutability::Fixed, |(table, rest)| {
            table.rules.mutability_of(&rest)
        })
    }

    /// Whether the place `inside` what stands at `path`, as errors name it, is near a secret.
    pub(super) fn touches_secret(&self, path: &Path, inside: &str) -> bool {
        let mut parts = path.components().chain(parts_of(inside));
        match parts.next() {
            None => self.0.iter().any(|table| near_secret(&table.rules, &parts)),
            Some(name) => {
                let table = self.0.iter().find(|table| table.name == name);
                table.is_some_and(|table| near_secret(&table.rules, &parts))
            }
        }
    }

    /// `value` at `path` as it may be shown.
    pub(super) fn redact(&self, path: &Path, value: &Value) -> Value {
        if let Some((table, rest)) = self.of(path) {
            return table.redact(rest, value);
        }
        let Value::Map(map) = value else {
            return value.clone();
        };
        let shown = map.iter().map(|(key, value)| {
            let path = path.child(key).unwrap_or_default();
            (key, self.redact(&path, value))
        });
        Value::Map(shown.collect())
    }
}

/// The parts of a place as errors name it: `servers[0].token`.
fn parts_of(place: &str) -> impl Iterator<Item = &str> + Clone {
    place.split(['.', '[']).filter(|part| !part.is_empty())
}

/// With the numbers of list items and without them: a rule may name what is in a list either way.
fn near_secret<'a>(rules: &Rules, parts: &(impl Iterator<Item = &'a str> + Clone)) -> bool {
    let keys = parts.clone().filter(|part| !part.ends_with(']'));
    rules.touches_secret(parts) || rules.touches_secret(&keys)
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("type", &self.schema.type_name())
            .finish_non_exhaustive()
    }
}

impl<T: Schema> AnySchema for Of<T> {
    fn defaults(&self) -> Result<Value, ValueError> {
        to_value(&T::default())
    }

    fn read(&self, value: &Value) -> Result<Typed, ReadFault> {
        // A panic in the program's own code is an answer to the one who caused it, not the end of the service.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let typed: T = T::deserialize(value).map_err(ReadFault::Type)?;
            typed.validate().map_err(ReadFault::Invalid)?;
            let shape = shape::of(&typed);
            Ok(Typed {
                table: Arc::new(typed),
                shape,
            })
        }));
        read.unwrap_or(Err(ReadFault::Panicked))
    }

    fn complete(&self, typed: &Typed) -> Option<Value> {
        to_value(typed.table.downcast_ref::<T>()?).ok()
    }

    fn secrets(&self, typed: &Typed) -> Vec<Path> {
        let places = typed.table.downcast_ref::<T>().map(secret::places);
        places.and_then(Result::ok).unwrap_or_default()
    }

    fn ignored(&self, value: &Value) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        let read = catch_unwind(AssertUnwindSafe(|| {
            serde_ignored::deserialize::<_, _, T>(value, |path| found.push(parts(&path))).is_ok()
        }));
        // What cannot be read at all is told by `read`, with its place.
        if read.is_err() {
            found.clear();
        }
        found
    }

    fn cell(&self, typed: &Typed) -> Option<Box<dyn Cell>> {
        let typed = Arc::clone(&typed.table).downcast::<T>().ok()?;
        Some(Box::new(CellOf(Arc::new(ArcSwap::new(typed)))))
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }
}

impl<T: Schema> Cell for CellOf<T> {
    fn publish(&self, typed: Typed) {
        // Only this table's own reader makes what comes here, so the type is always this one.
        if let Ok(typed) = typed.table.downcast::<T>() {
            self.0.store(typed);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// serde's two messages that never hold a value.
fn names_keys_only(what: &str) -> bool {
    what.starts_with("missing field `") || what.starts_with("unknown field `")
}

fn parts(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path as P;
    match path {
        P::Root => Vec::new(),
        P::Seq { parent, index } => with_part(parts(parent), index.to_string()),
        P::Map { parent, key } => with_part(parts(parent), key.clone()),
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => {
            parts(parent)
        }
    }
}

fn with_part(mut parts: Vec<String>, part: String) -> Vec<String> {
    parts.push(part);
    parts
}
