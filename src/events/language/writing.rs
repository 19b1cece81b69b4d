//! A query as the text that is read back as the same query.

use std::fmt;

use crate::{ids::EventId, value::Value};

use super::super::{
    Order, Query, Timestamp,
    filter::{FIRST_ID, Filter, KindFilter},
};

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
    use crate::{
        events::{Comparison, Operator, QueryError, When},
        ids::CorrelationId,
        value::Path,
    };

    fn parse(text: &str) -> Result<Query, QueryError> {
        Query::parse(text, &When::utc(Timestamp::from_nanos(0)))
    }

    fn id(id: u64) -> EventId {
        EventId::new(id).expect("a valid id")
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
        fn a_good_query_cut_anywhere_is_read_or_pointed_at(query in any_query(), cut in any::<prop::sample::Index>()) {
            let text = query.to_string();
            let cut = text.floor_char_boundary(cut.index(text.len() + 1));
            if let Err(QueryError::Text(misread)) = parse(&text[..cut]) {
                prop_assert!(misread.span().end <= cut);
            }
        }
    }
}
