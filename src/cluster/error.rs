use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::wire::{Fault, Reader, Write};
use crate::ids::{NodeId, NodeName};

/// Why a request to a service of another node failed. [`may_have_run`](Self::may_have_run) tells whether a retry is safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// There is no connection to the node: it is down, left, or was never there. Nothing was sent.
    #[error(
        "there is no connection to node {node}; it is down or not known; try again when it is up"
    )]
    NoConnection {
        /// The node.
        node: NodeName,
    },
    /// The connection went away before the answer came. The request may have run.
    #[error("the connection to node {node} was lost before it answered; the request may have run")]
    Lost {
        /// The node.
        node: NodeName,
    },
    /// Nobody at the node offers a service of this name. It did not run.
    #[error("node {node} has no service {service}; start it there, or ask another node")]
    NoService {
        /// The node.
        node: NodeName,
        /// The service.
        service: String,
    },
    /// The node does not allow this. It did not run.
    #[error("node {node} refuses this to others: {why}")]
    Refused {
        /// The node.
        node: NodeName,
        /// Why, in the words of the node.
        why: String,
    },
    /// The message is longer than its reader takes. A request did not run; where it is the answer, it did.
    #[error("the {what} has {bytes} bytes, and at most {limit} are read; split it")]
    TooLarge {
        /// Which of the two.
        what: Part,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Too much is on its way to the node already, or waits for the service there. It did not run.
    #[error("node {node} has not dealt with what it was sent; wait, then try again")]
    Full {
        /// The node.
        node: NodeName,
    },
    /// No answer came in time. The request may have run.
    #[error("node {node} did not answer within {waited:?}; the request may have run")]
    Timeout {
        /// The node.
        node: NodeName,
        /// How long was waited.
        waited: Duration,
    },
    /// The service is not running at the node at the moment. The request did not run.
    #[error("service {service} of node {node} is not running; try again later")]
    Down {
        /// The node.
        node: NodeName,
        /// The service.
        service: String,
    },
    /// The service ended, or let the request go, before it answered. The request may have run.
    #[error("the service at node {node} gave no answer: {why}; the request may have run")]
    Unanswered {
        /// The node.
        node: NodeName,
        /// Why, in the words of the node.
        why: String,
    },
    /// The request, or the answer, cannot be written or is not what the other side understands. A request did not run; where it is
    /// the answer, it did.
    #[error(
        "the {what} cannot be understood: {why}; do both nodes run the same version of the service?"
    )]
    Unreadable {
        /// Which of the two.
        what: Part,
        /// What is wrong with it.
        why: String,
    },
}

/// A request or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// What was sent.
    Request,
    /// What came, or should have come, back.
    Answer,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Answer => "answer",
        })
    }
}

impl RemoteError {
    /// Whether the request may have been carried out. Where it was not, it can be sent again without harm.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NoConnection { .. }
            | Self::NoService { .. }
            | Self::Refused { .. }
            | Self::Full { .. }
            | Self::Down { .. } => false,
            Self::Lost { .. } | Self::Timeout { .. } | Self::Unanswered { .. } => true,
            Self::TooLarge { what, .. } | Self::Unreadable { what, .. } => *what == Part::Answer,
        }
    }
}

/// What a node says of a request that it did not carry out, or not to an end. Goes over the wire as a code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    NoService,
    Refused(String),
    Full,
    Down,
    Unanswered(String),
    Timeout,
    RequestUnreadable(String),
    AnswerUnreadable(String),
    AnswerTooLarge { bytes: usize, limit: usize },
}

impl Failure {
    pub(super) fn code_and_text(&self) -> (u8, String) {
        match self {
            Self::NoService => (1, String::new()),
            Self::Refused(why) => (2, why.clone()),
            Self::Full => (3, String::new()),
            Self::Down => (4, String::new()),
            Self::Unanswered(why) => (5, why.clone()),
            Self::Timeout => (6, String::new()),
            Self::RequestUnreadable(why) => (7, why.clone()),
            Self::AnswerUnreadable(why) => (8, why.clone()),
            Self::AnswerTooLarge { bytes, limit } => (9, format!("{bytes} {limit}")),
        }
    }

