//! Fills an event store and says what so many events cost: to store, on the disk, to open, to find, in memory, to prune.
//!
//! `cargo run --release --example many_events -- FOLDER 10000000`; the folder must not have a store yet, and keeps half of the events.
//!
//! What is opened is opened in a process of its own, so that its memory is that of the store and not of what filled it.

use std::{
    env, fs,
    num::NonZeroU32,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use underpin::{
    events::{Durability, Event, Events, Folder, Options, Order, Query},
    ids::{CorrelationId, IdGenerator, NodeId},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
    value::{Map, Value},
};

const KINDS: u64 = 8;
const OF_ONE_CORRELATION: u64 = 15;
const BATCH: u32 = 5000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (folder, count) = match &arguments[..] {
        [folder] => (folder, 100_000),
        [folder, count] => (folder, count.parse().context("how many events?")?),
        [folder, count, stage] if stage == "open" => {
            return open(Path::new(folder), count.parse()?).await;
        }
        _ => bail!("use: many_events FOLDER [COUNT]"),
    };
    fill(Path::new(folder), count).await?;
    let opened = Command::new(env::current_exe()?)
        .args([folder, &count.to_string(), "open"])
        .status()?;
    ensure!(opened.success(), "the filled folder was not opened");
    Ok(())
}

async fn start(folder: &Path) -> Result<(Events, Supervisor)> {
    let ids = Arc::new(IdGenerator::new(NodeId::new(1)?));
    let options = Options {
        durability: Durability::Interval(Duration::from_secs(1)),
        ..Options::default()
    };
    let telemetry = Telemetry::new(telemetry::Options::default());
    let events = Events::new(options, Arc::new(Folder::new(folder)), ids, &telemetry);
    let root = SupervisorSpec::new("root", Intensity::new(0, Duration::from_secs(1)));
    let root = Supervisor::start(root.child(events.child_spec())).await?;
    Ok((events, root))
}

async fn fill(folder: &Path, count: u64) -> Result<()> {
    let (events, root) = start(folder).await?;
    ensure!(events.stats().events == 0, "the folder has events already");
    let begin = Instant::now();
    let mut made = 0;
    while made < count {
        let size = u32::try_from(count - made).unwrap_or(BATCH).min(BATCH);
        let Some(size) = NonZeroU32::new(size) else {
            break;
        };
        let batch = events.ids().reserve(size).zip(made..);
        let batch = batch.map(|(id, number)| event(id, number));
        events
            .store_batch(batch.collect::<Result<Vec<_>>>()?)
            .await?;
        made += u64::from(size.get());
    }
    let stored = begin.elapsed();
    loop {
        let stats = events.stats();
        if stats.sealed + 1 >= stats.segments {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sealed = begin.elapsed();
    root.stop().await;
    let stats = events.stats();
    say("events", count);
    say("segments", stats.segments);
    say("stored in, seconds", format!("{:.1}", stored.as_secs_f64()));
    say(
        "sealed after, seconds",
        format!("{:.1}", sealed.as_secs_f64()),
    );
    say("bytes on disk, each", stats.log_bytes / count);
    Ok(())
}

/// A map of seven entries, about 200 bytes as encoded; every 15 events belong together.
fn event(id: underpin::ids::EventId, number: u64) -> Result<Event> {
    let text = format!(
        "amount={number}.55;currency=EUR;method=card;risk=low;gateway=gw-17;merchant=acme-corp-{}",
        number % 1000
    );
    let entries: [(&str, Value); 7] = [
        ("amount", Value::from(1290.55)),
        ("attempt", Value::from(number % 64)),
        ("body", Value::from(text)),
        ("ok", Value::from(true)),
        ("region", Value::from("eu-west-1")),
        ("tenant", Value::from("acme-corp")),
        ("user_agent", Value::from("checkout/4.12.0")),
    ];
    let data: Map = entries
        .into_iter()
        .map(|(key, value)| (Arc::from(key), value))
        .collect();
    let kind = format!("order.payment.accepted.{}", number % KINDS);
    let event = underpin::events::EventBuilder::new(id, kind)
        .time(underpin::events::Timestamp::now())
        .source(format!("payments/worker-{}", number % 4))
        .correlation(correlation(number)?)
        .data(Value::Map(data))
        .build()?;
    Ok(event)
}

fn correlation(number: u64) -> Result<CorrelationId> {
    let spread = (number / OF_ONE_CORRELATION).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Ok(CorrelationId::new(&format!(
        "{spread:016x}{:016x}",
        !spread
    ))?)
}

async fn open(folder: &Path, count: u64) -> Result<()> {
    let before = resident()?;
    let begin = Instant::now();
    let (events, root) = start(folder).await?;
    say("opened in, milliseconds", millis(begin.elapsed()));
    say("memory once open, MB", megabytes(resident()? - before));

    let mut took = Vec::new();
    for n in 0..1000_u64 {
        let asked = correlation(n.wrapping_mul(7_919_991) % count)?;
        let begin = Instant::now();
        let page = events.correlation(&asked).await?;
        took.push(begin.elapsed());
        ensure!(!page.events.is_empty(), "a correlation is missing");
    }
    took.sort();
    say(
        "a correlation, microseconds (median)",
        took[500].as_micros(),
    );
    say(
        "a correlation, microseconds (99 of 100)",
        took[990].as_micros(),
    );
    let newest = Query::new()
        .kind("order.payment.accepted.3")
        .order(Order::NewestFirst)
        .limit(100);
    let begin = Instant::now();
    events.query(newest).await?;
    say(
        "newest 100 of a kind, microseconds",
        begin.elapsed().as_micros(),
    );
    let begin = Instant::now();
    let counted = events.count(Query::new().kind_prefix("order.")).await?;
    ensure!(counted == count, "{counted} of {count} are counted");
    say(
        "all counted by kind in, milliseconds",
        millis(begin.elapsed()),
    );
    say("memory after that, MB", megabytes(resident()? - before));

    let bytes = events.stats().log_bytes;
    let begin = Instant::now();
    events.prune_to(count / 2).await?;
    say(
        "older half pruned in, milliseconds",
        millis(begin.elapsed()),
    );
    let left = events.stats().log_bytes;
    say(
        "disk given back, MB",
        bytes.saturating_sub(left) / 1_000_000,
    );
    root.stop().await;
    Ok(())
}

fn say(what: &str, value: impl std::fmt::Display) {
    println!("{what:<42}{value:>12}");
}

fn millis(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64() * 1e3)
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// Bytes of memory that this process has; 0 where the system has no such file.
fn resident() -> Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let Ok(pages) = fs::read_to_string("/proc/self/statm") else {
        return Ok(0);
    };
    let pages = pages.split_whitespace().nth(1).unwrap_or("0");
    Ok(pages.parse::<u64>()? * PAGE_BYTES)
}
