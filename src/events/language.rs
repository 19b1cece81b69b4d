//! Queries as text, for the command line and HTTP alike. Pure: now and the zone are arguments.

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

use serde::de::IgnoredAny;

use crate::{
    ids::{CorrelationId, EventId, NodeId},
    value::{Limits, Path, Value},
};

use super::{
    Comparison, Edge, Operator, Order, Query, QueryError, Timestamp, When,
    event::KIND_BYTES_MAX,
    filter::{FIRST_ID, Filter, KindFilter},
};

/// Reads a query from text, from options, or from both.
///
/// Text is a row of conditions that must all hold, each a field, an operator and a value, with or without spaces between them:
///
/// ```text
/// kind=order.* source="till 1" time>=2026-11-23 data.total>100 order=-time limit=10
/// ```
///
/// | field | operators | value |
/// |---|---|---|
/// | `kind` | `=` | exact; with `*` behind it, all that begin so |
/// | `source`, `correlation` | `=` | exact; `source=""` is an event without one |
/// | `parent`, `node` | `=` | an event's id, a node's number |
/// | `id` | `=` `<` `<=` `>` `>=` | an event's id |
/// | `time` | `=` `<` `<=` `>` `>=` | as [`When`] reads it; a date is the whole day |
/// | `since`, `until`, `as_of` | `=` | a time; `since` and `until` belong to the range |
/// | `data`, `data.PATH` | `=` `!=` `<` `<=` `>` `>=` | a number, `true`, `false`, `null`, else text; in quotes always text; JSON |
/// | `order` | `=` | `time`, `-time`, `id`, `-id` |
/// | `limit`, `skip` | `=` | a number |
/// | `after` | `=` | a page's cursor |
///
/// A value with spaces stands in double quotes, as JSON writes text. `time`, `id` and `data` may stand several times, every other field
/// once. `and` between conditions may be said.
///
/// ```
/// use underpin::events::{Query, QueryReader, Timestamp, When};
///
/// let when = When::utc(Timestamp::now());
/// let query = Query::parse("kind=order.* data.total>100", &when)?;
/// assert_eq!(query.to_string(), "kind=order.* data.total>100");
///
/// let refused = Query::parse("kind=order.* knid=2", &when).unwrap_err();
/// assert!(refused.to_string().contains("did you mean `kind`"));
/// # Ok::<(), underpin::events::QueryError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct QueryReader<'w> {
    when: &'w When,
    query: Query,
    given: Vec<Field>,
}

/// Why a text is no query, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    text: Arc<str>,
    at: Range<usize>,
    why: String,
}

impl std::error::Error for Misread {}

/// The longest text of a query: more than anybody writes, and little to read.
const TEXT_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Kind,
    Source,
    Correlation,
    Parent,
    Node,
    Id,
    Time,
    Since,
    Until,
    AsOf,
    Order,
    Limit,
    Skip,
    After,
}

const FIELDS: [(&str, Field); 14] = [
    ("kind", Field::Kind),
    ("source", Field::Source),
    ("correlation", Field::Correlation),
    ("parent", Field::Parent),
    ("node", Field::Node),
    ("id", Field::Id),
    ("time", Field::Time),
    ("since", Field::Since),
    ("until", Field::Until),
    ("as_of", Field::AsOf),
    ("order", Field::Order),
    ("limit", Field::Limit),
    ("skip", Field::Skip),
    ("after", Field::After),
];
/// How a field of the data begins.
const DATA: &str = "data";

/// A value as it is written.
#[derive(Debug)]
struct Literal<'a> {
    /// Without quotes and escapes.
    text: Cow<'a, str>,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bare,
    Quoted,
    /// Text in quotes with a star behind it.
    QuotedStar,
    /// A list or map.
    Json,
}

