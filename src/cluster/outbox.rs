//! What waits to be written to one peer. Everybody appends to one buffer, and the writer takes all of it at once: what is sent by
//! many at the same time goes out in one write.

use std::{collections::HashMap, pin::pin, sync::Arc};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    credit::{Charge, Lane, Window},
    frame::Frame,
};

pub(super) struct Outbox {
    inner: Mutex<Inner>,
    /// There is something to write, or it is over.
    filled: Notify,
    /// There is credit, or it is over.
    freed: Notify,
    /// How much may wait beside what has credit: answers.
    answers_max: usize,
    /// Ends the connection of a peer that asks and asks and does not read.
    overflow: CancellationToken,
}

struct Inner {
    buffer: Vec<u8>,
    window: Window,
    /// Lanes for whose credit somebody waits.
    lines: HashMap<Lane, Line, RandomState>,
    closed: bool,
}

/// Those who wait for credit of one lane stand in line, so that what one sends stays in order. Lanes do not wait for each other.
#[derive(Default)]
struct Line {
    waiting: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Why something was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    Full,
    Closed,
}

impl Outbox {
    pub(super) fn new(window: u32, frame_bytes_max: u32, overflow: CancellationToken) -> Self {
        let most = u64::from(window) + u64::from(frame_bytes_max);
        Self {
            inner: Mutex::new(Inner {
                buffer: Vec::new(),
                window: Window::new(window),
                lines: HashMap::default(),
                closed: false,
            }),
            filled: Notify::new(),
            freed: Notify::new(),
            answers_max: usize::try_from(most.saturating_mul(2)).unwrap_or(usize::MAX),
            overflow,
        }
    }

    /// Appends a message that needs credit, where there is any and nobody waits for it.
    pub(super) fn try_send(&self, charge: Charge, frame: &Frame<'_>) -> Result<(), Unsent> {
        self.append(charge, frame, false)
    }

    /// The same, waiting for credit. Cancel safe: a dropped future has sent nothing.
    pub(super) async fn send(&self, charge: Charge, frame: &Frame<'_>) -> Result<(), Unsent> {
        match self.try_send(charge, frame) {
            Err(Unsent::Full) => {}
            sent => return sent,
        }
        let waiting = Waiting::new(self, charge.lane);
        let _first = waiting.turn.lock().await;
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            match self.append(charge, frame, true) {
                Err(Unsent::Full) => freed.await,
                sent => return sent,
            }
        }
    }

    fn append(&self, charge: Charge, frame: &Frame<'_>, has_waited: bool) -> Result<(), Unsent> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Unsent::Closed);
        }
        let may_go = has_waited || !inner.lines.contains_key(&charge.lane);
        if !may_go || !inner.window.take(charge) {
            return Err(Unsent::Full);
        }
        let was_empty = inner.buffer.is_empty();
        frame.put(&mut inner.buffer);
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Appends what needs no credit: few and small, as each belongs to something that had credit or comes with time.
    ///
    /// A peer that goes on asking for such and reads none of it is cut off when twice as much waits as may wait of answers.
    pub(super) fn control(&self, frame: &Frame<'_>) {
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        if inner.buffer.len() > self.answers_max.saturating_mul(2) {
            inner.closed = true;
            drop(inner);
            self.freed.notify_waiters();
            self.overflow.cancel();
            return;
        }
        let was_empty = inner.buffer.is_empty();
        frame.put(&mut inner.buffer);
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Appends an answer, unless too much waits already. Whoever asked and does not read must not cost more memory.
    pub(super) fn answer(&self, frame: &Frame<'_>, bytes: usize) -> bool {
        let has_room = self.backlog() + bytes <= self.answers_max;
        if has_room {
            self.control(frame);
        }
        has_room
    }

    /// The peer has dealt with this much.
    pub(super) fn grant(&self, lane: Lane, bytes: u32) {
        let mut inner = self.inner.lock();
        inner.window.grant(lane, bytes);
        // What one lane gives back may be what another waits for.
        let is_awaited = !inner.lines.is_empty();
        drop(inner);
        if is_awaited {
            self.freed.notify_waiters();
        }
    }

    /// How many bytes have not been written.
    pub(super) fn backlog(&self) -> usize {
        self.inner.lock().buffer.len()
    }

    /// How much is on its way to the peer, or waits there, and is not dealt with.
    pub(super) fn in_flight(&self) -> u64 {
        self.inner.lock().window.used()
    }

    /// Nothing more is taken. What waits is still written by [`next`](Self::next).
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_one();
        self.freed.notify_waiters();
    }

    /// Waits for something to write and takes all of it, in exchange for an empty buffer. `false` when it is over. Cancel safe.
    pub(super) async fn next(&self, into: &mut Vec<u8>) -> bool {
        into.clear();
        loop {
            let mut filled = pin!(self.filled.notified());
            filled.as_mut().enable();
            {
                let mut inner = self.inner.lock();
                if !inner.buffer.is_empty() {
                    std::mem::swap(&mut inner.buffer, into);
                    return true;
                }
                if inner.closed {
                    return false;
                }
            }
            filled.await;
        }
    }
}

