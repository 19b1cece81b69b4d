//! `tree`.

use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    arguments::TreeArguments, client::Client, failure::Failure, output::Output, span, watch,
};

/// What is drawn of one child. Whatever the node leaves out is left out here.
#[derive(Debug, Deserialize)]
struct Branch {
    id: String,
    kind: Option<String>,
    state: Option<Json>,
    restarts: Option<u64>,
    for_ms: Option<u64>,
    admitted: Option<u64>,
    waiting: Option<u64>,
    refused: Option<u64>,
    expired: Option<u64>,
    late: Option<u64>,
    handled: Option<u64>,
    budget_left: Option<u64>,
    busy_share: Option<f64>,
    in_message_ms: Option<u64>,
    message: Option<String>,
    #[serde(default)]
    stuck: bool,
    #[serde(default)]
    suspended: bool,
    restart_in_ms: Option<u64>,
    last_exit: Option<Json>,
    #[serde(default)]
    reasons: Vec<Reason>,
    #[serde(default)]
    children: Vec<Branch>,
    #[serde(default)]
    unlisted: u64,
}

#[derive(Debug, Deserialize)]
struct Reason {
    reason: String,
    since: String,
}

/// The supervision tree with what each part does; once, or again and again.
pub(super) fn tree(arguments: &TreeArguments, out: &mut Output) -> Result<(), Failure> {
    let client = Client::new(&arguments.reach.node);
    watch::watch(arguments.watch, arguments.reach.json, out, |out| {
        show(&client, arguments, out)
    })
}

fn show(client: &Client, arguments: &TreeArguments, out: &mut Output) -> Result<(), Failure> {
    let numbers = [("depth", arguments.depth), ("children", arguments.children)];
    let mut query: Vec<(&str, String)> = numbers
        .into_iter()
        .filter_map(|(name, number)| Some((name, number?.to_string())))
        .collect();
    if let Some(path) = &arguments.path {
        query.push(("path", path.clone()));
    }
    let query: Vec<(&str, &str)> = query
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let answer = client.get_json("/api/v1/tree", &query)?;
    if arguments.reach.json {
        return out.line(answer);
    }
    let root = Branch::deserialize(&answer.read()?["tree"]).map_err(|error| unreadable(&error))?;
    out.lines(draw(&root))
}

/// What the node answered is no tree.
pub(super) fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::refused(
        "foreign_answer",
        format!("cannot read the tree ({error}); try --json, or check --node"),
    )
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
    let pipe = if branch.children.is_empty() && branch.unlisted == 0 {
        " "
    } else {
        "│"
    };
    for Reason { reason, since } in &branch.reasons {
        rows.push((
            format!("{below}{pipe}  ! {reason}"),
            format!("since {since}"),
        ));
    }
    let entries = branch.children.len() + usize::from(branch.unlisted > 0);
    let last = entries.saturating_sub(1);
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
    if branch.unlisted > 0 {
        let more = format!("{below}└─ … {} more", branch.unlisted);
        rows.push((more, String::new()));
    }
}

fn facts(branch: &Branch) -> String {
    let mut facts = Vec::new();
    facts.extend(branch.kind.clone());
    facts.extend(branch.state.as_ref().and_then(word));
    let ms = span::readable;
    facts.extend(branch.for_ms.map(|for_ms| format!("for {}", ms(for_ms))));
    facts.extend(
        branch
            .restart_in_ms
            .map(|due| format!("starts in {}", ms(due))),
    );
    facts.extend(branch.suspended.then(|| "suspended".to_owned()));
    if let Some(elapsed) = branch.in_message_ms {
        let stuck = if branch.stuck { "stuck " } else { "" };
        let message = branch.message.as_deref().unwrap_or("a message");
        facts.push(format!("{stuck}in {message} for {}", ms(elapsed)));
    }
    let busy = branch.busy_share.filter(|share| *share >= 0.005);
    facts.extend(busy.map(|share| format!("busy {:.0} %", share * 100.0)));
    let counts = [
        ("handled", branch.handled),
        ("admitted", branch.admitted),
        ("waiting", branch.waiting),
        ("refused", branch.refused),
        ("expired", branch.expired),
        ("late", branch.late),
        ("restarts", branch.restarts),
    ];
    facts.extend(
        counts
            .into_iter()
            .filter_map(|(name, count)| Some(format!("{name} {}", count.filter(|n| *n > 0)?))),
    );
    facts.extend(branch.budget_left.map(|left| format!("budget {left}")));
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
pub(super) fn word(value: &Json) -> Option<String> {
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

    #[test]
    fn what_is_wrong_stands_under_its_branch_and_what_is_left_out_is_counted() {
        let tree = json!({
            "id": "root", "kind": "supervisor", "state": "running", "for_ms": 1000, "budget_left": 3, "unlisted": 7,
            "children": [{
                "id": "cache", "kind": "actor", "state": "running", "for_ms": 61_000, "handled": 5, "busy_share": 0.993,
                "in_message_ms": 12_300, "message": "rebuild", "stuck": true,
                "reasons": [{"reason": "has been handling rebuild for 12 s", "since": "2026-11-23T10:00:00Z"}],
            }],
        });

        assert_eq!(
            draw(&Branch::deserialize(&tree).expect("a tree")),
            [
                "root                                        supervisor  running  for 1.0 s  budget 3",
                "├─ cache                                    \
                 actor  running  for 1m 1s  stuck in rebuild for 12.3 s  busy 99 %  handled 5",
                "│     ! has been handling rebuild for 12 s  since 2026-11-23T10:00:00Z",
                "└─ … 7 more",
            ]
        );
    }
}
