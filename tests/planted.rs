//! Bugs that the suite must catch, each a patch file in `tests/planted/`.
//!
//! In a run of all tests each is only looked at: it still applies, and what must catch it is still there. One command puts each into a
//! copy of the sources and shows that the tests named in it fail there, and pass in the copy without it:
//!
//! ```text
//! cargo test --test planted -- --ignored --nocapture
//! ```
//!
//! `UNDERPIN_PLANTED=<part of a name>` before it takes only those.
//!
//! A patch file begins with what the bug is, has a line `caught by: <test of the library>` for each test that must fail, and then the
//! change as `git diff -U1` writes it. The place of a change is found by its lines alone, which must stand in the file exactly once.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// One planted bug.
struct Planted {
    name: String,
    /// Paths of tests in the library.
    caught_by: Vec<String>,
    changes: Vec<Change>,
}

/// Lines of a file that stand for others.
#[derive(Default)]
struct Change {
    file: String,
    old: Vec<String>,
    new: Vec<String>,
}

impl Planted {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/planted");
        let files = fs::read_dir(folder).expect("the patches are here");
        let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
        paths.sort();
        let planted: Vec<_> = paths.iter().map(|path| Self::read(path)).collect();
        assert!(planted.len() >= 5, "patches are missing");
        planted
    }

    fn read(path: &Path) -> Self {
        let name = path.file_stem().expect("a name").to_string_lossy();
        let text = fs::read_to_string(path).expect("text");
        let mut planted = Self {
            name: name.into_owned(),
            caught_by: Vec::new(),
            changes: Vec::new(),
        };
        let mut file = String::new();
        for line in text.lines() {
            if let Some(test) = line.strip_prefix("caught by: ") {
                planted.caught_by.push(test.to_owned());
            } else if let Some(path) = line.strip_prefix("+++ b/") {
                path.clone_into(&mut file);
            } else if line.starts_with("@@") {
                planted.changes.push(Change {
                    file: file.clone(),
                    ..Change::default()
                });
            } else if let Some(change) = planted.changes.last_mut() {
                change.add(line);
            }
        }
        assert!(
            !planted.caught_by.is_empty() && !planted.changes.is_empty(),
            "{} names no test or changes nothing",
            planted.name
        );
        planted
    }

    /// The changed files of `folder`: path, and text with the bug in it.
    fn apply(&self, folder: &Path) -> Vec<(PathBuf, String)> {
        let mut changed: Vec<(PathBuf, String)> = Vec::new();
        for change in &self.changes {
            let path = folder.join(&change.file);
            let before = match changed.iter().position(|(other, _)| *other == path) {
                Some(at) => changed.swap_remove(at).1,
                None => fs::read_to_string(&path).expect("the file to change is there"),
            };
            let after = change.apply(&before).unwrap_or_else(|places| {
                panic!(
                    "tests/planted/{}.patch no longer applies: its lines stand {places} times in {}; plant the bug in the sources of \
                     today and write the patch anew with `git diff -U1`",
                    self.name, change.file
                )
            });
            changed.push((path, after));
        }
        changed
    }
}

impl Change {
    fn add(&mut self, line: &str) {
        let (sign, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
        if matches!(sign, " " | "-") {
            self.old.push(rest.to_owned());
        }
        if matches!(sign, " " | "+") {
            self.new.push(rest.to_owned());
        }
    }

    /// The text with the change; how often its old lines stand in it if that is not once.
    fn apply(&self, text: &str) -> Result<String, usize> {
        let lines: Vec<&str> = text.lines().collect();
        let places: Vec<usize> = lines
            .windows(self.old.len())
            .enumerate()
            .filter(|(_, window)| self.old == *window)
            .map(|(at, _)| at)
            .collect();
        let [place] = places[..] else {
            return Err(places.len());
        };
        let new = self.new.iter().map(String::as_str);
        let (before, after) = (&lines[..place], &lines[place + self.old.len()..]);
        let all = before
            .iter()
            .copied()
            .chain(new)
            .chain(after.iter().copied());
        Ok(all.map(|line| format!("{line}\n")).collect())
    }
}

#[test]
fn every_planted_bug_still_applies_and_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for planted in Planted::all() {
        planted.apply(root);
        for test in &planted.caught_by {
            let (module, function) = test.rsplit_once("::").expect("module::test");
            let module = module.trim_end_matches("::tests").replace("::", "/");
            let sources = fs::read_to_string(root.join("src").join(format!("{module}.rs")));
            let exists = sources.is_ok_and(|text| text.contains(&format!("fn {function}(")));
            assert!(exists, "{}: there is no test {test}", planted.name);
        }
    }
}

