//! The shell: takes requests in, asks the state, keeps, publishes, answers, and only then tells the others.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    task::{AbortHandle, spawn_blocking},
    time::{Instant, timeout},
};

use super::{
    Alarm, AlarmKind, Author, Kind, Preview, Record, Reloaded, UpdateError,
    keeper::Mended,
    load::{Fresh, checksum},
    message::Message,
    reload::Reload,
    saved::{LastGood, Overlay},
    shared::{Published, Shared},
    state::{Occasion, Request, State, Step},
    storage::{Unkept, Verdict},
};
use crate::otp::Context;

/// Marker type; what the server knows lives in [`Shared`], so that it outlives the server.
pub(super) struct ConfigServer;

/// How long a disk that failed is left alone before it is tried again.
const MEND_PAUSE: Duration = Duration::from_secs(1);

/// One life of the server.
pub(super) struct Life {
    shared: Arc<Shared>,
    myself: ActorRef<Message>,
    /// The disk will be tried again.
    mends_later: bool,
    /// Since when a write of an earlier life is waited for.
    busy_since: Option<Instant>,
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
        myself: ActorRef<Message>,
        shared: Arc<Shared>,
    ) -> Result<Life, ActorProcessingErr> {
        if shared.keeper.is_some() {
            // Before any change, and without making the node wait for the disk.
            myself.send_message(Message::Mend)?;
        }
        Ok(Life::new(shared, myself))
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
            Message::Mend => life.mend().await,
        }
        Ok(())
    }
}

impl Life {
    fn new(shared: Arc<Shared>, myself: ActorRef<Message>) -> Self {
        Self {
            _notifier: Notifier::start(&shared),
            _alive: Alive::new(&shared.published),
            shared,
            myself,
            mends_later: false,
            busy_since: None,
        }
    }

    fn preview(&self, request: Request) -> Preview {
        let published = &self.shared.published;
        let past = |target| published.overlay_at(target);
        published.state().preview(request, past, Timestamp::now())
    }

    async fn change(&mut self, request: Request) -> Result<Arc<Record>, UpdateError> {
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
        &mut self,
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
            document: next.ground.base.clone(),
            ..fresh.good
        };
        self.keep(&next, record.as_ref(), Some(good)).await?;
        Ok(self.shared.publish_reload(next, record))
    }

    /// Waits until the change is on disk, or answers that it is not.
    async fn keep(
        &mut self,
        next: &State,
        record: Option<&Arc<Record>>,
        good: Option<LastGood>,
    ) -> Result<(), UpdateError> {
        let Some(keeper) = self.shared.keeper.clone() else {
            return Ok(());
        };
        let overlay = self.to_keep(next, record);
        let patience = self.shared.options.persist_timeout;
        let write =
            move |verdict: &Verdict| keeper.write(&overlay, good.as_ref(), patience, verdict);
        let outcome = self.on_disk(write).await.unwrap_or(Ok(()));
        match &outcome {
            Ok(()) => self.shared.published.clear(AlarmKind::NotPersisting),
            Err(error) => {
                // What is told from here on is this.
                self.busy_since = None;
                self.raise(error);
                if matches!(
                    error,
                    UpdateError::MayBeKept { .. } | UpdateError::DiskStuck { .. }
                ) {
                    self.mend_later();
                }
            }
        }
        outcome
    }

    /// Brings the disk in step with what readers see.
    async fn mend(&mut self) {
        self.mends_later = false;
        let Some(keeper) = self.shared.keeper.clone() else {
            return;
        };
        let overlay = self.to_keep(&self.shared.published.state(), None);
        let mend = move |verdict: &Verdict| keeper.mend(&overlay, verdict);
        let outcome = self.on_disk(mend).await;
        if matches!(outcome, Some(Ok(Mended::Busy))) {
            self.wait_for_an_earlier_write();
            return;
        }
        let was_stuck = self
            .busy_since
            .take()
            .is_some_and(|since| self.is_stuck(since));
        match outcome {
            None | Some(Ok(Mended::Written)) => {
                self.shared.published.clear(AlarmKind::NotPersisting);
            }
            // The write that was told of has ended after all.
            Some(Ok(_)) if was_stuck => self.shared.published.clear(AlarmKind::NotPersisting),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                self.raise(&error);
                self.mend_later();
            }
        }
    }

    /// It was begun before this mending, and nothing is wrong with that unless it takes longer than any may.
    fn wait_for_an_earlier_write(&mut self) {
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        if self.is_stuck(since) {
            let limit = self.shared.options.persist_timeout;
            self.raise(&UpdateError::DiskStuck { limit });
        }
        self.mend_later();
    }

    fn is_stuck(&self, since: Instant) -> bool {
        since.elapsed() >= self.shared.options.persist_timeout
    }

    /// Works on the disk, for as long as that may take. `None` when it was done in the very last moment.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Verdict) -> Result<T, Unkept> + Send + 'static,
    ) -> Option<Result<T, UpdateError>> {
        let patience = self.shared.options.persist_timeout;
        let waiting = Waiting(Arc::default());
        let verdict = Arc::clone(&waiting.0);
        let work = spawn_blocking(move || work(&verdict));
        match timeout(patience, work).await {
            Ok(Ok(outcome)) => Some(outcome.map_err(UpdateError::from)),
            Ok(Err(panicked)) => Some(Err(UpdateError::MayBeKept {
                reason: panicked.to_string(),
            })),
            Err(_) if waiting.0.abandon() => Some(Err(UpdateError::DiskStuck { limit: patience })),
            Err(_) => None,
        }
    }

    fn raise(&self, error: &UpdateError) {
        let alarm = Alarm::new(
            AlarmKind::NotPersisting,
            error.to_string(),
            Timestamp::now(),
        );
        self.shared.published.raise(alarm);
    }

    fn mend_later(&mut self) {
        if !std::mem::replace(&mut self.mends_later, true) {
            drop(self.myself.send_after(MEND_PAUSE, || Message::Mend));
        }
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

impl Notifier {
    fn start(shared: &Arc<Shared>) -> Self {
        // What an earlier life published, and did not come to tell.
        shared.news.notify_one();
        let shared = Arc::clone(shared);
        let task = tokio::spawn(async move {
            loop {
                shared.news.notified().await;
                shared.published.tell().await;
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
