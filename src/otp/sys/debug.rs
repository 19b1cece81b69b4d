//! What is noted of the messages of one child while somebody wants it noted: statistics, a log, a trace, hooks.

use std::{
    any::type_name,
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::otp::incarnation::discard;

/// A message that came in to be handled, or an answer that went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Which of the two.
    pub direction: Direction,
    /// What the message is called, where its address gives names; else the name of its type. For an answer, the name of the
    /// type that was answered.
    pub name: &'static str,
    /// When.
    pub at: Instant,
}

/// Which way something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A message, as it begins to be handled.
    In,
    /// An answer to a caller that still waits for it.
    Out,
}

/// How much went by since statistics were turned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Since when is counted.
    pub since: Instant,
    /// For how long.
    pub elapsed: Duration,
    /// Messages that were begun.
    pub messages_in: u64,
    /// Answers that were sent.
    pub messages_out: u64,
}

/// What becomes of a hook after it was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It stays.
    Yes,
    /// It is done, and is removed.
    No,
}

/// What all children have; costs a look at a flag while it is off.
#[derive(Debug, Default)]
pub(crate) struct Debug {
    on: AtomicBool,
    /// In its own place, since mostly nothing is wanted.
    wanted: Mutex<Option<Box<Wanted>>>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Since when, messages in, answers out.
    statistics: Option<(Instant, u64, u64)>,
    log: Option<Ring>,
    trace: Option<Arc<str>>,
    hooks: Vec<Arc<Hook>>,
}

/// The newest entries, as many as there is room for.
#[derive(Debug)]
struct Ring {
    room: usize,
    entries: VecDeque<Traffic>,
}

struct Hook {
    id: Arc<str>,
    call: Mutex<Box<Call>>,
}

type Call = dyn FnMut(&Traffic) -> Keep + Send;

impl Debug {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    #[cold]
    pub(crate) fn message_in<M>(&self, name: Option<&'static str>) {
        self.note(Traffic {
            direction: Direction::In,
            name: name.unwrap_or_else(type_name::<M>),
            at: Instant::now(),
        });
    }

    #[cold]
    pub(crate) fn answer_out<T>(&self) {
        self.note(Traffic {
            direction: Direction::Out,
            name: type_name::<T>(),
            at: Instant::now(),
        });
    }

    fn note(&self, traffic: Traffic) {
        let hooks = {
            let mut wanted = self.wanted.lock();
            let Some(wanted) = &mut *wanted else { return };
            wanted.note(traffic);
            wanted.hooks.clone()
        };
        // Without the lock: a hook may look at the child that it hangs on.
        for hook in hooks {
            if hook.call(&traffic) == Keep::No {
                self.change(|wanted| wanted.hooks.retain(|other| !Arc::ptr_eq(other, &hook)));
            }
        }
    }

    pub(crate) fn set_statistics(&self, on: bool, now: Instant) {
        self.change(|wanted| wanted.statistics = on.then_some((now, 0, 0)));
    }

    pub(crate) fn statistics(&self, now: Instant) -> Option<Statistics> {
        let (since, messages_in, messages_out) = self.wanted.lock().as_ref()?.statistics?;
        Some(Statistics {
            since,
            elapsed: now.saturating_duration_since(since),
            messages_in,
            messages_out,
        })
    }

    pub(crate) fn set_log(&self, room: usize) {
        self.change(|wanted| {
            wanted.log = (room > 0).then(|| {
                let mut ring = wanted.log.take().unwrap_or(Ring {
                    room,
                    entries: VecDeque::new(),
                });
                ring.set_room(room);
                ring
            });
        });
    }

    pub(crate) fn log(&self) -> Option<Vec<Traffic>> {
        let wanted = self.wanted.lock();
        let ring = wanted.as_ref()?.log.as_ref()?;
        Some(ring.entries.iter().copied().collect())
    }

    /// Traces under this name, or no more.
    pub(crate) fn set_trace(&self, name: Option<Arc<str>>) {
        self.change(|wanted| wanted.trace = name);
    }

