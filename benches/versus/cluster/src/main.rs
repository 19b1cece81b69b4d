//! Two processes that talk over loopback, for the figures `cluster.*` of the side-by-side bench, which starts this program.
//!
//! A package of its own: ractor's feature `cluster`, which all of it needs, makes every message of a program dearer, and the other
//! figures are measured without it. Each side is a pair of processes: ractor_cluster carries every actor of its process.
//!
//! `measure FIGURE WHO` reads lines of milliseconds from its input, and answers each with what was measured in that time. `peer WHO`
//! is the other process: it prints where it listens and ends with its input. Each process has one worker thread, so that two of them
//! have a core each where there are two.

mod limit;
mod machine;
mod own;
mod peer;
mod ractor_cluster;
mod work;

use std::{
    env,
    io::{BufRead, Write, stdin, stdout},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;

/// What one message holds, as everywhere in the bench.
const BYTES: usize = 200;
const MEMBERS: u64 = 1000;
/// How many calls are under way at once in `cast64`.
const CALLERS: u64 = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    match arguments[..] {
        ["measure", figure, who] => measure(&runtime, figure, who),
        ["peer", who] => peer(&runtime, who),
        _ => bail!("it is started by underpin-versus: `measure FIGURE WHO` or `peer WHO`"),
    }
}

fn measure(runtime: &Runtime, figure: &str, who: &str) -> Result<()> {
    let side = machine::side(who)?;
    let mut sample = machine::sampler(runtime, side, figure)?;
    println!("ready");
    stdout().flush()?;
    for line in stdin().lock().lines() {
        let time: u64 = line?.parse().context("milliseconds")?;
        let value = sample(runtime, Duration::from_millis(time))?;
        println!("{value}");
        stdout().flush()?;
    }
    Ok(())
}

fn peer(runtime: &Runtime, who: &str) -> Result<()> {
    let address = match machine::side(who)? {
        machine::Side::Underpin => runtime.block_on(own::serve())?,
        machine::Side::RactorCluster => runtime.block_on(ractor_cluster::serve())?,
        machine::Side::Limit => runtime.block_on(limit::serve())?,
    };
    println!("{address}");
    stdout().flush()?;
    // The measuring process holds the other end.
    let mut nothing = String::new();
    stdin().read_line(&mut nothing)?;
    std::process::exit(0);
}