#[test]
#[ignore = "builds the library once for each bug: some minutes"]
fn every_planted_bug_is_caught() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    // What was built of an earlier copy is good; a file of it that has moved since is not.
    let _ = fs::remove_dir_all(copy.join("src"));
    copy_sources(Path::new(env!("CARGO_MANIFEST_DIR")), &copy);
    call_it_another_version(&copy);
    let mut planted = Planted::all();
    if let Ok(name) = env::var("UNDERPIN_PLANTED") {
        planted.retain(|planted| planted.name.contains(&name));
    }

    let all: Vec<_> = planted
        .iter()
        .flat_map(|planted| &planted.caught_by)
        .collect();
    let output = run(&copy, &all);
    for test in &all {
        assert!(
            outcome(&output, test) == Some("ok"),
            "without a bug {test} does not pass:\n{}",
            text(&output)
        );
    }
    println!("no bug: {} tests pass", all.len());

    let mut missed = Vec::new();
    for planted in &planted {
        let originals = plant(planted, &copy);
        let tests: Vec<_> = planted.caught_by.iter().collect();
        let output = run(&copy, &tests);
        for test in tests {
            match outcome(&output, test) {
                Some("FAILED") => println!("{}: caught by {test}", planted.name),
                Some("ok") => missed.push(format!("{} passes {test}", planted.name)),
                _ => panic!("{} does not run:\n{}", planted.name, text(&output)),
            }
        }
        for (path, original) in originals {
            fs::write(path, original).expect("the copy can be mended");
        }
    }
    assert_eq!(missed, [] as [String; 0], "bugs that nothing catches");
}

/// Puts the bug into the copy; answers what its files were before.
fn plant(planted: &Planted, copy: &Path) -> Vec<(PathBuf, String)> {
    let changed = planted.apply(copy);
    let replace = |(path, text): (PathBuf, String)| {
        let original = fs::read_to_string(&path).expect("readable");
        fs::write(&path, text).expect("the copy can be changed");
        (path, original)
    };
    changed.into_iter().map(replace).collect()
}

/// Everything that belongs to the package, without what was built from it.
fn copy_sources(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for the copy");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let name = entry.file_name();
        let (path, copy) = (entry.path(), to.join(&name));
        if path.is_dir() {
            if name != "target" && name != ".git" {
                copy_sources(&path, &copy);
            }
        } else if path.is_file() {
            fs::copy(&path, &copy).expect("room for the copy");
        }
    }
}

/// What is built of the copy must never be taken for what is built of the original.
fn call_it_another_version(copy: &Path) {
    let path = copy.join("Cargo.toml");
    let manifest = fs::read_to_string(&path).expect("the manifest is copied");
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"));
    let other = manifest.replacen(version, &format!("{version}-planted"), 1);
    fs::write(path, other).expect("the copy can be changed");
}

/// Runs these tests of the copy's library. The dependencies that were built for this test serve the copy too.
fn run(copy: &Path, tests: &[&String]) -> Output {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    Command::new(env!("CARGO"))
        .args(["test", "--offline", "--lib", "--", "--exact"])
        .args(tests)
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target.expect("the target folder"))
        .env("CARGO_TERM_COLOR", "never")
        .output()
        .expect("cargo runs")
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes))
        .concat()
}

/// `ok` or `FAILED`; `None` if the test was not run.
fn outcome<'a>(output: &'a Output, test: &str) -> Option<&'a str> {
    let lines = str::from_utf8(&output.stdout).ok()?.lines();
    let mut outcomes = lines.filter_map(|line| {
        let rest = line.strip_prefix("test ")?.strip_prefix(test)?;
        rest.strip_prefix(" ... ")
    });
    outcomes.next_back()
}
