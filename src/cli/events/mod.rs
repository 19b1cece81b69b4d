//! `events query`, `get`, `tail`, `trace`, `why`, `effects` and `timeline`.

mod lineage;
mod show;
mod states;
mod tail;
mod trace;
mod tree;

use jiff::tz::TimeZone;
use serde_json::Value as Json;
use underpin::events::{Query as EventQuery, QueryError, QueryReader, Timestamp, When};

use super::{
    arguments::{Filter, Get, Query},
    client::{Client, ClientError},
    failure::Failure,
    output::Output,
};

pub(super) use lineage::{effects, why};
pub(super) use states::timeline;
pub(super) use tail::tail;
pub(super) use trace::trace;

/// What the node takes when no limit is said.
const LIMIT_DEFAULT: usize = 1000;

/// One line an event, a tree of them, how many there are, or how they were found.
pub(super) fn query(query: &Query, out: &mut Output) -> Result<(), Failure> {
    let limit = query.limit.map(|limit| limit.to_string());
    let text = ask(
        &query.filter,
        &[
            ("limit", limit.as_deref()),
            ("order", query.order.as_deref()),
            ("after", query.after.as_deref()),
        ],
    )?;
    let client = Client::new(&query.reach.node);
    let parameters = [("q", text.as_str())];
    if query.explain || query.count {
        let (path, name) = if query.count {
            ("/api/v1/events/count", "count")
        } else {
            ("/api/v1/events/explain", "text")
        };
        let answer = client.get_json(path, &parameters)?;
        if query.reach.json {
            return out.line(answer);
        }
        let told = &answer.read()?[name];
        return out.line(
            told.as_str()
                .map_or_else(|| told.to_string(), str::to_owned),
        );
    }
    let zone = TimeZone::system();
    let mut shown = 0;
    let mut events = Vec::new();
    for line in client.get_lines("/api/v1/events", &parameters)? {
        let line = line?;
        shown += 1;
        if query.tree {
            events.push(parse(&line)?);
        } else {
            show(&line, query.reach.json, &zone, out)?;
        }
    }
    if query.tree {
        for row in tree::arrange(&events) {
            out.line(show::in_a_tree(&row, &zone))?;
        }
    }
    out.flush()?;
    if query.limit.is_none() && shown == LIMIT_DEFAULT && !query.reach.json {
        eprintln_quietly(
            "underpin: 1000 events shown, there may be more; say --limit N (up to 100000)",
        );
    }
    Ok(())
}

/// One event with all its data.
pub(super) fn get(get: &Get, out: &mut Output) -> Result<(), Failure> {
    let path = format!("/api/v1/events/{}", get.id);
    let answer = Client::new(&get.reach.node).get_json(&path, &[])?;
    if get.reach.json {
        return out.line(answer);
    }
    show::in_full(&answer.read()?)
        .into_iter()
        .try_for_each(|line| out.line(line))
}

/// The query of a command line, as text for the node: read here, so that dates are those of this machine's zone, and what is wrong is
/// pointed at before anybody is asked.
fn ask(filter: &Filter, more: &[(&str, Option<&str>)]) -> Result<String, Failure> {
    let when = When {
        now: Timestamp::now(),
        zone: TimeZone::system(),
    };
    read_query(&when, filter, more)
        .map(|query| query.to_string())
        .map_err(|error| match &error {
            QueryError::Text(misread) => {
                Failure::Usage(format!("{error}\n{}", indented(&misread.pointer())))
            }
            _ => Failure::Usage(error.to_string()),
        })
}

fn read_query(
    when: &When,
    filter: &Filter,
    more: &[(&str, Option<&str>)],
) -> Result<EventQuery, QueryError> {
    let mut reader = QueryReader::new(when).text(&filter.query.join(" "))?;
    let options = [
        ("kind", filter.kind.as_deref()),
        ("correlation", filter.correlation.as_deref()),
        ("source", filter.source.as_deref()),
        ("parent", filter.parent.as_deref()),
        ("node", filter.made_by.as_deref()),
        ("since", filter.since.as_deref()),
        ("until", filter.until.as_deref()),
        ("as_of", filter.as_of.as_deref()),
    ];
    for (name, value) in options.iter().chain(more) {
        if let Some(value) = value {
            reader = reader.option(name, value)?;
        }
    }
    reader.finish()
}

fn indented(lines: &str) -> String {
    let lines: Vec<_> = lines.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

fn show(line: &str, json: bool, zone: &TimeZone, out: &mut Output) -> Result<(), Failure> {
    let parsed = parse(line)?;
    if json {
        out.line(line)
    } else {
        out.line(show::in_one_line(&parsed, zone))
    }
}

fn parse(line: &str) -> Result<Json, Failure> {
    let parsed: Json = serde_json::from_str(line).map_err(|error| {
        ClientError::Foreign(format!(
            "the node answered a line that is no JSON ({error}); check --node"
        ))
    })?;
    match parsed.get("error") {
        None => Ok(parsed),
        // The answer had begun when something went wrong; the rest is missing.
        Some(error) => Err(Failure::Unreachable {
            message: format!(
                "the node broke off its answer: {}",
                error["message"].as_str().unwrap_or("no reason given")
            ),
        }),
    }
}

fn eprintln_quietly(line: &str) {
    use std::io::Write;
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}
