//! A settings file with everything in it, for people to start from. Pure.

use std::fmt::Write as _;

use super::{
    ConfigError, Mutability, Sources, layering,
    table::{Table, Tables},
    tree,
};
use crate::value::{Map, Path, Value};

const HEAD: &str = "\
# Every setting with its default. A line that begins with `#` and no space is a setting:
# take the `#` away to set it. Variables and flags are stronger than this file:
#   UNDERPIN__SECTION__KEY=value (the program's own: UNDERPIN__APP__SECTION__KEY)
#   --set table.section.key=value
";

/// A settings file with every setting of the tables, its default and what is known of it, all of it commented out.
///
/// ```
/// use underpin::{
///     config::{FreeTable, Sources, template},
///     node::Settings,
/// };
///
/// let text = template(&Sources::new::<Settings, FreeTable>())?;
///
/// assert!(text.contains("[underpin.events]"));
/// assert!(text.contains("#durability = \"always\""));
/// # Ok::<(), underpin::config::ConfigError>(())
/// ```
///
/// # Errors
///
/// [`ConfigError`] when the defaults of a type cannot be used: a defect of the program.
pub fn template(sources: &Sources) -> Result<String, ConfigError> {
    let defaults = layering::defaults(&sources.tables)?;
    Ok(file(&sources.tables, &defaults))
}

/// The file, as TOML.
fn file(tables: &Tables, defaults: &Value) -> String {
    let mut text = HEAD.to_owned();
    for table in &tables.0 {
        if let Some(Value::Map(map)) = defaults.get(&table.at) {
            Writer {
                table,
                text: &mut text,
            }
            .table(&table.at, map);
        }
    }
    text
}

struct Writer<'a> {
    table: &'a Table,
    text: &'a mut String,
}

impl Writer<'_> {
    fn table(&mut self, at: &Path, map: &Map) {
        let (tables, settings): (Vec<_>, Vec<_>) =
            map.iter().partition(|(_, value)| value.as_map().is_some());
        if !settings.is_empty() || map.is_empty() {
            let name: Vec<String> = at.components().map(key).collect();
            self.text.push('\n');
            self.describe(at);
            self.line(&format!("[{}]", name.join(".")));
        }
        for (name, value) in settings {
            if let Ok(path) = at.child(name) {
                self.setting(&path, name, value);
            }
        }
        for (name, value) in tables {
            if let (Ok(path), Value::Map(map)) = (at.child(name), value) {
                self.table(&path, map);
            }
        }
    }

    fn setting(&mut self, path: &Path, name: &str, value: &Value) {
        let rules = &self.table.rules;
        let relative = relative(path);
        self.describe(path);
        match rules.mutability(&relative) {
            Mutability::Live => {}
            Mutability::Restart => self.line("# A change takes effect at the next start."),
            Mutability::Fixed => self.line("# Holds from the start on."),
        }
        let name = key(name);
        // Also of a list, in which something may be secret.
        let is_secret = tree::redact(rules, &relative, value) != *value;
        match toml(value).filter(|_| !is_secret) {
            Some(value) => self.line(&format!("#{name} = {value}")),
            None if is_secret => self.line(&format!("# {name} = … (secret)")),
            None => self.line(&format!("# {name} = … (no default)")),
        }
    }

    fn describe(&mut self, path: &Path) {
        let words = self
            .table
            .rules
            .description(&relative(path))
            .map(str::to_owned);
        for line in words.iter().flat_map(|words| words.lines()) {
            self.line(&format!("# {line}"));
        }
    }

    fn line(&mut self, line: &str) {
        // Writing into a text cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// The path without its table.
fn relative(path: &Path) -> Path {
    Path::from_components(path.components().skip(1).collect::<Vec<_>>()).unwrap_or_default()
}

fn key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        toml::Value::from(name).to_string()
    }
}

/// The value on one line; `None` for what TOML cannot say.
pub(super) fn toml(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null | Value::Bytes(_) => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => toml::Value::Float(*number).to_string(),
        Value::Text(text) => toml::Value::from(&**text).to_string(),
        Value::List(items) => {
            let items: Option<Vec<String>> = items.iter().map(toml).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Map(map) => {
            let entries: Option<Vec<String>> = map
                .iter()
                .map(|(name, value)| Some(format!("{} = {}", key(name), toml(value)?)))
                .collect();
            format!("{{ {} }}", entries?.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Limits;

    #[test]
    fn every_kind_of_value_is_written_as_toml_reads_it() {
        let all = r#"{"a": [1, {"b c": "x\"y\n"}], "e": [], "f": 1.0, "g": false, "u": 9223372036854775807, "n": -1}"#;
        let value = Value::from_json(all, Limits::CONFIG).expect("test document is valid");

        let text = toml(&value).expect("TOML can say it");

        assert_eq!(super::super::source::read_value(&text, None).first, value);
        assert_eq!(toml(&Value::from(f64::INFINITY)).as_deref(), Some("inf"));
        assert_eq!(toml(&Value::from(vec![Value::Null])), None);
    }
}
