//! What it costs a program to be captured, and how much is stored.

use std::{
    fmt, hint, io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;
use tracing::{Dispatch, Subscriber, dispatcher, field::Visit};
use tracing_subscriber::{Layer, layer::SubscriberExt as _, registry::LookupSpan};
use underpin::{
    capture::{Capture, Options},
    node::Node,
};

use crate::{
    figure::{Figure, Goal, LIMIT, Sides, UNDERPIN, Unit},
    measure::nanoseconds,
};

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "capture.event",
        unit: Unit::Nanoseconds,
        goals: &[Goal::Value(150.0)],
        sides: event,
    },
    Figure {
        name: "capture.disabled",
        unit: Unit::Nanoseconds,
        goals: &[],
        sides: disabled,
    },
    Figure {
        name: "capture.stored",
        unit: Unit::EventsPerSecond,
        goals: &[Goal::Value(1_000_000.0)],
        sides: stored,
    },
];

/// Events of a burst: what the queue holds, so that none is dropped.
const BURST: u32 = 20_000;

/// One event with a message and two fields, as its maker pays for it, in bursts between which the queue is drained.
///
/// Not equal: `tracing-subscriber` formats a line of text and throws it away; `limit` pushes the fields as bytes into a buffer under a
/// mutex, without time, id, correlation or bound, and throws the buffer away.
fn event(sides: &mut Sides) -> Result<()> {
    let own = Own::start()?;
    sides.add(UNDERPIN, move |time| {
        let value = bursts(time, &own.dispatch, || own.flush());
        ensure!(own.capture.stats().dropped == 0, "events were dropped");
        value
    });

    let ring = Ring::default();
    let buffer = Arc::clone(&ring.0);
    let limit = Dispatch::new(tracing_subscriber::registry().with(ring));
    sides.add(LIMIT, move |time| {
        bursts(time, &limit, || {
            buffer.lock().expect("no panic").clear();
            Ok(())
        })
    });

    let format = tracing_subscriber::fmt::layer().with_writer(io::sink);
    let format = Dispatch::new(tracing_subscriber::registry().with(format));
    sides.add("tracing-subscriber", move |time| {
        bursts(time, &format, || Ok(()))
    });
    Ok(())
}

/// An event that the filter does not want.
///
/// Not equal: `limit` has no subscriber at all.
fn disabled(sides: &mut Sides) -> Result<()> {
    let own = Own::start()?;
    sides.add(UNDERPIN, move |time| {
        let made = dispatcher::with_default(&own.dispatch, || {
            nanoseconds(
                1,
                time,
                |_| || tracing::trace!(target: "shop", left = hint::black_box(3_u64), "unwanted"),
            )
        });
        Ok(made)
    });
    sides.add(LIMIT, move |time| {
        Ok(nanoseconds(
            1,
            time,
            |_| || tracing::trace!(target: "nobody", left = hint::black_box(3_u64), "unwanted"),
        ))
    });
    Ok(())
}

/// Events from one thread until all of them are in the store, in memory; none may be lost.
fn stored(sides: &mut Sides) -> Result<()> {
    let own = Own::start()?;
    sides.add(UNDERPIN, move |time| {
        let (begin, before) = (Instant::now(), own.capture.stats());
        while begin.elapsed() < time {
            dispatcher::with_default(&own.dispatch, || (0..10 * BURST).for_each(|_| emit()));
            own.flush()?;
        }
        let (took, after) = (begin.elapsed(), own.capture.stats());
        ensure!(after.dropped == 0, "events were dropped");
        Ok((after.stored - before.stored) as f64 / took.as_secs_f64())
    });
    Ok(())
}

fn emit() {
    let (order, cents) = (hint::black_box(1234_u64), hint::black_box(2.5));
    tracing::info!(target: "shop", order, cents, "charged");
}

/// Nanoseconds an event, the time between the bursts left out.
fn bursts(time: Duration, dispatch: &Dispatch, between: impl Fn() -> Result<()>) -> Result<f64> {
    let (mut spent, mut count) = (Duration::ZERO, 0);
    while spent < time {
        spent += dispatcher::with_default(dispatch, || {
            let _request = tracing::info_span!(target: "shop", "request").entered();
            let begin = Instant::now();
            (0..BURST).for_each(|_| emit());
            begin.elapsed()
        });
        count += BURST;
        between()?;
    }
    Ok(spent.as_nanos() as f64 / f64::from(count))
}

/// A node in memory that captures.
struct Own {
    capture: Capture,
    dispatch: Dispatch,
    _node: Node,
    _runtime: Runtime,
}

impl Own {
    fn start() -> Result<Self> {
        let runtime = Runtime::new()?;
        let node = Node::builder().memory().without_environment();
        let node = runtime.block_on(node.start())?;
        let options = Options {
            filter: "off,shop=info".to_owned(),
            queue_bytes: 256 << 20,
            ..Options::default()
        };
        let capture = Capture::new(node.events(), &options)?;
        let subscriber = tracing_subscriber::registry().with(capture.layer());
        Ok(Self {
            dispatch: Dispatch::new(subscriber),
            capture,
            _node: node,
            _runtime: runtime,
        })
    }

    fn flush(&self) -> Result<()> {
        let flushed = self.capture.flush_blocking(Duration::from_secs(30));
        flushed.context("the store does not keep up")
    }
}

/// The least that a layer can do with an event and still have it.
#[derive(Default)]
struct Ring(Arc<Mutex<Vec<u8>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Ring {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        event.record(&mut Bytes(&mut self.0.lock().expect("no panic")));
    }
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl Visit for Bytes<'_> {
    fn record_u64(&mut self, _: &tracing::field::Field, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn record_f64(&mut self, _: &tracing::field::Field, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn fmt::Debug) {
        use io::Write as _;
        write!(self.0, "{value:?}").expect("memory");
    }
}
