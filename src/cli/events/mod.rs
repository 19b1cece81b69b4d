//! `events query`, `get`, `tail`, `trace`, `why`, `effects` and `timeline`; `verify`, `repair`, `export` and `backup`.

mod lineage;
mod maintenance;
mod show;
mod states;
mod tail;
mod trace;
mod tree;

use std::io::IsTerminal as _;

use jiff::tz::TimeZone;
use serde_json::Value as Json;
use underpin::{
    events::{Query as EventQuery, QueryError, QueryReader, Timestamp, When},
    ids::EventId,
};

use super::{
    arguments::{Filter, Get, Query},
    client::{Client, ClientError},
    failure::Failure,
    output::{Output, harmless},
};

pub(super) use lineage::{effects, why};
pub(super) use maintenance::{backup, export, repair, verify};
pub(super) use states::timeline;
pub(super) use tail::tail;
pub(super) use trace::trace;

/// One line an event, a tree of them, how many there are, or how they were found.
pub(super) fn query(query: &Query, out: &mut Output) -> Result<(), Failure> {
    let limit = query.limit.map(|limit| limit.to_string());
    let asked = ask(
        &query.filter,
        &[
            ("limit", limit.as_deref()),
            ("order", query.order.as_deref()),
            ("after", query.after.as_deref()),
        ],
    )?;
    let text = asked.to_string();
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
    let lines = client.get_lines("/api/v1/events", &parameters)?;
    show_found(query, &asked, lines, out)
}

fn show_found(
    query: &Query,
    asked: &EventQuery,
    lines: impl Iterator<Item = Result<String, ClientError>>,
    out: &mut Output,
) -> Result<(), Failure> {
    let (zone, json) = (TimeZone::system(), query.reach.json);
    let (mut shown, mut last) = (0, None);
    let mut events = Vec::new();
    for line in lines {
        let line = line?;
        let event = parse(&line)?;
        if is_unreadable(&event, json) {
            if json {
                out.line(&line)?;
            }
            continue;
        }
        shown += 1;
        last = place_of(&event);
        if query.tree {
            events.push(event);
        } else if json {
            out.line(&line)?;
        } else {
            out.line(show::in_one_line(&event, &zone))?;
        }
    }
    for row in tree::arrange(&events) {
        if json {
            out.line(show::in_a_tree_as_json(&row))?;
        } else {
            out.line(show::in_a_tree(&row, &zone))?;
        }
    }
    out.flush()?;
    // Who asked for so many, and pipes them on, knows.
    let is_new = query.limit.is_none() || std::io::stdout().is_terminal();
    if let Some((time, id)) = last.filter(|_| shown == asked.wanted() && is_new && !json) {
        let cursor = asked.cursor_behind(time, id);
        eprintln_quietly(&format!(
            "underpin: {shown} events shown, there may be more: say --limit N (up to {}), or go on with --after {cursor}",
            EventQuery::LIMIT_MAX
        ));
    }
    Ok(())
}

/// Whether the line tells of an event that belongs here and could not be read, of which people are warned.
fn is_unreadable(line: &Json, json: bool) -> bool {
    let Some(id) = line["unreadable"].as_str() else {
        return false;
    };
    if !json {
        eprintln_quietly(&format!(
            "underpin: event {id} belongs here and cannot be read; `underpin events get {id}` says why"
        ));
    }
    true
}

fn place_of(event: &Json) -> Option<(Timestamp, EventId)> {
    let time = event["time"].as_str()?.parse().ok()?;
    Some((time, event["id"].as_str()?.parse().ok()?))
}

/// One event with all its data.
pub(super) fn get(get: &Get, out: &mut Output) -> Result<(), Failure> {
    let path = format!("/api/v1/events/{}", get.id);
    let answer = Client::new(&get.reach.node).get_json(&path, &[])?;
    if get.reach.json {
        return out.line(answer);
    }
    out.lines(show::in_full(&answer.read()?))
}

/// The query of a command line, for the node: read here, so that dates are those of this machine's zone, and what is wrong is
/// pointed at before anybody is asked.
fn ask(filter: &Filter, more: &[(&str, Option<&str>)]) -> Result<EventQuery, Failure> {
    let when = When {
        now: Timestamp::now(),
        zone: TimeZone::system(),
    };
    read_query(&when, filter, more).map_err(|error| match &error {
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
    let _ = writeln!(std::io::stderr(), "{}", harmless(line));
}
