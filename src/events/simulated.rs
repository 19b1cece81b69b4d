//! A disk in memory that fails as disks do: it tears, loses and reorders what was not synced, fails a sync or a read, lies about syncs, comes
//! short, runs full, flips bits; all from a seed.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use parking_lot::Mutex;

use super::disk::{Disk, DiskFile, DiskLock};

/// The disk. Clones share the same platter.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    platter: Arc<Mutex<Platter>>,
}

#[derive(Debug, Default)]
struct Platter {
    random: Random,
    /// Files as a running system sees them.
    names: BTreeMap<String, usize>,
    /// Files as they are found after a power cut.
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    locked: bool,
    calls: u64,
    /// All calls fail from this one on, until power is back.
    power_cut_at: Option<u64>,
    /// Syncs fail until this many have failed.
    failing_syncs: u32,
    /// Syncs do nothing and say that they did until this many have lied.
    lying_syncs: u32,
    /// Reads fail until this many have failed.
    failing_reads: u32,
    /// Reads end before they have all that was asked for.
    reads_short: bool,
    /// Calls of someone who looks on: they neither count nor fail.
    looked_at: bool,
    /// Bytes that may still be written.
    room: Option<usize>,
    /// The call before which the system lets go of what it need not keep.
    forgetful_at: Option<u64>,
}

#[derive(Debug, Default, Clone)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync: each may reach the platter before a power cut, whole, in part or not at all.
    unsynced: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Write {
    At(usize, Vec<u8>),
    Truncate(usize),
}

/// A small deterministic generator (splitmix64).
#[derive(Debug, Clone, Default)]
struct Random {
    state: u64,
}

/// The unit in which a real disk writes.
const SECTOR_BYTES: usize = 512;

