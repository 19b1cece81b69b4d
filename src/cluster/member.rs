//! What a node sees of the others, for people and programs.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use super::plain::PlainMember;
use crate::ids::{NodeId, NodeName};

/// Another node, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Its number in the ids of its events; `None` for a plain node.
    pub id: Option<NodeId>,
    /// Which run of it this is; 0 for a plain program, which does not say. In JSON as text, since not every reader has 64 bits for a number.
    #[serde(serialize_with = "as_text")]
    pub incarnation: u64,
    /// What kind of program it is.
    pub kind: MemberKind,
    /// How it is.
    pub state: MemberState,
    /// For how long it has been so.
    #[serde(rename = "since_ms", serialize_with = "as_millis")]
    pub since: Duration,
    /// Why, where it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<DownReason>,
    /// Where it can be reached; empty where it does not listen.
    pub address: String,
    /// The version of underpin that it runs; empty where that is not known.
    pub underpin: String,
    /// How it is to talk to it; `None` without a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// What a plain program has told of itself, while it is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<PlainMember>,
}

/// What went over the connection to a node, and what is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Connection {
    /// The last round trip of a heartbeat.
    #[serde(rename = "round_trip_us", serialize_with = "as_micros")]
    pub round_trip: Option<Duration>,
    /// Bytes sent, all in all.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Requests and broadcasts sent.
    pub messages_sent: u64,
    /// Requests and broadcasts received.
    pub messages_received: u64,
    /// Bytes that wait to be written.
    pub backlog_bytes: usize,
    /// Bytes that the other node has not dealt with, each message with 256 bytes of its own.
    pub in_flight_bytes: u64,
    /// Requests of the other node that are under way here.
    pub serving: u64,
}

/// What kind of program a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MemberKind {
    /// A node of underpin.
    Underpin,
    /// A program of plain ractor_cluster; see [`ClusterOptions::plain`](super::ClusterOptions::plain).
    Plain,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MemberState {
    /// Others told of it; there was no connection yet.
    Joining,
    /// It is connected.
    Alive,
    /// It has been silent for half of the time after which it is down.
    Suspect,
    /// There is no connection any more. It is tried again.
    Down,
    /// It said that it leaves.
    Left,
}

/// Why a node is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DownReason {
    /// Its process ended, or it closed the connection.
    Closed,
    /// Nothing was heard of it for too long.
    Silent,
    /// It did not keep to the protocol.
    Violated,
}

/// What became of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// Others told of it.
    Joining(NodeName),
    /// It is connected: its services can be called.
    Up(NodeName),
    /// It has been silent for a while.
    Suspect(NodeName),
    /// It was heard of again.
    Recovered(NodeName),
    /// It is not connected any more.
    Down(NodeName, DownReason),
    /// It said that it leaves.
    Left(NodeName),
    /// So many events went by because nobody read them: look at [`Cluster::members`](super::Cluster::members).
    Missed(u64),
}

/// Tells what becomes of nodes. From [`Cluster::monitor`](super::Cluster::monitor).
#[derive(Debug)]
pub struct MemberMonitor {
    pub(super) news: broadcast::Receiver<MemberEvent>,
}

impl MemberMonitor {
    /// How many events wait for a monitor that is not read.
    pub const BOUND: usize = 1024;

    /// Waits for the next event. `None` when the node is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<MemberEvent> {
        match self.news.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(MemberEvent::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn as_text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn as_micros<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => {
            serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
        }
        None => serializer.serialize_none(),
    }
}
