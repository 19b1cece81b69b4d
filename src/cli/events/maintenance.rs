//! `events verify`, `repair`, `export` and `backup`: work on a data folder, without its node or beside it.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use underpin::events::{self, Disk, Fault, Folder, OpenError, Progress, Verified};

use super::eprintln_quietly;
use crate::cli::{
    arguments::{Backup, Export, Place},
    failure::Failure,
    output::Output,
};

/// Exit code 1 tells that something is wrong with the folder.
pub(in crate::cli) fn verify(place: &Place, out: &mut Output) -> Result<ExitCode, Failure> {
    let disk = Folder::new(folder_of(place)?);
    let bar = Bar::new(place.json);
    let mut faults = Faults::new(place.json, out);
    let verified = events::verify(&disk, &bar.progress(), &mut |fault| faults.tell(&fault));
    bar.clear();
    faults.end?;
    let verified = verified.map_err(|error| refused(&error))?;
    if place.json {
        out.line(versioned("verified", &verified))?;
    } else {
        tell_gaps(&verified, out)?;
        if verified.foreign > 0 {
            out.line(format_args!(
                "{} segments are of another log than the newest one: either they were copied here, or that one",
                verified.foreign
            ))?;
        }
        out.line(in_a_line(&verified))?;
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(!verified.is_whole())))
}

/// Exit code 1 tells that something is still wrong that can be mended; what is lost stays a gap.
pub(in crate::cli) fn repair(place: &Place, out: &mut Output) -> Result<ExitCode, Failure> {
    let disk: Arc<dyn Disk> = Arc::new(Folder::new(folder_of(place)?));
    let bar = Bar::new(place.json);
    let mut faults = Faults::new(place.json, out);
    let repaired = events::repair(&disk, &bar.progress(), &mut |fault| faults.tell(&fault));
    bar.clear();
    faults.end?;
    let repaired = repaired.map_err(|error| refused(&error))?;
    if place.json {
        out.line(versioned("repaired", &repaired))?;
    } else {
        for file in &repaired.rewritten {
            out.line(format_args!("{file}: written anew"))?;
        }
        for file in &repaired.quarantined {
            out.line(format_args!("{file}: keeps what was taken out"))?;
        }
        tell_gaps(&repaired.after, out)?;
        out.line(in_a_line(&repaired.after))?;
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(repaired.after.faults > 0)))
}

/// Every event as a line of JSON, as `events import` takes them.
pub(in crate::cli) fn export(export: &Export, out: &mut Output) -> Result<ExitCode, Failure> {
    let disk = Folder::new(folder_of(&export.place)?);
    let bar = Bar::new(export.place.json || export.out.is_none());
    let mut file = match &export.out {
        Some(path) => Some(BufWriter::new(
            File::create_new(path).map_err(|error| unwritable(path, &error))?,
        )),
        None => None,
    };
    let mut stopped = None;
    let exported = events::export(&disk, &bar.progress(), &mut |event| {
        let line = serde_json::to_string(event)?;
        match &mut file {
            Some(file) => writeln!(file, "{line}"),
            None => out.line(line).map_err(|failure| {
                stopped = Some(failure);
                io::ErrorKind::Interrupted.into()
            }),
        }
    });
    bar.clear();
    if let Some(failure) = stopped {
        return Err(failure);
    }
    let exported = match (exported, &export.out) {
        (Err(OpenError::Stopped(error)), Some(path)) => return Err(unwritable(path, &error)),
        (exported, _) => exported.map_err(|error| refused(&error))?,
    };
    if let (Some(file), Some(path)) = (&mut file, &export.out) {
        let done = file.flush().and_then(|()| file.get_ref().sync_all());
        done.map_err(|error| unwritable(path, &error))?;
    }
    out.flush()?;
    let whole = exported.unreadable == 0 && exported.gaps.is_empty();
    if export.place.json {
        eprintln_quietly(&versioned("exported", &exported));
    } else {
        eprintln_quietly(&format!("underpin: {} events", exported.events));
        if !whole {
            let writes = missing(&exported.gaps);
            eprintln_quietly(&format!(
                "underpin: {} events could not be read, and {writes} writes are missing; `underpin events verify` says where",
                exported.unreadable
            ));
        }
    }
    Ok(ExitCode::from(u8::from(!whole)))
}

