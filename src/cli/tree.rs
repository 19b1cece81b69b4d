//! `tree`.

use serde::Deserialize;
use serde_json::Value as Json;

use super::{arguments::Reach, client::Client, failure::Failure, output::Output, span};

/// What is drawn of one child. Whatever the node leaves out is left out here.
#[derive(Debug, Deserialize)]
struct Branch {
    id: String,
    kind: Option<String>,
    state: Option<Json>,
    restarts: Option<u64>,
    for_ms: Option<u64>,
    admitted: Option<u64>,
    handled: Option<u64>,
    last_exit: Option<Json>,
    #[serde(default)]
    children: Vec<Branch>,
}

/// The supervision tree with states, restarts and uptimes.
pub(super) fn tree(reach: &Reach, out: &mut Output) -> Result<(), Failure> {
    let answer = Client::new(&reach.node).get_json("/api/v1/tree", &[])?;
    if reach.json {
        return out.line(answer);
    }
    let root = Branch::deserialize(&answer.read()?["tree"]).map_err(|error| {
        Failure::refused(
            "foreign_answer",
            format!("cannot read the tree ({error}); try --json, or check --node"),
        )
    })?;
    draw(&root).into_iter().try_for_each(|line| out.line(line))
}

fn draw(root: &Branch) -> Vec<String> {
    let mut rows = Vec::new();
    collect(root, String::new(), "", &mut rows);
    let width = rows
        .iter()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or_default();
    rows.into_iter()
        .map(|(label, facts)| format!("{label:<width$}  {facts}").trim_end().to_owned())
        .collect()
}

fn collect(branch: &Branch, lead: String, below: &str, rows: &mut Vec<(String, String)>) {
    rows.push((lead + &branch.id, facts(branch)));
    let last = branch.children.len().saturating_sub(1);
    for (at, child) in branch.children.iter().enumerate() {
        let (arm, space) = if at == last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        collect(
            child,
            format!("{below}{arm}"),
            &format!("{below}{space}"),
            rows,
        );
    }
}

fn facts(branch: &Branch) -> String {
    let mut facts = Vec::new();
    facts.extend(branch.kind.clone());
    facts.extend(branch.state.as_ref().and_then(word));
    facts.extend(
        branch
            .for_ms
            .map(|ms| format!("for {}", span::readable(ms))),
    );
    let counts = [
        ("restarts", branch.restarts),
        ("admitted", branch.admitted),
        ("handled", branch.handled),
    ];
    facts.extend(
        counts
            .into_iter()
            .filter_map(|(name, count)| Some(format!("{name} {}", count.filter(|n| *n > 0)?))),
    );
    facts.extend(
        branch
            .last_exit
            .as_ref()
            .and_then(word)
            .map(|reason| format!("last exit: {reason}")),
    );
    facts.join("  ")
}

/// A state or a reason: text, or an object of one name.
fn word(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn branches_are_drawn_with_their_facts_in_a_column() {
        let tree = json!({
            "id": "root", "path": "root", "kind": "supervisor", "state": "running", "for_ms": 61_000, "restarts": 0,
            "children": [
                {"id": "events", "kind": "actor", "state": "running", "for_ms": 500, "restarts": 2,
                 "last_exit": "panic: out of luck", "children": []},
                {"id": "app", "kind": "supervisor", "state": "running", "for_ms": 100, "children": [
                    {"id": "cache", "kind": "actor", "state": "restarting", "handled": 12},
                ]},
            ],
        });

        assert_eq!(
            draw(&Branch::deserialize(&tree).expect("a tree")),
            [
                "root         supervisor  running  for 1m 1s",
                "├─ events    actor  running  for 500 ms  restarts 2  last exit: panic: out of luck",
                "└─ app       supervisor  running  for 100 ms",
                "   └─ cache  actor  restarting  handled 12",
            ]
        );
    }
}
