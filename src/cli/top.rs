//! `top`.

use std::{
    cmp::Ordering,
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{
    arguments::TopArguments,
    client::Client,
    failure::Failure,
    output::Output,
    span, tree,
    watch::{self, Pace},
};

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    /// Who is busy for the greatest part of the time
    Busy,
    /// Who handles the most in a second
    Handled,
    /// Whose callers wait
    Waiting,
    /// Who refused the most
    Refused,
    /// Who was restarted most often
    Restarts,
}

/// One child, as the node tells of it.
#[derive(Debug, Deserialize)]
struct Branch {
    path: String,
    kind: Option<String>,
    state: Option<Json>,
    #[serde(default)]
    stuck: bool,
    #[serde(default)]
    busy_share: f64,
    #[serde(default)]
    handled: u64,
    #[serde(default)]
    waiting: u64,
    #[serde(default)]
    refused: u64,
    #[serde(default)]
    restarts: u64,
    #[serde(default)]
    children: Vec<Branch>,
    #[serde(default)]
    unlisted: u64,
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    path: String,
    kind: Option<String>,
    state: String,
    busy_share: f64,
    handled: u64,
    /// Nothing in the first look, and after a start anew.
    handled_per_second: Option<f64>,
    waiting: u64,
    refused: u64,
    restarts: u64,
}

/// All children and the whole, at one time.
#[derive(Debug, Default)]
struct Look {
    at: Option<Instant>,
    stored: u64,
    /// What each had handled, in which of its lives.
    handled: HashMap<String, (u64, u64)>,
}

/// Who does what, the busiest first, until it is interrupted.
pub(super) fn top(arguments: &TopArguments, out: &mut Output) -> Result<(), Failure> {
    let client = Client::new(&arguments.reach.node);
    let pace = Pace {
        every: Duration::from_secs(arguments.every),
        samples: arguments.samples,
    };
    let most = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut before = Look::default();
    watch::paced(pace, arguments.reach.json, out, |out| {
        let status = client.get_json("/api/v1/status", &[])?.read()?;
        let tree = client.get_json("/api/v1/tree", &[])?.read()?;
        let root = Branch::deserialize(&tree["tree"]).map_err(|error| tree::unreadable(&error))?;
        let now = Look::of(&status, &root, Instant::now());
        let (mut rows, unlisted) = rows(&root, &before, &now);
        arguments.sort.sort(&mut rows);
        let below = rows.len().saturating_sub(most);
        rows.truncate(most);
        let per_second = now.per_second(now.stored, &before, Some(before.stored));
        before = now;
        if arguments.reach.json {
            return out.line(json!({
                "version": 1, "health": status["health"], "uptime_ms": status["uptime_ms"],
                "events": {"stored": before.stored, "stored_per_second": per_second},
                "children": rows, "below": below, "unlisted": unlisted,
            }));
        }
        let head = head(&status, before.stored, per_second);
        out.lines([head].into_iter().chain(table(&rows, below, unlisted)))
    })
}

impl Order {
    fn sort(self, rows: &mut [Row]) {
        let rate = |row: &Row| row.handled_per_second.unwrap_or_default();
        rows.sort_by(|one, other| {
            let first = match self {
                Self::Busy => other.busy_share.total_cmp(&one.busy_share),
                Self::Handled => Ordering::Equal,
                Self::Waiting => other.waiting.cmp(&one.waiting),
                Self::Refused => other.refused.cmp(&one.refused),
                Self::Restarts => other.restarts.cmp(&one.restarts),
            };
            first
                .then(rate(other).total_cmp(&rate(one)))
                .then(other.handled.cmp(&one.handled))
                .then_with(|| one.path.cmp(&other.path))
        });
    }
}

impl Look {
    fn of(status: &Json, root: &Branch, at: Instant) -> Self {
        let mut handled = HashMap::new();
        root.visit(&mut |branch| {
            handled.insert(branch.path.clone(), (branch.handled, branch.restarts));
        });
        Self {
            at: Some(at),
            stored: status["events"]["stored"].as_u64().unwrap_or_default(),
            handled,
        }
    }

    /// How much a count grew in a second since an earlier look; nothing where it began anew.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn per_second(&self, count: u64, before: &Self, then: Option<u64>) -> Option<f64> {
        let seconds = self.at?.duration_since(before.at?).as_secs_f64();
        let grown = count.checked_sub(then?)?;
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }
}

impl Branch {
    fn visit(&self, look: &mut impl FnMut(&Self)) {
        look(self);
        self.children.iter().for_each(|child| child.visit(look));
    }
}

/// A line for everybody in the tree, and how many the node left out of it.
fn rows(root: &Branch, before: &Look, now: &Look) -> (Vec<Row>, u64) {
    let (mut rows, mut unlisted) = (Vec::new(), 0);
    root.visit(&mut |branch| {
        unlisted += branch.unlisted;
        let then = before.handled.get(&branch.path);
        let then = then.filter(|(_, restarts)| *restarts == branch.restarts);
        let state = branch.state.as_ref().and_then(tree::word);
        rows.push(Row {
            path: branch.path.clone(),
            kind: branch.kind.clone(),
            state: if branch.stuck {
                "stuck".to_owned()
            } else {
                state.unwrap_or_else(|| "unknown".to_owned())
            },
            busy_share: branch.busy_share,
            handled: branch.handled,
            handled_per_second: now.per_second(branch.handled, before, then.map(|then| then.0)),
            waiting: branch.waiting,
            refused: branch.refused,
            restarts: branch.restarts,
        });
    });
    (rows, unlisted)
}