pub(in crate::cli) fn backup(backup: &Backup, out: &mut Output) -> Result<(), Failure> {
    let from = folder_of(&backup.place)?;
    let to = backup.to.join(EVENTS);
    let bar = Bar::new(backup.place.json);
    let copied = events::backup(&from, &to, &bar.progress());
    bar.clear();
    let copied = copied.map_err(|error| refused(&error))?;
    if backup.place.json {
        out.line(versioned("backed_up", &copied))
    } else {
        out.line(format_args!(
            "{} files linked, {} copied, {} together; start on it with `underpin run --data {}`",
            copied.linked,
            copied.copied,
            bytes(copied.bytes),
            backup.to.display()
        ))
    }
}

/// Where in a data folder the events are.
const EVENTS: &str = "events";

/// Nothing is made where a path was mistyped.
fn folder_of(place: &Place) -> Result<PathBuf, Failure> {
    let folder = place.data.join(EVENTS);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(Failure::refused(
        "no_folder",
        format!(
            "there are no events in {}; say the data folder of a node with --data",
            place.data.display()
        ),
    ))
}

fn refused(error: &OpenError) -> Failure {
    let code = match error {
        OpenError::InUse => "in_use",
        OpenError::NotEmpty(_) => "not_empty",
        _ => "unreadable",
    };
    Failure::refused(code, error.to_string())
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let message = format!("{} cannot be written: {error}", path.display());
    Failure::refused("unwritable", message)
}

/// Faults as they are found.
struct Faults<'a> {
    json: bool,
    out: &'a mut Output,
    end: Result<(), Failure>,
}

impl<'a> Faults<'a> {
    fn new(json: bool, out: &'a mut Output) -> Self {
        Self {
            json,
            out,
            end: Ok(()),
        }
    }

    fn tell(&mut self, fault: &Fault) {
        if self.end.is_err() {
            return;
        }
        self.end = if self.json {
            self.out.line(versioned("fault", fault))
        } else {
            let Fault {
                file,
                offset,
                bytes,
                what,
            } = fault;
            self.out
                .line(format_args!("{file}: byte {offset}, {bytes} bytes: {what}"))
        };
    }
}

fn versioned(name: &str, what: &impl Serialize) -> String {
    format!("{{\"version\":1,\"{name}\":{}}}", json!(what))
}

fn tell_gaps(verified: &Verified, out: &mut Output) -> Result<(), Failure> {
    for gap in &verified.gaps {
        out.line(format_args!(
            "writes {} to {} of the log are missing",
            gap.first, gap.last
        ))?;
    }
    if let Some(torn) = &verified.torn {
        out.line(format_args!(
            "{}: byte {}, {} bytes: an interrupted write that nobody was told is stored; the next start cuts it off",
            torn.file, torn.offset, torn.bytes
        ))?;
    }
    Ok(())
}

fn in_a_line(verified: &Verified) -> String {
    let live = if verified.live {
        "; a node has the folder open"
    } else {
        ""
    };
    format!(
        "{} events in {} segments ({} sealed), {}: {} faults, {} writes missing{live}",
        verified.events,
        verified.segments,
        verified.sealed,
        bytes(verified.bytes),
        verified.faults,
        missing(&verified.gaps)
    )
}

fn missing(gaps: &[events::Gap]) -> u64 {
    gaps.iter().map(|gap| gap.last - gap.first + 1).sum()
}

fn bytes(bytes: u64) -> indicatif::BinaryBytes {
    indicatif::BinaryBytes(bytes)
}

/// How far it is, on a terminal only.
struct Bar(ProgressBar);

impl Bar {
    fn new(quiet: bool) -> Self {
        let bar = ProgressBar::no_length();
        let template = "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if quiet || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self(bar)
    }

    fn progress(&self) -> impl Fn(Progress) + '_ {
        |progress| {
            self.0.set_length(progress.bytes_total);
            self.0.set_position(progress.bytes_read);
        }
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}