impl Query {
    /// Reads a query from text, as [`QueryReader`] says.
    ///
    /// # Errors
    ///
    /// [`QueryError::Text`], which points at the place, and those of [`Query::check`].
    pub fn parse(text: &str, when: &When) -> Result<Self, QueryError> {
        QueryReader::new(when).text(text)?.finish()
    }
}

impl<'w> QueryReader<'w> {
    /// Begins with every event.
    pub fn new(when: &'w When) -> Self {
        Self {
            when,
            query: Query::new(),
            given: Vec::new(),
        }
    }

    /// Adds the conditions of a text.
    ///
    /// # Errors
    ///
    /// [`QueryError::Text`].
    pub fn text(mut self, text: &str) -> Result<Self, QueryError> {
        let misread = |(at, why)| Misread {
            text: text.into(),
            at,
            why,
        };
        self.read(text).map_err(misread)?;
        Ok(self)
    }

    /// Adds one condition that stands apart, as on a command line or in a URL: a field and what it equals, without quotes.
    ///
    /// # Errors
    ///
    /// [`QueryError::Text`], which shows the condition as `name=value`.
    pub fn option(mut self, name: &str, value: &str) -> Result<Self, QueryError> {
        let text = format!("{name}={value}");
        let literal = Literal {
            text: value.into(),
            form: Form::Bare,
        };
        let place = name.len() + 1..text.len();
        let misread = |(at, why)| Misread {
            text: text.as_str().into(),
            at,
            why,
        };
        self.set(name, 0..name.len(), Operator::Equal, &literal, place)
            .map_err(misread)?;
        Ok(self)
    }

    /// The query.
    ///
    /// # Errors
    ///
    /// As [`Query::check`].
    pub fn finish(self) -> Result<Query, QueryError> {
        self.query.check()?;
        Ok(self.query)
    }

    fn read(&mut self, text: &str) -> Result<(), Fault> {
        if text.len() > TEXT_BYTES_MAX {
            let why = format!(
                "the query has {} bytes; keep it to {TEXT_BYTES_MAX}",
                text.len()
            );
            return Err((0..0, why));
        }
        let mut scan = Scan { text, at: 0 };
        while let Some((name, at)) = scan.name() {
            match name {
                "and" | "AND" => continue,
                "or" | "OR" => {
                    let why = "every condition must hold, there is no `or`; ask twice".into();
                    return Err((at, why));
                }
                _ => {}
            }
            let operator = scan.operator(&at)?;
            let (literal, place) = scan.value()?;
            self.set(name, at, operator, &literal, place)?;
        }
        Ok(())
    }

    fn set(
        &mut self,
        name: &str,
        at: Range<usize>,
        operator: Operator,
        value: &Literal<'_>,
        place: Range<usize>,
    ) -> Result<(), Fault> {
        let in_value = |why: String| (place.clone(), why);
        if let Some(path) = path_of_data(name) {
            let path = path.map_err(|why| (at, why))?;
            let value = value.any().map_err(in_value)?;
            let comparison = Comparison::new(path, operator, value);
            self.query.filter.data.push(comparison);
            return Ok(());
        }
        let field = FIELDS.iter().find(|(known, _)| *known == name);
        let Some((_, field)) = field else {
            return Err((at, unknown(name)));
        };
        self.take_once(*field, name, &at)?;
        match field {
            Field::Time => self.time(operator, value).map_err(in_value),
            Field::Id => self.id(operator, value).map_err(in_value),
            _ if operator != Operator::Equal => {
                Err((at, format!("`{name}` can only be compared with `=`")))
            }
            field => self.equal(*field, value).map_err(in_value),
        }
    }

    fn take_once(&mut self, field: Field, name: &str, at: &Range<usize>) -> Result<(), Fault> {
        let repeats = matches!(field, Field::Time | Field::Id);
        if !repeats && self.given.contains(&field) {
            return Err((at.clone(), format!("`{name}` is given twice; give it once")));
        }
        self.given.push(field);
        Ok(())
    }

