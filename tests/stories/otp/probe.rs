//! An actor that does whatever a story needs, and notes what happens to it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::oneshot, task::AbortHandle};
use underpin::otp::{
    Address, CallError, ChildSpec, Intensity, Lifecycle, Permit, Reply, Report, ReportStream,
    SupervisorSpec, Unanswered,
};
use underpin::{ractor, testing};

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// What a probe can be told to do.
pub(crate) enum Do {
    Incarnation(Reply<u64>),
    Add(u64),
    Total(Reply<u64>),
    Hold(Permit, oneshot::Receiver<()>),
    Keep(Reply<u64>),
    Drop(Reply<u64>),
    PanicWith(&'static str),
    PanicInCall(Reply<u64>),
    Fail(&'static str),
    Stop(Option<&'static str>),
    KillYourself,
    SleepForEver,
    /// Says when it has begun, and blocks until the other end goes.
    BlockThread(oneshot::Sender<()>, mpsc::Receiver<()>),
    CallYourself(Address<Do>, Reply<String>),
    /// Awaits this inside of the handler.
    Await(Pin<Box<dyn Future<Output = ()> + Send>>),
}
underpin::otp::message!(Do);

/// What probes write down, in order.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn add(&self, note: impl Into<String>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(note.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone, Default)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) notes: Notes,
    pub(crate) incarnation: u64,
    pub(crate) slow_stop: Option<Duration>,
}

pub(crate) struct State {
    total: u64,
    kept: Vec<Reply<u64>>,
}

impl Actor for Probe {
    type Msg = Do;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<State, ActorProcessingErr> {
        self.notes.add(format!("start {}", self.name));
        Ok(State {
            total: 0,
            kept: Vec::new(),
        })
    }

    async fn post_stop(&self, _: ActorRef<Do>, _: &mut State) -> Result<(), ActorProcessingErr> {
        if let Some(slow) = self.slow_stop {
            tokio::time::sleep(slow).await;
        }
        self.notes.add(format!("stop {}", self.name));
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Do>,
        message: Do,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Do::Incarnation(reply) => reply.send(self.incarnation),
            Do::Add(n) => state.total += n,
            Do::Total(reply) => reply.send(state.total),
            Do::Hold(permit, release) => {
                let _ = release.await;
                drop(permit);
            }
            Do::Keep(reply) => state.kept.push(reply),
            Do::Drop(reply) => drop(reply),
            Do::PanicWith(words) => panic!("{words}"),
            Do::PanicInCall(reply) => {
                let _held = reply;
                panic!("in the middle of a call");
            }
            Do::Fail(words) => return Err(words.into()),
            Do::Stop(words) => me.stop(words.map(String::from)),
            Do::KillYourself => me.kill(),
            Do::SleepForEver => std::future::pending().await,
            Do::BlockThread(begun, until) => {
                let _ = begun.send(());
                // In place, so that tokio moves what this thread was to run next to another.
                let _ = tokio::task::block_in_place(|| until.recv());
            }
            Do::CallYourself(address, reply) => {
                let answer = address.call(Do::Total, LONG).await;
                reply.send(format!("{answer:?}"));
            }
            Do::Await(work) => work.await,
        }
        Ok(())
    }
}

/// A child that is a probe.
pub(crate) fn probe(name: &'static str, address: &Address<Do>, notes: &Notes) -> ChildSpec {
    let notes = notes.clone();
    ChildSpec::actor(name, address, move |ctx| {
        let probe = Probe {
            name,
            notes: notes.clone(),
            incarnation: ctx.incarnation(),
            slow_stop: None,
        };
        (probe, ())
    })
}

/// A child that cannot even be made.
pub(crate) fn broken(words: &str) -> (Probe, ()) {
    panic!("{words}")
}

/// A supervisor that tolerates as many restarts as a story may need.
pub(crate) fn lenient(id: &str) -> SupervisorSpec {
    SupervisorSpec::new(id, Intensity::new(1000, Duration::from_secs(1)))
}

pub(crate) fn strict(id: &str, restarts: u32) -> SupervisorSpec {
    SupervisorSpec::new(id, Intensity::new(restarts, Duration::from_hours(1)))
}

/// The incarnation that answers now, however long that takes. A request that died with an earlier one is asked again.
pub(crate) async fn incarnation(address: &Address<Do>) -> u64 {
    incarnation_within(address, LONG).await
}

pub(crate) async fn incarnation_within(address: &Address<Do>, limit: Duration) -> u64 {
    loop {
        match address.call(Do::Incarnation, limit).await {
            Ok(incarnation) => return incarnation,
            Err(CallError::Unanswered(Unanswered::Died(_))) => {}
            Err(error) => panic!("nobody answers: {error}"),
        }
    }
}

/// Waits for a report that `wanted` picks out.
#[track_caller]
pub(crate) fn report<T>(
    reports: &mut ReportStream,
    wanted: impl FnMut(&Report) -> Option<T>,
) -> impl Future<Output = T> {
    testing::report(reports, "what this story waits for", wanted)
}

/// Waits until the child at `path` has started its `n`th life.
pub(crate) async fn started(reports: &mut ReportStream, path: &str, n: u64) {
    report(reports, |report| {
        let fits = matches!(report.what, Lifecycle::Started { incarnation } if incarnation >= n);
        (&*report.path == path && fits).then_some(())
    })
    .await;
}

/// Has the child at this address block its thread until what is returned goes.
pub(crate) async fn block(address: &Address<Do>) -> mpsc::Sender<()> {
    let (release, until) = mpsc::channel();
    let (begun, blocked) = oneshot::channel();
    address.send(Do::BlockThread(begun, until)).expect("runs");
    blocked.await.expect("blocks now");
    release
}

/// A worker that never parks, so that the timers go on while another one is blocked.
pub(crate) struct Awake(AbortHandle);

impl Awake {
    pub(crate) fn keep() -> Self {
        let busy = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        Self(busy.abort_handle())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Holds the times that work on `most` things takes against those on a quarter of them: four times as long is linear, sixteen times
/// quadratic. It is quadratic when it looks so three times in a row; a machine that is busy with other things is not.
pub(crate) async fn grows_linearly<const N: usize>(
    most: usize,
    mut times: impl AsyncFnMut(usize) -> [Duration; N],
) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (quarter, whole) = (times(most / 4).await, times(most).await);
        let linear = quarter
            .iter()
            .zip(&whole)
            .all(|(&one, &four)| four <= 9 * one);
        if linear {
            return;
        }
        seen.push((quarter, whole));
    }
    panic!("not linear: a quarter of {most}, and all: {seen:?}");
}
