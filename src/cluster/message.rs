use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    error::{ConnectError, Refusal},
    handshake::About,
    link::Link,
    state::{LinkNumber, LostWhy},
};
use crate::otp::Reply;

/// All that the membership actor can be told and asked.
pub(super) enum Message {
    /// Look at the clock.
    Tick,
    /// A connection has proven who is there. It may be used once this is answered.
    Greeted {
        link: Arc<Link>,
        address: Option<String>,
        admitted: oneshot::Sender<Result<(), Refusal>>,
    },
    /// The first frame came over a connection that another node has opened.
    Confirmed { link: LinkNumber },
    /// Would such a node be let in? `None` when it would.
    Asked {
        about: About,
        reply: oneshot::Sender<Option<Refusal>>,
    },
    /// An address could not be connected to.
    DialFailed {
        address: String,
        error: ConnectError,
    },
    /// A connection is over.
    Lost { link: LinkNumber, why: LostWhy },
    /// A node tells where others are; what it told is at its connection.
    Told { link: LinkNumber },
    /// A node says that it leaves.
    Leaves { link: LinkNumber },
    /// One more address to join.
    Join { address: String },
    /// This node is to leave; answered when all have been told.
    Leave { reply: Reply<()> },
}

crate::otp::message!(Message);
