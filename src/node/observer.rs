//! Counts what guards do: the one place where resilience and telemetry meet.

use std::sync::Arc;

use super::Node;
use crate::{
    resilience::{Happening, Observer},
    telemetry::{Kind, Telemetry},
};

/// What guards did, by the guard's name and what it was.
const GUARDS: &str = "underpin_guards";

struct Counting(Telemetry);

impl Observer for Counting {
    fn observe(&self, guard: &str, happening: &Happening) {
        let labels = [("guard", guard), ("what", happening.word())];
        self.0.counter(GUARDS, &labels).inc();
    }
}

impl Node {
    /// Counts what guards do that are given it, as `underpin_guards_total{guard, what}`: retries, circuits, limits, bulkheads.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        let help = "What guards of calls did, by guard and by what it was.";
        let described = self
            .telemetry
            .describe(Kind::Counter, GUARDS, &["guard", "what"], help);
        if let Err(error) = described {
            tracing::warn!(%error, "the guards are counted without their description");
        }
        Arc::new(Counting(self.telemetry.clone()))
    }
}
