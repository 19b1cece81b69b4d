//! Executing events, without handlers, with some, and down to the metrics that are made of them.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusBuilder;
use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use underpin::telemetry::{Definition, EventName, Options, Telemetry, Unit};

use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::nanoseconds,
};

static STOP: EventName = EventName::from_static(&["http", "request", "stop"]);

/// What a handler is by hand.
type Plain = Box<dyn Fn(&[(&str, u64)], &[(&str, &str)]) + Send + Sync>;

/// One event with two measurements and a text, and handlers that read one measurement.
///
/// Not equal: `limit` loads a list and calls what is in it; it knows one event, and a panic of a handler is its caller's.
pub fn execute(sides: &mut Sides, handlers: usize) -> Result<()> {
    let telemetry = Telemetry::new(Options::default());
    let seen = Arc::new(AtomicU64::new(0));
    for handler in 0..handlers {
        let id = format!("handler-{handler}");
        telemetry.attach(&id, &STOP, seen.clone(), |stop, seen| {
            let bytes = stop.measurements.get("bytes").map_or(0.0, |n| n.as_f64());
            seen.store(bytes.to_bits(), Ordering::Relaxed);
        })?;
    }
    sides.add(UNDERPIN, move |time| {
        Ok(nanoseconds(1, time, |_| {
            || {
                telemetry.execute(
                    &STOP,
                    &[
                        ("bytes", black_box(512_u64).into()),
                        ("duration", 9_u64.into()),
                    ],
                    &[("method", black_box("get").into())],
                );
            }
        }))
    });

    let handlers = (0..handlers).map(|_| -> Plain {
        let seen = Arc::new(AtomicU64::new(0));
        Box::new(move |measurements, _| seen.store(measurements[0].1, Ordering::Relaxed))
    });
    let list = ArcSwap::from_pointee(handlers.collect::<Vec<_>>());
    sides.add(LIMIT, move |time| {
        Ok(nanoseconds(1, time, |_| {
            || {
                for handler in list.load().iter() {
                    handler(
                        &[("bytes", black_box(512)), ("duration", 9)],
                        &[("method", black_box("get"))],
                    );
                }
            }
        }))
    });
    Ok(())
}

/// Sixteen events in turn, each with one measurement, counted and added up by name: what the Elixir original does with each
/// event that it is sent, here done when `execute` returns.
pub fn aggregated(sides: &mut Sides) -> Result<()> {
    let telemetry = Telemetry::new(Options::default());
    let names: Vec<EventName> = (0..16)
        .map(|n| EventName::new(["bench", "metric", &format!("m{n}")]))
        .collect::<Result<_, _>>()?;
    for (n, name) in names.iter().enumerate() {
        let definitions = [
            Definition::counter(format!("bench_m{n}_count"), name),
            Definition::sum(format!("bench_m{n}_counter"), name, "counter"),
        ];
        telemetry.define(&format!("m{n}"), definitions)?;
    }
    sides.add(UNDERPIN, move |time| {
        let mut at = 0;
        Ok(per_second(time, || {
            at = (at + 1) % 16;
            telemetry.execute(
                &names[at],
                &[("counter", black_box(1).into())],
                &[("source", "bench".into())],
            );
        }))
    });

    let cells: Vec<(AtomicU64, AtomicU64)> = (0..16).map(|_| <_>::default()).collect();
    sides.add(LIMIT, move |time| {
        let mut at = 0;
        Ok(per_second(time, || {
            at = (at + 1) % 16;
            cells[at].0.fetch_add(1, Ordering::Relaxed);
            cells[at].1.fetch_add(black_box(1), Ordering::Relaxed);
        }))
    });
    Ok(())
}

/// Requests with a method and a status, counted by both and their duration recorded by method: one executed event here, a look
/// in two families or through two macros there.
///
/// Not equal: the peers are told the metrics directly, and no handler could be attached to them. `metrics` puts durations into
/// a list that its recorder folds later, outside of the timing.
pub fn tagged(sides: &mut Sides) -> Result<()> {
    let requests: Vec<(&'static str, &'static str, u64)> = (0..64)
        .map(|n| {
            let method = ["get", "put", "post", "delete"][n % 4];
            let status = ["200", "204", "404", "500"][n / 4 % 4];
            (method, status, 1_000 * (n as u64 + 1))
        })
        .collect();

    let telemetry = Telemetry::new(Options::default());
    telemetry.define(
        "http",
        [
            Definition::counter("http_requests", &STOP).tags(["method", "status"]),
            Definition::distribution("http_request_seconds", &STOP, "duration")
                .unit(Unit::Nanoseconds)
                .tags(["method"]),
        ],
    )?;
    let all = requests.clone();
    sides.add(UNDERPIN, move |time| {
        let mut turn = all.iter().cycle();
        Ok(per_second(time, || {
            let (method, status, took) = *turn.next().expect("endless");
            telemetry.execute(
                &STOP,
                &[("duration", took.into())],
                &[("method", method.into()), ("status", status.into())],
            );
        }))
    });

    let recorder = PrometheusBuilder::new().build_recorder();
    let all = requests.clone();
    sides.add("metrics", move |time| {
        let mut turn = all.iter().cycle();
        let rate = metrics::with_local_recorder(&recorder, || {
            per_second(time, || {
                let (method, status, took) = *turn.next().expect("endless");
                metrics::counter!("http_requests", "method" => method, "status" => status)
                    .increment(1);
                metrics::histogram!("http_request_seconds", "method" => method)
                    .record(took as f64 * 1e-9);
            })
        });
        recorder.handle().run_upkeep();
        Ok(rate)
    });

    let counters = Family::<[(&'static str, &'static str); 2], Counter>::default();
    let durations =
        Family::<[(&'static str, &'static str); 1], Histogram>::new_with_constructor(|| {
            Histogram::new([1e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1e-3])
        });
    sides.add("prometheus-client", move |time| {
        let mut turn = requests.iter().cycle();
        Ok(per_second(time, || {
            let (method, status, took) = *turn.next().expect("endless");
            counters
                .get_or_create(&[("method", method), ("status", status)])
                .inc();
            durations
                .get_or_create(&[("method", method)])
                .observe(took as f64 * 1e-9);
        }))
    });
    Ok(())
}

/// How often something can be done in a second, by one thread.
fn per_second(time: Duration, operation: impl FnMut() + Send) -> f64 {
    let operation = std::sync::Mutex::new(Some(operation));
    let take = |_| {
        let mut operation = operation.lock().expect("not poisoned");
        operation.take().expect("one thread")
    };
    1e9 / nanoseconds(1, time, take)
}
