//! What a store of many events costs: to open, to prune, in memory and on the disk.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    path::Path,
    process::Command,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use underpin::{
    events::{Durability, Options},
    ids::CorrelationId,
};

use super::{
    engines::{self, Open},
    finding::fill,
    inline::Inline,
    material::Material,
    store::Store,
};
use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::Workers,
};

/// How long opening a store of so many events takes, from the start of its supervisor until it answers one question. The engines open
/// what they closed, and answer the same question. `limit` reads and checks what has to be read, the segment that grows and the
/// directories of the others, and indexes the events of the former; it starts nothing and answers nothing, and keeps no event in memory.
/// For underpin those are the newest it has.
///
/// 28 to 30 ms where the limit took 17 to 24, and 64 before whole frames were read piece by piece: all of the segment was in memory a second
/// time. Of what is left two fifths go into fresh memory for the hot events, a third into the index, a seventh into reading.
pub(super) fn open(sides: &mut Sides, count: usize, peers: bool) -> Result<()> {
    let (runtime, kept) = (Workers::Two.runtime(), sides.folder()?);
    let asked = filled(&runtime, options(), kept.path(), count)?;
    let kept = Rc::new(kept);
    let folder = sides.folder()?;
    add_reading(sides, &kept);
    let filled = kept.clone();
    sides.add(UNDERPIN, move |_| {
        let own = copy(filled.path(), folder.path())?;
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
        let asked = fill_engine(open, folder.path(), count)?.correlation;
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

/// What an opening cannot do without.
fn add_reading(sides: &mut Sides, kept: &Rc<TempDir>) {
    let kept = kept.clone();
    sides.add(LIMIT, move |_| {
        let (begin, mut index) = (Instant::now(), Inline::default());
        for file in fs::read_dir(kept.path())? {
            let path = file?.path();
            match path.extension().and_then(OsStr::to_str) {
                Some("seg") => read_segment(&fs::read(&path)?, &mut index)?,
                Some("index") => read_directory(&path)?,
                _ => {}
            }
        }
        std::hint::black_box(index);
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    });
}

/// Bytes of a frame's header; where in it are the lengths of the front and of the body, and the body's checksum.
const HEADER_BYTES: usize = 52;
const FRONT: usize = 36;
const BODY: usize = 40;
const CHECKSUM: usize = 44;

fn number(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn read_segment(bytes: &[u8], index: &mut Inline) -> Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let (header, rest) = bytes[at..].split_at(HEADER_BYTES);
        let body = &rest[..number(header, BODY)];
        ensure!(crc32c::crc32c(body) as usize == number(header, CHECKSUM));
        let mut records = &body[number(header, FRONT)..];
        while !records.is_empty() {
            let (record, more) = records.split_at(number(records, 0));
            index.take(record);
            records = more;
        }
        at += HEADER_BYTES + body.len();
    }
    Ok(())
}

fn read_directory(path: &Path) -> Result<()> {
    let mut file = fs::File::open(path)?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let mut body = vec![0; number(&header, BODY)];
    file.read_exact(&mut body)?;
    ensure!(crc32c::crc32c(&body) as usize == number(&header, CHECKSUM));
    Ok(())
}

/// How long it takes to prune the older half, until that is durable; its files must be gone, and with them a fifth of
/// the bytes: the segment that grows is not compressed, and stays.
///
/// `limit` syncs 100 bytes and removes as many files as that half has. The engines delete the older half in one transaction, and give no
/// space back; they are filled and measured once, since each time takes seconds.
pub(super) fn prune(sides: &mut Sides, count: usize, peers: bool) -> Result<()> {
    let (runtime, kept) = (Workers::Two.runtime(), sides.folder()?);
    filled(&runtime, options(), kept.path(), count)?;
    let kept = Rc::new(kept);
    let (folder, filled) = (sides.folder()?, kept.clone());
    sides.add(UNDERPIN, move |_| {
        let own = copy(filled.path(), folder.path())?;
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
    let folder = sides.folder()?;
    sides.add(LIMIT, move |_| {
        let own = copy(kept.path(), folder.path())?;
        let files = fs::read_dir(own.path())?.map(|file| Ok(file?.path()));
        let mut files = files.collect::<Result<Vec<_>>>()?;
        files.retain(|path| path.extension().is_some_and(|ending| ending != "seg"));
        files.sort();
        let mut log = fs::File::create_new(own.path().join("plain.log"))?;
        let begin = Instant::now();
        log.write_all(&[7; 100])?;
        log.sync_data()?;
        for file in &files[..files.len() / 2] {
            fs::remove_file(file)?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    });
    if !peers {
        return Ok(());
    }
    for (who, open) in engines::ALL {
        let folder = sides.folder()?;
        let middle = fill_engine(open, folder.path(), count)?.middle;
        let engine = open(folder.path())?;
        let begin = Instant::now();
        let pruned = engine.prune(middle)?;
        let took = begin.elapsed();
        ensure!(pruned == count as u64 / 2, "{who} deleted {pruned}");
        sides.add(who, move |_| Ok(took.as_secs_f64() * 1e3));
    }
    Ok(())
}

/// Bytes of memory that each event takes while it is hot, with its index: what the process takes more for a million of them. Measured in a
/// process of its own: in this one figures before it gave memory back, which the store would take without asking the system for more.
pub(super) fn hot_bytes(sides: &mut Sides, count: usize) -> Result<()> {
    const ALONE: &str = "UNDERPIN_VERSUS_ALONE";
    let each = if env::var_os(ALONE).is_some() {
        hot_bytes_here(count)?
    } else {
        let folder = sides.folder()?;
        let tsv = folder.path().join("hot.tsv");
        let own = Command::new(env::current_exe()?)
            .args(["events.bytes.hot", "--quick", "--tsv"])
            .arg(&tsv)
            .env(ALONE, "1")
            .output()?;
        let said = String::from_utf8_lossy(&own.stderr);
        ensure!(own.status.success(), "the process of its own says: {said}");
        let line = fs::read_to_string(&tsv)?;
        let value = line.split('\t').nth(2).context("a figure has a value")?;
        value.parse()?
    };
    sides.add(UNDERPIN, move |_| Ok(each));
    Ok(())
}

fn hot_bytes_here(count: usize) -> Result<f64> {
    let runtime = Workers::Two.runtime();
    let before = resident()?;
    let store = Store::in_memory(&runtime)?;
    fill(&runtime, &store.events, count);
    let taken = resident()?.saturating_sub(before);
    let known = store.events.stats().hot_bytes;
    ensure!(taken >= known, "less was taken than the events have");
    store.stop(&runtime);
    Ok(taken as f64 / count as f64)
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
        fill_engine(open, folder.path(), count)?;
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

/// What an engine was filled with.
struct Filled {
    /// A correlation that is asked for.
    correlation: u64,
    /// The first id of the newer half.
    middle: u64,
}

/// Fills an engine and closes it.
fn fill_engine(open: Open, folder: &Path, count: usize) -> Result<Filled> {
    const AT_ONCE: usize = 50_000;
    let (engine, mut material) = (open(folder)?, Material::new());
    let mut filled = Filled {
        correlation: 0,
        middle: 0,
    };
    for part in 0..count / AT_ONCE {
        let records = material.records(AT_ONCE);
        engine.commit(&records)?;
        filled.correlation = records[0].correlation;
        if part == count / AT_ONCE / 2 {
            filled.middle = records[0].id;
        }
    }
    Ok(filled)
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
