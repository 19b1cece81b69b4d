//! From layers to settings: what holds before any change while running. Pure.

use std::{path::PathBuf, sync::Arc};

use super::{
    Origin, Problem, Revision, Sources,
    error::Refusal,
    reading::{Choice, Meaning},
    source::{self, Given, Layer},
    sources::Variables,
    state::{Ground, State, joined, unknown_field},
    table::{Table, Tables, Typed},
    toml_file, tree,
};
use crate::value::{Limits, Path, Value};

/// A settings file that could be read, in the order of the layers.
pub(super) struct FileText {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

/// What is laid over the files.
pub(super) struct Overrides {
    given: Vec<Given>,
    problems: Vec<Problem>,
}

/// The document of all defaults.
pub(super) fn defaults(tables: &Tables) -> Result<Value, Problem> {
    let mut document = Value::map();
    for table in &tables.0 {
        let refuse = |reason: String| Problem::Defaults {
            table: table.name,
            reason,
        };
        let value = table
            .defaults()
            .map_err(|error| refuse(error.to_string()))?;
        value
            .check(Limits::CONFIG)
            .map_err(|error| refuse(error.to_string()))?;
        document = document
            .with(&table.at, value)
            .map_err(|error| refuse(error.to_string()))?;
    }
    Ok(document)
}

/// The files as one layer.
pub(super) fn files(texts: &[FileText]) -> Result<Layer, Vec<Problem>> {
    let mut merged = Layer::new(Value::map(), Origin::Default);
    let mut problems = Vec::new();
    for FileText { file, text } in texts {
        match toml_file::read_toml(file, text) {
            Ok(layer) => merged = merged.merge(layer),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(merged)
    } else {
        Err(problems)
    }
}

/// The variables and flags, read but not yet typed.
pub(super) fn overrides(sources: &Sources, variables: &Variables, known: &Value) -> Overrides {
    let (mut given, mut problems) = source::read_environment(
        &variables.texts,
        &sources.prefix,
        sources.app_prefix.as_deref(),
        known,
    );
    for set in &sources.sets {
        match source::read_set(set) {
            Ok(one) => given.push(one),
            Err(problem) => problems.push(problem),
        }
    }
    let ours = |name: &&String| {
        let is = |prefix: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with("__"))
        };
        is(&sources.prefix) || sources.app_prefix.as_deref().is_some_and(is)
    };
    problems.extend(
        variables
            .unreadable
            .iter()
            .filter(ours)
            .map(|name| Problem::Unnamed {
                origin: Origin::Environment {
                    variable: name.as_str().into(),
                },
                reason: "its value is not UTF-8; set it to text".to_owned(),
            }),
    );
    Overrides { given, problems }
}

/// Lays the layers over one another, reads the result into the types and validates it. All that is wrong is told.
pub(super) fn assemble(
    tables: &Arc<Tables>,
    defaults: &Value,
    files: &Layer,
    overrides: &Overrides,
) -> Result<State, Vec<Problem>> {
    let stack = Stack {
        tables,
        defaults,
        files,
        below: defaults.merge(&files.values),
        given: &overrides.given,
    };
    let (layers, found) = stack.read_given()?;
    let faults = found
        .as_ref()
        .err()
        .into_iter()
        .flatten()
        .map(|fault| fault.problem.clone());
    let problems: Vec<Problem> = overrides.problems.iter().cloned().chain(faults).collect();
    match found {
        Ok((document, typed)) if problems.is_empty() => Ok(State {
            tables: Arc::clone(tables),
            ground: Arc::new(Ground {
                layers: layers.into(),
                base: document.clone(),
                loaded: document.clone(),
                held: Vec::new(),
            }),
            document,
            typed,
            overlay: Vec::new(),
            aside: Vec::new(),
            revision: Revision(0),
            updates: 0,
            last_update: None,
        }),
        _ => Err(problems),
    }
}

/// The layers that do not change while the given texts are tried.
struct Stack<'a> {
    tables: &'a Tables,
    defaults: &'a Value,
    files: &'a Layer,
    below: Value,
    given: &'a [Given],
}

type Found = Result<(Value, Vec<Typed>), Vec<Fault>>;

