//! Between the program and the store: a bounded queue with a shard for each thread.
//!
//! Room is counted in bytes and lent to the shards in chunks, so that threads share no cache line at each event.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    thread::Thread,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Metadata;

use crate::{events::Timestamp, ids::EventId};

/// One thing that happened; its fields are bytes beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) id: EventId,
    pub(super) time: Timestamp,
    pub(super) trace: u128,
    /// The id of the event that caused it; 0 for none.
    pub(super) parent: u64,
    pub(super) what: What,
    /// Where its fields end in the shard's bytes; they begin where those of the entry before end.
    pub(super) end: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Event(&'static Metadata<'static>),
    Opened(&'static Metadata<'static>),
    Recorded(&'static Metadata<'static>),
    /// To the span that was opened by this event.
    Linked(&'static Metadata<'static>, u64),
    Closed {
        metadata: &'static Metadata<'static>,
        busy_ns: u64,
        idle_ns: u64,
    },
    /// Its fields are three texts: message, place, thread.
    Panic,
}

/// What was taken from a shard.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Queue {
    shards: [Shard; SHARDS],
    /// Bytes that no shard has yet.
    room: AtomicI64,
    chunk: i64,
    limit: i64,
    asleep: AtomicBool,
    closed: OnceLock<Instant>,
    /// Emptied buffers, so that a burst writes to memory that is there.
    spare: Mutex<Vec<Taken>>,
    drain: OnceLock<Thread>,
}

/// More than threads that log at the same moment; each is two cache lines.
const SHARDS: usize = 16;

/// A shard's buffer is put aside when it holds so many entries or bytes of fields, so that it never has to be moved to grow, and is
/// memory that is there when it comes back.
const BUFFER_ENTRIES: usize = 4096;
const BUFFER_BYTES: usize = 256 << 10;

/// How many emptied buffers are kept, each within [`SPARE_BYTES`]: what a second of a busy program needs.
const SPARE: usize = 16;
const SPARE_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Lent>);

#[derive(Debug, Default)]
struct Lent {
    room: i64,
    taken: Taken,
    /// What was put aside, oldest first.
    full: Vec<Taken>,
}

/// There was no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

thread_local! {
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

impl Queue {
    pub(super) fn new(bytes: usize) -> Self {
        /// What a shard is lent at a time, where the whole allows.
        const CHUNK: i64 = 64 << 10;
        let limit = signed(bytes);
        Self {
            shards: Default::default(),
            room: AtomicI64::new(limit),
            chunk: CHUNK.min(limit / (4 * signed(SHARDS))),
            limit,
            asleep: AtomicBool::new(false),
            closed: OnceLock::new(),
            spare: Mutex::default(),
            drain: OnceLock::new(),
        }
    }

    /// Whose thread is to be woken.
    pub(super) fn drained_by(&self, drain: Thread) {
        let _ = self.drain.set(drain);
    }

    /// Puts an entry in, with its fields, if there is room.
    pub(super) fn push(&self, mut entry: Entry, fields: &[u8]) -> Result<(), Full> {
        let wanted = cost(fields.len());
        // A thread that is ending has no number of its own any more.
        let own = OWN.try_with(|own| *own).unwrap_or(0);
        {
            let mut lent = self.shards[own].0.lock();
            if lent.room < wanted {
                lent.room += self.lend(wanted.max(self.chunk), wanted)?;
            }
            if self.closed.get().is_some() {
                return Err(Full);
            }
            lent.room -= wanted;
            if lent.taken.is_full() {
                let full = std::mem::replace(&mut lent.taken, self.spare());
                lent.full.push(full);
            }
            lent.taken.bytes.extend_from_slice(fields);
            entry.end = lent.taken.bytes.len();
            lent.taken.entries.push(entry);
        }
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
        Ok(())
    }

    /// A chunk of the room, or as much as is needed now.
    fn lend(&self, chunk: i64, wanted: i64) -> Result<i64, Full> {
        for bytes in [chunk, wanted] {
            if self.room.fetch_sub(bytes, Ordering::Relaxed) >= bytes {
                return Ok(bytes);
            }
            self.room.fetch_add(bytes, Ordering::Relaxed);
        }
        Err(Full)
    }

    pub(super) fn wake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        if let Some(drain) = self.drain.get() {
            drain.unpark();
        }
    }

    /// The drain is about to sleep until it is woken; it looks once more after this.
    pub(super) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Nothing more is taken in; what is there is still drained.
    pub(super) fn close(&self) {
        // Closed once; later ones change nothing.
        let _ = self.closed.set(Instant::now());
        self.wake();
    }

    /// Since when it is closed.
    pub(super) fn closed(&self) -> Option<Instant> {
        self.closed.get().copied()
    }

    /// Takes everything that is there, one shard after the other. Its room is given back with [`Queue::give_back`].
    pub(super) fn take(&self) -> Vec<Taken> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut lent = shard.0.lock();
            // What a shard was lent and does not use must not lie there while others want it.
            let unused = std::mem::take(&mut lent.room);
            all.append(&mut lent.full);
            if !lent.taken.entries.is_empty() {
                all.push(std::mem::replace(&mut lent.taken, self.spare()));
            }
            drop(lent);
            if unused > 0 {
                self.room.fetch_add(unused, Ordering::Relaxed);
            }
        }
        all
    }

    fn spare(&self) -> Taken {
        self.spare.lock().pop().unwrap_or_default()
    }

    /// These are stored, or given up: there is room again.
    pub(super) fn give_back(&self, taken: Vec<Taken>) {
        let bytes: i64 = taken.iter().map(Taken::cost).sum();
        self.room.fetch_add(bytes, Ordering::Relaxed);
        let mut spare = self.spare.lock();
        for mut taken in taken {
            if spare.len() < SPARE && taken.is_small() {
                taken.entries.clear();
                taken.bytes.clear();
                spare.push(taken);
            }
        }
    }

    /// About how many bytes wait for the store.
    pub(super) fn queued_bytes(&self) -> u64 {
        let lent: i64 = self.shards.iter().map(|shard| shard.0.lock().room).sum();
        let used = self.limit - self.room.load(Ordering::Relaxed) - lent;
        u64::try_from(used).unwrap_or(0)
    }

    /// How many entries wait in the shards.
    pub(super) fn waiting(&self) -> u64 {
        let waiting = |shard: &Shard| {
            let lent = shard.0.lock();
            let all = lent.full.iter().chain([&lent.taken]);
            all.map(|taken| taken.entries.len() as u64).sum::<u64>()
        };
        self.shards.iter().map(waiting).sum()
    }
}

