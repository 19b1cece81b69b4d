use std::{sync::Arc, time::Duration};

use crate::otp::{ExitReason, Shutdown};

/// How a child was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopKind {
    /// It ended when asked, within its time.
    Graceful,
    /// It had to be killed, or was set to be.
    Killed,
    /// It did not even end when killed: something of it blocks a thread and is still there. Until that has ended it keeps its
    /// name and its address (calls to it time out), its monitors tell nothing, and nothing is started in its place.
    Leaked,
}

/// How one child was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildReport {
    /// Its id.
    pub id: Arc<str>,
    /// How it went.
    pub how: StopKind,
    /// What it was allowed: what its spec says, or [`Shutdown::Brutal`] where a deadline had passed before its turn came.
    pub allowed: Shutdown,
    /// When it was asked, counted from the beginning of the stop.
    pub asked_after: Duration,
    /// How long it took from being asked.
    pub took: Duration,
    /// How it ended.
    pub reason: ExitReason,
    /// For a supervisor, how its own children were stopped.
    pub children: Vec<ChildReport>,
    /// How many more of these there were: [`ShutdownReport::unlisted`].
    pub unlisted: usize,
}

/// How a supervisor and its children were stopped, in the order in which it happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// The children, last started first; a dynamic supervisor's in no order.
    pub children: Vec<ChildReport>,
    /// How many more children there were: of those that ended when asked, a dynamic supervisor lists a thousand and counts the
    /// others here. Whoever had to be killed or leaked is always listed.
    pub unlisted: usize,
    /// How long the whole took.
    pub took: Duration,
}

impl ChildReport {
    /// Takes over how a nested supervisor's own children were stopped.
    pub(in crate::otp) fn of_nested(&mut self, stopped: ShutdownReport) {
        self.children = stopped.children;
        self.unlisted = stopped.unlisted;
    }
}

impl ShutdownReport {
    /// All reports of the whole tree below, parents first.
    pub fn walk(&self) -> impl Iterator<Item = &ChildReport> {
        let mut waiting: Vec<&ChildReport> = self.children.iter().rev().collect();
        std::iter::from_fn(move || {
            let next = waiting.pop()?;
            waiting.extend(next.children.iter().rev());
            Some(next)
        })
    }

    /// Who held up the stop: those that did not end in their time and had to be killed, and those that did not end even then.
    /// A child that is allowed nothing is killed at once, and holds up nothing unless it leaks.
    pub fn blockers(&self) -> impl Iterator<Item = &ChildReport> {
        self.walk().filter(|child| match child.how {
            StopKind::Graceful => false,
            StopKind::Killed => child.allowed != Shutdown::Brutal,
            StopKind::Leaked => true,
        })
    }

    /// Whether every child ended when asked.
    #[must_use]
    pub fn is_graceful(&self) -> bool {
        self.walk().all(|child| child.how == StopKind::Graceful)
    }
}
