//! Events of forms that many programs share: a function was entered and left, a state changed. Pure.
//!
//! Large values are shortened as [`Value::shortened`] does it, and say so.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    ids::EventId,
    value::{Map, Value},
};

use super::{Event, EventBuilder};

/// A value within an event of these forms that is longer than this, in bytes as encoded, is shortened.
pub const TRUNCATE_BYTES: usize = 10_000;

/// The kind of [`Function::entered`].
pub const FUNCTION_ENTRY: &str = "function_entry";
/// The kind of [`Function::left`].
pub const FUNCTION_EXIT: &str = "function_exit";
/// The kind of [`StateChange::event`].
pub const STATE_CHANGE: &str = "state_change";

/// A function that is called.
///
/// ```
/// use std::time::Duration;
/// use underpin::{events::{FunctionExit, Function}, ids::{IdGenerator, NodeId}};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ids = IdGenerator::new(NodeId::new(7)?);
/// let pay = Function::new("shop::till", "pay");
/// let entry = pay.entered(ids.next(), [42.into(), "EUR".into()]).build()?;
/// let exit = pay
///     .left(ids.next(), entry.id(), Duration::from_micros(250), FunctionExit::Returned(true.into()))
///     .build()?;
/// assert_eq!(exit.parent(), Some(entry.id()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use]
pub struct Function {
    module: Arc<str>,
    name: Arc<str>,
    caller: Option<(Arc<str>, u32)>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FunctionExit {
    /// It returned this.
    Returned(Value),
    /// It returned this error.
    Failed(Value),
    /// It panicked with this message.
    Panicked(Arc<str>),
    /// Its future was dropped before it ended.
    Cancelled,
}

impl Function {
    /// A function of a module.
    pub fn new(module: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            module: module.into(),
            name: name.into(),
            caller: None,
        }
    }

    /// Called from this place in a file.
    pub fn called_from(mut self, file: impl Into<Arc<str>>, line: u32) -> Self {
        self.caller = Some((file.into(), line));
        self
    }

    /// The event of a call that begins. Its data: `call_id` (the event's own id), `module`, `function`, `arity`, `args`, shortened above
    /// [`TRUNCATE_BYTES`] together, and `caller_file` and `caller_line` where they are known. Its source is the module.
    pub fn entered(&self, id: EventId, args: impl Into<Vec<Value>>) -> EventBuilder {
        let args = args.into();
        let arity = args.len() as u64;
        let mut data = self.data(id);
        data.push(("arity", arity.into()));
        data.push(("args", Value::from(args).shortened(TRUNCATE_BYTES)));
        if let Some((file, line)) = &self.caller {
            data.push(("caller_file", file.clone().into()));
            data.push(("caller_line", u64::from(*line).into()));
        }
        self.event(id, FUNCTION_ENTRY, data)
    }

    /// The event of a call that ended, caused by its beginning, `entry`. Its data: `call_id` (the entry's id), `module`, `function`,
    /// `duration_ns`, `exit_reason` (`normal`, `error`, `panic` or `cancelled`), and `result`, shortened above [`TRUNCATE_BYTES`].
    pub fn left(
        &self,
        id: EventId,
        entry: EventId,
        took: Duration,
        exit: FunctionExit,
    ) -> EventBuilder {
        let (reason, result) = match exit {
            FunctionExit::Returned(value) => ("normal", value),
            FunctionExit::Failed(error) => ("error", error),
            FunctionExit::Panicked(message) => ("panic", message.into()),
            FunctionExit::Cancelled => ("cancelled", Value::Null),
        };
        let mut data = self.data(entry);
        // 584 years of nanoseconds fit.
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        data.push(("duration_ns", nanos.into()));
        data.push(("exit_reason", reason.into()));
        data.push(("result", result.shortened(TRUNCATE_BYTES)));
        self.event(id, FUNCTION_EXIT, data).parent(entry)
    }

    fn data(&self, call: EventId) -> Vec<(&'static str, Value)> {
        vec![
            ("call_id", call.to_string().into()),
            ("module", self.module.clone().into()),
            ("function", self.name.clone().into()),
        ]
    }

