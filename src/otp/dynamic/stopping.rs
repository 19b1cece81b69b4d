//! How the children of a dynamic supervisor are brought to their end: one that is asked for, all together, or cut off.

use std::sync::Arc;

use futures_util::{future::join_all, join};
use parking_lot::Mutex;
use tokio::{
    task::coop::unconstrained,
    time::{self, Instant},
};

use super::{
    child::{Child, Hung, Life, StopReply, Stopping},
    message::Message,
    nursery::{Birth, News, Nursery, Room},
    together::{Leaving, stop_together},
};
use crate::otp::{
    ChildKind, ChildSpec, ChildState, Lifecycle, ShutdownReport, StopKind, SupervisorError,
    incarnation::discard,
    supervisor::{
        ChildReport,
        stop::{Deadline, Ended, KILL_GRACE, Patience, stopped},
    },
    tree::TreeNode,
};

/// How many children that stopped when asked a report lists; those that did not are listed all.
const LISTED: usize = 1000;

impl Nursery {
    /// Brings a child to its end in a task of its own; at once when it hung.
    pub(super) fn stop(
        &self,
        room: &mut Room,
        key: u64,
        replies: Vec<StopReply>,
        hung: Option<Box<Hung>>,
    ) {
        let Some(child) = room.children.get_mut(&key) else {
            return;
        };
        let life = child.take_life();
        child.node.enter(ChildState::Stopping, Instant::now());
        let (spec, incarnation) = (Arc::clone(&child.spec), child.incarnation);
        let patience = Patience::of(&spec, self.place.office.deadline());
        let patience = if hung.is_some() {
            patience.none()
        } else {
            patience
        };
        if let Life::Running { started, .. } = &life {
            room.forget_actor(started);
        }
        room.stops.remove(&key);
        let ended = Arc::new(Mutex::new(Ended::NOTHING));
        let me = self.place.me.clone();
        let task = tokio::spawn({
            let ended = Arc::clone(&ended);
            async move {
                let outcome = life.end(&spec, patience).await;
                *ended.lock() = outcome;
                let _ = me.send_message(Message::StopDone {
                    child: key,
                    incarnation,
                });
            }
        });
        if let Some(child) = room.children.get_mut(&key) {
            child.life = Life::Stopping(Box::new(Stopping {
                task,
                ended,
                replies,
                hung,
            }));
        }
    }

    pub(super) fn stop_done(&self, key: u64, incarnation: u64) {
        let next = self.with(|room| {
            let child = room.current(key, incarnation)?;
            if !matches!(child.life, Life::Stopping(_)) {
                return None;
            }
            let Life::Stopping(stopping) = child.take_life() else {
                return None;
            };
            let mut ended = std::mem::replace(&mut *stopping.ended.lock(), Ended::NOTHING);
            let name: Arc<str> = format!("{}#{key}", child.spec.id).into();
            // One that hung has exited.
            let exits = stopping.hung.is_some() && ended.leaked.is_none();
            if let Some(report) = ended.report.as_ref().filter(|_| !exits) {
                let told = stopped(&child.node, report);
                room.news.push(News::Report(told));
            }
            let answer = match &ended.leaked {
                Some(_) => Err(SupervisorError::Leaked(name)),
                None => Ok(()),
            };
            room.news.push(News::Answer(stopping.replies, answer));
            let child = room.children.get_mut(&key)?;
            if let Some(task) = ended.leaked.take() {
                child.node.enter(ChildState::Leaked, Instant::now());
                child.life = Life::Leaked {
                    task: self.tell_when_gone(key, incarnation, task),
                    hung: stopping.hung,
                };
                return None;
            }
            self.stopped_after_all(room, key, stopping.hung)
        });
        self.bear_again(next);
    }

    /// It is gone. One that hung has ended by that, as if by itself; another was to go.
    pub(super) fn stopped_after_all(
        &self,
        room: &mut Room,
        key: u64,
        hung: Option<Box<Hung>>,
    ) -> Option<Birth> {
        let Some(hung) = hung else {
            room.remove(key, &self.place.node);
            return None;
        };
        let Hung { lived, reason } = *hung;
        let exited = Lifecycle::Exited {
            incarnation: room.children.get(&key)?.lives,
            reason: reason.clone(),
        };
        self.tell(room, key, exited);
        self.go_on(room, key, &reason, lived)
    }

