//! What a node keeps about itself, so that its ids stay its own.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use super::{
    IdGenerator, IdentityError, NodeId,
    event_id::SEQUENCE_BITS,
    generator::{clock_word, unix_ms},
    storage::Folder,
};

/// A node's identity in its data folder: its id, drawn once unless configured; which run of it this is; and a high-water mark for its
/// ids, kept ahead of them. Holds the folder's lock: one process at a time.
///
/// # Ids across restarts
///
/// The mark on disk is [`Identity::AHEAD`] ahead of clock and ids. After a kill the next run starts above the mark, so no id is made
/// twice even when the clock has stepped back meanwhile; [`Identity::close`] leaves the exact mark instead. This holds while
/// [`Identity::renew`] is called at least once in [`Identity::RENEW_WITHIN`]. It writes nothing while no ids are made; so the first
/// ids after an idle spell, or an outburst of more than `AHEAD` within that time, are covered by the next call only, and
/// [`Identity::is_ahead`] says whether that is so. Uncovered ids can come again only if the process is killed *and* the clock stands
/// further back at the restart than it did then.
#[derive(Debug)]
pub struct Identity {
    folder: Folder,
    record: Record,
    ids: Arc<IdGenerator>,
}

/// Which run of a node this is. Rises with every start, and two copies of one folder that start get different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

/// What is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    node: NodeId,
    incarnation: Incarnation,
    /// No id made so far has a word above this one.
    mark: u64,
}

impl Identity {
    /// How far ahead of clock and ids the mark is written. Also how far ahead of the clock ids may start after a kill.
    pub const AHEAD: Duration = Duration::from_secs(2);
    /// How often [`Identity::renew`] has to be called at least.
    pub const RENEW_WITHIN: Duration = Duration::from_millis(500);

    /// Takes the data folder, making it where it is missing, and begins a new run of its node.
    ///
    /// The node's id is `configured`, or else the one in the folder, or else drawn at random. Reads and writes files and syncs them:
    /// call it off the async runtime.
    ///
    /// # Errors
    ///
    /// [`IdentityError::InUse`] while another process has the folder; [`IdentityError::Damaged`] and [`IdentityError::TooNew`] when the
    /// file cannot be trusted (it is left as it is); [`IdentityError::Io`].
    pub fn open(
        folder: impl AsRef<Path>,
        configured: Option<NodeId>,
    ) -> Result<Self, IdentityError> {
        Self::open_at(folder.as_ref(), configured, unix_ms())
    }

    /// The node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.record.node
    }

    /// Which run of the node this is.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.record.incarnation
    }

    /// The node's one generator.
    #[must_use]
    pub fn ids(&self) -> Arc<IdGenerator> {
        Arc::clone(&self.ids)
    }

    /// Whether all ids made so far are at or below the mark on disk.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.ids.high_water() <= self.record.mark
    }

    /// Writes the mark further ahead when ids have come within half of [`Identity::AHEAD`] of it. Says whether it wrote.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Io`], also where the folder was moved, removed or replaced: what stands under its path now is never written to.
    /// Ids are made nevertheless, and the next call tries again.
    pub fn renew(&mut self) -> Result<bool, IdentityError> {
        self.renew_at(unix_ms())
    }

    /// Ends the run: leaves the exact mark, so that the next run's ids need not start ahead of the clock, and lets go of the folder.
    /// All users of [`Identity::ids`] must be done.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Io`]; the mark ahead stays then, which does no harm.
    pub fn close(self) -> Result<(), IdentityError> {
        let record = Record {
            mark: self.ids.high_water(),
            ..self.record
        };
        self.folder.write(record.to_text().as_bytes())
    }

    fn open_at(
        folder: &Path,
        configured: Option<NodeId>,
        unix_ms: u64,
    ) -> Result<Self, IdentityError> {
        let folder = Folder::open(folder)?;
        let kept = match folder.read()? {
            Some(bytes) => {
                Some(Record::parse(&bytes).map_err(|fault| fault.at(folder.identity_file()))?)
            }
            None => None,
        };
        let node = configured
            .or(kept.map(|record| record.node))
            .unwrap_or_else(NodeId::random);
        let last_mark = kept.map_or(0, |record| record.mark);
        let record = Record {
            node,
            incarnation: Incarnation::after(kept.map(|record| record.incarnation), unix_ms),
            mark: ahead_of(last_mark.max(clock_word(unix_ms))),
        };
        folder.write(record.to_text().as_bytes())?;
        Ok(Self {
            folder,
            record,
            ids: Arc::new(IdGenerator::resume(node, last_mark)),
        })
    }

    fn renew_at(&mut self, unix_ms: u64) -> Result<bool, IdentityError> {
        self.folder.check()?;
        let Some(mark) = renewal(self.record.mark, self.ids.high_water(), clock_word(unix_ms))
        else {
            return Ok(false);
        };
        let record = Record {
            mark,
            ..self.record
        };
        self.folder.write(record.to_text().as_bytes())?;
        self.record = record;
        Ok(true)
    }
}

