//! Reading ten thousand series, and counting while somebody reads.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use metrics_exporter_prometheus::PrometheusBuilder;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use underpin::telemetry::{Format, Options, Telemetry};

use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{nanos, nanoseconds},
};

const SERIES: usize = 10_000;

/// Counters of one name, each with a label of its own, each counted once.
fn ten_thousand() -> Telemetry {
    let telemetry = Telemetry::new(Options {
        series_max: SERIES,
        ..Options::default()
    });
    for n in 0..SERIES {
        let path = format!("/path/{n}");
        telemetry.counter("requests", &[("path", &path)]).inc();
    }
    telemetry
}

/// All series as data.
pub fn snapshot(sides: &mut Sides) -> Result<()> {
    let telemetry = ten_thousand();
    sides.add(UNDERPIN, move |time| {
        Ok(milliseconds(time, || {
            black_box(telemetry.snapshot());
        }))
    });
    Ok(())
}

/// All series as text, ready to be sent.
pub fn render(sides: &mut Sides) -> Result<()> {
    let telemetry = ten_thousand();
    sides.add(UNDERPIN, move |time| {
        Ok(milliseconds(time, || {
            black_box(telemetry.render(Format::OpenMetrics));
        }))
    });

    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        for n in 0..SERIES {
            metrics::counter!("requests", "path" => format!("/path/{n}")).increment(1);
        }
    });
    sides.add("metrics", move |time| {
        let handle = recorder.handle();
        Ok(milliseconds(time, || {
            black_box(handle.render());
        }))
    });

    let mut registry = Registry::default();
    let family = Family::<[(&'static str, String); 1], Counter>::default();
    registry.register("requests", "Requests", family.clone());
    for n in 0..SERIES {
        family
            .get_or_create(&[("path", format!("/path/{n}"))])
            .inc();
    }
    sides.add("prometheus-client", move |time| {
        Ok(milliseconds(time, || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("writing to memory");
            black_box(text);
        }))
    });
    Ok(())
}

/// One thread counts while another takes one snapshot of ten thousand series after the other; `limit` counts alone, while the
/// other thread spins.
pub fn beside_snapshots(sides: &mut Sides) -> Result<()> {
    let telemetry = ten_thousand();
    let own = telemetry.counter("requests", &[("path", "/path/7")]);
    let alone = own.clone();
    sides.add(UNDERPIN, move |time| {
        Ok(beside(
            || {
                black_box(telemetry.snapshot());
            },
            || nanoseconds(1, time, |_| || own.inc()),
        ))
    });
    sides.add(LIMIT, move |time| {
        Ok(beside(std::hint::spin_loop, || {
            nanoseconds(1, time, |_| || alone.inc())
        }))
    });
    Ok(())
}

/// Measures while another thread does something again and again.
fn beside(other: impl Fn() + Sync, measure: impl FnOnce() -> f64) -> f64 {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                other();
            }
        });
        let measured = measure();
        done.store(true, Ordering::Relaxed);
        measured
    })
}

fn milliseconds(time: Duration, mut operation: impl FnMut()) -> f64 {
    let (begin, mut done) = (Instant::now(), 0_u32);
    loop {
        operation();
        done += 1;
        let took = begin.elapsed();
        if took >= time {
            return nanos(took) / 1e6 / f64::from(done);
        }
    }
}
