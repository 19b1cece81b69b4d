//! `status`.

use serde_json::Value as Json;

use super::{arguments::Reach, client::Client, failure::Failure, output::Output, span};

/// Health first, then why, then what the services say of themselves.
pub(super) fn status(reach: &Reach, out: &mut Output) -> Result<(), Failure> {
    let answer = Client::new(&reach.node).get_json("/api/v1/status", &[])?;
    if reach.json {
        return out.line(answer);
    }
    out.lines(lines(&answer.read()?))
}

fn lines(status: &Json) -> Vec<String> {
    let mut lines = vec![format!(
        "{}  {} (node {}), up {}",
        status["health"].as_str().unwrap_or("unknown"),
        status["name"].as_str().unwrap_or("unnamed"),
        status["node"],
        span::readable(status["uptime_ms"].as_u64().unwrap_or_default()),
    )];
    for reason in status["reasons"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  {}: {} (since {})",
            reason["part"].as_str().unwrap_or("?"),
            reason["reason"].as_str().unwrap_or("?"),
            reason["since"].as_str().unwrap_or("?"),
        ));
    }
    for part in ["events", "config", "telemetry"] {
        let figures = figures(&status[part]);
        if !figures.is_empty() {
            lines.push(format!("{part:<10} {}", figures.join("  ")));
        }
    }
    lines
}

/// `name value` for everything simple, and for texts in a list; what is nested is for `--json`.
fn figures(part: &Json) -> Vec<String> {
    part.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| match value {
            Json::Null | Json::Object(_) => None,
            Json::Array(items) => {
                let texts: Option<Vec<&str>> = items.iter().map(Json::as_str).collect();
                let texts = texts.filter(|texts| !texts.is_empty())?;
                Some(format!("{name} {}", texts.join(", ")))
            }
            Json::String(text) => Some(format!("{name} {text}")),
            other => Some(format!("{name} {other}")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn health_reasons_and_figures_have_a_line_each() {
        let status = json!({
            "version": 1, "health": "degraded", "name": "a", "node": 7, "uptime_ms": 61_000,
            "reasons": [{"part": "events", "reason": "disk full", "since": "2026-11-23T10:00:00Z"}],
            "events": {"count": 5, "state": "poisoned", "segments": {"sealed": 2}}, "config": {"restart_needed": ["app.a", "app.b"], "revision": 3},
            "telemetry": {"nodes": [], "metrics": 1},
        });

        assert_eq!(
            lines(&status),
            [
                "degraded  a (node 7), up 1m 1s",
                "  events: disk full (since 2026-11-23T10:00:00Z)",
                "events     count 5  state poisoned",
                "config     restart_needed app.a, app.b  revision 3",
                "telemetry  metrics 1",
            ]
        );
    }
}
