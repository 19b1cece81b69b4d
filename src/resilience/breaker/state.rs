use std::{
    collections::VecDeque,
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// When a circuit opens.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Trip {
    /// At so many failures in a row; a success begins anew.
    Consecutive(NonZeroU32),
    /// At so many failures within this time, whatever succeeds between them.
    Count {
        /// The failure that opens it.
        failures: NonZeroU32,
        /// The time.
        within: Duration,
    },
    /// When this share of the calls within this time failed. Time goes by in tenths of it.
    Rate {
        /// Above 0, up to 1.
        share: f64,
        /// Fewer calls than this say nothing.
        calls_min: NonZeroU32,
        /// The time.
        within: Duration,
    },
}

/// When a circuit opens, and how it closes again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerOptions {
    /// When it opens. By default at five failures in a row.
    pub trip: Trip,
    /// How long it refuses all calls before it lets probes through. By default 30 s.
    pub open_for: Duration,
    /// How many probes are let through, and have to succeed, before it closes. By default one.
    pub probes: NonZeroU32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            trip: Trip::Consecutive(NonZeroU32::MIN.saturating_add(4)),
            open_for: Duration::from_secs(30),
            probes: NonZeroU32::MIN,
        }
    }
}

/// Why options of a circuit breaker were refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBreaker {
    /// The share is none.
    #[error("a failure rate of {given} is no share; use a number above 0, up to 1")]
    Share {
        /// What was given.
        given: f64,
    },
    /// Nothing happens within no time.
    #[error("failures are counted within {given:?}; use at least a millisecond")]
    Within {
        /// What was given.
        given: Duration,
    },
}

impl BreakerOptions {
    pub(super) fn check(&self) -> Result<(), InvalidBreaker> {
        let (share, within) = match self.trip {
            Trip::Consecutive(_) => return Ok(()),
            Trip::Count { within, .. } => (1.0, within),
            Trip::Rate { share, within, .. } => (share, within),
        };
        if !(share > 0.0 && share <= 1.0) {
            return Err(InvalidBreaker::Share { given: share });
        }
        if within < Duration::from_millis(1) {
            return Err(InvalidBreaker::Within { given: within });
        }
        Ok(())
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It says that all is well.
    Success,
    /// It says that something is wrong.
    Failure,
    /// It says nothing about the one that was called: the caller's own mistake, or a call that was given up.
    Ignore,
}

/// How a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CircuitState {
    /// All calls go through.
    Closed,
    /// All calls are refused for so long.
    Open {
        /// Until it lets probes through.
        retry_in: Duration,
    },
    /// Probes go through.
    HalfOpen,
}

/// Where a time that no clock reaches is cut.
const FAR_FUTURE: Duration = Duration::from_hours(100 * 365 * 24);

/// The decisions of a circuit breaker.
#[derive(Debug)]
pub(super) struct Circuit {
    options: BreakerOptions,
    phase: Phase,
    /// Rises with each change of the phase, so that an answer from before says nothing new.
    generation: u64,
}

#[derive(Debug)]
enum Phase {
    Closed(Seen),
    Open {
        until: Instant,
    },
    /// So many probes are out, and so many have succeeded.
    HalfOpen {
        out: u32,
        succeeded: u32,
    },
}

/// What was seen while the circuit was closed.
#[derive(Debug, Default)]
struct Seen {
    in_a_row: u32,
    failures: VecDeque<Instant>,
    tenths: VecDeque<Tenth>,
}

/// The calls that ended in a tenth of the time that counts.
#[derive(Debug, Clone, Copy)]
struct Tenth {
    begin: Instant,
    calls: u32,
    failures: u32,
}

/// How the phase changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    HalfOpened,
    Closed,
}

/// A call that may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) generation: u64,
    pub(super) change: Option<Change>,
}

