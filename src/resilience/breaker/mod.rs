//! Sparing what fails: the circuit breaker.

mod handle;
mod state;

pub use handle::{BreakerError, CircuitBreaker, CircuitOpen, Pass};
pub use state::{BreakerOptions, CircuitState, InvalidBreaker, Outcome, Trip};
