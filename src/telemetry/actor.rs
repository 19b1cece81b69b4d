//! The service: keeps the history, polls, forgets idle series. Nothing that counts or reads waits for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    task::{self, JoinHandle},
    time::{self, Instant},
};

use super::{handler::discard, message::Message, polls::Turn, shared::Shared, state::Schedule};

/// Marker type; all data lives in [`Room`] and in what the handles share.
pub(super) struct TelemetryActor;

pub(super) struct Room {
    shared: Arc<Shared>,
    schedule: Schedule,
}

/// The shortest step, so that an interval of zero is not a busy loop.
const STEP_MIN: Duration = Duration::from_millis(10);
/// How long a step waits for its polls. One that takes longer goes on by itself, and has no further turn until it is done.
const POLLS_WITHIN: Duration = Duration::from_secs(1);

impl Actor for TelemetryActor {
    type Msg = Message;
    type State = Room;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        shared: Arc<Shared>,
    ) -> Result<Room, ActorProcessingErr> {
        let schedule = Schedule::new(shared.options.sweep_every, shared.clock.now());
        myself.cast(Message::Tick)?;
        Ok(Room { shared, schedule })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Tick => {
                room.poll(false).await;
                if room.schedule.sweep_is_due(room.shared.clock.now()) {
                    room.sweep();
                }
                room.shared.tell_overflows();
                room.shared.remember();
                // The next step is asked for after this one, so that steps never pile up. Ends with the actor.
                let _timer = myself
                    .send_after(room.shared.options.history_every.max(STEP_MIN), || {
                        Message::Tick
                    });
            }
            Message::Refresh { reply } => {
                if !reply.is_closed() {
                    room.poll(true).await;
                    room.sweep();
                    room.shared.tell_overflows();
                    room.shared.remember();
                    reply.send(());
                }
            }
        }
        Ok(())
    }
}

impl Room {
    fn sweep(&self) {
        let expired = self.shared.sweep();
        tracing::debug!(expired, "idle series swept");
    }

    /// Off the runtime's workers, and all at the same time: a process with many open files takes milliseconds to look at.
    async fn poll(&self, all: bool) {
        let shared = &self.shared;
        shared.show_rates();
        let round = shared.polls.due(shared.clock.now(), all);
        for late in &round.overdue {
            shared.poll_overdue(late);
        }
        let start = |turn| start(turn, shared);
        let turns: Vec<(Arc<str>, JoinHandle<()>)> = round.turns.into_iter().map(start).collect();
        let until = Instant::now() + POLLS_WITHIN;
        for (id, running) in turns {
            match time::timeout_at(until, running).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::debug!("the runtime is shutting down"),
                Err(_) => shared.poll_overdue(&id),
            }
        }
    }
}

/// However long it takes, and whoever is left to wait for it then: one that panics is removed.
fn start(turn: Turn, shared: &Arc<Shared>) -> (Arc<str>, JoinHandle<()>) {
    let (id, shared) = (Arc::clone(turn.id()), Arc::clone(shared));
    let take = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| turn.take())) {
            discard(panic);
            shared.poll_failed(&turn);
        }
    };
    (id, task::spawn_blocking(take))
}