    fn equal(&mut self, field: Field, value: &Literal<'_>) -> Result<(), String> {
        let filter = &mut self.query.filter;
        if field == Field::Kind {
            filter.kind = Some(value.kind()?);
            return Ok(());
        }
        let text = value.plain()?;
        match field {
            Field::Source => filter.source = Some(text.into()),
            Field::Correlation => filter.correlation = Some(read(CorrelationId::new(text))?),
            Field::Parent => filter.parent = Some(read(text.parse())?),
            Field::Node => filter.node = Some(node(text)?),
            Field::Since => filter.begin(self.when.read(text, Edge::Start)?),
            Field::Until => filter.end(self.when.read(text, Edge::End)?),
            Field::AsOf => filter.as_of = Some(self.when.read(text, Edge::End)?),
            Field::Order => self.query.order = read(text.parse())?,
            Field::Limit => self.query.limit = number(text)?,
            Field::Skip => self.query.skip = number(text)?,
            Field::After => self.query.after = Some(read(text.parse())?),
            Field::Kind | Field::Id | Field::Time => {}
        }
        Ok(())
    }

    fn time(&mut self, operator: Operator, value: &Literal<'_>) -> Result<(), String> {
        let text = value.plain()?;
        let read = |edge| self.when.read(text, edge);
        let filter = &mut self.query.filter;
        let none = || format!("no time is {operator} that");
        match operator {
            Operator::Equal => {
                filter.begin(read(Edge::Start)?);
                filter.end(read(Edge::End)?);
            }
            Operator::AtLeast => filter.begin(read(Edge::Start)?),
            Operator::AtMost => filter.end(read(Edge::End)?),
            Operator::Greater => {
                let after = read(Edge::End)?.as_nanos().checked_add(1);
                filter.begin(Timestamp::from_nanos(after.ok_or_else(none)?));
            }
            Operator::Less => {
                let before = read(Edge::Start)?.as_nanos().checked_sub(1);
                filter.end(Timestamp::from_nanos(before.ok_or_else(none)?));
            }
            Operator::NotEqual => return Err(unequal("time")),
        }
        Ok(())
    }

    fn id(&mut self, operator: Operator, value: &Literal<'_>) -> Result<(), String> {
        let id: EventId = read(value.plain()?.parse())?;
        let next_to = |id: u64| EventId::new(id).map_err(|_| format!("no id is {operator} that"));
        let filter = &mut self.query.filter;
        let (first, last) = match operator {
            Operator::Equal => (id, id),
            Operator::AtLeast => (id, EventId::MAX),
            Operator::Greater => (next_to(id.get() + 1)?, EventId::MAX),
            Operator::AtMost => (filter.first, id),
            Operator::Less => (filter.first, next_to(id.get() - 1)?),
            Operator::NotEqual => return Err(unequal("id")),
        };
        filter.first = filter.first.max(first);
        filter.last = filter.last.min(last);
        Ok(())
    }
}

/// What is wrong, and where.
type Fault = (Range<usize>, String);

impl Filter {
    fn begin(&mut self, time: Timestamp) {
        self.since = self.since.max(time);
    }

    fn end(&mut self, time: Timestamp) {
        self.until = self.until.min(time);
    }
}

