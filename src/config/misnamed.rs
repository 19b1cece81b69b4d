//! Variables that were probably meant to name a setting, and do not. Pure.

use std::collections::BTreeSet;

use super::{Origin, Problem, Sources, source::plain_name};
use crate::value::{Path, Value};

/// How many are told.
const TOLD_MAX: usize = 10;

/// The variables with one underscore after the prefix whose names are otherwise those of settings in `document`, and those that begin
/// with the prefix and the program's table: nobody looks at them. What is read under another prefix, and what Kubernetes and Docker
/// give for a service that has such a name, is none of them. Ten at most; the last says how many more there are.
pub(super) fn misnamed<'a>(
    variables: impl Iterator<Item = &'a str>,
    sources: &Sources,
    document: &Value,
) -> Vec<Problem> {
    let names: BTreeSet<&str> = variables.collect();
    let prefixes = [Some(&sources.prefix), sources.app_prefix.as_ref()];
    let meant = |name: &str| {
        let prefixes = prefixes.into_iter().flatten();
        let rests = prefixes.filter_map(|prefix| {
            let rest = name.strip_prefix(prefix.as_str())?.strip_prefix('_')?;
            Some((prefix, rest))
        });
        let is_read = rests.clone().any(|(_, rest)| rest.starts_with('_'));
        let is_free = || !is_read && !is_link(name, &names);
        let mut meant = rests.filter(|_| is_free());
        meant.find_map(|(prefix, rest)| meant_by(prefix, rest, sources, document))
    };
    let mut found = names.iter().filter_map(|name| Some((*name, meant(name)?)));
    let told: Vec<_> = found.by_ref().take(TOLD_MAX).collect();
    let more = match found.count() {
        0 => String::new(),
        more => format!(" ({more} more variables are like this one)"),
    };
    let last = told.len();
    let told = (1..).zip(told);
    told.map(|(nth, (name, meant))| Problem::Unnamed {
        reason: format!(
            "two underscores stand after the prefix and between the parts; did you mean {meant}?{}",
            if nth == last { more.as_str() } else { "" }
        ),
        origin: Origin::Environment {
            variable: name.into(),
        },
    })
    .collect()
}

/// Whether it is the address of a service with a name of its own, whose host is there, too: `…_PORT` alone may be a setting.
fn is_link(name: &str, names: &BTreeSet<&str>) -> bool {
    let hosts = names
        .iter()
        .filter_map(|name| name.strip_suffix("_SERVICE_HOST"));
    let mut rests = hosts.filter_map(|service| name.strip_prefix(service));
    rests.any(|rest| rest == "_PORT" || looks_linked(rest))
}

/// Whether it has the form of what Kubernetes and Docker give for each service: `…_SERVICE_HOST`, `…_SERVICE_PORT_HTTP`,
/// `…_PORT_80_TCP_ADDR`.
fn looks_linked(name: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|n| n.parse::<u16>().is_ok());
        number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    };
    let after = |part: &str, is: &dyn Fn(&str) -> bool| {
        let mut found = name.match_indices(part);
        found.any(|(at, _)| is(&name[at + part.len()..]))
    };
    name.ends_with("_SERVICE_HOST")
        || after("_SERVICE_PORT", &|rest| {
            rest.is_empty() || rest.starts_with('_')
        })
        || after("_PORT_", &is_port)
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
        if let Some(path) = named(app, in_app) {
            return Some(spelt(&at.join(&path).ok()?));
        }
        // What the program does not know may still be meant: little else has such a name.
        let is_other = in_app.is_empty() || looks_linked(&format!("_{}", rest.to_uppercase()));
        return (!is_other).then(|| format!("{prefix}__APP__{}", in_app.to_uppercase()));
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
            "UNDERPIN_APP_",
            "UNDERPIN_APP_SERVICE_HOST",
            "UNDERPIN_APP_WEB_SERVICE_PORT_HTTP",
            "UNDERPIN_APP_PORT_80_TCP",
            "UNDERPIN_APP_PORT_80_TCP_ADDR",
            "UNDERPIN_APP_PORT_53_UDP",
        ] {
            assert_eq!(told(other), None, "{other}");
        }
    }

    /// A variable that was read was warned of, too, and in Kubernetes every address of a service named `underpin-app`.
    #[test]
    fn what_another_prefix_reads_and_the_addresses_of_services_are_not_told() {
        let document = r#"{"app": {"port": 80}, "underpin": {}}"#;
        let document = Value::from_json(document, Limits::CONFIG).expect("test document is valid");
        let told = |names: &[&str], app_prefix: &str| {
            let sources = Sources::new::<FreeTable, FreeTable>().app_prefix(app_prefix);
            misnamed(names.iter().copied(), &sources, &document).len()
        };

        assert_eq!(told(&["UNDERPIN_APP__PORT"], "UNDERPIN_APP"), 0);
        assert_eq!(told(&["UNDERPIN_APP__PORT"], "SHOP"), 1);
        assert_eq!(told(&["UNDERPIN_APP_PORT"], "SHOP"), 1);
        let service = [
            "UNDERPIN_APP_SERVICE_HOST",
            "UNDERPIN_APP_SERVICE_PORT",
            "UNDERPIN_APP_PORT",
            "UNDERPIN_APP_PORT_80_TCP_PROTO",
        ];
        assert_eq!(told(&service, "SHOP"), 0);
    }

    #[test]
    fn ten_are_told_and_how_many_more_there_are() {
        let document = Value::from_json(r#"{"app": {}}"#, Limits::CONFIG).expect("it is valid");
        let sources = Sources::new::<FreeTable, FreeTable>();
        let names: Vec<String> = (10..30).map(|n| format!("UNDERPIN_APP_X{n}")).collect();

        let told = misnamed(names.iter().map(String::as_str), &sources, &document);

        assert_eq!(told.len(), TOLD_MAX);
        let last = told[TOLD_MAX - 1].to_string();
        assert!(
            last.starts_with("the environment variable UNDERPIN_APP_X19 "),
            "{last}"
        );
        assert!(last.contains("10 more variables"), "{last}");
    }
}
