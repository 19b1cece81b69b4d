//! The form of what is kept on disk: one line that says what it is and its checksum, then JSON. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Author, Change, Kind, Record, Revision,
    record::{Delta, Entry},
};
use crate::{
    otp::Context,
    value::{Path, Value},
};

const MAGIC: &str = "underpin";
const VERSION: &str = "1";

/// What was changed while running, and its history.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Overlay {
    pub(super) revision: Revision,
    /// Checksum of the whole document, as readers saw it.
    pub(super) document: u32,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) history: Vec<Arc<Record>>,
}

/// What the settings files said when they were last good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LastGood {
    pub(super) files: Value,
    /// The document that came of them, below the overlay: tells what has changed at the next start.
    pub(super) document: Value,
}

#[derive(Serialize, Deserialize)]
struct SavedOverlay {
    revision: u64,
    document: u32,
    entries: Vec<SavedEntry>,
    history: Vec<SavedRecord>,
}

#[derive(Serialize, Deserialize)]
struct SavedEntry {
    revision: u64,
    index: u32,
    path: Path,
    value: Value,
    #[serde(flatten)]
    stamp: Stamp,
}

#[derive(Serialize, Deserialize)]
struct SavedRecord {
    revision: u64,
    kind: String,
    #[serde(flatten)]
    stamp: Stamp,
    changes: Vec<SavedChange>,
    needs_restart: Vec<Path>,
    removed: Vec<SavedEntry>,
    added: Vec<SavedEntry>,
}

#[derive(Serialize, Deserialize)]
struct SavedChange {
    path: Vec<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    before: Option<Value>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    after: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct Stamp {
    at: String,
    by: Arc<str>,
    why: Arc<str>,
}

/// A null that is written down is a value that is there.
fn present<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(source).map(Some)
}

impl Overlay {
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        seal(
            "overlay",
            &SavedOverlay {
                revision: self.revision.0,
                document: self.document,
                entries: self
                    .entries
                    .iter()
                    .map(|entry| SavedEntry::from(&**entry))
                    .collect(),
                history: self
                    .history
                    .iter()
                    .map(|record| SavedRecord::from(&**record))
                    .collect(),
            },
        )
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let saved: SavedOverlay = open("overlay", bytes)?;
        let mut entries = entries(saved.entries)?;
        entries.sort_by_key(|entry| (entry.revision, entry.index));
        let mut history = saved
            .history
            .into_iter()
            .map(|record| record.read().map(Arc::new))
            .collect::<Result<Vec<_>, String>>()?;
        history.sort_by_key(|record| record.revision);
        Ok(Self {
            revision: Revision(saved.revision),
            document: saved.document,
            entries,
            history,
        })
    }
}

impl LastGood {
    pub(super) fn encode(&self) -> Result<Vec<u8>, String> {
        seal("last-good", self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        open("last-good", bytes)
    }
}

fn seal(what: &str, content: &impl Serialize) -> Result<Vec<u8>, String> {
    let body = serde_json::to_vec(content).map_err(|error| error.to_string())?;
    let mut sealed =
        format!("{MAGIC} {what} {VERSION} {:08x}\n", crc32c::crc32c(&body)).into_bytes();
    sealed.extend(body);
    Ok(sealed)
}

fn open<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, String> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or("it has no first line")?;
    let head = str::from_utf8(&bytes[..end]).map_err(|_| "its first line is damaged")?;
    let body = &bytes[end + 1..];
    let parts: Vec<&str> = head.split(' ').collect();
    let [MAGIC, kind, version, checksum] = *parts else {
        return Err("its first line is damaged".to_owned());
    };
    if kind != what {
        return Err(format!("it is not what it should be ({what})"));
    }
    if version != VERSION {
        return Err(format!(
            "it has the format {version}, known is {VERSION}; a newer version of underpin wrote it"
        ));
    }
    if checksum != format!("{:08x}", crc32c::crc32c(body)) {
        return Err("its checksum is wrong".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn entries(saved: Vec<SavedEntry>) -> Result<Vec<Arc<Entry>>, String> {
    saved
        .into_iter()
        .map(|entry| entry.read().map(Arc::new))
        .collect()
}

impl Stamp {
    fn new(at: Timestamp, author: &Author) -> Self {
        Self {
            at: at.to_string(),
            by: Arc::clone(&author.by),
            why: Arc::clone(&author.why),
        }
    }

    fn read(self) -> Result<(Timestamp, Arc<Author>), String> {
        let at = self
            .at
            .parse()
            .map_err(|error: jiff::Error| error.to_string())?;
        let author = Author {
            by: self.by,
            why: self.why,
        };
        Ok((at, Arc::new(author)))
    }
}

impl From<&Entry> for SavedEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            revision: entry.revision.0,
            index: entry.index,
            path: entry.path.clone(),
            value: entry.value.clone(),
            stamp: Stamp::new(entry.at, &entry.author),
        }
    }
}

