//! Finding events: a correlation, the newest of a kind, and storing while others search.
//!
//! All sides decode what they find into an event's parts: that is what a reader wants.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::runtime::Runtime;
use underpin::{
    events::{Comparison, Events, Operator, Options, Order, Query, Timestamp},
    ids::CorrelationId,
    value::Path as ValuePath,
};

use super::{
    engines::{Engine, Open},
    inline::Inline,
    material::{Decoded, Material},
    store::Store,
};
use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{Tally, Workers, drive, median},
};

const MILLION: usize = 1_000_000;
/// Events that are stored at once before the clock runs.
const BATCH: usize = 5_000;
/// Questions that are asked between two looks at the clock.
const PIECE: usize = 64;

/// 15 events of one correlation among a million in memory.
///
/// Not equal: underpin makes the names of the maps and the kinds and sources of an answer once and shares them among its events; the limit
/// makes each anew.
pub(super) fn correlation_hot(sides: &mut Sides) -> Result<()> {
    let runtime = Workers::Two.runtime();
    let store = Store::in_memory(&runtime)?;
    let asked = fill(&runtime, &store.events, MILLION);
    sides.add(UNDERPIN, move |time| {
        Ok(ask_underpin(&runtime, &store.events, &asked, time))
    });
    let mut inline = Inline::default();
    let mut material = Material::new();
    let mut asked = Vec::new();
    for _ in 0..MILLION / BATCH {
        let events = material.events(BATCH);
        asked.extend(
            events
                .iter()
                .step_by(97)
                .filter_map(|event| event.correlation().map(CorrelationId::hash64)),
        );
        events.iter().for_each(|event| inline.push(event));
    }
    sides.add(LIMIT, move |time| {
        Ok(ask(&asked, time, |hash| inline.correlation(*hash).len()))
    });
    Ok(())
}

/// The same from files, none of which is in the store's own memory; all sides find them in the system's page cache.
pub(super) fn correlation_cold(sides: &mut Sides) -> Result<()> {
    let runtime = Workers::Two.runtime();
    let folder = sides.folder()?;
    let store = cold(&runtime, folder.path())?;
    let asked = fill(&runtime, &store.events, MILLION);
    sides.add(UNDERPIN, move |time| {
        let _folder = &folder;
        Ok(ask_underpin(&runtime, &store.events, &asked, time))
    });
    for (who, open) in super::engines::FOUND_IN {
        let (engine, asked) = engine(sides, open, |record| record.correlation)?;
        sides.add(who, move |time| {
            Ok(ask(&asked, time, |correlation| {
                let found = engine.0.correlation(*correlation).expect("it answers");
                decode(&found)
            }))
        });
    }
    Ok(())
}

/// The newest 100 of one kind within a tenth of the time, a million in memory.
pub(super) fn kind_time(sides: &mut Sides) -> Result<()> {
    const WANTED: usize = 100;
    let runtime = Workers::Two.runtime();
    let store = Store::in_memory(&runtime)?;
    fill(&runtime, &store.events, MILLION);
    let ends = runtime.block_on(ends(&store.events));
    let own = ranges(ends.0.as_nanos(), ends.1.as_nanos());
    sides.add(UNDERPIN, move |time| {
        let mut tally = Tally::default();
        while tally.is_below(time) {
            let took = drive(
                &runtime,
                ask_kinds(store.events.clone(), own.clone(), WANTED),
            );
            tally.add(own.len() as u64, took);
        }
        Ok(1e6 / tally.per_second())
    });
    for (who, open) in super::engines::FOUND_IN {
        let (engine, times) = engine(sides, open, |record| record.time)?;
        let (first, last) = (times[0], times[times.len() - 1]);
        let ranges = ranges(first, last);
        sides.add(who, move |time| {
            Ok(ask(&ranges, time, |(kind, from, to)| {
                let found = engine
                    .0
                    .newest(*kind, *from, *to, WANTED)
                    .expect("it answers");
                decode(&found)
            }))
        });
    }
    Ok(())
}

