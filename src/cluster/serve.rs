//! The two loops of a connection: one writes what waits, one reads what comes and has it dealt with.
//!
//! The reader never stops reading while it lives, since whether the peer lives is seen by its bytes: what cannot be taken is
//! refused, and credit bounds what waits.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    credit::{EACH, Ledger, cost},
    error::Failure,
    frame::{Carried, Frame},
    gateway::Incoming,
    link::{Gone, Link},
    message::Message,
    shared::Shared,
    state::LostWhy,
    wire::{Fault, next_frame},
};
use crate::otp::Context;

pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// How many requests of one peer may be under way here at once. Beyond it they are answered that the node is full.
const CALLS_MAX: usize = 4096;
/// How many ends one peer may watch here at once.
const WATCHES_MAX: usize = 65_536;
/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// A buffer that a large frame made longer than this is given back.
const BUFFER_KEPT: usize = 1 << 20;

/// Runs a connection until it ends, and says that it did.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, read: ReadHalf, write: WriteHalf) {
    let mut reader = Reader::new(&shared, &link);
    let why = {
        let reading = reader.run(read);
        let writing = write_all(&link, write);
        tokio::select! {
            () = link.closing.cancelled() => LostWhy::Closed,
            why = reading => why,
            () = writing => LostWhy::Closed,
        }
    };
    link.close(why);
    let why = link.why().unwrap_or(why);
    shared.tell(Message::Lost {
        link: link.number(),
        why,
    });
}

/// Ends when all is written and nothing more is to come, or when the peer does not take it.
async fn write_all(link: &Link, mut write: WriteHalf) {
    let mut buffer = Vec::new();
    while link.outbox.next(&mut buffer).await {
        if write_out(&mut write, &buffer).await.is_err() {
            return;
        }
        link.traffic
            .bytes_sent
            .fetch_add(buffer.len() as u64, Ordering::Relaxed);
        if buffer.capacity() > BUFFER_KEPT {
            buffer = Vec::new();
        }
    }
    let _ = write.shutdown().await;
}

async fn write_out(write: &mut WriteHalf, bytes: &[u8]) -> io::Result<()> {
    write.write_all(bytes).await?;
    write.flush().await
}

/// Something of the peer's that was dealt with.
enum Done {
    Call {
        tag: u64,
        cost: u64,
        answer: Result<Vec<u8>, Failure>,
    },
    /// The caller gave up.
    Cancelled {
        tag: u64,
        cost: u64,
    },
    Cast {
        cost: u64,
    },
    Gone {
        reference: u64,
        gone: Gone,
    },
    Unwatched {
        reference: u64,
    },
}

struct Reader<'a> {
    shared: &'a Arc<Shared>,
    link: &'a Arc<Link>,
    ledger: Ledger,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    calls: HashMap<u64, AbortHandle, foldhash::fast::RandomState>,
    watches: HashMap<u64, AbortHandle, foldhash::fast::RandomState>,
}

impl<'a> Reader<'a> {
    fn new(shared: &'a Arc<Shared>, link: &'a Arc<Link>) -> Self {
        Self {
            shared,
            link,
            ledger: Ledger::new(shared.options.window),
            under_way: FuturesUnordered::new(),
            calls: HashMap::default(),
            watches: HashMap::default(),
        }
    }

    async fn run(&mut self, mut read: ReadHalf) -> LostWhy {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
        loop {
            buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.done(done),
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
            self.take(frame)?;
            taken += length;
        }
        Ok(taken)
    }

