//! The service: keeps the history, looks at the process, forgets idle series. Nothing that counts or reads waits for it.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{
    handle::Shared,
    message::Message,
    process::Figures,
    state::{Due, Schedule},
};

/// Marker type; all data lives in [`Room`] and in what the handles share.
pub(super) struct TelemetryActor;

pub(super) struct Room {
    shared: Arc<Shared>,
    schedule: Schedule,
}

/// The shortest step, so that an interval of zero is not a busy loop.
const STEP_MIN: Duration = Duration::from_millis(10);

impl Actor for TelemetryActor {
    type Msg = Message;
    type State = Room;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        shared: Arc<Shared>,
    ) -> Result<Room, ActorProcessingErr> {
        let schedule = Schedule::new(&shared.options, shared.clock.now());
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
                let due = room.schedule.due(room.shared.clock.now());
                room.step(due).await;
                // The next step is asked for after this one, so that steps never pile up. Ends with the actor.
                let _timer = myself
                    .send_after(room.shared.options.history_every.max(STEP_MIN), || {
                        Message::Tick
                    });
            }
            Message::Refresh { reply } => {
                if !reply.is_closed() {
                    room.step(Due::ALL).await;
                    reply.send(());
                }
            }
        }
        Ok(())
    }
}

impl Room {
    async fn step(&self, due: Due) {
        if due.process {
            self.look_at_process().await;
        }
        if due.sweep {
            let expired = self.shared.sweep();
            tracing::debug!(expired, "idle series swept");
        }
        self.shared.remember();
    }

    /// Off the runtime's workers: a process with many open files takes milliseconds to look at.
    async fn look_at_process(&self) {
        match tokio::task::spawn_blocking(Figures::read).await {
            Ok(Ok(figures)) => self.shared.show_process(&figures),
            Ok(Err(error)) => tracing::debug!(%error, "no figures of the process"),
            // The runtime is shutting down.
            Err(error) => tracing::debug!(%error, "the process was not looked at"),
        }
    }
}
