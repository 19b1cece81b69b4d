//! Queries as text, for the command line and HTTP alike. Pure: now and the zone are arguments.
//!
//! ```text
//! text ─▶ scan (fields, operators, values) ─▶ literal (what a value says) ─▶ here (what that asks for) ─▶ Query
//! ```
//! A [`misread`] tells what was wrong and where; [`writing`] goes the other way.

mod literal;
mod misread;
mod scan;
mod writing;

use std::ops::Range;

use crate::{
    ids::{CorrelationId, EventId},
    value::Path,
};

use self::{
    literal::{Form, Literal, node, number, read, source},
    misread::{Fault, unknown},
    scan::{Scan, begins_operator, first_outside_quotes},
};
use super::{Comparison, Edge, Operator, Query, QueryError, Timestamp, When, filter::Filter};

pub use misread::Misread;

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
/// | `data`, `data.PATH` | `=` `!=` `<` `<=` `>` `>=` | a number as JSON writes it, `true`, `false`, `null`, else text; in quotes always text; JSON |
/// | `order` | `=` | `time`, `-time`, `id`, `-id` |
/// | `limit`, `skip` | `=` | a number |
/// | `after` | `=` | a page's cursor |
///
/// In a path a number leads into a list: `data.items.0.price>9`. A value with spaces stands in double quotes, as JSON writes text. `time`,
/// `id` and `data` may stand several times, every other field once. `and` between conditions may be said.
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
/// Said where a text ends too soon.
const MISSING: &str = "a value is missing here";
/// Said of an `and` that does not stand between two conditions: one of them may have been lost on its way.
const LONELY_AND: &str = "`and` stands between two conditions, as in kind=order.paid and node=7";
/// How a field of the data begins.
const DATA: &str = "data";

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
        self.read(text).map_err(|fault| Misread::new(text, fault))?;
        Ok(self)
    }

    /// Adds one condition that stands apart, as on a command line or in a URL: a field and its value, without quotes.
    ///
    /// The name may carry an operator, as the parameters of a URL come apart: `?data.total>=100` into `data.total>` and `100`,
    /// `?data.total>100` into `data.total>100` and nothing. Otherwise the field must equal the value.
    ///
    /// # Errors
    ///
    /// [`QueryError::Text`], which shows the condition as `name=value`.
    pub fn option(mut self, name: &str, value: &str) -> Result<Self, QueryError> {
        let shown = match value {
            "" if first_outside_quotes(name, |c| "<>".contains(c)).is_some() => name.to_owned(),
            value => format!("{name}={value}"),
        };
        self.read_option(&shown, name.len())
            .map_err(|fault| Misread::new(&shown, fault))?;
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
        let mut scan = Scan::new(text);
        let (mut is_behind_one, mut and) = (false, None);
        while let Some((name, at)) = scan.name() {
            match name {
                "and" | "AND" if is_behind_one && and.is_none() => {
                    and = Some(at);
                    continue;
                }
                "and" | "AND" => return Err((at, LONELY_AND.into())),
                "or" | "OR" => {
                    let why = "every condition must hold, there is no `or`; ask twice".into();
                    return Err((at, why));
                }
                "not" | "NOT" => {
                    let why = "there is no `not`; data is compared with `!=`, as in data.ok!=true";
                    return Err((at, why.into()));
                }
                _ => {}
            }
            let operator = scan.operator(&at)?;
            let (literal, place) = scan.value()?;
            self.set(name, at, operator, &literal, place)?;
            (is_behind_one, and) = (true, None);
        }
        and.map_or(Ok(()), |at| Err((at, LONELY_AND.into())))
    }

    /// Reads one condition that ends with the text, its value as it stands; the first `name` bytes are no part of the value.
    fn read_option(&mut self, text: &str, name: usize) -> Result<(), Fault> {
        let end = first_outside_quotes(&text[..name], begins_operator).unwrap_or(name);
        let Some(operator) = Operator::at_start_of(&text[end..]) else {
            let why = "an operator must stand here: =, !=, <, <=, > or >=";
            return Err((end..text.len(), why.into()));
        };
        let place = end + operator.as_str().len()..text.len();
        if text.len() == name && place.is_empty() {
            return Err((place, MISSING.into()));
        }
        let literal = Literal {
            text: text[place.clone()].into(),
            form: Form::Bare,
        };
        self.set(&text[..end], 0..end, operator, &literal, place)
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
        if let Some(path) = path_of_data(name, &at) {
            let path = path?;
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
            Field::Source => filter.source = Some(source(text)?.into()),
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

impl Filter {
    fn begin(&mut self, time: Timestamp) {
        self.since = self.since.max(time);
    }

    fn end(&mut self, time: Timestamp) {
        self.until = self.until.min(time);
    }
}

fn unequal(field: &str) -> String {
    format!("`{field}` cannot be compared with `!=`; give a range")
}

/// The path of a field of the data; `None` if it is none.
fn path_of_data(name: &str, at: &Range<usize>) -> Option<Result<Path, Fault>> {
    let path = name.strip_prefix(DATA)?;
    if let Some(bracket) = first_outside_quotes(name, |c| c == '[') {
        let place = at.start + bracket..at.end;
        let why =
            "a place in a list is written as in data.items.0; put a name with brackets in quotes";
        return Some(Err((place, why.into())));
    }
    match path {
        "" => Some(Ok(Path::root())),
        path => {
            let path = read(Path::parse(path.strip_prefix('.')?));
            Some(path.map_err(|why| (at.clone(), why)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{events::Order, ids::NodeId, value::Value};

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
            (
                "18446744073709551616",
                Value::from(18_446_744_073_709_551_616.0),
            ),
            (
                "-9223372036854775809",
                Value::from(-9_223_372_036_854_775_809.0),
            ),
            // Telephone numbers and postal codes are no numbers; `+5` was one, and `+5.5` was none.
            ("+5", Value::from("+5")),
            ("01067", Value::from("01067")),
            (".5", Value::from(".5")),
            ("TRUE", Value::from("TRUE")),
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
            // What stood behind it was lost, and everything was found.
            ("kind=a and", "and", "between two conditions"),
            ("kind=a AND\n", "AND", "between two conditions"),
            ("and kind=a", "and", "between two conditions"),
            ("and", "and", "between two conditions"),
            ("kind=a and and node=7", "and", "between two conditions"),
            ("data.x=[1]kind=a", "k", "a space must stand"),
            ("data.x={\"a\":1}and kind=a", "a", "a space must stand"),
            ("not kind=b", "not", "there is no `not`"),
            ("kind:paid", "kind:paid", "as in kind=paid"),
            ("data.n=>5", ">", ">="),
            ("data.=5", "data.", "path"),
            ("data..x=5", "data..x", "path"),
            ("source=\"a\"*", "\"a\"*", "only a kind"),
            ("source=[1]", "[1]", "only data"),
            ("source='till 1'", "'", "in double quotes"),
            ("data.name='till'", "'", "in double quotes"),
            ("data.x=[1", "[1", "not JSON"),
            ("order=sideways", "sideways", "use time, -time"),
            ("kind=*.paid", "*.paid", "at the end of a kind"),
            ("kind=a.*.b", "a.*.b", "at the end of a kind"),
            ("data.items[0]=1", "[0]", "as in data.items.0"),
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

    #[test]
    fn an_option_may_carry_its_operator_as_parameters_of_a_url_do() {
        let when = when();
        let read = |name, value| QueryReader::new(&when).option(name, value)?.finish();

        for (name, value, text) in [
            ("data.total>", "100", "data.total>=100"),
            ("data.total<", "100", "data.total<=100"),
            ("data.total!", "100", "data.total!=100"),
            ("data.total>100", "", "data.total>100"),
            ("data.\"a<b\"", "", "data.\"a<b\"=\"\""),
            ("time>", "2026-11-23", "time>=2026-11-23"),
            ("id<9", "", "id<9"),
        ] {
            assert_eq!(read(name, value), parse(text), "{name} {value}");
        }
        for (name, value, place, words) in [
            ("data.total>", "", "", "a value is missing"),
            ("data.total!5", "", "!5=", "an operator must stand here"),
            ("kind>", "a", "kind", "only be compared with `=`"),
            ("knid>", "a", "knid", "did you mean `kind`?"),
        ] {
            let Err(QueryError::Text(misread)) = read(name, value) else {
                panic!("{name} {value} was read");
            };
            assert_eq!(&misread.text()[misread.span()], place, "{misread}");
            assert!(misread.to_string().contains(words), "{misread}");
        }
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

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,60}|[a-z=<>!\"*\\[{ ]{0,30}") {
            is_read_or_pointed_at(&text);
        }

        #[test]
        fn no_option_is_too_strange(name in "data.[a-z<>=!\"\\[ ]{0,9}|[a-z<>=!]{0,9}|\\PC{0,9}", value in "\\PC{0,9}") {
            let when = when();
            if let Err(QueryError::Text(misread)) = QueryReader::new(&when).option(&name, &value) {
                prop_assert_eq!(misread.pointer().lines().count(), 2);
            }
        }
    }
}
