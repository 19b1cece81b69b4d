//! The house rules that a machine can check. A failure names the file and the rule.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Who may use whom, lowest floor first: a room sees the rooms listed beside it and no other.
const ROOMS: &[(&str, &[&str])] = &[
    ("value", &[]),
    ("ids", &["value"]),
    ("resilience", &[]),
    ("otp", &["ids", "resilience"]),
    ("telemetry", &["value", "ids", "resilience", "otp"]),
    (
        "config",
        &["value", "ids", "resilience", "otp", "telemetry"],
    ),
    (
        "events",
        &["value", "ids", "resilience", "otp", "telemetry"],
    ),
    (
        "web",
        &[
            "value",
            "ids",
            "resilience",
            "otp",
            "telemetry",
            "config",
            "events",
        ],
    ),
    (
        "capture",
        &["value", "ids", "resilience", "otp", "telemetry", "events"],
    ),
    (
        "cluster",
        &[
            "value",
            "ids",
            "resilience",
            "otp",
            "telemetry",
            "config",
            "events",
        ],
    ),
    (
        "node",
        &[
            "value",
            "ids",
            "resilience",
            "otp",
            "telemetry",
            "config",
            "events",
            "capture",
            "cluster",
            "web",
        ],
    ),
    (
        "testing",
        &[
            "value",
            "ids",
            "resilience",
            "otp",
            "telemetry",
            "config",
            "events",
            "web",
            "node",
        ],
    ),
];

/// Files that decide: no clock, no files, no actor, no task.
const PURE: &[&str] = &[
    "state.rs",
    "frame.rs",
    "verdict.rs",
    "intensity.rs",
    "regroup.rs",
    "supervisor/judge.rs",
    "phase.rs",
    "supervisor/record.rs",
    "effect.rs",
    "strategy.rs",
    "layering.rs",
    "backoff.rs",
    "health.rs",
    "guard.rs",
    "query.rs",
    "filter.rs",
    "comparison.rs",
    "language/mod.rs",
    "language/literal.rs",
    "language/misread.rs",
    "language/scan.rs",
    "language/writing.rs",
    "when.rs",
    "plan.rs",
    "timeline.rs",
    "lineage.rs",
    "constructors.rs",
    "portable.rs",
    "recovery.rs",
    "blocks.rs",
    "columns.rs",
    "hidden.rs",
    "index.rs",
    "bloom.rs",
    "notes.rs",
    "packed.rs",
    "record.rs",
    "chrome.rs",
    "buckets.rs",
    "routing.rs",
    "reorder.rs",
    "wire.rs",
    "credit.rs",
    "handshake.rs",
];

#[test]
fn rooms_only_use_the_floors_below() {
    for (path, text) in sources() {
        let Some((room, allowed)) = ROOMS.iter().find(|(room, _)| in_room(&path, room)) else {
            continue;
        };
        let others = ROOMS.iter().map(|(other, _)| other);
        for other in others.filter(|other| other != &room && !allowed.contains(other)) {
            assert!(
                !uses(&text, other),
                "{}: {room} must not know {other}",
                path.display()
            );
        }
    }
}

#[test]
fn every_folder_of_the_source_is_a_room_that_the_rules_know() {
    let folders = fs::read_dir("src").expect("the source is here");
    for folder in folders.flatten().filter(|entry| entry.path().is_dir()) {
        let name = folder.file_name().into_string().expect("names are UTF-8");
        let known = name == "cli" || ROOMS.iter().any(|(room, _)| *room == name);
        assert!(known, "src/{name} has no floor; give it one here");
    }
}

#[test]
fn files_that_decide_stay_pure() {
    const IMPURE: &[&str] = &[
        "ractor",
        "tokio",
        "tracing::",
        "Instant::now",
        "SystemTime::now",
        "Timestamp::now",
        "std::fs",
        "async fn",
    ];
    let pure = |path: &Path| PURE.iter().any(|name| path.ends_with(name));
    for (path, text) in sources().into_iter().filter(|(path, _)| pure(path)) {
        for word in IMPURE {
            let found = code(&text).any(|line| line.contains(word));
            assert!(!found, "{}: `{word}` belongs in the shell", path.display());
        }
    }
}

