use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    BreakerOptions, CircuitState, InvalidBreaker, Outcome,
    state::{Change, Circuit},
};
use crate::resilience::{Again, Happening, Observer, Retryable, report::Reporter};

/// Refuses calls to what keeps failing, and lets a few through after a while to see whether it is well again.
///
/// Clones are the same breaker. Two breakers are independent, whatever their names.
///
/// ```
/// use underpin::resilience::{BreakerError, BreakerOptions, CircuitBreaker};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::new("till", BreakerOptions::default())?;
/// for _ in 0..5 {
///     assert_eq!(breaker.run(async { Err::<(), _>("jammed") }).await, Err(BreakerError::Failed("jammed")));
/// }
/// let refused = breaker.run(async { Ok::<_, &str>("is not even asked") }).await;
/// assert!(matches!(refused, Err(BreakerError::Open(_))));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reporter: Reporter,
    circuit: Mutex<Circuit>,
}

/// The circuit is open: the call was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the circuit {breaker} is open after failures; retry in {retry_in:?}")]
pub struct CircuitOpen {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// How long it refuses all calls. Zero while it waits for the answers of probes.
    pub retry_in: Duration,
}

impl Retryable for CircuitOpen {
    fn again(&self) -> Again {
        if self.retry_in.is_zero() {
            Again::Backoff
        } else {
            Again::After(self.retry_in)
        }
    }
}

/// Why a call through a breaker gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError<E> {
    /// It was not made: a retry is safe, and makes sense later.
    #[error(transparent)]
    Open(CircuitOpen),
    /// It was made, and failed.
    #[error("{0}")]
    Failed(#[source] E),
}

impl<E: Retryable> Retryable for BreakerError<E> {
    fn again(&self) -> Again {
        match self {
            Self::Open(open) => open.again(),
            Self::Failed(error) => error.again(),
        }
    }
}

/// Leave to make one call. Say how it ended; one that is dropped says [`Outcome::Failure`] in a panic, else [`Outcome::Ignore`].
#[derive(Debug)]
#[must_use = "a pass that is dropped gives its place back"]
pub struct Pass {
    shared: Arc<Shared>,
    generation: u64,
    settled: bool,
}

impl CircuitBreaker {
    /// A closed circuit. The name is for errors, [`Observer`]s and logs.
    ///
    /// # Errors
    ///
    /// [`InvalidBreaker`].
    pub fn new(name: impl Into<Arc<str>>, options: BreakerOptions) -> Result<Self, InvalidBreaker> {
        Self::reporting(Reporter::new(name), options)
    }

    /// The same, whose changes an observer hears of.
    ///
    /// # Errors
    ///
    /// [`InvalidBreaker`].
    pub fn observed_by(
        name: impl Into<Arc<str>>,
        options: BreakerOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, InvalidBreaker> {
        let mut reporter = Reporter::new(name);
        reporter.observed_by(observer);
        Self::reporting(reporter, options)
    }

    fn reporting(reporter: Reporter, options: BreakerOptions) -> Result<Self, InvalidBreaker> {
        options.check()?;
        Ok(Self {
            shared: Arc::new(Shared {
                reporter,
                circuit: Mutex::new(Circuit::new(options)),
            }),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.reporter.name()
    }

    /// Makes a call, unless the circuit is open. An error and a panic are failures; a call that is given up, as the future is
    /// dropped, says nothing.
    ///
    /// # Errors
    ///
    /// [`BreakerError`].
    ///
    /// # Cancel safety
    ///
    /// As safe as the call; its place is given back.
    pub async fn run<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        self.run_when(call, |result| match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        })
        .await
    }

    /// The same, where `outcome` says what a result means. An error of the caller's own is mostly to be ignored.
    ///
    /// # Errors
    ///
    /// [`BreakerError`].
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_when<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        outcome: impl FnOnce(&Result<T, E>) -> Outcome,
    ) -> Result<T, BreakerError<E>> {
        let pass = self.admit().map_err(BreakerError::Open)?;
        let result = call.await;
        pass.settle(outcome(&result));
        result.map_err(BreakerError::Failed)
    }

    /// Asks leave for one call.
    ///
    /// # Errors
    ///
    /// [`CircuitOpen`].
    pub fn admit(&self) -> Result<Pass, CircuitOpen> {
        let admitted = self.shared.circuit.lock().admit(Instant::now().into_std());
        match admitted {
            Ok(admitted) => {
                // First, so that its place is given back where an observer panics.
                let pass = Pass {
                    shared: Arc::clone(&self.shared),
                    generation: admitted.generation,
                    settled: false,
                };
                self.shared.changed(admitted.change);
                Ok(pass)
            }
            Err(retry_in) => {
                self.shared.reporter.report(Happening::Rejected);
                Err(CircuitOpen {
                    breaker: Arc::clone(self.shared.reporter.name()),
                    retry_in,
                })
            }
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        let circuit = self.shared.circuit.lock();
        circuit.state(Instant::now().into_std())
    }

    /// Closes it, whatever happened: somebody knows that all is well again.
    pub fn reset(&self) {
        let change = self.shared.circuit.lock().reset();
        self.shared.changed(change);
    }
}

impl Pass {
    /// Says how the call ended.
    pub fn settle(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        self.settled = true;
        let now = Instant::now().into_std();
        let mut circuit = self.shared.circuit.lock();
        let change = circuit.settle(now, self.generation, outcome);
        drop(circuit);
        let happening = match outcome {
            Outcome::Success => Some(Happening::Succeeded),
            Outcome::Failure => Some(Happening::Failed),
            Outcome::Ignore => None,
        };
        if let Some(happening) = happening {
            self.shared.reporter.report(happening);
        }
        self.shared.changed(change);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if !thread::panicking() {
            return self.close(Outcome::Ignore);
        }
        // An observer that panics as well would end the whole program.
        let _ = catch_unwind(AssertUnwindSafe(|| self.close(Outcome::Failure)));
    }
}

impl Shared {
    fn changed(&self, change: Option<Change>) {
        let Some(change) = change else { return };
        self.reporter.report(match change {
            Change::Opened => Happening::Opened,
            Change::HalfOpened => Happening::HalfOpened,
            Change::Closed => Happening::Closed,
        });
    }
}
