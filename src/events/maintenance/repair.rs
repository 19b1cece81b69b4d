//! What can be mended is mended; nothing goes that was not copied first.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    super::{
        Disk, OpenError, Options, Progress,
        cache::Cache,
        mending,
        naming::{Named, sealed_names},
        opening, sealing,
        wire::len32,
    },
    segments::{self, read},
    verify::{Fault, Verified, look_at_all, orphans},
};

/// What [`repair`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Repaired {
    /// What was found before.
    pub before: Verified,
    /// What is found now.
    pub after: Verified,
    /// Files that were written anew.
    pub rewritten: Vec<String>,
    /// Side files that this repair made: they hold, byte for byte, what was damaged or cut off.
    pub quarantined: Vec<String>,
}

/// Mends a folder: makes damaged or missing indexes anew from their blocks, seals damaged segments without what is lost in them, cuts an
/// interrupted write off the end. Whatever is taken out of a file is first copied to a side file named `<file>.<offset>.damaged`, and
/// events that are lost stay reported as gaps. The store must not be running. Each fault that is found first is handed to `each`.
///
/// # Errors
///
/// [`OpenError::InUse`] if a store has the folder: nothing was done. As [`verify`](super::verify) otherwise, and [`OpenError::Read`] where a
/// file cannot be written; repairing again is safe.
pub fn repair(
    disk: &Arc<dyn Disk>,
    progress: &dyn Fn(Progress),
    each: &mut dyn FnMut(Fault),
) -> Result<Repaired, OpenError> {
    let lock = opening::lock(disk.as_ref(), Duration::ZERO)?;
    let earlier = side_files(disk.as_ref())?;
    let mut faulty = BTreeSet::new();
    let before = look_at_all(disk.as_ref(), false, progress, &mut |fault: Fault| {
        faulty.insert(fault.file.clone());
        each(fault);
    })?;
    let mut repaired = Repaired {
        before,
        ..Repaired::default()
    };
    for (index, _) in orphans(disk.as_ref())? {
        put_aside(disk.as_ref(), &index)?;
    }
    for name in segments::unfinished(disk.as_ref())? {
        mending::settle(disk.as_ref(), &name)?;
    }
    for named in segments::list(disk.as_ref())? {
        repaired.mend(disk.as_ref(), &named, &faulty)?;
    }
    drop(lock);
    finish(disk, progress)?;
    repaired.after = look_at_all(disk.as_ref(), false, progress, &mut |_| ())?;
    let now = side_files(disk.as_ref())?;
    repaired.quarantined = now.difference(&earlier).cloned().collect();
    Ok(repaired)
}

/// What every opening does: ends prunes that a crash cut short, makes the end of the log certain. And seals what waits for it.
fn finish(disk: &Arc<dyn Disk>, progress: &dyn Fn(Progress)) -> Result<(), OpenError> {
    let options = Options::default();
    let cache = Arc::new(Cache::new(options.cache_bytes));
    let told = |now| {
        progress(now);
        true
    };
    let mut opening = opening::open(disk, &options, &cache, None, fastrand::u64(..), &told)?;
    if let Err(error) = opening.sealer.turn() {
        tracing::warn!(%error, "not all segments were sealed; the store goes on with it");
    }
    Ok(())
}

fn side_files(disk: &dyn Disk) -> Result<BTreeSet<String>, OpenError> {
    let files = disk.list().map_err(OpenError::Folder)?;
    let names = files.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| name.ends_with(".damaged")).collect())
}

fn put_aside(disk: &dyn Disk, file: &str) -> Result<(), OpenError> {
    let kept = mending::put_aside(disk, file);
    kept.map(drop).map_err(|error| OpenError::Read {
        file: file.to_owned(),
        error,
    })
}

impl Repaired {
    fn mend(
        &mut self,
        disk: &dyn Disk,
        named: &Named,
        faulty: &BTreeSet<String>,
    ) -> Result<(), OpenError> {
        let (blocks, index) = sealed_names(&named.name);
        if named.is_sealed {
            if faulty.contains(&blocks) || faulty.contains(&index) {
                mending::rebuild_index(disk, &named.name, (named.base, named.log))?;
                self.rewritten.push(index);
            }
            return Ok(());
        }
        self.keep_torn_end(disk, named)?;
        if !faulty.contains(&named.name) {
            return Ok(());
        }
        let failed = |error| OpenError::Read {
            file: named.name.clone(),
            error,
        };
        let bytes = read(disk, &named.name)?;
        let mut scan = segments::scan_growing(named, &bytes)?;
        let torn = self
            .before
            .torn
            .as_ref()
            .filter(|torn| torn.file == named.name);
        let end = torn.map_or(scan.end(), |torn| {
            u32::try_from(torn.offset).unwrap_or(u32::MAX)
        });
        scan.cut(end);
        for damage in &scan.damage {
            mending::quarantine(disk, &named.name, damage.offset, damage.of(&bytes))
                .map_err(failed)?;
        }
        let summary = scan.summary(named.base);
        let whole = &bytes[..end as usize];
        sealing::write_sealed(
            disk,
            &named.name,
            named.log,
            &summary,
            whole,
            &scan,
            &|| true,
        )
        .map_err(failed)?;
        disk.remove(&named.name).map_err(failed)?;
        self.rewritten.extend([blocks, index]);
        Ok(())
    }

    /// An opening cuts it off; whoever repairs wants to see it.
    fn keep_torn_end(&self, disk: &dyn Disk, named: &Named) -> Result<(), OpenError> {
        let Some(torn) = self
            .before
            .torn
            .as_ref()
            .filter(|torn| torn.file == named.name)
        else {
            return Ok(());
        };
        let bytes = read(disk, &named.name)?;
        let from = usize::try_from(torn.offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = &bytes[from..];
        mending::quarantine(disk, &named.name, len32(from), end).map_err(|error| OpenError::Read {
            file: named.name.clone(),
            error,
        })
    }
}
