//! What is sent in one request: events of consecutive lines, and the mark behind them.

use serde_json::json;
use underpin::ids::EventId;

use super::{checkpoint::Checkpoint, format::Refused, reader::Unfinished};
use crate::cli::client::Refusal;

/// Enough that a batch's sync to disk is shared by many, few enough that a kill repeats little.
pub(super) const LINES_MAX: usize = 2000;
/// A batch is sent when it holds this many bytes. With one more line of the largest size, fully escaped, it stays below the 16 MiB
/// that a node takes.
const BYTES_MAX: usize = 1024 * 1024;

/// Consecutive lines of an input.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The members of each event's object, all but its id, each with a comma in front.
    members: Vec<u8>,
    events: Vec<Entry>,
    pub(super) refused: Vec<RefusedLine>,
    /// Where the input stands behind this batch; none for a pipe.
    pub(super) mark: Option<Checkpoint>,
    /// Bytes of the input up to here.
    pub(super) position: u64,
    pub(super) last: bool,
    /// The last line of the input, which has no end yet and is not part of this.
    pub(super) unfinished: Option<Unfinished>,
}

#[derive(Debug)]
struct Entry {
    end: usize,
    line: u64,
    /// The id that the line states, or the one that it was given.
    id: Option<EventId>,
}

/// A line that is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedLine {
    pub(super) line: u64,
    pub(super) why: Refused,
}

/// A name of a megabyte is cut where it is told.
const WHY_CHARS_MAX: usize = 300;

impl Batch {
    /// Adds what `read` makes of a line.
    pub(super) fn add(
        &mut self,
        line: u64,
        read: impl FnOnce(&mut Vec<u8>) -> Result<Option<EventId>, Refused>,
    ) {
        match read(&mut self.members) {
            Ok(id) => self.events.push(Entry {
                end: self.members.len(),
                line,
                id,
            }),
            Err(why) => self.refuse(line, &why),
        }
    }

    pub(super) fn refuse(&mut self, line: u64, why: &str) {
        let why = match why.char_indices().nth(WHY_CHARS_MAX) {
            Some((end, _)) => format!("{}..", &why[..end]),
            None => why.to_owned(),
        };
        self.refused.push(RefusedLine { line, why });
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() + self.refused.len() >= LINES_MAX || self.members.len() >= BYTES_MAX
    }

    pub(super) fn events(&self) -> usize {
        self.events.len()
    }

    /// How many events have no id yet.
    pub(super) fn ids_wanted(&self) -> usize {
        self.events
            .iter()
            .filter(|event| event.id.is_none())
            .count()
    }

    /// Gives ids to the events that have none, in their order.
    pub(super) fn assign(&mut self, ids: impl IntoIterator<Item = EventId>) {
        let without = self.events.iter_mut().filter(|event| event.id.is_none());
        for (event, id) in without.zip(ids) {
            event.id = Some(id);
        }
    }

    /// Which event made the node refuse the batch: by its place, or (another event has its id) by the id in the message.
    pub(super) fn blamed(&self, refusal: &Refusal) -> Option<usize> {
        if let Some(index) = refusal.index {
            return (index < self.events.len()).then_some(index);
        }
        let mut named = refusal
            .message
            .split_whitespace()
            .filter_map(|word| word.parse::<EventId>().ok());
        // The later one, where two lines of the batch have one id.
        named.find_map(|id| self.events.iter().rposition(|event| event.id == Some(id)))
    }

    /// Takes out the event that the node refused.
    pub(super) fn drop_refused(&mut self, index: usize, why: &str) {
        if index >= self.events.len() {
            return;
        }
        let start = self.start(index);
        let entry = self.events.remove(index);
        let length = entry.end - start;
        self.members.drain(start..entry.end);
        for later in &mut self.events[index..] {
            later.end -= length;
        }
        self.refuse(entry.line, why);
    }

