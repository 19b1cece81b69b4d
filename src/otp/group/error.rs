use std::sync::Arc;

/// Why an actor did not join a group. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It has ended, or is about to.
    #[error("an actor that has ended cannot join {group}; let its successor join")]
    Ended {
        /// The group.
        group: Arc<str>,
    },
    /// It lives on another node, where it joins by itself.
    #[error(
        "an actor of another node cannot be made to join {group} from here; let it join where it lives"
    )]
    NotLocal {
        /// The group.
        group: Arc<str>,
    },
    /// Nobody lives at the address.
    #[error(
        "nobody lives at the address that should join {group}; join when its actor has started"
    )]
    Down {
        /// The group.
        group: Arc<str>,
    },
}

/// An actor was asked to leave a group where it is no member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the actor is no member of {group}; it has left already, or never joined")]
pub struct NotJoined {
    /// The group.
    pub group: Arc<str>,
}
