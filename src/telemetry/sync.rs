//! What the lock-free parts are made of: the one place to change for a model checker, which brings its own kinds of these
//! (`tests/loom` builds those parts from the same files).

pub(super) use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

pub(super) use parking_lot::Mutex;
