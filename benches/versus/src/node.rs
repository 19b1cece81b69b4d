//! A whole node, as a process.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    figure::{Figure, Goal, Sides, UNDERPIN, Unit},
    program::{self, Killed},
};

pub const FIGURES: &[Figure] = &[Figure {
    name: "node.start",
    unit: Unit::Milliseconds,
    goals: &[Goal::Value(50.0)],
    sides: start,
}];

/// From the start of the process until it prints that it is ready, with an empty store on disk, HTTP included.
///
/// The program is the one that `UNDERPIN_BIN` names, else it is built from this checkout. It has no peer here: what a program
/// would start instead is not one process.
fn start(sides: &mut Sides) -> Result<()> {
    let program = match env::var_os("UNDERPIN_BIN") {
        Some(program) => PathBuf::from(program),
        None => program::build(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"),
            "underpin",
        )
        .context("building underpin; name a program with UNDERPIN_BIN")?,
    };
    let folder = sides.folder()?;
    let mut started = 0;
    sides.add(UNDERPIN, move |time| {
        let begin = Instant::now();
        let mut took = Vec::new();
        while begin.elapsed() < time || took.is_empty() {
            started += 1;
            let data = folder.path().join(started.to_string());
            took.push(until_ready(&program, &data)?.as_secs_f64() * 1e3);
        }
        Ok(crate::measure::median(&mut took))
    });
    Ok(())
}

fn until_ready(program: &Path, data: &Path) -> Result<Duration> {
    let begin = Instant::now();
    let node = Command::new(program)
        .args(["run", "--http", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let mut node = Killed(node);
    let output = node.0.stdout.take().context("its output is piped")?;
    for line in BufReader::new(output).lines() {
        if line?.starts_with("ready ") {
            return Ok(begin.elapsed());
        }
    }
    bail!("{} ended without being ready", program.display());
}
