//! Takes what comes over a connection apart and has it dealt with.
//!
//! It never stops reading while it lives, since whether the peer lives is seen by its bytes: what cannot be taken is refused, and
//! credit bounds what waits.

mod work;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{AbortHandle, BoxFuture},
    stream::FuturesUnordered,
};
use tokio::{io::AsyncReadExt, task};
use work::{Done, guarded};

use super::{
    credit::{Charge, EACH, Lane, Ledger, cost},
    delivery::Dealt,
    error::Failure,
    frame::{Carried, Frame, Payloads},
    link::{Gone, Link},
    message::Message,
    serve::{BUFFER_KEPT, ReadHalf},
    shared::Shared,
    state::LostWhy,
    wire::{Fault, next_frame},
};
use crate::otp::Context;

/// Twice as many casts as a node puts into one frame: each that waits takes far more than its bytes.
const CASTS_MAX: usize = 8192;
/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// How many messages an actor deals with before it lets others run: tokio's budget of a task.
const TURN: usize = 128;
/// So many turns a service gets that has too many casts waiting, before more is read: enough for all that its address admits.
const TURNS_MAX: usize = 8;

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
    /// How many casts have been handed over since others could run, and whether one of them found no place. One that goes on waiting
    /// is no reason to read more slowly what is for others.
    handed_over: usize,
    found_no_place: bool,
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
            handed_over: 0,
            found_no_place: false,
            calls: HashMap::default(),
            watches: HashMap::default(),
        }
    }

    pub(super) async fn run(&mut self, mut read: ReadHalf) -> LostWhy {
        let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
        let dealt = Arc::clone(&self.dealt);
        // Turns that the services get before more is read: what they have not dealt with meanwhile waits, and that is dear.
        let mut turns = 0;
        loop {
            buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => self.done(done),
                () = dealt.wait() => self.take_dealt(),
                () = task::yield_now(), if turns > 0 => turns -= 1,
                came = read.read_buf(&mut buffer), if turns == 0 => {
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
                    turns = self.turns();
                }
            }
        }
    }

    /// How many turns the services need to deal with what they got since the last time.
    fn turns(&mut self) -> usize {
        let handed_over = std::mem::take(&mut self.handed_over);
        if std::mem::take(&mut self.found_no_place) {
            TURNS_MAX
        } else {
            handed_over.div_ceil(TURN).min(TURNS_MAX)
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
                self.cast(context, service, std::iter::once(payload), charge);
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
            Frame::Members { whole, groups } => link.counts.learn(whole, &groups),
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
        let charge = self.charge(Lane::service(service), bytes)?;
        self.cast(context, service, payloads, charge);
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
        let held = self.dealt.hold(charge);
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
}

fn from_wire(carried: Carried) -> Context {
    Context::from_parts(carried.trace, carried.cause, carried.hops)
}

#[cfg(test)]
pub(super) mod tests;