impl Literal<'_> {
    /// The text, for fields that know no prefixes and no JSON.
    fn plain(&self) -> Result<&str, String> {
        match self.form {
            Form::Bare | Form::Quoted => Ok(&self.text),
            Form::QuotedStar => Err("only a kind may end in `*`".into()),
            Form::Json => Err("only data is compared with lists and maps".into()),
        }
    }

    fn kind(&self) -> Result<KindFilter, String> {
        let (text, starred) = match self.form {
            Form::Json => (self.plain()?, false),
            Form::Quoted => (&*self.text, false),
            Form::QuotedStar => (&*self.text, true),
            Form::Bare => match self.text.strip_suffix('*') {
                Some(prefix) => (prefix, true),
                None => (&*self.text, false),
            },
        };
        match text.len() {
            0 if !starred => Err("a kind is not empty; leave it out for every kind".into()),
            0..=KIND_BYTES_MAX if starred => Ok(KindFilter::Prefix(text.into())),
            0..=KIND_BYTES_MAX => Ok(KindFilter::Exact(text.into())),
            bytes => Err(format!(
                "the kind has {bytes} bytes; kinds have 1 to {KIND_BYTES_MAX}"
            )),
        }
    }

    /// The value that data is compared with.
    fn any(&self) -> Result<Value, String> {
        match self.form {
            Form::Quoted => Ok((&*self.text).into()),
            Form::QuotedStar => self.plain().map(Value::from),
            Form::Json => Value::from_json(&*self.text, Limits::DEFAULT).map_err(|e| e.to_string()),
            Form::Bare => Ok(scalar(&self.text)),
        }
    }
}

fn scalar(text: &str) -> Value {
    match text {
        "null" => return Value::Null,
        "true" => return true.into(),
        "false" => return false.into(),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    // `inf`, `nan` and what is beyond all numbers are text.
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    match text.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => number.into(),
        _ => text.into(),
    }
}

fn read<T, E: fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn number(text: &str) -> Result<usize, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| "that is not a number; give one, as in limit=100".into())
}

fn node(text: &str) -> Result<NodeId, String> {
    let number = number(text).ok().and_then(|node| u16::try_from(node).ok());
    let node = number.and_then(|node| NodeId::new(node).ok());
    node.ok_or_else(|| format!("that is no node; give a number from 0 to {}", NodeId::MAX))
}

fn unequal(field: &str) -> String {
    format!("`{field}` cannot be compared with `!=`; give a range")
}

/// The path of a field of the data; `None` if it is none.
fn path_of_data(name: &str) -> Option<Result<Path, String>> {
    match name.strip_prefix(DATA)? {
        "" => Some(Ok(Path::root())),
        path => Some(read(Path::parse(path.strip_prefix('.')?))),
    }
}

fn unknown(name: &str) -> String {
    let near = FIELDS
        .iter()
        .map(|(known, _)| *known)
        .chain([DATA])
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min();
    let advice = match near {
        Some((distance, known)) if distance <= 2 && name.len() > 2 => {
            format!("did you mean `{known}`?")
        }
        _ => {
            let names: Vec<_> = FIELDS.iter().map(|(known, _)| *known).collect();
            format!("there are {} and data.PATH", names.join(", "))
        }
    };
    let shown: String = name.chars().take(40).collect();
    format!("there is no field `{shown}`; {advice}")
}

