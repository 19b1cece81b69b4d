//! Metrics as text, in the two formats that Prometheus reads.
//!
//! A histogram's `le` bounds are fixed by the unit its name ends in, all of them bounds of its buckets, so that each count
//! is exact:
//!
//! | unit | bounds |
//! |---|---|
//! | `seconds` | the powers of two from 2^-20 (0.95 µs) to 2^6 (64 s) |
//! | `bytes` | every second power of two from 2^4 (16 B) to 2^36 (64 GiB) |
//! | `ratio` | sixteenths from 1/16 to 1 |
//! | other, none | 0 and the powers of two from 2^-4 to 2^20 |
//!
//! A summary shows its 0.5, 0.9, 0.99 and 0.999 quantiles, since the program began.
//!
//! A histogram or summary that recorded a negative value has no `_sum` and `_count` lines (its `+Inf` bucket is the count): readers
//! take a sum for a counter, and parsers refuse a negative one.

use std::{fmt::Write as _, sync::LazyLock};

use super::{Distribution, Kind, Labels, MetricName, Reading};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// OpenMetrics 1.0.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
    OpenMetrics,
    /// Prometheus' own text format 0.0.4.
    Prometheus,
}

impl Format {
    /// The format that fits an HTTP header `accept` best (RFC 9110, section 12.5.1); OpenMetrics where both fit equally, and
    /// where neither does: an answer that was not asked for is better than none.
    ///
    /// ```
    /// use underpin::telemetry::Format;
    ///
    /// assert_eq!(Format::negotiate("text/plain; version=0.0.4"), Format::Prometheus);
    /// assert_eq!(Format::negotiate("application/openmetrics-text;q=0.5, text/plain;q=0.4"), Format::OpenMetrics);
    /// assert_eq!(Format::negotiate("*/*"), Format::OpenMetrics);
    /// ```
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let openmetrics = quality(accept, "application", "openmetrics-text");
        let plain = quality(accept, "text", "plain");
        if plain > openmetrics {
            Self::Prometheus
        } else {
            Self::OpenMetrics
        }
    }

    /// What to say in the HTTP header `content-type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The quantiles that a summary shows.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Metrics as they are written, one after the other.
pub(super) struct Text {
    out: String,
    format: Format,
    /// The metric at hand.
    name: String,
    bounds: &'static [f64],
}

/// What a line ends in.
#[derive(Clone, Copy)]
enum Number {
    Whole(u64),
    Float(f64),
}

/// About how long a line is, with a label or two.
const LINE_BYTES: usize = 80;

/// Labels as both formats write them, without the braces around them.
pub(super) fn written(labels: &Labels) -> Box<str> {
    let mut out = String::new();
    for (label, value) in labels.iter() {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(label);
        out.push_str("=\"");
        escape(&mut out, value, true);
        out.push('"');
    }
    out.into()
}

/// Writing to a `String` cannot fail, hence the ignored results.
impl Text {
    pub(super) fn new(format: Format) -> Self {
        Self {
            out: String::new(),
            format,
            name: String::new(),
            bounds: &[],
        }
    }

    /// Makes room for so many.
    pub(super) fn expect_series(&mut self, series: usize) {
        self.out.reserve(series * LINE_BYTES);
    }

    /// Begins a metric; its series follow.
    pub(super) fn family(&mut self, name: &MetricName, kind: Kind, help: Option<&str>) {
        let total = match (self.format, kind) {
            (Format::Prometheus, Kind::Counter) => "_total",
            _ => "",
        };
        let unit = name.unit();
        self.bounds = bounds(unit);
        self.name.clear();
        self.name.push_str(name.as_str());
        let name = &self.name;
        if let Some(help) = help {
            _ = write!(self.out, "# HELP {name}{total} ");
            escape(&mut self.out, help, self.format == Format::OpenMetrics);
            self.out.push('\n');
        }
        _ = writeln!(self.out, "# TYPE {name}{total} {kind}");
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
    }

