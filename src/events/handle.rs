use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    ids::IdGenerator,
    otp::{Address, CallError, ChildSpec, NotSent, Reply, Shutdown},
    resilience::Backoff,
    telemetry::Telemetry,
    value::{Limits, Value, codec},
};

use super::{
    Disk, EventBuilder, EventStats, EventsHealth, Options, Retention, StoreError, Timestamp,
    actor::EventStore, message::Message, shared::Shared,
};

/// An event store. Cheap to clone; every clone talks to the same store, also across its restarts.
#[derive(Debug, Clone)]
pub struct Events {
    pub(super) shared: Arc<Shared>,
    ids: Arc<IdGenerator>,
    service: Address<Message>,
}

impl Events {
    /// A store that is not open yet: it is once a supervisor has started its [`Events::child_spec`]. In
    /// [`Durability::Memory`](super::Durability::Memory) the disk is never touched.
    #[must_use]
    pub fn new(
        options: Options,
        disk: Arc<dyn Disk>,
        ids: Arc<IdGenerator>,
        telemetry: &Telemetry,
    ) -> Self {
        Self {
            shared: Arc::new(Shared::new(options, disk, telemetry)),
            ids,
            service: Address::new(),
        }
    }

    /// The store as a child for a supervisor, with the id `events`. Supervise it once. When writing fails it crashes, and opens the
    /// folder anew when it is restarted, with more and more time between the attempts (5 ms to 5 s).
    #[must_use]
    pub fn child_spec(&self) -> ChildSpec {
        /// A terabyte is read in less.
        const OPENING: Duration = Duration::from_hours(1);
        let shared = self.shared.clone();
        let spec = ChildSpec::actor("events", &self.service, move |_| {
            (EventStore, shared.clone())
        })
        .shutdown(Shutdown::Timeout(self.shared.options.answer_wait))
        .start_timeout(OPENING);
        match Backoff::new(Duration::from_millis(5), Duration::from_secs(5)) {
            Ok(backoff) => spec.backoff(backoff.with_reset_after(Duration::from_secs(10))),
            Err(_) => spec,
        }
    }

    /// Changes what is pruned by itself, in place of [`Options::retention`]: what is too much now goes at once, beside the caller. While
    /// the store is down, once it is open again.
    pub fn set_retention(&self, retention: Retention) {
        self.shared.change(|options| options.retention = retention);
        // A store that is down looks when it opens.
        let _ = self.service.send(Message::RetainNow);
    }

    /// Changes [`Options::hot_bytes`]. Fewer let the oldest go at once, under [`Durability::Memory`](super::Durability::Memory) with what is stored next.
    pub fn set_hot_bytes(&self, bytes: usize) {
        self.shared.change(|options| options.hot_bytes = bytes);
    }

    /// Changes [`Options::segment_bytes`], from the next write on.
    pub fn set_segment_bytes(&self, bytes: u32) {
        self.shared.change(|options| options.segment_bytes = bytes);
    }

    /// An event of a kind, with an id and a time made now.
    pub fn event(&self, kind: impl Into<Arc<str>>) -> EventBuilder {
        EventBuilder::new(self.ids.next(), kind).time(Timestamp::now())
    }

    /// The generator of this store's ids.
    #[must_use]
    pub fn ids(&self) -> &Arc<IdGenerator> {
        &self.ids
    }

    /// The checkpoint of that name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Down`] if the store was never open.
    pub async fn checkpoint(&self, key: &str) -> Result<Option<Value>, StoreError> {
        let log = self.shared.view().await?;
        let decode = |bytes: Arc<[u8]>| {
            let (value, _) = codec::decode_value(&bytes, Limits::DEFAULT).ok()?;
            Some(value)
        };
        Ok(log.checkpoint(key).and_then(decode))
    }

    /// Removes all events that are earlier than `time`, and answers how many. An event of exactly that time stays. Space comes back in
    /// whole segments.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooManyPrunes`]: nothing was pruned. [`StoreError::Down`], [`StoreError::Failed`], [`StoreError::Unanswered`]: pruning
    /// again is safe.
    pub async fn prune_before(&self, time: Timestamp) -> Result<u64, StoreError> {
        let nanos = time.as_nanos();
        self.ask(|reply| Message::PruneBefore { nanos, reply })
            .await
    }

    /// Removes the oldest stored events until `count` are left, and answers how many.
    ///
    /// # Errors
    ///
    /// As [`Events::prune_before`].
    pub async fn prune_to(&self, count: u64) -> Result<u64, StoreError> {
        self.ask(|reply| Message::PruneTo { count, reply }).await
    }

    async fn ask(
        &self,
        make: impl FnOnce(Reply<Result<u64, StoreError>>) -> Message,
    ) -> Result<u64, StoreError> {
        let options = &self.shared.options;
        let down = |_: NotSent| StoreError::Down {
            reason: self.shared.why_down(),
        };
        self.service
            .wait_ready(options.down_wait)
            .await
            .map_err(down)?;
        // The actor itself waits that long for the disk.
        let limit = options.answer_wait.saturating_add(options.down_wait);
        let begin = Instant::now();
        match self.service.call(make, limit).await {
            Ok(answer) => answer,
            Err(CallError::NotSent(error)) => Err(down(error)),
            // It may have crashed at once.
            Err(CallError::Unanswered(_)) => Err(StoreError::Unanswered {
                waited: begin.elapsed(),
            }),
        }
    }

    /// Figures of the store. Never waits.
    #[must_use]
    pub fn stats(&self) -> EventStats {
        self.shared.stats()
    }

    /// How the store is. Never waits.
    #[must_use]
    pub fn health(&self) -> EventsHealth {
        self.shared.health()
    }

    /// The address of the store's actor.
    #[must_use]
    pub fn actor(&self) -> Option<ractor::ActorCell> {
        self.service.actor()
    }
}