impl Stack<'_> {
    /// Reads the given texts as what they are most likely meant to be, and those that do not fit in their other readings. Each
    /// one is tried once, so this ends.
    fn read_given(&self) -> Result<([Layer; 3], Found), Vec<Problem>> {
        let choice = |given: &Given| {
            // Without a secret something may be open that was not.
            let has_to_be = |inside: &str| self.tables.touches_secret(&given.path, inside);
            Choice::new(given.said.read(self.below.get(&given.path)), has_to_be)
        };
        let mut choices: Vec<Choice> = self.given.iter().map(choice).collect();
        let (mut layers, mut found) = self.read(&choices)?;
        while let Some((index, place, next)) = found
            .as_ref()
            .err()
            .and_then(|faults| self.other_reading(faults, &mut choices))
        {
            let before = std::mem::replace(&mut choices[index].now, next);
            let (other_layers, other) = self.read(&choices)?;
            let mut faults = other.as_ref().err().into_iter().flatten();
            if faults.any(|fault| fault.is_mistyped(&place)) {
                choices[index].now = before;
            } else {
                (layers, found) = (other_layers, other);
            }
        }
        Ok((layers, found))
    }

    /// What stands where a value has the wrong type, the place, and what else may be meant.
    fn other_reading(
        &self,
        faults: &[Fault],
        choices: &mut [Choice],
    ) -> Option<(usize, String, Meaning)> {
        let is_mistyped = |place: &str| faults.iter().any(|fault| fault.is_mistyped(place));
        let mut candidates = self.given.iter().zip(choices).enumerate();
        candidates.find_map(|(index, (given, choice))| {
            let (place, next) = choice.other(&given.path.to_string(), is_mistyped)?;
            Some((index, place, next))
        })
    }

    fn read(&self, choices: &[Choice]) -> Result<([Layer; 3], Found), Vec<Problem>> {
        let nothing = || Layer::new(Value::map(), Origin::Default);
        let (mut variables, mut flags) = (nothing(), nothing());
        for (given, choice) in self.given.iter().zip(choices) {
            let layer = match given.origin {
                Origin::Flag { .. } => &mut flags,
                _ => &mut variables,
            };
            let below = std::mem::replace(layer, nothing());
            let mut origins = choice.now.origins(&given.path);
            origins.insert(given.path.clone(), given.origin.clone());
            let put = below.put(&given.path, choice.now.value(), origins);
            *layer = put.map_err(|error| {
                vec![Problem::Unnamed {
                    origin: given.origin.clone(),
                    reason: error.to_string(),
                }]
            })?;
        }
        let document = self.below.merge(&variables.values).merge(&flags.values);
        let layers = [self.files.clone(), variables, flags];
        let found = read(self.tables, self.defaults, &layers, document);
        Ok((layers, found))
    }
}

struct Fault {
    problem: Problem,
    /// Where a value does not have the right type.
    mistyped: Option<String>,
}

impl Fault {
    fn new(problem: Problem) -> Self {
        Self {
            problem,
            mistyped: None,
        }
    }