    /// One series of the metric at hand; its labels as they are [`written`].
    pub(super) fn series(&mut self, labels: &str, reading: &Reading) {
        match reading {
            Reading::Counter(count) => self.line("_total", labels, None, Number::Whole(*count)),
            Reading::Sum(sum) => self.line("_total", labels, None, Number::Float(*sum)),
            Reading::Gauge(value) => self.line("", labels, None, Number::Float(*value)),
            Reading::Histogram(values) => self.histogram(labels, values),
            Reading::Summary(values) => self.summary(labels, values),
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn histogram(&mut self, labels: &str, values: &Distribution) {
        let bounds = self.bounds;
        for (bound, count) in bounds.iter().zip(values.counts_within(bounds)) {
            let place = Some(("le", *bound));
            self.line("_bucket", labels, place, Number::Whole(count));
        }
        let all = Some(("le", f64::INFINITY));
        self.line("_bucket", labels, all, Number::Whole(values.count()));
        self.totals(labels, values);
    }

    /// An empty summary has no quantiles, only its zeros.
    fn summary(&mut self, labels: &str, values: &Distribution) {
        for q in QUANTILES {
            if let Some(value) = values.quantile(q) {
                self.line("", labels, Some(("quantile", q)), Number::Float(value));
            }
        }
        self.totals(labels, values);
    }

    fn totals(&mut self, labels: &str, values: &Distribution) {
        // A sum is read as a counter, so it is left out, and the count with it, where negative values may let it fall.
        if values.min().is_none_or(|min| min >= 0.0) {
            self.line("_count", labels, None, Number::Whole(values.count()));
            self.line("_sum", labels, None, Number::Float(values.sum()));
        }
    }

    fn line(&mut self, suffix: &str, labels: &str, place: Option<(&str, f64)>, value: Number) {
        let Self { out, name, .. } = self;
        out.push_str(name);
        out.push_str(suffix);
        match (labels.is_empty(), place) {
            (true, None) => out.push(' '),
            (false, None) => {
                out.push('{');
                out.push_str(labels);
                out.push_str("} ");
            }
            (no_labels, Some((name, bound))) => {
                out.push('{');
                out.push_str(labels);
                out.push_str(if no_labels { "" } else { "," });
                out.push_str(name);
                out.push_str("=\"");
                float(out, bound);
                out.push_str("\"} ");
            }
        }
        match value {
            Number::Whole(count) => whole(out, count),
            Number::Float(value) => float(out, value),
        }
        out.push('\n');
    }
}

/// What `accept` says of a media type: the quality of the range that names it most exactly, 0 where none does.
fn quality(accept: &str, kind: &str, subtype: &str) -> f32 {
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let (range_kind, range_subtype) = parts.next()?.split_once('/')?;
        let is = |range: &str, wanted: &str| range.eq_ignore_ascii_case(wanted);
        let exactness = match (is(range_kind, kind), is(range_subtype, subtype)) {
            (true, true) => 2,
            (true, false) if range_subtype == "*" => 1,
            (false, false) if range_kind == "*" && range_subtype == "*" => 0,
            _ => return None,
        };
        let quality = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
        let quality = quality.map_or(Some(1.0), |text| text.parse().ok())?;
        Some((exactness, quality))
    });
    let best = ranges.max_by_key(|(exactness, _)| *exactness);
    best.map_or(0.0, |(_, quality)| quality)
}

/// Rust writes floats so that they read back exactly; only infinity has another name here. Those without a fraction, as most are, are
/// written as whole numbers are: that takes a third of the time.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "only where it is exact"
)]
fn float(out: &mut String, value: f64) {
    /// Up to here each whole number has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if (0.0..EXACT).contains(&value) && value.fract() == 0.0 && value.is_sign_positive() {
        whole(out, value as u64);
        out.push_str(".0");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        _ = write!(out, "{value:?}");
    }
}

