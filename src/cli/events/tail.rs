//! `events tail`: events as they are stored, from a node that may go away and come back meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;

use super::{ask, eprintln_quietly, show};
use crate::cli::{
    arguments::Tail,
    client::{Client, ClientError},
    failure::Failure,
    output::Output,
};

/// How soon a node that went away is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// What a node says of a place that is not in its log.
const GONE: &str = "gone";

/// Shows events until there were as many as asked for, or for ever.
pub(in crate::cli) fn tail(arguments: &Tail, out: &mut Output) -> Result<(), Failure> {
    let zone = TimeZone::system();
    let query = ask(&arguments.filter, &[])?.to_string();
    let client = Client::new(&arguments.reach.node);
    let patience = Duration::from_secs(arguments.retry_for);
    let mut from = arguments.from.clone();
    let mut left = arguments.limit;
    let mut lost: Option<Instant> = None;
    while left != Some(0) {
        let parameters = [("q", query.as_str()), ("from", from.as_str())];
        let lines = match client.follow("/api/v1/events/stream", &parameters) {
            Ok(lines) => lines,
            Err(error @ (ClientError::Lost(_) | ClientError::Unavailable(_))) => {
                // A node that never answered is told at once.
                let since = lost.filter(|since| since.elapsed() < patience);
                since.ok_or(error)?;
                thread::sleep(AGAIN);
                continue;
            }
            // Nothing of this log was shown: none of it is left out, and none comes twice.
            Err(ClientError::Refused(refusal)) if refusal.code == GONE && lost.is_some() => {
                eprintln_quietly(
                    "underpin: the node has another log now; going on with its beginning",
                );
                from = "beginning".into();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        lost = None;
        let mut message = Message::default();
        for line in lines {
            // A connection that breaks is made again, from where it was.
            let Ok(line) = line else {
                break;
            };
            if let Some(told) = message.take(&line) {
                from = told.id.clone().unwrap_or(from);
                if !show_one(&told, arguments.reach.json, &zone, out)? {
                    continue;
                }
                out.flush()?;
                left = left.map(|left| left - 1);
                if left == Some(0) {
                    break;
                }
            }
        }
        if left != Some(0) {
            eprintln_quietly("underpin: the node went away; waiting for it");
            lost = Some(Instant::now());
        }
    }
    Ok(())
}

/// Whether there was something to show: the first message only says where it begins.
fn show_one(told: &Told, json: bool, zone: &TimeZone, out: &mut Output) -> Result<bool, Failure> {
    match &told.data {
        None => return Ok(false),
        Some(data) if told.is_unreadable => {
            eprintln_quietly(&format!("underpin: an event could not be read: {data}"));
        }
        Some(data) => show(data, json, zone, out)?,
    }
    Ok(true)
}

/// One server-sent event, line by line (HTML, section 9.2.6).
#[derive(Debug, Default)]
struct Message {
    id: Option<String>,
    kind: Option<String>,
    data: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Told {
    id: Option<String>,
    data: Option<String>,
    is_unreadable: bool,
}

impl Message {
    fn take(&mut self, line: &str) -> Option<Told> {
        if line.is_empty() {
            let Self { id, kind, data } = std::mem::take(self);
            let said = id.is_some() || data.is_some();
            return said.then(|| Told {
                id,
                data,
                is_unreadable: kind.as_deref() == Some("unreadable"),
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "id" => self.id = Some(value),
            "event" => self.kind = Some(value),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                None => self.data = Some(value),
            },
            // A comment says that the node is there.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Told> {
        let mut message = Message::default();
        text.lines().filter_map(|line| message.take(line)).collect()
    }

    #[test]
    fn messages_are_read_as_browsers_read_them() {
        let told = read(
            ": alive\n\nid: 0.1.2\n: from here\n\nid: 1.2.3\ndata: {\"a\":1}\n\nevent: unreadable\ndata:x\ndata: y\n\n",
        );

        let expected = [
            Told {
                id: Some("0.1.2".into()),
                data: None,
                is_unreadable: false,
            },
            Told {
                id: Some("1.2.3".into()),
                data: Some("{\"a\":1}".into()),
                is_unreadable: false,
            },
            Told {
                id: None,
                data: Some("x\ny".into()),
                is_unreadable: true,
            },
        ];
        assert_eq!(told, expected);
    }
}
