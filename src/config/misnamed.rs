//! Variables that were probably meant to name a setting, and do not. Pure.

use super::{Origin, Problem, Sources, source::plain_name};
use crate::value::{Path, Value};

/// The variables with one underscore after the prefix whose names are otherwise those of settings in `document`, and all that begin
/// with the prefix and the program's table: nobody looks at them.
pub(super) fn misnamed<'a>(
    variables: impl Iterator<Item = &'a str>,
    sources: &Sources,
    document: &Value,
) -> Vec<Problem> {
    let prefixes = [Some(sources.prefix.as_str()), sources.app_prefix.as_deref()];
    let meant = |name: &str| {
        let mut prefixes = prefixes.iter().flatten();
        prefixes.find_map(|prefix| {
            let rest = name.strip_prefix(prefix)?.strip_prefix('_')?;
            let is_ours = rest.starts_with('_');
            (!is_ours).then(|| meant_by(prefix, rest, sources, document))?
        })
    };
    variables
        .filter_map(|name| {
            Some(Problem::Unnamed {
                reason: format!(
                    "two underscores stand after the prefix and between the parts; did you mean {}?",
                    meant(name)?
                ),
                origin: Origin::Environment {
                    variable: name.into(),
                },
            })
        })
        .collect()
}

/// The name of the variable that `rest`, which stands after the prefix, was probably meant for.
fn meant_by(prefix: &str, rest: &str, sources: &Sources, document: &Value) -> Option<String> {
    let wanted = rest.to_lowercase().replace("__", "_");
    let is_common = prefix == sources.prefix;
    let table = |name: &str| {
        Some((
            Path::from_components([name]).ok()?,
            document.as_map()?.get(name)?,
        ))
    };
    let spelt = |path: &Path| {
        let parts = path
            .components()
            .map(|part| plain_name(part).to_uppercase());
        format!("{prefix}__{}", parts.collect::<Vec<_>>().join("__"))
    };
    let named = |table: &Value, wanted: &str| setting(table, &Path::root(), wanted);
    if is_common && let Some(in_app) = wanted.strip_prefix("app_") {
        let (at, app) = table(Sources::APP)?;
        // What the program does not know may still be meant: nothing else has such a name.
        return Some(match named(app, in_app) {
            Some(path) => spelt(&at.join(&path).ok()?),
            None => format!("{prefix}__APP__{}", in_app.to_uppercase()),
        });
    }
    let name = if is_common {
        Sources::NODE
    } else {
        Sources::APP
    };
    named(table(name)?.1, &wanted).map(|path| spelt(&path))
}

/// The setting whose parts make `wanted` when one underscore stands between them.
fn setting(value: &Value, at: &Path, wanted: &str) -> Option<Path> {
    let Value::Map(map) = value else {
        return wanted.is_empty().then(|| at.clone());
    };
    map.iter().find_map(|(key, value)| {
        let rest = wanted.strip_prefix(&plain_name(key))?;
        let rest = match rest.strip_prefix('_') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
        setting(value, &at.child(key).ok()?, rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::FreeTable, value::Limits};

    #[test]
    fn one_underscore_in_the_place_of_two_is_told_and_other_programs_variables_are_not() {
        let document = r#"{"app": {"http": {"max-body": 1}, "http_port": 80}, "underpin": {"events": {"durability": "always"}, "node": {"x": 1}}}"#;
        let document = Value::from_json(document, Limits::CONFIG).expect("test document is valid");
        let sources = Sources::new::<FreeTable, FreeTable>().app_prefix("SHOP");
        let told = |name: &str| {
            let found = misnamed(std::iter::once(name), &sources, &document);
            found.first().map(ToString::to_string)
        };

        for (name, meant) in [
            (
                "UNDERPIN_APP_HTTP_MAX_BODY",
                "UNDERPIN__APP__HTTP__MAX_BODY",
            ),
            (
                "UNDERPIN_APP__HTTP__MAX_BODY",
                "UNDERPIN__APP__HTTP__MAX_BODY",
            ),
            ("UNDERPIN_APP_HTTP_PORT", "UNDERPIN__APP__HTTP_PORT"),
            ("UNDERPIN_APP_OTHER", "UNDERPIN__APP__OTHER"),
            ("UNDERPIN_EVENTS_DURABILITY", "UNDERPIN__EVENTS__DURABILITY"),
            ("SHOP_HTTP_PORT", "SHOP__HTTP_PORT"),
        ] {
            let told = told(name).unwrap_or_default();
            assert!(
                told.starts_with(&format!("the environment variable {name} ")),
                "{told}"
            );
            assert!(told.ends_with(&format!("did you mean {meant}?")), "{told}");
        }
        for other in [
            "UNDERPIN__APP__HTTP__MAX_BODY",
            "UNDERPIN_NODE",
            "UNDERPIN_COOKIE",
            "UNDERPIN_LOG",
            "UNDERPIN_EVENTS",
            "UNDERPINNED_APP_X",
            "SHOP_HOME",
            "SHOP__X",
            "PATH",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
