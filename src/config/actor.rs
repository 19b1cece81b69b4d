//! The shell: takes requests in, asks the state, keeps, publishes, answers, and only then tells the others.

use std::sync::Arc;

use jiff::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    task::{AbortHandle, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    Alarm, AlarmKind, Author, Kind, Preview, Record, Reloaded, UpdateError,
    load::{Fresh, checksum},
    message::Message,
    reload::Reload,
    saved::{LastGood, Overlay},
    shared::{Published, Shared},
    state::{Occasion, Request, State, Step},
    storage::Verdict,
};
use crate::otp::Context;

/// Marker type; what the server knows lives in [`Shared`], so that it outlives the server.
pub(super) struct ConfigServer;

/// One life of the server.
pub(super) struct Life {
    shared: Arc<Shared>,
    _notifier: Notifier,
    _alive: Alive,
}

/// The task that tells subscribers, so that who writes does not.
struct Notifier(AbortHandle);

/// Says that the server is down, however it ends.
struct Alive {
    published: Arc<Published>,
    incarnation: u64,
}

/// Gives a write up when the one who waits for it is gone.
struct Waiting(Arc<Verdict>);

impl Actor for ConfigServer {
    type Msg = Message;
    type State = Life;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        shared: Arc<Shared>,
    ) -> Result<Life, ActorProcessingErr> {
        let life = Life::new(shared);
        life.keep_start();
        Ok(life)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Change { reply, .. } if reply.is_closed() => {}
            Message::Reload { reply, .. } if reply.is_closed() => {}
            Message::DryRun { reply, .. } if reply.is_closed() => {}
            Message::Change { request, reply } => {
                let outcome = life.change(request).await;
                let kind = outcome.as_ref().ok().map(|record| record.kind);
                reply.send(outcome);
                life.shared.tell(kind);
            }
            Message::Reload {
                fresh,
                author,
                reply,
            } => {
                let outcome = life.reload(*fresh, author, reply.context()).await;
                let is_change = outcome.as_ref().is_ok_and(|done| done.record.is_some());
                reply.send(outcome);
                if is_change {
                    life.shared.tell(Some(Kind::Load));
                }
            }
            Message::DryRun { request, reply } => {
                reply.send(life.preview(request));
            }
        }
        Ok(())
    }
}

impl Life {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            _notifier: Notifier::start(&shared),
            _alive: Alive::new(&shared.published),
            shared,
        }
    }

    fn preview(&self, request: Request) -> Preview {
        let published = &self.shared.published;
        published.with_log(|log, state| state.preview(request, log, Timestamp::now()))
    }

    async fn change(&self, request: Request) -> Result<Arc<Record>, UpdateError> {
        if self.shared.keeper.is_none() {
            let _alone = self.shared.published.writing();
            return self.shared.change(request);
        }
        // Nobody but the server writes where changes are kept.
        let Step { next, record } = self.shared.decide(request)?;
        let record = Arc::new(record);
        self.keep(&next, Some(&record), None).await?;
        self.shared.publish(next, &record);
        Ok(record)
    }

    async fn reload(
        &self,
        fresh: Fresh,
        author: Arc<Author>,
        context: Context,
    ) -> Result<Reloaded, UpdateError> {
        let occasion = Occasion {
            author,
            context,
            now: Timestamp::now(),
        };
        if self.shared.keeper.is_none() {
            let _alone = self.shared.published.writing();
            return self.shared.reload(&fresh.state, occasion);
        }
        let Reload { next, record } = self.shared.decide_reload(&fresh.state, occasion)?;
        let record = record.map(Arc::new);
        let good = LastGood {
            document: next.base.clone(),
            ..fresh.good
        };
        self.keep(&next, record.as_ref(), Some(good)).await?;
        Ok(self.shared.publish_reload(next, record))
    }

    /// Waits until the change is on disk, or answers that it is not.
    async fn keep(
        &self,
        next: &State,
        record: Option<&Arc<Record>>,
        good: Option<LastGood>,
    ) -> Result<(), UpdateError> {
        let Some(keeper) = self.shared.keeper.clone() else {
            return Ok(());
        };
        let overlay = self.to_keep(next, record);
        let patience = self.shared.options.persist_timeout;
        let waiting = Waiting(Arc::default());
        let verdict = Arc::clone(&waiting.0);
        let write =
            spawn_blocking(move || keeper.write(&overlay, good.as_ref(), patience, &verdict));
        let outcome = match timeout(patience, write).await {
            Ok(Ok(Err(error))) => Err(UpdateError::NotPersisted {
                reason: error.to_string(),
            }),
            Ok(Err(panicked)) => Err(UpdateError::NotPersisted {
                reason: panicked.to_string(),
            }),
            Err(_) if waiting.0.abandon() => Err(UpdateError::DiskStuck { limit: patience }),
            // Also when it was done in the very last moment.
            Ok(Ok(Ok(()))) | Err(_) => Ok(()),
        };
        match &outcome {
            Ok(()) => self.shared.published.clear(AlarmKind::NotPersisting),
            Err(error) => self
                .shared
                .published
                .raise(not_persisting(error.to_string())),
        }
        outcome
    }

    /// Writes what the start found out, without making the node wait for the disk.
    fn keep_start(&self) {
        let Some(keeper) = self.shared.keeper.clone() else {
            return;
        };
        let patience = self.shared.options.persist_timeout;
        let overlay = self.to_keep(&self.shared.published.state(), None);
        let published = Arc::clone(&self.shared.published);
        drop(spawn_blocking(move || {
            if let Err(error) = keeper.write_start(&overlay, patience) {
                published.raise(not_persisting(format!(
                    "the settings could not be kept at the start: {error}"
                )));
            }
        }));
    }

    fn to_keep(&self, state: &State, record: Option<&Arc<Record>>) -> Overlay {
        let options = &self.shared.options;
        let mut history = self
            .shared
            .published
            .with_log(|log, _| log.tail(options.kept_changes, options.kept_bytes));
        history.extend(record.cloned());
        let mut entries: Vec<_> = state
            .overlay
            .iter()
            .chain(state.aside.iter())
            .cloned()
            .collect();
        entries.sort_by_key(|entry| (entry.revision, entry.index));
        Overlay {
            revision: state.revision,
            document: checksum(&state.document),
            entries,
            history,
        }
    }
}

fn not_persisting(message: String) -> Alarm {
    Alarm::new(AlarmKind::NotPersisting, message, Timestamp::now())
}

impl Notifier {
    fn start(shared: &Arc<Shared>) -> Self {
        // What an earlier life published, and did not come to tell.
        shared.news.notify_one();
        let shared = Arc::clone(shared);
        let task = tokio::spawn(async move {
            loop {
                shared.news.notified().await;
                shared.published.tell();
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Alive {
    fn new(published: &Arc<Published>) -> Self {
        Self {
            incarnation: published.server_started(Instant::now()),
            published: Arc::clone(published),
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.published
            .server_ended(self.incarnation, Instant::now());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
