use std::{fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{self, Instant};

use super::{ChildKind, ExitReason, incarnation::Incarnation};

/// Watches whether a child that is alive still works; for [`ChildSpec::health`](super::ChildSpec::health).
///
/// A child that hangs is killed and counts as crashed: it is restarted, or not, as its spec says for an abnormal end. One that
/// blocks its thread does not end when killed; it is then leaked, nothing is started in its place, and it is restarted when
/// it has ended after all. OTP has no such thing.
#[derive(Clone)]
pub struct HealthProbe(Way);

#[derive(Clone)]
enum Way {
    Busy(Duration),
    Ask {
        every: Duration,
        patience: Duration,
        check: Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
    },
}

impl HealthProbe {
    /// An actor hangs when it handles one message for longer than this. Looked at four times in that long, from outside: the
    /// actor pays nothing. One that is idle is healthy.
    #[must_use]
    pub fn busy(limit: Duration) -> Self {
        Self(Way::Busy(limit))
    }

    /// A child hangs when `check`, asked once in `every`, is not `true` within `patience`; a panic in it counts as not. Ask the
    /// child something: its answer must not wait for what may take longer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use underpin::otp::{Address, ChildSpec, HealthProbe, Reply};
    /// # use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
    ///
    /// enum Message {
    ///     Ping(Reply<()>),
    /// }
    /// underpin::otp::message!(Message);
    /// # struct Worker;
    /// # impl Actor for Worker {
    /// #     type Msg = Message; type State = (); type Arguments = ();
    /// #     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> { Ok(()) }
    /// #     async fn handle(&self, _: ActorRef<Message>, m: Message, (): &mut ()) -> Result<(), ActorProcessingErr> {
    /// #         match m { Message::Ping(reply) => reply.send(()) }
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// const SECOND: Duration = Duration::from_secs(1);
    /// let address = Address::new();
    /// let asked = address.clone();
    /// let answers = HealthProbe::ask(10 * SECOND, SECOND, move || {
    ///     let asked = asked.clone();
    ///     async move { asked.call(Message::Ping, SECOND).await.is_ok() }
    /// });
    /// let spec = ChildSpec::actor("worker", &address, |_| (Worker, ())).health(answers);
    /// # assert_eq!(spec.id(), "worker");
    /// ```
    #[must_use]
    pub fn ask<F, W>(every: Duration, patience: Duration, check: F) -> Self
    where
        F: Fn() -> W + Send + Sync + 'static,
        W: Future<Output = bool> + Send + 'static,
    {
        let check = Arc::new(move || check().boxed());
        Self(Way::Ask {
            every,
            patience,
            check,
        })
    }

    /// Why a child of this kind cannot be watched like this.
    pub(crate) fn refuses(&self, kind: ChildKind) -> Option<&'static str> {
        match (kind, &self.0) {
            (ChildKind::Supervisor, _) => Some(
                "a supervisor is never killed, so it has no health probe; give its children one",
            ),
            (ChildKind::Task, Way::Busy(_)) => Some(
                "a task handles no messages, so it cannot be busy with one; use HealthProbe::ask",
            ),
            _ => None,
        }
    }

    /// Watches one life until something is wrong with it.
    pub(crate) async fn hang(self, life: Arc<Incarnation>) -> ExitReason {
        let words = match self.0 {
            Way::Busy(limit) => {
                busy(&life, limit).await;
                format!("one message took longer than {limit:?}")
            }
            Way::Ask {
                every,
                patience,
                check,
            } => loop {
                time::sleep(every).await;
                let asked = AssertUnwindSafe(async { check().await }).catch_unwind();
                match time::timeout(patience, asked).await {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => break "its health check failed".to_owned(),
                    Ok(Err(_)) => break "its health check panicked".to_owned(),
                    Err(_) => break format!("its health check took longer than {patience:?}"),
                }
            },
        };
        ExitReason::Unhealthy(words.into())
    }
}

/// Waits until one message has taken longer than `limit`.
async fn busy(life: &Incarnation, limit: Duration) {
    const SHORTEST: Duration = Duration::from_millis(1);
    let pause = (limit / 4).max(SHORTEST);
    let (mut seen, mut since) = (life.steps(), Instant::now());
    loop {
        time::sleep(pause).await;
        let steps = life.steps();
        if steps != seen || !life.is_busy() {
            (seen, since) = (steps, Instant::now());
        } else if since.elapsed() >= limit {
            return;
        }
    }
}

impl fmt::Debug for HealthProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Busy(limit) => f.debug_tuple("Busy").field(limit).finish(),
            Way::Ask {
                every, patience, ..
            } => f
                .debug_struct("Ask")
                .field("every", every)
                .field("patience", patience)
                .finish_non_exhaustive(),
        }
    }
}