/// What runs beside the one that stores.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    /// Compares the data of all events of the store again and again.
    Query,
    /// Decodes as many events of its own: what a second busy processor costs, whoever keeps it busy.
    Decoding,
}

/// Batches of 100 stored in memory by one caller, while another one compares the data of all events again and again; `limit` stores
/// alone, `apart` beside somebody who decodes events that are not in the store. The one that asks holds no lock while it compares, and
/// copies 32 records at a time under one; what the storing caller loses is the memory that both share.
///
/// `apart` is the floor on a machine of two processors that share memory and a cache. In rounds of 0.2 s, which are over before one query
/// is, it reached 0.57 to 0.88 of `limit` and underpin 0.55 to 0.85, now the one and now the other ahead; in rounds of 0.8 s it reached 0.91
/// and 1.05, and underpin 0.89 and 0.90. Locks are not what is waited for: their slow paths had less than one in a thousand of the samples.
/// Readers that look in again and again in place of sleeping made no difference that could be told from the spread.
pub(super) fn write_beside_query(sides: &mut Sides) -> Result<()> {
    const EVENTS: usize = 200_000;
    /// A round of the others is over before a query is: what is seen of one varies by half.
    const LONGER: u32 = 4;
    for (who, beside) in [
        (UNDERPIN, Beside::Query),
        (LIMIT, Beside::Nothing),
        ("apart", Beside::Decoding),
    ] {
        let runtime = Workers::Two.runtime();
        let mut material = Material::new();
        sides.add(who, move |time| {
            let store = Store::in_memory(&runtime)?;
            fill(&runtime, &store.events, EVENTS);
            let over = Arc::new(AtomicBool::new(false));
            let busy = match beside {
                Beside::Nothing => None,
                Beside::Query => {
                    Some(runtime.spawn(compare_all(store.events.clone(), over.clone())))
                }
                Beside::Decoding => {
                    let records = Material::new().records(EVENTS);
                    let over = over.clone();
                    Some(runtime.spawn_blocking(move || decode_apart(&records, &over)))
                }
            };
            let reached = store_batches(&runtime, &store.events, &mut material, time * LONGER);
            over.store(true, Ordering::Relaxed);
            if let Some(busy) = busy {
                runtime.block_on(busy)?;
            }
            store.stop(&runtime);
            Ok(reached.per_second())
        });
    }
    Ok(())
}

/// The side that has ten thousand events, for what should cost the same however many there are.
pub(super) const SMALL: &str = "10k";
const SMALL_EVENTS: usize = 10_000;

/// A correlation among so many events, with the default of hot bytes; the other side has ten thousand.
///
/// Among ten million it is in one of 45 sealed segments, and in memory by chance only: the defaults keep one event in fifty there. Of 22 us
/// about 12 are what the other side takes, most of it the decoding of the events. The rest goes to the filters of all segments, one line
/// each, to a page of terms, a page of keys and a block or two of 8 kB: read out of the page cache, checked and expanded in memory that the
/// thread has already, and kept only if they are asked for again. In five runs it was 1.80 to 1.86 and once 2.11 times the other side; before
/// that, in a bad hour beside them, 2.53.
pub(super) fn growth(sides: &mut Sides, count: usize) -> Result<()> {
    for (who, count) in [(UNDERPIN, count), (SMALL, SMALL_EVENTS)] {
        let runtime = Workers::Two.runtime();
        let (folder, store) = growing(sides, &runtime)?;
        let asked = fill(&runtime, &store.events, count);
        settle(&store.events);
        sides.add(who, move |time| {
            let _folder = &folder;
            Ok(ask_underpin(&runtime, &store.events, &asked, time))
        });
    }
    Ok(())
}