/// Goes through a text.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The next field; its quoted parts may hold anything.
    fn name(&mut self) -> Option<(&'a str, Range<usize>)> {
        self.skip_spaces();
        let (start, rest) = (self.at, self.rest());
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.find(|c: char| {
            if quoted {
                quoted = escaped || c != '"';
                escaped = c == '\\' && !escaped;
                return false;
            }
            quoted = c == '"';
            c.is_whitespace() || "=<>!".contains(c)
        });
        self.at = start + end.unwrap_or(rest.len());
        (!rest.is_empty()).then(|| (&self.text[start..self.at], start..self.at))
    }

    fn operator(&mut self, name: &Range<usize>) -> Result<Operator, Fault> {
        self.skip_spaces();
        let found = Operator::ALL
            .into_iter()
            .find(|operator| self.rest().starts_with(operator.as_str()));
        let Some(operator) = found else {
            let field = &self.text[name.clone()];
            let why = if field.is_empty() {
                "here a field must stand, as in kind=order.paid".into()
            } else {
                format!(
                    "`{}` needs an operator and a value, as in {0}=…",
                    clip(field)
                )
            };
            return Err((name.clone(), why));
        };
        if name.is_empty() {
            let place = self.at..self.at + operator.as_str().len();
            return Err((
                place,
                "a field must stand before this, as in kind=order.paid".into(),
            ));
        }
        self.at += operator.as_str().len();
        Ok(operator)
    }

    fn value(&mut self) -> Result<(Literal<'a>, Range<usize>), Fault> {
        self.skip_spaces();
        let (start, rest) = (self.at, self.rest());
        match rest.chars().next() {
            None => Err((start..start, "a value is missing here".into())),
            Some('"') => self.quoted(),
            Some('=' | '<' | '>' | '!') => {
                let why = "here a value must stand; put it in quotes if it begins so";
                Err((start..start + 1, why.into()))
            }
            Some('{' | '[') => {
                let json = self.json("this is not JSON")?;
                let place = start..self.at;
                Ok((
                    Literal {
                        text: json.into(),
                        form: Form::Json,
                    },
                    place,
                ))
            }
            Some(_) => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                self.at += end;
                let literal = Literal {
                    text: rest[..end].into(),
                    form: Form::Bare,
                };
                Ok((literal, start..self.at))
            }
        }
    }

    fn quoted(&mut self) -> Result<(Literal<'a>, Range<usize>), Fault> {
        let start = self.at;
        let json = self.json("this text is not written as JSON writes text, or has no end")?;
        let text: String = serde_json::from_str(json)
            .map_err(|error| (start..self.at, format!("this text cannot be read: {error}")))?;
        let mut form = Form::Quoted;
        if self.rest().starts_with('*') {
            self.at += 1;
            form = Form::QuotedStar;
        }
        let after = self.rest().chars().next();
        if let Some(next) = after.filter(|next| !next.is_whitespace()) {
            let place = self.at..self.at + next.len_utf8();
            return Err((
                place,
                "a space must stand between a value and what follows".into(),
            ));
        }
        let literal = Literal {
            text: text.into(),
            form,
        };
        Ok((literal, start..self.at))
    }

    /// One JSON value.
    fn json(&mut self, refusal: &str) -> Result<&'a str, Fault> {
        let rest = self.rest();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let end = values.byte_offset();
                self.at += end;
                Ok(&rest[..end])
            }
            _ => Err((self.at..self.text.len(), refusal.into())),
        }
    }
}

/// The beginning of a text, for a message.
fn clip(text: &str) -> String {
    const CHARS_SHOWN: usize = 40;
    let mut shown: String = text.chars().take(CHARS_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

impl Misread {
    /// The text that was to be read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where in the text, in bytes.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.at.clone()
    }

    /// Two lines: the text around the place, and a mark below it.
    #[must_use]
    pub fn pointer(&self) -> String {
        /// What is shown before and after the place, in characters: together with it about a line.
        const AROUND: usize = 40;
        let before: Vec<char> = self.text[..self.at.start]
            .chars()
            .rev()
            .take(AROUND)
            .collect();
        let shown: String = before.iter().rev().collect();
        let place: String = self.text[self.at.start..]
            .chars()
            .take(2 * AROUND)
            .collect();
        let marked = self.text[self.at.clone()].chars().count().clamp(1, AROUND);
        let line = format!("{shown}{place}").replace(char::is_control, " ");
        format!("{line}\n{}{}", " ".repeat(before.len()), "^".repeat(marked))
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.text[..self.at.start].chars().count() + 1;
        let place = clip(&self.text[self.at.clone()]);
        if place.is_empty() {
            write!(f, "{} (at character {column} of the query)", self.why)
        } else {
            write!(
                f,
                "{} (at `{place}`, character {column} of the query)",
                self.why
            )
        }
    }
}

/// The query as [`Query::parse`] reads it.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        let mut part = |name: &str, value: Option<String>| {
            parts.extend(value.map(|value| format!("{name}{value}")));
        };
        let Filter {
            kind,
            source,
            correlation,
            parent,
            node,
            since,
            until,
            first,
            last,
            as_of,
            data,
        } = &self.filter;
        let kind = kind.as_ref().map(|kind| match kind {
            KindFilter::Exact(kind) => quote(kind),
            KindFilter::Prefix(prefix) if prefix.is_empty() => "*".into(),
            KindFilter::Prefix(prefix) => format!("{}*", quote(prefix)),
        });
        let default = Query::new();
        let text = |value: &dyn fmt::Display| Some(value.to_string());
        part("kind=", kind);
        part("source=", source.as_deref().map(quote));
        part(
            "correlation=",
            correlation.as_ref().map(|id| quote(&id.to_string())),
        );
        part("parent=", parent.map(|id| id.to_string()));
        part("node=", node.map(|node| node.get().to_string()));
        part("id>=", text(first).filter(|_| first.get() > FIRST_ID));
        part("id<=", text(last).filter(|_| *last < EventId::MAX));
        part("time>=", text(since).filter(|_| *since > Timestamp::MIN));
        part("time<=", text(until).filter(|_| *until < Timestamp::MAX));
        part("as_of=", as_of.map(|time| time.to_string()));
        for comparison in data {
            part("", text(comparison));
        }
        part(
            "order=",
            text(&self.order).filter(|_| self.order != Order::default()),
        );
        part(
            "limit=",
            text(&self.limit).filter(|_| self.limit != default.limit),
        );
        part("skip=", text(&self.skip).filter(|_| self.skip > 0));
        part("after=", self.after.map(|cursor| cursor.to_string()));
        f.write_str(&parts.join(" "))
    }
}

