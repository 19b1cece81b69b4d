use std::{
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::wait::{PATIENCE, patiently};
use crate::telemetry::{EventName, HandlerOptions, OnFailure, OwnedEmission, Runs, Telemetry};

/// Records the emissions of some telemetry events, from when it is made until it is dropped.
///
/// ```
/// use underpin::{
///     telemetry::{EventName, Options, Telemetry},
///     testing::Recorder,
/// };
///
/// static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let telemetry = Telemetry::new(Options::default());
/// let mut sold = Recorder::attach(&telemetry, &[SOLD.clone()]);
///
/// let shop = telemetry.clone();
/// tokio::spawn(async move { shop.execute(&SOLD, &[("pieces", 3.into())], &[("article", "tea".into())]) });
///
/// let first = sold.wait().await;
/// assert_eq!(first.measurement("pieces"), Some(3.into()));
/// assert_eq!(first.text("article"), Some("tea"));
/// assert_eq!(sold.all().len(), 1);
/// # }
/// ```
#[derive(Debug)]
pub struct Recorder {
    telemetry: Telemetry,
    id: String,
    tape: Arc<Tape>,
    /// How many of them [`wait`](Self::wait) has given.
    given: usize,
}

#[derive(Debug, Default)]
struct Tape {
    emissions: Mutex<Vec<OwnedEmission>>,
    more: Notify,
}

impl Recorder {
    /// Begins to record these events. Other recorders and handlers do not notice.
    ///
    /// # Panics
    ///
    /// There is no event.
    #[track_caller]
    #[must_use]
    pub fn attach(telemetry: &Telemetry, events: &[EventName]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = format!("testing.recorder.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let tape = Arc::new(Tape::default());
        let options = HandlerOptions {
            on_failure: OnFailure::Keep,
            runs: Runs::InEmitter,
        };
        let attached =
            telemetry.attach_with(&id, events, &options, Arc::clone(&tape), |seen, tape| {
                tape.emissions.lock().push(seen.keep());
                tape.more.notify_waiters();
            });
        if let Err(refused) = attached {
            panic!("nothing to record: {refused}");
        }
        Self {
            telemetry: telemetry.clone(),
            id,
            tape,
            given: 0,
        }
    }

    /// All emissions so far, in order.
    #[must_use]
    pub fn all(&self) -> Vec<OwnedEmission> {
        self.tape.emissions.lock().clone()
    }

    /// The names of all emissions so far, in order: `shop.sold`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let emissions = self.tape.emissions.lock();
        emissions.iter().map(|one| one.name().to_string()).collect()
    }

    /// The emission after the one that this gave last; waits for it.
    ///
    /// # Panics
    ///
    /// None comes within [`PATIENCE`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn wait(&mut self) -> impl Future<Output = OwnedEmission> {
        let caller = Location::caller();
        async move {
            let coming = async {
                loop {
                    let more = self.tape.more.notified();
                    let next = self.tape.emissions.lock().get(self.given).cloned();
                    match next {
                        Some(emission) => return emission,
                        None => more.await,
                    }
                }
            };
            let Some(emission) = patiently(coming).await else {
                let seen = self.names();
                panic!(
                    "{caller}: waited {PATIENCE:?} for another emission; so far there were {seen:?}"
                );
            };
            self.given += 1;
            emission
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // It may have been detached by its id.
        let _ = self.telemetry.detach(&self.id);
    }
}
