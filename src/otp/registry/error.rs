use std::{fmt::Debug, sync::Arc, time::Duration};

use super::Owner;

/// Why an entry was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The key is unique and has an owner, which may be the same one.
    #[error(
        "{key} is registered in {registry} by {owner} already; unregister it there, or take another key"
    )]
    AlreadyRegistered {
        /// The registry's name.
        registry: Arc<str>,
        /// The key, as its `Debug` writes it.
        key: String,
        /// Whose it is.
        owner: Owner,
    },
    /// What has ended cannot own anything.
    #[error("{owner} has ended and cannot register {key} in {registry}; let its successor do it")]
    OwnerEnded {
        /// The registry's name.
        registry: Arc<str>,
        /// The key, as its `Debug` writes it.
        key: String,
        /// Who wanted to register it.
        owner: Owner,
    },
}

/// Nobody has registered this key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nobody has registered {key} in {registry}{}", within(*.waited))]
pub struct NotRegistered {
    /// The registry's name.
    pub registry: Arc<str>,
    /// The key, as its `Debug` writes it.
    pub key: String,
    /// How long it was waited for.
    pub waited: Duration,
}

fn within(time: Duration) -> String {
    if time.is_zero() {
        "; start its owner, or wait for it".to_owned()
    } else {
        format!(" within {time:?}; see why its owner does not start, or wait longer")
    }
}

/// Why a value was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Nobody has registered the key.
    #[error(transparent)]
    NotRegistered(#[from] NotRegistered),
    /// It is another's.
    #[error("{key} in {registry} belongs to {owner}, which alone can change its value")]
    NotOwner {
        /// The registry's name.
        registry: Arc<str>,
        /// The key, as its `Debug` writes it.
        key: String,
        /// Whose it is.
        owner: Owner,
    },
    /// A key of a registry with duplicate keys has no single value.
    #[error(
        "values can be changed where keys are unique, and {registry} has duplicate keys; unregister and register anew"
    )]
    NotUnique {
        /// The registry's name.
        registry: Arc<str>,
    },
}

/// Why a service is not in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError<E: Debug> {
    /// It is not there.
    #[error(transparent)]
    NotRegistered(#[from] NotRegistered),
    /// The check says what is wrong.
    #[error("{owner} is not healthy: {error:?}")]
    Failed {
        /// Who was asked.
        owner: Owner,
        /// What the check said.
        error: E,
    },
    /// The check did not end in time.
    #[error("the check of {owner} took longer than {limit:?}; it hangs, or needs more time")]
    Timeout {
        /// Who was asked.
        owner: Owner,
        /// The limit that passed.
        limit: Duration,
    },
    /// The check itself panicked.
    #[error("the check of {owner} panicked: {words}")]
    Panicked {
        /// Who was asked.
        owner: Owner,
        /// The panic's message.
        words: String,
    },
    /// The service ended while it was checked.
    #[error("{owner} ended while it was checked; ask again when it has been restarted")]
    Ended {
        /// Who was asked.
        owner: Owner,
    },
}
