use std::{fmt, sync::Arc, time::Duration};

/// What a guard did, for whoever counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// An attempt failed, and there will be another after this delay.
    Retrying {
        /// The number of the attempt that failed, from 1 on.
        attempt: u32,
        /// How long until the next.
        delay: Duration,
    },
    /// There will be no more attempts.
    GaveUp {
        /// How many there were.
        attempts: u32,
    },
    /// A circuit opened: calls are refused from now on.
    Opened,
    /// A circuit lets probes through.
    HalfOpened,
    /// A circuit closed: all calls go through.
    Closed,
    /// A circuit refused a call.
    Rejected,
    /// A rate limit refused a call.
    RateLimited,
    /// A bulkhead had no place for a call.
    Full,
    /// A call took too long and was dropped.
    TimedOut,
    /// A call failed, and the last good value was given in its place.
    FellBack,
    /// A guarded call succeeded.
    Succeeded,
    /// A guarded call failed.
    Failed,
}

impl Happening {
    /// One word for it, for labels.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Retrying { .. } => "retrying",
            Self::GaveUp { .. } => "gave_up",
            Self::Opened => "opened",
            Self::HalfOpened => "half_opened",
            Self::Closed => "closed",
            Self::Rejected => "rejected",
            Self::RateLimited => "rate_limited",
            Self::Full => "full",
            Self::TimedOut => "timed_out",
            Self::FellBack => "fell_back",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// Hears what guards do. It is called where that happens, so it must be quick and must not wait; a panic of it goes to whoever
/// makes the guarded call.
///
/// `Node::observer` is one that counts.
pub trait Observer: Send + Sync + 'static {
    /// The guard of this name did this.
    fn observe(&self, guard: &str, happening: &Happening);
}

/// A guard's name, and who hears of it. Changes of circuits and what was given up go to `tracing` as well.
#[derive(Clone)]
pub(super) struct Reporter {
    name: Arc<str>,
    observer: Option<Arc<dyn Observer>>,
}

impl Reporter {
    pub(super) fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            observer: None,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn observed_by(&mut self, observer: Arc<dyn Observer>) {
        self.observer = Some(observer);
    }

    pub(super) fn report(&self, happening: Happening) {
        let (guard, what) = (&*self.name, happening.word());
        match happening {
            Happening::Opened | Happening::GaveUp { .. } => tracing::warn!(guard, "{what}"),
            Happening::HalfOpened | Happening::Closed => tracing::info!(guard, "{what}"),
            _ => tracing::trace!(guard, "{what}"),
        }
        if let Some(observer) = &self.observer {
            observer.observe(guard, &happening);
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}