    /// The request. The same each time it is made.
    pub(super) fn body(&self, checkpoint: Option<(&str, &Checkpoint)>) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.members.len() + self.events.len() * 32 + 1024);
        body.extend_from_slice(b"{\"events\":[");
        for (index, event) in self.events.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(b"{\"id\":\"");
            if let Some(id) = event.id {
                body.extend_from_slice(id.to_string().as_bytes());
            }
            body.push(b'"');
            body.extend_from_slice(&self.members[self.start(index)..event.end]);
            body.push(b'}');
        }
        body.push(b']');
        if let Some((key, value)) = checkpoint {
            let checkpoint = json!({"key": key, "value": value});
            body.extend_from_slice(format!(",\"checkpoint\":{checkpoint}").as_bytes());
        }
        body.push(b'}');
        body
    }

    fn start(&self, index: usize) -> usize {
        match index {
            0 => 0,
            index => self.events[index - 1].end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> EventId {
        EventId::new(number).expect("an id")
    }

    fn batch(lines: &[(&str, Option<u64>)]) -> Batch {
        let mut batch = Batch::default();
        for (line, (kind, own)) in lines.iter().enumerate() {
            batch.add(line as u64 + 1, |out| {
                out.extend_from_slice(format!(",\"kind\":\"{kind}\"").as_bytes());
                Ok(own.map(id))
            });
        }
        batch
    }

    fn text(batch: &Batch) -> String {
        String::from_utf8(batch.body(None)).expect("UTF-8")
    }

    #[test]
    fn events_get_ids_in_their_order_but_for_those_that_have_one() {
        let mut batch = batch(&[("a", None), ("b", Some(9)), ("c", None)]);

        assert_eq!(batch.ids_wanted(), 2);
        batch.assign([id(1), id(2)]);

        assert_eq!(
            text(&batch),
            r#"{"events":[{"id":"1","kind":"a"},{"id":"9","kind":"b"},{"id":"2","kind":"c"}]}"#
        );
        assert_eq!(batch.ids_wanted(), 0);
    }

    #[test]
    fn an_event_that_the_node_refused_is_taken_out_and_the_others_keep_their_ids() {
        for (index, left) in [
            (
                0,
                r#"{"events":[{"id":"2","kind":"bb"},{"id":"3","kind":"c"}]}"#,
            ),
            (
                1,
                r#"{"events":[{"id":"1","kind":"a"},{"id":"3","kind":"c"}]}"#,
            ),
            (
                2,
                r#"{"events":[{"id":"1","kind":"a"},{"id":"2","kind":"bb"}]}"#,
            ),
        ] {
            let mut batch = batch(&[("a", Some(1)), ("bb", Some(2)), ("c", Some(3))]);

            batch.drop_refused(index, "no");

            assert_eq!(text(&batch), left);
            assert_eq!(
                batch.refused,
                [RefusedLine {
                    line: index as u64 + 1,
                    why: "no".into()
                }]
            );
        }
    }

    #[test]
    fn the_event_to_blame_is_named_by_place_or_by_id() {
        let batch = batch(&[("a", Some(7)), ("b", Some(8))]);
        let refusal = |index, message: &str| Refusal {
            code: "conflict".into(),
            message: message.into(),
            index,
        };

        assert_eq!(batch.blamed(&refusal(Some(1), "bad")), Some(1));
        assert_eq!(batch.blamed(&refusal(Some(2), "bad")), None);
        assert_eq!(
            batch.blamed(&refusal(None, "event 8 is already stored and differs")),
            Some(1)
        );
        assert_eq!(
            batch.blamed(&refusal(None, "event 9 is already stored and differs")),
            None
        );
        assert_eq!(batch.blamed(&refusal(None, "no")), None);
    }

    #[test]
    fn the_mark_travels_with_the_events() {
        let mark = Checkpoint::default();
        let body = Batch::default().body(Some(("import:/a \"b\"", &mark)));

        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");

        assert_eq!(body["checkpoint"]["key"], "import:/a \"b\"");
        assert_eq!(body["checkpoint"]["value"]["offset"], 0);
        assert_eq!(body["events"], json!([]));
    }

    #[test]
    fn a_batch_is_full_by_lines_and_by_bytes() {
        let mut by_lines = Batch::default();
        for line in 0..LINES_MAX as u64 {
            assert!(!by_lines.is_full());
            by_lines.refuse(line, "no");
        }
        assert!(by_lines.is_full());

        let mut by_bytes = Batch::default();
        by_bytes.add(1, |out| {
            out.resize(BYTES_MAX, b'x');
            Ok(None)
        });
        assert!(by_bytes.is_full());
    }

    #[test]
    fn a_reason_of_a_megabyte_is_cut() {
        let mut batch = Batch::default();

        batch.refuse(1, &"ä".repeat(1_000_000));

        assert!(batch.refused[0].why.len() < 1000);
    }
}
