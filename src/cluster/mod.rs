//! Nodes that form one system: who is up, services of other nodes, groups across nodes.
//!
//! Every node is connected with every other. [`ClusterOptions`] say where a node listens and whom it joins; one that is joined tells of
//! all others. [`Cluster`] shows the [`Member`]s and tells when they come and go; a [`RemoteAddress`] leads to a [`RemoteService`] of
//! another node, a [`ClusterGroup`] to members at all of them,
//! a [`NodeAddress`] to the settings, events, metrics and tree of another node. `examples/two_nodes.rs` is a whole program.
//!
//! Guarantees:
//! * A node whose process ends is down at once; one that is frozen or cut off, within its timeout and a heartbeat. It is tried again,
//!   ever more slowly and for ever, and the cluster is whole again without a restart of anything.
//! * A request is never sent twice, and its error says whether it may have run ([`RemoteError::may_have_run`]).
//! * What one caller sends to a service arrives in order, or not at all: what comes behind a lost connection finds a new one.
//! * A peer can do what the gateway offers, and nothing else: call the services that were given to [`Cluster::serve`], watch them, send
//!   to groups that were opened. There is no stop and no kill, no name of this process that it could take, and no actor that it sees.
//! * Memory for a peer is bounded: by its window of credit, each message with 256 bytes of its own, and two frames; by four times
//!   both for what it does not read; by 4,096 requests under way. What was broadcast, also by a node to members of its own, holds credit
//!   until the members have dropped their [`Delivery`] of it. A stranger has a place among 128, for 5 s, and costs a few KiB.
//! * A service or group that is stuck keeps nobody from the others of its node: it gets half of what a node may have on its way there.
//! * Two nodes in one process share nothing.
//! * A program of plain `ractor_cluster` may be a member, too ([`ClusterOptions::plain`]): it is seen, and reaches nothing here.
//!
//! Ids: a node draws one that no node to be joined knows to be taken, be it by one that is down there. Where none could be asked, two may
//! have drawn the same. Then the one that comes second to some other node is not let in there, says so in its health, and draws another
//! when it is started anew; an id that is configured stays.
//!
//! Not offered: a leader, a singleton, consensus, or one view of who is up: each node sees with its own eyes, and after a cut both sides
//! go on. Use etcd, or a database, for what there must be one of. A message is not stored for a node that is down. Without [`Tls`] what
//! is said is neither secret nor safe from change, so that only loopback may be used unless one says otherwise.
//!
//! # Why not over `ractor_cluster`
//!
//! Its connections carry every actor and group of the *process*: two nodes in one process meet, a peer can put actors into any group and
//! take any name, and what it sends is read into mailboxes without a bound, so that a sender is never slowed by a slow reader. None of
//! that can be undone from outside. So nodes speak a protocol of their own, of length-prefixed frames, over connections of their own.

mod actor;
mod ask;
mod connect;
mod cookie;
mod counts;
mod credit;
mod delivery;
mod error;
mod figures;
mod frame;
mod gateway;
mod greet;
mod groups;
mod handle;
mod handshake;
mod link;
mod listener;
mod member;
mod message;
mod metrics;
#[cfg(test)]
mod model;
mod monitor;
mod node;
mod offered;
mod options;
mod outbox;
mod plain;
mod reader;
mod serve;
mod service;
mod shared;
mod state;
mod tls;
mod wire;

pub use ask::is_taken;
pub use cookie::Cookie;
pub use delivery::Delivery;
pub use error::{ClusterError, ConnectError, CookieError, Part, Refusal, RemoteError, TlsError};
pub use groups::{ClusterBroadcast, ClusterGroup};
pub use handle::{Cluster, Identity};
pub use member::{
    Connection, DownReason, Member, MemberEvent, MemberKind, MemberMonitor, MemberState,
};
pub use monitor::{RemoteDown, RemoteMonitor};
pub use node::{
    EventFollower, NodeAddress, NodeAskError, RemotePage, RemoteSetting, SettingFollower,
};
pub use offered::Offered;
pub use options::ClusterOptions;
pub use plain::{PlainGroup, PlainMember};
pub use service::{RemoteAddress, RemoteService};
pub use tls::Tls;
