//! Stops many children at the same time, with one timer for each distinct shutdown value.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::{
    task::coop::unconstrained,
    time::{self, Instant},
};

use crate::otp::{
    ChildKind, ChildReport, ChildSpec, ExitReason, Shutdown, StopKind,
    start::Started,
    supervisor::stop::{Deadline, Ended, Patience},
    tree::TreeNode,
};

/// A child that is to stop, and how it did.
pub(super) struct Leaving {
    pub(super) spec: Arc<ChildSpec>,
    pub(super) node: Arc<TreeNode>,
    started: Started,
    /// How it had ended by itself, where it was ending already.
    own_end: Option<ExitReason>,
    how: StopKind,
    took: Duration,
}

impl Leaving {
    pub(super) fn new(
        spec: Arc<ChildSpec>,
        node: Arc<TreeNode>,
        started: Started,
        own_end: Option<ExitReason>,
    ) -> Self {
        Self {
            spec,
            node,
            started,
            own_end,
            how: StopKind::Leaked,
            took: Duration::ZERO,
        }
    }

    /// The verdict, once it was stopped.
    pub(super) fn ended(mut self) -> (Arc<ChildSpec>, Arc<TreeNode>, Ended) {
        let own_end = self.own_end.take();
        let reason = own_end.unwrap_or_else(|| self.started.incarnation.end_by_request());
        let leaked = self.started.conclude(Some(reason.clone()));
        let report = ChildReport {
            id: Arc::clone(&self.spec.id),
            how: self.how,
            allowed: self.spec.shutdown,
            asked_after: Duration::ZERO,
            took: self.took,
            reason,
            children: Vec::new(),
            unlisted: 0,
        };
        let ended = Ended {
            report: Some(report),
            leaked,
        };
        (self.spec, self.node, ended)
    }
}

/// Stops them all; done when each is gone, or is plainly not going.
pub(super) async fn stop_together(children: Vec<Leaving>, deadline: &Deadline) -> Vec<Leaving> {
    let begin = Instant::now();
    let mut groups: BTreeMap<Order, (Patience, Vec<Leaving>)> = BTreeMap::new();
    for child in children {
        let group = groups.entry(Order::of(&child.spec)).or_insert_with(|| {
            let patience = Patience::of(&child.spec, deadline.clone());
            (patience, Vec::new())
        });
        group.1.push(child);
    }
    let groups = groups.into_values();
    let stopped = groups.map(|(patience, group)| stop_group(patience, group, begin));
    join_all(stopped).await.into_iter().flatten().collect()
}

/// What children have in common that stop by one timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    AtOnce,
    Within(Duration, bool),
    Whenever(bool),
}

impl Order {
    fn of(spec: &ChildSpec) -> Self {
        let nested = spec.kind == ChildKind::Supervisor;
        match spec.shutdown {
            Shutdown::Brutal => Self::AtOnce,
            Shutdown::Timeout(limit) => Self::Within(limit, nested),
            Shutdown::Infinity => Self::Whenever(nested),
        }
    }
}

async fn stop_group(
    mut patience: Patience,
    mut group: Vec<Leaving>,
    begin: Instant,
) -> Vec<Leaving> {
    if patience.shutdown != Shutdown::Brutal {
        for child in &group {
            child.started.stop();
        }
        let ends = pin!(ends(&mut group, StopKind::Graceful, begin));
        // Those that are late are told of by what they still say.
        let _ = patience.wait(ends).await;
    }
    for child in group.iter().filter(|child| !child.started.is_gone()) {
        child.started.kill();
    }
    let ends = ends(&mut group, StopKind::Killed, begin);
    let _ = time::timeout(patience.grace(), ends).await;
    group
}

/// Waits for those that are not gone, all at once.
///
/// Outside of tokio's budget, which is spent after some dozen of them: each of the others would then be looked at in vain as often
/// as the budget is given out anew, and a hundred thousand took minutes.
async fn ends(group: &mut [Leaving], how: StopKind, begin: Instant) {
    let still = group
        .iter_mut()
        .filter(|child| child.how == StopKind::Leaked);
    let mut ends: FuturesUnordered<_> = still
        .map(|child| {
            unconstrained(async move {
                child.started.gone().await;
                child.how = how;
                child.took = begin.elapsed();
            })
        })
        .collect();
    while ends.next().await.is_some() {}
}
