//! One connection to another node: what goes out, what waits for an answer, and the loop that reads.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    counts::Counts,
    credit::{Charge, Lane, cost},
    error::{Failure, Part, RemoteError},
    frame::{Carried, Frame, OVERHEAD, Peer},
    handshake::About,
    options::WINDOW_BYTES_MAX,
    outbox::{Outbox, Unsent},
    state::{LinkNumber, Linked, LostWhy, NODES_MAX},
};
use crate::{ids::NodeName, otp::Context};

/// One connection.
pub(super) struct Link {
    pub(super) about: About,
    pub(super) linked: Linked,
    pub(super) outbox: Outbox,
    /// How long a frame may be for the other end, and for this one, which keeps it until it is written.
    longest: u32,
    /// When a byte came last, as [`Clock`] counts.
    heard: AtomicU64,
    pub(super) clock: Clock,
    /// The last round trip, in microseconds; 0 where there was none.
    round_trip: AtomicU64,
    pub(super) traffic: Traffic,
    tags: AtomicU64,
    pending: Mutex<Pending>,
    /// Tells the tasks of the connection to end.
    pub(super) closing: CancellationToken,
    /// How many requests of the peer are under way here.
    pub(super) serving: AtomicU64,
    /// How many members of groups the peer has.
    pub(super) counts: Counts,
    /// What the peer told of others and was not looked at.
    told: Mutex<Vec<Peer>>,
    /// Why it ended, said before the end shows.
    why: Mutex<Option<LostWhy>>,
}

/// What waits for something from the peer.
#[derive(Default)]
struct Pending {
    over: bool,
    calls: HashMap<u64, oneshot::Sender<Result<Vec<u8>, Failure>>, RandomState>,
    watches: HashMap<u64, oneshot::Sender<Gone>, RandomState>,
}

/// How the life of a remote service ended, as a code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) code: u8,
    pub(super) text: String,
}

/// Time since the cluster room began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }

    pub(super) fn micros(self) -> u64 {
        u64::try_from(self.now().as_micros()).unwrap_or(u64::MAX)
    }
}

/// What went over a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes_sent: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) messages_sent: AtomicU64,
    pub(super) messages_received: AtomicU64,
}

impl Link {
    /// What a peer says of its own limits is taken as far as this node's own: it is this node's memory.
    pub(super) fn new(
        about: About,
        linked: Linked,
        clock: Clock,
        frame_bytes_max: u32,
    ) -> Arc<Self> {
        let closing = CancellationToken::new();
        let window = about.window.min(WINDOW_BYTES_MAX);
        let longest = about.frame_bytes_max.min(frame_bytes_max);
        let outbox = Outbox::new(window, longest, closing.clone());
        Arc::new(Self {
            about,
            linked,
            outbox,
            longest,
            heard: AtomicU64::new(clock.micros()),
            clock,
            round_trip: AtomicU64::new(0),
            traffic: Traffic::default(),
            tags: AtomicU64::new(1),
            pending: Mutex::default(),
            closing,
            serving: AtomicU64::new(0),
            counts: Counts::default(),
            told: Mutex::default(),
            why: Mutex::default(),
        })
    }

    pub(super) fn number(&self) -> LinkNumber {
        self.linked.number
    }

    pub(super) fn node(&self) -> &NodeName {
        &self.about.name
    }

    pub(super) fn hear(&self) {
        self.heard.store(self.clock.micros(), Ordering::Relaxed);
    }

    pub(super) fn heard(&self) -> Duration {
        Duration::from_micros(self.heard.load(Ordering::Relaxed))
    }

    pub(super) fn ping(&self) {
        self.outbox.control(&Frame::Ping {
            sent: self.clock.micros(),
        });
    }