/// Batches of 100 stored behind so many events, as many a second as the median of all batches comes to; the other side has ten thousand,
/// and begins anew in every round.
///
/// Of the median and not of all together: once in 230,000 events a segment is full, is synced, and is sealed beside what follows. In a
/// round that happens to the side that goes on, and never to the one that begins anew, however many events there are; with it the same
/// side reached 0.2 to 1.1 of what it does without. What sealing costs is part of `events.load`. No round begins while it goes on.
pub(super) fn growth_of_storing(sides: &mut Sides, count: usize) -> Result<()> {
    let runtime = Workers::Two.runtime();
    let (folder, store) = growing(sides, &runtime)?;
    fill(&runtime, &store.events, count);
    let mut material = Material::new();
    sides.add(UNDERPIN, move |time| {
        let _folder = &folder;
        settle(&store.events);
        let batches = store_batches(&runtime, &store.events, &mut material, time);
        Ok(batches.median_per_second())
    });
    let folder = sides.folder()?;
    sides.add(SMALL, move |time| {
        let runtime = Workers::Two.runtime();
        let folder = tempfile::tempdir_in(folder.path())?;
        let store = Store::start(&runtime, synced_each_second(), folder.path())?;
        fill(&runtime, &store.events, SMALL_EVENTS);
        let batches = store_batches(&runtime, &store.events, &mut Material::new(), time);
        store.stop(&runtime);
        Ok(batches.median_per_second())
    });
    Ok(())
}

fn growing(sides: &Sides, runtime: &Runtime) -> Result<(tempfile::TempDir, Store)> {
    let folder = sides.folder()?;
    let store = Store::start(runtime, synced_each_second(), folder.path())?;
    Ok((folder, store))
}

fn synced_each_second() -> Options {
    Options {
        durability: underpin::events::Durability::Interval(Duration::from_secs(1)),
        ..Options::default()
    }
}

/// Waits until what can be sealed is: that is work of its own, done beside.
fn settle(events: &Events) {
    let waits = || {
        let stats = events.stats();
        stats.sealed + 1 < stats.segments
    };
    while waits() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long each of some batches took.
struct Batches(Vec<Duration>);

impl Batches {
    const EVENTS: usize = 100;

    fn per_second(&self) -> f64 {
        let events = (self.0.len() * Self::EVENTS) as f64;
        events / self.0.iter().sum::<Duration>().as_secs_f64()
    }

    fn median_per_second(&self) -> f64 {
        let mut seconds: Vec<_> = self.0.iter().map(Duration::as_secs_f64).collect();
        Self::EVENTS as f64 / median(&mut seconds)
    }
}

/// One task stores batches of 100, one after the other.
fn store_batches(
    runtime: &Runtime,
    events: &Events,
    material: &mut Material,
    time: Duration,
) -> Batches {
    let mut batches = Batches(Vec::new());
    while batches.0.iter().sum::<Duration>() < time {
        let made: Vec<_> = (0..128).map(|_| material.events(Batches::EVENTS)).collect();
        let events = events.clone();
        let storing = async move {
            let mut begin = Instant::now();
            let mut took = Vec::with_capacity(made.len());
            for batch in made {
                events.store_batch(batch).await.expect("it is stored");
                let end = Instant::now();
                took.push(end - begin);
                begin = end;
            }
            took
        };
        batches.0.extend(drive(runtime, storing));
    }
    batches
}

/// A reader that shares nothing with the store: it decodes records of its own until it is over.
fn decode_apart(records: &[super::material::Record], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for record in records {
            std::hint::black_box(Decoded::of(&record.bytes));
        }
    }
}

async fn compare_all(events: Events, over: Arc<AtomicBool>) {
    let nothing = Comparison::new(ValuePath::root(), Operator::Equal, 1);
    while !over.load(Ordering::Relaxed) {
        let count = events.count(Query::new().data(nothing.clone())).await;
        assert_eq!(count.expect("it answers"), 0);
    }
}

fn cold(runtime: &Runtime, folder: &Path) -> Result<Store> {
    let options = Options {
        hot_bytes: 0,
        ..synced_each_second()
    };
    Store::start(runtime, options, folder)
}

