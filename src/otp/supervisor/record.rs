//! Whether a child may be started once more: its own budget, its supervisor's, and how long to wait. The same for children of a
//! fixed place and for those that come and go.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::intensity::Window;
use crate::{
    otp::{Budget, ExitReason, IntensityExceeded, OnExceed},
    resilience::Backoff,
};

/// A slow retry without a pause would be a fast one.
const SLOW_RETRY_MIN: Duration = Duration::from_millis(10);
/// How many exits are kept for the record of a give-up.
const HISTORY: usize = 8;

/// The ends of one child so far.
#[derive(Debug)]
pub(crate) struct Record {
    backoff: Backoff,
    /// Ends since the last stable run: what the backoff grows with.
    failures: u32,
    /// Restarts within the child's own budget, and what happens beyond it.
    own: Option<(Window, OnExceed)>,
    /// The budget was used up, and the child has not run stably since.
    slow: bool,
    history: VecDeque<ExitReason>,
}

/// What is to be done about one more restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// It is started again, after this long; `slow` when its budget is used up.
    Again { after: Duration, slow: bool },
    /// Its budget is used up, and it stays down.
    Exceeded,
    /// The supervisor gives up.
    GiveUp,
}

impl Record {
    pub(crate) fn new(backoff: Backoff, budget: Option<Budget>) -> Self {
        Self {
            backoff,
            failures: 0,
            own: budget.map(|budget| (Window::new(budget.intensity), budget.on_exceed)),
            slow: false,
            history: VecDeque::new(),
        }
    }

    /// One life is over, after this long.
    pub(crate) fn note_end(&mut self, lived: Duration, reason: &ExitReason) {
        if self.backoff.is_stable(lived) {
            self.failures = 0;
        }
        let own = self.own.as_ref().map(|(window, _)| window.intensity());
        if own.is_none_or(|own| lived >= own.period) {
            self.slow = false;
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(reason.clone());
    }

    /// One more restart is wanted. It counts against the child's own budget, or else against `all`. `luck` is a draw from 0 to 1.
    pub(crate) fn demand(&mut self, now: Duration, luck: f64, all: &mut Window) -> Demand {
        let backoff = self.backoff.delay(self.failures, luck);
        self.failures = self.failures.saturating_add(1);
        let (within, on_exceed) = match &mut self.own {
            Some((own, on_exceed)) => (!self.slow && own.record(now), *on_exceed),
            None => (all.record(now), OnExceed::Escalate),
        };
        match on_exceed {
            _ if within => Demand::Again {
                after: backoff,
                slow: false,
            },
            OnExceed::SlowRetry(pause) => {
                self.slow = true;
                Demand::Again {
                    after: backoff.max(pause).max(SLOW_RETRY_MIN),
                    slow: true,
                }
            }
            OnExceed::Stop => Demand::Exceeded,
            OnExceed::Escalate => Demand::GiveUp,
        }
    }

    /// The limit that was passed, and what led there.
    pub(crate) fn exceeded(&self, child: Arc<str>, all: &Window) -> IntensityExceeded {
        let own = self.own.as_ref().map(|(window, _)| window);
        let limit = own.unwrap_or(all).intensity();
        IntensityExceeded {
            child,
            intensity: limit.restarts,
            period: limit.period,
            history: self.history.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{otp::Intensity, resilience::Jitter};

    const S: Duration = Duration::from_secs(1);
    const AT_ONCE: Demand = Demand::Again {
        after: Duration::ZERO,
        slow: false,
    };

    fn of(budget: Option<(u32, OnExceed)>) -> Record {
        let budget = budget.map(|(restarts, then)| Budget::new(Intensity::new(restarts, S), then));
        Record::new(Backoff::AT_ONCE, budget)
    }

    /// A life that ended at once, and the demand for another.
    fn end(record: &mut Record, now: Duration, all: &mut Window) -> Demand {
        record.note_end(Duration::ZERO, &ExitReason::Killed);
        record.demand(now, 0.0, all)
    }

    #[test]
    fn children_without_a_budget_share_one_and_the_one_too_many_tells_its_own_history() {
        let all = &mut Window::new(Intensity::new(1, S));
        let (mut a, mut b) = (of(None), of(None));
        assert_eq!(end(&mut a, S, all), AT_ONCE);
        assert_eq!(end(&mut b, S, all), Demand::GiveUp);
        let facts = b.exceeded("b".into(), all);
        assert_eq!((facts.intensity, facts.period), (1, S));
        assert_eq!(facts.history, [ExitReason::Killed]);

        assert_eq!(end(&mut a, 3 * S, all), AT_ONCE);
    }

    #[test]
    fn a_budget_of_its_own_spares_the_others_and_ends_as_it_says() {
        let none_left = &mut Window::new(Intensity::new(0, S));
        let mut twice = |then| {
            let mut record = of(Some((1, then)));
            assert_eq!(end(&mut record, S, none_left), AT_ONCE);
            let demand = end(&mut record, S, none_left);
            (demand, record.exceeded("a".into(), none_left).intensity)
        };
        assert_eq!(twice(OnExceed::Stop), (Demand::Exceeded, 1));
        assert_eq!(twice(OnExceed::Escalate), (Demand::GiveUp, 1));
        let slow = Demand::Again {
            after: SLOW_RETRY_MIN,
            slow: true,
        };
        assert_eq!(twice(OnExceed::SlowRetry(Duration::ZERO)), (slow, 1));
    }

    #[test]
    fn a_stable_run_makes_backoff_and_budget_whole_again() {
        let backoff =
            Backoff::new(S, 100 * S).and_then(|backoff| backoff.with_jitter(Jitter::None));
        let backoff = backoff.expect("is valid").with_reset_after(60 * S);
        let budget = Budget::new(Intensity::new(2, S), OnExceed::SlowRetry(9 * S));
        let mut record = Record::new(backoff, Some(budget));
        let all = &mut Window::new(Intensity::new(0, S));
        let mut judge = |lived, now| {
            record.note_end(lived, &ExitReason::Killed);
            record.demand(now, 0.0, all)
        };
        let again = |after, slow| Demand::Again { after, slow };
        assert_eq!(judge(Duration::ZERO, S), again(S, false));
        assert_eq!(judge(Duration::ZERO, S), again(2 * S, false));
        assert_eq!(judge(Duration::ZERO, S), again(9 * S, true));
        // A budget that was used up is whole again after its period, not before.
        assert_eq!(
            judge(Duration::from_nanos(999_999_999), 10 * S),
            again(9 * S, true)
        );
        assert_eq!(judge(S, 20 * S), again(16 * S, false));
        assert_eq!(judge(61 * S, 90 * S), again(S, false));
    }

    proptest! {
        #[test]
        fn the_history_is_the_last_ends_and_no_more(ends in 1_usize..40) {
            let allowed = u32::try_from(ends).unwrap_or(0) - 1;
            let all = &mut Window::new(Intensity::new(allowed, S));
            let mut record = of(None);
            for n in 1..=ends {
                record.note_end(Duration::ZERO, &ExitReason::Error(n.to_string().into()));
                let expected = if n < ends { AT_ONCE } else { Demand::GiveUp };
                prop_assert_eq!(record.demand(S, 0.0, all), expected);
            }
            let last = ends.saturating_sub(HISTORY) + 1..=ends;
            let last: Vec<_> = last.map(|n| ExitReason::Error(n.to_string().into())).collect();
            prop_assert_eq!(record.exceeded("a".into(), all).history, last);
        }
    }
}
