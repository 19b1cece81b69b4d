//! The end of a supervisor: its children are stopped in order; cut off, it leaves word of those that are still there.

use tokio::time::Instant;

use super::{
    ChildReport,
    body::{Body, Life},
    room::Room,
    state::Key,
    stop::{Deadline, Patience, stopped},
};
use crate::otp::{ChildState, incarnation::discard};

impl Room {
    /// Stops all children, last started first, each after the one before it is gone. When a deadline passes meanwhile, all that
    /// are left are told to go at once.
    pub(super) async fn stop_all(&mut self) -> Vec<ChildReport> {
        let begin = Instant::now();
        let mut deadline = self.place.office.deadline();
        let mut reports = Vec::new();
        let mut hurried = false;
        while let Some(key) = self.bodies.last_key_value().map(|(key, _)| *key) {
            if !hurried && is_over(&mut deadline) {
                hurried = true;
                self.bodies.values_mut().for_each(Body::hurry);
            }
            let asked_after = begin.elapsed();
            self.end(key, &mut deadline).await;
            let Some(mut body) = self.bodies.remove(&key) else {
                continue;
            };
            let ended = body.take_ended();
            body.answer_all(&ended);
            if let Some(mut report) = ended.report {
                self.place.reports.publish(stopped(&body.node, &report));
                report.asked_after = asked_after;
                report.of_nested(body.spec.start.stopped_children());
                reports.push(report);
            }
            let leaked = ended.leaked.as_ref().map(|_| ChildState::Leaked);
            let state = leaked.unwrap_or(ChildState::Stopped);
            body.node.enter(state, Instant::now());
            self.place
                .office
                .leave_behind(&body.spec, &body.node, ended.leaked);
        }
        reports
    }

    /// Brings a child to its end, and waits for it; a deadline that is set meanwhile is passed on.
    async fn end(&mut self, key: Key, deadline: &mut Deadline) {
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        if !matches!(body.life, Life::None | Life::Stopping { .. }) {
            body.node.enter(ChildState::Stopping, Instant::now());
            let mut patience = Patience::of(&body.spec, deadline.clone());
            if body.hurried {
                patience = patience.none();
            }
            self.end_in_task(key, patience);
        }
        loop {
            pass_on(deadline, self.bodies.values());
            let life = self.bodies.get_mut(&key).map(|body| &mut body.life);
            let Some(Life::Stopping { task, .. }) = life else {
                return;
            };
            tokio::select! {
                biased;
                // A panic in there leaves no report.
                _ = task => return,
                // The other end of it is in the office, and so lives longer.
                _ = deadline.changed() => {}
            }
        }
    }
}

impl Drop for Room {
    /// A supervisor that ends without its stop, by a kill or a panic, takes its children along; its next life waits for
    /// them.
    fn drop(&mut self) {
        let now = Instant::now();
        if !self.bodies.is_empty() {
            // What is being stopped has no more time.
            self.place.office.hurry(now);
        }
        for mut body in std::mem::take(&mut self.bodies).into_values() {
            body.node.enter(ChildState::Stopped, now);
            let own_end = body.own_end.take();
            let task = body.take_life().abandon(own_end);
            self.place.office.leave_behind(&body.spec, &body.node, task);
            let _ = discard(body);
        }
        self.place.node.enter(ChildState::Stopped, now);
        self.place.office.close();
    }
}

/// Those below have to know of a deadline, too.
fn pass_on<'a>(deadline: &mut Deadline, bodies: impl Iterator<Item = &'a Body>) {
    if let Some(deadline) = *deadline.borrow_and_update() {
        bodies.for_each(|body| body.spec.start.hurry(deadline));
    }
}

fn is_over(deadline: &mut Deadline) -> bool {
    let deadline = *deadline.borrow_and_update();
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}
