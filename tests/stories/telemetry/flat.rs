//! Memory stays what it is, whatever is counted, and whether or not anybody looks.

use std::{env, fs, num::NonZeroU32, process::Command, time::Duration};

use tokio::time;
use underpin::telemetry::{Definition, EventName, Options, Telemetry};

use super::service::supervised;

/// Tells the story that it is alone in its process, where memory can be measured.
const ALONE: &str = "UNDERPIN_FLAT_MEMORY";

/// Runs a story in a process of its own; there it is the one who runs it.
fn is_alone(story: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let own = env::current_exe().expect("this program is there");
    let name = format!("telemetry::flat::{story}");
    let output = Command::new(own)
        .args([&name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1 passed"), "no story has this name: {said}");
    false
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes
        .expect("is there")
        .parse::<u64>()
        .expect("is a number")
        * 1024
}

/// What a second half of the work added to what the first half needed.
fn assert_flat(before: u64, what: &str) {
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "{what}: {grown} bytes more");
}

#[cfg(target_os = "linux")]
#[test]
fn a_million_label_sets_keep_the_total_and_the_memory() {
    static SEEN: EventName = EventName::from_static(&["page", "seen"]);
    if !is_alone("a_million_label_sets_keep_the_total_and_the_memory") {
        return;
    }
    let telemetry = Telemetry::new(Options::default());
    let pages = Definition::counter("pages", &SEEN).tags(["path"]);
    telemetry.define("pages", [pages]).expect("can be had");
    let see = |numbers: std::ops::Range<u32>| {
        for n in numbers {
            let path = n.to_string();
            if n % 2 == 0 {
                telemetry.counter("hits", &[("path", &path)]).inc();
            } else {
                telemetry.execute(&SEEN, &[], &[("path", (&path).into())]);
            }
        }
    };
    see(0..100_000);
    let before = resident_bytes();

    see(100_000..1_000_000);

    assert_flat(before, "label sets");
    let snapshot = telemetry.snapshot();
    for metric in ["hits", "pages"] {
        let series = &snapshot.metrics_for(metric).families[0].series;
        assert_eq!(series.len(), Options::default().series_max + 1);
        let overflow = snapshot.counter(metric, &[("otel_metric_overflow", "true")]);
        assert_eq!(overflow, 500_000 - Options::default().series_max as u64);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn nothing_piles_up_when_nobody_scrapes() {
    static SEEN: EventName = EventName::from_static(&["page", "seen"]);
    if !is_alone("nothing_piles_up_when_nobody_scrapes") {
        return;
    }
    let telemetry = Telemetry::new(Options {
        // What is measured here is not to measure meanwhile.
        process_every: Duration::from_hours(24),
        ..Options::default()
    });
    let seconds = Definition::distribution("page_seconds", &SEEN, "seconds").tags(["path"]);
    telemetry.define("pages", [seconds]).expect("can be had");
    telemetry.sample(&SEEN, NonZeroU32::new(2).expect("not zero"));
    let wait = telemetry.histogram("wait_seconds", &[]);
    let supervisor = supervised(&telemetry).await;
    // Longer than the history, everything written to again and again.
    let twelve_minutes = async || {
        for n in 0..720_u32 {
            for value in 0..100_u32 {
                wait.record(f64::from(value) + 0.5);
                let path = (value % 7).to_string();
                let measured = [("seconds", f64::from(n).into())];
                telemetry.execute(&SEEN, &measured, &[("path", (&path).into())]);
            }
            time::sleep(Duration::from_secs(1)).await;
        }
    };
    twelve_minutes().await;
    let before = resident_bytes();

    twelve_minutes().await;

    assert_flat(before, "twelve minutes");
    let points = telemetry.history("wait_seconds")[0].points.len();
    assert_eq!(points, Options::default().history_points);
    supervisor.stop().await;
}
