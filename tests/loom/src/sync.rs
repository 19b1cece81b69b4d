//! What the parts are made of, from the model checker. Stands in for `src/telemetry/sync.rs`.

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Locks as `parking_lot` does, without poisoning.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("no model panics under a lock")
    }
}

/// The standard one, with its synchronisation made of what the checker sees: a flag that is set after the value was made, and a
/// lock for those who make it.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_made: AtomicBool,
    making: Mutex<()>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            is_made: AtomicBool::new(false),
            making: Mutex::new(()),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let is_made = self.is_made.load(Ordering::Acquire);
        is_made.then(|| self.value.get().expect("made before the flag is set"))
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _turn = self.making.lock();
        let value = self.value.get_or_init(make);
        self.is_made.store(true, Ordering::Release);
        value
    }
}