    pub(super) fn pong(&self, sent: u64) {
        let took = self.clock.micros().saturating_sub(sent).max(1);
        self.round_trip.store(took, Ordering::Relaxed);
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Ends it: its tasks end, and whoever waits for an answer is told that it was lost.
    pub(super) fn close(&self, why: LostWhy) {
        self.why.lock().get_or_insert(why);
        self.outbox.close();
        self.closing.cancel();
        let mut pending = self.pending.lock();
        pending.over = true;
        let gone = (
            std::mem::take(&mut pending.calls),
            std::mem::take(&mut pending.watches),
        );
        drop(pending);
        // Their receivers find out.
        drop(gone);
    }

    /// Says what is left to say, then ends.
    pub(super) fn finish(&self) {
        self.why.lock().get_or_insert(LostWhy::Closed);
        self.outbox.close();
    }

    pub(super) fn why(&self) -> Option<LostWhy> {
        *self.why.lock()
    }

    /// How long the payload of a message may be for the other end to read it, and for this one to keep it.
    pub(super) fn payload_max(&self, name: &str) -> usize {
        let limit = usize::try_from(self.longest).unwrap_or(usize::MAX);
        limit.saturating_sub(OVERHEAD + name.len())
    }

    /// Whether a message with this much payload is read at the other end.
    pub(super) fn check_size(&self, name: &str, payload: usize) -> Result<(), RemoteError> {
        let limit = self.payload_max(name);
        if payload > limit {
            return Err(RemoteError::TooLarge {
                what: Part::Request,
                bytes: payload,
                limit,
            });
        }
        Ok(())
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(
        &self,
        service: &str,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let node = || self.node().clone();
        self.check_size(service, payload.len())?;
        let deadline = Instant::now().checked_add(timeout);
        let tag = self.tags.fetch_add(1, Ordering::Relaxed);
        let (answered, mut answer) = oneshot::channel();
        let mut asked = Asked {
            link: self,
            tag,
            sent: false,
        };
        if !self.expect(tag, answered) {
            return Err(RemoteError::NoConnection { node: node() });
        }
        let frame = Frame::Call {
            tag,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            context: carried(),
            service,
            payload,
        };
        let charge = Charge {
            lane: Lane::service(service),
            cost: cost(payload.len()),
        };
        let sent = within(deadline, self.outbox.send(charge, &frame)).await;
        match sent {
            None | Some(Err(Unsent::Full)) => return Err(RemoteError::Full { node: node() }),
            Some(Err(Unsent::Closed)) => return Err(RemoteError::NoConnection { node: node() }),
            Some(Ok(())) => asked.sent = true,
        }
        self.traffic.messages_sent.fetch_add(1, Ordering::Relaxed);
        match within(deadline, &mut answer).await {
            None => Err(RemoteError::Timeout {
                node: node(),
                waited: timeout,
            }),
            Some(answer) => {
                asked.sent = false;
                match answer {
                    Ok(Ok(payload)) => Ok(payload),
                    Ok(Err(failure)) => Err(failure.into_error(self.node(), service, timeout)),
                    Err(_) => Err(RemoteError::Lost { node: node() }),
                }
            }
        }
    }

    /// The peer tells of others; as many as there can be are kept until they are looked at. Says whether somebody has to be told.
    pub(super) fn tells(&self, peers: Vec<Peer>) -> bool {
        let mut told = self.told.lock();
        let is_first = told.is_empty() && !peers.is_empty();
        let room = NODES_MAX.saturating_sub(told.len());
        told.extend(peers.into_iter().take(room));
        is_first
    }

    pub(super) fn take_told(&self) -> Vec<Peer> {
        std::mem::take(&mut *self.told.lock())
    }

    fn expect(&self, tag: u64, answered: oneshot::Sender<Result<Vec<u8>, Failure>>) -> bool {
        let mut pending = self.pending.lock();
        if !pending.over {
            pending.calls.insert(tag, answered);
        }
        !pending.over
    }

    /// An answer came. One that nobody waits for any more is let go.
    pub(super) fn answered(&self, tag: u64, answer: Result<Vec<u8>, Failure>) {
        let waiting = self.pending.lock().calls.remove(&tag);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// Sends without waiting for an answer, or for credit. The size has been checked.
    pub(super) fn try_cast(&self, charge: Charge, frame: &Frame<'_>) -> Result<(), RemoteError> {
        self.sent(self.outbox.try_send(charge, frame))
    }

    /// Sends without waiting for an answer, waiting for credit. The size has been checked.
    pub(super) async fn cast(&self, charge: Charge, frame: &Frame<'_>) -> Result<(), RemoteError> {
        self.sent(self.outbox.send(charge, frame).await)
    }

    fn sent(&self, sent: Result<(), Unsent>) -> Result<(), RemoteError> {
        let node = || self.node().clone();
        match sent {
            Ok(()) => {
                self.traffic.messages_sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(Unsent::Full) => Err(RemoteError::Full { node: node() }),
            Err(Unsent::Closed) => Err(RemoteError::NoConnection { node: node() }),
        }
    }

    /// Asks to be told of the end of a service's life. `None` when the connection is over.
    pub(super) fn watch(&self, service: &str) -> Option<(u64, oneshot::Receiver<Gone>)> {
        let reference = self.tags.fetch_add(1, Ordering::Relaxed);
        let (told, gone) = oneshot::channel();
        {
            let mut pending = self.pending.lock();
            if pending.over {
                return None;
            }
            pending.watches.insert(reference, told);
        }
        self.outbox.control(&Frame::Watch { reference, service });
        Some((reference, gone))
    }

    pub(super) fn unwatch(&self, reference: u64) {
        if self.pending.lock().watches.remove(&reference).is_some() {
            self.outbox.control(&Frame::Unwatch { reference });
        }
    }

    pub(super) fn gone(&self, reference: u64, gone: Gone) {
        let watching = self.pending.lock().watches.remove(&reference);
        if let Some(watching) = watching {
            let _ = watching.send(gone);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("node", &self.about.name)
            .field("linked", &self.linked)
            .finish_non_exhaustive()
    }
}

/// The correlation of whoever sends.
pub(super) fn carried() -> Carried {
    let (trace, cause, hops) = Context::current().parts();
    Carried { trace, cause, hops }
}

/// A request under way. When its caller gives up, the peer is told, so that it does no work for nobody.
struct Asked<'a> {
    link: &'a Link,
    tag: u64,
    sent: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let waited = self.link.pending.lock().calls.remove(&self.tag).is_some();
        if self.sent && waited {
            self.link.outbox.control(&Frame::Cancel { tag: self.tag });
        }
    }
}

/// `None` when it was not done in time.
pub(super) async fn within<F: Future>(deadline: Option<Instant>, work: F) -> Option<F::Output> {
    match deadline {
        None => Some(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
    }
}