/// A place in the line of a lane, given back when it is dropped.
struct Waiting<'a> {
    outbox: &'a Outbox,
    lane: Lane,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Waiting<'a> {
    fn new(outbox: &'a Outbox, lane: Lane) -> Self {
        let mut inner = outbox.inner.lock();
        let those = inner.lines.entry(lane).or_default();
        those.waiting += 1;
        let turn = Arc::clone(&those.turn);
        drop(inner);
        Self { outbox, lane, turn }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.outbox.inner.lock();
        if let Some(line) = inner.lines.get_mut(&self.lane) {
            line.waiting -= 1;
            if line.waiting == 0 {
                inner.lines.remove(&self.lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::frame::Carried;

    const LANE: Lane = Lane(1);
    const CHARGE: Charge = Charge {
        lane: LANE,
        cost: 10,
    };

    fn cast(payload: &[u8]) -> Frame<'_> {
        Frame::Cast {
            context: Carried::default(),
            service: "s",
            payload,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_credit_waits_and_what_one_sends_stays_in_order() {
        let outbox = Arc::new(Outbox::new(1, 1000, CancellationToken::new()));
        assert_eq!(outbox.try_send(CHARGE, &cast(b"0")), Ok(()));
        assert_eq!(outbox.try_send(CHARGE, &cast(b"1")), Err(Unsent::Full));

        let mut waiting = Vec::new();
        for payload in [b"1", b"2", b"3"] {
            let sender = Arc::clone(&outbox);
            waiting.push(tokio::spawn(async move {
                sender.send(CHARGE, &cast(payload)).await
            }));
            tokio::task::yield_now().await;
        }
        for sent in waiting {
            outbox.grant(LANE, 10);
            assert_eq!(sent.await.expect("no panic"), Ok(()));
        }

        let mut written = Vec::new();
        assert!(outbox.next(&mut written).await);
        let payloads: Vec<u8> = written
            .iter()
            .copied()
            .filter(|byte| (b'0'..=b'3').contains(byte))
            .collect();
        assert_eq!(payloads, b"0123");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_one_service_keeps_nobody_from_another() {
        let outbox = Arc::new(Outbox::new(100, 1000, CancellationToken::new()));
        while outbox.try_send(CHARGE, &cast(b"0")).is_ok() {}
        let sender = Arc::clone(&outbox);
        let waiting = tokio::spawn(async move { sender.send(CHARGE, &cast(b"1")).await });
        tokio::task::yield_now().await;

        let other = Charge {
            lane: Lane(2),
            cost: 10,
        };
        assert_eq!(outbox.try_send(other, &cast(b"2")), Ok(()));

        assert!(!waiting.is_finished());
        outbox.grant(LANE, 10);
        assert_eq!(waiting.await.expect("no panic"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_wakes_everybody() {
        let outbox = Arc::new(Outbox::new(1, 1000, CancellationToken::new()));
        outbox.try_send(CHARGE, &cast(b"0")).expect("credit");
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let sender = Arc::clone(&outbox);
                tokio::spawn(async move { sender.send(CHARGE, &cast(b"1")).await })
            })
            .collect();
        tokio::task::yield_now().await;

        outbox.close();

        for sent in waiting {
            assert_eq!(sent.await.expect("no panic"), Err(Unsent::Closed));
        }
        let mut written = Vec::new();
        assert!(
            outbox.next(&mut written).await,
            "what was sent before is written"
        );
        assert!(!outbox.next(&mut written).await);
    }

    #[test]
    fn answers_that_nobody_reads_are_bounded() {
        let outbox = Outbox::new(1000, 1000, CancellationToken::new());
        let payload = [0; 900];
        let frame = Frame::Answer {
            tag: 1,
            payload: &payload,
        };
        let taken = (0..100)
            .filter(|_| outbox.answer(&frame, payload.len()))
            .count();
        assert!((3..=4).contains(&taken), "{taken}");
    }

    #[test]
    fn a_peer_that_asks_and_asks_and_reads_nothing_is_cut_off() {
        let cut_off = CancellationToken::new();
        let outbox = Outbox::new(1000, 1000, cut_off.clone());

        for sent in 0..10_000 {
            outbox.control(&Frame::Pong { sent });
        }

        assert!(cut_off.is_cancelled());
        assert_eq!(outbox.try_send(CHARGE, &cast(b"0")), Err(Unsent::Closed));
        assert!(outbox.backlog() < 10_000, "{}", outbox.backlog());
    }
}