    /// `false` when there is one of this id already, which stays.
    pub(crate) fn install(&self, id: Arc<str>, call: Box<Call>) -> bool {
        let hook = Arc::new(Hook {
            id,
            call: Mutex::new(call),
        });
        self.change(|wanted| {
            let new = !wanted.hooks.iter().any(|other| other.id == hook.id);
            if new {
                wanted.hooks.push(hook);
            }
            new
        })
    }

    pub(crate) fn remove(&self, id: &str) -> bool {
        self.change(|wanted| {
            let before = wanted.hooks.len();
            wanted.hooks.retain(|hook| &*hook.id != id);
            wanted.hooks.len() < before
        })
    }

    pub(crate) fn clear(&self) {
        self.change(|wanted| *wanted = Wanted::default());
    }

    fn change<R>(&self, change: impl FnOnce(&mut Wanted) -> R) -> R {
        let mut all = self.wanted.lock();
        let wanted = all.get_or_insert_default();
        let result = change(wanted);
        let on = wanted.is_something();
        if !on {
            *all = None;
        }
        self.on.store(on, Ordering::Relaxed);
        result
    }
}

impl Wanted {
    fn is_something(&self) -> bool {
        self.statistics.is_some()
            || self.log.is_some()
            || self.trace.is_some()
            || !self.hooks.is_empty()
    }

    fn note(&mut self, traffic: Traffic) {
        if let Some((_, messages_in, messages_out)) = &mut self.statistics {
            match traffic.direction {
                Direction::In => *messages_in += 1,
                Direction::Out => *messages_out += 1,
            }
        }
        if let Some(ring) = &mut self.log {
            ring.push(traffic);
        }
        if let Some(child) = &self.trace {
            let Traffic {
                direction, name, ..
            } = traffic;
            tracing::info!(%child, ?direction, name, "traced");
        }
    }
}

impl Ring {
    fn set_room(&mut self, room: usize) {
        self.room = room;
        while self.entries.len() > room {
            self.entries.pop_front();
        }
    }

    fn push(&mut self, traffic: Traffic) {
        if self.entries.len() >= self.room {
            self.entries.pop_front();
        }
        self.entries.push_back(traffic);
    }
}

impl Hook {
    /// One that panics has failed, and is done. One that is called while it runs is left out that time.
    fn call(&self, traffic: &Traffic) -> Keep {
        let Some(mut call) = self.call.try_lock() else {
            return Keep::Yes;
        };
        catch_unwind(AssertUnwindSafe(|| call(traffic))).unwrap_or_else(|payload| {
            let _ = discard(payload);
            tracing::warn!(hook = %self.id, "a hook panicked and was removed");
            Keep::No
        })
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_noted_while_nobody_wants_it() {
        let debug = Debug::default();
        assert!(!debug.is_on());
        assert_eq!(debug.statistics(Instant::now()), None);
        assert_eq!(debug.log(), None);

        debug.set_log(3);
        assert!(debug.is_on());
        debug.clear();

        assert!(!debug.is_on());
    }

    #[test]
    fn the_log_keeps_the_newest_entries_and_as_many_as_asked() {
        let debug = Debug::default();
        debug.set_log(2);
        for name in ["a", "b", "c"] {
            debug.message_in::<()>(Some(name));
        }
        let names = |debug: &Debug| {
            let log = debug.log().expect("it is on");
            log.iter().map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&debug), ["b", "c"]);

        debug.set_log(3);
        debug.message_in::<()>(Some("d"));
        assert_eq!(names(&debug), ["b", "c", "d"]);
        debug.set_log(1);

        assert_eq!(names(&debug), ["d"]);
    }

    #[test]
    fn a_hook_may_remove_itself_and_look_at_where_it_hangs() {
        let debug = Arc::new(Debug::default());
        let (inner, seen) = (Arc::clone(&debug), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&seen);
        let hook = move |_: &Traffic| {
            *count.lock() += 1;
            inner.remove("other");
            Keep::No
        };
        debug.install("once".into(), Box::new(hook));
        debug.install("other".into(), Box::new(|_| Keep::Yes));

        debug.message_in::<()>(None);
        debug.message_in::<()>(None);

        assert_eq!(*seen.lock(), 1);
        assert!(!debug.is_on());
    }
}
