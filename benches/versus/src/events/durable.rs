//! `Durability::Always`: stored means synced.

use std::{
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    engines::{self, Engine},
    material::{Material, Record},
    memory::together,
    plain_log::{GroupCommit, PlainLog},
    store::Store,
};
use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{Tally, Workers, drive},
};

/// Batches of a piece: made before the clock runs, stored while it does.
const BATCHES: usize = 16;
const PRODUCERS: usize = 64;

/// One caller that stores batches, each synced before the next.
///
/// Not equal: the engines and `limit` get bytes that are encoded already, underpin encodes. The engines keep each event by
/// id, an index by correlation and one by kind and time, all in one transaction; underpin keeps the bytes on disk and the
/// same indexes, and one by source, in memory. `limit` appends the bytes of a batch with one write and `fdatasync`, and
/// could not find any of them again; its file grows, where underpin writes small batches into room that it made ahead, so
/// that underpin can be quicker than it. What is left between the two at 1000 is encoding, 300 ns an event, which the one
/// caller does before anything can be written; what the events were given in is dropped while the disk is waited for.
///
/// Each engine and each log begins on a disk that owes nothing, so that what one left to be written is not paid for by the next: in a
/// whole run 1.3 times the best engine was seen at 100 events, in these rows alone 2.1 times, and that is the likely cause. What is
/// left is the disk: the sync of 300 kB takes 0.4 ms, and now and then 25, on every side. 0.52 to 0.74 of `limit` was seen at 1000
/// events, and 1.6 to 3.3 times the best engine.
pub(super) fn batches(sides: &mut Sides, size: usize) -> Result<()> {
    let folder = sides.folder()?;
    let runtime = Workers::Two.runtime();
    let (store, mut material) = (Store::on_disk(&runtime, folder.path())?, Material::new());
    sides.add(UNDERPIN, move |time| {
        let _kept = &folder;
        settle()?;
        let mut tally = Tally::default();
        while tally.is_below(time) {
            let batches: Vec<_> = (0..BATCHES).map(|_| material.events(size)).collect();
            let events = store.events.clone();
            let took = drive(&runtime, async move {
                let begin = Instant::now();
                for batch in batches {
                    events.store_batch(batch).await.expect("it is stored");
                }
                begin.elapsed()
            });
            tally.add((BATCHES * size) as u64, took);
        }
        Ok(tally.per_second())
    });

    let folder = sides.folder()?;
    let mut log = PlainLog::create(folder.path())?;
    add_batches(sides, LIMIT, size, move |records| {
        let _kept = &folder;
        Ok(log.append(records.iter().map(|record| &record.bytes[..]))?)
    });
    for (who, open) in engines::ALL {
        let folder = sides.folder()?;
        let engine = open(folder.path())?;
        add_batches(sides, who, size, move |records| {
            let _kept = &folder;
            engine.commit(records)
        });
    }
    Ok(())
}

/// Waits until the disk has all that was left to it: what one side did not sync is not paid for by the next one, and which side follows which
/// is the same in every round.
fn settle() -> Result<()> {
    let done = Command::new("sync").status()?;
    ensure!(done.success(), "`sync` ended with {done}");
    Ok(())
}

fn add_batches(
    sides: &mut Sides,
    who: &'static str,
    size: usize,
    mut commit: impl FnMut(&[Record]) -> Result<()> + 'static,
) {
    let mut material = Material::new();
    sides.add(who, move |time| {
        settle()?;
        let mut tally = Tally::default();
        while tally.is_below(time) {
            let batches: Vec<_> = (0..BATCHES).map(|_| material.records(size)).collect();
            let begin = Instant::now();
            for batch in &batches {
                commit(batch)?;
            }
            tally.add((BATCHES * size) as u64, begin.elapsed());
        }
        Ok(tally.per_second())
    });
}

/// 64 callers, each of which stores one event after the other.
///
/// Not equal: as in [`batches`]; `limit` is a group commit made by hand, whose callers are tasks on two workers as
/// underpin's are. The engines have a thread for each caller and a transaction for each event, since none of them commits
/// for several callers at once when it is not told to.
pub(super) fn producers(sides: &mut Sides) -> Result<()> {
    const EACH: usize = 64;
    let folder = sides.folder()?;
    let runtime = Workers::Two.runtime();
    let (store, mut material) = (Store::on_disk(&runtime, folder.path())?, Material::new());
    sides.add(UNDERPIN, move |time| {
        let _kept = &folder;
        let producer = |material: &mut Material| {
            let (store, events) = (store.events.clone(), material.events(EACH));
            async move {
                for event in events {
                    store.store(event).await.expect("it is stored");
                }
            }
        };
        bursts(time, EACH, || {
            let work = (0..PRODUCERS).map(|_| producer(&mut material)).collect();
            drive(&runtime, together(work))
        })
    });

    let folder = sides.folder()?;
    let runtime = Workers::Two.runtime();
    let (log, writer) = GroupCommit::start(PlainLog::create(folder.path())?);
    let mut material = Material::new();
    sides.add(LIMIT, move |time| {
        let _kept = (&folder, &writer);
        let producer = |material: &mut Material| {
            let (log, records) = (log.clone(), material.records(EACH));
            async move {
                for record in records {
                    log.append(&record.bytes).await;
                }
            }
        };
        bursts(time, EACH, || {
            let work = (0..PRODUCERS).map(|_| producer(&mut material)).collect();
            drive(&runtime, together(work))
        })
    });
    for (who, open) in engines::ALL {
        let folder = sides.folder()?;
        let engine = Arc::from(open(folder.path())?);
        let mut material = Material::new();
        sides.add(who, move |time| {
            let _kept = &folder;
            bursts(time, 1, || threads(&engine, &mut material))
        });
    }
    Ok(())
}

/// Events per second in bursts in which every producer stores `each`.
fn bursts(time: Duration, each: usize, mut burst: impl FnMut() -> Duration) -> Result<f64> {
    settle()?;
    let mut tally = Tally::default();
    while tally.is_below(time) {
        tally.add((PRODUCERS * each) as u64, burst());
    }
    Ok(tally.per_second())
}

/// A burst of one event from each of the producers, every one a thread with a transaction of its own.
fn threads(engine: &Arc<dyn Engine>, material: &mut Material) -> Duration {
    let records = material.records(PRODUCERS);
    let begin = Instant::now();
    thread::scope(|scope| {
        for record in records.chunks(1) {
            scope.spawn(|| engine.commit(record).expect("the engine stores"));
        }
    });
    begin.elapsed()
}
