//! `metrics`.

use std::{collections::HashMap, time::Instant};

use serde_json::json;

use super::{
    arguments::MetricsArguments,
    client::Client,
    exposition::{self, Sample},
    failure::Failure,
    output::Output,
    watch,
};

/// The Prometheus text as it is, or its samples as JSON; while it is watched, values and rates.
pub(super) fn metrics(arguments: &MetricsArguments, out: &mut Output) -> Result<(), Failure> {
    let client = Client::new(&arguments.reach.node);
    let prefix = arguments.prefix.as_deref().unwrap_or_default();
    let watched = arguments.watch.is_some();
    let mut before = Reading::default();
    watch::watch(arguments.watch, arguments.reach.json, out, |out| {
        let text = client.get_text("/metrics", "text/plain; version=0.0.4")?;
        let text = exposition::beginning_with(prefix, &text);
        if text.is_empty() && !watched {
            return Err(Failure::refused(
                "not_found",
                format!("no metric begins with {prefix:?}; without PREFIX all are shown"),
            ));
        }
        if !watched && !arguments.reach.json {
            return out.text(&text);
        }
        let samples = exposition::samples(&text).map_err(|line| {
            Failure::refused(
                "foreign_answer",
                format!("cannot read the metric line `{line}`; check --node"),
            )
        })?;
        if arguments.reach.json {
            let samples = json!(samples);
            return out.line(format_args!("{{\"version\":1,\"metrics\":{samples}}}"));
        }
        let now = Reading::of(&samples, Instant::now());
        for line in rows(&samples, &before, &now) {
            out.line(line)?;
        }
        before = now;
        Ok(())
    })
}

/// What counters were at.
#[derive(Debug, Default)]
struct Reading {
    at: Option<Instant>,
    counts: HashMap<String, f64>,
}

impl Reading {
    fn of(samples: &[Sample], at: Instant) -> Self {
        let counts = samples.iter().filter(|sample| sample.counts());
        Self {
            at: Some(at),
            counts: counts
                .filter_map(|sample| Some((sample.series(), sample.value()?)))
                .collect(),
        }
    }

    /// How much a counter grew in a second since an earlier reading; nothing if it began anew.
    fn rate(&self, series: &str, before: &Self) -> Option<f64> {
        let seconds = self.at?.duration_since(before.at?).as_secs_f64();
        let grown = self.counts.get(series)? - before.counts.get(series)?;
        (seconds > 0.0 && grown >= 0.0).then(|| grown / seconds)
    }
}

/// A line for each number, buckets left out; counters with what they gain in a second.
fn rows(samples: &[Sample], before: &Reading, now: &Reading) -> Vec<String> {
    let shown = samples.iter().filter(|sample| !sample.is_bucket());
    let shown: Vec<(String, &Sample)> = shown.map(|sample| (sample.series(), sample)).collect();
    let width = shown.iter().map(|(series, _)| series.chars().count()).max();
    let width = width.unwrap_or_default();
    let lines = shown.iter().map(|(series, sample)| {
        let rate = now.rate(series, before);
        let rate = rate.map_or_else(String::new, |rate| format!("  {rate:>10.1}/s"));
        format!("{series:<width$}  {:>16}{rate}", sample.shown())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIRST: &str = "# TYPE a_total counter\na_total{x=\"1\"} 5\n# TYPE q gauge\nq 2.5\n";
    const SECOND: &str = "# TYPE a_total counter\na_total{x=\"1\"} 25\n# TYPE q gauge\nq 3.5\n\
                          # TYPE w histogram\nw_bucket{le=\"1\"} 1\nw_count 1\nw_sum 0.5\n";

    #[test]
    fn counters_show_what_they_gain_in_a_second() {
        let start = Instant::now();
        let samples = |text| exposition::samples(text).expect("readable");
        let (first, second) = (samples(FIRST), samples(SECOND));
        let before = Reading::of(&first, start);
        let now = Reading::of(&second, start + Duration::from_secs(2));

        let lines = rows(&second, &before, &now);

        assert_eq!(
            lines,
            [
                "a_total{x=\"1\"}                25        10.0/s",
                "q                            3.5",
                "w_count                        1",
                "w_sum                        0.5",
            ]
        );
        assert_eq!(before.rate("a_total{x=\"1\"}", &now), None, "it began anew");
    }
}
