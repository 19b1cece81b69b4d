//! What is measured at intervals, because nobody tells it: the process, the runtime, a program's own.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::PollError;

/// All polls, by id.
#[derive(Debug, Default)]
pub(super) struct Polls(Mutex<BTreeMap<Arc<str>, Entry>>);

#[derive(Debug)]
struct Entry {
    poll: Arc<Poll>,
    every: Duration,
    due_at: Duration,
}

/// One measurement that is taken again and again.
pub(super) struct Poll {
    pub(super) id: Arc<str>,
    measure: Box<dyn Fn() + Send + Sync>,
    running: AtomicBool,
}

/// A poll that is to be run now. While this exists it is not run a second time.
#[derive(Debug)]
pub(super) struct Turn(Arc<Poll>);

/// What is to be done in a round.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) turns: Vec<Turn>,
    /// Polls that are due and still at their last turn.
    pub(super) overdue: Vec<Arc<str>>,
}

impl Polls {
    /// Adds a poll, which is due at once.
    pub(super) fn add(
        &self,
        id: &str,
        every: Duration,
        measure: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(), PollError> {
        let mut polls = self.0.lock();
        if polls.contains_key(id) {
            return Err(PollError::AlreadyExists { id: id.to_owned() });
        }
        let id: Arc<str> = id.into();
        let poll = Arc::new(Poll {
            id: Arc::clone(&id),
            measure,
            running: AtomicBool::new(false),
        });
        let entry = Entry {
            poll,
            every,
            due_at: Duration::ZERO,
        };
        polls.insert(id, entry);
        Ok(())
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), PollError> {
        // Dropped when the lock is free again: what it captured may have polls of its own to remove.
        let removed = self.0.lock().remove(id);
        match removed {
            Some(_) => Ok(()),
            None => Err(PollError::NotFound { id: id.to_owned() }),
        }
    }

    /// Removes this very poll: somebody may have put another one under its id meanwhile. Whether it was there.
    pub(super) fn remove_this(&self, turn: &Turn) -> bool {
        let mut polls = self.0.lock();
        let is_there = |entry: &Entry| Arc::ptr_eq(&entry.poll, &turn.0);
        let removed = match polls.get(turn.id()) {
            Some(entry) if is_there(entry) => polls.remove(turn.id()),
            _ => None,
        };
        drop(polls);
        removed.is_some()
    }

    /// The polls that are due at this time; all of them if `all`. Late ones are run once, not once for each interval that
    /// was missed.
    pub(super) fn due(&self, now: Duration, all: bool) -> Round {
        let mut round = Round::default();
        for entry in self.0.lock().values_mut() {
            if all || now >= entry.due_at {
                // An interval without end: not again.
                entry.due_at = now.saturating_add(entry.every);
                match Turn::of(&entry.poll) {
                    Some(turn) => round.turns.push(turn),
                    None => round.overdue.push(Arc::clone(&entry.poll.id)),
                }
            }
        }
        round
    }
}

impl Turn {
    fn of(poll: &Arc<Poll>) -> Option<Self> {
        let was_running = poll.running.swap(true, Ordering::AcqRel);
        (!was_running).then(|| Self(Arc::clone(poll)))
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.0.id
    }

    pub(super) fn take(&self) {
        (self.0.measure)();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn ids(round: &Round) -> Vec<String> {
        round
            .turns
            .iter()
            .map(|turn| turn.id().to_string())
            .collect()
    }

    #[test]
    fn a_poll_is_due_at_once_and_then_once_an_interval_however_late() {
        let polls = Polls::default();
        polls
            .add("slow", second(5), Box::new(|| ()))
            .expect("is free");
        polls
            .add("fast", second(1), Box::new(|| ()))
            .expect("is free");
        let due = |at| ids(&polls.due(second(at), false));

        assert_eq!(due(100), ["fast", "slow"]);
        assert_eq!(due(101), ["fast"]);
        assert_eq!(due(104), ["fast"]);
        assert_eq!(due(105), ["fast", "slow"]);
        assert_eq!(due(500), ["fast", "slow"]);
        assert!(due(500).is_empty());
        assert_eq!(ids(&polls.due(second(500), true)), ["fast", "slow"]);
    }

    #[test]
    fn a_poll_that_still_runs_is_not_run_beside_itself() {
        let polls = Polls::default();
        polls
            .add("hung", second(1), Box::new(|| ()))
            .expect("is free");

        let first = polls.due(second(1), false);
        let second_round = polls.due(second(2), false);
        assert!(second_round.turns.is_empty());
        assert_eq!(second_round.overdue, [Arc::from("hung")]);

        drop(first);
        assert_eq!(ids(&polls.due(second(3), false)), ["hung"]);
    }

    #[test]
    fn only_the_poll_that_failed_is_removed() {
        let polls = Polls::default();
        let add = || polls.add("mine", second(1), Box::new(|| ()));
        assert_eq!(add(), Ok(()));
        let first = polls.due(second(1), false).turns.remove(0);
        assert_eq!(polls.remove("mine"), Ok(()));
        assert_eq!(add(), Ok(()));

        assert!(!polls.remove_this(&first));
        let second_one = polls.due(second(2), false).turns.remove(0);
        assert!(polls.remove_this(&second_one));
        assert!(!polls.remove_this(&second_one));
    }

    #[test]
    fn an_id_is_taken_once_and_free_again_when_it_was_removed() {
        let polls = Polls::default();
        let add = || polls.add("mine", second(1), Box::new(|| ()));
        let id = || "mine".to_owned();
        assert_eq!(add(), Ok(()));
        assert_eq!(add(), Err(PollError::AlreadyExists { id: id() }));
        assert_eq!(polls.remove("mine"), Ok(()));
        assert_eq!(polls.remove("mine"), Err(PollError::NotFound { id: id() }));
        assert_eq!(add(), Ok(()));
    }
}
