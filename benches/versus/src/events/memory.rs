//! `Durability::Memory`: stored means encoded, indexed and shown to readers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use underpin::events::Event;

use super::{inline::Inline, material::Material, store::Store};
use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{Tally, Workers, drive},
};

/// Events of a piece: made before the clock runs, stored while it does.
const PIECE: usize = 12_800;

/// Callers that store one event after the other, as tasks on two workers.
///
/// Not equal: the callers of `limit` encode and index under one mutex and never wait for anything else; underpin's
/// refuse a known id, and readers could look at any time. A new store for every round, on both sides.
///
/// What underpin does more: it encodes outside of the lock, into memory that is copied under it, and reads the record again to index it; looks
/// an id up that is lower than another caller's; and takes two locks beside the first, of the segment for its readers and of the counts that
/// pruning goes by. Of the time of one caller a quarter goes into pages of fresh memory, as it does for `limit`. A fifth went into a table
/// of ids until rows whose ids rise were found by search. Tried before that: showing events under the lock that indexes them, no admission
/// where nothing can wait, no copy of a text's pointer for each event, and looking at the lock for some microseconds before sleeping for it.
///
/// One caller stores 1.17 to 1.68 M/s, 0.61 to 0.97 of the limit (the store before, in turns: 1.39 to 1.50, 0.64 to 0.82). 64 callers reach
/// 0.74 to 0.96 of it, and in the bad hours of a shared machine 0.45 to 0.54, 0.51 to 0.62 M/s after 0.59 to 0.61 of the store before. The
/// batches of [`batch`] show what is left: the same work for a hundred events at once takes 450 ns an event, with one call for each 600 to
/// 750. The difference is a future that is filled with the event and left again, memory for one record that is taken and given back, and some
/// 16 atomic operations; 64 callers on two cores hand each line of memory to and fro as well.
pub(super) fn store(sides: &mut Sides, callers: usize) -> Result<()> {
    let runtime = Workers::Two.runtime();
    let mut material = Material::new();
    sides.add(UNDERPIN, move |time| {
        let store = Store::in_memory(&runtime)?;
        let rate = pieces(&runtime, time, callers, &mut material, |events| {
            let store = store.events.clone();
            async move {
                for event in events {
                    store.store(event).await.expect("it is stored");
                }
            }
        });
        store.stop(&runtime);
        Ok(rate)
    });
    let runtime = Workers::Two.runtime();
    let mut material = Material::new();
    sides.add(LIMIT, move |time| {
        let store = Arc::new(Mutex::new(Inline::default()));
        Ok(pieces(&runtime, time, callers, &mut material, |events| {
            let store = store.clone();
            async move {
                for event in events {
                    store.lock().push(&event);
                }
            }
        }))
    });
    Ok(())
}

/// One caller that stores batches, each atomic.
///
/// Not equal: `limit` encodes and indexes in one loop without a lock; the rest as in [`store`].
pub(super) fn batch(sides: &mut Sides, size: usize) -> Result<()> {
    let runtime = Workers::Two.runtime();
    let mut material = Material::new();
    sides.add(UNDERPIN, move |time| {
        let store = Store::in_memory(&runtime)?;
        let rate = batches(&runtime, time, size, &mut material, |batches| {
            let store = store.events.clone();
            async move {
                for batch in batches {
                    store.store_batch(batch).await.expect("it is stored");
                }
            }
        });
        store.stop(&runtime);
        Ok(rate)
    });
    let runtime = Workers::Two.runtime();
    let mut material = Material::new();
    sides.add(LIMIT, move |time| {
        let store = Arc::new(Mutex::new(Inline::default()));
        Ok(batches(&runtime, time, size, &mut material, |batches| {
            let store = store.clone();
            async move {
                let mut store = store.lock();
                for batch in batches {
                    for event in &batch {
                        store.push(event);
                    }
                }
            }
        }))
    });
    Ok(())
}

/// Events per second that `callers` tasks reach, each with its share of a piece.
fn pieces<W: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    time: Duration,
    callers: usize,
    material: &mut Material,
    mut caller: impl FnMut(Vec<Event>) -> W,
) -> f64 {
    let mut tally = Tally::default();
    while tally.is_below(time) {
        let work: Vec<_> = (0..callers)
            .map(|_| caller(material.events(PIECE / callers)))
            .collect();
        let took = drive(runtime, together(work));
        tally.add((PIECE / callers * callers) as u64, took);
    }
    tally.per_second()
}

/// Events per second of one caller that stores batches of `size`.
fn batches<W: Future<Output = ()> + Send + 'static>(
    runtime: &Runtime,
    time: Duration,
    size: usize,
    material: &mut Material,
    mut caller: impl FnMut(Vec<Vec<Event>>) -> W,
) -> f64 {
    let mut tally = Tally::default();
    while tally.is_below(time) {
        let batches: Vec<_> = (0..PIECE / size).map(|_| material.events(size)).collect();
        let done = (batches.len() * size) as u64;
        let took = drive(runtime, together(vec![caller(batches)]));
        tally.add(done, took);
    }
    tally.per_second()
}

/// How long tasks take that are started together, from the first start to the last end.
pub(super) async fn together<W: Future<Output = ()> + Send + 'static>(work: Vec<W>) -> Duration {
    let begin = Instant::now();
    let tasks: Vec<_> = work.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("a measured task came to its end");
    }
    begin.elapsed()
}
