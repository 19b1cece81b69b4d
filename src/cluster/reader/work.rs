//! What a peer asks for here: calls and casts to services, and watches of their lives, until each is dealt with.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{AbortHandle, Abortable, BoxFuture},
};

use super::{Reader, from_wire};
use crate::{
    cluster::{
        credit::{Charge, cost},
        error::Failure,
        frame::{Carried, Frame},
        gateway::Incoming,
        link::Gone,
    },
    otp::{Context, ExitReason},
};

/// How many requests of one peer may be under way here at once. Beyond it they are answered that the node is full.
const CALLS_MAX: usize = 4096;
/// How many ends one peer may watch here at once.
pub(super) const WATCHES_MAX: usize = 65_536;

/// Something of the peer's that was dealt with.
pub(super) enum Done {
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

impl Reader<'_> {
    pub(super) fn call(
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

    /// Hands casts over that came together, in order. What has been handed over gives its credit back at once.
    pub(super) fn cast<'p>(
        &mut self,
        context: Carried,
        service: &str,
        payloads: impl Iterator<Item = &'p [u8]>,
        charge: Charge,
    ) {
        let Charge {
            lane,
            cost: mut left,
        } = charge;
        let Some(route) = self.shared.gateway.route(service) else {
            tracing::debug!(service, from = %self.link.node(), "a cast to nobody was let go");
            return self.settle(charge);
        };
        let context = from_wire(context);
        for payload in payloads {
            let incoming = Incoming {
                from: self.link.node(),
                payload,
                answer_max: self.answer_max(),
            };
            match guarded(|| context.enter(|| route.cast(incoming))) {
                Ok(None) => self.handed_over += 1,
                Err(words) => tracing::error!(service, words, "a cast was let go"),
                Ok(Some(delivery)) => {
                    let cost = cost(payload.len()).min(left);
                    left -= cost;
                    self.wait(context, service, delivery, Charge { lane, cost });
                }
            }
        }
        self.settle(Charge { lane, cost: left });
    }

    /// A cast waits for a place at its service.
    fn wait(
        &mut self,
        context: Context,
        service: &str,
        delivery: BoxFuture<'static, ()>,
        charge: Charge,
    ) {
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
        // The first poll here puts it in line before whatever comes behind it.
        if let Some(done) = (&mut delivery).now_or_never() {
            self.done(done);
        } else {
            self.found_no_place = true;
            self.under_way.push(delivery);
        }
    }

    pub(super) fn watch(&mut self, reference: u64, service: &str) {
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

    pub(super) fn done(&mut self, done: Done) {
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
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words_of(&*panic))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    ExitReason::from_panic(panic).to_string()
}
