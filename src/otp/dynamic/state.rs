//! What becomes of a child that ended. Pure: time comes in as an argument, counted from any fixed moment, and chance does too.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    otp::{
        Budget, ExitReason, IntensityExceeded, OnExceed, Restart,
        supervisor::{
            intensity::Window,
            verdict::{Verdict, verdict},
        },
    },
    resilience::Backoff,
};

/// A slow retry without a pause would be a fast one.
const SLOW_RETRY_MIN: Duration = Duration::from_millis(10);
/// How many exits are kept for the record of a give-up.
const HISTORY: usize = 8;

/// What a child's spec says of its restarts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) restart: Restart,
    pub(super) backoff: Backoff,
    pub(super) budget: Option<Budget>,
}

/// How one life of a child ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) reason: &'a ExitReason,
    pub(super) lived: Duration,
    pub(super) now: Duration,
    /// A draw from 0 to 1.
    pub(super) luck: f64,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It is started again, after this long; `slow` when its budget is used up.
    Again { after: Duration, slow: bool },
    /// It is forgotten.
    Forget,
    /// It is forgotten, since its budget is used up.
    Exceeded,
    /// The supervisor gives up.
    GiveUp(Exceeded),
}

/// The limit that was passed, and what led there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) intensity: u32,
    pub(super) period: Duration,
    pub(super) history: Vec<ExitReason>,
}

impl Exceeded {
    pub(super) fn of(self, child: Arc<str>) -> IntensityExceeded {
        IntensityExceeded {
            child,
            intensity: self.intensity,
            period: self.period,
            history: self.history,
        }
    }
}

/// The ends of one child so far. Most children have none, so it is made with the first.
#[derive(Debug)]
pub(super) struct Record {
    /// Ends since the last stable run: what the backoff grows with.
    failures: u32,
    /// Restarts within the child's own budget.
    own: Option<Window>,
    /// The budget was used up, and the child has not run stably since.
    slow: bool,
    history: VecDeque<ExitReason>,
}

impl Record {
    pub(super) fn new(rules: &Rules) -> Self {
        Self {
            failures: 0,
            own: rules.budget.map(|budget| Window::new(budget.intensity)),
            slow: false,
            history: VecDeque::new(),
        }
    }

    /// Notes an end and decides; a restart counts against the child's own budget, or else against `all`.
    pub(super) fn judge(&mut self, rules: &Rules, end: End<'_>, all: &mut Window) -> Next {
        if verdict(rules.restart, end.reason) != Verdict::Restart {
            return Next::Forget;
        }
        self.note(rules, end);
        let backoff = rules.backoff.delay(self.failures, end.luck);
        self.failures = self.failures.saturating_add(1);
        let within = match &mut self.own {
            Some(own) => !self.slow && own.record(end.now),
            None => all.record(end.now),
        };
        let on_exceed = rules.budget.map_or(OnExceed::Escalate, |own| own.on_exceed);
        match on_exceed {
            _ if within => Next::Again {
                after: backoff,
                slow: false,
            },
            OnExceed::SlowRetry(pause) => {
                self.slow = true;
                Next::Again {
                    after: backoff.max(pause).max(SLOW_RETRY_MIN),
                    slow: true,
                }
            }
            OnExceed::Stop => Next::Exceeded,
            OnExceed::Escalate => {
                let limit = self.own.as_ref().unwrap_or(all).intensity();
                Next::GiveUp(Exceeded {
                    intensity: limit.restarts,
                    period: limit.period,
                    history: self.history.iter().cloned().collect(),
                })
            }
        }
    }

