//! `metrics`.

use serde_json::json;

use super::{arguments::Reach, client::Client, exposition, failure::Failure, output::Output};

/// The Prometheus text as it is; with `--json` its samples.
pub(super) fn metrics(reach: &Reach, out: &mut Output) -> Result<(), Failure> {
    let text = Client::new(&reach.node).get_text("/metrics", "text/plain; version=0.0.4")?;
    if !reach.json {
        return out.text(&text);
    }
    let samples = exposition::samples(&text).map_err(|line| {
        Failure::refused(
            "foreign_answer",
            format!("cannot read the metric line `{line}`; check --node"),
        )
    })?;
    let samples = json!(samples);
    out.line(format_args!("{{\"version\":1,\"metrics\":{samples}}}"))
}