    /// Whether the value at `place`, or around it, or in it, does not have the right type.
    fn is_mistyped(&self, place: &str) -> bool {
        let near = |fault: &String| is_within(fault, place) || is_within(place, fault);
        self.mistyped.as_ref().is_some_and(near)
    }
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// How many wrong values of one table are told at once, and how many keys that nobody knows: what was meant is looked for among
/// all that are there.
const FAULTS_MAX: usize = 32;

/// The first of these keys, and how many more there are.
fn first_ones(mut unknown: impl ExactSizeIterator<Item = Problem>) -> Vec<Problem> {
    let mut told: Vec<_> = unknown.by_ref().take(FAULTS_MAX).collect();
    let count = unknown.len();
    told.extend((count > 0).then_some(Problem::MoreUnknown { count }));
    told
}

fn read(tables: &Tables, defaults: &Value, layers: &[Layer], document: Value) -> Found {
    let mut faults: Vec<Fault> = unknown_tables(tables, layers, &document)
        .into_iter()
        .map(Fault::new)
        .collect();
    let mut filled = document;
    let mut typed = Vec::new();
    for table in &tables.0 {
        match read_table(table, defaults, layers, &filled) {
            Ok((document, read)) => {
                filled = document;
                typed.push(read);
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() {
        Ok((filled, typed))
    } else {
        Err(faults)
    }
}

/// Reads one table. A wrong value is told and then replaced by its default, so that the next one is found too.
fn read_table(
    table: &Table,
    defaults: &Value,
    layers: &[Layer],
    document: &Value,
) -> Result<(Value, Typed), Vec<Fault>> {
    let at = &table.at;
    let mut mended = document.clone();
    let mut faults = Vec::new();
    loop {
        let value = mended.get(at).unwrap_or(&Value::Null);
        let (fault, place) = match table.read(value) {
            Ok(read) => {
                if let Some(secret) = table.bare_secret(&read) {
                    let bare = Refusal::bare_secret(&secret);
                    faults.push(refused(layers, document, table.name, bare).0);
                }
                let unknown = table.unknown(value);
                let told = unknown.iter().map(|unknown| {
                    let parts =
                        std::iter::once(table.name).chain(unknown.iter().map(String::as_str));
                    unknown_key(layers, document, parts)
                });
                faults.extend(first_ones(told).into_iter().map(Fault::new));
                let whole = mended.with(at, table.fill(value, &read));
                return match whole {
                    Ok(whole) if faults.is_empty() => Ok((whole, read)),
                    Ok(_) => Err(faults),
                    Err(error) => {
                        faults.push(
                            refused(layers, document, table.name, type_fault(error.to_string())).0,
                        );
                        Err(faults)
                    }
                };
            }
            Err(refusal) => refused(layers, document, table.name, refusal),
        };
        faults.push(fault);
        let next = place.and_then(|place| with_default(&mended, defaults, &place));
        match next.filter(|_| faults.len() < FAULTS_MAX) {
            Some(next) => mended = next,
            None => return Err(faults),
        }
    }
}

/// The document with the default at `place`; `None` when that is what stands there.
fn with_default(document: &Value, defaults: &Value, place: &Path) -> Option<Value> {
    let next = match defaults.get(place) {
        Some(default) => source::with_tables(document, place, default.clone()).ok()?,
        None => document.without(place),
    };
    (next != *document).then_some(next)
}

fn type_fault(reason: String) -> Refusal {
    Refusal::Type {
        path: String::new(),
        reason,
    }
}

fn unknown_tables(tables: &Tables, layers: &[Layer], document: &Value) -> Vec<Problem> {
    let map = document
        .as_map()
        .into_iter()
        .flat_map(crate::value::Map::iter);
    let unknown = map.filter(|(key, _)| tables.0.iter().all(|table| table.name != *key));
    let unknown: Vec<&str> = unknown.map(|(key, _)| key).collect();
    let told = unknown.iter();
    first_ones(told.map(|key| misplaced(tables, layers, document, key)))
}

/// A key beside the tables: most likely the table's name was left out.
fn misplaced(tables: &Tables, layers: &[Layer], document: &Value, key: &str) -> Problem {
    let within = |table: &&Table| {
        Path::from_components([table.name, key]).is_ok_and(|path| document.get(&path).is_some())
    };
    let problem = unknown_key(layers, document, std::iter::once(key));
    match (problem, tables.0.iter().find(within)) {
        (Problem::UnknownKey { path, origin, .. }, Some(table)) => Problem::UnknownKey {
            suggestion: Some(format!("{}.{key}", table.name)),
            path,
            origin,
        },
        (problem, _) => problem,
    }
}

fn unknown_key<'a>(
    layers: &[Layer],
    document: &Value,
    parts: impl Iterator<Item = &'a str> + Clone,
) -> Problem {
    let path = Path::from_components(parts.clone());
    Problem::UnknownKey {
        path: path
            .as_ref()
            .map_or_else(|_| parts.collect::<Vec<_>>().join("."), Path::to_string),
        origin: path
            .as_ref()
            .map_or(Origin::Default, |path| origin(layers, path)),
        suggestion: path.ok().and_then(|path| suggest(document, &path)),
    }
}

/// The unknown key itself stands in the document, so it is taken out before the nearest one is looked for.
fn suggest(document: &Value, path: &Path) -> Option<String> {
    tree::did_you_mean(&document.without(path), path)
}

/// What is told of a refusal, and the setting that it is about.
fn refused(
    layers: &[Layer],
    document: &Value,
    table: &str,
    refusal: Refusal,
) -> (Fault, Option<Path>) {
    let (path, kind, reason, is_type) = match refusal {
        Refusal::Invalid(invalid) => (invalid.path, Some(invalid.kind), invalid.reason, false),
        Refusal::Type { path, reason } => (path, None, reason, true),
        Refusal::Panicked => {
            let reason = "the program's validation panicked; this is a defect of the program";
            (String::new(), None, reason.to_owned(), false)
        }
    };
    let place = |full: &str| {
        full.split('[')
            .next()
            .and_then(|path| Path::parse(path).ok())
    };
    if let Some(key) = unknown_field(&reason).filter(|_| is_type) {
        let full = joined(table, &joined(&path, key));
        let fault = Fault::new(unknown_key(layers, document, full.split('.')));
        return (fault, place(&full));
    }
    let full = joined(table, &path);
    let at = place(&full);
    // An item of a list has a line of its own. What looks like one may be a key of a table.
    let item = full.replace('[', ".").replace(']', "");
    let named = [Path::parse(&full).ok(), Path::parse(&item).ok(), at.clone()];
    let mut origins = named
        .iter()
        .flatten()
        .filter_map(|path| found_origin(layers, path));
    let fault = Fault {
        mistyped: is_type.then(|| full.clone()),
        problem: Problem::Refused {
            origin: origins.next().unwrap_or(Origin::Default),
            path: full,
            kind,
            reason,
        },
    };
    (fault, at)
}

fn origin(layers: &[Layer], path: &Path) -> Origin {
    found_origin(layers, path).unwrap_or(Origin::Default)
}

fn found_origin(layers: &[Layer], path: &Path) -> Option<Origin> {
    layers.iter().rev().find_map(|layer| layer.origin(path))
}
