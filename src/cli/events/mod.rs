//! `events query`, `events get` and `events trace`.

mod show;
mod trace;

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use super::{
    arguments::{Get, Query},
    client::{Client, ClientError},
    failure::Failure,
    output::Output,
};
pub(super) use trace::trace;
use underpin::events::{Edge, When};

/// What the node takes when no limit is said.
const LIMIT_DEFAULT: usize = 1000;

/// One line an event.
pub(super) fn query(query: &Query, out: &mut Output) -> Result<(), Failure> {
    let now = When {
        now: underpin::events::Timestamp::now(),
        zone: TimeZone::system(),
    };
    let since = time(&now, "--since", query.since.as_deref(), Edge::Start)?;
    let until = time(&now, "--until", query.until.as_deref(), Edge::End)?;
    let limit = query.limit.map(|limit| limit.to_string());
    let parameters: Vec<(&str, &str)> = [
        ("kind", &query.kind),
        ("correlation", &query.correlation),
        ("source", &query.source),
        ("since", &since),
        ("until", &until),
        ("limit", &limit),
        ("order", &query.order),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    .collect();

    let mut shown = 0;
    for line in Client::new(&query.reach.node).get_lines("/api/v1/events", &parameters)? {
        show(&line?, query.reach.json, &now.zone, out)?;
        shown += 1;
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

fn show(line: &str, json: bool, zone: &TimeZone, out: &mut Output) -> Result<(), Failure> {
    let parsed: Json = match serde_json::from_str(line) {
        Ok(parsed) => parsed,
        Err(error) => {
            return Err(ClientError::Foreign(format!(
                "the node answered a line that is no JSON ({error}); check --node"
            ))
            .into());
        }
    };
    if let Some(error) = parsed.get("error") {
        // The answer had begun when something went wrong; the rest is missing.
        let message = error["message"].as_str().unwrap_or("no reason given");
        return Err(Failure::Unreachable {
            message: format!("the node broke off its answer: {message}"),
        });
    }
    if json {
        out.line(line)
    } else {
        out.line(show::in_one_line(&parsed, zone))
    }
}

fn time(
    when: &When,
    option: &str,
    text: Option<&str>,
    edge: Edge,
) -> Result<Option<String>, Failure> {
    text.map(|text| {
        when.read(text, edge)
            .map(|time| time.to_string())
            .map_err(|why| Failure::Usage(format!("{option} {text}: {why}")))
    })
    .transpose()
}

fn eprintln_quietly(line: &str) {
    use std::io::Write;
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}
