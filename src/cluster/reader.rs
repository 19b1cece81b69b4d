//! Takes what comes over a connection apart and has it dealt with.
//!
//! It never stops reading while it lives, since whether the peer lives is seen by its bytes: what cannot be taken is refused, and
//! credit bounds what waits.

use std::{
    any::Any,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use tokio::io::AsyncReadExt;

use super::{
    credit::{Charge, EACH, Lane, Ledger, cost},
    delivery::{Dealt, Held},
    error::Failure,
    frame::{Carried, Frame, Payloads},
    gateway::Incoming,
    link::{Gone, Link},
    message::Message,
    serve::{BUFFER_KEPT, ReadHalf},
    shared::Shared,
    state::LostWhy,
    wire::{Fault, next_frame},
};
use crate::otp::{Context, ExitReason};

/// How many requests of one peer may be under way here at once. Beyond it they are answered that the node is full.
const CALLS_MAX: usize = 4096;
/// How many ends one peer may watch here at once.
const WATCHES_MAX: usize = 65_536;

/// Twice as many casts as a node puts into one frame: each that waits takes far more than its bytes.
const CASTS_MAX: usize = 8192;
/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// Something of the peer's that was dealt with.
enum Done {
    Call {
        tag: u64,
        charge: Charge,
        answer: Result<Vec<u8>, Failure>,
    },
    /// The caller gave up.
    Cancelled {
        tag: u64,
        charge: Charge,
    },
    Cast {
        charge: Charge,
    },
    Gone {
        reference: u64,
        gone: Gone,
    },
    Unwatched {
        reference: u64,
    },
}

pub(super) struct Reader<'a> {
    shared: &'a Arc<Shared>,
    link: &'a Arc<Link>,
    ledger: Ledger,
    /// What members of groups have dealt with.
    dealt: Arc<Dealt>,
    /// Whether anything came: it says that whoever opened the connection uses it.
    is_confirmed: bool,
    /// The other side has said that it leaves: it says nothing more.
    has_left: bool,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    calls: HashMap<u64, AbortHandle, foldhash::fast::RandomState>,
    watches: HashMap<u64, AbortHandle, foldhash::fast::RandomState>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, link: &'a Arc<Link>) -> Self {
        Self {
            shared,
            link,
            ledger: Ledger::new(shared.options.window),
            dealt: Arc::new(Dealt::new(shared.held_of(link.node()))),
            is_confirmed: link.linked.ours,
            has_left: false,
            under_way: FuturesUnordered::new(),
            calls: HashMap::default(),
            watches: HashMap::default(),
        }
    }

    pub(super) async fn run(&mut self, mut read: ReadHalf) -> LostWhy {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
        let dealt = Arc::clone(&self.dealt);
        loop {
            buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.done(done),
                () = dealt.wait() => self.take_dealt(),
                came = read.read_buf(&mut buffer) => {
                    let (Ok(came @ 1..), link) = (came, self.link) else {
                        return LostWhy::Closed;
                    };
                    link.hear();
                    link.traffic.bytes_received.fetch_add(came as u64, Ordering::Relaxed);
                    match self.take_frames(&buffer) {
                        Ok(taken) => drop(buffer.drain(..taken)),
                        Err(fault) => {
                            tracing::warn!(node = %link.node(), ?fault, "a node does not keep to the protocol");
                            return LostWhy::Violated;
                        }
                    }
                    if buffer.capacity() > BUFFER_KEPT && buffer.len() < READ_BYTES {
                        buffer.shrink_to(2 * READ_BYTES);
                    }
                }
            }
        }
    }

    /// Takes all whole frames at the front. Gives how many bytes those were.
    fn take_frames(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let body_max = usize::try_from(self.shared.options.frame_bytes_max).unwrap_or(usize::MAX);
        let mut taken = 0;
        while let Some((body, length)) = next_frame(&bytes[taken..], body_max)? {
            let frame = Frame::read(body)?;
            if !self.is_confirmed {
                self.is_confirmed = true;
                let link = self.link.number();
                self.shared.tell(Message::Confirmed { link });
            }
            if !self.has_left {
                self.take(frame)?;
            }
            taken += length;
        }
        self.take_dealt();
        Ok(taken)
    }

    fn take(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        let link = self.link;
        match frame {
            Frame::Ping { sent } => link.outbox.control(&Frame::Pong { sent }),
            Frame::Pong { sent } => link.pong(sent),
            Frame::Peers(peers) => self.shared.hear_of(link, peers),
            Frame::Leave => {
                self.has_left = true;
                self.shared.tell(Message::Leaves {
                    link: link.number(),
                });
            }
            Frame::Credit { lane, bytes } => link.outbox.grant(lane, bytes),
            Frame::Call {
                tag,
                timeout_ms,
                context,
                service,
                payload,
            } => {
                let charge = self.charge(Lane::service(service), payload.len())?;
                if self.calls.contains_key(&tag) {
                    return Err(Fault::Damaged("a call with the tag of another one"));
                }
                let timeout = Duration::from_millis(timeout_ms.into());
                self.call(tag, timeout, context, service, payload, charge);
            }
            Frame::Answer { tag, payload } => link.answered(tag, Ok(payload.to_vec())),
            Frame::Failed { tag, code, text } => {
                link.answered(tag, Err(Failure::from_code(code, text)));
            }
            Frame::Cancel { tag } => {
                if let Some(call) = self.calls.get(&tag) {
                    call.abort();
                }
            }
            Frame::Cast {
                context,
                service,
                payload,
            } => {
                let charge = self.charge(Lane::service(service), payload.len())?;
                self.cast(context, service, payload, charge);
            }
            Frame::Casts {
                context,
                service,
                payloads,
            } => self.casts(context, service, payloads)?,
            Frame::Publish {
                context,
                group,
                payload,
            } => self.publish(context, group, payload)?,
            Frame::Members { whole, groups } => self.shared.groups.learn(link, whole, &groups),
            Frame::Watch { reference, service } => {
                if self.watches.contains_key(&reference) {
                    return Err(Fault::Damaged("a watch with the number of another one"));
                }
                self.watch(reference, service);
            }
            Frame::Unwatch { reference } => {
                if let Some(watch) = self.watches.get(&reference) {
                    watch.abort();
                }
            }
            Frame::Gone {
                reference,
                code,
                text,
            } => {
                link.gone(
                    reference,
                    Gone {
                        code,
                        text: text.to_owned(),
                    },
                );
            }
        }
        Ok(())
    }

    fn casts(
        &mut self,
        context: Carried,
        service: &str,
        payloads: Payloads<'_>,
    ) -> Result<(), Fault> {
        let count = payloads.clone().count();
        if count > CASTS_MAX {
            return Err(Fault::Damaged("too many casts in one frame"));
        }
        let bytes = payloads.bytes() + count.saturating_sub(1) * EACH;
        let Charge {
            lane,
            cost: mut left,
        } = self.charge(Lane::service(service), bytes)?;
        for payload in payloads {
            let cost = cost(payload.len()).min(left);
            left -= cost;
            self.cast(context, service, payload, Charge { lane, cost });
        }
        self.settle(Charge { lane, cost: left });
        Ok(())
    }

    fn publish(&mut self, context: Carried, group: &str, payload: &[u8]) -> Result<(), Fault> {
        let charge = self.charge(Lane::group(group), payload.len())?;
        let options = &self.shared.options;
        if self.dealt.held() > u64::from(options.window) + 2 * u64::from(options.frame_bytes_max) {
            // Only where members still hold what came over earlier connections, of which the sender's credit knows nothing.
            tracing::warn!(node = %self.link.node(), group, "members hold too much of this node's broadcasts: this one is let go");
            self.shared.figures.let_go.inc();
            self.settle(charge);
            return Ok(());
        }
        let held = Held::new(charge, &self.dealt);
        let deliver = || self.shared.groups.deliver(group, payload, held);
        if let Err(words) = guarded(|| from_wire(context).enter(deliver)) {
            tracing::error!(
                group,
                words,
                "a broadcast could not be given to all members"
            );
        }
        Ok(())
    }

    fn charge(&mut self, lane: Lane, bytes: usize) -> Result<Charge, Fault> {
        self.link
            .traffic
            .messages_received
            .fetch_add(1, Ordering::Relaxed);
        let charge = Charge {
            lane,
            cost: cost(bytes),
        };
        let allowed = self.ledger.came(charge);
        self.grant();
        if allowed {
            Ok(charge)
        } else {
            Err(Fault::Damaged("a message for which there was no credit"))
        }
    }

    fn settle(&mut self, charge: Charge) {
        self.ledger.done(charge);
        self.grant();
    }

    fn take_dealt(&mut self) {
        for charge in self.dealt.take() {
            self.ledger.done(charge);
        }
        self.grant();
    }

    fn grant(&mut self) {
        for (lane, bytes) in self.ledger.grants() {
            self.link.outbox.control(&Frame::Credit { lane, bytes });
        }
    }

    fn call(
        &mut self,
        tag: u64,
        timeout: Duration,
        context: Carried,
        service: &str,
        payload: &[u8],
        charge: Charge,
    ) {
        let refuse = |failure| Done::Call {
            tag,
            charge,
            answer: Err(failure),
        };
        let Some(route) = self.shared.gateway.route(service) else {
            return self.done(refuse(Failure::NoService));
        };
        if self.calls.len() >= CALLS_MAX {
            return self.done(refuse(Failure::Full));
        }
        let incoming = Incoming {
            from: self.link.node(),
            payload,
            answer_max: self.answer_max(),
        };
        let work = match guarded(|| route.call(incoming, timeout)) {
            Ok(work) => AssertUnwindSafe(work).catch_unwind(),
            Err(words) => return self.done(refuse(Failure::Unanswered(words))),
        };
        let (abort, registration) = AbortHandle::new_pair();
        let mut work = async move {
            match Abortable::new(from_wire(context).scope(work), registration).await {
                Ok(Ok(answer)) => Done::Call {
                    tag,
                    charge,
                    answer,
                },
                Ok(Err(panic)) => Done::Call {
                    tag,
                    charge,
                    answer: Err(Failure::Unanswered(words_of(&*panic))),
                },
                Err(_) => Done::Cancelled { tag, charge },
            }
        }
        .boxed();
        // The first poll here delivers the request before whatever comes behind it.
        if let Some(done) = (&mut work).now_or_never() {
            return self.done(done);
        }
        self.calls.insert(tag, abort);
        self.link.serving.fetch_add(1, Ordering::Relaxed);
        self.under_way.push(work);
    }

    fn cast(&mut self, context: Carried, service: &str, payload: &[u8], charge: Charge) {
        let Some(route) = self.shared.gateway.route(service) else {
            tracing::debug!(service, from = %self.link.node(), "a cast to nobody was let go");
            return self.settle(charge);
        };
        let incoming = Incoming {
            from: self.link.node(),
            payload,
            answer_max: self.answer_max(),
        };
        let context = from_wire(context);
        match guarded(|| context.enter(|| route.cast(incoming))) {
            Ok(None) => self.settle(charge),
            Err(words) => {
                tracing::error!(service, words, "a cast was let go");
                self.settle(charge);
            }
            Ok(Some(delivery)) => {
                let service = service.to_owned();
                let mut delivery = async move {
                    let delivery = AssertUnwindSafe(context.scope(delivery)).catch_unwind();
                    if let Err(panic) = delivery.await {
                        let words = words_of(&*panic);
                        tracing::error!(service, words, "a cast was let go");
                    }
                    Done::Cast { charge }
                }
                .boxed();
                match (&mut delivery).now_or_never() {
                    Some(done) => self.done(done),
                    None => self.under_way.push(delivery),
                }
            }
        }
    }

    fn watch(&mut self, reference: u64, service: &str) {
        if self.watches.len() >= WATCHES_MAX {
            let gone = Gone::full();
            return self.done(Done::Gone { reference, gone });
        }
        let route = self.shared.gateway.route(service);
        let Some(monitor) = route.and_then(|route| route.monitor()) else {
            let gone = Gone::no_service();
            return self.done(Done::Gone { reference, gone });
        };
        let (abort, registration) = AbortHandle::new_pair();
        self.watches.insert(reference, abort);
        let watching = async move {
            match Abortable::new(monitor.down(), registration).await {
                Ok(down) => Done::Gone {
                    reference,
                    gone: Gone::ended(&down.reason),
                },
                Err(_) => Done::Unwatched { reference },
            }
        };
        self.under_way.push(watching.boxed());
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Call {
                tag,
                charge,
                answer,
            } => {
                self.answer(tag, answer);
                self.forget_call(tag, charge);
            }
            Done::Cancelled { tag, charge } => self.forget_call(tag, charge),
            Done::Cast { charge } => self.settle(charge),
            Done::Gone { reference, gone } => {
                self.watches.remove(&reference);
                let Gone { code, text } = &gone;
                self.link.outbox.control(&Frame::Gone {
                    reference,
                    code: *code,
                    text,
                });
            }
            Done::Unwatched { reference } => drop(self.watches.remove(&reference)),
        }
    }

    fn forget_call(&mut self, tag: u64, charge: Charge) {
        if self.calls.remove(&tag).is_some() {
            self.link.serving.fetch_sub(1, Ordering::Relaxed);
        }
        self.settle(charge);
    }

    fn answer_max(&self) -> usize {
        self.link.payload_max("")
    }

    fn answer(&self, tag: u64, answer: Result<Vec<u8>, Failure>) {
        let (outbox, limit) = (&self.link.outbox, self.answer_max());
        let failure = match answer {
            Ok(payload) if payload.len() > limit => Failure::AnswerTooLarge {
                bytes: payload.len(),
                limit,
            },
            Ok(payload) => {
                let frame = Frame::Answer {
                    tag,
                    payload: &payload,
                };
                if outbox.answer(&frame, payload.len()) {
                    return;
                }
                Failure::Unanswered(
                    "too many answers wait for the caller's node to read them".to_owned(),
                )
            }
            Err(failure) => failure,
        };
        let (code, text) = failure.code_and_text();
        outbox.control(&Frame::Failed {
            tag,
            code,
            text: &text,
        });
    }
}