impl Incarnation {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Milliseconds and 20 random bits, but above the one before.
    fn after(last: Option<Self>, unix_ms: u64) -> Self {
        let [bits, _] = super::random::bits();
        let drawn = unix_ms << 20 | bits >> 44;
        Self(drawn.max(last.map_or(0, |last| last.0.saturating_add(1))))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The mark to write now, if any: when the last id is within half the way of the mark.
fn renewal(mark: u64, last: u64, clock: u64) -> Option<u64> {
    let half = (millis(Identity::AHEAD) / 2) << SEQUENCE_BITS;
    (last + half > mark).then(|| ahead_of(last.max(clock)))
}

fn ahead_of(word: u64) -> u64 {
    word + (millis(Identity::AHEAD) << SEQUENCE_BITS)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Why the file's text is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Damaged(&'static str),
    TooNew,
}

impl Fault {
    fn at(self, file: std::path::PathBuf) -> IdentityError {
        match self {
            Self::Damaged(what) => IdentityError::Damaged { file, what },
            Self::TooNew => IdentityError::TooNew { file },
        }
    }
}

const HEADLINE: &str = "underpin identity ";
const VERSION: &str = "1";

impl Record {
    /// Lines that a person can read, and a checksum that a person will not get right.
    fn to_text(self) -> String {
        let Self {
            node,
            incarnation,
            mark,
        } = self;
        let body =
            format!("{HEADLINE}{VERSION}\nnode {node}\nincarnation {incarnation}\nmark {mark}\n");
        let checksum = crc32c::crc32c(body.as_bytes());
        format!("{body}checksum {checksum:08x}\n")
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::Damaged("it is not text"))?;
        let mut lines = text.lines();
        match lines.next().and_then(|line| line.strip_prefix(HEADLINE)) {
            Some(VERSION) => {}
            // Another version only where the text is whole by its own checksum; else it is this version with a bit flipped.
            Some(_) if is_whole(text) => return Err(Fault::TooNew),
            _ => return Err(Fault::Damaged("it does not begin as an identity")),
        }
        let mut field =
            |name: &str| -> Option<u64> { lines.next()?.strip_prefix(name)?.parse().ok() };
        let record = (|| {
            let node = NodeId::new(u16::try_from(field("node ")?).ok()?).ok()?;
            Some(Self {
                node,
                incarnation: Incarnation(field("incarnation ")?),
                mark: field("mark ")?,
            })
        })();
        match record {
            None => Err(Fault::Damaged("a line is missing or wrong")),
            Some(record) if record.to_text() != text => {
                Err(Fault::Damaged("its checksum does not match"))
            }
            Some(record) => Ok(record),
        }
    }
}

