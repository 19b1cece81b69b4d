//! How far a file was read, and whether it is still that file. Pure: the file is asked through a function.

use std::io;

use serde::{Deserialize, Serialize};
use underpin::ids::EventId;

/// How much of the beginning of a file tells it from others, in bytes. The first lines of a log hold its first times.
const HEAD_BYTES: u64 = 4096;
/// How much before the place that was reached, in bytes.
const TAIL_BYTES: u64 = 1024;
/// The longest key that a store takes, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// Ids older than this are not taken up again: no request of their time can still be under way (the node ends one after 30 s), and
/// events should have ids of their time.
const IDS_AGE_MAX_MS: u64 = 120_000;

/// What the store keeps of an import, written in one frame with the events that it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// See [`Place`].
    pub(super) offset: u64,
    pub(super) lines: u64,
    pub(super) done: u64,
    head: Print,
    tail: Print,
    /// The line at `offset`, when it was done although it had no end yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<Print>,
    /// Ids reserved for the lines that follow. If this import is killed while a batch is under way, the next one sends the same lines
    /// under the same ids, and the store knows them.
    #[serde(default, skip_serializing_if = "Pool::is_empty")]
    pub(super) ids: Pool,
}

/// How far an input was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the next line begins, in bytes.
    pub(super) offset: u64,
    /// Lines before it.
    pub(super) lines: u64,
    /// How many of these were stored or refused; the others are blank.
    pub(super) done: u64,
}

/// Length and checksum of some bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print {
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
}

/// Ids in the order in which they are used, as runs of consecutive numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pool(Vec<(EventId, u32)>);

/// Where to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A file that was not read before.
    New,
    /// The file at this path is not the one that was read: rotated, truncated or replaced.
    Replaced,
    /// Behind what was done.
    At(Checkpoint),
}

/// The key under which the checkpoint of a file is kept. A path too long for a key is told from others by its checksum.
pub(super) fn key(path: &str) -> String {
    let key = format!("import:{path}");
    if key.len() <= KEY_BYTES_MAX {
        return key;
    }
    let tail = path.len() - KEY_BYTES_MAX / 2;
    let tail = (tail..path.len())
        .find(|at| path.is_char_boundary(*at))
        .unwrap_or(path.len());
    format!(
        "import:{:08x}..{}",
        crc32c::crc32c(path.as_bytes()),
        &path[tail..]
    )
}

impl Checkpoint {
    /// A mark at this place, with the prints that recognise the file.
    pub(super) fn mark(
        place: Place,
        open: Option<Print>,
        print: impl FnMut(u64, u64) -> io::Result<Print>,
    ) -> io::Result<Self> {
        let (head, tail) = prints(place.offset, print)?;
        Ok(Self {
            offset: place.offset,
            lines: place.lines,
            done: place.done,
            head,
            tail,
            open,
            ids: Pool::default(),
        })
    }

    pub(super) fn with_ids(self, ids: Pool) -> Self {
        Self { ids, ..self }
    }

    pub(super) fn place(&self) -> Place {
        Place {
            offset: self.offset,
            lines: self.lines,
            done: self.done,
        }
    }

    /// Decides where to begin. `print` gives the print of so many bytes from a place on, fewer where the file ends.
    pub(super) fn resume(
        stored: Option<Self>,
        print: impl FnMut(u64, u64) -> io::Result<Print>,
    ) -> io::Result<Start> {
        let Some(stored) = stored else {
            return Ok(Start::New);
        };
        let now = prints(stored.offset, print)?;
        Ok(if now == (stored.head, stored.tail) {
            Start::At(stored)
        } else {
            Start::Replaced
        })
    }
}

/// Prints of the beginning and of what is right before `offset`.
fn prints(
    offset: u64,
    mut print: impl FnMut(u64, u64) -> io::Result<Print>,
) -> io::Result<(Print, Print)> {
    let tail = offset.min(TAIL_BYTES);
    Ok((
        print(0, offset.min(HEAD_BYTES))?,
        print(offset - tail, tail)?,
    ))
}

impl Print {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
        }
    }
}