impl SimulatedDisk {
    /// A healthy, empty disk whose later misfortunes follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.platter.lock().random.state = seed;
        disk
    }

    /// Cuts the power at the `n`-th call from now: that call and all later ones fail, until [`SimulatedDisk::restore_power`].
    pub fn cut_power_after(&self, n: u64) {
        let mut platter = self.platter.lock();
        platter.power_cut_at = Some(platter.calls + n);
    }

    /// Takes back a power cut that has not come.
    pub fn keep_power(&self) {
        self.platter.lock().power_cut_at = None;
    }

    /// Whether the power was cut.
    #[must_use]
    pub fn has_no_power(&self) -> bool {
        let platter = self.platter.lock();
        platter.power_cut_at.is_some_and(|at| platter.calls >= at)
    }

    /// Whether something stands in the way of the next calls: a power cut to come, a sync that will fail, a limit of room.
    #[must_use]
    pub fn will_fail(&self) -> bool {
        let platter = self.platter.lock();
        platter.power_cut_at.is_some()
            || platter.failing_syncs > 0
            || platter.failing_reads > 0
            || platter.room.is_some()
    }

    /// Runs `work` on the disk as if nothing could fail, and as if it had made no calls: for whoever looks on.
    pub fn looked_at<T>(&self, work: impl FnOnce() -> T) -> T {
        self.platter.lock().looked_at = true;
        let seen = work();
        self.platter.lock().looked_at = false;
        seen
    }

    /// The next `n` syncs fail. What they should have made durable is lost at the next power cut, though it can still be read.
    pub fn fail_syncs(&self, n: u32) {
        self.platter.lock().failing_syncs = n;
    }

    /// The next `n` syncs say that they did what they did not: what was written is lost at the next power cut, unless a later sync of the
    /// same file, or for names of the folder, is honest.
    pub fn lie_about_syncs(&self, n: u32) {
        self.platter.lock().lying_syncs = n;
    }

    /// The next `n` reads fail.
    pub fn fail_reads(&self, n: u32) {
        self.platter.lock().failing_reads = n;
    }

    /// From now on a read gives as much as it likes, at least a byte where there is one.
    pub fn read_short(&self) {
        self.platter.lock().reads_short = true;
    }

    /// Before the `n`-th call from now the system lets go of all bytes that it calls written: where a sync failed, what is read from then on
    /// is what the disk had before.
    pub fn forget_after(&self, n: u64) {
        let mut platter = self.platter.lock();
        platter.forgetful_at = Some(platter.calls + n);
    }

    /// Only `bytes` more fit; `None` lifts the limit.
    pub fn leave_room(&self, bytes: Option<usize>) {
        self.platter.lock().room = bytes;
    }

    /// What a power cut leaves: each write that was not synced is there, in part or not at all.
    pub fn restore_power(&self) {
        let mut platter = self.platter.lock();
        let platter = &mut *platter;
        platter.power_cut_at = None;
        platter.locked = false;
        platter.room = None;
        platter.failing_syncs = 0;
        platter.lying_syncs = 0;
        platter.failing_reads = 0;
        for content in &mut platter.files {
            content.lose_power(&mut platter.random);
        }
        // A created or removed name that was not synced may be there or not.
        let mut names = platter.durable_names.clone();
        for (name, file) in &platter.names {
            if !names.contains_key(name) && platter.random.chance(2) {
                names.insert(name.clone(), *file);
            }
        }
        names.retain(|name, _| platter.names.contains_key(name) || platter.random.chance(2));
        platter.names.clone_from(&names);
        platter.durable_names = names;
    }

    /// Flips one bit of what is stored in a file whose name ends in `suffix`; answers the file, the byte and the bit. `None` if there is
    /// no such file with a byte in it.
    #[must_use]
    pub fn flip_a_bit(&self, suffix: &str) -> Option<(String, usize, u8)> {
        let mut platter = self.platter.lock();
        let platter = &mut *platter;
        let names: Vec<_> = platter
            .names
            .iter()
            .filter(|(name, file)| {
                name.ends_with(suffix) && !platter.files[**file].durable.is_empty()
            })
            .map(|(name, file)| (name.clone(), *file))
            .collect();
        let (name, file) = names.get(platter.random.below(names.len().max(1)))?.clone();
        let content = &mut platter.files[file];
        let byte = platter.random.below(content.durable.len());
        let bit = u8::try_from(platter.random.below(8)).unwrap_or(0);
        content.durable[byte] ^= 1 << bit;
        if let Some(seen) = content.seen.get_mut(byte) {
            *seen ^= 1 << bit;
        }
        Some((name, byte, bit))
    }

    /// The bytes of a file as a running system sees them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let platter = self.platter.lock();
        let file = platter.names.get(name)?;
        Some(platter.files[*file].seen.clone())
    }

    /// Replaces a file, or makes one, durably.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut platter = self.platter.lock();
        let file = platter.files.len();
        platter.files.push(Content {
            seen: bytes.to_vec(),
            durable: bytes.to_vec(),
            unsynced: Vec::new(),
        });
        platter.names.insert(name.to_owned(), file);
        platter.durable_names.insert(name.to_owned(), file);
    }

    /// Names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.platter.lock().names.keys().cloned().collect()
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.platter.lock().calls
    }

    fn call<T>(&self, work: impl FnOnce(&mut Platter) -> io::Result<T>) -> io::Result<T> {
        let mut platter = self.platter.lock();
        if platter.looked_at {
            return work(&mut platter);
        }
        platter.calls += 1;
        if platter.forgetful_at == Some(platter.calls) {
            for content in &mut platter.files {
                content.forget();
            }
        }
        if platter.power_cut_at.is_some_and(|at| platter.calls >= at) {
            return Err(io::Error::other("simulated power cut"));
        }
        work(&mut platter)
    }
}

impl fmt::Debug for SimulatedDisk {
    /// Not what is on it, which fills pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").finish_non_exhaustive()
    }
}

