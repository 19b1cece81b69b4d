//! Which files of a folder make which segment.

use std::collections::HashSet;

use super::recovery::SEQUENCE_MAX;

/// A segment by its files.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) base: u64,
    pub(super) log: u64,
    /// Of the file that it has before it is sealed.
    pub(super) name: String,
    pub(super) is_sealed: bool,
    /// Of that file, or else of its blocks.
    pub(super) bytes: u64,
}

/// Every segment that has files, oldest first. As long as one has its first file, that is the truth.
pub(super) fn segments_of(files: &[(String, u64)]) -> Vec<Named> {
    let mut names: Vec<Named> = Vec::new();
    for (file, bytes) in files {
        let (base, log, name, is_sealed) = if let Some((base, log)) = parse_segment_name(file) {
            (base, log, file.clone(), false)
        } else if let Some((base, log, name)) = parse_blocks_name(file) {
            (base, log, name, true)
        } else {
            continue;
        };
        names.push(Named {
            base,
            log,
            name,
            is_sealed,
            bytes: *bytes,
        });
    }
    names.sort_by(|one, next| {
        (one.base, &one.name, one.is_sealed).cmp(&(next.base, &next.name, next.is_sealed))
    });
    names.dedup_by(|sealed, first| sealed.name == first.name);
    names
}

/// The names of segments that still have their first file beside what was made of it: it is not finished, or not known to be.
pub(super) fn unfinished(files: &[(String, u64)]) -> Vec<String> {
    let first: HashSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let sealed = files.iter().filter_map(|(file, _)| parse_blocks_name(file));
    sealed
        .map(|(.., name)| name)
        .filter(|name| first.contains(name.as_str()))
        .collect()
}

pub(super) fn segment_name(base: u64, log: u64) -> String {
    format!("{base:016x}-{log:016x}.seg")
}

/// The names of a sealed segment's files: of its blocks, and of their index.
pub(super) fn sealed_names(name: &str) -> (String, String) {
    let stem = name.strip_suffix(".seg").unwrap_or(name);
    (format!("{stem}.blocks"), format!("{stem}.index"))
}

/// First sequence number, log id and segment file of a file of blocks.
fn parse_blocks_name(name: &str) -> Option<(u64, u64, String)> {
    let name = format!("{}.seg", name.strip_suffix(".blocks")?);
    let (base, log) = parse_segment_name(&name)?;
    Some((base, log, name))
}

/// First sequence number and log id of a segment file.
pub(super) fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    let (base, log) = name.strip_suffix(".seg")?.split_once('-')?;
    let number = |text: &str| {
        (text.len() == 16)
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
    };
    // Of any other number there is no frame.
    let base = number(base).filter(|base| (1..=SEQUENCE_MAX).contains(base))?;
    Some((base, number(log)?))
}
