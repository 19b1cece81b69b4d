//! `config`: reads and changes the settings of a node that runs; checks and writes settings files without one.

mod arguments;
mod show;

use std::io::{self, IsTerminal as _};

use serde_json::{Value as Json, json};
use underpin::node::Node;

use super::{arguments::Reach, client::Client, failure::Failure, output::Output};
use arguments::{ChangeOptions, Diff, Explain, Get, History, Reset, Rollback, Set, Template};
pub(super) use arguments::{Check, ConfigCommand};

/// Carries out what is asked.
pub(super) fn config(command: &ConfigCommand, out: &mut Output) -> Result<(), Failure> {
    match command {
        ConfigCommand::Get(arguments) => get(arguments, out),
        ConfigCommand::Set(arguments) => set(arguments, out),
        ConfigCommand::Reset(arguments) => reset(arguments, out),
        ConfigCommand::Rollback(arguments) => rollback(arguments, out),
        ConfigCommand::History(arguments) => history(arguments, out),
        ConfigCommand::Diff(arguments) => diff(arguments, out),
        ConfigCommand::Explain(arguments) => explain(arguments, out),
        ConfigCommand::Reload(reach) => reload(reach, out),
        ConfigCommand::Check(arguments) => check(arguments, out),
        ConfigCommand::Template(arguments) => template(arguments, out),
    }
}

/// A single value alone; a table as `path = value` lines.
fn get(get: &Get, out: &mut Output) -> Result<(), Failure> {
    let path = get.path.as_deref().unwrap_or_default();
    let query = [("path", path)];
    let query = if path.is_empty() { &[][..] } else { &query };
    let Some(answer) = asked(&get.reach, "/api/v1/config", query, out)? else {
        return Ok(());
    };
    match &answer["value"] {
        Json::Object(_) => out.lines(show::settings(path, &answer["value"])),
        // A program gets the text as it is.
        Json::String(text) if !io::stdout().is_terminal() => out.text(&format!("{text}\n")),
        Json::String(text) => out.line(text),
        single => out.line(single),
    }
}

/// Says the new value and the revision that it made.
fn set(set: &Set, out: &mut Output) -> Result<(), Failure> {
    let mut changes = vec![write(&set.path, &set.value)];
    for more in &set.more {
        let (path, text) = more.split_once('=').ok_or_else(|| {
            Failure::Usage(format!(
                "--and {more}: there is no `=`; write it as --and PATH=VALUE"
            ))
        })?;
        changes.push(write(path, text));
    }
    change(json!({ "set": changes }), &set.options, out)
}

fn reset(reset: &Reset, out: &mut Output) -> Result<(), Failure> {
    let path = reset.path.as_deref().unwrap_or_default();
    change(json!({ "reset": path }), &reset.options, out)
}

fn rollback(rollback: &Rollback, out: &mut Output) -> Result<(), Failure> {
    change(
        json!({ "rollback": rollback.revision }),
        &rollback.options,
        out,
    )
}

fn change(mut body: Json, options: &ChangeOptions, out: &mut Output) -> Result<(), Failure> {
    body["by"] = options.by.clone().unwrap_or_else(user).into();
    body["why"] = options.why.as_deref().unwrap_or_default().into();
    body["dry_run"] = options.dry_run.into();
    if let Some(expected) = options.expect {
        body["expect_revision"] = expected.into();
    }
    let body = body.to_string();
    let client = Client::new(&options.reach.node);
    let answer: Json = client.post("/api/v1/config/changes", body.as_bytes())?;
    if options.reach.json {
        out.line(&answer)?;
    } else {
        out.lines(show::outcome(&answer))?;
    }
    match answer["breaks"].as_array() {
        Some(breaks) if !breaks.is_empty() => {
            out.flush()?;
            Err(Failure::refused(
                "refused",
                "it would be refused; nothing was changed",
            ))
        }
        _ => Ok(()),
    }
}

fn history(history: &History, out: &mut Output) -> Result<(), Failure> {
    let limit = history.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(history.path.iter().map(|path| ("path", path.as_str())));
    let answer = asked(&history.reach, "/api/v1/config/history", &query, out)?;
    answer.map_or(Ok(()), |answer| {
        out.lines(show::history(&answer["history"]))
    })
}

fn diff(diff: &Diff, out: &mut Output) -> Result<(), Failure> {
    let since = diff.since.map(|revision| revision.to_string());
    let query: Vec<(&str, &str)> = since
        .iter()
        .map(|since| ("since", since.as_str()))
        .collect();
    let answer = asked(&diff.reach, "/api/v1/config/diff", &query, out)?;
    answer.map_or(Ok(()), |answer| {
        out.lines(show::changes(&answer["changes"]))
    })
}

fn explain(explain: &Explain, out: &mut Output) -> Result<(), Failure> {
    let query = [("path", explain.path.as_str())];
    let answer = asked(&explain.reach, "/api/v1/config/explain", &query, out)?;
    answer.map_or(Ok(()), |answer| out.lines(show::explanation(&answer)))
}

fn reload(reach: &Reach, out: &mut Output) -> Result<(), Failure> {
    let body = json!({ "by": user() }).to_string();
    let answer: Json = Client::new(&reach.node).post("/api/v1/config/reload", body.as_bytes())?;
    if reach.json {
        return out.line(&answer);
    }
    out.lines(show::reloaded(&answer))
}

/// Asks the node; an answer that is wanted as it is has been written.
fn asked(
    reach: &Reach,
    path: &str,
    query: &[(&str, &str)],
    out: &mut Output,
) -> Result<Option<Json>, Failure> {
    let answer = Client::new(&reach.node).get_json(path, query)?;
    if reach.json {
        return out.line(answer).map(|()| None);
    }
    Ok(Some(answer.read()?))
}

/// Says whether a node would start with these settings.
pub(super) fn check(check: &Check, out: &mut Output) -> Result<(), Failure> {
    let mut builder = Node::builder().config_file(&check.file);
    if let Some(folder) = &check.conf_d {
        builder = builder.conf_d(folder);
    }
    if check.without_environment {
        builder = builder.without_environment();
    }
    let builder = check
        .sets
        .iter()
        .fold(builder, underpin::node::NodeBuilder::set);
    match builder.check_config() {
        Ok(misnamed) if check.json => {
            let warnings: Vec<_> = misnamed.iter().map(ToString::to_string).collect();
            out.line(json!({"version": 1, "valid": true, "warnings": warnings}))
        }
        Ok(misnamed) => {
            out.line(format_args!("{}: valid", check.file.display()))?;
            misnamed
                .iter()
                .try_for_each(|misnamed| out.line(format_args!("warning: {misnamed}")))
        }
        Err(error) => Err(Failure::refused("settings", error.to_string())),
    }
}

fn template(template: &Template, out: &mut Output) -> Result<(), Failure> {
    let text = Node::builder().config_template();
    let text = text.map_err(|error| Failure::refused("settings", error.to_string()))?;
    if template.json {
        return out.line(json!({"version": 1, "template": text}));
    }
    out.text(&text)
}

/// The node reads the text by what stands at the path. Only null has no other form.
fn write(path: &str, text: &str) -> Json {
    match text {
        "null" => json!({ "path": path, "value": null }),
        text => json!({ "path": path, "text": text }),
    }
}

/// Who asks, as the system says.
fn user() -> String {
    let named = ["USER", "LOGNAME"].map(std::env::var);
    let named = named.into_iter().flatten().find(|name| !name.is_empty());
    named.unwrap_or_else(|| "cli".to_owned())
}