impl SavedEntry {
    fn read(self) -> Result<Entry, String> {
        let (at, author) = self.stamp.read()?;
        Ok(Entry {
            revision: Revision(self.revision),
            index: self.index,
            path: self.path,
            value: self.value,
            at,
            author,
        })
    }
}

impl From<&Record> for SavedRecord {
    fn from(record: &Record) -> Self {
        let entries = |entries: &[Arc<Entry>]| {
            entries
                .iter()
                .map(|entry| SavedEntry::from(&**entry))
                .collect()
        };
        let change = |change: &Change| SavedChange {
            path: change.path.components().map(str::to_owned).collect(),
            before: change.before.clone(),
            after: change.after.clone(),
        };
        Self {
            revision: record.revision.0,
            kind: record.kind.name().to_owned(),
            stamp: Stamp::new(record.at, &record.author),
            changes: record.changes.iter().map(change).collect(),
            needs_restart: record.needs_restart.clone(),
            removed: entries(record.delta.removed()),
            added: entries(record.delta.added()),
        }
    }
}

impl SavedRecord {
    fn read(self) -> Result<Record, String> {
        let (at, author) = self.stamp.read()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == self.kind);
        Ok(Record {
            revision: Revision(self.revision),
            kind: kind.ok_or_else(|| format!("`{}` is no kind of change", self.kind))?,
            at,
            author,
            changes: self.changes.into_iter().map(SavedChange::read).collect(),
            needs_restart: self.needs_restart,
            context: Context::default(),
            delta: Delta::new(entries(self.removed)?, entries(self.added)?),
        })
    }
}

impl SavedChange {
    fn read(self) -> Change {
        Change {
            // No components is the root: the change is about the document as a whole.
            path: Path::from_components(self.path.iter().map(String::as_str)).unwrap_or_default(),
            before: self.before,
            after: self.after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(revision: u64, value: Value) -> Arc<Entry> {
        Arc::new(Entry {
            revision: Revision(revision),
            index: 0,
            path: Path::parse("app.x").expect("test path is valid"),
            value,
            at: Timestamp::UNIX_EPOCH,
            author: Arc::new(Author {
                by: "ann".into(),
                why: "to see".into(),
            }),
        })
    }

    fn overlay() -> Overlay {
        let values = [
            Value::Null,
            Value::from(1.0),
            Value::from(f64::NAN),
            Value::from(u64::MAX),
            Value::from(&b"\x00\xff"[..]),
            Value::from("é"),
        ];
        let entries: Vec<_> = (1..)
            .zip(values)
            .map(|(revision, value)| entry(revision, value))
            .collect();
        let record = Record {
            revision: Revision(6),
            kind: Kind::Update,
            at: Timestamp::UNIX_EPOCH,
            author: Arc::default(),
            changes: vec![Change {
                path: Path::root(),
                before: Some(Value::Null),
                after: None,
            }],
            needs_restart: Vec::new(),
            context: Context::default(),
            delta: Delta::new([entry(1, Value::from(2))], entries.clone()),
        };
        Overlay {
            revision: Revision(6),
            document: 7,
            entries,
            history: vec![Arc::new(record)],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = overlay();

        let bytes = written.encode().expect("it can be written");

        assert_eq!(Overlay::decode(&bytes), Ok(written));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let bytes = overlay().encode().expect("it can be written");

        for end in 0..bytes.len() {
            assert!(Overlay::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(Overlay::decode(&damaged).is_err(), "bit {at} flipped");
        }
    }

    #[test]
    fn one_kind_of_file_is_not_taken_for_another() {
        let files = LastGood {
            files: Value::map(),
            document: Value::map(),
        };

        let bytes = files.encode().expect("it can be written");

        assert_eq!(LastGood::decode(&bytes), Ok(files));
        assert!(Overlay::decode(&bytes).is_err());
    }
}