    fn note(&mut self, rules: &Rules, end: End<'_>) {
        if rules.backoff.is_stable(end.lived) {
            self.failures = 0;
        }
        let own = self.own.as_ref().map(Window::intensity);
        if own.is_none_or(|own| end.lived >= own.period) {
            self.slow = false;
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(end.reason.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otp::Intensity;

    const S: Duration = Duration::from_secs(1);

    fn rules(restart: Restart) -> Rules {
        Rules {
            restart,
            backoff: Backoff::AT_ONCE,
            budget: None,
        }
    }

    fn end(reason: &ExitReason, now: Duration) -> End<'_> {
        End {
            reason,
            lived: Duration::ZERO,
            now,
            luck: 0.0,
        }
    }

    const AT_ONCE: Next = Next::Again {
        after: Duration::ZERO,
        slow: false,
    };

    #[test]
    fn what_is_not_restarted_is_forgotten() {
        let clean = ExitReason::Shutdown(None);
        let all = &mut Window::new(Intensity::new(9, S));
        let judge = |restart, reason, all: &mut Window| {
            let rules = rules(restart);
            Record::new(&rules).judge(&rules, end(reason, S), all)
        };
        for (restart, after_clean, after_crash) in [
            (Restart::Permanent, AT_ONCE, AT_ONCE),
            (Restart::Transient, Next::Forget, AT_ONCE),
            (Restart::Temporary, Next::Forget, Next::Forget),
        ] {
            assert_eq!(judge(restart, &clean, all), after_clean);
            assert_eq!(judge(restart, &ExitReason::Killed, all), after_crash);
        }
    }

    #[test]
    fn the_children_share_one_intensity_and_the_one_too_many_tells_its_history() {
        let rules = rules(Restart::Permanent);
        let mut all = Window::new(Intensity::new(1, S));
        let (mut a, mut b) = (Record::new(&rules), Record::new(&rules));
        assert_eq!(
            a.judge(&rules, end(&ExitReason::Killed, S), &mut all),
            AT_ONCE
        );
        assert_eq!(
            b.judge(&rules, end(&ExitReason::Killed, S), &mut all),
            Next::GiveUp(Exceeded {
                intensity: 1,
                period: S,
                history: vec![ExitReason::Killed],
            })
        );
        let later = end(&ExitReason::Killed, 3 * S);
        assert_eq!(a.judge(&rules, later, &mut all), AT_ONCE);
    }

    #[test]
    fn a_budget_of_its_own_spares_the_others_and_ends_as_it_says() {
        let with = |on_exceed| Rules {
            budget: Some(Budget::new(Intensity::new(1, S), on_exceed)),
            ..rules(Restart::Permanent)
        };
        let mut none_left = Window::new(Intensity::new(0, S));
        let mut twice = |on_exceed| {
            let rules = with(on_exceed);
            let mut record = Record::new(&rules);
            let mut judge = || record.judge(&rules, end(&ExitReason::Killed, S), &mut none_left);
            assert_eq!(judge(), AT_ONCE);
            judge()
        };
        assert_eq!(twice(OnExceed::Stop), Next::Exceeded);
        assert!(matches!(twice(OnExceed::Escalate), Next::GiveUp(_)));
        let slow = Next::Again {
            after: SLOW_RETRY_MIN,
            slow: true,
        };
        assert_eq!(twice(OnExceed::SlowRetry(Duration::ZERO)), slow);
    }

    #[test]
    fn a_stable_run_makes_backoff_and_budget_whole_again() {
        let backoff = Backoff::new(S, 100 * S)
            .and_then(|backoff| backoff.with_jitter(crate::resilience::Jitter::None));
        let rules = Rules {
            backoff: backoff.expect("is valid").with_reset_after(60 * S),
            budget: Some(Budget::new(
                Intensity::new(2, S),
                OnExceed::SlowRetry(9 * S),
            )),
            ..rules(Restart::Permanent)
        };
        let mut record = Record::new(&rules);
        let mut all = Window::new(Intensity::new(0, S));
        let mut judge = |lived, now| {
            let reason = &ExitReason::Killed;
            let luck = 0.0;
            record.judge(
                &rules,
                End {
                    reason,
                    lived,
                    now,
                    luck,
                },
                &mut all,
            )
        };
        let again = |after, slow| Next::Again { after, slow };
        assert_eq!(judge(Duration::ZERO, S), again(S, false));
        assert_eq!(judge(Duration::ZERO, S), again(2 * S, false));
        assert_eq!(judge(Duration::ZERO, S), again(9 * S, true));
        assert_eq!(judge(61 * S, 70 * S), again(S, false));
    }

    proptest! {
        #[test]
        fn the_history_is_the_last_ends_and_no_more(ends in 1_usize..40) {
            let rules = rules(Restart::Permanent);
            let mut all = Window::new(Intensity::new(u32::try_from(ends).unwrap_or(0) - 1, S));
            let mut record = Record::new(&rules);
            for n in 1..=ends {
                let reason = ExitReason::Error(n.to_string().into());
                let next = record.judge(&rules, end(&reason, S), &mut all);
                if n < ends {
                    prop_assert_eq!(next, AT_ONCE);
                } else if let Next::GiveUp(facts) = next {
                    let last = ends.saturating_sub(HISTORY) + 1..=ends;
                    let last: Vec<_> = last.map(|n| ExitReason::Error(n.to_string().into())).collect();
                    prop_assert_eq!(facts.history, last);
                } else {
                    prop_assert!(false, "gives up at the last, not {next:?}");
                }
            }
        }
    }
}