fn is_whole(text: &str) -> bool {
    text.rsplit_once("checksum ")
        .is_some_and(|(body, checksum)| {
            u32::from_str_radix(checksum.trim_end(), 16) == Ok(crc32c::crc32c(body.as_bytes()))
        })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::ids::event_id::EPOCH_UNIX_MS;

    const NOW: u64 = EPOCH_UNIX_MS + 1_000_000_000;
    const AHEAD_MS: u64 = 2_000;

    fn folder() -> TempDir {
        tempfile::tempdir().expect("a folder for the test")
    }

    fn open(folder: &TempDir, unix_ms: u64) -> Identity {
        Identity::open_at(folder.path(), None, unix_ms).expect("a healthy folder opens")
    }

    fn record() -> Record {
        Record {
            node: NodeId::new(512).expect("512 is a node id"),
            incarnation: Incarnation(77),
            mark: 123_456_789,
        }
    }

    #[test]
    fn the_file_stays_as_it_is() {
        let text = "underpin identity 1\nnode 512\nincarnation 77\nmark 123456789\nchecksum ";
        assert!(record().to_text().starts_with(text));
        assert_eq!(Record::parse(record().to_text().as_bytes()), Ok(record()));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let text = record().to_text().into_bytes();
        for cut in 0..text.len() {
            assert!(Record::parse(&text[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(Record::parse(&damaged), Err(Fault::Damaged(_))),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_later_version_is_named_as_such() {
        let body = "underpin identity 2\nanything\n";
        let text = format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()));
        assert_eq!(Record::parse(text.as_bytes()), Err(Fault::TooNew));
    }

    #[test]
    fn the_mark_is_renewed_at_half_way_and_not_before() {
        let second = 1000 << SEQUENCE_BITS;
        let mark = 10 * second;
        assert_eq!(renewal(mark, 9 * second, 9 * second), None);
        assert_eq!(
            renewal(mark, 9 * second + 1, 9 * second),
            Some(11 * second + 1)
        );
        assert_eq!(
            renewal(mark, 9 * second + 1, 20 * second),
            Some(22 * second)
        );
        assert_eq!(
            renewal(mark, 5 * second, 20 * second),
            None,
            "nothing was made, nothing is written"
        );
    }

    #[test]
    fn ids_stay_unique_when_the_clock_steps_back_over_a_kill() {
        let folder = folder();
        let killed = open(&folder, NOW);
        let node = killed.node();
        let before = killed.ids().next_at(NOW + 100);
        assert!(killed.is_ahead());
        drop(killed);

        let restarted = open(&folder, NOW - 3_600_000);

        let after = restarted.ids().next_at(NOW - 3_600_000);
        assert_eq!(restarted.node(), node);
        assert!(after > before, "{after} was made after {before}");
    }

    #[test]
    fn a_renewed_mark_covers_what_was_made_meanwhile() {
        let folder = folder();
        let mut killed = open(&folder, NOW);
        let mut last = killed.ids().next_at(NOW);
        for ms in (NOW..NOW + 60_000).step_by(500) {
            killed.renew_at(ms).expect("a healthy folder");
            last = killed.ids().next_at(ms + 499);
            assert!(killed.is_ahead(), "{} ms in", ms - NOW);
        }
        drop(killed);

        let restarted = open(&folder, NOW);

        assert!(restarted.ids().next_at(NOW) > last);
    }

    #[test]
    fn a_clean_stop_leaves_no_drift_and_a_kill_at_most_two_seconds() {
        let folder = folder();
        let stopped = open(&folder, NOW);
        let _ = stopped.ids().next_at(NOW);
        stopped.close().expect("a healthy folder");

        let killed = open(&folder, NOW + 1);
        let id = killed.ids().next_at(NOW + 1);
        assert_eq!(id.unix_ms(), NOW + 1);
        drop(killed);

        let restarted = open(&folder, NOW + 2);
        let id = restarted.ids().next_at(NOW + 2);
        assert!(
            id.unix_ms() <= NOW + 1 + AHEAD_MS + 1,
            "{} ms ahead",
            id.unix_ms() - NOW
        );
    }

    #[test]
    fn every_run_has_a_higher_incarnation_even_when_the_clock_steps_back() {
        let folder = folder();
        let first = open(&folder, NOW).incarnation();
        let second = open(&folder, NOW - 3_600_000).incarnation();
        let third = open(&folder, NOW).incarnation();
        assert!(first < second && second < third);
    }

    #[test]
    fn copies_of_a_folder_get_different_incarnations() {
        let (one, two) = (folder(), folder());
        open(&one, NOW).close().expect("a healthy folder");
        std::fs::copy(one.path().join("identity"), two.path().join("identity")).expect("a copy");

        let (first, second) = (open(&one, NOW + 5), open(&two, NOW + 5));

        assert_eq!(first.node(), second.node());
        assert_ne!(first.incarnation(), second.incarnation());
    }

    #[test]
    fn a_torn_write_before_the_rename_changes_nothing() {
        let folder = folder();
        let node = open(&folder, NOW).node();
        std::fs::write(folder.path().join("identity.next"), "underpin ident")
            .expect("a torn write");

        assert_eq!(open(&folder, NOW).node(), node);
    }
}