    /// A code that a newer node made up says that there is no answer, which is true.
    pub(super) fn from_code(code: u8, text: &str) -> Self {
        let why = text.to_owned();
        match code {
            1 => Self::NoService,
            2 => Self::Refused(why),
            3 => Self::Full,
            4 => Self::Down,
            6 => Self::Timeout,
            7 => Self::RequestUnreadable(why),
            8 => Self::AnswerUnreadable(why),
            9 => {
                let mut numbers = text.split(' ').map(|number| number.parse().unwrap_or(0));
                let mut next = || numbers.next().unwrap_or(0);
                Self::AnswerTooLarge {
                    bytes: next(),
                    limit: next(),
                }
            }
            _ => Self::Unanswered(why),
        }
    }

    pub(super) fn into_error(
        self,
        node: &NodeName,
        service: &str,
        waited: Duration,
    ) -> RemoteError {
        let node = node.clone();
        let service = service.to_owned();
        match self {
            Self::NoService => RemoteError::NoService { node, service },
            Self::Refused(why) => RemoteError::Refused { node, why },
            Self::Full => RemoteError::Full { node },
            Self::Down => RemoteError::Down { node, service },
            Self::Unanswered(why) => RemoteError::Unanswered { node, why },
            Self::Timeout => RemoteError::Timeout { node, waited },
            Self::RequestUnreadable(why) => RemoteError::Unreadable {
                what: Part::Request,
                why,
            },
            Self::AnswerUnreadable(why) => RemoteError::Unreadable {
                what: Part::Answer,
                why,
            },
            Self::AnswerTooLarge { bytes, limit } => RemoteError::TooLarge {
                what: Part::Answer,
                bytes,
                limit,
            },
        }
    }
}

/// Why one node does not let another in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The other does not know the cookie.
    #[error("the cookies differ; give both nodes the same cookie file")]
    Cookie,
    /// No version of the protocol is known to both.
    #[error(
        "the nodes have no version of the protocol in common ({oldest} to {newest} here); upgrade one release at a time"
    )]
    Version {
        /// The oldest one that the refusing node speaks.
        oldest: u8,
        /// The newest one.
        newest: u8,
    },
    /// Another node has this name, and is up.
    #[error("a node named {name} is in the cluster already; give each node a name of its own")]
    DuplicateName {
        /// The name.
        name: NodeName,
    },
    /// Another node has this id, and is up: ids of events would meet.
    #[error("node id {id} is taken by node {name}; give each node an id of its own")]
    DuplicateId {
        /// The id.
        id: NodeId,
        /// Who has it.
        name: NodeName,
    },
    /// It is the node itself.
    #[error("that is the node itself; leave its own address out of the seeds")]
    Itself,
    /// The two are connected already, which does no harm.
    #[error("node {name} is connected already")]
    Connected {
        /// The node that refuses.
        name: NodeName,
    },
    /// It leaves the cluster, or has left.
    #[error("the node is leaving the cluster; try another one")]
    Leaving,
    /// A cluster has no room for more nodes.
    #[error("the cluster has {limit} nodes, which is as many as there are ids; take one out first")]
    Crowded {
        /// How many there may be.
        limit: usize,
    },
}

