//! The shell: owns the log's life. It opens it, prunes it, and asks its supervisor to start it anew when it has failed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{
    OpenError, StoreError, Timestamp, commit::Commit, log::Log, message::Message, shared::Shared,
};

/// Marker type; all data lives in [`Room`] and in what the handles share.
pub(super) struct EventStore;

pub(super) struct Room {
    shared: Arc<Shared>,
    log: Arc<Log>,
    /// Which opening of it this is.
    opening: u64,
}

impl Actor for EventStore {
    type Msg = Message;
    type State = Room;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        shared: Arc<Shared>,
    ) -> Result<Room, ActorProcessingErr> {
        let told = myself.clone();
        let unwanted = Unwanted::default();
        let flag = unwanted.0.clone();
        // The room is made where the log is opened: when nobody waits for it any more, it is dropped there, and closes the log.
        let opened = tokio::task::spawn_blocking(move || {
            let (log, opening) =
                shared.open(fastrand::u64(..), &flag, move |log| tell(&told, log))?;
            Ok::<_, OpenError>(Room {
                shared,
                log,
                opening,
            })
        });
        let room = opened.await??;
        myself.cast(Message::Retain)?;
        Ok(room)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::PruneBefore { nanos, reply } => {
                if !reply.is_closed() {
                    reply.send(room.prune_before(nanos).await?);
                }
            }
            Message::PruneTo { count, reply } => {
                if !reply.is_closed() {
                    reply.send(room.prune(move |log| Some(log.prune_to(count))).await?);
                }
            }
            Message::RetainNow => room.retain(Timestamp::now()).await?,
            Message::Retain => {
                room.retain(Timestamp::now()).await?;
                // The next look is asked for after this one, so that looks never pile up. Ends with the actor.
                let _timer =
                    myself.send_after(room.shared.options.retention_interval, || Message::Retain);
            }
            Message::Failed { log } => {
                if Arc::ptr_eq(&log, &room.log) {
                    return Err(StoreError::Down {
                        reason: room.shared.why_down(),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        let (shared, log, opening) = (room.shared.clone(), room.log.clone(), room.opening);
        tokio::task::spawn_blocking(move || shared.close(&log, opening)).await?;
        Ok(())
    }
}

/// Tells an opening that nobody waits for it any more: its actor was stopped, or killed, before it had begun.
#[derive(Default)]
struct Unwanted(Arc<AtomicBool>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A log that fails after its actor is gone needs no actor: the next one opens the folder anyway.
fn tell(actor: &ActorRef<Message>, log: Arc<Log>) {
    if actor.cast(Message::Failed { log }).is_err() {
        tracing::debug!("the event log failed after its actor had stopped");
    }
}

impl Room {
    async fn prune_before(
        &self,
        nanos: i64,
    ) -> Result<Result<u64, StoreError>, ActorProcessingErr> {
        self.prune(move |log| log.prune_before(nanos)).await
    }

    /// Prunes off the runtime's workers: a segment that is hidden in part is gone through. A panic there is a crash here.
    async fn prune(
        &self,
        work: impl FnOnce(&Log) -> Option<(u64, Arc<Commit>)> + Send + 'static,
    ) -> Result<Result<u64, StoreError>, ActorProcessingErr> {
        let log = self.log.clone();
        let Some((pruned, commit)) = tokio::task::spawn_blocking(move || work(&log)).await? else {
            return Ok(Err(StoreError::TooManyPrunes));
        };
        let waited = self.shared.options.answer_wait;
        Ok(match tokio::time::timeout(waited, commit.wait()).await {
            Ok(Ok(())) => {
                self.shared.metrics.pruned.add(pruned);
                Ok(pruned)
            }
            Ok(Err(failure)) => Err(StoreError::Failed {
                reason: failure.reason.to_string(),
            }),
            Err(_) => Err(StoreError::Unanswered { waited }),
        })
    }

    async fn retain(&self, now: Timestamp) -> Result<(), ActorProcessingErr> {
        let retention = self.shared.current().retention;
        if let Some(age) = retention.max_age {
            let oldest = now.before(age).as_nanos();
            report(self.prune_before(oldest).await?);
        }
        if let Some(bytes) = retention.max_bytes {
            report(self.prune(move |log| Some(log.prune_bytes(bytes))).await?);
        }
        if let Some(count) = retention.max_events {
            report(self.prune(move |log| Some(log.prune_to(count))).await?);
        }
        Ok(())
    }
}

fn report(pruned: Result<u64, StoreError>) {
    match pruned {
        Ok(0) => {}
        Ok(pruned) => tracing::debug!(pruned, "events pruned by retention"),
        Err(error) => {
            tracing::warn!(%error, "retention failed; it is tried again at the next look");
        }
    }
}

impl Drop for Room {
    /// Also when the actor is killed: the folder must be free for its successor.
    fn drop(&mut self) {
        self.shared.leave(&self.log, self.opening);
    }
}
