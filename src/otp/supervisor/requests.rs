//! What a supervisor is asked. A caller's mistake is an answer.

use std::sync::Arc;

use super::{
    ChildCounts, ChildInfo,
    body::{EndAnswer, StartAnswer},
    room::Room,
    spec::check_child,
    state::{Key, Rules},
};
use crate::otp::{ChildKind, ChildSpec, ChildState, SupervisorError};

impl Room {
    pub(super) fn start_child(&mut self, spec: ChildSpec, reply: StartAnswer) {
        if let Err(error) = check_child(&spec, self.terms.auto_shutdown) {
            return reply.send(Err(error));
        }
        match self.state.start_child(spec.rules()) {
            Ok(key) => {
                self.add_body(key, spec);
                self.expect_start(key, reply);
            }
            Err(refused) => reply.send(Err(refused)),
        }
    }

    pub(super) fn restart_child(&mut self, id: &Arc<str>, reply: StartAnswer) {
        match self.state.restart_child(id) {
            Ok(key) => self.expect_start(key, reply),
            Err(refused) => reply.send(Err(refused)),
        }
    }

    fn expect_start(&mut self, key: Key, reply: StartAnswer) {
        if let Some(body) = self.bodies.get_mut(&key) {
            body.start_asked = Some(reply);
        }
        self.carry_out();
    }

    pub(super) fn delete_child(&mut self, id: &Arc<str>, reply: EndAnswer) {
        reply.send(self.state.delete_child(id));
        self.carry_out();
    }

    pub(super) fn terminate_child(&mut self, id: &Arc<str>, caller: u64, reply: EndAnswer) {
        let key = self.state.key(id);
        if key.is_some_and(|key| self.alive(key, caller).is_some()) {
            return reply.send(Err(SupervisorError::CallingSelf));
        }
        let (now, _) = self.now();
        match self.state.terminate_child(id, now) {
            Ok(Some(key)) => {
                if let Some(body) = self.bodies.get_mut(&key) {
                    body.ends_asked.push(reply);
                }
            }
            Ok(None) => reply.send(Ok(())),
            Err(refused) => reply.send(Err(refused)),
        }
        self.carry_out();
    }

    pub(super) fn which(&self) -> Vec<ChildInfo> {
        let info = |(rules, state): (&Rules, ChildState)| ChildInfo {
            id: Arc::clone(&rules.id),
            kind: rules.kind,
            state,
        };
        self.state.iter().map(info).collect()
    }

    pub(super) fn count(&self) -> ChildCounts {
        let mut counts = ChildCounts::default();
        for (rules, state) in self.state.iter() {
            counts.specs += 1;
            if state == ChildState::Running {
                counts.active += 1;
            }
            match rules.kind {
                ChildKind::Supervisor => counts.supervisors += 1,
                ChildKind::Actor | ChildKind::Task => counts.workers += 1,
            }
        }
        counts
    }

    pub(super) fn spec(&self, id: &Arc<str>) -> Result<ChildSpec, SupervisorError> {
        let key = self.state.key(id);
        let body = key.and_then(|key| self.bodies.get(&key));
        body.map(|body| body.spec.clone())
            .ok_or_else(|| SupervisorError::NotFound(Arc::clone(id)))
    }
}