    fn event(
        &self,
        id: EventId,
        kind: &'static str,
        data: Vec<(&'static str, Value)>,
    ) -> EventBuilder {
        EventBuilder::new(id, kind)
            .source(self.module.clone())
            .data(map(data))
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.module, self.name)
    }
}

/// A state that was replaced by another one. A [`Timeline`](super::Timeline) tells from these events how a state was at any time.
///
/// ```
/// use underpin::{events::StateChange, ids::{IdGenerator, NodeId}, value::Value};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ids = IdGenerator::new(NodeId::new(7)?);
/// let (old, new) = (Value::from([("stock", 5)]), Value::from([("stock", 4)]));
/// let event = StateChange::new("sell", old, new).event(ids.next(), "shop/shelf-3").build()?;
/// assert_eq!(event.kind(), "state_change");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct StateChange {
    callback: Arc<str>,
    old: Value,
    new: Value,
    trigger: Option<Value>,
    keep_bytes: usize,
}

impl StateChange {
    /// What the callback made of a state.
    pub fn new(
        callback: impl Into<Arc<str>>,
        old: impl Into<Value>,
        new: impl Into<Value>,
    ) -> Self {
        Self {
            callback: callback.into(),
            old: old.into(),
            new: new.into(),
            trigger: None,
            keep_bytes: TRUNCATE_BYTES,
        }
    }

    /// The message that the callback was given.
    pub fn trigger(mut self, message: impl Into<Value>) -> Self {
        self.trigger = Some(message.into());
        self
    }

    /// Keeps states of up to that many bytes as encoded, instead of [`TRUNCATE_BYTES`]. A state that was shortened cannot be travelled to;
    /// two of them and the rest must stay within [`DATA_BYTES_MAX`](super::DATA_BYTES_MAX).
    pub fn keep_bytes(mut self, bytes: usize) -> Self {
        self.keep_bytes = bytes;
        self
    }

    /// The event. Its data: `callback`, `old_state` and `new_state`, each shortened when it is too long, `state_diff` (`no_change` or
    /// `changed`), and `trigger_message` where there is one. `source` is whose state it is.
    pub fn event(self, id: EventId, source: impl Into<Arc<str>>) -> EventBuilder {
        let diff = if self.old == self.new {
            "no_change"
        } else {
            "changed"
        };
        let mut data = vec![
            ("callback", self.callback.into()),
            ("old_state", self.old.shortened(self.keep_bytes)),
            ("new_state", self.new.shortened(self.keep_bytes)),
            ("state_diff", diff.into()),
        ];
        if let Some(message) = self.trigger {
            data.push(("trigger_message", message.shortened(TRUNCATE_BYTES)));
        }
        EventBuilder::new(id, STATE_CHANGE)
            .source(source)
            .data(map(data))
    }
}