impl Platter {
    /// Whether this sync is a lie.
    fn lies(&mut self) -> bool {
        let lies = self.lying_syncs > 0;
        self.lying_syncs = self.lying_syncs.saturating_sub(1);
        lies
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Content {
    fn forget(&mut self) {
        self.seen.clone_from(&self.durable);
        for write in &self.unsynced {
            write.apply(&mut self.seen);
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        for write in std::mem::take(&mut self.unsynced) {
            match write {
                Write::Truncate(len) if random.chance(2) => self.durable.truncate(len),
                Write::Truncate(_) => {}
                Write::At(at, bytes) => tear(&mut self.durable, at, &bytes, random),
            }
        }
        self.seen.clone_from(&self.durable);
    }
}

impl Write {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::At(at, bytes) => write_at(file, *at, bytes),
            Self::Truncate(len) => file.truncate(*len),
        }
    }
}

/// Writes some of the sectors, in any order; a sector that was not written is zeros where the file had grown.
fn tear(durable: &mut Vec<u8>, at: usize, bytes: &[u8], random: &mut Random) {
    let all = random.chance(4);
    let none = !all && random.chance(4);
    if none {
        return;
    }
    let prefix = random.chance(2).then(|| random.below(bytes.len() + 1));
    let mut done = 0;
    while done < bytes.len() {
        let to_sector_end = SECTOR_BYTES - (at + done) % SECTOR_BYTES;
        let len = to_sector_end.min(bytes.len() - done);
        let (len, written) = match prefix {
            _ if all => (len, true),
            Some(prefix) => (len.min(prefix - done.min(prefix)), done < prefix),
            None => (len, random.chance(2)),
        };
        if written && len > 0 {
            write_at(durable, at + done, &bytes[done..done + len]);
        }
        if prefix.is_some() && !all && done + len >= prefix.unwrap_or(0) {
            return;
        }
        done += len.max(1);
    }
}

fn write_at(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Random {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.next().is_multiple_of(one_in)
    }
}

impl Disk for SimulatedDisk {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.call(|platter| {
            if platter.locked {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            platter.locked = true;
            Ok(())
        })?;
        Ok(Box::new(SimulatedLock { disk: self.clone() }))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.call(|platter| {
            let len = |file: &usize| platter.files[*file].seen.len() as u64;
            Ok(platter
                .names
                .iter()
                .map(|(name, file)| (name.clone(), len(file)))
                .collect())
        })
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.call(|platter| platter.file(name))?;
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            file,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.call(|platter| {
            if platter.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            platter.files.push(Content::default());
            let file = platter.files.len() - 1;
            platter.names.insert(name.to_owned(), file);
            Ok(file)
        })?;
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            file,
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call(|platter| {
            platter.file(name)?;
            platter.names.remove(name);
            Ok(())
        })
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.call(|platter| {
            if platter.lies() {
                return Ok(());
            }
            platter.durable_names.clone_from(&platter.names);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl DiskFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.call(|platter| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            let content = &mut platter.files[self.file];
            let grows = (at + bytes.len()).saturating_sub(content.seen.len());
            let fits = platter.room.map_or(grows, |room| room.min(grows));
            let written = &bytes[..bytes.len() - (grows - fits)];
            if let Some(room) = &mut platter.room {
                *room -= fits;
            }
            write_at(&mut content.seen, at, written);
            content.unsynced.push(Write::At(at, written.to_vec()));
            if written.len() < bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.call(|platter| {
            let at = usize::try_from(offset).map_err(io::Error::other)?;
            if !platter.looked_at && platter.failing_reads > 0 {
                platter.failing_reads -= 1;
                return Err(io::Error::other("simulated read failure"));
            }
            let whole = platter.files[self.file].seen.len().saturating_sub(at);
            let whole = whole.min(buffer.len());
            let ends_early = platter.reads_short && whole > 1 && platter.random.chance(2);
            let len = if ends_early {
                1 + platter.random.below(whole)
            } else {
                whole
            };
            let from = platter.files[self.file].seen.get(at..).unwrap_or_default();
            buffer[..len].copy_from_slice(&from[..len]);
            Ok(len)
        })
    }

    /// Knows by chance what is at hand.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let is_at_hand = self.disk.platter.lock().random.chance(2);
        if is_at_hand {
            return self.read_at(buffer, offset);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call(|platter| {
            if platter.failing_syncs > 0 {
                platter.failing_syncs -= 1;
                let content = &mut platter.files[self.file];
                // The system calls these pages clean from now on, and does not write them again.
                content.unsynced.clear();
                return Err(io::Error::other("simulated sync failure"));
            }
            if platter.lies() {
                return Ok(());
            }
            let content = &mut platter.files[self.file];
            for write in std::mem::take(&mut content.unsynced) {
                write.apply(&mut content.durable);
            }
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.call(|platter| {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            let content = &mut platter.files[self.file];
            content.seen.truncate(len);
            content.unsynced.push(Write::Truncate(len));
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.platter.lock().locked = false;
    }
}