/// The digits of a number, without the detours of general formatting.
fn whole(out: &mut String, number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [b'0'; DIGITS_MAX];
    let (mut left, mut at) = (number, DIGITS_MAX);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.push_str(str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Writes a text so that it is on one line; most have nothing to escape, which is seen without looking at each character alone.
fn escape(out: &mut String, text: &str, quotes: bool) {
    let special = |byte: u8| byte == b'\\' || byte == b'\n' || (quotes && byte == b'"');
    if !text.bytes().fold(false, |any, byte| any | special(byte)) {
        out.push_str(text);
        return;
    }
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            _ => out.push(char),
        }
    }
}

fn bounds(unit: Option<&str>) -> &'static [f64] {
    static SECONDS: LazyLock<Vec<f64>> = LazyLock::new(|| powers(-20..=6).collect());
    static BYTES: LazyLock<Vec<f64>> = LazyLock::new(|| powers(4..=36).step_by(2).collect());
    static RATIO: LazyLock<Vec<f64>> =
        LazyLock::new(|| (1..=16).map(|part| f64::from(part) / 16.0).collect());
    static PLAIN: LazyLock<Vec<f64>> =
        LazyLock::new(|| [0.0].into_iter().chain(powers(-4..=20)).collect());
    match unit {
        Some("seconds") => &SECONDS,
        Some("bytes") => &BYTES,
        Some("ratio") => &RATIO,
        _ => &PLAIN,
    }
}

