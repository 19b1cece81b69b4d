//! TOML, and where in a file each value stands. Pure.

use std::{
    collections::HashMap,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Origin, Problem, source::Layer};
use crate::value::{Map, Path, Value};

/// Reads a settings file.
pub(super) fn read_toml(file: &FilePath, text: &str) -> Result<Layer, Problem> {
    let lines = Lines::of(text);
    let parsed = DeTable::parse(text).map_err(|error| {
        let (line, column) = lines.place(error.span().map_or(0, |span| span.start));
        Problem::Syntax {
            file: file.to_owned(),
            line,
            column,
            reason: error.message().to_owned(),
        }
    })?;
    let mut reader = TomlReader {
        file: Arc::new(file.to_owned()),
        lines,
        origins: HashMap::new(),
    };
    let values = reader.table(&Path::root(), parsed.get_ref())?;
    let otherwise = Origin::File {
        file: reader.file,
        line: 1,
    };
    Ok(Layer::with_origins(values, reader.origins, otherwise))
}

/// A value without the place that it stands at.
pub(super) fn plain_value(value: &DeValue<'_>) -> Option<Value> {
    let mut reader = TomlReader {
        file: Arc::new(PathBuf::new()),
        lines: Lines::of(""),
        origins: HashMap::new(),
    };
    reader.value(&Path::root(), value, 0).ok()
}

/// For how many values of a file the line is remembered; those after them are told at the table around them. It keeps a file of
/// numbers from taking a hundred times its size.
const LINES_MAX: usize = 65_536;

struct TomlReader {
    file: Arc<PathBuf>,
    lines: Lines,
    origins: HashMap<Path, Origin>,
}

impl TomlReader {
    fn table(&mut self, at: &Path, table: &DeTable<'_>) -> Result<Value, Problem> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let start = key.span().start;
            let path = at
                .child(key.get_ref())
                .map_err(|error| self.refuse(start, error.to_string()))?;
            self.note(&path, start);
            entries.push((
                key.get_ref().as_ref(),
                self.value(&path, value.get_ref(), start)?,
            ));
        }
        Ok(entries.into_iter().collect::<Map>().into())
    }

    fn value(&mut self, at: &Path, value: &DeValue<'_>, start: usize) -> Result<Value, Problem> {
        match value {
            DeValue::String(text) => Ok(Value::from(text.as_ref())),
            DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
            DeValue::Datetime(time) => Ok(Value::from(time.to_string())),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Value::Int)
                .or_else(|_| u64::from_str_radix(number.as_str(), number.radix()).map(Value::from))
                .map_err(|_| {
                    self.refuse(
                        start,
                        "the number is beyond 64 bits; use a smaller one".to_owned(),
                    )
                }),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map(Value::Float)
                .map_err(|_| self.refuse(start, "the number cannot be read".to_owned())),
            DeValue::Array(items) => items
                .iter()
                .enumerate()
                .map(|(number, item)| self.list_item(at, number, item))
                .collect::<Result<Vec<Value>, Problem>>()
                .map(Value::from),
            DeValue::Table(table) => self.table(at, table),
        }
    }

    /// An item's line is remembered under its number.
    fn list_item(
        &mut self,
        list: &Path,
        number: usize,
        item: &Spanned<DeValue<'_>>,
    ) -> Result<Value, Problem> {
        let start = item.span().start;
        let at = list
            .child(&number.to_string())
            .map_err(|error| self.refuse(start, error.to_string()))?;
        self.note(&at, start);
        self.value(&at, item.get_ref(), start)
    }

    fn note(&mut self, at: &Path, start: usize) {
        if self.origins.len() == LINES_MAX {
            return;
        }
        let (line, _) = self.lines.place(start);
        let origin = Origin::File {
            file: Arc::clone(&self.file),
            line,
        };
        self.origins.insert(at.clone(), origin);
    }

    fn refuse(&self, start: usize, reason: String) -> Problem {
        let (line, column) = self.lines.place(start);
        Problem::Syntax {
            file: self.file.as_ref().clone(),
            line,
            column,
            reason,
        }
    }
}

/// Where each line of a text starts.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(ends).collect())
    }

    /// Line and column, from 1, of a byte.
    fn place(&self, byte: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= byte).max(1);
        (line, byte - self.0[line - 1] + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Limits;

    fn json(text: &str) -> Value {
        Value::from_json(text, Limits::CONFIG).expect("test document is valid")
    }

    fn path(text: &str) -> Path {
        Path::parse(text).expect("test path is valid")
    }

    fn layer(text: &str) -> Layer {
        read_toml(FilePath::new("a.toml"), text).expect("test file is valid")
    }

    #[test]
    fn every_value_of_a_file_knows_its_line() {
        let layer = layer(
            "# first\n[app]\nname = \"x\"\n\n[app.http]\nport = 0x50\ntags = [\"a\", { b = 1 }]\n",
        );

        assert_eq!(
            layer.values,
            json(r#"{"app": {"name": "x", "http": {"port": 80, "tags": ["a", {"b": 1}]}}}"#)
        );
        let port = layer
            .origin(&path("app.http.port"))
            .expect("the port is there");
        assert_eq!(port.to_string(), "a.toml, line 6");
        assert_eq!(layer.origin(&path("app.http.host")), None);
        let tag = layer.origin(&path("app.http.tags.1.b"));
        assert_eq!(
            tag.map(|tag| tag.to_string()).as_deref(),
            Some("a.toml, line 7")
        );
    }

    #[test]
    fn a_file_that_is_not_toml_names_the_place_and_shows_nothing_of_it() {
        let refused = read_toml(FilePath::new("a.toml"), "[app]\ntoken = \"hunter2\nx = 1\n")
            .expect_err("a string is open");

        let Problem::Syntax { line, .. } = &refused else {
            panic!("not a syntax problem: {refused}");
        };
        assert_eq!(*line, 2);
        assert!(!refused.to_string().contains("hunter2"));
    }
}
