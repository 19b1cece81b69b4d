//! Asks the nodes to be joined whether an id is free, before anything of this node runs.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time;

use super::{
    connect::{may_dial, outgoing},
    error::Refusal,
    greet::{self, Failed},
    handshake::About,
    options::ClusterOptions,
};
use crate::ids::{NodeId, NodeName};

/// How long each of them may take, all at the same time: a node that starts first finds nobody, and should not wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether one of the nodes to be joined says that another node has this id. Whoever does not answer says nothing.
pub async fn is_taken(
    options: &ClusterOptions,
    name: &NodeName,
    id: NodeId,
    incarnation: u64,
) -> bool {
    let me = About {
        name: name.clone(),
        id,
        incarnation,
        address: String::new(),
        underpin: env!("CARGO_PKG_VERSION").to_owned(),
        frame_bytes_max: options.frame_bytes_max,
        window: options.window,
    };
    let asked = options.seeds.iter().map(|seed| ask(options, &me, seed));
    let mut answers: FuturesUnordered<_> = asked.map(|ask| time::timeout(PATIENCE, ask)).collect();
    while let Some(answer) = answers.next().await {
        if let Ok(Some(Refusal::DuplicateId { .. })) = answer {
            return true;
        }
    }
    false
}

async fn ask(options: &ClusterOptions, me: &About, seed: &str) -> Option<Refusal> {
    let targets = tokio::net::lookup_host(seed).await.ok()?;
    for target in targets.filter(|target| may_dial(options, *target)) {
        let Ok(stream) = tokio::net::TcpStream::connect(target).await else {
            continue;
        };
        let mut wires = outgoing(options, stream, seed).await.ok()?;
        return match greet::dial(&mut wires, &options.cookie, me, greet::ASKING).await {
            Err(Failed::Refused(refusal)) => Some(refusal),
            _ => None,
        };
    }
    None
}