impl Taken {
    fn cost(&self) -> i64 {
        signed(self.entries.len()) * cost(0) + signed(self.bytes.len())
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BUFFER_ENTRIES || self.bytes.len() >= BUFFER_BYTES
    }

    fn is_small(&self) -> bool {
        self.entries.capacity() * size_of::<Entry>() + self.bytes.capacity() <= SPARE_BYTES
    }

    /// Each entry with the bytes of its fields.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let fields = self.bytes.get(start..entry.end).unwrap_or_default();
            start = entry.end;
            (entry, fields)
        })
    }
}

/// Bytes that an entry takes.
fn cost(fields: usize) -> i64 {
    signed(size_of::<Entry>() + fields)
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{IdGenerator, NodeId};

    fn entry() -> Entry {
        Entry {
            id: IdGenerator::new(NodeId::new(1).expect("valid")).next(),
            time: Timestamp::now(),
            trace: 0,
            parent: 0,
            what: What::Panic,
            end: 0,
        }
    }

    #[test]
    fn what_goes_in_comes_out_with_its_own_fields() {
        let queue = Queue::new(1 << 20);
        for fields in [&b"one"[..], b"", b"three"] {
            queue.push(entry(), fields).expect("there is room");
        }

        let taken = queue.take();

        let fields: Vec<&[u8]> = taken
            .iter()
            .flat_map(Taken::iter)
            .map(|(_, fields)| fields)
            .collect();
        assert_eq!(fields, [&b"one"[..], b"", b"three"]);
        assert!(queue.take().is_empty());
    }

    #[test]
    fn more_than_a_buffer_holds_comes_out_in_order_and_is_counted_until_then() {
        let queue = Queue::new(16 << 20);
        let count = 2 * BUFFER_ENTRIES + 1;
        for number in 0..count {
            queue
                .push(entry(), &number.to_le_bytes())
                .expect("there is room");
        }
        assert_eq!(queue.waiting(), count as u64);

        let taken = queue.take();

        let fields = taken.iter().flat_map(Taken::iter).map(|(_, fields)| fields);
        assert!(fields.eq((0..count).map(usize::to_le_bytes)));
        assert_eq!(taken.len(), 3);
        queue.give_back(taken);
        assert_eq!((queue.waiting(), queue.queued_bytes()), (0, 0));
    }

    #[test]
    fn a_full_queue_refuses_until_what_was_taken_is_given_back() {
        let room_for_ten = 10 * usize::try_from(cost(100)).expect("small");
        let queue = Queue::new(room_for_ten);
        let mut pushed = 0;
        while queue.push(entry(), &[0; 100]).is_ok() {
            pushed += 1;
        }

        assert_eq!(pushed, 10);
        let taken = queue.take();
        assert_eq!(queue.push(entry(), &[0; 100]), Err(Full));
        queue.give_back(taken);
        assert_eq!(queue.queued_bytes(), 0);
        assert!(queue.push(entry(), &[0; 100]).is_ok());
    }

    #[test]
    fn what_one_thread_was_lent_and_did_not_use_serves_another() {
        let queue = Queue::new(100 * usize::try_from(cost(0)).expect("small"));
        queue.push(entry(), &[]).expect("there is room");
        queue.give_back(queue.take());

        let pushed = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                (0..200)
                    .filter(|_| queue.push(entry(), &[]).is_ok())
                    .count()
            });
            other.join().expect("no panic")
        });

        assert_eq!(pushed, 100);
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_out_what_it_has() {
        let queue = Queue::new(1 << 20);
        queue.push(entry(), &[]).expect("there is room");
        queue.close();

        assert_eq!(queue.push(entry(), &[]), Err(Full));
        assert_eq!(queue.take().len(), 1);
    }
}
