//! Nodes of a cluster: two processes that talk over loopback.
//!
//! Each side of a figure is a pair of processes of the package in `cluster/`, which says why: one measures and starts the other. Each
//! has one worker thread. Messages hold 200 bytes.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, bail};

use crate::{
    figure::{Figure, Goal, LIMIT, Sides, UNDERPIN, Unit},
    program::{self, Killed},
};

const BARE: &str = "ractor_cluster";

/// After how much silence a node is down in `down.frozen`, in milliseconds. Its heartbeat is a quarter of it.
const TIMEOUT_MS: u32 = 200;

pub const FIGURES: &[Figure] = &[
    Figure {
        name: "cluster.call",
        unit: Unit::Microseconds,
        goals: &[Goal::Ratio(1.3, BARE)],
        sides: call,
    },
    Figure {
        name: "cluster.cast",
        unit: Unit::MessagesPerSecond,
        goals: &[Goal::Ratio(0.8, BARE)],
        sides: cast,
    },
    Figure {
        name: "cluster.cast64",
        unit: Unit::MessagesPerSecond,
        goals: &[Goal::Ratio(0.8, BARE)],
        sides: cast64,
    },
    Figure {
        name: "cluster.cast.batched",
        unit: Unit::MessagesPerSecond,
        goals: &[Goal::Value(1_000_000.0)],
        sides: cast_batched,
    },
    Figure {
        name: "cluster.broadcast.1000",
        unit: Unit::Microseconds,
        goals: &[Goal::Value(1100.0)],
        sides: broadcast,
    },
    Figure {
        name: "cluster.down.killed",
        unit: Unit::Milliseconds,
        goals: &[Goal::Value(100.0)],
        sides: killed,
    },
    Figure {
        name: "cluster.down.frozen",
        unit: Unit::Milliseconds,
        goals: &[Goal::Value(2.0 * TIMEOUT_MS as f64)],
        sides: frozen,
    },
];

/// One call after the other, to an actor that sends back what it got.
///
/// Not equal: underpin's request and answer are serde types and find the service by its name; `ractor_cluster` carries bytes as they
/// are, to an actor that was found before. `limit` is a frame there and back with no actor at all. The BEAM took 95 µs.
fn call(sides: &mut Sides) -> Result<()> {
    add(sides, "call", &[UNDERPIN, BARE, LIMIT])
}

/// Casts of one sender, one by one, until the last has been counted.
///
/// Not equal: `ractor_cluster` never slows whoever sends, what is not written yet lies in its mailboxes; underpin waits for credit.
/// `limit` writes 64 KiB at a time. The BEAM sent 390 to 720 thousand a second.
fn cast(sides: &mut Sides) -> Result<()> {
    add(sides, "cast", &[UNDERPIN, BARE, LIMIT])
}

/// Messages that are answered, of 64 senders with one on its way each. `limit` has a connection for each of them.
fn cast64(sides: &mut Sides) -> Result<()> {
    add(sides, "cast64", &[UNDERPIN, BARE, LIMIT])
}

/// Casts that their sender has at hand 256 at a time (`cast_all`). Nobody else has that; `limit` as for `cluster.cast`.
///
/// 1.2 to 1.7 million a second were seen, 1.2 to 1.5 one by one, where it was 0.4 to 0.7 and 0.3 to 0.6 while the reader read on when the
/// service's door of 1,024 was full: a boxed future for each cast that waits was most of the work. Now the service runs before more is
/// read for it. Both processes are busy then, the receiver with twice as much: decoding, and the mailbox of the actor.
fn cast_batched(sides: &mut Sides) -> Result<()> {
    add(sides, "cast.batched", &[UNDERPIN, LIMIT])
}

/// From the broadcast until its sender has heard that all of 1,000 members at the other node have got it.
///
/// Not equal: `ractor_cluster` has no broadcast, so that each member is sent its own message. `limit` is one frame and a loop over
/// actors of bare ractor, whose message is empty. The BEAM took 2.8 ms with a message for each, and 0.7 to 1.1 ms through a relay.
fn broadcast(sides: &mut Sides) -> Result<()> {
    add(sides, "broadcast.1000", &[UNDERPIN, BARE, LIMIT])
}

/// From the kill of the other process until this one is told that it is down. `limit`: until its connection is seen to end. The BEAM
/// took 9 ms.
fn killed(sides: &mut Sides) -> Result<()> {
    add(sides, "down.killed", &[UNDERPIN, BARE, LIMIT])
}

/// The same when the other process is stopped (SIGSTOP) and its connection stays, with a timeout of 200 ms. `ractor_cluster` never
/// finds out; the BEAM does after its net_ticktime, 60 s by default.
fn frozen(sides: &mut Sides) -> Result<()> {
    add(sides, &format!("down.frozen.{TIMEOUT_MS}"), &[UNDERPIN])
}

fn add(sides: &mut Sides, figure: &str, all: &[&'static str]) -> Result<()> {
    let program = program()?;
    for who in all {
        let mut pair = Pair::start(program, figure, who)?;
        sides.add(who, move |time| pair.sample(time.as_millis()));
    }
    Ok(())
}

/// Built once, where a figure is wanted.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAM.get().is_none() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/Cargo.toml");
        let _ = PROGRAM.set(program::build(manifest, "underpin-versus-cluster")?);
    }
    Ok(PROGRAM.get().context("it was built")?)
}

/// The process that measures, and starts the other.
struct Pair {
    _process: Killed,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Pair {
    fn start(program: &Path, figure: &str, who: &str) -> Result<Self> {
        let mut process = Command::new(program)
            .args(["measure", figure, who])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let asks = process.stdin.take().context("its input is piped")?;
        let answers = process.stdout.take().context("its output is piped")?;
        let mut pair = Self {
            _process: Killed(process),
            asks,
            answers: BufReader::new(answers),
        };
        match pair.line()?.as_str() {
            "ready" => Ok(pair),
            said => bail!("{who} is not ready: {said:?}"),
        }
    }

    fn sample(&mut self, ms: u128) -> Result<f64> {
        writeln!(self.asks, "{ms}")?;
        let said = self.line()?;
        said.parse().with_context(|| format!("it said {said:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}