/// Stores events, and answers some of their correlations.
pub(super) fn fill(runtime: &Runtime, events: &Events, count: usize) -> Vec<CorrelationId> {
    let mut material = Material::new();
    let mut asked = Vec::new();
    for done in (0..count).step_by(BATCH) {
        let batch = material.events(BATCH.min(count - done));
        asked.extend(
            batch
                .iter()
                .step_by(97)
                .filter_map(|event| event.correlation().cloned()),
        );
        runtime
            .block_on(events.store_batch(batch))
            .expect("it is stored");
    }
    asked
}

/// Microseconds of a question, as one task asks them.
fn ask_underpin(
    runtime: &Runtime,
    events: &Events,
    asked: &[CorrelationId],
    time: Duration,
) -> f64 {
    let mut tally = Tally::default();
    let mut at = 0;
    while tally.is_below(time) {
        let piece: Vec<_> = (0..PIECE)
            .map(|n| asked[(at + n * 7919) % asked.len()].clone())
            .collect();
        at += 1;
        let events = events.clone();
        let asking = async move {
            let begin = Instant::now();
            for id in &piece {
                let page = events.correlation(id).await.expect("it answers");
                assert!(!page.events.is_empty() && page.unreadable.is_empty());
            }
            begin.elapsed()
        };
        tally.add(PIECE as u64, drive(runtime, asking));
    }
    1e6 / tally.per_second()
}

async fn ask_kinds(events: Events, ranges: Vec<(u32, i64, i64)>, wanted: usize) -> Duration {
    let begin = Instant::now();
    for (kind, from, to) in &ranges {
        let query = Query::new()
            .kind(Material::kind(*kind))
            .since(Timestamp::from_nanos(*from))
            .until(Timestamp::from_nanos(*to))
            .order(Order::NewestFirst)
            .limit(wanted);
        let page = events.query(query).await.expect("it answers");
        assert!(!page.events.is_empty());
    }
    begin.elapsed()
}

/// Microseconds of a question.
fn ask<T>(asked: &[T], time: Duration, question: impl Fn(&T) -> usize) -> f64 {
    let mut tally = Tally::default();
    let mut at = 0;
    while tally.is_below(time) {
        at += 1;
        let begin = Instant::now();
        for n in 0..PIECE {
            let found = question(&asked[(at + n * 7919) % asked.len()]);
            assert!(found > 0);
        }
        tally.add(PIECE as u64, begin.elapsed());
    }
    1e6 / tally.per_second()
}

/// Kinds, and tenths of the time.
fn ranges(first: i64, last: i64) -> Vec<(u32, i64, i64)> {
    let tenth = (last - first) / 10;
    (0..PIECE)
        .map(|n| {
            let from = first + tenth * (n as i64 % 9);
            (n as u32 % 8, from, from + tenth)
        })
        .collect()
}

async fn ends(events: &Events) -> (Timestamp, Timestamp) {
    let first = events
        .query(Query::new().limit(1))
        .await
        .expect("it answers");
    let last = events.recent(1).await.expect("it answers");
    (first.events[0].time(), last.events[0].time())
}

/// A filled engine, with its folder.
struct Filled(
    Box<dyn Engine>,
    #[expect(dead_code, reason = "it goes with the engine")] tempfile::TempDir,
);

fn engine<T>(
    sides: &Sides,
    open: Open,
    key: impl Fn(&super::material::Record) -> T,
) -> Result<(Filled, Vec<T>)> {
    let folder = sides.folder()?;
    let engine = open(folder.path())?;
    let mut material = Material::new();
    let mut keys = Vec::new();
    for _ in 0..MILLION / 50_000 {
        let records = material.records(50_000);
        engine.commit(&records)?;
        keys.extend(records.iter().step_by(97).map(&key));
    }
    Ok((Filled(engine, folder), keys))
}

fn decode(found: &[Vec<u8>]) -> usize {
    let decoded: Vec<Decoded> = found.iter().map(|bytes| Decoded::of(bytes)).collect();
    std::hint::black_box(decoded).len()
}
