//! `events timeline`.

use jiff::tz::TimeZone;
use serde_json::Value as Json;
use underpin::events::{Edge, Timestamp, When};

use super::{ask, eprintln_quietly, show};
use crate::cli::{arguments::Timeline, client::Client, failure::Failure, output::Output};

/// States at a time, or what differs between two.
pub(in crate::cli) fn timeline(arguments: &Timeline, out: &mut Output) -> Result<(), Failure> {
    let when = When {
        now: Timestamp::now(),
        zone: TimeZone::system(),
    };
    let query = ask(&arguments.filter(), &[])?.to_string();
    let mut parameters = vec![("q", query)];
    for (name, text, edge) in [
        ("at", &arguments.at, Edge::End),
        ("from", &arguments.from, Edge::Before),
        ("to", &arguments.to, Edge::End),
    ] {
        if let Some(text) = text {
            let time = when.read(text, edge);
            let time = time.map_err(|why| Failure::Usage(format!("--{name} {text}: {why}")))?;
            parameters.push((name, time.to_string()));
        }
    }
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let answer = Client::new(&arguments.reach.node).get_json("/api/v1/timeline", &parameters)?;
    if arguments.reach.json {
        return out.line(answer);
    }
    let answer = answer.read()?;
    if let Some(untold @ 1..) = answer["untold"].as_u64() {
        eprintln_quietly(&format!(
            "underpin: {untold} state_change event(s) have no `new_state` in their data, and are left out"
        ));
    }
    match &answer["states"] {
        Json::Array(states) => show_states(states, &when.zone, out),
        _ => show_differences(&answer, out),
    }
}

fn show_states(states: &[Json], zone: &TimeZone, out: &mut Output) -> Result<(), Failure> {
    if states.is_empty() {
        eprintln_quietly("underpin: no state is known at that time");
    }
    for state in states {
        out.lines(show::state(state, zone))?;
    }
    Ok(())
}

fn show_differences(answer: &Json, out: &mut Output) -> Result<(), Failure> {
    let differences = answer["differences"].as_array().into_iter().flatten();
    for difference in differences {
        out.line(show::difference(difference))?;
    }
    let breaks: Vec<&str> = answer["breaks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    if !breaks.is_empty() {
        eprintln_quietly(&format!(
            "underpin: a state changed without an event that tells of it, before {}",
            breaks.join(", ")
        ));
    }
    Ok(())
}