impl Refusal {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Cookie => out.put_u8(1),
            Self::Version { oldest, newest } => {
                out.put_u8(2);
                out.put_u8(*oldest);
                out.put_u8(*newest);
            }
            Self::DuplicateName { name } => {
                out.put_u8(3);
                out.put_text(name.as_str());
            }
            Self::DuplicateId { id, name } => {
                out.put_u8(4);
                out.put_u16(id.get());
                out.put_text(name.as_str());
            }
            Self::Itself => out.put_u8(5),
            Self::Connected { name } => {
                out.put_u8(6);
                out.put_text(name.as_str());
            }
            Self::Leaving => out.put_u8(7),
            Self::Crowded { limit } => {
                out.put_u8(8);
                out.put_u32(u32::try_from(*limit).unwrap_or(u32::MAX));
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Fault> {
        fn name(r: &mut Reader<'_>) -> Result<NodeName, Fault> {
            NodeName::new(r.text()?).map_err(|_| Fault::Damaged("a node's name"))
        }
        Ok(match r.u8()? {
            1 => Self::Cookie,
            2 => Self::Version {
                oldest: r.u8()?,
                newest: r.u8()?,
            },
            3 => Self::DuplicateName { name: name(r)? },
            4 => {
                let id = NodeId::new(r.u16()?).map_err(|_| Fault::Damaged("a node's id"))?;
                Self::DuplicateId { id, name: name(r)? }
            }
            5 => Self::Itself,
            6 => Self::Connected { name: name(r)? },
            7 => Self::Leaving,
            8 => Self::Crowded {
                limit: usize::try_from(r.u32()?).unwrap_or(usize::MAX),
            },
            _ => return Err(Fault::Damaged("a refusal that nobody knows")),
        })
    }
}

/// Why a connection to another node did not come about.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address does not lead anywhere, or nobody listens there.
    #[error("cannot reach {address}: {source}")]
    Io {
        /// The address.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The other side took too long.
    #[error("{address} did not answer within {waited:?}")]
    Timeout {
        /// The address.
        address: String,
        /// How long was waited.
        waited: Duration,
    },
    /// What came is not what a node says.
    #[error(
        "{address} does not speak as a node does; is it another service, or is TLS on at one side only?"
    )]
    Foreign {
        /// The address.
        address: String,
    },
    /// One of the two does not trust the certificate of the other.
    #[error(
        "{address}: {why}; give both nodes certificates of one authority, which are valid today and name the hosts that are dialled"
    )]
    Certificate {
        /// The address.
        address: String,
        /// What is wrong, in the words of TLS.
        why: String,
    },
    /// The other node does not let this one in, or this one not the other.
    #[error("{address}: {refusal}")]
    Refused {
        /// The address.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// What would be said could be read and changed by everybody in between.
    #[error(
        "{address} is not on this machine, and there is no TLS; configure it, or say that this is meant (`--insecure`, in a program `ClusterOptions::insecure`)"
    )]
    Insecure {
        /// The address.
        address: String,
    },
    /// This node stops.
    #[error("the cluster room of this node is not running")]
    Stopped,
}

/// Why a cookie cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// It is too short to be a secret, or too long.
    #[error("the cookie has {given} bytes; use {min} to {max}, such as `head -c 32 /dev/urandom | base64`", min = super::Cookie::BYTES_MIN, max = super::Cookie::BYTES_MAX)]
    Length {
        /// How long it is.
        given: usize,
    },
    /// The file cannot be read.
    #[error("cannot read the cookie file {file}: {source}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can read the file.
    #[error("the cookie file {file} has mode {mode:o}, and others can read it; run `chmod 600 {file}`", file = file.display())]
    Readable {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The variable is not set.
    #[error("the environment variable {variable} holds no cookie; set it, or name a cookie file")]
    Variable {
        /// The variable.
        variable: String,
    },
}

/// Why certificates cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the TLS file {file} cannot be used: {why}; give PEM files of a certificate, its key and its authority", file = file.display())]
pub struct TlsError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Why a node cannot be in a cluster as its options say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The address cannot be listened at.
    #[error(
        "cannot listen for nodes at {address}: {source}; choose another address or stop what uses it"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Others could read and write all that goes over the wire.
    #[error(
        "{address} can be reached from other machines, and without TLS everybody in between can read and change what is said; configure TLS, listen at a loopback address, or say that this is meant (`--insecure`, in a program `ClusterOptions::insecure`)"
    )]
    Insecure {
        /// The address.
        address: String,
    },
    /// This node has left.
    #[error("this node has left the cluster; it can join again when its process is started anew")]
    HasLeft,
    /// An option has a value that cannot work.
    #[error("{option} {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}