    /// Stops all children at the same time. A deadline that is set meanwhile is passed on.
    pub(super) async fn stop_all(&self) -> ShutdownReport {
        let begin = Instant::now();
        self.close().await;
        let children = self.with(Room::empty);
        let deadline = self.place.office.deadline();
        let (mut running, mut others, mut nested) = (Vec::new(), Vec::new(), Vec::new());
        let now = Instant::now();
        for mut child in children.into_values() {
            child.node.enter(ChildState::Stopping, now);
            if child.spec.kind == ChildKind::Supervisor {
                nested.push(Arc::clone(&child.spec));
            }
            let life = child.take_life();
            let Child { spec, node, .. } = *child;
            match life {
                Life::Running { started, .. } => {
                    running.push(Leaving::new(spec, node, started, None));
                }
                Life::Ending(ending) => {
                    let (started, _, reason) = *ending;
                    running.push(Leaving::new(spec, node, started, Some(reason)));
                }
                other => {
                    let patience = Patience::of(&spec, deadline.clone());
                    // As in `together`.
                    others.push(unconstrained(async move {
                        let ended = other.end(&spec, patience).await;
                        (spec, node, ended)
                    }));
                }
            }
        }
        let all = async { join!(stop_together(running, &deadline), join_all(others)) };
        let pass_on = pass_on(self.place.office.deadline(), &nested);
        let (running, others) = tokio::select! {
            biased;
            stopped = all => stopped,
            never = pass_on => match never {},
        };
        let running = running.into_iter().map(Leaving::ended);
        let (children, unlisted) = self.tell_of(running.chain(others));
        ShutdownReport {
            children,
            unlisted,
            took: begin.elapsed(),
        }
    }

    /// Lets no more children in, and waits for those whose start is being made, and until everything is told: that takes a moment,
    /// unless a start or a listener blocks its thread.
    async fn close(&self) {
        self.with(|room| room.open = false);
        let all_there = async {
            while self.with(|room| room.launching > 0 || room.telling) {
                tokio::task::yield_now().await;
            }
        };
        let _ = time::timeout(KILL_GRACE, all_there).await;
    }

    /// Reports how children ended: each to whoever listens, and those that are worth it to whoever stopped them.
    fn tell_of(
        &self,
        ended: impl Iterator<Item = (Arc<ChildSpec>, Arc<TreeNode>, Ended)>,
    ) -> (Vec<ChildReport>, usize) {
        let (mut graceful, mut reports) = (0_usize, Vec::new());
        let now = Instant::now();
        for (spec, node, ended) in ended {
            let leaked = ended.leaked.as_ref().map(|_| ChildState::Leaked);
            node.enter(leaked.unwrap_or(ChildState::Stopped), now);
            self.place.office.leave_behind(&spec, &node, ended.leaked);
            let Some(mut report) = ended.report else {
                continue;
            };
            self.place.reports.publish(stopped(&node, &report));
            report.of_nested(spec.start.stopped_children());
            let plain = report.how == StopKind::Graceful && report.children.is_empty();
            graceful += usize::from(plain);
            if !plain || graceful <= LISTED {
                reports.push(report);
            }
            let _ = discard(spec);
        }
        (reports, graceful.saturating_sub(LISTED))
    }

    /// The supervisor has ended: without its stop there are children still. They are cut off; its next life waits for them.
    pub(super) fn abandon(&self) {
        let children = self.with(Room::empty);
        let now = Instant::now();
        for mut child in children.into_values() {
            child.node.enter(ChildState::Stopped, now);
            let task = child.take_life().abandon();
            self.place
                .office
                .leave_behind(&child.spec, &child.node, task);
            let _ = discard(child);
        }
        self.place.node.enter(ChildState::Stopped, now);
        self.place.office.close();
    }
}

/// Tells nested supervisors of each deadline.
async fn pass_on(mut deadline: Deadline, nested: &[Arc<ChildSpec>]) -> std::convert::Infallible {
    loop {
        if let Some(at) = *deadline.borrow_and_update() {
            for spec in nested {
                spec.start.hurry(at);
            }
        }
        if deadline.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otp::{
        DynamicSupervisor, DynamicSupervisorSpec, ExitReason, Intensity, ShutdownCause,
    };

    /// Its end was known, and it was reported as stopped like the others. Between the two is a moment on another thread.
    #[tokio::test]
    async fn a_child_that_was_ending_when_all_are_stopped_is_told_of_by_its_own_end() {
        let spec = DynamicSupervisorSpec::new("many", Intensity::new(1, KILL_GRACE));
        let many = DynamicSupervisor::start(spec).await.expect("starts");
        let child = ChildSpec::task("a", |ctx| async move {
            ctx.cancelled().await;
            Ok(())
        });
        many.start_child(child).await.expect("starts");
        let own = ExitReason::Shutdown(Some(ShutdownCause::Said("moved away".into())));
        many.nursery().expect("runs").with(|room| {
            let child = room.children.values_mut().next().expect("is there");
            let Life::Running { started, since } = child.take_life() else {
                panic!("it runs");
            };
            child.life = Life::Ending(Box::new((started, since, own.clone())));
        });

        let report = many.stop().await;

        assert_eq!(report.children[0].reason, own);
    }
}
