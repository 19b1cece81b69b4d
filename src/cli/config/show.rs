//! What the node says of settings, as lines for people. Pure.

use serde_json::Value as Json;
use underpin::value::Path;

/// Every value below a path, each on a line of its own.
pub(super) fn settings(path: &str, value: &Json) -> Vec<String> {
    match value {
        Json::Object(members) if !members.is_empty() => members
            .iter()
            .flat_map(|(name, value)| {
                // As paths are written: a name that holds a dot stands in quotes.
                let name = Path::from_components([name.as_str()])
                    .map_or_else(|_| name.clone(), |name| name.to_string());
                let below = match path {
                    "" => name,
                    path => format!("{path}.{name}"),
                };
                settings(&below, value)
            })
            .collect(),
        single => vec![format!("{path} = {single}")],
    }
}

/// What became of a change, or would.
pub(super) fn outcome(answer: &Json) -> Vec<String> {
    let mut lines = changes(&answer["changes"]);
    lines.extend(needing_restart(&answer["needs_restart"]));
    if let Some(breaks) = answer["breaks"].as_array() {
        lines.extend(breaks.iter().map(|why| format!("breaks: {}", text(why))));
        let would = if breaks.is_empty() {
            "would be made"
        } else {
            "would be refused"
        };
        lines.push(format!(
            "{would} (at revision {}; nothing was changed)",
            answer["against"]
        ));
    } else {
        lines.push(format!("revision {}", answer["revision"]));
    }
    lines
}

/// What a reload came to.
pub(super) fn reloaded(answer: &Json) -> Vec<String> {
    let mut lines = changes(&answer["changes"]);
    lines.extend(needing_restart(&answer["needs_restart"]));
    lines.push(match &answer["revision"] {
        Json::Null => "nothing changed for the running node".to_owned(),
        revision => format!("revision {revision}"),
    });
    lines
}

/// One line a changed setting.
pub(super) fn changes(changes: &Json) -> Vec<String> {
    let changes = changes.as_array().into_iter().flatten();
    changes
        .map(|change| {
            let side = |side: &str| match &change[side] {
                Json::Null => "(none)".to_owned(),
                value => value.to_string(),
            };
            format!(
                "{}: {} -> {}",
                text(&change["path"]),
                side("before"),
                side("after")
            )
        })
        .collect()
}

/// A line for each revision, its settings indented below.
pub(super) fn history(records: &Json) -> Vec<String> {
    let records = records.as_array().into_iter().flatten();
    records
        .flat_map(|record| {
            let mut head = format!(
                "{}  {}  {}",
                record["revision"],
                text(&record["at"]),
                text(&record["kind"])
            );
            for (word, key) in [("by", "by"), ("because:", "why")] {
                let said = text(&record[key]);
                if !said.is_empty() {
                    head = format!("{head}  {word} {said}");
                }
            }
            let inner = changes(&record["changes"]);
            std::iter::once(head).chain(inner.into_iter().map(|line| format!("    {line}")))
        })
        .collect()
}

/// All there is to say about a setting.
pub(super) fn explanation(answer: &Json) -> Vec<String> {
    let mut lines = vec![format!("{} = {}", text(&answer["path"]), answer["value"])];
    if let Some(words) = answer["description"].as_str() {
        lines.extend(words.lines().map(str::to_owned));
    }
    lines.push(match answer["mutability"].as_str() {
        Some("live") => "may change while the node runs".to_owned(),
        Some("restart") => {
            "may be written while the node runs; takes effect at the next start".to_owned()
        }
        _ => "may not change while the node runs".to_owned(),
    });
    if answer["held"] == true {
        lines.push("the sources say something that holds from the next start on".to_owned());
    }
    lines.push("said by, strongest first:".to_owned());
    let layers = answer["layers"].as_array().into_iter().flatten();
    lines.extend(layers.map(|layer| format!("    {}: {}", text(&layer["origin"]), layer["value"])));
    let past = history(&answer["history"]);
    if !past.is_empty() {
        lines.push("history:".to_owned());
        lines.extend(past.into_iter().map(|line| format!("    {line}")));
    }
    lines
}

fn needing_restart(paths: &Json) -> Vec<String> {
    let paths = paths.as_array().into_iter().flatten();
    paths
        .map(|path| format!("{}: takes effect at the next start", text(path)))
        .collect()
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_shown_as_its_settings() {
        let table = json!({"a": {"b": 1, "c": {}}, "d": "x"});
        let dotted = json!({"http.status": {"a\"b": 1}});

        assert_eq!(settings("", &table), ["a.b = 1", "a.c = {}", "d = \"x\""]);
        assert_eq!(
            settings("app", &table),
            ["app.a.b = 1", "app.a.c = {}", "app.d = \"x\""]
        );
        assert_eq!(
            settings("app", &dotted),
            [r#"app."http.status"."a\"b" = 1"#]
        );
    }

    #[test]
    fn a_dry_run_shows_what_it_would_change_and_break() {
        let answer = json!({
            "against": 3, "changes": [{"path": "app.a", "before": 1, "after": null}],
            "needs_restart": ["app.a"], "breaks": ["no"],
        });

        assert_eq!(
            outcome(&answer),
            [
                "app.a: 1 -> (none)",
                "app.a: takes effect at the next start",
                "breaks: no",
                "would be refused (at revision 3; nothing was changed)"
            ]
        );
    }

    #[test]
    fn history_says_who_and_why_where_it_was_said() {
        let record = json!([{"revision": 4, "at": "t", "kind": "update", "by": "ann", "why": "load", "changes": []}]);

        assert_eq!(history(&record), ["4  t  update  by ann  because: load"]);
    }
}