/// A text as it is where that is plain, else as JSON writes it.
fn quote(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:@+%~#,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    Value::from(text).to_json()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn when() -> When {
        When::utc("2026-11-23T12:00:00Z".parse().expect("a time"))
    }

    fn parse(text: &str) -> Result<Query, QueryError> {
        Query::parse(text, &when())
    }

    fn good(text: &str) -> Query {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn misread(text: &str) -> Misread {
        match parse(text) {
            Err(QueryError::Text(misread)) => misread,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn id(id: u64) -> EventId {
        EventId::new(id).expect("a valid id")
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn every_field_reaches_the_query() {
        let read = good(
            "kind=order.paid source=\"till 1\" correlation=req-1 parent=5 node=7 id>=2 id<9 time>=10m \
             time<2026-11-24 as_of=2026-11-23 data.total>100 data.\"a.b\"!=\"5\" and data=null \
             order=-time limit=10 skip=2 after=-time:-5:77",
        );

        let path = |text: &str| text.parse::<Path>().expect("a path");
        let built = Query::new()
            .kind("order.paid")
            .source("till 1")
            .correlation(CorrelationId::new("req-1").expect("short"))
            .parent(id(5))
            .node(NodeId::new(7).expect("small"))
            .first_id(id(2))
            .last_id(id(8))
            .since(time("2026-11-23T11:50:00Z"))
            .until(time("2026-11-23T23:59:59.999999999Z"))
            .as_of(time("2026-11-23T23:59:59.999999999Z"))
            .data(Comparison::new(path("total"), Operator::Greater, 100))
            .data(Comparison::new(path("\"a.b\""), Operator::NotEqual, "5"))
            .data(Comparison::new(Path::root(), Operator::Equal, Value::Null))
            .order(Order::NewestFirst)
            .limit(10)
            .skip(2)
            .after("-time:-5:77".parse().expect("a cursor"));
        assert_eq!(read, built);
        assert_eq!(good(&read.to_string()), read);
    }

    #[test]
    fn spaces_around_operators_are_free() {
        assert_eq!(good("kind = a  data.x >= 5"), good("kind=a data.x>=5"));
        assert_eq!(good("  \n"), Query::new());
    }

    #[test]
    fn a_star_behind_a_kind_means_all_that_begin_so() {
        assert_eq!(good("kind=order.*"), Query::new().kind_prefix("order."));
        assert_eq!(
            good("kind=\"an order\"*"),
            Query::new().kind_prefix("an order")
        );
        assert_eq!(good("kind=\"order.*\""), Query::new().kind("order.*"));
        assert_eq!(good("kind=*"), Query::new().kind_prefix(""));
    }

    #[test]
    fn values_of_data_have_the_kind_that_they_look_like() {
        for (text, value) in [
            ("5", Value::from(5)),
            ("-5", Value::from(-5)),
            ("18446744073709551615", Value::from(u64::MAX)),
            ("0.5", Value::from(0.5)),
            ("1e3", Value::from(1000.0)),
            ("true", Value::from(true)),
            ("null", Value::Null),
            ("\"5\"", Value::from("5")),
            ("nan", Value::from("nan")),
            ("1e999", Value::from("1e999")),
            ("paid", Value::from("paid")),
            (
                "[1, \"a b\"]",
                Value::from(vec![Value::from(1), Value::from("a b")]),
            ),
        ] {
            let path = "x".parse().expect("a path");
            let built = Query::new().data(Comparison::new(path, Operator::Equal, value));
            assert_eq!(good(&format!("data.x={text}")), built, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, place, words) in [
            ("kind=a knid=b", "knid", "did you mean `kind`?"),
            ("frobnicate=b", "frobnicate", "there are kind, source"),
            ("kind=a limit=ten", "ten", "not a number"),
            ("time>=soon", "soon", "give an age"),
            ("id=0", "0", "id"),
            ("node=2000", "2000", "0 to 1023"),
            ("kind=a kind=b", "kind", "given twice"),
            ("kind>a", "kind", "only be compared with `=`"),
            ("time!=10m", "10m", "give a range"),
            ("kind", "kind", "needs an operator"),
            ("kind=", "", "a value is missing"),
            ("kind=\"open", "\"open", "has no end"),
            ("kind=\"a\"b=c", "b", "a space must stand"),
            ("=5", "=", "a field must stand before"),
            ("kind=a or kind=b", "or", "there is no `or`"),
            ("data.=5", "data.", "path"),
            ("data..x=5", "data..x", "path"),
            ("source=\"a\"*", "\"a\"*", "only a kind"),
            ("source=[1]", "[1]", "only data"),
            ("data.x=[1", "[1", "not JSON"),
            ("order=sideways", "sideways", "use time, -time"),
        ] {
            let misread = misread(text);
            let message = misread.to_string();
            assert_eq!(&text[misread.span()], place, "{text}: {message}");
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn a_value_that_looks_like_an_operator_is_pointed_at_unless_it_is_quoted() {
        assert_eq!(
            misread("data.total>>100").pointer(),
            "data.total>>100\n           ^"
        );
        let quoted = good(r#"data.total>">100""#);
        assert_eq!(parse(&quoted.to_string()), Ok(quoted));
    }

    #[test]
    fn the_mark_stands_below_the_place() {
        let misread = misread("kind=größe knid=b");
        assert_eq!(misread.pointer(), "kind=größe knid=b\n           ^^^^");
    }

    #[test]
    fn a_text_beyond_its_limit_is_refused_without_being_read() {
        assert!(
            misread(&"x".repeat(TEXT_BYTES_MAX + 1))
                .to_string()
                .contains("keep it to")
        );
    }

    #[test]
    fn an_option_is_taken_as_it_stands() {
        let when = When::utc(Timestamp::now());
        let read = |name, value| QueryReader::new(&when).option(name, value)?.finish();

        assert_eq!(
            read("source", "a \"b\" c"),
            Ok(Query::new().source("a \"b\" c"))
        );
        assert_eq!(
            read("kind", "order.*"),
            Ok(Query::new().kind_prefix("order."))
        );
        let refused = read("limit", "-5").map_err(|error| error.to_string());
        assert!(refused.is_err_and(|words| words.contains("limit=100") && words.contains("`-5`")));
    }

    /// What the fuzz target `query` asks of any text.
    fn is_read_or_pointed_at(text: &str) {
        match parse(text) {
            Ok(query) => assert_eq!(parse(&query.to_string()), Ok(query), "{text}"),
            Err(QueryError::Text(misread)) => {
                assert_eq!(misread.pointer().lines().count(), 2, "{text}");
                assert!(!misread.to_string().is_empty());
            }
            Err(_) => {}
        }
    }

    #[test]
    fn the_corpus_of_the_fuzz_target_is_read_or_pointed_at() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/query");
        let mut texts = 0;
        for file in std::fs::read_dir(corpus)
            .expect("the corpus is here")
            .flatten()
        {
            is_read_or_pointed_at(&std::fs::read_to_string(file.path()).expect("text"));
            texts += 1;
        }
        assert!(texts >= 10);
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z.*]{1,12}", "\\PC{1,12}", "[ \"\\\\\n\u{0}é🚀=]{1,6}"]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300_f64).prop_map(Value::from),
            any_text().prop_map(Value::from),
            proptest::collection::vec(any_text().prop_map(Value::from), 0..3).prop_map(Value::from),
        ]
    }

    fn any_query() -> impl Strategy<Value = Query> {
        let option = proptest::option::of::<BoxedStrategy<String>>;
        let operator = (0..Operator::ALL.len()).prop_map(|at| Operator::ALL[at]);
        let comparison = (any_text(), operator, any_value()).prop_filter_map(
            "a path",
            |(name, operator, value)| {
                let path = Path::from_components([name.as_str()]).ok()?;
                Some(Comparison::new(path, operator, value))
            },
        );
        (
            (
                option(any_text().boxed()),
                any::<bool>(),
                option(any_text().boxed()),
                option(any_text().boxed()),
            ),
            (
                any::<i64>(),
                any::<i64>(),
                proptest::option::of(any::<i64>()),
            ),
            (
                1..i64::MAX as u64,
                1..i64::MAX as u64,
                proptest::option::of(1..i64::MAX as u64),
            ),
            proptest::collection::vec(comparison, 0..4),
            (0..4_usize, 0..50_000_usize, 0..50_000_usize),
        )
            .prop_map(
                |(
                    (kind, prefix, source, correlation),
                    (a, b, as_of),
                    (c, d, parent),
                    data,
                    (order, limit, skip),
                )| {
                    let at = Timestamp::from_nanos;
                    let mut query = Query::new()
                        .since(at(a.min(b)))
                        .until(at(a.max(b)))
                        .first_id(id(c.min(d)))
                        .last_id(id(c.max(d)))
                        .order(Order::ALL[order])
                        .limit(limit)
                        .skip(skip);
                    query.filter.as_of = as_of.map(at);
                    query.filter.parent = parent.map(id);
                    query.filter.data = data;
                    query.filter.source = source.map(Into::into);
                    query.filter.correlation =
                        correlation.map(|text| CorrelationId::new(&text).expect("short"));
                    query.filter.kind = kind.map(|kind| {
                        let form = if prefix {
                            KindFilter::Prefix
                        } else {
                            KindFilter::Exact
                        };
                        form(kind.into())
                    });
                    query
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(query in any_query()) {
            let text = query.to_string();
            prop_assert_eq!(parse(&text), Ok(query), "{}", text);
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,60}|[a-z=<>!\"*\\[{ ]{0,30}") {
            is_read_or_pointed_at(&text);
        }

        #[test]
        fn a_good_query_cut_anywhere_is_read_or_pointed_at(query in any_query(), cut in any::<prop::sample::Index>()) {
            let text = query.to_string();
            let cut = text.floor_char_boundary(cut.index(text.len() + 1));
            if let Err(QueryError::Text(misread)) = parse(&text[..cut]) {
                prop_assert!(misread.span().end <= cut);
            }
        }
    }
}