impl Circuit {
    pub(super) fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            phase: Phase::Closed(Seen::default()),
            generation: 0,
        }
    }

    /// Asks leave for one call; where it is refused, tells how long it will be so, which is 0 while probes are out.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admitted, Duration> {
        let mut change = None;
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Err(until - now);
            }
            let (out, succeeded) = (0, 0);
            change = Some(self.enter(Phase::HalfOpen { out, succeeded }, Change::HalfOpened));
        }
        if let Phase::HalfOpen { out, succeeded } = &mut self.phase {
            if *out + *succeeded >= self.options.probes.get() {
                return Err(Duration::ZERO);
            }
            *out += 1;
        }
        Ok(Admitted {
            generation: self.generation,
            change,
        })
    }

    /// Takes note of how a call ended that was admitted in this generation.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        generation: u64,
        outcome: Outcome,
    ) -> Option<Change> {
        if generation != self.generation {
            return None;
        }
        let trips = match &mut self.phase {
            Phase::Closed(seen) => seen.note(now, self.options.trip, outcome),
            Phase::HalfOpen { out, succeeded } => {
                *out -= 1;
                *succeeded += u32::from(outcome == Outcome::Success);
                if *succeeded >= self.options.probes.get() {
                    return Some(self.enter(Phase::Closed(Seen::default()), Change::Closed));
                }
                outcome == Outcome::Failure
            }
            // Admission in this generation is no admission while it is open.
            Phase::Open { .. } => false,
        };
        trips.then(|| {
            let until = now.checked_add(self.options.open_for);
            let until = until.unwrap_or(now + FAR_FUTURE);
            self.enter(Phase::Open { until }, Change::Opened)
        })
    }

    /// Closes it, whatever happened.
    pub(super) fn reset(&mut self) -> Option<Change> {
        let was_closed = matches!(self.phase, Phase::Closed(_));
        let closed = self.enter(Phase::Closed(Seen::default()), Change::Closed);
        (!was_closed).then_some(closed)
    }

    pub(super) fn state(&self, now: Instant) -> CircuitState {
        match self.phase {
            Phase::Closed(_) => CircuitState::Closed,
            Phase::Open { until } if now < until => CircuitState::Open {
                retry_in: until - now,
            },
            Phase::Open { .. } | Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    fn enter(&mut self, phase: Phase, change: Change) -> Change {
        self.phase = phase;
        self.generation += 1;
        change
    }
}

impl Seen {
    /// Whether this is one failure too many.
    fn note(&mut self, now: Instant, trip: Trip, outcome: Outcome) -> bool {
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Ignore => return false,
        };
        match trip {
            Trip::Consecutive(limit) => {
                self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
                self.in_a_row >= limit.get()
            }
            Trip::Count { failures, within } => {
                if failed {
                    let old = |at: &Instant| now.saturating_duration_since(*at) > within;
                    while self.failures.front().is_some_and(old) {
                        self.failures.pop_front();
                    }
                    self.failures.push_back(now);
                }
                self.failures.len() >= failures.get() as usize && failed
            }
            Trip::Rate {
                share,
                calls_min,
                within,
            } => {
                let (calls, failures) = self.count(now, within, failed);
                let enough = calls >= u64::from(calls_min.get());
                // Counts of calls within some time are exact in a float.
                #[expect(clippy::cast_precision_loss, reason = "exact to 2^53 calls")]
                let rate = failures as f64 / calls as f64;
                enough && failed && rate >= share
            }
        }
    }

    /// Adds a call, and gives all and the failed ones of the time that counts.
    fn count(&mut self, now: Instant, within: Duration, failed: bool) -> (u64, u64) {
        let old = |tenth: &Tenth| now.saturating_duration_since(tenth.begin) > within;
        while self.tenths.front().is_some_and(old) {
            self.tenths.pop_front();
        }
        let is_current = |tenth: &Tenth| now.saturating_duration_since(tenth.begin) < within / 10;
        if !self.tenths.back().is_some_and(is_current) {
            self.tenths.push_back(Tenth {
                begin: now,
                calls: 0,
                failures: 0,
            });
        }
        if let Some(current) = self.tenths.back_mut() {
            current.calls += 1;
            current.failures += u32::from(failed);
        }
        let sum = |count: fn(&Tenth) -> u32| {
            self.tenths
                .iter()
                .map(|tenth| u64::from(count(tenth)))
                .sum()
        };
        (sum(|tenth| tenth.calls), sum(|tenth| tenth.failures))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn count(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not zero")
    }

    fn circuit(trip: Trip, probes: u32) -> Circuit {
        Circuit::new(BreakerOptions {
            trip,
            open_for: 10 * SECOND,
            probes: count(probes),
        })
    }

    fn call(circuit: &mut Circuit, now: Instant, outcome: Outcome) -> Option<Change> {
        let admitted = circuit.admit(now).expect("is let through");
        circuit.settle(now, admitted.generation, outcome)
    }

    #[test]
    fn one_that_stays_open_longer_than_clocks_reach_opens_all_the_same() {
        let now = Instant::now();
        let mut circuit = Circuit::new(BreakerOptions {
            trip: Trip::Consecutive(count(1)),
            open_for: Duration::MAX,
            probes: count(1),
        });
        assert_eq!(
            call(&mut circuit, now, Outcome::Failure),
            Some(Change::Opened)
        );
        assert!(circuit.admit(now + 1_000_000 * SECOND).is_err());
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_begins_anew() {
        let now = Instant::now();
        let mut circuit = circuit(Trip::Consecutive(count(2)), 1);
        for outcome in [
            Outcome::Failure,
            Outcome::Success,
            Outcome::Failure,
            Outcome::Ignore,
        ] {
            assert_eq!(call(&mut circuit, now, outcome), None);
        }
        assert_eq!(
            call(&mut circuit, now, Outcome::Failure),
            Some(Change::Opened)
        );
        assert_eq!(circuit.admit(now), Err(10 * SECOND));
        assert_eq!(
            circuit.admit(now + (10 * SECOND).saturating_sub(Duration::from_nanos(1))),
            Err(Duration::from_nanos(1))
        );
    }

    #[test]
    fn failures_within_a_time_open_it_whatever_succeeds_between() {
        let now = Instant::now();
        let trip = Trip::Count {
            failures: count(2),
            within: SECOND,
        };
        let mut circuit = circuit(trip, 1);
        assert_eq!(call(&mut circuit, now, Outcome::Failure), None);
        let later = now + SECOND + Duration::from_nanos(1);
        assert_eq!(call(&mut circuit, later, Outcome::Failure), None);
        assert_eq!(call(&mut circuit, later, Outcome::Success), None);
        assert_eq!(
            call(&mut circuit, later + SECOND, Outcome::Failure),
            Some(Change::Opened)
        );
    }

    #[test]
    fn a_share_of_enough_calls_opens_it_and_old_ones_do_not_count() {
        let now = Instant::now();
        let trip = Trip::Rate {
            share: 0.5,
            calls_min: count(4),
            within: SECOND,
        };
        let mut circuit = circuit(trip, 1);
        for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success] {
            assert_eq!(call(&mut circuit, now, outcome), None);
        }
        let later = now + 2 * SECOND;
        for outcome in [Outcome::Success, Outcome::Success, Outcome::Failure] {
            assert_eq!(call(&mut circuit, later, outcome), None);
        }
        assert_eq!(
            call(&mut circuit, later, Outcome::Failure),
            Some(Change::Opened)
        );
    }

    #[test]
    fn half_open_lets_as_many_probes_out_as_may_be_and_closes_when_all_succeeded() {
        let now = Instant::now();
        let mut circuit = circuit(Trip::Consecutive(count(1)), 2);
        call(&mut circuit, now, Outcome::Failure);
        let now = now + 10 * SECOND;
        assert_eq!(circuit.state(now), CircuitState::HalfOpen);

        let first = circuit.admit(now).expect("a probe");
        assert_eq!(first.change, Some(Change::HalfOpened));
        let second = circuit.admit(now).expect("a probe");
        assert_eq!(circuit.admit(now), Err(Duration::ZERO));

        // One that says nothing gives its place back.
        assert_eq!(circuit.settle(now, first.generation, Outcome::Ignore), None);
        let third = circuit.admit(now).expect("a probe");
        assert_eq!(
            circuit.settle(now, second.generation, Outcome::Success),
            None
        );
        assert_eq!(circuit.admit(now), Err(Duration::ZERO));
        assert_eq!(
            circuit.settle(now, third.generation, Outcome::Success),
            Some(Change::Closed)
        );
        assert_eq!(circuit.state(now), CircuitState::Closed);
    }

    #[test]
    fn a_failed_probe_opens_it_again_and_late_answers_say_nothing() {
        let now = Instant::now();
        let mut circuit = circuit(Trip::Consecutive(count(1)), 1);
        let late = circuit.admit(now).expect("is closed");
        call(&mut circuit, now, Outcome::Failure);
        assert_eq!(circuit.settle(now, late.generation, Outcome::Success), None);
        assert!(matches!(circuit.state(now), CircuitState::Open { .. }));

        let now = now + 10 * SECOND;
        assert_eq!(
            call(&mut circuit, now, Outcome::Failure),
            Some(Change::Opened)
        );
        assert_eq!(
            circuit.state(now),
            CircuitState::Open {
                retry_in: 10 * SECOND
            }
        );
        assert_eq!(circuit.reset(), Some(Change::Closed));
        assert_eq!(circuit.reset(), None);
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let rate = |share| Trip::Rate {
            share,
            calls_min: count(1),
            within: SECOND,
        };
        let check = |trip| {
            BreakerOptions {
                trip,
                ..BreakerOptions::default()
            }
            .check()
        };
        for share in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(
                matches!(check(rate(share)), Err(InvalidBreaker::Share { .. })),
                "{share}"
            );
        }
        let never = Trip::Count {
            failures: count(1),
            within: Duration::ZERO,
        };
        assert!(matches!(check(never), Err(InvalidBreaker::Within { .. })));
        assert_eq!(check(rate(1.0)), Ok(()));
        assert_eq!(BreakerOptions::default().check(), Ok(()));
    }

    proptest! {
        #[test]
        fn never_more_probes_are_out_than_allowed_and_every_phase_can_be_left(
            steps in prop::collection::vec((0..4_u8, 0..4_usize, 0..12_u32), 0..200), probes in 1..4_u32
        ) {
            let mut now = Instant::now();
            let mut circuit = circuit(Trip::Consecutive(count(2)), probes);
            let mut out: Vec<u64> = Vec::new();
            for (what, which, seconds) in steps {
                now += seconds * SECOND;
                let outcome = [Outcome::Success, Outcome::Failure, Outcome::Ignore].get(usize::from(what));
                match outcome {
                    Some(outcome) if !out.is_empty() => {
                        let generation = out.swap_remove(which % out.len());
                        circuit.settle(now, generation, *outcome);
                    }
                    _ => out.extend(circuit.admit(now).map(|admitted| admitted.generation)),
                }
                let current = out.iter().filter(|generation| **generation == circuit.generation).count();
                if let Phase::HalfOpen { out, succeeded } = circuit.phase {
                    prop_assert_eq!(current, out as usize);
                    prop_assert!(out + succeeded <= probes);
                }
            }
            for generation in out {
                circuit.settle(now, generation, Outcome::Ignore);
            }
            prop_assert!(circuit.admit(now + 10 * SECOND).is_ok());
        }
    }
}