fn head(status: &Json, stored: u64, per_second: Option<f64>) -> String {
    let reasons = match status["reasons"].as_array().map_or(0, Vec::len) {
        0 => String::new(),
        1 => "  1 reason: `underpin status`".to_owned(),
        many => format!("  {many} reasons: `underpin status`"),
    };
    format!(
        "{}  {} (node {}), up {}  events stored {stored}{}{reasons}",
        status["health"].as_str().unwrap_or("unknown"),
        status["name"].as_str().unwrap_or("unnamed"),
        status["node"],
        span::readable(status["uptime_ms"].as_u64().unwrap_or_default()),
        per_second.map_or_else(String::new, |rate| format!("  {rate:.1}/s")),
    )
}

fn table(rows: &[Row], below: usize, unlisted: u64) -> Vec<String> {
    let line = |busy: &dyn fmt::Display,
                rate: &dyn fmt::Display,
                waiting: &dyn fmt::Display,
                refused: &dyn fmt::Display,
                restarts: &dyn fmt::Display,
                state: &str,
                path: &str| {
        format!(
            "{busy:>6}  {rate:>10}  {waiting:>8}  {refused:>8}  {restarts:>8}  {state:<12}  {path}"
        )
    };
    let head = line(
        &"BUSY",
        &"HANDLED/S",
        &"WAITING",
        &"REFUSED",
        &"RESTARTS",
        "STATE",
        "PATH",
    );
    let shown = rows.iter().map(|row| {
        let rate = row.handled_per_second;
        line(
            &format!("{:.0} %", row.busy_share * 100.0),
            &rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
            &row.waiting,
            &row.refused,
            &row.restarts,
            &row.state,
            &row.path,
        )
    });
    let more = (below > 0).then(|| format!("… {below} more"));
    let unknown = (unlisted > 0).then(|| {
        format!("… {unlisted} that the node does not list, as it lists no more of one supervisor, were not looked at")
    });
    let lines = [head].into_iter().chain(shown);
    lines.chain(more).chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(handled: u64, restarts: u64) -> Branch {
        let tree = json!({
            "path": "node", "kind": "supervisor", "state": "running", "unlisted": 2, "children": [
                {"path": "node/events", "kind": "actor", "state": "running", "busy_share": 0.126, "handled": handled,
                 "restarts": restarts},
                {"path": "node/app", "kind": "supervisor", "state": "running", "children": [
                    {"path": "node/app/cache", "kind": "actor", "state": "running", "stuck": true, "busy_share": 0.99,
                     "waiting": 4, "refused": 1, "restarts": restarts},
                ]},
            ],
        });
        Branch::deserialize(&tree).expect("a tree")
    }

    fn status(stored: u64) -> Json {
        json!({
            "health": "degraded", "name": "a", "node": 7, "uptime_ms": 61_000, "events": {"stored": stored},
            "reasons": [{"part": "app"}],
        })
    }

    #[test]
    fn the_busiest_stands_first_with_what_it_handled_since_the_last_look() {
        let start = Instant::now();
        let first = Look::of(&status(5), &tree(10, 3), start);
        let now = Look::of(&status(25), &tree(40, 3), start + Duration::from_secs(2));
        let (mut rows, unlisted) = rows(&tree(40, 3), &first, &now);
        Order::Busy.sort(&mut rows);

        assert_eq!(
            head(&status(25), 25, now.per_second(25, &first, Some(5))),
            "degraded  a (node 7), up 1m 1s  events stored 25  10.0/s  1 reason: `underpin status`"
        );
        assert_eq!(
            table(&rows[..3], 1, unlisted),
            [
                "  BUSY   HANDLED/S   WAITING   REFUSED  RESTARTS  STATE         PATH",
                "  99 %         0.0         4         1         3  stuck         node/app/cache",
                "  13 %        15.0         0         0         3  running       node/events",
                "   0 %         0.0         0         0         0  running       node",
                "… 1 more",
                "… 2 that the node does not list, as it lists no more of one supervisor, were not looked at",
            ]
        );
    }

    #[test]
    fn who_is_new_or_began_anew_has_no_rate_yet() {
        let start = Instant::now();
        let rate = |before: &Look, handled, restarts| {
            let tree = tree(handled, restarts);
            let now = Look::of(&status(0), &tree, start + Duration::from_secs(1));
            let (rows, _) = rows(&tree, before, &now);
            let events = rows.iter().find(|row| row.path == "node/events");
            events.expect("it is there").handled_per_second
        };
        let first = Look::of(&status(0), &tree(10, 0), start);
        assert_eq!(rate(&Look::default(), 10, 0), None);
        assert_eq!(rate(&first, 4, 0), None);
        assert_eq!(rate(&first, 14, 1), None);
        assert_eq!(rate(&first, 14, 0), Some(4.0));
    }

    #[test]
    fn each_order_puts_its_own_first() {
        let row = |path: &str| Row {
            path: path.to_owned(),
            kind: None,
            state: "running".to_owned(),
            busy_share: 0.0,
            handled: 0,
            handled_per_second: None,
            waiting: 0,
            refused: 0,
            restarts: 0,
        };
        let rows = [
            Row {
                busy_share: 0.5,
                ..row("busy")
            },
            Row {
                handled_per_second: Some(3.0),
                ..row("handled")
            },
            Row {
                waiting: 1,
                ..row("waiting")
            },
            Row {
                refused: 1,
                ..row("refused")
            },
            Row {
                restarts: 1,
                ..row("restarts")
            },
        ];
        for order in Order::value_variants() {
            let mut sorted = rows.clone();
            order.sort(&mut sorted);
            let name = order.to_possible_value().expect("it has a name");
            assert_eq!(sorted[0].path, name.get_name());
        }
    }
}
