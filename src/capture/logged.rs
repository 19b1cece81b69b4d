//! Records of the facade `log`, as the crate `tracing-log` hands them over: all of a level share one callsite, of the target `log`, and
//! where they were made is in fields. Pure.

use tracing::Metadata;

use super::fields::Reader;
use crate::{events::SOURCE_BYTES_MAX, value::Value};

const TARGET: &str = "log.target";
const FILE: &str = "log.file";
const LINE: &str = "log.line";
const MODULE: &str = "log.module_path";

/// Where a record was made.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Origin {
    /// Its own target.
    pub(super) source: Option<String>,
    /// File and line; null where it does not say.
    pub(super) at: Value,
}

/// Whether events of this callsite are such records.
pub(super) fn is_record(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "log" && metadata.fields().field(TARGET).is_some()
}

/// Whether a field says where the record was made.
pub(super) fn is_origin(field: &str) -> bool {
    [TARGET, FILE, LINE, MODULE].contains(&field)
}

impl Origin {
    /// Reads it from a record's fields.
    pub(super) fn read(metadata: &Metadata<'_>, fields: &[u8]) -> Self {
        let number = |name| metadata.fields().field(name).map(|field| field.index());
        let [target, file, line] = [TARGET, FILE, LINE].map(number);
        let (mut source, mut place, mut row) = (None, None, None);
        for (number, value) in Reader(fields) {
            let number = Some(usize::from(number));
            let text = || value.as_str().map(str::to_owned);
            if number == target {
                source = text();
            } else if number == file {
                place = text();
            } else if number == line {
                row = value.as_u64();
            }
        }
        if let Some(source) = &mut source {
            source.truncate(source.floor_char_boundary(SOURCE_BYTES_MAX));
        }
        let at = match (place, row) {
            (Some(file), Some(line)) => Value::from(format!("{file}:{line}")),
            (Some(file), None) => Value::from(file),
            (None, _) => Value::Null,
        };
        Self { source, at }
    }
}
