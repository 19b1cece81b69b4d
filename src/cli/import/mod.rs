//! `events import`: lines of a file or a pipe become events, each exactly once.
//!
//! ```text
//! file ─▶ lines ─▶ format (ndjson, tracing_json, text) ─▶ batch ─▶ sender ─▶ node
//! └────────── a thread of its own (reader) ──────────────┘         └─ this thread
//! ```
//! How far a file was read is kept in the node's store, in one frame with the events ([`checkpoint::Checkpoint`]). Every batch travels
//! under ids that are named by the checkpoint before it, so the lines of a batch that was under way when either side was killed are
//! sent again under the same ids, and the store takes each once. One import of a file at a time (a lock on the file). Memory: a batch
//! being read, two waiting, one being sent.

mod batch;
mod checkpoint;
mod correlation;
mod data;
mod follow;
mod format;
mod interrupt;
mod lines;
mod members;
mod ndjson;
mod reader;
mod report;
mod sender;
mod stamp;
mod text;
mod tracing_json;

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};

use self::{
    batch::Batch,
    checkpoint::{Checkpoint, Place, Start},
    format::{Context, Format},
    interrupt::Interrupt,
    reader::{Pipe, Reader, Source, Unfinished},
    report::Report,
    sender::{Kept, SendError, Sender},
    stamp::Calendar,
};
use super::{
    arguments::{FormatChoice, Import},
    client::{Client, ClientError},
    failure::Failure,
    output::Output,
};

/// The longest kind and source of an event.
pub(super) const NAME_BYTES_MAX: usize = 256;

/// How much of an input is looked at to tell its format.
const HEAD_BYTES: u64 = 64 * 1024;
/// Batches that wait to be sent, beside the one being read and the one being sent.
const BATCHES_WAITING: usize = 2;
/// How often an import begins again because another one had its last request still under way.
const BEGINNINGS_MAX: usize = 5;

/// What the thread that reads has to say.
enum Message {
    Batch { batch: Box<Batch>, skipped: u64 },
    Unreadable(io::Error),
    Interrupted,
}

/// How an attempt ended that did not fail.
enum End {
    Done,
    /// The checkpoint was moved by somebody else: begin again from where it is.
    Moved,
}

/// Where an import stands that goes on with its file.
#[derive(Debug, Default)]
struct Standing {
    /// How far the file was read: the store is only told together with events.
    reached: Option<Checkpoint>,
    /// What the store was told last. Where it has another checkpoint, or none any more, nothing of this holds.
    in_store: Option<Checkpoint>,
    /// The last line, when it had no end yet.
    unfinished: Option<Unfinished>,
}

/// Imports, and says how it went.
pub(super) fn import(arguments: &Import, out: &mut Output) -> Result<ExitCode, Failure> {
    let mut report = Report::new(arguments.reach.json, length(arguments));
    let ended = attempts(arguments, &mut report);
    report.end();
    if let Err(failure) = ended {
        return Err(how_to_go_on(failure, arguments, &report));
    }
    if arguments.reach.json {
        out.line(report.tally.json())?;
    } else {
        out.line(report.line())?;
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(report.tally.all_refused())))
}

fn attempts(arguments: &Import, report: &mut Report) -> Result<(), Failure> {
    let client = Client::new(&arguments.reach.node);
    let interrupt = Interrupt::default();
    match open(&arguments.file)? {
        Input::Pipe(pipe) => import_pipe(&client, arguments, pipe, &interrupt, report),
        Input::File(file) if arguments.follow => {
            follow::follow(&client, arguments, file, &interrupt, report)
        }
        Input::File(file) => {
            let mut standing = Standing::default();
            file_attempts(&client, arguments, &file, &mut standing, &interrupt, report)
        }
    }
}

fn file_attempts(
    client: &Client,
    arguments: &Import,
    file: &LockedFile,
    standing: &mut Standing,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), Failure> {
    for _ in 0..BEGINNINGS_MAX {
        match import_file(client, arguments, file, standing, interrupt, report)? {
            End::Done => return Ok(()),
            End::Moved => *standing = Standing::default(),
        }
    }
    Err(Failure::refused(
        "busy",
        "another import of this file is under way on another machine; wait until it has ended",
    ))
}

enum Input {
    File(LockedFile),
    Pipe(Box<dyn Read + Send>),
}

