//! The official Python client's parser reads what we write.
//!
//! It is no crate: `.ci/run` installs it into `target/python` and says so in `UNDERPIN_PROMETHEUS_CLIENT`. Where that is not said,
//! these stories say that they did not look.

use std::{
    collections::BTreeMap,
    env,
    io::Write as _,
    process::{Command, Stdio},
};

use serde::Deserialize;
use underpin::{node::Node, telemetry::Format};

use super::text::everything;

const CLIENT: &str = "UNDERPIN_PROMETHEUS_CLIENT";

const PARSE_OPENMETRICS: &str =
    "from prometheus_client.openmetrics.parser import text_string_to_metric_families";
const PARSE_PROMETHEUS: &str =
    "from prometheus_client.parser import text_string_to_metric_families";
const PRINT: &str = "
import json, sys
print(json.dumps([
    {'name': f.name, 'type': f.type, 'unit': f.unit, 'help': f.documentation,
     'samples': [[s.name, s.labels, str(s.value)] for s in f.samples]}
    for f in text_string_to_metric_families(sys.stdin.read())
]))";

#[derive(Debug, Deserialize)]
struct Family {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    unit: String,
    help: String,
    samples: Vec<(String, BTreeMap<String, String>, String)>,
}

/// What Python makes of a text; `None` without Python's client.
fn read(text: &str, format: Format) -> Option<BTreeMap<String, Family>> {
    let Some(folder) = env::var_os(CLIENT) else {
        // Not through `eprintln`, which a passing test does not show.
        let skipped = format!(
            "\nSKIPPED, the Python client's parser: {CLIENT} does not say where it is; .ci/run installs it\n"
        );
        std::io::stderr()
            .write_all(skipped.as_bytes())
            .expect("written");
        return None;
    };
    let parser = match format {
        Format::OpenMetrics => PARSE_OPENMETRICS,
        Format::Prometheus => PARSE_PROMETHEUS,
    };
    let mut python = Command::new("python3")
        .args(["-c", &format!("{parser}{PRINT}")])
        .env("PYTHONPATH", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut input = python.stdin.take().expect("is a pipe");
    input.write_all(text.as_bytes()).expect("is read");
    drop(input);
    let output = python.wait_with_output().expect("ends");
    assert!(output.status.success(), "the parser refused this:\n{text}");
    let families: Vec<Family> = serde_json::from_slice(&output.stdout).expect("is JSON");
    let by_name = families.into_iter().map(|one| (one.name.clone(), one));
    Some(by_name.collect())
}

#[test]
fn the_official_python_client_reads_our_openmetrics() {
    let Some(families) = read(
        &everything().render(Format::OpenMetrics),
        Format::OpenMetrics,
    ) else {
        return;
    };

    let requests = &families["http_requests"];
    assert_eq!((&*requests.kind, requests.samples.len()), ("counter", 2));
    let (name, labels, value) = &requests.samples[0];
    assert_eq!((&**name, &**value), ("http_requests_total", "3"));
    assert_eq!(labels["path"], "/a\"b\\c\nd");
    assert_eq!(families["limit_bytes"].unit, "bytes");
    assert_eq!(families["queue"].help, "Jobs that \"wait\"\\\nnow.");
    let wait = &families["wait_seconds"];
    assert_eq!((&*wait.kind, &*wait.unit), ("histogram", "seconds"));
    let has = |name: &str| wait.samples.iter().any(|(other, _, _)| other == name);
    assert!(has("wait_seconds_count") && has("wait_seconds_sum"));
    let sizes = &families["size_bytes"];
    assert_eq!((&*sizes.kind, sizes.samples.len()), ("summary", 6));
}

#[test]
fn the_official_python_client_reads_our_prometheus_text() {
    let Some(families) = read(&everything().render(Format::Prometheus), Format::Prometheus) else {
        return;
    };

    assert_eq!(families["http_requests"].kind, "counter");
    assert_eq!(families["wait_seconds"].kind, "histogram");
    assert_eq!(families["size_bytes"].kind, "summary");
    assert_eq!(families["queue"].help, "Jobs that \"wait\"\\\nnow.");
}

#[tokio::test]
async fn the_official_python_client_reads_all_that_a_node_shows() {
    let node = Node::builder().memory().start().await.expect("starts");
    let event = node.events().event("seen").build().expect("fits");
    node.events().store(event).await.expect("is stored");
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let text = node.telemetry().render(format);
        let Some(families) = read(&text, format) else {
            break;
        };
        let stored = &families["underpin_events_stored"].samples[0].2;
        assert_eq!(stored.parse(), Ok(1.0));
    }
    node.shutdown().await;
}
