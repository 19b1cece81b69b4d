//! `events trace`: a correlation for a trace viewer.

use std::fs;

use underpin::{
    capture::chrome_trace,
    events::{Event, EventDraft, Timestamp},
};

use super::{
    super::{
        arguments::Trace,
        client::{Client, ClientError},
        failure::Failure,
        output::Output,
    },
    is_unreadable, parse,
};

/// How many events of a correlation a viewer is given: what the node answers at once.
const LIMIT: usize = 100_000;

/// Writes the events of a correlation as a Chrome trace.
pub(in super::super) fn trace(trace: &Trace, out: &mut Output) -> Result<(), Failure> {
    let limit = LIMIT.to_string();
    let parameters = [
        ("correlation", trace.correlation.as_str()),
        ("limit", &limit),
    ];
    let lines = Client::new(&trace.reach.node).get_lines("/api/v1/events", &parameters)?;
    let mut events = Vec::new();
    for line in lines {
        let line = line?;
        if !is_unreadable(&parse(&line)?, false) {
            events.push(event(&line)?);
        }
    }
    if events.is_empty() {
        let message = format!(
            "no event has the correlation {}; look for one with `underpin events query`",
            trace.correlation
        );
        return Err(Failure::refused("not_found", message));
    }
    let text = chrome_trace(&events).to_string();
    match &trace.out {
        None => out.line(text),
        Some(file) => fs::write(file, text).map_err(|error| {
            let message = format!("{} cannot be written: {error}", file.display());
            Failure::refused("unwritable", message)
        }),
    }
}

fn event(line: &str) -> Result<Event, Failure> {
    let foreign = |why: String| {
        ClientError::Foreign(format!(
            "the node answered a line that is no event ({why}); check --node"
        ))
    };
    let draft: EventDraft =
        serde_json::from_str(line).map_err(|error| foreign(error.to_string()))?;
    let id = draft.id.ok_or_else(|| foreign("it has no id".to_owned()))?;
    let event = draft.into_event(id, Timestamp::now());
    Ok(event.map_err(|error| foreign(error.to_string()))?)
}
