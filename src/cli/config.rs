//! `config get` and `config set`.

use serde_json::{Value as Json, json};

use super::{
    arguments::{ConfigGet, ConfigSet},
    client::Client,
    failure::Failure,
    output::Output,
};

/// A single value alone; a table as `path = value` lines.
pub(super) fn get(get: &ConfigGet, out: &mut Output) -> Result<(), Failure> {
    let query: Vec<(&str, &str)> = get
        .path
        .iter()
        .map(|path| ("path", path.as_str()))
        .collect();
    let answer = Client::new(&get.reach.node).get_json("/api/v1/config", &query)?;
    if get.reach.json {
        return out.line(answer);
    }
    let answer = answer.read()?;
    match &answer["value"] {
        Json::Object(_) => settings(get.path.as_deref().unwrap_or_default(), &answer["value"])
            .into_iter()
            .try_for_each(|line| out.line(line)),
        Json::String(text) => out.line(text),
        single => out.line(single),
    }
}

/// Says the new value and the revision that it made.
pub(super) fn set(set: &ConfigSet, out: &mut Output) -> Result<(), Failure> {
    let value = value(&set.value);
    let body = json!({"path": set.path, "value": value});
    let answer = Client::new(&set.reach.node).put_json("/api/v1/config", &body)?;
    if set.reach.json {
        return out.line(answer);
    }
    let revision = &answer.read()?["revision"];
    out.line(format_args!("{} = {value} (revision {revision})", set.path))
}

/// JSON where it is JSON, else text.
fn value(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()))
}

/// Every value below a path, each on a line that could be given to `--set`.
fn settings(path: &str, value: &Json) -> Vec<String> {
    match value {
        Json::Object(members) if !members.is_empty() => members
            .iter()
            .flat_map(|(name, value)| {
                let below = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                settings(&below, value)
            })
            .collect(),
        single => vec![format!("{path} = {single}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_where_it_can_be() {
        for (text, json) in [
            ("5", json!(5)),
            ("-0.5", json!(-0.5)),
            ("true", json!(true)),
            ("[1,2]", json!([1, 2])),
            ("\"5\"", json!("5")),
            ("hello there", json!("hello there")),
            ("", json!("")),
            ("{", json!("{")),
        ] {
            assert_eq!(value(text), json, "{text}");
        }
    }

    #[test]
    fn a_table_is_shown_as_its_settings() {
        let table = json!({"a": {"b": 1, "c": {}}, "d": "x"});

        assert_eq!(settings("", &table), ["a.b = 1", "a.c = {}", "d = \"x\""]);
        assert_eq!(
            settings("app", &table),
            ["app.a.b = 1", "app.a.c = {}", "app.d = \"x\""]
        );
    }
}
