//! The house rules that a machine can check. A failure names the file and the rule.

use std::{
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
        "node",
        &[
            "value",
            "ids",
            "resilience",
            "otp",
            "telemetry",
            "config",
            "events",
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
    "layering.rs",
    "backoff.rs",
    "health.rs",
    "guard.rs",
    "query.rs",
    "recovery.rs",
    "buckets.rs",
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
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
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