/// A file, locked against another import while this is held; with the key of its checkpoint.
struct LockedFile {
    file: File,
    key: String,
    /// More will come: a last line without its end is left until it has one.
    grows: bool,
}

fn open(path: &Path) -> Result<Input, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Input::Pipe(Box::new(io::stdin())));
    }
    let file = open_file(path)?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err(unreadable(path, &"it is a folder"));
    }
    if !metadata.is_file() {
        return Ok(Input::Pipe(Box::new(file)));
    }
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(Failure::refused(
            "busy",
            format!(
                "{} is being imported by another process; wait until it has ended",
                path.display()
            ),
        ));
    }
    let canonical = path
        .canonicalize()
        .map_err(|error| unreadable(path, &error))?;
    Ok(Input::File(LockedFile {
        file,
        key: checkpoint::key(&canonical.to_string_lossy()),
        grows: false,
    }))
}

fn open_file(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn import_file(
    client: &Client,
    arguments: &Import,
    LockedFile { file, key, grows }: &LockedFile,
    standing: &mut Standing,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<End, Failure> {
    let mut file = file
        .try_clone()
        .map_err(|error| unreadable(&arguments.file, &error))?;
    let in_store = match sender::checkpoint(client, key) {
        Err(ClientError::Foreign(_)) if arguments.from_start => None,
        stored => stored?,
    };
    if standing.in_store != in_store {
        *standing = Standing::default();
    }
    let begun = report.tally.lines() > 0;
    let in_store_wanted = || in_store.clone().filter(|_| begun || !arguments.from_start);
    let wanted = standing.reached.clone().or_else(in_store_wanted);
    let start = Checkpoint::resume(wanted, |start, bytes| reader::print(&file, start, bytes))
        .map_err(|error| unreadable(&arguments.file, &error))?;
    let at = match start {
        Start::At(at) => Some(at),
        Start::New | Start::Replaced => None,
    };
    let (place, open) = at
        .as_ref()
        .map_or_else(Default::default, |at| (at.place(), at.open));
    report.skipped(place.done.saturating_sub(report.tally.lines()));

    let head =
        head(&mut file, place.offset).map_err(|error| unreadable(&arguments.file, &error))?;
    let context = context(arguments, reader::last_change(&file));
    let format = Format::choose(arguments.format, &head);
    report.format = Some(format);
    let mut reader = Reader::new(file, format, context, place, open);
    if let Some(line) = &standing.unfinished {
        reader = reader.going_on_with(line.clone());
    }
    if *grows {
        reader = reader.only_whole_lines();
    }
    let mut sender = Sender::new(
        client,
        interrupt,
        Duration::from_secs(arguments.retry_for),
        Some(Kept {
            key: key.clone(),
            at,
            in_store,
        }),
    );
    carry_over(interrupt, reader, &mut sender, arguments, standing, report)
}

fn import_pipe(
    client: &Client,
    arguments: &Import,
    mut pipe: Box<dyn Read + Send>,
    interrupt: &Interrupt,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut sender = Sender::new(
        client,
        interrupt,
        Duration::from_secs(arguments.retry_for),
        None,
    );
    // Nobody wants to type into a pipe to learn that no node is there.
    let _: serde_json::Value = client.get("/api/v1/status", &[])?;
    let head = match arguments.format {
        FormatChoice::Auto => first_line(&mut pipe),
        _ => Ok(Vec::new()),
    }
    .map_err(|error| unreadable(&arguments.file, &error))?;
    let format = Format::choose(arguments.format, &head);
    report.format = Some(format);
    let context = context(arguments, Timestamp::now());
    let input = Pipe(io::Cursor::new(head).chain(pipe));
    let reader = Reader::new(input, format, context, Place::default(), None);
    let mut standing = Standing::default();
    // Without a checkpoint there is none to be moved.
    carry_over(
        interrupt,
        reader,
        &mut sender,
        arguments,
        &mut standing,
        report,
    )
    .map(|_| ())
}

/// Reads in a thread, sends in this one.
fn carry_over<S: Source + Send + 'static>(
    interrupt: &Interrupt,
    reader: Reader<S>,
    sender: &mut Sender<'_>,
    arguments: &Import,
    standing: &mut Standing,
    report: &mut Report,
) -> Result<End, Failure> {
    let (batches, inbox) = sync_channel(BATCHES_WAITING);
    let wake = batches.clone();
    interrupt.listen(move || {
        // Whoever has ended already needs no waking.
        let _ = wake.send(Message::Interrupted);
    });
    thread::spawn(move || read(reader, &batches));
    send(&inbox, interrupt, sender, arguments, standing, report)
}

fn read<S: Source>(mut reader: Reader<S>, batches: &SyncSender<Message>) {
    loop {
        let message = match reader.next_batch() {
            Ok(batch) => Message::Batch {
                skipped: reader.take_skipped(),
                batch: batch.into(),
            },
            Err(error) => Message::Unreadable(error),
        };
        let over = !matches!(&message, Message::Batch { batch, .. } if !batch.last);
        // When nobody listens any more, the import has ended.
        if batches.send(message).is_err() || over {
            return;
        }
    }
}

fn send(
    inbox: &Receiver<Message>,
    interrupt: &Interrupt,
    sender: &mut Sender<'_>,
    arguments: &Import,
    standing: &mut Standing,
    report: &mut Report,
) -> Result<End, Failure> {
    for message in inbox {
        let (mut batch, skipped) = match message {
            Message::Batch { .. } | Message::Interrupted if interrupt.is_asked() => {
                return Err(Failure::Interrupted("interrupted".into()));
            }
            Message::Batch { batch, skipped } => (batch, skipped),
            Message::Unreadable(error) => return Err(unreadable(&arguments.file, &error)),
            Message::Interrupted => continue,
        };
        report.skipped(skipped);
        match sender.store(&mut batch) {
            Ok(stored) => {
                report.batch(stored, &batch.refused, batch.position);
                // The one before was in the first batch, whole or as it was cut off.
                standing.unfinished = batch.unfinished.take();
            }
            Err(SendError::Moved) => return Ok(End::Moved),
            Err(SendError::Failure(failure)) => return Err(failure),
        }
        if batch.last {
            (standing.reached, standing.in_store) = sender.reached();
            return Ok(End::Done);
        }
    }
    Err(Failure::refused(
        "reader",
        "the input was not read to its end; run the command again",
    ))
}

/// The failure with what was stored and how to store the rest.
fn how_to_go_on(failure: Failure, arguments: &Import, report: &Report) -> Failure {
    let stored = report.tally.stored;
    let advice = if arguments.file.as_os_str() == "-" {
        format!("{stored} events of the pipe are stored")
    } else if arguments.from_start {
        format!("{stored} events are stored; run the command again without --from-start to go on")
    } else {
        format!("{stored} events are stored; run the same command again to go on")
    };
    match failure {
        Failure::Interrupted(_) => Failure::Interrupted(format!("interrupted; {advice}")),
        Failure::Unreachable { message } if stored > 0 => Failure::Unreachable {
            message: format!("{message}; {advice}"),
        },
        Failure::Refused { code, message } if stored > 0 => Failure::Refused {
            code,
            message: format!("{message}; {advice}"),
        },
        other => other,
    }
}

fn context(arguments: &Import, latest: Timestamp) -> Context {
    let source = match arguments.file.file_name() {
        Some(name) if arguments.file.as_os_str() != "-" => name.to_string_lossy().into_owned(),
        _ => "stdin".into(),
    };
    Context {
        kind: arguments.kind.clone(),
        source,
        now_ns: 0,
        calendar: Calendar {
            zone: TimeZone::system(),
            latest,
        },
    }
}

/// The first bytes of a file, which is left at `place`.
fn head(file: &mut File, place: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(HEAD_BYTES).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(place))?;
    Ok(head)
}

/// What a pipe gives until there is a whole line, so that a program that is slow to say more is not waited for.
fn first_line(pipe: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 8192];
    while !head.contains(&b'\n') && (head.len() as u64) < HEAD_BYTES {
        match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => head.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

fn length(arguments: &Import) -> Option<u64> {
    let metadata = std::fs::metadata(&arguments.file).ok()?;
    metadata.is_file().then_some(metadata.len())
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    let advice = if path.as_os_str() == "-" {
        ""
    } else {
        "; name a file that is there and that you may read"
    };
    Failure::refused(
        "unreadable",
        format!("cannot read {}: {why}{advice}", path.display()),
    )
}