fn map(entries: Vec<(&'static str, Value)>) -> Value {
    let entries = entries
        .into_iter()
        .map(|(name, value)| (Arc::from(name), value));
    Value::Map(entries.collect::<Map>())
}

impl Event {
    /// The id of the call that a `function_entry` or `function_exit` belongs to.
    #[must_use]
    pub fn call_id(&self) -> Option<EventId> {
        let is_call = [FUNCTION_ENTRY, FUNCTION_EXIT].contains(&self.kind());
        let id = self.data().as_map()?.get("call_id")?.as_str()?;
        is_call.then(|| id.parse().ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u64) -> EventId {
        EventId::new(id).expect("a valid id")
    }

    fn member<'a>(event: &'a Event, name: &str) -> &'a Value {
        let map = event.data().as_map().expect("a map");
        map.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn is_truncated(value: &Value) -> bool {
        value
            .as_map()
            .and_then(|map| map.get("truncated"))
            .is_some_and(|truncated| truncated == &true.into())
    }

    #[test]
    fn f40_an_entry_says_what_is_called_and_each_call_has_its_own_id() {
        let function = Function::new("shop::till", "pay").called_from("src/main.rs", 12);
        let entries: Vec<_> = (1..=10)
            .map(|number| function.entered(id(number), [1.into(), "EUR".into()]))
            .map(|entry| entry.build().expect("valid"))
            .collect();

        let first = &entries[0];
        assert_eq!(
            (first.kind(), first.source()),
            ("function_entry", "shop::till")
        );
        assert_eq!(member(first, "module"), &"shop::till".into());
        assert_eq!(member(first, "function"), &"pay".into());
        assert_eq!(member(first, "arity"), &2.into());
        assert_eq!(
            member(first, "args"),
            &Value::from(vec![1.into(), Value::from("EUR")])
        );
        assert_eq!(member(first, "caller_line"), &12.into());
        let mut calls: Vec<_> = entries.iter().filter_map(Event::call_id).collect();
        calls.dedup();
        assert_eq!(calls.len(), 10);
    }

    #[test]
    fn f40_arguments_above_ten_thousand_bytes_say_that_they_were_cut() {
        let function = Function::new("m", "f");
        let entry = |chars: usize| {
            let entry = function.entered(id(1), [Value::from("x".repeat(chars))]);
            member(&entry.build().expect("valid"), "args").clone()
        };

        assert!(!is_truncated(&entry(9_000)));
        let cut = entry(20_000);
        assert!(is_truncated(&cut));
        let size = cut
            .as_map()
            .and_then(|map| map.get("original_size"))
            .and_then(Value::as_u64);
        assert!(size.is_some_and(|size| size > 20_000));
    }

    #[test]
    fn f41_an_exit_keeps_its_call_how_long_it_took_and_how_it_ended() {
        let function = Function::new("m", "f");
        let map = Value::from([("a", 1)]);
        for (exit, reason, result) in [
            (FunctionExit::Returned("ok".into()), "normal", "ok".into()),
            (FunctionExit::Returned(map.clone()), "normal", map),
            (FunctionExit::Returned(Value::Null), "normal", Value::Null),
            (
                FunctionExit::Failed("no room".into()),
                "error",
                "no room".into(),
            ),
            (
                FunctionExit::Panicked("boom".into()),
                "panic",
                "boom".into(),
            ),
            (FunctionExit::Cancelled, "cancelled", Value::Null),
        ] {
            let took = Duration::from_nanos(1_500);
            let exit = function
                .left(id(9), id(5), took, exit)
                .build()
                .expect("valid");

            assert_eq!(
                (exit.kind(), exit.call_id()),
                ("function_exit", Some(id(5)))
            );
            assert_eq!(exit.parent(), Some(id(5)));
            assert_eq!(member(&exit, "duration_ns"), &1_500.into());
            assert_eq!(member(&exit, "exit_reason"), &reason.into());
            assert_eq!(member(&exit, "result"), &result);
        }
        let large = FunctionExit::Returned("x".repeat(20_000).into());
        let exit = function
            .left(id(9), id(5), Duration::ZERO, large)
            .build()
            .expect("valid");
        assert!(is_truncated(member(&exit, "result")));
    }

    #[test]
    fn f42_equal_states_are_no_change_and_a_nested_difference_is_one() {
        let state = |n: i64| Value::from([("a", Value::from([("b", n)]))]);
        let diff = |old, new| {
            let change = StateChange::new("handle_call", old, new).trigger("tick");
            let event = change.event(id(1), "server").build().expect("valid");
            assert_eq!((event.kind(), event.source()), ("state_change", "server"));
            assert_eq!(member(&event, "trigger_message"), &"tick".into());
            member(&event, "state_diff")
                .as_str()
                .expect("text")
                .to_owned()
        };

        assert_eq!(diff(state(1), state(1)), "no_change");
        assert_eq!(diff(state(1), state(2)), "changed");
    }

    #[test]
    fn a_state_is_cut_above_what_is_to_be_kept() {
        let large = Value::from("x".repeat(20_000));
        let change = StateChange::new("c", Value::Null, large.clone());

        let cut = change.clone().event(id(1), "s").build().expect("valid");
        let whole = change
            .keep_bytes(30_000)
            .event(id(1), "s")
            .build()
            .expect("valid");

        assert!(is_truncated(member(&cut, "new_state")));
        assert_eq!(member(&whole, "new_state"), &large);
    }
}
