//! `events why` and `events effects`.

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use super::{eprintln_quietly, show, tree};
use crate::cli::{arguments::Get, client::Client, failure::Failure, output::Output};

/// The first cause first, and the event itself last.
pub(in crate::cli) fn why(get: &Get, out: &mut Output) -> Result<(), Failure> {
    let path = format!("/api/v1/events/{}/causes", get.id);
    let answer = Client::new(&get.reach.node).get_json(&path, &[])?;
    if get.reach.json {
        return out.line(answer);
    }
    let answer = answer.read()?;
    let mut events: Vec<Json> = answer["events"].as_array().cloned().unwrap_or_default();
    rows(events.len().saturating_sub(1), &mut events, out)?;
    let id = answer["end"]["id"].as_str().unwrap_or_default();
    match answer["end"]["end"].as_str() {
        Some("missing") => eprintln_quietly(&format!(
            "underpin: the first of these names a cause, {id}, that is not stored, or not any more"
        )),
        Some("circle") => eprintln_quietly(&format!(
            "underpin: these events lead back to {id}: their parents go in a circle"
        )),
        Some("too_long") => eprintln_quietly("underpin: there are more causes than are followed"),
        _ => {}
    }
    Ok(())
}

/// The event first, then what came of it.
pub(in crate::cli) fn effects(get: &Get, out: &mut Output) -> Result<(), Failure> {
    let path = format!("/api/v1/events/{}/effects", get.id);
    let answer = Client::new(&get.reach.node).get_json(&path, &[])?;
    if get.reach.json {
        return out.line(answer);
    }
    let answer = answer.read()?;
    let effects = answer["effects"].as_array().into_iter().flatten();
    let event = Some(&answer["event"]).filter(|event| event.is_object());
    let mut events: Vec<Json> = event
        .into_iter()
        .chain(effects.map(|effect| &effect["event"]))
        .cloned()
        .collect();
    rows(0, &mut events, out)?;
    if answer["complete"] == false {
        eprintln_quietly(
            "underpin: these are not all: there are more than are followed, or some cannot be read",
        );
    }
    Ok(())
}

/// Shows events with one of them on top, also where it has a parent among the others: parents may go in a circle.
fn rows(top: usize, events: &mut [Json], out: &mut Output) -> Result<(), Failure> {
    if let Some(Json::Object(top)) = events.get_mut(top) {
        top.remove("parent");
    }
    let zone = TimeZone::system();
    tree::arrange(events)
        .iter()
        .try_for_each(|row| out.line(show::in_a_tree(row, &zone)))
}