impl Pool {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, count)| *count as usize).sum()
    }

    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = EventId>) {
        for id in ids {
            match self.0.last_mut() {
                Some((first, count)) if first.get() + u64::from(*count) == id.get() => *count += 1,
                _ => self.0.push((id, 1)),
            }
        }
    }

    /// Takes the next `count` ids; fewer when there are not so many.
    pub(super) fn take(&mut self, count: usize) -> Vec<EventId> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count
            && let Some((first, left)) = self.0.first_mut()
        {
            taken.push(*first);
            *left -= 1;
            match EventId::new(first.get() + 1) {
                Ok(next) if *left > 0 => *first = next,
                _ => {
                    self.0.remove(0);
                }
            }
        }
        taken
    }

    /// Forgets all when they are too old to be taken up.
    pub(super) fn if_fresh(self, now_unix_ms: u64) -> Self {
        let fresh = self.0.first().is_some_and(|(first, _)| {
            first.unix_ms().saturating_add(IDS_AGE_MAX_MS) >= now_unix_ms
        });
        if fresh { self } else { Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use underpin::ids::{IdGenerator, NodeId};

    use super::*;

    fn print(file: &[u8]) -> impl FnMut(u64, u64) -> io::Result<Print> + '_ {
        |start, bytes| {
            let start = usize::try_from(start).expect("small").min(file.len());
            let end = (start + usize::try_from(bytes).expect("small")).min(file.len());
            Ok(Print::of(&file[start..end]))
        }
    }

    fn log(lines: usize) -> Vec<u8> {
        (0..lines)
            .flat_map(|line| format!("line {line}\n").into_bytes())
            .collect()
    }

    fn place(offset: usize) -> Place {
        Place {
            offset: offset as u64,
            lines: 3,
            done: 3,
        }
    }

    fn resume(before: &[u8], offset: usize, after: &[u8]) -> Start {
        let mark = Checkpoint::mark(place(offset), None, print(before)).expect("readable");
        Checkpoint::resume(Some(mark), print(after)).expect("readable")
    }

    #[test]
    fn a_file_that_has_grown_is_gone_on_with() {
        for lines in [1, 10, 1000] {
            let before = log(lines);
            let after = log(lines + 5);
            assert!(matches!(
                resume(&before, before.len(), &after),
                Start::At(_)
            ));
            assert!(matches!(
                resume(&before, before.len(), &before),
                Start::At(_)
            ));
        }
    }

    #[test]
    fn a_file_that_is_another_is_read_from_its_start() {
        let before = log(1000);
        let at = before.len();
        let mut other_head = log(2000);
        other_head[17] ^= 1;
        let mut other_tail = log(2000);
        other_tail[at - 3] ^= 1;

        for (after, case) in [
            (other_head, "another head"),
            (other_tail, "another tail"),
            (before[..at - 1].to_vec(), "shorter by a byte"),
            (log(3), "rotated"),
            (Vec::new(), "emptied"),
        ] {
            assert_eq!(resume(&before, at, &after), Start::Replaced, "{case}");
        }
    }

    #[test]
    fn without_a_mark_a_file_is_new_and_a_mark_at_the_start_fits_every_file() {
        assert_eq!(
            Checkpoint::resume(None, print(b"a")).expect("readable"),
            Start::New
        );
        assert!(matches!(resume(b"", 0, b"anything"), Start::At(_)));
    }

    #[test]
    fn a_mark_comes_back_from_json() {
        let mut mark = Checkpoint::mark(place(4), Some(Print::of(b"open")), print(b"abc\nopen"))
            .expect("readable");
        mark.ids.add([EventId::new(7).expect("an id")]);

        let json = serde_json::to_string(&mark).expect("JSON");

        assert_eq!(
            serde_json::from_str::<Checkpoint>(&json).expect("a mark"),
            mark
        );
    }

    #[test]
    fn every_path_has_a_key_of_its_own() {
        let long = |middle: &str| key(&format!("/{middle}/{}", "é".repeat(1000)));

        assert_eq!(key("/var/log/dpkg.log"), "import:/var/log/dpkg.log");
        assert!(long("a").len() <= KEY_BYTES_MAX);
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn ids_are_taken_in_their_order_and_kept_as_runs() {
        let generator = IdGenerator::new(NodeId::new(7).expect("a node"));
        let made: Vec<EventId> = (0..10_000).map(|_| generator.next()).collect();
        let mut pool = Pool::default();

        pool.add(made.iter().copied());

        assert_eq!(pool.len(), 10_000);
        assert!(pool.0.len() < 100, "{} runs", pool.0.len());
        assert_eq!(pool.take(3000), made[..3000]);
        assert_eq!(pool.len(), 7000);
        assert_eq!(pool.take(9000), made[3000..]);
        assert!(pool.is_empty() && pool.take(1).is_empty());
    }

    #[test]
    fn ids_of_long_ago_are_not_taken_up() {
        let mut pool = Pool::default();
        pool.add([IdGenerator::new(NodeId::new(7).expect("a node")).next()]);
        let made = pool.0[0].0.unix_ms();

        assert!(!pool.clone().if_fresh(made + IDS_AGE_MAX_MS).is_empty());
        assert!(pool.if_fresh(made + IDS_AGE_MAX_MS + 1).is_empty());
    }
}