fn powers(exponents: std::ops::RangeInclusive<i32>) -> impl Iterator<Item = f64> {
    exponents.map(|exponent| 2.0_f64.powi(exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::{FamilySnapshot, SeriesSnapshot};

    fn render(families: &[FamilySnapshot], format: Format) -> String {
        let mut text = Text::new(format);
        for family in families {
            text.family(&family.name, family.kind, family.help.as_deref());
            for series in &family.series {
                text.series(&written(&series.labels), &series.reading);
            }
        }
        text.finish()
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_rust_writes_them(bits in any::<u64>(), small in 0_u32..2000) {
            let mut out = String::new();
            whole(&mut out, bits);
            prop_assert_eq!(&out, &bits.to_string());
            for value in [f64::from_bits(bits), f64::from(small) / 8.0, -f64::from(small)] {
                if value.is_finite() {
                    out.clear();
                    float(&mut out, value);
                    prop_assert_eq!(&out, &format!("{value:?}"));
                }
            }
        }
    }

    fn family(name: &str, kind: Kind, labels: &[(&str, &str)], reading: Reading) -> FamilySnapshot {
        FamilySnapshot {
            name: MetricName::new(name, kind).expect("test name is usable"),
            kind,
            help: Some("What it \"is\"\\\nnot.".into()),
            series: vec![SeriesSnapshot {
                labels: Labels::new(name, labels).expect("test labels are usable"),
                reading,
            }],
        }
    }

    #[test]
    fn a_counter_in_both_formats() {
        let read = [family(
            "read_bytes_total",
            Kind::Counter,
            &[("disk", "a\"\\\nb")],
            Reading::Counter(7),
        )];
        assert_eq!(
            render(&read, Format::OpenMetrics),
            "# HELP read_bytes What it \\\"is\\\"\\\\\\nnot.\n# TYPE read_bytes counter\n# UNIT read_bytes bytes\n\
             read_bytes_total{disk=\"a\\\"\\\\\\nb\"} 7\n# EOF\n"
        );
        assert_eq!(
            render(&read, Format::Prometheus),
            "# HELP read_bytes_total What it \"is\"\\\\\\nnot.\n# TYPE read_bytes_total counter\n\
             read_bytes_total{disk=\"a\\\"\\\\\\nb\"} 7\n"
        );
    }

    #[test]
    fn gauges_write_every_float() {
        let number = |value| {
            let mut out = String::new();
            float(&mut out, value);
            out
        };
        let written: Vec<String> = [3.0, -0.1, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]
            .map(number)
            .into();
        assert_eq!(written, ["3.0", "-0.1", "1e300", "+Inf", "-Inf", "NaN"]);
        let queue = [family("queue", Kind::Gauge, &[], Reading::Gauge(3.0))];
        assert!(render(&queue, Format::Prometheus).ends_with("\nqueue 3.0\n"));
    }

    #[test]
    fn a_histogram_counts_a_value_at_its_bound() {
        let values: Distribution = [0.5, 0.5, 1.0, 100.0].into_iter().collect();
        let wait = [family(
            "wait_seconds",
            Kind::Histogram,
            &[("job", "a")],
            Reading::Histogram(values),
        )];

        let text = render(&wait, Format::OpenMetrics);

        for line in [
            "wait_seconds_bucket{job=\"a\",le=\"0.25\"} 0",
            "wait_seconds_bucket{job=\"a\",le=\"0.5\"} 2",
            "wait_seconds_bucket{job=\"a\",le=\"1.0\"} 3",
            "wait_seconds_bucket{job=\"a\",le=\"64.0\"} 3",
            "wait_seconds_bucket{job=\"a\",le=\"+Inf\"} 4",
            "wait_seconds_count{job=\"a\"} 4",
            "wait_seconds_sum{job=\"a\"} 102.0",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn the_format_that_is_wanted_most_is_given() {
        use Format::{OpenMetrics, Prometheus};
        let prometheus_server = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2";
        for (accept, wanted) in [
            ("", OpenMetrics),
            ("*/*", OpenMetrics),
            ("application/json", OpenMetrics),
            ("text/*", Prometheus),
            (
                "text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.3",
                Prometheus,
            ),
            (
                "text/plain;q=0.3,application/openmetrics-text;q=0.9",
                OpenMetrics,
            ),
            ("application/openmetrics-text;q=0, */*", Prometheus),
            ("Text/Plain", Prometheus),
            ("text/plain;q=what, ,;,/", OpenMetrics),
            (
                "text/plain;Q=0.1, application/openmetrics-text;Q=0.5",
                OpenMetrics,
            ),
            (prometheus_server, OpenMetrics),
        ] {
            assert_eq!(Format::negotiate(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn a_summary_shows_quantiles_count_and_sum() {
        let values: Distribution = [2.0; 5].into_iter().collect();
        let wait = [
            family(
                "wait_seconds",
                Kind::Summary,
                &[("job", "a")],
                Reading::Summary(values),
            ),
            family(
                "none",
                Kind::Summary,
                &[],
                Reading::Summary(Distribution::default()),
            ),
        ];

        let text = render(&wait, Format::Prometheus);

        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("# HELP"))
            .collect();
        assert_eq!(
            lines,
            [
                "# TYPE wait_seconds summary",
                "wait_seconds{job=\"a\",quantile=\"0.5\"} 2.0",
                "wait_seconds{job=\"a\",quantile=\"0.9\"} 2.0",
                "wait_seconds{job=\"a\",quantile=\"0.99\"} 2.0",
                "wait_seconds{job=\"a\",quantile=\"0.999\"} 2.0",
                "wait_seconds_count{job=\"a\"} 5",
                "wait_seconds_sum{job=\"a\"} 10.0",
                "# TYPE none summary",
                "none_count 0",
                "none_sum 0.0",
            ]
        );
    }

    #[test]
    fn a_sum_that_can_fall_is_not_shown_as_a_counter() {
        let values: Distribution = [-1.0, 3.0].into_iter().collect();
        let drift = [family(
            "drift",
            Kind::Histogram,
            &[],
            Reading::Histogram(values),
        )];
        for format in [Format::OpenMetrics, Format::Prometheus] {
            assert!(!render(&drift, format).contains("drift_sum"));
        }
    }
}