#[test]
fn only_one_file_knows_the_codec_crate() {
    for (path, text) in sources() {
        let knows = code(&text).any(|line| line.contains("bincode"));
        let may = path.starts_with("src/value");
        assert!(!knows || may, "{}: go through value::codec", path.display());
    }
}

#[test]
fn nothing_is_left_unfinished() {
    const MARKS: &[&str] = &[
        "todo!",
        "unimplemented!",
        "FIXME",
        "XXX",
        "#[ignore",
        "#[allow(",
    ];
    for (path, text) in sources() {
        for mark in MARKS {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}

#[test]
fn the_list_of_scenarios_names_every_numbered_test() {
    let list = fs::read_to_string("tests/SCENARIOS.md").expect("the list is here");
    let mut sections = list.split("\n## ");
    let with_a_story = sections.find(|section| section.starts_with("With a story"));
    let listed: BTreeSet<String> = with_a_story
        .expect("the list has this section")
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(number)
        .collect();

    let mut files = sources();
    files.extend(sources_under("tests/stories"));
    let alone = Path::new("tests/memory.rs");
    files.push((
        alone.into(),
        fs::read_to_string(alone).expect("it is there"),
    ));
    let tests = files.iter().flat_map(|(_, text)| test_names(text));
    let tested: BTreeSet<String> = tests.flat_map(numbers).collect();

    let missing: Vec<_> = tested.difference(&listed).collect();
    let idle: Vec<_> = listed.difference(&tested).collect();
    assert!(missing.is_empty(), "tests/SCENARIOS.md lacks {missing:?}");
    assert!(idle.is_empty(), "no test is named after {idle:?}");
}

#[test]
fn every_story_against_a_fault_of_the_transport_is_there() {
    let list = fs::read_to_string("tests/SCENARIOS.md").expect("the list is here");
    let mut sections = list.split("\n## ");
    let faults = sections.find(|section| section.starts_with("Faults of ractor_cluster"));
    let named = faults.expect("the list has this section").split('`');
    let is_a_name = |word: &&str| word.contains('_') && !word.contains(['.', ' ', '/']);
    let named: BTreeSet<&str> = named.skip(1).step_by(2).filter(is_a_name).collect();

    let mut files = sources();
    for folder in ["tests/stories", "tests/cluster", "tests/plain/tests"] {
        files.extend(sources_under(folder));
    }
    let there: BTreeSet<&str> = files
        .iter()
        .flat_map(|(_, text)| test_names(text))
        .collect();

    let lacking: Vec<_> = named
        .iter()
        .filter(|name| !there.contains(**name))
        .collect();
    assert!(lacking.is_empty(), "there are no such stories: {lacking:?}");
    assert!(named.len() > 10, "{named:?}");
}

/// rustdoc checks that links lead somewhere; this one tells which name is gone without building the docs.
#[test]
fn the_page_of_names_names_all_that_is_there_and_nothing_else() {
    let page = fs::read_to_string("src/otp/names.md").expect("the page is here");
    let otp = fs::read_to_string("src/otp/mod.rs").expect("the room is here");
    let otp: String = code(&otp).collect::<Vec<_>>().join(" ");
    let exported: BTreeSet<&str> = otp
        .split(';')
        .filter_map(|item| item.split("pub use ").nth(1))
        .flat_map(|list| list.split(['{', '}', ',', ':', ' ']))
        .collect();
    let sources = sources_under("src/otp");
    let is_there = |function: &str| {
        let heads = ["(", "<"].map(|end| format!("fn {function}{end}"));
        let has = |text: &str| heads.iter().any(|head| text.contains(head));
        sources.iter().any(|(_, text)| has(text))
    };

    let links = page.split("](super::").skip(1);
    let links: Vec<&str> = links.filter_map(|rest| rest.split(')').next()).collect();

    let is_linked = |name: &&str| {
        links
            .iter()
            .any(|link| link.split("::").next() == Some(name))
    };
    let is_type = |name: &&str| name.starts_with(|c: char| c.is_ascii_uppercase());
    let missing: Vec<_> = exported
        .iter()
        .filter(|name| is_type(name) && !is_linked(name))
        .collect();
    assert!(missing.is_empty(), "src/otp/names.md lacks {missing:?}");
    for link in links {
        let (name, function) = link.split_once("::").unwrap_or((link, ""));
        assert!(
            exported.contains(name),
            "src/otp/names.md: there is no otp::{name}"
        );
        let found = function.is_empty() || is_there(function);
        assert!(found, "src/otp/names.md: there is no otp::{link}");
    }
}

#[test]
fn the_name_of_a_test_says_its_numbers() {
    assert_eq!(numbers("f36_an_event"), ["F36"]);
    assert_eq!(numbers("f105_and_f107_each"), ["F105", "F107"]);
    assert_eq!(numbers("f20_f21_any"), ["F20", "F21"]);
    assert_eq!(numbers("t01_to_t03_a_child"), ["T01", "T02", "T03"]);
    assert_eq!(numbers("a_plain_name"), [""; 0]);
}

/// The scenarios a test stands for: `f36_…`, `f20_f21_…`, `f105_and_f107_…`, `t01_to_t03_…`.
fn numbers(test: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut words = test.split('_').peekable();
    let mut range = false;
    while let Some(word) = words.next() {
        match (number(&word.to_uppercase()), word) {
            (Some(last), _) if range => {
                let first = found.pop().expect("a range has a beginning");
                found.extend(from_to(&first, &last));
                range = false;
            }
            (Some(one), _) => found.push(one),
            (None, "and" | "to") if !found.is_empty() => {
                let goes_on = words.peek().and_then(|next| number(&next.to_uppercase()));
                range = word == "to" && goes_on.is_some();
            }
            (None, _) => break,
        }
    }
    found
}

fn from_to(first: &str, last: &str) -> Vec<String> {
    let (letter, digits) = first.split_at(1);
    let of = |digits: &str| digits.parse::<u32>().expect("a number has digits");
    (of(digits)..=of(&last[1..]))
        .map(|n| format!("{letter}{n:0width$}", width = digits.len()))
        .collect()
}

/// The number of a scenario: a capital letter, then digits.
fn number(word: &str) -> Option<String> {
    let digits = word.strip_prefix(|c: char| c.is_ascii_uppercase())?;
    let fits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| word.to_owned())
}

/// The functions whose attributes, which stand right above them, say that they are tests.
fn test_names(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            return None;
        }
        let function = line.trim_start_matches("async ").strip_prefix("fn ")?;
        let name = function.split(['(', '<']).next();
        std::mem::take(&mut is_test).then_some(name).flatten()
    })
}

/// Lines of code before the unit tests, comments left out.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    before_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Whether code names a room: `crate::room`, or `room::` or `room,` inside of `use crate::{…}`.
fn uses(text: &str, room: &str) -> bool {
    let code: Vec<&str> = code(text).collect();
    let code = code.join("\n");
    if code.contains(&format!("crate::{room}::")) || code.contains(&format!("crate::{room};")) {
        return true;
    }
    code.split("use crate::{").skip(1).any(|rest| {
        let list = rest.split("};").next().unwrap_or_default();
        list.lines().any(|line| {
            let line = line.trim_start();
            let depth_one = line.strip_prefix(room);
            depth_one.is_some_and(|after| after.starts_with("::") || after.starts_with(','))
        })
    })
}

fn in_room(path: &Path, room: &str) -> bool {
    path.starts_with(format!("src/{room}"))
}

fn sources() -> Vec<(PathBuf, String)> {
    sources_under("src")
}

fn sources_under(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("the source is readable")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).expect("the source is UTF-8");
                found.push((path, text));
            }
        }
    }
    found
}