/// Code of users that runs here, to read a request or to make a message of it: when it panics, that is the answer, and the connection
/// with all other requests goes on.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words_of(&*panic))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    ExitReason::from_panic(panic).to_string()
}

fn from_wire(carried: Carried) -> Context {
    Context::from_parts(carried.trace, carried.cause, carried.hops)
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::future;

    use super::*;
    use crate::{
        cluster::{
            ClusterOptions, Cookie, figures::Figures, gateway::Route, groups::SharedGroups,
            handshake::tests::about, state::Linked, wire::Write,
        },
        otp::{Address, Groups, Monitor},
        telemetry::{Options, Telemetry},
    };

    pub(in crate::cluster) fn shared() -> Arc<Shared> {
        let cookie = Cookie::new("a cookie of some length").expect("long enough");
        let telemetry = Telemetry::new(Options::default());
        let groups = SharedGroups::new(Groups::new("a"));
        let options = ClusterOptions::new(cookie);
        Shared::new(
            options,
            about("a", 1, 1),
            None,
            groups,
            Figures::new(&telemetry),
        )
    }

    pub(in crate::cluster) fn link(shared: &Shared) -> Arc<Link> {
        let linked = Linked {
            number: 1,
            ours: true,
            serial: 1,
        };
        Link::new(about("b", 2, 1), linked, shared.clock, 1 << 20)
    }

    fn call(tag: u64, service: &str) -> Frame<'_> {
        Frame::Call {
            tag,
            timeout_ms: 1000,
            context: Carried::default(),
            service,
            payload: &[],
        }
    }

    /// What waits to be written, frame by frame.
    async fn written(link: &Link, mut look: impl FnMut(Frame<'_>)) {
        let mut bytes = Vec::new();
        if link.outbox.backlog() > 0 {
            assert!(link.outbox.next(&mut bytes).await);
        }
        let mut rest = &bytes[..];
        while let Some((body, taken)) = next_frame(rest, usize::MAX).expect("short") {
            look(Frame::read(body).expect("a frame"));
            rest = &rest[taken..];
        }
    }

    /// Answers nobody, or panics.
    struct Odd {
        panics: bool,
        address: Address<Never>,
    }

    enum Never {}
    crate::otp::message!(Never);

    impl Route for Odd {
        fn call(
            &self,
            _: Incoming<'_>,
            _: Duration,
        ) -> BoxFuture<'static, Result<Vec<u8>, Failure>> {
            assert!(!self.panics, "as planned");
            future::pending().boxed()
        }

        fn cast(&self, _: Incoming<'_>) -> Option<BoxFuture<'static, ()>> {
            if self.panics {
                return Some(async { panic!("as planned") }.boxed());
            }
            Some(future::pending().boxed())
        }

        fn monitor(&self) -> Option<Monitor> {
            Some(self.address.monitor())
        }
    }

    fn odd(panics: bool) -> Arc<dyn Route> {
        Arc::new(Odd {
            panics,
            address: Address::new(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_is_in_use_is_no_number_for_another_call_or_watch() {
        let shared = shared();
        shared.gateway.add("slow", odd(false));
        let link = link(&shared);
        let mut reader = Reader::new(&shared, &link);
        let watch = Frame::Watch {
            reference: 1,
            service: "slow",
        };

        assert_eq!(reader.take(call(1, "slow")), Ok(()));
        assert_eq!(reader.take(watch.clone()), Ok(()));

        assert!(reader.take(call(1, "slow")).is_err());
        assert!(reader.take(watch).is_err());
        assert_eq!(reader.under_way.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_members_hold_of_a_node_counts_also_when_its_connection_is_another_one() {
        let shared = shared();
        let options = &shared.options;
        let lane = Lane::group("slow");
        let cost = u64::from(options.window) + 2 * u64::from(options.frame_bytes_max) + 1;
        let before = link(&shared);
        let hoarded = Held::new(Charge { lane, cost }, &Reader::new(&shared, &before).dealt);
        let now = link(&shared);
        let mut reader = Reader::new(&shared, &now);
        let publish = |reader: &mut Reader<'_>| {
            let frame = Frame::Publish {
                context: Carried::default(),
                group: "slow",
                payload: &[],
            };
            assert_eq!(reader.take(frame), Ok(()));
            shared.figures.let_go.value()
        };

        assert_eq!(publish(&mut reader), 1);
        drop(hoarded);
        assert_eq!(publish(&mut reader), 1);
    }

    #[test]
    fn more_casts_in_a_frame_than_any_node_sends_are_a_fault() {
        let shared = shared();
        let link = link(&shared);
        let mut reader = Reader::new(&shared, &link);
        let casts = |count| {
            let mut payloads = Vec::new();
            for _ in 0..count {
                payloads.extend(0_u32.to_le_bytes());
            }
            payloads
        };
        let fault = |reader: &mut Reader<'_>, payloads: &[u8]| {
            let payloads = Payloads::read(payloads).expect("whole");
            reader
                .casts(Carried::default(), "nobody", payloads)
                .is_err()
        };

        assert!(!fault(&mut reader, &casts(CASTS_MAX)));
        assert!(fault(&mut reader, &casts(CASTS_MAX + 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_watches_too_much_is_told_so() {
        let shared = shared();
        shared.gateway.add("slow", odd(false));
        let link = link(&shared);
        let mut reader = Reader::new(&shared, &link);
        for reference in 0..=WATCHES_MAX as u64 {
            let watch = Frame::Watch {
                reference,
                service: "slow",
            };
            assert_eq!(reader.take(watch), Ok(()));
        }

        let mut told = Vec::new();
        written(&link, |frame| {
            if let Frame::Gone {
                reference, code, ..
            } = frame
            {
                told.push((reference, code));
            }
        })
        .await;

        assert_eq!(told, [(WATCHES_MAX as u64, Gone::full().code)]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_farewell_a_peer_says_nothing_more() {
        let shared = shared();
        let link = link(&shared);
        let mut reader = Reader::new(&shared, &link);
        let mut bytes = Vec::new();
        Frame::Leave.put(&mut bytes);
        Frame::Ping { sent: 1 }.put(&mut bytes);

        assert_eq!(reader.take_frames(&bytes), Ok(bytes.len()));

        assert_eq!(link.outbox.backlog(), 0, "the ping is not answered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_panics_is_an_answer_and_gives_its_credit_back() {
        let shared = shared();
        shared.gateway.add("odd", odd(true));
        let link = link(&shared);
        let mut reader = Reader::new(&shared, &link);
        let mut payloads = Vec::new();
        payloads.put_long(b"one");
        let casts = Frame::Cast {
            context: Carried::default(),
            service: "odd",
            payload: &payloads,
        };

        assert_eq!(reader.take(call(7, "odd")), Ok(()));
        assert_eq!(reader.take(casts), Ok(()));

        let mut answers = Vec::new();
        written(&link, |frame| {
            if let Frame::Failed { tag, text, .. } = frame {
                answers.push((tag, text.to_owned()));
            }
        })
        .await;
        assert!(
            matches!(&answers[..], [(7, words)] if words.contains("as planned")),
            "{answers:?}"
        );
        assert!(reader.under_way.is_empty() && reader.calls.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_tells_and_tells_has_one_message_in_the_mailbox() {
        let shared = shared();
        let link = link(&shared);
        let peer = |n: u16| crate::cluster::frame::Peer {
            name: about(&format!("n{n}"), 3, 1).name,
            address: "b.example:1".to_owned(),
            id: about("b", 3, 1).id,
            incarnation: 1,
        };

        assert!(link.tells(vec![peer(1)]));
        for n in 0..2000 {
            assert!(!link.tells(vec![peer(n)]));
        }

        assert_eq!(link.take_told().len(), crate::cluster::state::NODES_MAX);
        assert!(link.tells(vec![peer(1)]));
    }
}