    fn take(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        let link = self.link;
        match frame {
            Frame::Ping { sent } => link.outbox.control(&Frame::Pong { sent }),
            Frame::Pong { sent } => link.pong(sent),
            Frame::Peers(peers) => self.shared.hear_of(link.number(), peers),
            Frame::Leave => self.shared.tell(Message::Leaves {
                link: link.number(),
            }),
            Frame::Credit { bytes } => link.outbox.grant(bytes),
            Frame::Call {
                tag,
                timeout_ms,
                context,
                service,
                payload,
            } => {
                let cost = self.charge(payload.len())?;
                let timeout = Duration::from_millis(timeout_ms.into());
                self.call(tag, timeout, context, service, payload, cost);
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
                let cost = self.charge(payload.len())?;
                self.cast(context, service, payload, cost);
            }
            Frame::Casts {
                context,
                service,
                payloads,
            } => {
                let count = payloads.clone().count();
                let mut left = self.charge(payloads.bytes() + count.saturating_sub(1) * EACH)?;
                for payload in payloads {
                    let one = cost(payload.len()).min(left);
                    left -= one;
                    self.cast(context, service, payload, one);
                }
                self.settle(left);
            }
            Frame::Publish {
                context,
                group,
                payload,
            } => {
                let cost = self.charge(payload.len())?;
                from_wire(context).enter(|| self.shared.groups.deliver(group, payload));
                self.settle(cost);
            }
            Frame::Members { whole, groups } => {
                self.shared
                    .groups
                    .learn(link.node(), link.number(), whole, &groups);
            }
            Frame::Watch { reference, service } => self.watch(reference, service),
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

    fn charge(&mut self, bytes: usize) -> Result<u64, Fault> {
        self.link
            .traffic
            .messages_received
            .fetch_add(1, Ordering::Relaxed);
        let cost = cost(bytes);
        if self.ledger.came(cost) {
            Ok(cost)
        } else {
            Err(Fault::Damaged("a message for which there was no credit"))
        }
    }

    fn settle(&mut self, cost: u64) {
        if let Some(bytes) = self.ledger.done(cost) {
            self.link.outbox.control(&Frame::Credit { bytes });
        }
    }

    fn call(
        &mut self,
        tag: u64,
        timeout: Duration,
        context: Carried,
        service: &str,
        payload: &[u8],
        cost: u64,
    ) {
        let Some(route) = self.shared.gateway.route(service) else {
            return self.done(Done::Call {
                tag,
                cost,
                answer: Err(Failure::NoService),
            });
        };
        if self.calls.len() >= CALLS_MAX {
            return self.done(Done::Call {
                tag,
                cost,
                answer: Err(Failure::Full),
            });
        }
        let incoming = Incoming {
            from: self.link.node(),
            payload,
        };
        let (abort, registration) = AbortHandle::new_pair();
        let work = route.call(incoming, timeout);
        let mut work = async move {
            match Abortable::new(from_wire(context).scope(work), registration).await {
                Ok(answer) => Done::Call { tag, cost, answer },
                Err(_) => Done::Cancelled { tag, cost },
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

    fn cast(&mut self, context: Carried, service: &str, payload: &[u8], cost: u64) {
        let Some(route) = self.shared.gateway.route(service) else {
            tracing::debug!(service, from = %self.link.node(), "a cast to nobody was let go");
            return self.settle(cost);
        };
        let incoming = Incoming {
            from: self.link.node(),
            payload,
        };
        let context = from_wire(context);
        match context.enter(|| route.cast(incoming)) {
            None => self.settle(cost),
            Some(delivery) => {
                let mut delivery = async move {
                    context.scope(delivery).await;
                    Done::Cast { cost }
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
        let has_room = self.watches.len() < WATCHES_MAX;
        let route = self.shared.gateway.route(service).filter(|_| has_room);
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
            Done::Call { tag, cost, answer } => {
                self.answer(tag, answer);
                self.forget_call(tag, cost);
            }
            Done::Cancelled { tag, cost } => self.forget_call(tag, cost),
            Done::Cast { cost } => self.settle(cost),
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

    fn forget_call(&mut self, tag: u64, cost: u64) {
        if self.calls.remove(&tag).is_some() {
            self.link.serving.fetch_sub(1, Ordering::Relaxed);
        }
        self.settle(cost);
    }

    fn answer(&self, tag: u64, answer: Result<Vec<u8>, Failure>) {
        let outbox = &self.link.outbox;
        let limit = usize::try_from(self.link.about.frame_bytes_max).unwrap_or(usize::MAX);
        let limit = limit.saturating_sub(super::frame::OVERHEAD);
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

fn from_wire(carried: Carried) -> Context {
    Context::from_parts(carried.trace, carried.cause, carried.hops)
}
