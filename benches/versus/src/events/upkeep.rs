//! What a store of many events costs: to open, to prune, in memory and on the disk.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use underpin::{
    events::{Durability, Options},
    ids::CorrelationId,
};

use super::{
    engines::{self, Open},
    finding::fill,
    material::Material,
    store::Store,
};
use crate::{
    figure::{Sides, UNDERPIN},
    measure::Workers,
};

/// How long opening a store of so many events takes, from the start of its supervisor until it answers one question. The engines open
/// what they closed, and answer the same question.
pub(super) fn open(sides: &mut Sides, count: usize, peers: bool) -> Result<()> {
    let (runtime, kept) = (Workers::Two.runtime(), sides.folder()?);
    let asked = filled(&runtime, options(), kept.path(), count)?;
    let folder = sides.folder()?;
    sides.add(UNDERPIN, move |_| {
        let own = copy(kept.path(), folder.path())?;
        let begin = Instant::now();
        let store = Store::start(&runtime, options(), own.path())?;
        let found = runtime.block_on(store.events.correlation(&asked[0]))?;
        let took = begin.elapsed();
        ensure!(!found.events.is_empty() && store.events.stats().events == count as u64);
        store.stop(&runtime);
        Ok(took.as_secs_f64() * 1e3)
    });
    if !peers {
        return Ok(());
    }
    for (who, open) in engines::ALL {
        let folder = sides.folder()?;
        let asked = filled_engine(open, folder.path(), count)?;
        sides.add(who, move |_| {
            let begin = Instant::now();
            let engine = open(folder.path())?;
            ensure!(!engine.correlation(asked)?.is_empty());
            let took = begin.elapsed();
            Ok(took.as_secs_f64() * 1e3)
        });
    }
    Ok(())
}

/// How long it takes to prune the older half, until that is durable; its files must be gone, and with them a fifth of
/// the bytes: the segment that grows is not compressed, and stays.
pub(super) fn prune(sides: &mut Sides, count: usize) -> Result<()> {
    let (runtime, kept) = (Workers::Two.runtime(), sides.folder()?);
    filled(&runtime, options(), kept.path(), count)?;
    let folder = sides.folder()?;
    sides.add(UNDERPIN, move |_| {
        let own = copy(kept.path(), folder.path())?;
        let store = Store::start(&runtime, options(), own.path())?;
        let before = bytes_of(own.path())?;
        let begin = Instant::now();
        let pruned = runtime.block_on(store.events.prune_to(count as u64 / 2))?;
        let took = begin.elapsed();
        ensure!(pruned == count as u64 / 2);
        while bytes_of(own.path())? * 5 > before * 4 {
            ensure!(
                begin.elapsed() < Duration::from_secs(10),
                "no space comes back"
            );
            thread::sleep(Duration::from_millis(1));
        }
        store.stop(&runtime);
        Ok(took.as_secs_f64() * 1e3)
    });
    Ok(())
}

/// Bytes of memory that each event takes while it is hot, with its index: what the process takes more for a million of them.
pub(super) fn hot_bytes(sides: &mut Sides, count: usize) -> Result<()> {
    let runtime = Workers::Two.runtime();
    let before = resident()?;
    let store = Store::in_memory(&runtime)?;
    fill(&runtime, &store.events, count);
    let taken = resident()?.saturating_sub(before);
    let known = store.events.stats().hot_bytes;
    ensure!(
        taken >= known,
        "the store took what figures before it had given back; measure events.bytes.hot alone"
    );
    // Once: a second store would take what the first one gave back.
    store.stop(&runtime);
    sides.add(UNDERPIN, move |_| Ok(taken as f64 / count as f64));
    Ok(())
}

/// Bytes of the disk that each event takes once its segment is sealed, with the index, and with the one small segment that still grows.
pub(super) fn sealed_bytes(sides: &mut Sides, count: usize) -> Result<()> {
    let (runtime, folder) = (Workers::Two.runtime(), sides.folder()?);
    let options = Options {
        segment_bytes: 4 << 20,
        ..options()
    };
    filled(&runtime, options, folder.path(), count)?;
    let each = bytes_of(folder.path())? as f64 / count as f64;
    sides.add(UNDERPIN, move |_| Ok(each));
    for (who, open) in engines::ALL {
        let folder = sides.folder()?;
        let _ = filled_engine(open, folder.path(), count)?;
        let each = bytes_of(folder.path())? as f64 / count as f64;
        sides.add(who, move |_| Ok(each));
    }
    Ok(())
}

/// Bytes of memory that a store of so many events counts as its own once it is open and has answered.
pub(super) fn open_bytes(sides: &mut Sides, count: usize) -> Result<()> {
    let (runtime, folder) = (Workers::Two.runtime(), sides.folder()?);
    let asked = filled(&runtime, options(), folder.path(), count)?;
    sides.add(UNDERPIN, move |_| {
        let store = Store::start(&runtime, options(), folder.path())?;
        for id in asked.iter().step_by(asked.len() / 1000) {
            runtime.block_on(store.events.correlation(id))?;
        }
        let stats = store.events.stats();
        store.stop(&runtime);
        Ok((stats.hot_bytes + stats.index_bytes + stats.cache_bytes) as f64)
    });
    Ok(())
}

fn options() -> Options {
    Options {
        durability: Durability::Interval(Duration::from_secs(1)),
        ..Options::default()
    }
}

/// Fills a store, lets it seal all that is full, and stops it; answers some of its correlations.
fn filled(
    runtime: &Runtime,
    options: Options,
    folder: &Path,
    count: usize,
) -> Result<Vec<CorrelationId>> {
    let store = Store::start(runtime, options, folder)?;
    let asked = fill(runtime, &store.events, count);
    let begin = Instant::now();
    let waits = || {
        let stats = store.events.stats();
        stats.sealed + 1 < stats.segments
    };
    while waits() {
        ensure!(
            begin.elapsed() < Duration::from_mins(2),
            "sealing takes too long"
        );
        thread::sleep(Duration::from_millis(10));
    }
    store.stop(runtime);
    Ok(asked)
}

/// Fills an engine and closes it; answers one of its correlations.
fn filled_engine(open: Open, folder: &Path, count: usize) -> Result<u64> {
    const AT_ONCE: usize = 50_000;
    let (engine, mut material) = (open(folder)?, Material::new());
    let mut asked = 0;
    for _ in 0..count / AT_ONCE {
        let records = material.records(AT_ONCE);
        engine.commit(&records)?;
        asked = records[0].correlation;
    }
    Ok(asked)
}

/// A folder as it was when its store was stopped: what never changes is linked.
fn copy(kept: &Path, sides: &Path) -> Result<TempDir> {
    let own = tempfile::tempdir_in(sides)?;
    for file in fs::read_dir(kept)? {
        let file = file?;
        let (from, to) = (file.path(), own.path().join(file.file_name()));
        if from.extension().is_some_and(|ending| ending == "seg") {
            fs::copy(&from, &to)?;
        } else {
            fs::hard_link(&from, &to)?;
        }
    }
    Ok(own)
}

/// Bytes of all files beneath a folder.
fn bytes_of(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(folder)? {
        let file = file?;
        // A file may go while the folder is read.
        let Ok(metadata) = file.metadata() else {
            continue;
        };
        bytes += if metadata.is_dir() {
            bytes_of(&file.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

/// Bytes of memory that the process has.
fn resident() -> Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_whitespace().nth(1).unwrap_or_default();
    Ok(pages.parse::<u64>()? * PAGE_BYTES)
}
