//! Events of what was queued. Pure.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use foldhash::fast::RandomState;
use tracing::{Metadata, callsite::Identifier};

use super::{
    fields::Reader,
    logged::{self, Origin},
    queue::{Entry, What},
    rules::Rules,
};
use crate::{
    events::{Event, EventBuilder, EventError, SOURCE_BYTES_MAX},
    otp::Context,
    value::{Map, Value},
};

/// Makes events, and remembers what those of a callsite have in common.
pub(super) struct Maker {
    /// Under the rules they were made with.
    callsites: HashMap<Identifier, Callsite, RandomState>,
    rules: Arc<Rules>,
    /// The parts of the event that is being made, each with the place of its name; here so that the memory is there.
    parts: Vec<(u16, Value)>,
}

/// What an event takes from the place in the program where it was made.
struct Callsite {
    kind: Arc<str>,
    source: Arc<str>,
    name: Value,
    level: Value,
    at: Value,
    /// The names of all parts that its events may have, in order.
    names: Vec<Arc<str>>,
    /// By the field's number: the place of its name, and how it is shown.
    fields: Vec<(u16, Shown)>,
    /// Whether source and place differ from event to event.
    is_log: bool,
    /// The place of each name of our own.
    own: [u16; OWN_NAMES.len()],
}

/// What an event shows of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Plain,
    Hidden,
    /// Under a name of ours.
    Elsewhere,
}

/// The parts that are ours.
#[derive(Clone, Copy)]
enum Own {
    At,
    BusyNs,
    IdleNs,
    Level,
    Name,
    To,
}

/// What they are called, in their order.
const OWN_NAMES: [&str; 6] = ["at", "busy_ns", "idle_ns", "level", "name", "to"];

/// Whether a field of this name is kept as `fields.<name>`. A link has no fields beside its `to`.
fn is_taken(name: &str) -> bool {
    name != "to" && OWN_NAMES.contains(&name)
}

/// What stands for a hidden value.
const REDACTED: &str = "[redacted]";

/// The kinds that are the same everywhere.
struct Kinds {
    opened: Arc<str>,
    recorded: Arc<str>,
    linked: Arc<str>,
    closed: Arc<str>,
    panic: Arc<str>,
}

static KINDS: LazyLock<Kinds> = LazyLock::new(|| Kinds {
    opened: "span.opened".into(),
    recorded: "span.recorded".into(),
    linked: "span.linked".into(),
    closed: "span.closed".into(),
    panic: "panic".into(),
});

impl Maker {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            callsites: HashMap::default(),
            rules,
            parts: Vec::new(),
        }
    }

    /// Other rules may hide other fields.
    pub(super) fn follow(&mut self, rules: Arc<Rules>) {
        if !Arc::ptr_eq(&rules, &self.rules) {
            self.rules = rules;
            self.callsites.clear();
        }
    }

    /// The event of an entry. The same entry makes the same event each time.
    pub(super) fn make(&mut self, entry: &Entry, fields: &[u8]) -> Result<Event, EventError> {
        let mut record_source: Option<Arc<str>> = None;
        let (kind, source, data) = match entry.what {
            What::Event(metadata) => {
                let (site, parts) = self.at(metadata);
                let mut at = site.at.clone();
                let mut source = &site.source;
                if site.is_log {
                    let origin = Origin::read(metadata, fields);
                    at = origin.at;
                    source = record_source.insert(origin.source.unwrap_or_default().into());
                }
                let own = [(Own::Level, site.level.clone()), (Own::At, at)];
                (&site.kind, source, site.data(fields, own, parts))
            }
            What::Opened(metadata) => {
                let (site, parts) = self.at(metadata);
                let own = [
                    (Own::Name, site.name.clone()),
                    (Own::Level, site.level.clone()),
                    (Own::At, site.at.clone()),
                ];
                (&KINDS.opened, &site.source, site.data(fields, own, parts))
            }
            What::Recorded(metadata) => {
                let (site, parts) = self.at(metadata);
                (&KINDS.recorded, &site.source, site.data(fields, [], parts))
            }
            What::Linked(metadata, to) => {
                let (site, parts) = self.at(metadata);
                let own = [(Own::To, Value::from(to.to_string()))];
                (&KINDS.linked, &site.source, site.data(&[], own, parts))
            }
            What::Closed {
                metadata,
                busy_ns,
                idle_ns,
            } => {
                let (site, parts) = self.at(metadata);
                let own = [
                    (Own::Name, site.name.clone()),
                    (Own::BusyNs, busy_ns.into()),
                    (Own::IdleNs, idle_ns.into()),
                ];
                (&KINDS.closed, &site.source, site.data(&[], own, parts))
            }
            What::Panic => (&KINDS.panic, &KINDS.panic, panic_data(fields)),
        };
        EventBuilder::new(entry.id, Arc::clone(kind))
            .time(entry.time)
            .source(Arc::clone(source))
            .data(data)
            .within(Context::new(entry.trace, entry.parent))
            .build()
    }

    fn at(&mut self, metadata: &'static Metadata<'static>) -> (&Callsite, &mut Vec<(u16, Value)>) {
        let known = self.callsites.entry(metadata.callsite());
        let site = known.or_insert_with(|| Callsite::new(metadata, &self.rules));
        (site, &mut self.parts)
    }
}

