//! Makes a change where nothing has to be kept on disk: nobody waits for anything, so it is done on the spot, by the server or by
//! the caller in the server's place.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    AlarmKind, Kind, Record, Reloaded, UpdateError,
    reload::Reload,
    shared::Shared,
    state::{Occasion, Request, State, Step},
};

impl Shared {
    /// Makes the change now, in the caller's own time, and tells of it. Gives the request back where only the server can make it:
    /// changes are kept on disk, somebody else is writing, or the server is down.
    pub(super) fn change_at_once(
        &self,
        request: Request,
    ) -> Result<Result<Arc<Record>, UpdateError>, Request> {
        if self.keeper.is_some() {
            return Err(request);
        }
        let Some(alone) = self.published.try_writing() else {
            return Err(request);
        };
        let outcome = self.change(request);
        drop(alone);
        self.tell(outcome.as_ref().ok().map(|record| record.kind));
        Ok(outcome)
    }

    /// Makes a change that is not kept. Only for who holds the right to write.
    pub(super) fn change(&self, request: Request) -> Result<Arc<Record>, UpdateError> {
        let Step { next, record } = self.decide(request)?;
        let record = Arc::new(record);
        self.publish(next, &record);
        Ok(record)
    }

    /// Holds the log only for who asks for the past: it runs code of the program's own, which may ask for the history itself, and
    /// followers read the log meanwhile.
    pub(super) fn decide(&self, request: Request) -> Result<Step, UpdateError> {
        let past = |target| self.published.overlay_at(target);
        let state = self.published.state();
        state.decide(request, past, Timestamp::now())
    }

    pub(super) fn publish(&self, next: State, record: &Arc<Record>) {
        let nothing_aside = next.aside.is_empty();
        self.published
            .publish(next, Arc::clone(record), &self.options);
        if !self.published.has_alarms() {
            return;
        }
        // Nothing is set aside any more once each of those settings was written or reset.
        if nothing_aside {
            self.published.clear(AlarmKind::SetAside);
        }
        // What was changed while running may have been what the files could not be taken over for.
        if self.published.has(AlarmKind::FilesBroken) {
            self.sources.forget();
        }
    }

    /// Takes over what the sources say and is not kept. Only for who holds the right to write.
    pub(super) fn reload(
        &self,
        fresh: &State,
        occasion: Occasion,
    ) -> Result<Reloaded, UpdateError> {
        let Reload { next, record } = self.decide_reload(fresh, occasion)?;
        Ok(self.publish_reload(next, record.map(Arc::new)))
    }

    pub(super) fn decide_reload(
        &self,
        fresh: &State,
        occasion: Occasion,
    ) -> Result<Reload, UpdateError> {
        self.published.state().reloaded(fresh, occasion)
    }

    pub(super) fn publish_reload(&self, next: State, record: Option<Arc<Record>>) -> Reloaded {
        let held = next
            .ground
            .held
            .iter()
            .map(|held| held.path.clone())
            .collect();
        match &record {
            Some(record) => {
                self.published
                    .publish(next, Arc::clone(record), &self.options);
            }
            None => self.published.replace(next),
        }
        Reloaded { record, held }
    }

    /// Tells those who do not wait for it how a request to change something ended.
    pub(super) fn tell(&self, outcome: Option<Kind>) {
        if outcome.is_some() && self.published.followers.count() > 0 {
            self.news.notify_one();
        }
        self.metrics.count(outcome);
    }
}
