//! What is counted of a log. Anyone may read it at any time.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize},
    time::Instant,
};

use parking_lot::Mutex;

/// Figures that anyone may read at any time.
#[derive(Debug, Default)]
pub(in crate::events) struct Facts {
    /// Events that readers see.
    pub(in crate::events) shown: AtomicU64,
    /// Events stored since the log was opened.
    pub(in crate::events) stored: AtomicU64,
    pub(in crate::events) pruned: AtomicU64,
    pub(in crate::events) hot: AtomicUsize,
    /// The highest sequence number known to be synced.
    pub(in crate::events) synced: AtomicU64,
    pub(in crate::events) commits: AtomicU64,
    pub(in crate::events) unreadable: AtomicU64,
    /// Indexes that were made anew.
    pub(in crate::events) rebuilt: AtomicU64,
    /// Since when the writer waits for the disk, while it does.
    pub(in crate::events) writing: Mutex<Option<Instant>>,
}