fn panic_data(fields: &[u8]) -> Value {
    let text = String::from_utf8_lossy(fields);
    let names = ["message", "at", "thread"];
    Value::Map(names.into_iter().zip(text.split('\0')).collect::<Map>())
}

impl Callsite {
    fn new(metadata: &Metadata<'_>, rules: &Rules) -> Self {
        let level = metadata.level().as_str();
        let target = metadata.target();
        let source = &target[..target.floor_char_boundary(SOURCE_BYTES_MAX)];
        let at = match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => Value::from(format!("{file}:{line}")),
            (Some(file), None) => Value::from(file),
            (None, _) => Value::Null,
        };
        let is_log = logged::is_record(metadata);
        let how = |name: &str| {
            if is_log && logged::is_origin(name) {
                Shown::Elsewhere
            } else if rules.hides(name) {
                Shown::Hidden
            } else {
                Shown::Plain
            }
        };
        let shown = |name: &str| -> Arc<str> {
            if is_taken(name) {
                format!("fields.{name}").into()
            } else {
                name.into()
            }
        };
        let fields = metadata.fields();
        let theirs = fields.iter().map(|field| shown(field.name()));
        let mut names: Vec<Arc<str>> = theirs.chain(OWN_NAMES.map(Arc::from)).collect();
        names.sort_unstable();
        names.dedup();
        // A callsite has at most 32 fields, and all names are there.
        let place = |name: &str| {
            let found = names.binary_search_by(|known| (**known).cmp(name));
            u16::try_from(found.unwrap_or_default()).unwrap_or_default()
        };
        Self {
            kind: format!("tracing.{}", level.to_ascii_lowercase()).into(),
            source: source.into(),
            name: metadata.name().into(),
            level: level.into(),
            at,
            fields: fields
                .iter()
                .map(|field| (place(&shown(field.name())), how(field.name())))
                .collect(),
            is_log,
            own: OWN_NAMES.map(place),
            names,
        }
    }

    /// The fields, and what is ours beside them, by name. Of two fields of one name the later one stays.
    fn data<const N: usize>(
        &self,
        fields: &[u8],
        own: [(Own, Value); N],
        parts: &mut Vec<(u16, Value)>,
    ) -> Value {
        parts.clear();
        parts.extend(own.map(|(own, value)| (self.own[own as usize], value)));
        parts.extend(Reader(fields).filter_map(|(number, value)| {
            let (place, shown) = self.fields.get(usize::from(number))?;
            match shown {
                Shown::Plain => Some((*place, value)),
                Shown::Hidden => Some((*place, REDACTED.into())),
                Shown::Elsewhere => None,
            }
        }));
        // Few, and nearly in order. Stable, so that the later of two is taken for both.
        parts.sort_by_key(|(place, _)| *place);
        parts.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(&mut later.1, &mut earlier.1);
            }
            same
        });
        let named = |(place, value): (u16, Value)| {
            let name = &self.names[usize::from(place)];
            (Arc::clone(name), value)
        };
        Value::Map(Map::from_rising(parts.drain(..).map(named)))
    }
}
