use openmetrics_parser::{openmetrics, prometheus};
use proptest::prelude::*;
use underpin::telemetry::{Definition, EventName, Format, Kind, Telemetry};

use super::telemetry;

static SENT: EventName = EventName::from_static(&["mail", "sent"]);

pub(super) fn everything() -> Telemetry {
    let telemetry = telemetry();
    telemetry
        .counter(
            "http.requests",
            &[("method", "get"), ("path", "/a\"b\\c\nd")],
        )
        .add(3);
    telemetry
        .counter("http.requests", &[("method", "put"), ("path", "")])
        .add(4);
    telemetry.gauge("queue", &[]).set(-1.5);
    telemetry.gauge("limit_bytes", &[]).set(f64::INFINITY);
    let wait = telemetry.histogram("wait_seconds", &[("job", "mail")]);
    for value in [0.001, 0.25, 0.25, 3.0, 1e6] {
        wait.record(value);
    }
    let drift = telemetry.histogram("drift", &[]);
    drift.record(-3.0);
    let sizes = Definition::summary("size_bytes", &SENT, "bytes");
    telemetry.define("sizes", [sizes]).expect("can be had");
    (0..9_i32).for_each(|size| telemetry.execute(&SENT, &[("bytes", size.into())], &[]));
    telemetry
        .describe(Kind::Gauge, "queue", &[], "Jobs that \"wait\"\\\nnow.")
        .expect("good name");
    telemetry
}

#[test]
fn a_parser_reads_our_openmetrics() {
    let text = everything().render(Format::OpenMetrics);

    // The specification forbids a unit to info and stateset metrics only; this parser refuses that of a histogram
    // and of a summary as well.
    let mut text = text;
    for refused in ["# UNIT wait_seconds seconds\n", "# UNIT size_bytes bytes\n"] {
        assert!(text.contains(refused));
        text = text.replace(refused, "");
    }
    let read =
        openmetrics::parse_openmetrics(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));

    assert_eq!(read.families["limit_bytes"].unit, "bytes");
    assert_eq!(read.families["wait_seconds"].iter_samples().count(), 1);
    assert_eq!(read.families["queue"].iter_samples().count(), 1);
    assert!(read.families.contains_key("http_requests"));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_parser_reads_our_prometheus_text() {
    let text = everything().render(Format::Prometheus);

    let read =
        prometheus::parse_prometheus(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));

    assert_eq!(
        read.families["http_requests_total"].iter_samples().count(),
        2
    );
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
}

#[test]
fn the_content_types_are_those_of_the_formats() {
    assert_eq!(
        Format::OpenMetrics.content_type(),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert_eq!(
        Format::Prometheus.content_type(),
        "text/plain; version=0.0.4; charset=utf-8"
    );
}

/// Undoes the escaping of a label value.
fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut plain = String::new();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => panic!("a backslash at the end of {text}"),
            },
            other => other,
        });
    }
    plain
}

proptest! {
    #[test]
    fn any_label_value_reads_back(value in any::<String>()) {
        let telemetry = telemetry();
        telemetry.counter("hits", &[("path", &value)]).inc();
        for format in [Format::OpenMetrics, Format::Prometheus] {
            let text = telemetry.render(format);
            let line = text.split('\n').find(|line| line.starts_with("hits_total{"));
            let line = line.expect("on one line");
            let written = line.strip_prefix("hits_total{path=\"").and_then(|rest| rest.strip_suffix("\"} 1"));
            prop_assert_eq!(unescape(written.expect("one series, counted once")), value.clone());
        }
    }
}
